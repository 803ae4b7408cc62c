//! Goal: the borrowed views and the schema see what the generated types decode. Method: compare
//! the two over mutations of a message that has every field.

use super::*;
use crate::encoded::schema::check_action_result;
use crate::encoded::view::{Node, OutputDirectory, OutputFile, RawDigest, Streams, TreeNodes, tag};
use crate::encoded::wire::{Fields, WireError};
use proptest::prelude::*;

fn raw(digest: Option<&v2::Digest>) -> Option<RawDigest<'_>> {
    digest.map(|digest| RawDigest { hash: digest.hash.as_bytes(), size_bytes: digest.size_bytes })
}

fn assert_views_agree(encoded: &[u8], result: &v2::ActionResult) -> Result<(), WireError> {
    let mut files = Vec::new();
    let mut directories = Vec::new();
    let mut streams = Streams::default();
    let mut copy = Vec::new();
    for field in Fields::new(encoded) {
        let field = field?;
        copy.extend_from_slice(field.raw);
        streams.merge(&field)?;
        match field.tag {
            tag::OUTPUT_FILES => files.push(OutputFile::decode(field.bytes()?)?),
            tag::OUTPUT_DIRECTORIES => directories.push(OutputDirectory::decode(field.bytes()?)?),
            _ => {}
        }
    }
    assert_eq!(copy, encoded);
    let expected = result.output_files.iter().map(|file| OutputFile {
        path: file.path.as_bytes(),
        digest: raw(file.digest.as_ref()),
        contents: &file.contents,
    });
    assert!(expected.eq(files));
    let expected = result.output_directories.iter().map(|directory| OutputDirectory {
        path: directory.path.as_bytes(),
        tree_digest: raw(directory.tree_digest.as_ref()),
        root_directory_digest: raw(directory.root_directory_digest.as_ref()),
    });
    assert!(expected.eq(directories));
    assert_eq!(streams.stdout.raw, result.stdout_raw);
    assert_eq!(streams.stdout.digest, raw(result.stdout_digest.as_ref()));
    assert_eq!(streams.stderr.raw, result.stderr_raw);
    assert_eq!(streams.stderr.digest, raw(result.stderr_digest.as_ref()));
    Ok(())
}

/// What a tree names, in any order: `root` may occur more than once.
fn expected_nodes(tree: &v2::Tree) -> Vec<(bool, RawDigest<'_>)> {
    let mut nodes = Vec::new();
    for directory in tree.root.iter().chain(&tree.children) {
        let files = directory.files.iter().map(|node| (true, raw(node.digest.as_ref())));
        let below = directory.directories.iter().map(|node| (false, raw(node.digest.as_ref())));
        nodes.extend(files.chain(below).map(|(kind, digest)| (kind, digest.unwrap_or_default())));
    }
    nodes.sort_by_key(|(kind, digest)| (*kind, digest.hash, digest.size_bytes));
    nodes
}

fn viewed_nodes(encoded: &[u8]) -> Result<Vec<(bool, RawDigest<'_>)>, WireError> {
    let mut nodes = Vec::new();
    for node in TreeNodes::new(encoded) {
        match node? {
            Node::File(digest) => nodes.push((true, digest)),
            Node::Directory(digest) => nodes.push((false, digest)),
            Node::Other => {}
        }
    }
    nodes.sort_by_key(|(kind, digest)| (*kind, digest.hash, digest.size_bytes));
    Ok(nodes)
}

fn sample_tree() -> v2::Tree {
    let fixture = Fixture::new();
    let [a, b, c] = ["a", "b", "c"].map(|text| fixture.digest(text.as_bytes()));
    let symlink = v2::SymlinkNode { name: "s".into(), target: "t".into(), ..Default::default() };
    let root = v2::Directory {
        directories: vec![directory_node("d", c)],
        symlinks: vec![symlink],
        node_properties: Some(v2::NodeProperties::default()),
        ..directory([("a", a), ("b", b.clone())])
    };
    v2::Tree { root: Some(root), children: vec![v2::Directory::default(), directory([("b", b)])] }
}

/// Replaces some bytes of `sample`, and repeats or drops one stretch of it.
fn mutation(sample: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let index = any::<prop::sample::Index>;
    let edits = prop::collection::vec((index(), any::<u8>()), 0..3);
    (edits, index(), index(), 0..3_usize).prop_map(move |(edits, from, to, times)| {
        let mut bytes = sample.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let stretch = from.min(to)..from.max(to);
        let repeated = bytes[stretch.clone()].repeat(times);
        bytes.splice(stretch, repeated);
        bytes
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 2000, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn schema_accepts_what_the_generated_type_decodes(
        encoded in mutation(full_result(&Fixture::new()).encode_to_vec()),
    ) {
        let decoded = v2::ActionResult::decode(&encoded[..]);
        prop_assert_eq!(check_action_result(&encoded).is_ok(), decoded.is_ok(), "{:?}", decoded);
        if let Ok(result) = decoded {
            assert_views_agree(&encoded, &result).unwrap();
        }
    }

    #[test]
    fn schema_never_panics_on_noise(encoded in prop::collection::vec(any::<u8>(), 0..64)) {
        let decoded = v2::ActionResult::decode(&encoded[..]).is_ok();
        prop_assert_eq!(check_action_result(&encoded).is_ok(), decoded);
    }

    #[test]
    fn tree_view_sees_every_node(encoded in mutation(sample_tree().encode_to_vec())) {
        let viewed = viewed_nodes(&encoded);
        // The view is lenient about names and other fields, never about digests.
        if let Ok(tree) = v2::Tree::decode(&encoded[..]) {
            prop_assert_eq!(viewed.unwrap(), expected_nodes(&tree));
        }
    }
}

#[test]
fn repeated_messages_are_merged() {
    let fixture = Fixture::new();
    let digest = fixture.digest(b"output");
    let hash = v2::Digest { size_bytes: 0, ..digest.clone() };
    let size = v2::Digest { hash: String::new(), ..digest.clone() };
    let encoded: Vec<u8> = [hash, size]
        .map(|part| v2::ActionResult { stdout_digest: Some(part), ..Default::default() })
        .iter()
        .flat_map(Message::encode_to_vec)
        .collect();
    let result = v2::ActionResult::decode(&encoded[..]).unwrap();
    assert_eq!(result.stdout_digest, Some(digest));
    assert_views_agree(&encoded, &result).unwrap();
}

#[test]
fn fields_end_after_an_error() {
    let mut fields = Fields::new(b"\x08\x01\x12\x7f");
    assert!(fields.next().unwrap().is_ok());
    assert_eq!(fields.next(), Some(Err(WireError::Malformed)));
    assert_eq!(fields.next(), None);
}
