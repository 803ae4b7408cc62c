//! Results as JSON: what protobuf says that they look like.

use castellan_proto::{protobuf, v2};
use prost::Message as _;

use super::json;

fn digest(hash: &str, size_bytes: i64) -> v2::Digest {
    v2::Digest { hash: hash.to_owned(), size_bytes }
}

fn timestamp(seconds: i64, nanos: i32) -> protobuf::Timestamp {
    protobuf::Timestamp { seconds, nanos }
}

fn full() -> v2::ActionResult {
    let symlink = v2::OutputSymlink {
        path: "link".to_owned(),
        target: "a\"b\\c\n\u{1}".to_owned(),
        ..v2::OutputSymlink::default()
    };
    let file = v2::OutputFile {
        path: "out/file".to_owned(),
        digest: Some(digest("abc", 9_007_199_254_740_993)),
        is_executable: true,
        contents: vec![0xfb, 0xff],
        node_properties: Some(v2::NodeProperties {
            properties: vec![v2::NodeProperty { name: "n".to_owned(), value: "v".to_owned() }],
            mtime: Some(timestamp(0, 1_000_000)),
            unix_mode: Some(protobuf::UInt32Value { value: 0o755 }),
        }),
    };
    let directory = v2::OutputDirectory {
        path: String::new(),
        tree_digest: Some(digest("def", 0)),
        is_topologically_sorted: true,
        ..v2::OutputDirectory::default()
    };
    v2::ActionResult {
        output_files: vec![file, v2::OutputFile::default()],
        output_symlinks: vec![symlink],
        output_directories: vec![directory],
        exit_code: -1,
        stdout_raw: vec![b'h', b'i'],
        stderr_digest: Some(digest("", 0)),
        execution_metadata: Some(v2::ExecutedActionMetadata {
            worker: "w".to_owned(),
            queued_timestamp: Some(timestamp(951_782_400, 0)),
            worker_start_timestamp: Some(timestamp(1_700_000_000, 120_000)),
            execution_start_timestamp: Some(timestamp(-1, 999_999_999)),
            virtual_execution_duration: Some(protobuf::Duration {
                seconds: -1,
                nanos: -500_000_000,
            }),
            auxiliary_metadata: vec![protobuf::Any {
                type_url: "type.googleapis.com/x".to_owned(),
                value: vec![1],
            }],
            ..v2::ExecutedActionMetadata::default()
        }),
        ..v2::ActionResult::default()
    }
}

#[test]
fn a_result_as_json_is_what_protobuf_maps_it_to() {
    let json = json::action_result(&full().encode_to_vec()).unwrap();
    let expected = concat!(
        r#"{"outputFiles":[{"path":"out/file","#,
        r#""digest":{"hash":"abc","sizeBytes":"9007199254740993"},"isExecutable":true,"#,
        r#""contents":"+/8=","nodeProperties":{"properties":[{"name":"n","value":"v"}],"#,
        r#""mtime":"1970-01-01T00:00:00.001Z","unixMode":493}},{}],"#,
        r#""outputSymlinks":[{"path":"link","target":"a\"b\\c\n\u0001"}],"#,
        r#""outputDirectories":[{"treeDigest":{"hash":"def"},"isTopologicallySorted":true}],"#,
        r#""exitCode":-1,"stdoutRaw":"aGk=","stderrDigest":{},"#,
        r#""executionMetadata":{"worker":"w","queuedTimestamp":"2000-02-29T00:00:00Z","#,
        r#""workerStartTimestamp":"2023-11-14T22:13:20.000120Z","#,
        r#""executionStartTimestamp":"1969-12-31T23:59:59.999999999Z","#,
        r#""auxiliaryMetadata":[{"@type":"type.googleapis.com/x","value":"AQ=="}],"#,
        r#""virtualExecutionDuration":"-1.500s"}}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(json).unwrap(), expected);
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (-62_135_596_800, "0001-01-01T00:00:00Z"),
        (-2_203_891_200, "1900-03-01T00:00:00Z"),
        (68_255_999, "1972-02-29T23:59:59Z"),
        (1_798_761_599, "2026-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (253_402_300_800, "253402300800s"),
    ] {
        let metadata = v2::ExecutedActionMetadata {
            queued_timestamp: Some(timestamp(seconds, 0)),
            ..v2::ExecutedActionMetadata::default()
        };
        let result = v2::ActionResult { execution_metadata: Some(metadata), ..Default::default() };
        let json = json::action_result(&result.encode_to_vec()).unwrap();
        let expected = format!(r#"{{"executionMetadata":{{"queuedTimestamp":"{expected}"}}}}"#);
        assert_eq!(String::from_utf8(json).unwrap().trim_end(), expected);
    }
}

#[test]
fn a_field_that_comes_twice_is_merged() {
    let first = v2::ActionResult {
        stdout_digest: Some(digest("a", 0)),
        exit_code: 1,
        ..v2::ActionResult::default()
    };
    let second = v2::ActionResult {
        stdout_digest: Some(digest("", 5)),
        exit_code: 2,
        ..v2::ActionResult::default()
    };
    let encoded = [first.encode_to_vec(), second.encode_to_vec()].concat();
    let json = json::action_result(&encoded).unwrap();
    let expected = "{\"exitCode\":2,\"stdoutDigest\":{\"hash\":\"a\",\"sizeBytes\":\"5\"}}\n";
    assert_eq!(String::from_utf8(json).unwrap(), expected);
}
