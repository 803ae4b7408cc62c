//! Goal: a result that no client could use is refused, and the refusal names the field.

use super::super::validate::validate;
use super::*;

type Change = fn(&mut v2::ActionResult);

/// The field that is refused, without its `action_result.`; empty for the result itself.
fn refused_field(encoded: &[u8]) -> Option<String> {
    match validate(DigestFunction::Sha256, encoded) {
        Ok(()) => None,
        Err(ActionCacheError::Invalid { field, problem }) => {
            assert!(!problem.is_empty());
            let field = field.strip_prefix("action_result").unwrap();
            Some(field.trim_start_matches('.').to_owned())
        }
        Err(error) => panic!("{error}"),
    }
}

fn hash_of(result: &mut v2::ActionResult) -> &mut String {
    &mut result.output_files[1].digest.as_mut().unwrap().hash
}

fn size_of(result: &mut v2::ActionResult) -> &mut i64 {
    &mut result.output_files[1].digest.as_mut().unwrap().size_bytes
}

fn path_of(result: &mut v2::ActionResult) -> &mut String {
    &mut result.output_files[0].path
}

fn output_directory(result: &mut v2::ActionResult) -> &mut v2::OutputDirectory {
    &mut result.output_directories[0]
}

fn directory_path_of(result: &mut v2::ActionResult) -> &mut String {
    &mut output_directory(result).path
}

fn link(result: &mut v2::ActionResult) -> &mut v2::OutputSymlink {
    &mut result.output_symlinks[0]
}

const BAD_TREE: &str = "output_directories[0].tree_digest";
const BAD_DIGEST: &str = "output_files[1].digest";
const BAD_PATH: &str = "output_files[0].path";

fn bad_digest() -> v2::Digest {
    v2::Digest { hash: "feed".into(), size_bytes: 4 }
}

/// Applies each change to a good result and expects the field named to be refused.
fn assert_refused(table: &[(&str, Change)]) {
    let sample = full_result(&Fixture::new());
    assert_eq!(refused_field(&sample.encode_to_vec()), None);
    for (at, (expected, change)) in table.iter().enumerate() {
        let mut result = sample.clone();
        change(&mut result);
        let refused = refused_field(&result.encode_to_vec());
        assert_eq!(refused.as_deref(), Some(*expected), "row {at}");
    }
}

#[test]
fn reapi_84_malformed_digests_are_refused() {
    assert_refused(&[
        (BAD_DIGEST, |result| result.output_files[1].digest = None),
        (BAD_DIGEST, |result| *hash_of(result) = String::new()),
        (BAD_DIGEST, |result| hash_of(result).truncate(63)),
        (BAD_DIGEST, |result| hash_of(result).push('0')),
        (BAD_DIGEST, |result| hash_of(result).truncate(40)),
        (BAD_DIGEST, |result| hash_of(result).make_ascii_uppercase()),
        (BAD_DIGEST, |result| *hash_of(result) = "g".repeat(64)),
        (BAD_DIGEST, |result| *hash_of(result) = "\u{e9}".repeat(32)),
        (BAD_DIGEST, |result| *size_of(result) = -1),
        (BAD_DIGEST, |result| *size_of(result) = i64::MIN),
        (BAD_DIGEST, |result| *size_of(result) = 0),
        ("stdout_digest", |result| {
            result.stdout_digest = Some(bad_digest());
        }),
        ("stderr_digest", |result| {
            result.stderr_digest = Some(bad_digest());
        }),
        ("stderr_digest", |result| {
            result.stderr_digest = Some(v2::Digest::default());
        }),
        (BAD_TREE, |result| {
            output_directory(result).tree_digest = Some(bad_digest());
        }),
        (BAD_TREE, |result| {
            *output_directory(result) = v2::OutputDirectory::default();
        }),
        ("output_directories[0].root_directory_digest", |result| {
            output_directory(result).root_directory_digest = Some(bad_digest());
        }),
    ]);
}

#[test]
#[expect(deprecated, reason = "old clients still send these fields")]
fn reapi_84_paths_outside_the_rules_are_refused() {
    let directory_path = "output_directories[0].path";
    let link_path = "output_symlinks[0].path";
    let link_target = "output_symlinks[0].target";
    assert_refused(&[
        (BAD_PATH, |result| path_of(result).clear()),
        (BAD_PATH, |result| *path_of(result) = "/out/tool".into()),
        (BAD_PATH, |result| *path_of(result) = "/".into()),
        (BAD_PATH, |result| *path_of(result) = "out//tool".into()),
        (BAD_PATH, |result| *path_of(result) = "out/tool/".into()),
        (BAD_PATH, |result| *path_of(result) = "out/../tool".into()),
        (BAD_PATH, |result| *path_of(result) = "out/..".into()),
        (BAD_PATH, |result| *path_of(result) = "../..".into()),
        (BAD_PATH, |result| *path_of(result) = ".".into()),
        (BAD_PATH, |result| *path_of(result) = "out/to\0ol".into()),
        (directory_path, |result| {
            *directory_path_of(result) = "/out".into();
        }),
        (directory_path, |result| {
            *directory_path_of(result) = "a/../b".into();
        }),
        (directory_path, |result| {
            *directory_path_of(result) = "out/".into();
        }),
        (link_path, |result| link(result).path.insert(0, '/')),
        (link_path, |result| link(result).path = String::new()),
        (link_target, |result| link(result).target = String::new()),
        (link_target, |result| link(result).target.push('\0')),
        ("output_file_symlinks[0].path", |result| {
            result.output_file_symlinks[0].path = "a//b".into();
        }),
        ("output_directory_symlinks[0].path", |result| {
            result.output_directory_symlinks[0].path = "a/..".into();
        }),
    ]);
}

#[test]
fn unusual_but_legal_results_are_taken() {
    let table: &[Change] = &[
        |result| *result = v2::ActionResult::default(),
        |result| *path_of(result) = "../lib/main.o".into(),
        |result| *path_of(result) = "../../main.o".into(),
        |result| *path_of(result) = "./main.o".into(),
        |result| *path_of(result) = "out/...".into(),
        |result| *path_of(result) = "out/..tool \u{e9}\n".into(),
        |result| output_directory(result).path.clear(),
        |result| output_directory(result).tree_digest = None,
        |result| output_directory(result).root_directory_digest = None,
        |result| result.output_symlinks[0].target = "/etc/passwd".into(),
        |result| result.output_symlinks[0].target = "../../a//b/".into(),
        |result| result.output_files[0].contents = b"something else".to_vec(),
        |result| {
            result.output_files[1].digest = Some(to_wire(Digest::empty(DigestFunction::Sha256)));
        },
        |result| result.stdout_digest = None,
        |result| result.output_files[1].path = result.output_files[0].path.clone(),
    ];
    for (at, change) in table.iter().enumerate() {
        let mut result = full_result(&Fixture::new());
        change(&mut result);
        assert_eq!(refused_field(&result.encode_to_vec()), None, "row {at}");
    }
}

#[test]
fn bytes_that_are_no_result_are_refused() {
    let table: &[&[u8]] = &[
        b"an artifact, not a message",
        b"\x00",
        b"\x12",
        b"\x12\x05\x0a",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        // exit_code as text, output_files as a number, an end of a group that never began.
        b"\x22\x01x",
        b"\x10\x01",
        b"\x0c",
        // Text that is not UTF-8: a path, the worker.
        b"\x12\x03\x0a\x01\xff",
        b"\x4a\x03\x0a\x01\xff",
        // execution_metadata.queued_timestamp cut short.
        b"\x4a\x02\x12\x05",
    ];
    for encoded in table {
        assert_eq!(refused_field(encoded).as_deref(), Some(""), "{encoded:x?}");
    }
}

#[test]
fn digests_are_of_the_function_of_the_action() {
    // The two functions differ in the hash of nothing.
    let empty = to_wire(Digest::empty(DigestFunction::Blake3));
    let result = v2::ActionResult { stdout_digest: Some(empty), ..Default::default() };
    let encoded = result.encode_to_vec();
    assert!(validate(DigestFunction::Blake3, &encoded).is_ok());
    assert_eq!(refused_field(&encoded).as_deref(), Some("stdout_digest"));
}

#[tokio::test]
async fn reapi_86_size_limit_is_named() {
    let fixture = Fixture::new();
    let limit = usize::try_from(super::super::MAX_RESULT_BYTES).unwrap();
    // The key and the length of `stdout_raw` take five bytes.
    for (length, accepted) in [(limit - 5, true), (limit - 4, false)] {
        let result = v2::ActionResult { stdout_raw: vec![7; length], ..Default::default() };
        let outcome = fixture.cache.update(fixture.action, result.encode_to_vec().into()).await;
        match outcome {
            Ok(()) => assert!(accepted),
            Err(ActionCacheError::Invalid { field, problem }) => {
                assert!(!accepted);
                assert_eq!(field, "action_result");
                assert!(problem.contains(&limit.to_string()), "{problem}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(fixture.is_hit().await);
}

#[tokio::test]
async fn refused_result_is_not_stored() {
    let fixture = Fixture::new();
    let refused = fixture.cache.update(fixture.action, Bytes::from_static(b"\x12")).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.starts_with("action_result is not an encoded ActionResult: "), "{message}");
    assert!(fixture.store.values.lock().is_empty());
}
