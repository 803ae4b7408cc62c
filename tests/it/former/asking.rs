//! Asks a server for every key, and knows the right answers.

use std::net::SocketAddr;

use bytes::Bytes;
use castellan::digest::Digest;
use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    BatchReadBlobsRequest, FindMissingBlobsRequest, GetActionResultRequest,
};
use castellan_proto::v2;
use prost::Message as _;
use tonic::{Code, Status};

use super::fixtures::content::content;
use super::fixtures::manifest::{Expectation, Kind, Line};
use super::fixtures::results::{action_result, raw_value};
use super::{SEED, sites::Site};
use crate::support::http::{Http, Reply};
use crate::support::{Client, Process, wire};

/// Blobs in one call.
const BATCH: usize = 64;
/// Larger ones are read alone.
const MAX_BATCHED_BYTES: u64 = 32 << 10;
/// Of the good blobs one in so many is asked for by its hash alone.
const BY_HASH_EVERY: u64 = 101;

/// Somebody who asks.
pub(super) struct Asker {
    client: Client,
    http: SocketAddr,
    instance: String,
    /// Whether what is read was asked for before, as Bazel does it, or not.
    pub(super) asks_first: bool,
    has_buckets: bool,
    /// Whether `/ac/` serves values of any kind.
    has_raw_values: bool,
}

impl Asker {
    pub(super) async fn new(process: &Process, site: &Site, instance: &str) -> Self {
        Self {
            client: Client::connect(&process.grpc).await,
            http: process.http.parse().unwrap(),
            instance: instance.to_owned(),
            asks_first: true,
            has_buckets: site.layout.is_bazel_remote(),
            has_raw_values: site.serves_raw_values(),
        }
    }

    /// Asks for each, and asserts that what is good is served and nothing else.
    pub(super) async fn ask(&self, lines: &[&Line], blobs: u64) {
        for lines in lines.chunks(BATCH) {
            let of = |kind| lines.iter().copied().filter(move |line| line.kind == kind);
            self.ask_blobs(&of(Kind::Blob).collect::<Vec<_>>()).await;
            for line in of(Kind::Result) {
                self.ask_result(line, blobs).await;
            }
            for line in of(Kind::Raw).filter(|_| self.has_raw_values) {
                let reply = self.get("ac", line).await;
                assert_eq!((reply.status, reply.body), (200, raw_value(SEED, line.number)));
            }
        }
    }

    async fn ask_blobs(&self, lines: &[&Line]) {
        if self.asks_first {
            self.find_missing(lines).await;
        } else if self.has_buckets {
            // Where names begin with the hash and are few, it is enough.
            for line in lines.iter().step_by(BATCH / 4) {
                self.ask_by_hash(line).await;
            }
        }
        let is_small = |line: &&&Line| line.digest.size_bytes <= MAX_BATCHED_BYTES;
        let (small, large): (Vec<_>, Vec<_>) = lines.iter().partition(is_small);
        let found = self.read_batch(&small).await;
        for (line, outcome) in small.iter().zip(found) {
            check_blob(line, outcome);
        }
        for line in large {
            let name = format!("blobs/{}", line.digest);
            check_blob(line, self.client.read(&name).await);
        }
        self.find_missing(lines).await;
        for line in lines {
            if line.expectation != Expectation::Good || line.number % BY_HASH_EVERY == 0 {
                self.ask_by_hash(line).await;
            }
        }
    }

    /// Over HTTP nobody says the size.
    async fn ask_by_hash(&self, line: &Line) {
        let reply = self.get("cas", line).await;
        if line.expectation == Expectation::Good {
            assert_eq!((reply.status, reply.is_whole), (200, true), "{line}");
            assert!(reply.body == content(SEED, line.number), "wrong bytes: {line}");
        } else {
            assert_eq!(reply.status, 404, "{line}");
        }
    }

    /// On a connection of its own: between two of these calls it could be idle for too long.
    async fn get(&self, kind: &str, line: &Line) -> Reply {
        let path = format!("/{kind}/{}", line.digest.hash_hex().as_str());
        Http::to(self.http).await.call("GET", &path, &[], b"").await
    }

    /// What is not good is missing, and nothing else.
    async fn find_missing(&self, lines: &[&Line]) {
        let request = FindMissingBlobsRequest {
            blob_digests: lines.iter().map(|line| wire(&line.digest)).collect(),
            ..FindMissingBlobsRequest::default()
        };
        let mut cas = ContentAddressableStorageClient::new(self.client.channel());
        let reply = cas.find_missing_blobs(request).await.unwrap().into_inner();
        for line in lines {
            let is_missing = reply.missing_blob_digests.contains(&wire(&line.digest));
            assert_eq!(is_missing, line.expectation != Expectation::Good, "{line}");
        }
    }

    async fn read_batch(&self, lines: &[&Line]) -> Vec<Result<Bytes, Status>> {
        if lines.is_empty() {
            return Vec::new();
        }
        let request = BatchReadBlobsRequest {
            digests: lines.iter().map(|line| wire(&line.digest)).collect(),
            ..BatchReadBlobsRequest::default()
        };
        let mut cas = ContentAddressableStorageClient::new(self.client.channel());
        let reply = cas.batch_read_blobs(request).await.unwrap().into_inner();
        let outcomes = reply.responses.into_iter().map(|response| {
            let status = response.status.unwrap_or_default();
            match Code::from_i32(status.code) {
                Code::Ok => Ok(response.data),
                code => Err(Status::new(code, status.message)),
            }
        });
        outcomes.collect()
    }

    async fn ask_result(&self, line: &Line, blobs: u64) {
        let found = self.result(&line.digest).await;
        if line.expectation == Expectation::Good {
            let expected = action_result(SEED, line.number, blobs);
            let expected = v2::ActionResult::decode(&expected[..]).unwrap();
            assert_eq!(found.unwrap(), expected, "{line}");
        } else {
            assert_eq!(found.map_err(|it| it.code()), Err(Code::NotFound), "{line}");
        }
    }

    pub(super) async fn result(&self, action: &Digest) -> Result<v2::ActionResult, Status> {
        let request = GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(wire(action)),
            ..GetActionResultRequest::default()
        };
        let mut client = ActionCacheClient::new(self.client.channel());
        let reply = client.get_action_result(request).await?.into_inner();
        Ok(v2::ActionResult::decode(&reply.encode_to_vec()[..]).unwrap())
    }
}

fn check_blob(line: &Line, outcome: Result<Bytes, Status>) {
    if line.expectation == Expectation::Good {
        let data = outcome.unwrap_or_else(|status| panic!("{line}: {status}"));
        assert!(data == content(SEED, line.number), "wrong bytes: {line}");
    } else {
        assert_eq!(outcome.map_err(|status| status.code()), Err(Code::NotFound), "{line}");
    }
}
