//! `GetTree`: each directory once, in pages that can be continued anywhere.

use bytes::Bytes;
use castellan_proto::messages::{GetTreeRequest, GetTreeResponse};
use castellan_proto::v2::{Digest as ProtoDigest, Directory, DirectoryNode, FileNode};
use prost::Message as _;
use tonic::{Code, Status};

use super::support::{INSTANCE, TestServer, assert_code, sha256, wire};
use crate::digest::Digest;
use crate::grpc::GrpcOptions;

/// A directory with one file, whose name makes it distinct, and children.
fn directory(label: &str, children: &[Digest]) -> Vec<u8> {
    let digest = |digest: &Digest| {
        Some(ProtoDigest {
            hash: digest.hash_hex().as_str().to_owned(),
            size_bytes: digest.size_bytes as i64,
        })
    };
    let file = FileNode {
        name: label.to_owned(),
        digest: digest(&sha256(label.as_bytes())),
        ..FileNode::default()
    };
    let children = children
        .iter()
        .enumerate()
        .map(|(index, child)| DirectoryNode { name: format!("d{index}"), digest: digest(child) });
    Directory { files: vec![file], directories: children.collect(), ..Directory::default() }
        .encode_to_vec()
}

async fn get_tree(
    server: &TestServer,
    root: Digest,
    page_size: i32,
    page_token: &str,
) -> Result<Vec<GetTreeResponse>, Status> {
    let request = GetTreeRequest {
        instance_name: INSTANCE.to_owned(),
        root_digest: Some(wire(root)),
        page_size,
        page_token: page_token.to_owned(),
        digest_function: 0,
    };
    let mut pages = server.cas().get_tree(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(page) = pages.message().await? {
        all.push(page);
    }
    Ok(all)
}

fn directories(pages: &[GetTreeResponse]) -> Vec<Bytes> {
    pages.iter().flat_map(|page| page.directories.clone()).collect()
}

/// A root with two children that have two each.
async fn seven(server: &TestServer) -> (Digest, Vec<Vec<u8>>) {
    let mut leaves = Vec::new();
    for label in ["l0", "l1", "l2", "l3"] {
        leaves.push(directory(label, &[]));
    }
    let digests: Vec<Digest> = leaves.iter().map(|leaf| sha256(leaf)).collect();
    let middle = [directory("m0", &digests[..2]), directory("m1", &digests[2..])];
    let root = directory("root", &[sha256(&middle[0]), sha256(&middle[1])]);
    let all: Vec<_> = [vec![root.clone()], middle.to_vec(), leaves].concat();
    for directory in &all {
        server.put(directory).await;
    }
    (sha256(&root), all)
}

#[tokio::test]
async fn reapi_30_32_pages_are_breadth_first_and_resume_anywhere() {
    let server = TestServer::start().await;
    let (root, all) = seven(&server).await;
    let whole = get_tree(&server, root, 0, "").await.unwrap();
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].next_page_token, "");
    assert_eq!(directories(&whole), all);

    let pages = get_tree(&server, root, 2, "").await.unwrap();
    assert_eq!(pages.iter().map(|p| p.directories.len()).collect::<Vec<_>>(), [2, 2, 2, 1]);
    assert_eq!(directories(&pages), all);
    assert_eq!(pages[3].next_page_token, "");
    for (index, page) in pages[..3].iter().enumerate() {
        let rest = get_tree(&server, root, 2, &page.next_page_token).await.unwrap();
        assert_eq!(rest, pages[index + 1..]);
    }
    let token = pages[1].next_page_token.clone();
    let other = server.put(&directory("other", &[])).await;
    assert_code(get_tree(&server, other, 2, &token).await, Code::InvalidArgument);
    for bad in ["x", "00", &token[2..], &token.replace(&token[..2], "zz")] {
        assert_code(get_tree(&server, root, 2, bad).await, Code::InvalidArgument);
    }
    assert_code(get_tree(&server, root, -1, "").await, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_33_a_diamond_of_depth_30_has_31_directories() {
    let server = TestServer::start().await;
    let mut below = server.put(&directory("leaf", &[])).await;
    for level in 0..30 {
        below = server.put(&directory(&format!("level {level}"), &[below, below])).await;
    }
    let pages = get_tree(&server, below, 0, "").await.unwrap();
    assert_eq!(directories(&pages).len(), 31);
}

#[tokio::test]
async fn reapi_31_missing_children_are_left_out_and_a_missing_root_is_not_found() {
    let server = TestServer::start().await;
    let present = directory("present", &[]);
    let children = [sha256(b"a directory nobody stored"), server.put(&present).await];
    let root = directory("root", &children);
    assert_code(get_tree(&server, sha256(&root), 0, "").await, Code::NotFound);
    let digest = server.put(&root).await;
    let pages = get_tree(&server, digest, 1, "").await.unwrap();
    assert_eq!(directories(&pages), [root, present]);
    assert_eq!(pages[1].next_page_token, "");
}

#[tokio::test]
async fn reapi_31_a_missing_child_needs_no_budget_and_has_no_size_limit() {
    let options = GrpcOptions { max_tree_bytes: 1000, ..GrpcOptions::default() };
    let server = TestServer::with(options, 64 << 20).await;
    let present = directory("present", &[]);
    let missing = [900, 900, 5 << 20, 1 << 40]
        .map(|size_bytes| Digest { size_bytes, ..sha256(b"a directory nobody stored") });
    let children = [&missing[..], &[server.put(&present).await]].concat();
    let root = directory("root", &children);
    let digest = server.put(&root).await;
    let pages = get_tree(&server, digest, 0, "").await.unwrap();
    assert_eq!(directories(&pages), [root, present]);
    let large = server.put(&vec![b'x'; 5 << 20]).await;
    assert_code(get_tree(&server, large, 0, "").await, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_9_the_empty_directory_is_always_there() {
    let server = TestServer::start().await;
    let pages = get_tree(&server, sha256(b""), 0, "").await.unwrap();
    assert_eq!(directories(&pages), [Bytes::new()]);
}

#[tokio::test]
async fn what_is_no_directory_is_refused_with_its_digest() {
    let server = TestServer::start().await;
    let text = server.put(b"this is no directory").await;
    let status = assert_code(get_tree(&server, text, 0, "").await, Code::InvalidArgument);
    assert!(status.message().contains(&text.to_string()), "{status:?}");
    let root = server.put(&directory("root", &[text])).await;
    let status = assert_code(get_tree(&server, root, 0, "").await, Code::FailedPrecondition);
    assert!(status.message().contains(&text.to_string()), "{status:?}");
}

#[tokio::test]
async fn a_tree_over_its_budgets_ends_in_an_error() {
    let options = GrpcOptions { max_tree_depth: 2, ..GrpcOptions::default() };
    let server = TestServer::with(options, 64 << 20).await;
    let (root, _) = seven(&server).await;
    assert_code(get_tree(&server, root, 0, "").await, Code::InvalidArgument);
    let options = GrpcOptions { max_tree_directories: 6, ..GrpcOptions::default() };
    let server = TestServer::with(options, 64 << 20).await;
    let (root, _) = seven(&server).await;
    assert_code(get_tree(&server, root, 0, "").await, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_33_pages_stay_far_below_what_a_client_decodes() {
    let server = TestServer::start().await;
    let big = "x".repeat(700_000);
    let mut children = Vec::new();
    for n in 0..6 {
        children.push(server.put(&directory(&format!("{n}{big}"), &[])).await);
    }
    let root = server.put(&directory("root", &children)).await;
    let pages = get_tree(&server, root, 0, "").await.unwrap();
    assert_eq!(directories(&pages).len(), 7);
    assert!(pages.iter().all(|page| page.encoded_len() < 3 << 20));
}
