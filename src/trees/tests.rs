//! Messages as clients make them, and as nobody should.

use std::collections::HashMap;
use std::sync::Arc;

use castellan_proto::{protobuf, v2};
use prost::Message as _;

use super::directory::*;
use super::name::{InvalidName, Name};
use super::tree::Tree;
use crate::digest::{Digest, DigestFunction};

const SHA256: DigestFunction = DigestFunction::Sha256;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(SHA256, text.as_bytes())
}

fn sample() -> Directory {
    let mtime = Some(ModificationTime { seconds: -1, nanoseconds: 999_999_999 });
    let all = Properties { mtime, unix_mode: Some(0o640) };
    let none = Properties::default();
    let file = |text, is_executable, properties| FileEntry {
        name: name(text),
        digest: digest(text),
        is_executable,
        properties,
    };
    Directory {
        files: vec![file("a", false, none), file("b", true, all)],
        directories: vec![DirectoryEntry { name: name("d"), digest: Digest::empty(SHA256) }],
        symlinks: vec![SymlinkEntry { name: name("l"), target: "../..".into(), properties: all }],
        properties: Properties { mtime, unix_mode: None },
    }
}

#[test]
fn a_directory_is_read_as_it_was_written() {
    let directory = sample();
    let encoded = directory.encode();
    assert_eq!(Directory::decode(SHA256, &encoded).unwrap(), directory);
    // What others make of the same is the same.
    let theirs = v2::Directory::decode(encoded.as_slice()).unwrap();
    assert_eq!(theirs.encode_to_vec(), encoded);
    assert_eq!(theirs.files[0].node_properties, None);
    assert_eq!(theirs.symlinks[0].target, "../..");
    assert_eq!(Directory::default().encode(), Vec::<u8>::new());
    assert_eq!(Directory::decode(SHA256, &[]).unwrap(), Directory::default());
}

#[test]
fn entries_are_written_in_the_order_of_their_names() {
    let sorted = sample();
    let mut unsorted = sorted.clone();
    unsorted.files.reverse();
    assert_eq!(unsorted.encode(), sorted.encode());
    // Whoever sends them in another order is understood.
    let sent = v2::Directory {
        files: v2::Directory::decode(sorted.encode().as_slice())
            .unwrap()
            .files
            .into_iter()
            .rev()
            .collect(),
        ..v2::Directory::default()
    };
    let read = Directory::decode(SHA256, &sent.encode_to_vec()).unwrap();
    assert_eq!(read.files, unsorted.files);
}

#[test]
fn a_tree_is_read_as_it_was_written() {
    let child = sample();
    let encoded = child.encode();
    let below = Digest::of(SHA256, &encoded);
    let root = Directory {
        directories: vec![DirectoryEntry { name: name("child"), digest: below }],
        ..Directory::default()
    };
    let children = HashMap::from([(below, Arc::new(child))]);
    let tree = Tree { root: Arc::new(root), children };
    let encoded = tree.encode();
    assert_eq!(Tree::decode(SHA256, &encoded).unwrap(), tree);
    let theirs = v2::Tree::decode(encoded.as_slice()).unwrap();
    assert_eq!((theirs.encode_to_vec(), theirs.children.len()), (encoded, 1));
    let empty = v2::Tree { root: Some(v2::Directory::default()), children: Vec::new() };
    assert_eq!(Tree::decode(SHA256, &empty.encode_to_vec()).unwrap(), Tree::default());
    assert_eq!(Tree::default().encode(), empty.encode_to_vec());
}

#[test]
fn what_is_no_tree_is_refused() {
    let two_roots = [Tree::default().encode(), Tree::default().encode()].concat();
    for encoded in [&b""[..], b"\x12\x00", b"\x0a\x05", b"\x08\x01", b"\x0a", &two_roots] {
        let refused = Tree::decode(SHA256, encoded).unwrap_err();
        assert!(refused.to_string().contains("is no Tree message"), "{refused}");
    }
}

#[test]
fn names_are_one_component() {
    for (text, problem) in [
        ("", InvalidName::Empty),
        (".", InvalidName::Dots),
        ("..", InvalidName::Dots),
        ("/", InvalidName::Separator),
        ("a/b", InvalidName::Separator),
        ("/etc", InvalidName::Separator),
        ("a\0", InvalidName::Nul),
    ] {
        assert_eq!(Name::new(text), Err(problem), "{text:?}");
    }
    assert_eq!(Name::new(&"n".repeat(256)), Err(InvalidName::TooLong));
    for text in ["...", " ", "-", "a\\b", "\u{e9}", "\u{1}", &"n".repeat(255)] {
        assert_eq!(Name::new(text).unwrap().as_str(), text);
    }
}

/// Bytes that are no message, and messages that are larger in memory than they look.
#[test]
fn what_is_no_directory_is_refused() {
    let long = v2::NodeProperties {
        properties: vec![v2::NodeProperty::default(); 10_000],
        ..v2::NodeProperties::default()
    };
    let long = v2::Directory { node_properties: Some(long), ..v2::Directory::default() };
    for encoded in [&b"\x0a"[..], b"\x0a\x05", b"\x08\x01", b"\x0a\x02\x0a\x05", b"\xff", b"\x0b"] {
        assert!(Directory::decode(SHA256, encoded).is_err(), "{encoded:?}");
    }
    let refused = Directory::decode(SHA256, &long.encode_to_vec()).unwrap_err();
    assert!(refused.problem.contains("an entry has more than"), "{refused}");
    let file = v2::FileNode { name: "\u{fffd}".into(), ..v2::FileNode::default() };
    let mut encoded =
        v2::Directory { files: vec![file], ..v2::Directory::default() }.encode_to_vec();
    *encoded.last_mut().unwrap() = 0xff;
    assert!(Directory::decode(SHA256, &encoded).is_err());
    // A field of a later version.
    assert!(Directory::decode(SHA256, b"\xa2\x06\x03abc").is_ok());
}

#[test]
fn properties_that_no_file_has_are_refused() {
    let directory = |seconds, nanos, mode: Option<u32>| {
        let node_properties = Some(v2::NodeProperties {
            properties: Vec::new(),
            mtime: Some(protobuf::Timestamp { seconds, nanos }),
            unix_mode: mode.map(|value| protobuf::UInt32Value { value }),
        });
        v2::Directory { node_properties, ..v2::Directory::default() }.encode_to_vec()
    };
    for (seconds, nanos, mode) in
        [(0, -1, None), (0, 1_000_000_000, None), (i64::MAX, 0, None), (0, 0, Some(0o10000))]
    {
        let refused = Directory::decode(SHA256, &directory(seconds, nanos, mode)).unwrap_err();
        assert_eq!(refused.entry, "", "{refused}");
    }
    let read = Directory::decode(SHA256, &directory(5, 6, Some(0o7777))).unwrap();
    let mtime = Some(ModificationTime { seconds: 5, nanoseconds: 6 });
    assert_eq!(read.properties, Properties { mtime, unix_mode: Some(0o7777) });
}

/// A message is small; what is made of it is not.
#[test]
fn no_more_is_decoded_than_is_allowed() {
    let symlink = |number| SymlinkEntry {
        name: name(&format!("l{number}")),
        target: "x".into(),
        properties: Properties::default(),
    };
    let directory = Directory { symlinks: (0..6).map(symlink).collect(), ..Directory::default() };
    let encoded = directory.encode();
    let read = |at_most| Directory::decode_within(SHA256, &encoded, &Allowance::new(at_most));
    assert_eq!(read(6), Ok(directory.clone()));
    assert!(read(5).unwrap_err().to_string().contains("more than 5 entries"));
    // The entries of all directories together, and the directories themselves.
    let below = |number| Directory { symlinks: vec![symlink(number)], ..Directory::default() };
    for (children, entries) in [(3, 9), (7, 13)] {
        let children = (0..children).map(|number| below(number).encode().into()).collect();
        let encoded = super::encode::tree(directory.encode().into(), children);
        let read = |at_most| Tree::decode_within(SHA256, &encoded, &Allowance::new(at_most));
        assert!(read(entries).is_ok());
        assert!(read(entries - 1).unwrap_err().to_string().contains("entries"));
    }
    let unknown = |number: u8| bytes::Bytes::from(vec![0x38, number]);
    let encoded = super::encode::tree(bytes::Bytes::new(), (0..9).map(unknown).collect());
    let read = |at_most| Tree::decode_within(SHA256, &encoded, &Allowance::new(at_most));
    assert_eq!(read(9).unwrap().children.len(), 9);
    assert!(read(8).unwrap_err().to_string().contains("more than 8 entries"));
}
