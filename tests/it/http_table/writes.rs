//! What is sent, and what is stored.

use castellan_proto::v2;
use prost::Message as _;

use super::{Data, Effect, Row, get, put, row, zstd_of};
use crate::support::{Blob, output_file};

pub(super) fn rows() -> Vec<Row> {
    [blobs(), lengths(), encoded(), frames(), results()].concat()
}

fn blobs() -> Vec<Row> {
    vec![
        put("/cas/{fresh}", Data::Fresh, 200)
            .has("content-length", "0")
            .gives(Data::Nothing)
            .stores(Effect::Small),
        put("/cas/{fresh-big}", Data::FreshBig, 200).stores(Effect::Big),
        put("/any/instance/cas/{fresh}", Data::Fresh, 200).stores(Effect::Small),
        put("//cas/{fresh}", Data::Fresh, 200).stores(Effect::Small),
        put("/cas/{fresh}", Data::Fresh, 200)
            .with("Content-Type", "application/x-www-form-urlencoded")
            .stores(Effect::Small),
        put("/cas/{fresh}", Data::Fresh, 200)
            .with("If-None-Match", "*")
            .with("If-Match", "\"x\"")
            .stores(Effect::Small),
        // What is there is verified all the same.
        put("/cas/{small}", Data::Small, 200),
        put("/cas/{big}", Data::Big(0..200_000), 200),
        put("/cas/{small}", Data::Fresh, 400),
        put("/cas/{big}", Data::FreshBig, 400),
        put("/cas/{big}", Data::Big(0..199_999), 400),
        put("/cas/{small}", Data::Big(0..200_000), 400),
        get("/cas/{small}", 200).gives(Data::Small),
        get("/cas/{big}", 200).gives(Data::Big(0..200_000)),
        put("/cas/{fresh}", Data::FreshBig, 400),
        put("/cas/{fresh-big}", Data::Fresh, 400),
        put("/cas/{fresh}", Data::Cut(999, Box::new(Data::Fresh)), 400),
        put("/cas/{fresh-big}", Data::Cut(199_999, Box::new(Data::FreshBig)), 400),
        put("/cas/{fresh}", Data::Nothing, 400),
        put("/cas/{empty}", Data::Nothing, 200),
        put("/cas/{empty}", Data::Text("x"), 400),
        get("/cas/{empty}", 200).has("content-length", "0"),
        put("/cas/abc", Data::Fresh, 400),
        put(format!("/cas/{}", "F".repeat(64)), Data::Fresh, 400),
        put("/cas/%2e%2e/{fresh}", Data::Fresh, 400),
        put("/%2e%2e/cas/{fresh}", Data::Fresh, 400),
        put("/a%00/cas/{fresh}", Data::Fresh, 400),
        put("/cas/{fresh}%00", Data::Fresh, 400),
        put("/nothing/{fresh}", Data::Fresh, 404),
        put(format!("/{}/cas/{{fresh}}", "n".repeat(9_000)), Data::Fresh, 414),
        row("POST", "/cas/{fresh}", 405).stores(Effect::Nothing),
    ]
}

fn lengths() -> Vec<Row> {
    let fresh = |status| put("/cas/{fresh}", Data::Fresh, status);
    vec![
        row("PUT", "/cas/{fresh}", 411).without_length().stores(Effect::Nothing),
        fresh(411).chunked(),
        fresh(200).chunked().with("X-Digest-SizeBytes", "1000").stores(Effect::Small),
        fresh(400).chunked().with("X-Digest-SizeBytes", "1001"),
        fresh(400).chunked().with("X-Digest-SizeBytes", "999"),
        fresh(200).with("X-Digest-SizeBytes", "1000").stores(Effect::Small),
        fresh(400).with("X-Digest-SizeBytes", "999"),
        fresh(400).with("X-Digest-SizeBytes", "-1000"),
        fresh(400).with("X-Digest-SizeBytes", "many"),
        fresh(400).with("X-Digest-SizeBytes", "99999999999999999999999"),
        fresh(400).length("many"),
        fresh(400).length("-1"),
        fresh(400).length("1000, 1001"),
        // The rest of the body is no request.
        fresh(400).length("10"),
        // The connection ends before the body does.
        fresh(400).length("1001"),
        put("/cas/{fresh-big}", Data::FreshBig, 400).length("200001"),
        put("/cas/{fresh-big}", Data::Cut(70_000, Box::new(Data::FreshBig)), 400).length("200000"),
        // Over any limit: refused before a byte is read.
        fresh(413).length("1000000000000"),
        fresh(413).chunked().with("X-Digest-SizeBytes", "1000000000000"),
        put("/ac/{fresh-action}", Data::FreshResult, 413).length("4194304"),
        put("/ac/{fresh-action}", Data::FreshResult, 411).chunked(),
        row("PUT", "/ac/{fresh-action}", 411).without_length().stores(Effect::Nothing),
    ]
}

fn encoded() -> Vec<Row> {
    let zstd = |data, status| put("/cas/{fresh}", data, status).with("Content-Encoding", "zstd");
    let big = |data, status| put("/cas/{fresh-big}", data, status).with("Content-Encoding", "zstd");
    let short = |bytes, data| Data::Cut(bytes, Box::new(zstd_of(data)));
    vec![
        zstd(zstd_of(Data::Fresh), 200).stores(Effect::Small),
        big(zstd_of(Data::FreshBig), 200).stores(Effect::Big),
        zstd(zstd_of(Data::Fresh), 200).with("X-Digest-SizeBytes", "1000").stores(Effect::Small),
        big(zstd_of(Data::FreshBig), 200).with("X-Digest-SizeBytes", "200000").stores(Effect::Big),
        zstd(zstd_of(Data::Fresh), 200)
            .chunked()
            .with("X-Digest-SizeBytes", "1000")
            .stores(Effect::Small),
        zstd(zstd_of(Data::Fresh), 411).chunked(),
        zstd(zstd_of(Data::Fresh), 400).with("X-Digest-SizeBytes", "999"),
        zstd(zstd_of(Data::Fresh), 400).with("X-Digest-SizeBytes", "1001"),
        big(zstd_of(Data::FreshBig), 400).with("X-Digest-SizeBytes", "199999"),
        big(zstd_of(Data::FreshBig), 400).with("X-Digest-SizeBytes", "200001"),
        zstd(zstd_of(Data::FreshBig), 400),
        big(zstd_of(Data::Fresh), 400),
        zstd(Data::Fresh, 400),
        zstd(Data::Bytes(vec![0xff; 100]), 400),
        zstd(Data::Nothing, 400),
        zstd(short(20, Data::Fresh), 400),
        zstd(short(20, Data::Fresh), 400).with("X-Digest-SizeBytes", "1000"),
        big(short(500, Data::FreshBig), 400).with("X-Digest-SizeBytes", "200000"),
        zstd(zstd_of(Data::Nothing), 400),
        put("/cas/{empty}", zstd_of(Data::Nothing), 200).with("Content-Encoding", "zstd"),
        // What is there already.
        put("/cas/{big}", zstd_of(Data::Big(0..200_000)), 200).with("Content-Encoding", "zstd"),
        put("/cas/{big}", zstd_of(Data::FreshBig), 400).with("Content-Encoding", "zstd"),
        zstd(zstd_of(Data::Fresh), 415).with("Content-Encoding", "gzip"),
        put("/cas/{fresh}", Data::Fresh, 415).with("Content-Encoding", "gzip"),
        put("/cas/{fresh}", Data::Fresh, 415).with("Content-Encoding", "zstd, zstd"),
        put("/cas/{fresh}", Data::Fresh, 200)
            .with("Content-Encoding", "Identity")
            .stores(Effect::Small),
        put("/cas/{fresh}", zstd_of(Data::Fresh), 200)
            .with("Content-Encoding", "ZSTD")
            .stores(Effect::Small),
    ]
}

fn frames() -> Vec<Row> {
    let zstd = |data, status| put("/cas/{fresh}", data, status).with("Content-Encoding", "zstd");
    let frames = |count, data| Data::Frames(count, Box::new(data));
    vec![
        zstd(frames(3, Data::Fresh), 200).stores(Effect::Small),
        zstd(frames(7, Data::Fresh), 200).with("X-Digest-SizeBytes", "1000").stores(Effect::Small),
        put("/cas/{fresh-big}", frames(3, Data::FreshBig), 200)
            .with("Content-Encoding", "zstd")
            .with("X-Digest-SizeBytes", "200000")
            .stores(Effect::Big),
        zstd(frames(3, Data::FreshBig), 400),
    ]
}

fn results() -> Vec<Row> {
    let result = |data, status| put("/ac/{fresh-action}", data, status);
    let file = Blob::new("nobody has this");
    let naming = |path: &str| {
        let result = v2::ActionResult {
            output_files: vec![output_file(path, &file)],
            ..v2::ActionResult::default()
        };
        Data::Bytes(result.encode_to_vec())
    };
    vec![
        result(Data::FreshResult, 200).has("content-length", "0").stores(Effect::Result),
        result(zstd_of(Data::FreshResult), 200)
            .with("Content-Encoding", "zstd")
            .stores(Effect::Result),
        result(Data::FreshResult, 400).chunked().with("X-Digest-SizeBytes", "1000"),
        // In an instance of its own.
        put("/other/ac/{fresh-action}", Data::FreshResult, 200).stores(Effect::Nothing),
        // Stored, and withheld while what it names is not there.
        result(naming("out"), 200).stores(Effect::Nothing),
        result(naming("/absolute"), 400),
        result(naming("a/../../b"), 400),
        result(naming(""), 400),
        result(Data::Text("no ActionResult"), 400),
        result(Data::Bytes(b"\xcc\xac what ccache sends".to_vec()), 400),
        result(Data::Cut(10, Box::new(Data::FreshResult)), 400),
        result(Data::FreshResult, 400).length("1000"),
        result(Data::FreshResult, 400).with("Content-Encoding", "zstd"),
        result(Data::FreshResult, 415).with("Content-Encoding", "br"),
        put("/ac/{empty-result}", Data::Nothing, 200),
        get("/ac/{empty-result}", 200).gives(Data::Nothing),
        put("/ac/abc", Data::FreshResult, 400),
        put("/ac/{fresh-action}/", Data::FreshResult, 404),
    ]
}
