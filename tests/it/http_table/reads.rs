//! What is asked for, and what is answered.

use super::{Data, Row, get, head, row};

const WHOLE: std::ops::Range<usize> = 0..200_000;
const OCTETS: &str = "application/octet-stream";

pub(super) fn rows() -> Vec<Row> {
    [blobs(), instances(), bad_paths(), methods(), parts(), conditions(), encodings(), results()]
        .concat()
}

fn blobs() -> Vec<Row> {
    vec![
        get("/cas/{small}", 200)
            .has("content-length", "1000")
            .has("content-type", OCTETS)
            .has("etag", "\"{small}\"")
            .has("accept-ranges", "bytes")
            .has("vary", "accept-encoding")
            .has("x-content-type-options", "nosniff")
            .lacks("content-encoding")
            .gives(Data::Small),
        get("/cas/{big}", 200).has("content-length", "200000").gives(Data::Big(WHOLE)),
        get("/cas/{empty}", 200).has("content-length", "0").gives(Data::Nothing),
        get("/cas/{absent}", 404),
        get("/cas/{action}", 404),
        head("/cas/{small}", 200)
            .has("content-length", "1000")
            .has("content-type", OCTETS)
            .has("etag", "\"{small}\"")
            .has("accept-ranges", "bytes"),
        head("/cas/{big}", 200).has("content-length", "200000"),
        head("/cas/{empty}", 200).has("content-length", "0"),
        head("/cas/{absent}", 404),
        get("/cas/{small}?query=x", 200).gives(Data::Small),
    ]
}

fn instances() -> Vec<Row> {
    vec![
        get("//cas/{small}", 200).gives(Data::Small),
        get("///cas//{small}", 200).gives(Data::Small),
        get("/main/cas/{small}", 200).gives(Data::Small),
        get("/projects/p/instances/default/cas/{small}", 200).gives(Data::Small),
        get("/a//b/cas/{small}", 200).gives(Data::Small),
        get("/cas/cas/{small}", 200).gives(Data::Small),
        get("/ac/cas/{small}", 200).gives(Data::Small),
        get("/livez/cas/{small}", 200).gives(Data::Small),
        get("/a%20b/cas/{small}", 200).gives(Data::Small),
        get("/a%2eb/cas/{small}", 200).gives(Data::Small),
        get("/%63as/{small}", 200).gives(Data::Small),
        get("/main/ac/{action}", 404),
        get("//ac/{action}", 200).gives(Data::Result),
        get("/blobs/cas/{small}", 400),
        get("/a/uploads/cas/{small}", 400),
        get("/actionResults/ac/{action}", 400),
        get(format!("/{}/cas/{{small}}", "i".repeat(1024)), 200).gives(Data::Small),
        get(format!("/{}/cas/{{small}}", "i".repeat(1025)), 400),
    ]
}

fn bad_paths() -> Vec<Row> {
    let upper = "A".repeat(64);
    vec![
        get("/cas", 404),
        get("/cas/", 404),
        get("/nothing", 404),
        get("/nothing/{small}", 404),
        get("/CAS/{small}", 404),
        get("/cas/{small}/", 404),
        get("/cas/{small}/more", 404),
        get("/ac/", 404),
        get(format!("/cas/{upper}"), 400),
        get(format!("/ac/{upper}"), 400),
        get("/cas/abc", 400),
        get("/cas/{small}0", 400),
        get("/cas/{small}-1000", 400),
        get(format!("/cas/{}", "g".repeat(64)), 400),
        get("/cas/blake3:{small}", 400),
        get("/cas/sha256-{small}", 400),
        get("/cas/{small}%00", 400),
        get("/cas/%00", 400),
        get("/a%00b/cas/{small}", 400),
        get("/a%0ab/cas/{small}", 400),
        get("/a%7fb/cas/{small}", 400),
        get("/../cas/{small}", 400),
        get("/./cas/{small}", 400),
        get("/a/../cas/{small}", 400),
        get("/%2e%2e/cas/{small}", 400),
        get("/%2e/cas/{small}", 400),
        get("/%2E%2E/%2E%2E/cas/{small}", 400),
        get("/.%2e/cas/{small}", 400),
        get("/a%2fcas/{small}", 400),
        get("/cas/..%2f..%2fetc%2fpasswd", 400),
        get("/cas/../../etc/passwd", 400),
        get("/a%5cb/cas/{small}", 400),
        get("/%zz/cas/{small}", 400),
        get("/%/cas/{small}", 400),
        get("/%2/cas/{small}", 400),
        get("/%ff%fe/cas/{small}", 400),
        get(format!("/{}/cas/{{small}}", "%61".repeat(1025)), 400),
        get(format!("/{}/cas/{{small}}", "n".repeat(9_000)), 414),
        get(format!("/cas/{}", "0".repeat(9_000)), 414),
        get(format!("/{}/cas/{{small}}", "n".repeat(60_000)), 414),
        // More than the transport reads of a head.
        get(format!("/{}/cas/{{small}}", "n".repeat(64 << 10)), 431),
        get("/cas/{small}", 431).with("X-Long", "v".repeat(64 << 10)),
    ]
}

fn methods() -> Vec<Row> {
    let mut rows: Vec<Row> = ["POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "ODD"]
        .map(|method| row(method, "/cas/{small}", 405).has("allow", "GET, HEAD, PUT"))
        .to_vec();
    rows.push(row("DELETE", "/ac/{action}", 405).has("allow", "GET, HEAD, PUT"));
    rows.push(row("DELETE", "/nothing", 404));
    rows.push(row("PUT", "/nothing", 404));
    rows.push(row("POST", "/livez", 405));
    rows.push(get("/cas/{small}", 200).gives(Data::Small));
    rows.push(get("/ac/{action}", 200).gives(Data::Result));
    rows
}

fn parts() -> Vec<Row> {
    let part = |range: &str, wanted: std::ops::Range<usize>| {
        let answer = format!("bytes {}-{}/200000", wanted.start, wanted.end - 1);
        get("/cas/{big}", 206)
            .with("Range", range)
            .has("content-range", answer)
            .has("content-length", wanted.len().to_string())
            .has("etag", "\"{big}\"")
            .gives(Data::Big(wanted))
    };
    let whole = |range: &str| {
        let whole = get("/cas/{big}", 200).with("Range", range);
        whole.lacks("content-range").gives(Data::Big(WHOLE))
    };
    let beyond = |range: &str| {
        get("/cas/{big}", 416).with("Range", range).has("content-range", "bytes */200000")
    };
    let first = |etag: &str| part("bytes=0-9", 0..10).with("If-Range", etag);
    vec![
        part("bytes=0-9", 0..10),
        part("bytes=0-0", 0..1),
        part("bytes=100000-150000", 100_000..150_001),
        part("bytes=199999-", 199_999..200_000),
        part("bytes=5-", 5..200_000),
        part("bytes=-7", 199_993..200_000),
        part("bytes=-999999", 0..200_000),
        part("bytes=10-99999999999999999999999", 10..200_000),
        part("Bytes = 3-4", 3..5),
        beyond("bytes=200000-"),
        beyond("bytes=300000-400000"),
        beyond("bytes=-0"),
        whole("bytes=0-1,5-6"),
        whole("bytes=9-3"),
        whole("bytes=x-y"),
        whole("bytes=-"),
        whole("bytes=+1-2"),
        whole("bytes"),
        whole("lines=0-1"),
        first("\"{big}\""),
        whole("bytes=0-9").with("If-Range", "\"{small}\""),
        whole("bytes=0-9").with("If-Range", "W/\"{big}\""),
        whole("bytes=0-9").with("If-Range", "Sat, 01 Jan 2022 00:00:00 GMT"),
        get("/cas/{empty}", 200).with("Range", "bytes=0-").gives(Data::Nothing),
        get("/cas/{absent}", 404).with("Range", "bytes=0-"),
        head("/cas/{big}", 200).with("Range", "bytes=0-9").has("content-length", "200000"),
        // A part has no encoding, whatever the client would take.
        part("bytes=0-9", 0..10).with("Accept-Encoding", "zstd").lacks("content-encoding"),
        get("/ac/{action}", 200).with("Range", "bytes=0-1").gives(Data::Result),
    ]
}

fn conditions() -> Vec<Row> {
    let unless = |tags: &str, status| get("/cas/{small}", status).with("If-None-Match", tags);
    let only = |tags: &str, status| get("/cas/{small}", status).with("If-Match", tags);
    vec![
        unless("\"{small}\"", 304).has("etag", "\"{small}\"").gives(Data::Nothing),
        unless("W/\"{small}\"", 304),
        unless("\"x\", \"{small}\"", 304),
        unless("*", 304),
        unless("\"{big}\"", 200).gives(Data::Small),
        unless("{small}", 200).gives(Data::Small),
        only("\"{small}\"", 200).gives(Data::Small),
        only("*", 200).gives(Data::Small),
        only("\"{big}\"", 412),
        only("W/\"{small}\"", 412),
        get("/cas/{absent}", 404).with("If-None-Match", "*"),
        get("/cas/{absent}", 404).with("If-Match", "*"),
        head("/cas/{small}", 304).with("If-None-Match", "\"{small}\""),
        head("/cas/{small}", 412).with("If-Match", "\"{big}\""),
        unless("\"{small}\"", 304).with("Range", "bytes=0-1"),
        get("/ac/{action}", 304).with("If-None-Match", "\"{result}\""),
        get("/ac/{action}", 200).with("If-None-Match", "\"{action}\"").gives(Data::Result),
        get("/ac/{action}", 412).with("If-Match", "\"{action}\""),
    ]
}

fn encodings() -> Vec<Row> {
    let encoded = |accept: &str| {
        get("/cas/{big}", 200)
            .with("Accept-Encoding", accept)
            .has("content-encoding", "zstd")
            .has("etag", "W/\"{big}.zstd\"")
            .has("vary", "accept-encoding")
            .lacks("content-length")
            .lacks("accept-ranges")
            .gives(Data::Big(WHOLE))
    };
    let plain = |accept: &str| {
        get("/cas/{big}", 200)
            .with("Accept-Encoding", accept)
            .has("content-length", "200000")
            .has("vary", "accept-encoding")
            .lacks("content-encoding")
            .gives(Data::Big(WHOLE))
    };
    vec![
        encoded("zstd"),
        encoded("ZSTD"),
        encoded("gzip, deflate, br, zstd"),
        encoded("zstd;q=0.001"),
        encoded("gzip;q=1.0, zstd;q=0.5, *;q=0"),
        encoded("zstd, identity"),
        plain(""),
        plain("identity"),
        plain("gzip"),
        plain("*"),
        plain("zstd;q=0"),
        plain("zstd; Q=0.000"),
        plain("zstd;q=0.5, identity;q=1"),
        plain("zstd;q=2"),
        plain("zstd;q=x"),
        plain("xzstd, zstdx"),
        get("/cas/{small}", 200)
            .with("Accept-Encoding", "zstd")
            .has("content-encoding", "zstd")
            .gives(Data::Small),
        get("/cas/{empty}", 200)
            .with("Accept-Encoding", "zstd")
            .has("content-length", "0")
            .lacks("content-encoding"),
        get("/cas/{absent}", 404).with("Accept-Encoding", "zstd").lacks("content-encoding"),
        head("/cas/{big}", 200)
            .with("Accept-Encoding", "zstd")
            .has("content-encoding", "zstd")
            .has("etag", "W/\"{big}.zstd\"")
            .lacks("content-length"),
        encoded("zstd").with("If-None-Match", "\"{big}\""),
        get("/cas/{big}", 304)
            .with("Accept-Encoding", "zstd")
            .with("If-None-Match", "W/\"{big}.zstd\""),
        get("/ac/{action}", 200)
            .with("Accept-Encoding", "zstd")
            .lacks("content-encoding")
            .gives(Data::Result),
    ]
}

fn results() -> Vec<Row> {
    let json = |accept: &str| {
        get("/ac/{action}", 200)
            .with("Accept", accept)
            .has("content-type", "application/json")
            .has("etag", "W/\"{result}.json\"")
            .gives(Data::Spelt(concat!(
                r#"{"outputFiles":[{"path":"out/file","digest":{"hash":""#,
                "{small}",
                r#"","sizeBytes":"1000"},"isExecutable":true}]}"#,
                "\n"
            )))
    };
    let bytes = |accept: &str| {
        get("/ac/{action}", 200)
            .with("Accept", accept)
            .has("content-type", OCTETS)
            .gives(Data::Result)
    };
    vec![
        bytes("*/*").has("etag", "\"{result}\"").has("vary", "accept").lacks("accept-ranges"),
        bytes(OCTETS),
        bytes("application/json;q=0"),
        bytes("application/octet-stream, application/json;q=0.9"),
        bytes("text/html"),
        json("application/json"),
        json("text/html, Application/JSON;q=0.9, */*;q=0.1"),
        head("/ac/{action}", 200).has("content-type", OCTETS).has("etag", "\"{result}\""),
        get("/ac/{absent}", 404),
        head("/ac/{absent}", 404),
        get("/ac/{small}", 404),
        get("/ac/{incomplete}", 404),
        head("/ac/{incomplete}", 404),
        get("/ac/{incomplete}", 404).with("Accept", "application/json"),
        get("/ac/{empty-result}", 200).has("content-length", "0").gives(Data::Nothing),
        head("/ac/{empty-result}", 200).has("content-length", "0"),
        get("/ac/{empty-result}", 200).with("Accept", "application/json").gives(Data::Text("{}\n")),
    ]
}
