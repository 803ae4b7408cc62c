//! Calls whose blobs are all in memory still give their thread back now and then.

use std::future::{Future, poll_fn};
use std::pin::pin;

use bytes::Bytes;
use castellan_proto::cas::content_addressable_storage_server::ContentAddressableStorage as _;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest, Bounded, GetTreeRequest,
};
use castellan_proto::v2::{self, Directory, DirectoryNode};
use futures_util::StreamExt as _;
use prost::Message as _;
use tonic::Request;

use super::support::{TestServer, sha256, wire};
use crate::grpc::cas::CasService;

const BLOBS: usize = 2000;
const LEAST_TURNS: usize = BLOBS / 64;

/// How often a future is polled until it is done, and what it gives.
async fn turns<F: Future>(future: F) -> (usize, F::Output) {
    let mut future = pin!(future);
    let mut turns = 0;
    let output = poll_fn(|context| {
        turns += 1;
        future.as_mut().poll(context)
    })
    .await;
    (turns, output)
}

fn blob(data: Vec<u8>) -> BatchUpdateBlob {
    BatchUpdateBlob { digest: Some(wire(sha256(&data))), data: data.into(), compressor: 0 }
}

fn bounded<M>(message: M) -> Request<Bounded<M>> {
    Request::new(Bounded { message, excess: 0 })
}

#[tokio::test]
async fn i23_a_batch_of_small_blobs_gives_its_thread_back() {
    let server = TestServer::start().await;
    let service = CasService::new(server.shared());
    let requests: Vec<_> = (0..BLOBS).map(|n| blob(n.to_le_bytes().to_vec())).collect();
    let digests = requests.iter().filter_map(|blob| blob.digest.clone()).collect();
    let update = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
    let (update_turns, updated) = turns(service.batch_update_blobs(bounded(update))).await;
    assert_eq!(updated.unwrap().into_inner().responses.len(), BLOBS);
    assert!(update_turns >= LEAST_TURNS, "{update_turns}");
    let read = BatchReadBlobsRequest { digests, ..BatchReadBlobsRequest::default() };
    let (read_turns, read) = turns(service.batch_read_blobs(bounded(read))).await;
    let read = read.unwrap().into_inner().responses;
    assert!(read.iter().all(|blob| blob.status.as_ref().is_some_and(|it| it.code == 0)));
    assert!(read_turns >= LEAST_TURNS, "{read_turns}");
}

#[tokio::test]
async fn i23_a_walk_over_small_directories_gives_its_thread_back() {
    let server = TestServer::start().await;
    let service = CasService::new(server.shared());
    let mut root = Directory::default();
    let mut requests = Vec::new();
    for number in 0..BLOBS {
        let name = format!("{number:06}");
        let child = v2::SymlinkNode { name: name.clone(), ..v2::SymlinkNode::default() };
        let child = Directory { symlinks: vec![child], ..Directory::default() }.encode_to_vec();
        let digest = sha256(&child);
        let hash = digest.hash_hex().as_str().to_owned();
        let digest = Some(v2::Digest { hash, size_bytes: child.len() as i64 });
        root.directories.push(DirectoryNode { name, digest });
        requests.push(blob(child));
    }
    let root = Bytes::from(root.encode_to_vec());
    let root_digest = Some(wire(sha256(&root)));
    requests.push(blob(root.to_vec()));
    let update = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
    service.batch_update_blobs(bounded(update)).await.unwrap();
    let request = GetTreeRequest { root_digest, ..GetTreeRequest::default() };
    let pages = service.get_tree(Request::new(request)).await.unwrap().into_inner();
    let (turns, pages) = turns(pages.collect::<Vec<_>>()).await;
    let directories: usize = pages.iter().map(|it| it.as_ref().unwrap().directories.len()).sum();
    assert_eq!(directories, BLOBS + 1);
    assert!(turns >= LEAST_TURNS, "{turns}");
}
