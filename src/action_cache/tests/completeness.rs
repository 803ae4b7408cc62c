//! Goal: a result is served exactly while everything it names is present. Method: store a closure,
//! then take one piece away.

use super::super::completeness::MAX_DIRECTORIES;
use super::super::tree_memory::{MAX_TREE_BYTES, hold};
use super::*;
use futures_util::FutureExt;

/// Updates, expects a hit, removes each of `parts` in turn and expects a miss.
async fn assert_needs_each(fixture: &Fixture, result: &v2::ActionResult, parts: &[v2::Digest]) {
    fixture.update(result).await;
    assert!(fixture.is_hit().await);
    let touched = fixture.store.touched.lock().clone();
    for part in parts {
        let key = fixture.key(part);
        assert!(touched.contains(&key), "{key} was not refreshed");
        let data = fixture.store.values.lock().remove(&key).unwrap();
        assert!(!fixture.is_hit().await, "a hit without {key}");
        fixture.store.values.lock().insert(key, data);
    }
    assert!(fixture.is_hit().await);
    assert_eq!(touched.len(), parts.len(), "{touched:?}");
}

#[tokio::test]
async fn reapi_81_every_reference_is_needed_and_refreshed() {
    for function in DigestFunction::ALL {
        let fixture = Fixture::with(function, false);
        let result = full_result(&fixture);
        let parts: Vec<v2::Digest> =
            fixture.store.values.lock().keys().map(|key| to_wire(key.digest)).collect();
        assert_eq!(parts.len(), 7);
        assert_needs_each(&fixture, &result, &parts).await;
    }
}

#[tokio::test]
async fn files_at_any_depth_of_a_tree_are_needed() {
    let fixture = Fixture::new();
    let [shallow, middle, deep] = ["shallow", "middle", "deep"].map(|text| fixture.blob(text));
    let leaf = directory([("deep", deep.clone())]);
    let child = v2::Directory {
        // The directories of a tree live in the tree: their digests name no blob of the CAS.
        directories: vec![directory_node("leaf", fixture.digest(&leaf.encode_to_vec()))],
        ..directory([("middle", middle.clone())])
    };
    let root = v2::Directory {
        directories: vec![directory_node("child", fixture.digest(&child.encode_to_vec()))],
        ..directory([("shallow", shallow.clone())])
    };
    let tree = fixture.message(&v2::Tree { root: Some(root), children: vec![child, leaf] });
    let result = with_tree(tree.clone());
    assert_needs_each(&fixture, &result, &[tree, shallow, middle, deep]).await;
}

#[tokio::test]
async fn whole_hierarchy_below_a_root_directory_is_needed() {
    let fixture = Fixture::new();
    let [top, deep] = ["top", "deep"].map(|text| fixture.blob(text));
    let leaf = fixture.message(&directory([("deep", deep.clone())]));
    let child = fixture.message(&v2::Directory {
        directories: vec![directory_node("leaf", leaf.clone())],
        ..Default::default()
    });
    let root = fixture.message(&v2::Directory {
        directories: vec![directory_node("child", child.clone())],
        ..directory([("top", top.clone())])
    });
    let result = with_root(root.clone());
    assert_needs_each(&fixture, &result, &[root, child, leaf, top, deep]).await;
}

#[tokio::test]
async fn tree_beside_a_root_directory_does_not_replace_its_blobs() {
    let fixture = Fixture::new();
    let leaf = directory([("file", fixture.blob("file"))]);
    let leaf_digest = fixture.message(&leaf);
    let root = v2::Directory {
        directories: vec![directory_node("leaf", leaf_digest.clone())],
        ..Default::default()
    };
    let tree = v2::Tree { root: Some(root.clone()), children: vec![leaf] };
    let result = with_directory(v2::OutputDirectory {
        tree_digest: Some(fixture.message(&tree)),
        root_directory_digest: Some(fixture.message(&root)),
        ..Default::default()
    });
    fixture.update(&result).await;
    assert!(fixture.is_hit().await);
    fixture.remove(&leaf_digest);
    assert!(!fixture.is_hit().await);
}

#[tokio::test]
async fn diamonds_are_walked_once() {
    const DEPTH: usize = 30;
    let fixture = Fixture::new();
    let file = fixture.blob("the one file");
    let mut digest = fixture.message(&directory([("file", file.clone())]));
    for _ in 0..DEPTH {
        digest = fixture.message(&v2::Directory {
            directories: ["left", "right"].map(|name| directory_node(name, digest.clone())).into(),
            ..Default::default()
        });
    }
    fixture.update(&with_root(digest)).await;
    assert!(fixture.is_hit().await);
    // One read of the result, one of each directory.
    assert_eq!(fixture.store.reads.load(Ordering::Relaxed), 1 + DEPTH + 1);
    fixture.remove(&file);
    assert!(!fixture.is_hit().await);
}

#[tokio::test]
async fn hierarchy_over_the_budget_is_a_miss() {
    let fixture = Fixture::new();
    let mut root = v2::Directory::default();
    for at in 0..=MAX_DIRECTORIES {
        let child = v2::Digest { hash: format!("{at:064x}"), size_bytes: 1 };
        fixture.store.values.lock().insert(fixture.key(&child), Bytes::new());
        root.directories.push(directory_node("child", child));
    }
    fixture.update(&with_root(fixture.message(&root))).await;
    assert!(!fixture.is_hit().await);
    // Only the result and the root were read before the walk gave up.
    assert_eq!(fixture.store.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn shared_trees_are_read_once() {
    let fixture = Fixture::new();
    let tree = fixture.message(&v2::Tree {
        root: Some(directory([("file", fixture.blob("file"))])),
        children: vec![],
    });
    let output = v2::OutputDirectory { tree_digest: Some(tree), ..Default::default() };
    let output_directories = vec![output; 50];
    fixture.update(&v2::ActionResult { output_directories, ..Default::default() }).await;
    assert!(fixture.is_hit().await);
    assert_eq!(fixture.store.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn files_of_many_small_trees_are_looked_up_together() {
    let fixture = Fixture::new();
    let output_directories = (0..100)
        .map(|at| {
            let root = Some(directory([("file", fixture.blob(format!("file {at}")))]));
            let tree_digest = Some(fixture.message(&v2::Tree { root, children: vec![] }));
            v2::OutputDirectory { path: at.to_string(), tree_digest, ..Default::default() }
        })
        .collect();
    fixture.update(&v2::ActionResult { output_directories, ..Default::default() }).await;
    assert!(fixture.is_hit().await);
    assert_eq!(fixture.store.lookups.load(Ordering::Relaxed), 2);
}

/// A tree of at least `min_bytes` in directories of 64 files, all present; the last file's digest.
fn large_tree(fixture: &Fixture, min_bytes: usize) -> (v2::Digest, v2::Digest) {
    let name = "n".repeat(200);
    let mut tree = v2::Tree { root: Some(v2::Directory::default()), children: vec![] };
    let mut last = None;
    // 270 bytes is what one file takes at least.
    for at in 0..=min_bytes / 270 {
        if at % 64 == 0 {
            tree.children.push(v2::Directory::default());
        }
        let file = fixture.blob(format!("file {at}"));
        last = Some(file.clone());
        tree.children.last_mut().unwrap().files.push(file_node(&name, file));
    }
    let encoded = tree.encode_to_vec();
    assert!(encoded.len() >= min_bytes);
    (fixture.blob(encoded), last.unwrap())
}

#[tokio::test]
async fn trees_over_10_mib_are_hits() {
    for min_bytes in [20 << 20, 40 << 20] {
        let fixture = Fixture::new();
        let (tree, last) = large_tree(&fixture, min_bytes);
        fixture.update(&with_tree(tree)).await;
        assert!(fixture.is_hit().await);
        let values = fixture.store.values.lock().len();
        assert_eq!(fixture.store.touched.lock().len(), values - 1, "all but the result");
        fixture.remove(&last);
        assert!(!fixture.is_hit().await);
    }
}

#[tokio::test]
async fn tree_over_the_limit_is_a_miss_unread() {
    let fixture = Fixture::new();
    let mut digest = fixture.digest(b"a huge tree");
    digest.size_bytes = MAX_TREE_BYTES.cast_signed() + 1;
    fixture.store.values.lock().insert(fixture.key(&digest), Bytes::new());
    fixture.update(&with_tree(digest)).await;
    assert!(!fixture.is_hit().await);
    assert_eq!(fixture.store.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn reapi_9_empty_blobs_are_present_everywhere() {
    let fixture = Fixture::new();
    let empty = fixture.digest(b"");
    let tree = v2::Tree { root: Some(directory([("empty", empty.clone())])), children: vec![] };
    let output = v2::OutputDirectory {
        tree_digest: Some(fixture.message(&tree)),
        root_directory_digest: Some(empty.clone()),
        ..Default::default()
    };
    let result = v2::ActionResult {
        output_files: vec![output_file("empty", empty.clone())],
        output_directories: vec![
            output,
            v2::OutputDirectory { tree_digest: Some(empty.clone()), ..Default::default() },
        ],
        stdout_digest: Some(empty.clone()),
        stderr_digest: Some(empty),
        ..Default::default()
    };
    fixture.update(&result).await;
    assert!(fixture.is_hit().await);
}

#[tokio::test]
async fn malformed_trees_and_directories_are_misses() {
    let fixture = Fixture::new();
    let good = fixture.blob("good");
    let upper = v2::Digest { hash: good.hash.to_uppercase(), ..good.clone() };
    let negative = v2::Digest { size_bytes: -1, ..good.clone() };
    let short = v2::Digest { hash: "abc".into(), ..good.clone() };
    let mut roots: Vec<Vec<u8>> = [upper.clone(), negative, short, v2::Digest::default()]
        .map(|digest| directory([("file", digest)]).encode_to_vec())
        .into();
    let no_digest = v2::FileNode { name: "file".into(), ..Default::default() };
    roots.push(v2::Directory { files: vec![no_digest], ..Default::default() }.encode_to_vec());
    let bad_child = vec![directory_node("child", upper)];
    roots.push(v2::Directory { directories: bad_child, ..Default::default() }.encode_to_vec());
    // A truncated field, and files that are a number.
    roots.push(b"\x0a\x7f\x00".to_vec());
    roots.push(b"\x08\x01".to_vec());
    for root in roots {
        let mut tree = vec![0x0a, u8::try_from(root.len()).unwrap()];
        tree.extend_from_slice(&root);
        for result in [with_tree(fixture.blob(tree)), with_root(fixture.blob(root.clone()))] {
            fixture.update(&result).await;
            assert!(!fixture.is_hit().await, "{root:x?}");
        }
    }
    for tree in [&b"\x0a\x7f"[..], b"\x08\x01", b"\x12", b"\x00"] {
        fixture.update(&with_tree(fixture.blob(tree))).await;
        assert!(!fixture.is_hit().await, "{tree:x?}");
    }
}

#[tokio::test]
async fn corrupt_tree_is_a_miss() {
    let fixture = Fixture::new();
    let tree =
        fixture.message(&v2::Tree { root: Some(v2::Directory::default()), children: vec![] });
    fixture.update(&with_tree(tree.clone())).await;
    assert!(fixture.is_hit().await);
    fixture.store.corrupt.lock().insert(fixture.key(&tree));
    assert!(!fixture.is_hit().await);
}

#[tokio::test]
async fn i22_bytes_of_trees_held_at_once_are_bounded() {
    assert!(hold(MAX_TREE_BYTES + 1).await.is_none());
    // Two of the largest are all there is; other tests give theirs back.
    let first = hold(MAX_TREE_BYTES).await.unwrap();
    let second = hold(MAX_TREE_BYTES).await.unwrap();
    assert!(hold(1).now_or_never().is_none());
    assert!(hold(0).await.is_some());
    drop(first);
    assert!(hold(1).await.is_some());
    drop(second);
}
