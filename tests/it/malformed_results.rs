//! What `UpdateActionResult` refuses, each with the name of the field that is wrong (reapi 84).

use bytes::Bytes;
use castellan_proto::messages::UpdateActionResultRequest;
use castellan_proto::v2;
use prost::Message as _;
use tonic::Code;

use crate::support::{Blob, TestServer, assert_code, output_file};

/// What is wrong, the field that the message must name, and the result.
type Row = (&'static str, &'static str, v2::ActionResult);

fn with(change: impl FnOnce(&mut v2::ActionResult)) -> v2::ActionResult {
    let blob = Blob::new("output");
    let mut result = v2::ActionResult {
        output_files: vec![output_file("a", &blob), output_file("b", &blob)],
        output_directories: vec![v2::OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(blob.v2()),
            ..v2::OutputDirectory::default()
        }],
        output_symlinks: vec![symlink("s", "a")],
        stdout_digest: Some(blob.v2()),
        stderr_digest: Some(blob.v2()),
        ..v2::ActionResult::default()
    };
    change(&mut result);
    result
}

fn symlink(path: &str, target: &str) -> v2::OutputSymlink {
    v2::OutputSymlink {
        path: path.to_owned(),
        target: target.to_owned(),
        ..v2::OutputSymlink::default()
    }
}

fn digest(hash: &str, size_bytes: i64) -> v2::Digest {
    v2::Digest { hash: hash.to_owned(), size_bytes }
}

fn bad_digests() -> Vec<(&'static str, v2::Digest)> {
    let good = Blob::new("output").v2();
    let empty = Blob::new("").v2();
    vec![
        ("an empty digest", v2::Digest::default()),
        ("upper case", digest(&good.hash.to_uppercase(), 6)),
        ("a short hash", digest(&good.hash[..63], 6)),
        ("a long hash", digest(&(good.hash.clone() + "0"), 6)),
        ("no hexadecimal", digest(&good.hash.replace('a', "g"), 6)),
        ("a negative size", digest(&good.hash, -6)),
        ("size 0 of another hash", digest(&good.hash, 0)),
        ("the empty hash with a size", digest(&empty.hash, 1)),
    ]
}

fn digest_rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (problem, bad) in bad_digests() {
        let bad = Some(bad);
        let file = bad.clone();
        rows.push((
            problem,
            "action_result.output_files[1].digest",
            with(|it| it.output_files[1].digest = file),
        ));
        let stdout = bad.clone();
        rows.push((problem, "action_result.stdout_digest", with(|it| it.stdout_digest = stdout)));
        let stderr = bad.clone();
        rows.push((problem, "action_result.stderr_digest", with(|it| it.stderr_digest = stderr)));
        let tree = bad.clone();
        rows.push((
            problem,
            "action_result.output_directories[0].tree_digest",
            with(|it| it.output_directories[0].tree_digest = tree),
        ));
        rows.push((
            problem,
            "action_result.output_directories[0].root_directory_digest",
            with(|it| it.output_directories[0].root_directory_digest = bad),
        ));
    }
    rows.push((
        "no digest",
        "action_result.output_files[0].digest",
        with(|it| it.output_files[0].digest = None),
    ));
    rows.push((
        "neither digest",
        "action_result.output_directories[0].tree_digest",
        with(|it| it.output_directories[0].tree_digest = None),
    ));
    rows
}

#[expect(deprecated, reason = "older clients fill these lists")]
fn path_rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (problem, bad) in [
        ("an absolute path", "/etc/passwd"),
        ("a root", "/"),
        ("a NUL", "a\u{0}b"),
        ("an empty segment", "a//b"),
        ("a trailing slash", "a/"),
        ("a way out", "a/../../b"),
        ("no name", ".."),
    ] {
        rows.push((
            problem,
            "action_result.output_files[1].path",
            with(|it| it.output_files[1].path = bad.to_owned()),
        ));
        rows.push((
            problem,
            "action_result.output_directories[0].path",
            with(|it| it.output_directories[0].path = bad.to_owned()),
        ));
        rows.push((
            problem,
            "action_result.output_symlinks[0].path",
            with(|it| it.output_symlinks[0].path = bad.to_owned()),
        ));
        rows.push((
            problem,
            "action_result.output_file_symlinks[0].path",
            with(|it| it.output_file_symlinks = vec![symlink(bad, "a")]),
        ));
        rows.push((
            problem,
            "action_result.output_directory_symlinks[1].path",
            with(|it| it.output_directory_symlinks = vec![symlink("x", "a"), symlink(bad, "a")]),
        ));
    }
    rows.push((
        "no path",
        "action_result.output_files[0].path",
        with(|it| it.output_files[0].path = String::new()),
    ));
    rows.push((
        "no target",
        "action_result.output_symlinks[0].target",
        with(|it| it.output_symlinks[0].target = String::new()),
    ));
    rows.push((
        "a NUL in a target",
        "action_result.output_symlinks[0].target",
        with(|it| it.output_symlinks[0].target = "a\u{0}".to_owned()),
    ));
    rows
}

#[tokio::test]
async fn reapi_84_malformed_results_are_refused_by_the_name_of_the_field() {
    let server = TestServer::start_on_files().await;
    let action = Blob::new("action");
    let rows = [digest_rows(), path_rows()].concat();
    assert!(rows.len() > 60);
    for (problem, field, result) in rows {
        let outcome = server.update_result(&action, result.encode_to_vec()).await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{problem} in {field}: {status:?}");
        assert!(status.message().len() < 400, "{status:?}");
    }
    assert_eq!(server.store().stats().entries, 0);
    // The result that all of them were made from is fine.
    server.update_result(&action, with(|_| {}).encode_to_vec()).await.unwrap();
}

/// No client could decode them, so no client may get them.
#[tokio::test]
async fn reapi_84_what_does_not_decode_is_refused() {
    let server = TestServer::start_on_files().await;
    let action = Blob::new("action");
    let good = with(|_| {}).encode_to_vec();
    for bad in [
        Bytes::from_static(b"this is no result"),
        Bytes::from_static(b"\x12"),
        Bytes::from_static(b"\x12\x7f\x0a"),
        // output_files as a number, and exit_code as text.
        Bytes::from_static(b"\x10\x01"),
        Bytes::from_static(b"\x22\x01a"),
        // A path that is not UTF-8.
        Bytes::from_static(b"\x12\x03\x0a\x01\xff"),
        // A varint that does not end, and field number 0.
        Bytes::from_static(b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        Bytes::from_static(b"\x02\x00"),
        Bytes::from(good[..good.len() - 1].to_vec()),
        Bytes::from([&good[..], b"\xfb\x3f"].concat()),
    ] {
        let outcome = server.update_result(&action, bad.clone()).await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().contains("action_result"), "{bad:?}: {status:?}");
    }
    assert_eq!(server.store().stats().entries, 0);
}

#[tokio::test]
async fn reapi_84_requests_without_digest_or_result_are_refused_by_name() {
    let server = TestServer::start().await;
    let digest = Some(Blob::new("action").wire());
    let result = Some(Bytes::new());
    for (action_digest, action_result, field) in [
        (None, result.clone(), "action_digest"),
        (digest.clone(), None, "action_result"),
        (Some(castellan_proto::messages::Digest::default()), result, "action_digest"),
    ] {
        let request = UpdateActionResultRequest {
            action_digest,
            action_result,
            ..UpdateActionResultRequest::default()
        };
        let outcome = server.action_cache().update_action_result(request).await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().contains(field), "{status:?}");
    }
    let request = castellan_proto::messages::GetActionResultRequest::default();
    let outcome = server.action_cache().get_action_result(request).await;
    let status = assert_code(outcome, Code::InvalidArgument);
    assert!(status.message().contains("action_digest"), "{status:?}");
}

/// What looks odd and is right: recc, Bazel and the specification have each of these.
#[tokio::test]
async fn reapi_84_unusual_results_are_stored() {
    let server = TestServer::start().await;
    let action = Blob::new("action");
    let many = |it: &mut v2::ActionResult| {
        let blob = Blob::new("output");
        it.output_files = (0..5000).map(|n| output_file(&format!("f{n}"), &blob)).collect();
    };
    for result in [
        // The working directory itself, and a file beside it.
        with(|it| it.output_directories[0].path = String::new()),
        with(|it| it.output_files[0].path = "../beside/file".to_owned()),
        with(|it| it.output_files[0].path = "with space/\u{e4}\u{4e2d}\\file".to_owned()),
        // reapi 90: symlink_absolute_path_strategy is ALLOWED.
        with(|it| it.output_symlinks[0].target = "/absolute".to_owned()),
        with(|it| it.output_symlinks[0].target = "../../dangling".to_owned()),
        with(|it| it.output_files[1].path = it.output_files[0].path.clone()),
        with(|it| it.exit_code = -1),
        with(many),
    ] {
        let encoded = result.encode_to_vec();
        let outcome = server.update_result(&action, encoded.clone()).await;
        assert_eq!(outcome.unwrap(), encoded);
    }
}
