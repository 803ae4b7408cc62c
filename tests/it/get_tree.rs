//! `GetTree`: every directory that is present, once, in pages that can be continued (reapi 30-34).

use std::collections::HashSet;

use bytes::Bytes;
use castellan::digest::DigestFunction;
use castellan::grpc::GrpcOptions;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    BatchUpdateBlob, BatchUpdateBlobsRequest, GetTreeRequest, GetTreeResponse,
};
use prost::Message as _;
use tonic::{Code, Status};

use crate::support::{Blob, TestServer, assert_code, directory, disk, start_small, turn_over};

/// Reads all pages with a client that decodes 4 MiB, as clients do.
async fn get_tree(
    server: &TestServer,
    root: &Blob,
    page_size: i32,
    page_token: &str,
) -> Result<Vec<GetTreeResponse>, Status> {
    let request = GetTreeRequest {
        root_digest: Some(root.wire()),
        page_size,
        page_token: page_token.to_owned(),
        digest_function: root.digest.function.to_wire(),
        ..GetTreeRequest::default()
    };
    let mut client = ContentAddressableStorageClient::new(server.channel.clone());
    let mut stream = client.get_tree(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

fn directories(pages: &[GetTreeResponse]) -> Vec<Bytes> {
    pages.iter().flat_map(|page| page.directories.clone()).collect()
}

fn data(blobs: &[&Blob]) -> Vec<Bytes> {
    blobs.iter().map(|blob| blob.data.clone()).collect()
}

/// Stores blobs in few batches.
async fn put(server: &TestServer, blobs: &[Blob]) {
    for chunk in blobs.chunks(200) {
        let requests = chunk.iter().map(|blob| BatchUpdateBlob {
            digest: Some(blob.wire()),
            data: blob.data.clone(),
            compressor: 0,
        });
        let requests = requests.collect();
        let request = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
        let reply = server.cas().batch_update_blobs(request).await.unwrap().into_inner();
        assert!(reply.responses.iter().all(|it| it.status.as_ref().unwrap().code == 0));
    }
}

/// A directory that no other label gives.
fn labelled(label: &str, children: &[&Blob]) -> Blob {
    let names: Vec<String> = (0..children.len()).map(|at| format!("d{at:05}")).collect();
    let children: Vec<_> = names.iter().map(String::as_str).zip(children.iter().copied()).collect();
    directory(&[(label, &Blob::new(label.to_owned()))], &children)
}

/// A root with two children that have two each, breadth first.
fn seven() -> Vec<Blob> {
    let leaves = ["l0", "l1", "l2", "l3"].map(|label| labelled(label, &[]));
    let left = labelled("m0", &[&leaves[0], &leaves[1]]);
    let right = labelled("m1", &[&leaves[2], &leaves[3]]);
    let root = labelled("root", &[&left, &right]);
    [vec![root, left, right], leaves.to_vec()].concat()
}

/// A chain of so many directories, the root last.
fn chain(levels: usize) -> Vec<Blob> {
    let mut chain = vec![labelled("leaf", &[])];
    while chain.len() < levels {
        let below = chain.last().unwrap();
        chain.push(directory(&[], &[("d", below)]));
    }
    chain
}

#[tokio::test]
async fn reapi_30_a_tree_is_its_root_and_every_directory_below_once() {
    let server = TestServer::start().await;
    let tree = seven();
    put(&server, &tree).await;
    let pages = get_tree(&server, &tree[0], 0, "").await.unwrap();
    assert_eq!(directories(&pages), data(&tree.iter().collect::<Vec<_>>()));
    assert_eq!(pages.last().unwrap().next_page_token, "");
    // A directory without children is a tree too.
    assert_eq!(directories(&get_tree(&server, &tree[6], 0, "").await.unwrap()), data(&[&tree[6]]));
}

#[tokio::test]
async fn reapi_30_a_directory_with_many_parents_comes_once() {
    let server = TestServer::start().await;
    let shared = labelled("shared", &[]);
    let parents: Vec<_> =
        (0..50).map(|n| labelled(&format!("p{n}"), &[&shared, &shared])).collect();
    let mut children: Vec<&Blob> = parents.iter().collect();
    children.push(&shared);
    let root = labelled("root", &children);
    put(&server, &parents).await;
    put(&server, &[shared.clone(), root.clone()]).await;
    let found = directories(&get_tree(&server, &root, 0, "").await.unwrap());
    assert_eq!(found.len(), 52);
    assert_eq!(found[0], root.data);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 52);
}

#[tokio::test]
async fn reapi_30_the_empty_directory_is_a_directory() {
    let server = TestServer::start().await;
    for function in DigestFunction::ALL {
        let empty = Blob::with(function, "");
        let pages = get_tree(&server, &empty, 0, "").await.unwrap();
        assert_eq!(directories(&pages), [Bytes::new()], "{function}");
    }
    let (empty, leaf) = (Blob::new(""), labelled("leaf", &[]));
    let root = labelled("root", &[&empty, &leaf, &empty]);
    put(&server, &[root.clone(), leaf.clone()]).await;
    let pages = get_tree(&server, &root, 0, "").await.unwrap();
    assert_eq!(directories(&pages), data(&[&root, &empty, &leaf]));
}

#[tokio::test]
async fn reapi_31_a_missing_root_is_not_found() {
    let server = TestServer::start().await;
    let tree = seven();
    put(&server, &tree[1..]).await;
    let status = assert_code(get_tree(&server, &tree[0], 0, "").await, Code::NotFound);
    assert!(status.message().contains(tree[0].digest.hash_hex().as_str()), "{status:?}");
    let request = GetTreeRequest::default();
    let status = assert_code(server.cas().get_tree(request).await, Code::InvalidArgument);
    assert!(status.message().contains("root_digest"), "{status:?}");
}

#[tokio::test]
async fn reapi_31_missing_children_are_left_out_and_the_rest_is_sent() {
    let server = TestServer::start().await;
    let tree = seven();
    // Without the left child nothing leads to its two.
    put(&server, &[tree[0].clone(), tree[2].clone()]).await;
    put(&server, &tree[3..]).await;
    for page_size in [0, 1, 2, 100] {
        let pages = get_tree(&server, &tree[0], page_size, "").await.unwrap();
        let expected = data(&[&tree[0], &tree[2], &tree[5], &tree[6]]);
        assert_eq!(directories(&pages), expected, "page size {page_size}");
        assert_eq!(pages.last().unwrap().next_page_token, "");
    }
    // A missing last child does not promise a page that never comes.
    let root = labelled("root of a missing", &[&labelled("missing", &[])]);
    put(&server, std::slice::from_ref(&root)).await;
    let pages = get_tree(&server, &root, 1, "").await.unwrap();
    assert_eq!(
        pages,
        [GetTreeResponse { directories: vec![root.data], next_page_token: String::new() }]
    );
}

/// What is found corrupt is as good as absent.
#[tokio::test]
async fn reapi_31_corrupt_children_are_left_out_and_a_corrupt_root_is_an_error() {
    let server = TestServer::start_on_files().await;
    let tree = seven();
    put(&server, &tree).await;
    let directory = server.stop().await;
    disk::corrupt(directory.path(), &tree[1]);
    let server = TestServer::start_in(directory, 256 << 20, GrpcOptions::default()).await;
    let pages = get_tree(&server, &tree[0], 0, "").await.unwrap();
    assert_eq!(directories(&pages), data(&[&tree[0], &tree[2], &tree[5], &tree[6]]));
    let directory = server.stop().await;
    disk::corrupt(directory.path(), &tree[0]);
    let server = TestServer::start_in(directory, 256 << 20, GrpcOptions::default()).await;
    assert_code(get_tree(&server, &tree[0], 0, "").await, Code::DataLoss);
    assert_code(get_tree(&server, &tree[0], 0, "").await, Code::NotFound);
}

#[tokio::test]
async fn reapi_32_every_token_resumes_with_the_identical_rest() {
    let server = TestServer::start().await;
    let tree = seven();
    put(&server, &tree).await;
    let pages = get_tree(&server, &tree[0], 2, "").await.unwrap();
    assert_eq!(pages.iter().map(|it| it.directories.len()).collect::<Vec<_>>(), [2, 2, 2, 1]);
    assert_eq!(directories(&pages), data(&tree.iter().collect::<Vec<_>>()));
    let tokens: HashSet<_> = pages.iter().map(|it| &it.next_page_token).collect();
    assert_eq!(tokens.len(), 4, "a token that repeats is a loop");
    for (at, page) in pages.iter().enumerate() {
        assert_eq!(page.next_page_token.is_empty(), at == 3);
        if at < 3 {
            let rest = get_tree(&server, &tree[0], 2, &page.next_page_token).await.unwrap();
            assert_eq!(rest, pages[at + 1..], "from page {at}");
            let rest = get_tree(&server, &tree[0], 0, &page.next_page_token).await.unwrap();
            assert_eq!(directories(&rest), directories(&pages[at + 1..]));
        }
    }
    for page_size in [1, 3, 6, 7, 8, i32::MAX] {
        let pages = get_tree(&server, &tree[0], page_size, "").await.unwrap();
        let size = usize::try_from(page_size).unwrap();
        assert!(pages.iter().all(|it| (1..=size).contains(&it.directories.len())));
        assert_eq!(directories(&pages).len(), 7);
    }
}

/// A token needs no memory of the server, so a restart does not end it.
#[tokio::test]
async fn reapi_32_a_token_outlives_a_restart() {
    let server = TestServer::start_on_files().await;
    let tree = seven();
    put(&server, &tree).await;
    let pages = get_tree(&server, &tree[0], 2, "").await.unwrap();
    let directory = server.stop().await;
    let server = TestServer::start_in(directory, 256 << 20, GrpcOptions::default()).await;
    let rest = get_tree(&server, &tree[0], 2, &pages[1].next_page_token).await.unwrap();
    assert_eq!(rest, pages[2..]);
}

#[tokio::test]
async fn reapi_32_a_bad_token_or_page_size_is_refused_by_name() {
    let server = TestServer::start().await;
    let tree = seven();
    put(&server, &tree).await;
    let token = get_tree(&server, &tree[0], 2, "").await.unwrap()[0].next_page_token.clone();
    let flipped = if token.starts_with('0') { "1" } else { "0" };
    for bad in [
        "x".to_owned(),
        "0".to_owned(),
        " ".to_owned(),
        "\u{e9}".to_owned(),
        token.to_uppercase() + "00",
        token[2..].to_owned(),
        token.clone() + &token,
        flipped.to_owned() + &token[1..],
        "00".repeat(token.len() / 2),
        "f".repeat(1 << 20),
    ] {
        let outcome = get_tree(&server, &tree[0], 2, &bad).await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().contains("page_token"), "{status:?}");
    }
    // A token of another tree.
    let status = assert_code(get_tree(&server, &tree[1], 2, &token).await, Code::InvalidArgument);
    assert!(status.message().contains("page_token"), "{status:?}");
    for page_size in [-1, i32::MIN] {
        let outcome = get_tree(&server, &tree[0], page_size, "").await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().contains("page_size"), "{status:?}");
    }
}

#[tokio::test]
async fn reapi_33_what_is_no_directory_is_refused_by_name() {
    let server = TestServer::start().await;
    for text in ["this is no directory", "\u{0}", "\n", "\u{12}\u{2}\u{12}\u{0}"] {
        let blob = Blob::new(text);
        put(&server, std::slice::from_ref(&blob)).await;
        let status = assert_code(get_tree(&server, &blob, 0, "").await, Code::InvalidArgument);
        assert!(status.message().contains("root_digest"), "{status:?}");
        assert!(status.message().contains(blob.digest.hash_hex().as_str()), "{status:?}");
        // Below a root it is the fault of what was stored, not of this request.
        let root = labelled("root", &[&blob]);
        put(&server, std::slice::from_ref(&root)).await;
        let status = assert_code(get_tree(&server, &root, 0, "").await, Code::FailedPrecondition);
        assert!(status.message().contains(blob.digest.hash_hex().as_str()), "{status:?}");
    }
}

/// 2^30 ways lead to the leaf.
#[tokio::test]
async fn reapi_33_a_diamond_of_depth_30_has_31_directories() {
    let server = TestServer::start().await;
    let mut levels = vec![labelled("leaf", &[])];
    for level in 1..=30 {
        let below = levels.last().unwrap();
        levels.push(labelled(&format!("level {level}"), &[below, below]));
    }
    put(&server, &levels).await;
    levels.reverse();
    for page_size in [0, 7] {
        let pages = get_tree(&server, &levels[0], page_size, "").await.unwrap();
        assert_eq!(directories(&pages), data(&levels.iter().collect::<Vec<_>>()));
    }
}

/// Deeper than any path can be: the walk keeps no stack, and the limit is the operator's.
#[tokio::test]
async fn reapi_33_a_chain_of_5000_levels_is_walked_or_refused_by_name() {
    let chain = chain(5000);
    let root = chain.last().unwrap();
    let options = GrpcOptions { max_tree_depth: 5000, ..GrpcOptions::default() };
    let server = TestServer::start_on_files_with(256 << 20, options).await;
    put(&server, &chain).await;
    let pages = get_tree(&server, root, 0, "").await.unwrap();
    let expected: Vec<_> = chain.iter().rev().map(|blob| blob.data.clone()).collect();
    assert!(directories(&pages) == expected);

    let directory = server.stop().await;
    let server = TestServer::start_in(directory, 256 << 20, GrpcOptions::default()).await;
    let status = assert_code(get_tree(&server, root, 0, "").await, Code::InvalidArgument);
    assert!(status.message().contains("levels"), "{status:?}");
    assert_eq!(server.missing(&[root]).await.len(), 0);
}

/// 600 directories of 10 KB are 6 MB.
#[tokio::test]
async fn reapi_33_a_wide_tree_comes_in_messages_that_a_4_mib_client_decodes() {
    let server = TestServer::start().await;
    let children: Vec<_> = (0..600).map(|n| labelled(&format!("{n:0>10000}"), &[])).collect();
    let root = labelled("root", &children.iter().collect::<Vec<_>>());
    put(&server, &children).await;
    put(&server, std::slice::from_ref(&root)).await;
    for page_size in [0, i32::MAX] {
        let pages = get_tree(&server, &root, page_size, "").await.unwrap();
        assert!(pages.len() > 1);
        assert!(pages.iter().all(|page| page.encoded_len() < 4 << 20));
        assert_eq!(directories(&pages).len(), 601);
        let (last, others) = pages.split_last().unwrap();
        assert_eq!(last.next_page_token, "");
        assert!(others.iter().all(|page| !page.next_page_token.is_empty()));
    }
}

/// Each of these alone is a page of its own.
#[tokio::test]
async fn reapi_33_directories_of_megabytes_come_one_by_one() {
    let server = TestServer::start().await;
    let children: Vec<_> =
        (0..3).map(|n| labelled(&format!("{n}{}", "x".repeat(4_100_000)), &[])).collect();
    let root = labelled("root", &children.iter().collect::<Vec<_>>());
    server.put(&[&children[0], &children[1], &children[2], &root]).await;
    let pages = get_tree(&server, &root, 0, "").await.unwrap();
    assert_eq!(directories(&pages).len(), 4);
    assert!(pages.iter().all(|page| page.encoded_len() < 4 << 20));

    // One that fits no message is refused by name, not cut or sent in vain.
    let huge = labelled(&"x".repeat(4 << 20), &[]);
    server.put(&[&huge]).await;
    let status = assert_code(get_tree(&server, &huge, 0, "").await, Code::InvalidArgument);
    assert!(status.message().contains("root_digest"), "{status:?}");
}

#[tokio::test]
async fn reapi_34_a_walk_keeps_every_directory_it_visits() {
    let server = start_small().await;
    let tree = seven();
    let other = labelled("other", &[]);
    put(&server, &tree).await;
    put(&server, std::slice::from_ref(&other)).await;
    turn_over(&server, async || {
        assert_eq!(directories(&get_tree(&server, &tree[0], 0, "").await.unwrap()).len(), 7);
    })
    .await;
    assert_eq!(server.missing(&tree.iter().collect::<Vec<_>>()).await.len(), 0);
    assert_eq!(server.missing(&[&other]).await.len(), 1);
}

/// Directories are sent as they are stored, whatever their encoding.
#[tokio::test]
async fn reapi_102_a_directory_is_never_encoded_again() {
    let server = TestServer::start().await;
    let leaf = labelled("leaf", &[]);
    let plain = labelled("root", &[&leaf]);
    // An unknown field before the others, which are in their order.
    let unknown = [b"\xfa\x3f\x05hello", &plain.data[..]].concat();
    let root = Blob::new(unknown);
    put(&server, &[leaf.clone(), root.clone()]).await;
    let pages = get_tree(&server, &root, 0, "").await.unwrap();
    assert_eq!(directories(&pages), data(&[&root, &leaf]));
}
