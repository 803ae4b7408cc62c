//! Trees that no file system may see: refused by name, with nothing made anywhere.

use castellan_proto::{protobuf, v2};
use prost::Message as _;

use super::*;

const HASH: &str = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";

/// What is wrong, the directory with it, and the entry that must be named.
type Case = (String, v2::Directory, String);

fn digest(hash: &str, size_bytes: i64) -> Option<v2::Digest> {
    Some(v2::Digest { hash: hash.to_owned(), size_bytes })
}

fn file(name: &str) -> v2::FileNode {
    v2::FileNode { name: name.to_owned(), digest: digest(HASH, 4), ..v2::FileNode::default() }
}

fn directory(name: &str) -> v2::DirectoryNode {
    v2::DirectoryNode { name: name.to_owned(), digest: digest(HASH, 4) }
}

fn link(name: &str, target: &str) -> v2::SymlinkNode {
    v2::SymlinkNode {
        name: name.to_owned(),
        target: target.to_owned(),
        ..v2::SymlinkNode::default()
    }
}

fn of_files(files: &[v2::FileNode]) -> v2::Directory {
    v2::Directory { files: files.to_vec(), ..v2::Directory::default() }
}

fn of_directories(directories: &[v2::DirectoryNode]) -> v2::Directory {
    v2::Directory { directories: directories.to_vec(), ..v2::Directory::default() }
}

fn of_links(symlinks: &[v2::SymlinkNode]) -> v2::Directory {
    v2::Directory { symlinks: symlinks.to_vec(), ..v2::Directory::default() }
}

fn names() -> Vec<Case> {
    let long = "n".repeat(256);
    let names =
        ["", ".", "..", "/", "/etc", "a/b", "../x", "a/../b", "./a", "a/", "a\0", "\0", &long];
    let of_each = |name: &&str| {
        [
            (format!("file {name:?}"), of_files(&[file(name)]), (*name).to_owned()),
            (format!("directory {name:?}"), of_directories(&[directory(name)]), (*name).to_owned()),
            (format!("link {name:?}"), of_links(&[link(name, "x")]), (*name).to_owned()),
        ]
    };
    names.iter().flat_map(of_each).collect()
}

fn twice() -> Vec<Case> {
    let (f, d, l) = (file("a"), directory("a"), link("a", "/etc"));
    let both = |mut one: v2::Directory, other: v2::Directory| {
        one.files.extend(other.files);
        one.directories.extend(other.directories);
        one.symlinks.extend(other.symlinks);
        one
    };
    [
        ("files", of_files(&[f.clone(), file("b"), f.clone()])),
        ("directories", of_directories(&[d.clone(), d.clone()])),
        ("links", of_links(&[l.clone(), l.clone()])),
        ("file and directory", both(of_files(&[f.clone()]), of_directories(&[d.clone()]))),
        ("file and link", both(of_files(&[f]), of_links(&[l.clone()]))),
        ("directory and link", both(of_directories(&[d]), of_links(&[l]))),
    ]
    .map(|(what, directory)| (format!("twice: {what}"), directory, "a".to_owned()))
    .into()
}

fn targets() -> Vec<Case> {
    ["", "\0", "/etc\0", &"t".repeat(4_096)]
        .map(|target| {
            (format!("target {target:?}"), of_links(&[link("l", target)]), "l".to_owned())
        })
        .into()
}

fn digests() -> Vec<Case> {
    let upper = HASH.to_uppercase();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let digests = [
        None,
        digest("", 0),
        digest("abc", 1),
        digest(&upper, 4),
        digest(&HASH.replace('b', "g"), 4),
        digest(&format!("{HASH}00"), 4),
        digest(&HASH.replacen("b5", "..", 1), 4),
        digest(HASH, -1),
        digest(HASH, i64::MIN),
        digest(HASH, 0),
        digest(empty, 1),
    ];
    let of_each = |digest: Option<v2::Digest>| {
        let named = format!("{digest:?}");
        let file = v2::FileNode { digest: digest.clone(), ..file("f") };
        let directory = v2::DirectoryNode { digest, ..directory("d") };
        [
            (format!("file of {named}"), of_files(&[file]), "f".to_owned()),
            (format!("directory of {named}"), of_directories(&[directory]), "d".to_owned()),
        ]
    };
    digests.into_iter().flat_map(of_each).collect()
}

fn properties() -> Vec<Case> {
    let with = |seconds, nanos, mode| {
        Some(v2::NodeProperties {
            properties: Vec::new(),
            mtime: Some(protobuf::Timestamp { seconds, nanos }),
            unix_mode: Some(protobuf::UInt32Value { value: mode }),
        })
    };
    let all = [
        with(0, 0, 0o10_000),
        with(0, 0, u32::MAX),
        with(0, -1, 0),
        with(0, 1_000_000_000, 0),
        with(i64::MAX, 0, 0),
        with(i64::MIN, 0, 0),
    ];
    let of_each = |node_properties: Option<v2::NodeProperties>| {
        let named = format!("{node_properties:?}");
        let file = v2::FileNode { node_properties: node_properties.clone(), ..file("f") };
        let link = v2::SymlinkNode { node_properties: node_properties.clone(), ..link("l", "x") };
        let own = v2::Directory { node_properties, ..v2::Directory::default() };
        [
            (format!("file with {named}"), of_files(&[file]), "f".to_owned()),
            (format!("link with {named}"), of_links(&[link]), "l".to_owned()),
            (format!("directory with {named}"), own, String::new()),
        ]
    };
    all.into_iter().flat_map(of_each).collect()
}

fn cases() -> Vec<Case> {
    [names(), twice(), targets(), digests(), properties()].concat()
}

impl World {
    /// Sees a tree refused, with nothing made beside its target or elsewhere.
    async fn refuse(&self, what: &str, root: TreeRoot, named: &str) -> String {
        let refused = self.stage_with(root, &StageOptions::default()).await;
        let Err(StageError::Invalid { path, problem }) = refused else {
            panic!("{what}: {refused:?}")
        };
        let shown = crate::digest::shorten(named);
        assert!(path == shown || path.ends_with(&format!("/{shown}")), "{what}: {path:?}");
        assert_eq!(self.litter(), Vec::<String>::new(), "{what}");
        problem
    }
}

#[tokio::test]
async fn hostile_trees_are_refused_by_the_name_of_the_entry() {
    let world = World::new().await;
    // What the names would lead to.
    world.put(b"foo\n").await;
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    for (what, hostile, named) in cases {
        let encoded = hostile.encode_to_vec();
        let hostile_digest = world.put(&encoded).await;
        world.refuse(&what, TreeRoot::Directory(hostile_digest), &named).await;

        // Deep in a tree that is good otherwise, and as one message.
        let node = v2::DirectoryNode {
            name: "evil".to_owned(),
            digest: digest(hostile_digest.hash_hex().as_str(), encoded.len() as i64),
        };
        let outer =
            v2::Directory { symlinks: vec![link("evil link", "..")], ..of_directories(&[node]) };
        let root = world.put(&outer.encode_to_vec()).await;
        let below = if named.is_empty() { "evil".to_owned() } else { named.clone() };
        world.refuse(&what, TreeRoot::Directory(root), &below).await;
        let tree = v2::Tree { root: Some(outer), children: vec![hostile] };
        let tree = world.put(&tree.encode_to_vec()).await;
        world.refuse(&what, TreeRoot::Tree(tree), &named).await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let world = World::new().await;
    for bytes in [&b"\x0a"[..], b"\xff\xff\xff", b"\x0a\x05abc", b"no message at all"] {
        let digest = world.put(bytes).await;
        world.refuse("bytes", TreeRoot::Directory(digest), "").await;
        world.refuse("bytes", TreeRoot::Tree(digest), "").await;
    }
    let lacking =
        v2::Tree { root: Some(of_directories(&[directory("gone")])), children: Vec::new() };
    let lacking = world.put(&lacking.encode_to_vec()).await;
    let problem = world.refuse("lacking", TreeRoot::Tree(lacking), "gone").await;
    assert!(problem.contains("lacks"), "{problem}");
}

#[tokio::test]
async fn messages_that_are_too_large_are_not_read() {
    let world = World::new().await;
    let huge = v2::DirectoryNode { digest: digest(HASH, 20 << 20), ..directory("huge") };
    let root = world.put(&of_directories(&[huge]).encode_to_vec()).await;
    let problem = world.refuse("huge", TreeRoot::Directory(root), "huge").await;
    assert!(problem.contains("bytes"), "{problem}");
    let large: Vec<_> = (0..20)
        .map(|number| v2::DirectoryNode {
            name: format!("large {number}"),
            digest: digest(&HASH.replacen("b5bb", &format!("{number:04}"), 1), 16 << 20),
        })
        .collect();
    let root = world.put(&of_directories(&large).encode_to_vec()).await;
    world.refuse("large together", TreeRoot::Directory(root), "large 7").await;
    let tree = Digest { size_bytes: 1 << 40, ..root };
    world.refuse("large tree", TreeRoot::Tree(tree), "").await;
}
