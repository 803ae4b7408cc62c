//! The table of the HTTP cache: method, path, header, body and state to status, header, body and
//! what is stored. The rows are data; a request of a row has a connection of its own.

mod reads;
mod writes;

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;
use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan_proto::v2;
use prost::Message as _;

use crate::support::http::{Http, Reply};
use crate::support::{Blob, TestServer, output_file};

/// What a row sends or expects.
#[derive(Clone, Debug)]
enum Data {
    Nothing,
    /// The blob of 1,000 bytes that is there.
    Small,
    /// The blob of 200,000 bytes that is there, or a part of it.
    Big(std::ops::Range<usize>),
    /// The blob that only this row knows: 1,000 bytes, or 200,000.
    Fresh,
    FreshBig,
    /// The result that is there.
    Result,
    /// A result that only this row knows.
    FreshResult,
    Bytes(Vec<u8>),
    Text(&'static str),
    /// With hashes put in.
    Spelt(&'static str),
    /// The same as zstd.
    Zstd(Box<Data>),
    /// The same in this many frames.
    Frames(usize, Box<Data>),
    /// The first bytes of it.
    Cut(usize, Box<Data>),
}

/// What is stored behind the answer.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Any,
    /// The row's own blob of 1,000 bytes or 200,000 is there, or neither.
    Small,
    Big,
    /// The row's own result is there.
    Result,
    /// Nothing of the row's own is there.
    Nothing,
}

/// How long a body says that it is.
#[derive(Clone, Copy, Debug)]
enum Length {
    True,
    Says(&'static str),
    Unsaid,
    Chunked,
}

/// One row. `{small}` and its like in path and header stand for hashes.
#[derive(Clone, Debug)]
struct Row {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Data,
    length: Length,
    status: u16,
    has: Vec<(&'static str, String)>,
    lacks: Vec<&'static str>,
    gives: Option<Data>,
    effect: Effect,
}

fn row(method: &'static str, path: impl Into<String>, status: u16) -> Row {
    Row {
        method,
        path: path.into(),
        headers: Vec::new(),
        body: Data::Nothing,
        length: Length::True,
        status,
        has: Vec::new(),
        lacks: Vec::new(),
        gives: None,
        effect: Effect::Any,
    }
}

fn get(path: impl Into<String>, status: u16) -> Row {
    row("GET", path, status)
}

fn head(path: impl Into<String>, status: u16) -> Row {
    row("HEAD", path, status)
}

fn put(path: impl Into<String>, body: Data, status: u16) -> Row {
    let effect = if status == 200 { Effect::Any } else { Effect::Nothing };
    Row { body, effect, ..row("PUT", path, status) }
}

impl Row {
    /// Sends a header field.
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends this as `Content-Length`.
    fn length(self, length: &'static str) -> Self {
        Self { length: Length::Says(length), ..self }
    }

    /// Sends no body, and no length.
    fn without_length(self) -> Self {
        Self { length: Length::Unsaid, ..self }
    }

    /// Sends the body in chunks, without a length.
    fn chunked(self) -> Self {
        Self { length: Length::Chunked, ..self }
    }

    /// Expects a header field.
    fn has(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.has.push((name, value.into()));
        self
    }

    /// Expects that a header field is not there.
    fn lacks(mut self, name: &'static str) -> Self {
        self.lacks.push(name);
        self
    }

    /// Expects a body.
    fn gives(self, data: Data) -> Self {
        Self { gives: Some(data), ..self }
    }

    /// Expects what is stored.
    fn stores(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

fn zstd_of(data: Data) -> Data {
    Data::Zstd(Box::new(data))
}

/// What rows refer to.
struct Fixtures {
    small: Blob,
    big: Blob,
    action: Blob,
    result: Vec<u8>,
    incomplete: Blob,
    empty_result: Blob,
}

/// Text that compresses, and that no other seed gives.
fn text(seed: usize, len: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < len {
        let word = text.len() / 100;
        writeln!(text, "line {word} of text {seed}, as like the others as can be").unwrap();
    }
    text.truncate(len);
    text.into_bytes()
}

fn result_naming(blob: &Blob, seed: usize) -> Vec<u8> {
    let result = v2::ActionResult {
        output_files: vec![output_file("out/file", blob)],
        exit_code: i32::try_from(seed).unwrap(),
        ..v2::ActionResult::default()
    };
    result.encode_to_vec()
}

impl Fixtures {
    async fn put_into(server: &TestServer) -> Self {
        let it = Self::new();
        server.put(&[&it.small, &it.big]).await;
        let absent = Blob::new("nobody has this");
        let results = [
            (&it.action, it.result.clone()),
            (&it.incomplete, result_naming(&absent, 7)),
            (&it.empty_result, Vec::new()),
        ];
        for (action, encoded) in results {
            server.update_result(action, Bytes::from(encoded)).await.unwrap();
        }
        it
    }

    fn new() -> Self {
        let small = Blob::new(text(0, 1_000));
        Self {
            result: result_naming(&small, 0),
            big: Blob::new(text(1, 200_000)),
            action: Blob::new("an action"),
            incomplete: Blob::new("an action with an incomplete result"),
            empty_result: Blob::new("an action with an empty result"),
            small,
        }
    }
}

/// One row at work.
struct Case<'c> {
    server: &'c TestServer,
    fixtures: &'c Fixtures,
    row: &'c Row,
    small: Blob,
    big: Blob,
    /// Where the row's own result goes.
    action: Blob,
    result: Vec<u8>,
}

impl<'c> Case<'c> {
    fn new(server: &'c TestServer, fixtures: &'c Fixtures, row: &'c Row, seed: usize) -> Self {
        let action = Blob::new(format!("action of row {seed}"));
        let result = result_naming(&fixtures.small, seed);
        let (small, big) = (Blob::new(text(seed, 1_000)), Blob::new(text(seed, 200_000)));
        Self { server, fixtures, row, small, big, action, result }
    }

    fn data(&self, data: &Data) -> Vec<u8> {
        match data {
            Data::Nothing => Vec::new(),
            Data::Small => self.fixtures.small.data.to_vec(),
            Data::Big(range) => self.fixtures.big.data[range.clone()].to_vec(),
            Data::Fresh => self.small.data.to_vec(),
            Data::FreshBig => self.big.data.to_vec(),
            Data::Result => self.fixtures.result.clone(),
            Data::FreshResult => self.result.clone(),
            Data::Bytes(bytes) => bytes.clone(),
            Data::Text(text) => text.as_bytes().to_vec(),
            Data::Spelt(text) => self.spell(text).into_bytes(),
            Data::Zstd(data) => zstd::encode_all(&self.data(data)[..], 3).unwrap(),
            Data::Frames(count, data) => {
                let data = self.data(data);
                let parts = data.chunks(data.len().div_ceil(*count));
                parts.flat_map(|part| zstd::encode_all(part, 3).unwrap()).collect()
            }
            Data::Cut(length, data) => self.data(data)[..*length].to_vec(),
        }
    }

    /// Puts hashes in.
    fn spell(&self, text: &str) -> String {
        let fixtures = self.fixtures;
        let named = [
            ("{small}", &fixtures.small),
            ("{big}", &fixtures.big),
            ("{action}", &fixtures.action),
            ("{incomplete}", &fixtures.incomplete),
            ("{empty-result}", &fixtures.empty_result),
            ("{fresh}", &self.small),
            ("{fresh-big}", &self.big),
            ("{fresh-action}", &self.action),
            ("{absent}", &Blob::new("absent")),
            ("{empty}", &Blob::new("")),
        ];
        let result = Blob::new(fixtures.result.clone());
        let named = named.into_iter().chain([("{result}", &result)]);
        named.fold(text.to_owned(), |text, (name, blob)| {
            text.replace(name, blob.digest.hash_hex().as_str())
        })
    }

    async fn run(&self) -> Option<Reply> {
        let row = self.row;
        let body = self.data(&row.body);
        let mut headers: Vec<_> =
            row.headers.iter().map(|(name, value)| (*name, self.spell(value))).collect();
        match row.length {
            Length::Says(length) => headers.push(("Content-Length", length.to_owned())),
            Length::True if row.method == "PUT" => {
                headers.push(("Content-Length", body.len().to_string()));
            }
            Length::Chunked => headers.push(("Transfer-Encoding", "chunked".to_owned())),
            Length::True | Length::Unsaid => {}
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut client = Http::connect(self.server).await;
        client.head(row.method, &self.spell(&row.path), &headers).await;
        if matches!(row.length, Length::Chunked) {
            client.send(format!("{:x}\r\n", body.len()).as_bytes()).await;
            client.send(&[&body, &b"\r\n0\r\n\r\n"[..]].concat()).await;
        } else {
            client.send(&body).await;
        }
        client.half_close().await;
        client.reply(row.method).await
    }

    /// What is wrong with the answer, and with what is stored; empty when nothing is.
    async fn problems(&self) -> String {
        let mut problems = String::new();
        let reply = self.run().await;
        // A body that is cut off may end the connection without an answer: that is status 0.
        let status = reply.as_ref().map_or(0, |it| it.status);
        if status != self.row.status {
            write!(problems, "status {status}; ").unwrap();
        }
        if let Some(reply) = reply {
            self.check(&reply, &mut problems);
        }
        let is_there = self.is_there().await;
        let expected = match self.row.effect {
            Effect::Any => is_there,
            Effect::Small => [true, false, false],
            Effect::Big => [false, true, false],
            Effect::Result => [false, false, true],
            Effect::Nothing => [false; 3],
        };
        if is_there != expected {
            write!(problems, "stored {is_there:?}; ").unwrap();
        }
        problems
    }

    /// Whether the row's own blobs and result are there, as gRPC sees it.
    async fn is_there(&self) -> [bool; 3] {
        let mut is_there = [&self.small, &self.big].map(|_| false).to_vec();
        for (blob, is_there) in [&self.small, &self.big].into_iter().zip(&mut is_there) {
            *is_there = self.server.missing(&[blob]).await.is_empty();
            if *is_there {
                assert_eq!(self.server.read(&blob.read_name()).await.unwrap(), blob.data);
            }
        }
        let result = self.server.get_result(&self.action).await;
        [is_there[0], is_there[1], result.is_ok_and(|it| it == self.result)]
    }

    fn check(&self, reply: &Reply, problems: &mut String) {
        if !reply.is_whole {
            write!(problems, "body cut off; ").unwrap();
        }
        for (name, value) in &self.row.has {
            if reply.header(name) != Some(&*self.spell(value)) {
                write!(problems, "{name}: {:?}; ", reply.header(name)).unwrap();
            }
        }
        for name in &self.row.lacks {
            if reply.header(name).is_some() {
                write!(problems, "{name} is there; ").unwrap();
            }
        }
        if let Some(expected) = &self.row.gives {
            let body = match reply.header("content-encoding") {
                Some("zstd") => zstd::decode_all(&reply.body[..]).unwrap_or_default(),
                _ => reply.body.clone(),
            };
            if body != self.data(expected) {
                write!(problems, "body {:?}; ", reply.text().get(..80)).unwrap();
            }
        }
    }
}

async fn check(server: &TestServer, fixtures: &Fixtures, rows: &[Row]) {
    let mut problems = String::new();
    for (number, row) in rows.iter().enumerate() {
        // 0 and 1 are the fixtures' own.
        let found = Case::new(server, fixtures, row, number + 2).problems().await;
        if !found.is_empty() {
            let path: String = row.path.chars().take(90).collect();
            let headers = &row.headers;
            let (method, status) = (row.method, row.status);
            writeln!(problems, "{method} {path} {headers:?} is not {status}: {found}").unwrap();
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[tokio::test]
async fn reapi_h1_what_is_read_is_as_in_the_table() {
    let server = TestServer::start().await;
    let fixtures = Fixtures::put_into(&server).await;
    let rows = reads::rows();
    assert!(rows.len() >= 100, "{} rows", rows.len());
    check(&server, &fixtures, &rows).await;
}

#[tokio::test]
async fn reapi_h3_what_is_written_is_as_in_the_table() {
    let server = TestServer::start().await;
    let fixtures = Fixtures::put_into(&server).await;
    let rows = writes::rows();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    check(&server, &fixtures, &rows).await;
}

#[tokio::test]
async fn what_instances_may_is_as_in_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemOptions::new(directory.path(), Cap::Bytes(64 << 20));
    let settings = InstanceSettings::new(0, 0);
    let frozen = settings.read_only();
    let named = [("", settings), ("frozen", frozen), ("team/one", settings)];
    let named: HashMap<_, _> = named.map(|(name, it)| (name.to_owned(), it)).into();
    let options = GrpcOptions::default();
    let server =
        TestServer::start_settings(directory, store, Instances::Named(named), options).await;
    let fixtures = Fixtures::put_into(&server).await;
    let rows = [
        get("/team/one/cas/{small}", 200).gives(Data::Small),
        get("/frozen/cas/{small}", 200).gives(Data::Small),
        put("/frozen/cas/{fresh}", Data::Fresh, 200).stores(Effect::Small),
        put("/frozen/ac/{fresh-action}", Data::FreshResult, 403),
        put("/frozen/ac/{fresh-action}", Data::Text("garbage"), 403),
        get("/frozen/ac/{action}", 404),
        put("/team/one/ac/{action}", Data::FreshResult, 200).stores(Effect::Nothing),
        get("/ac/{action}", 200).gives(Data::Result),
        get("/team/cas/{small}", 400),
        head("/other/cas/{small}", 400),
        get("/other/ac/{action}", 400),
        put("/other/cas/{fresh}", Data::Fresh, 400),
        put("/other/ac/{fresh-action}", Data::FreshResult, 400),
    ];
    check(&server, &fixtures, &rows).await;
}
