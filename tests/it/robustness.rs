//! Nothing that a client sends kills the server or makes it answer nonsense (reapi 96).
//!
//! Method: thousands of messages for each method, some random, most of them right ones with a few
//! bytes changed. Every answer must be one that the client's mistake explains. `SEED` in the
//! environment repeats a run.

use bytes::Bytes;
use castellan::grpc::GrpcOptions;
use castellan_proto::messages;
use castellan_proto::v2;
use futures_util::StreamExt as _;
use prost::Message;
use tonic::{Code, Status};

use crate::support::{
    Blob, FullResult, METHODS, Subject, TestServer, assert_all_present, directory, raw_call,
};

const MESSAGES_PER_METHOD: usize = 2000;
const CONCURRENCY: usize = 32;

fn encoded(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Right requests of a method, by its position in `METHODS`.
fn right_requests(random: &mut fastrand::Rng, method: usize, root: &Blob) -> Vec<Vec<Vec<u8>>> {
    let full = FullResult::new("mutated");
    let digest = Some(root.wire());
    let instance_name = "a/b".to_owned();
    let blob = messages::BatchUpdateBlob {
        digest: digest.clone(),
        data: root.data.clone(),
        compressor: 0,
    };
    let request = match method {
        0 => encoded(&v2::GetCapabilitiesRequest { instance_name }),
        1 => encoded(&messages::FindMissingBlobsRequest {
            instance_name,
            blob_digests: vec![root.wire(), full.action.wire()],
            digest_function: 1,
        }),
        2 => encoded(&messages::BatchUpdateBlobsRequest {
            instance_name,
            requests: vec![blob.clone(), blob],
            digest_function: 1,
        }),
        3 => encoded(&messages::BatchReadBlobsRequest {
            instance_name,
            digests: vec![root.wire(), full.action.wire()],
            acceptable_compressors: vec![1, 0],
            digest_function: 1,
        }),
        4 => encoded(&messages::GetTreeRequest {
            instance_name,
            root_digest: digest,
            page_size: 1,
            page_token: String::new(),
            digest_function: 1,
        }),
        5 => encoded(&messages::GetActionResultRequest {
            instance_name,
            action_digest: Some(full.action.wire()),
            inline_stdout: true,
            inline_stderr: true,
            inline_output_files: vec!["out/file".to_owned()],
            digest_function: 1,
        }),
        6 => encoded(&messages::UpdateActionResultRequest {
            instance_name,
            action_digest: Some(full.action.wire()),
            action_result: Some(full.result.encode_to_vec().into()),
            digest_function: 1,
        }),
        7 => encoded(&messages::ReadRequest {
            resource_name: root.read_name(),
            read_offset: 3,
            read_limit: 5,
        }),
        8 => return uploads(random, root),
        9 => encoded(&messages::QueryWriteStatusRequest { resource_name: root.write_name() }),
        _ => encoded(&tonic_health::pb::HealthCheckRequest { service: "a".to_owned() }),
    };
    vec![vec![request]]
}

/// An upload in one message and in several.
fn uploads(random: &mut fastrand::Rng, root: &Blob) -> Vec<Vec<Vec<u8>>> {
    let fresh = Blob::new(random.u64(..).to_string());
    [(root, 1000), (&fresh, 1000), (&fresh, 7)]
        .map(|(blob, chunk_bytes)| {
            let requests =
                crate::support::write_requests(&blob.write_name(), &blob.data, chunk_bytes);
            requests.iter().map(encoded).collect()
        })
        .to_vec()
}

/// Changes a byte or two of a message. The length stays, so that most of them still decode.
fn distort(random: &mut fastrand::Rng, message: &mut [u8]) {
    for _ in 0..random.usize(1..3) {
        if message.is_empty() {
            return;
        }
        let at = random.usize(..message.len());
        match random.u8(..3) {
            0 => message[at] ^= 1 << random.u8(..8),
            1 => message[at] = random.u8(..128),
            // Digits and separators are what names and sizes are made of.
            _ => message[at] = b"/-0189afAF"[random.usize(..10)],
        }
    }
}

/// Changes a message and its length.
fn mutilate(random: &mut fastrand::Rng, message: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=message.len());
        match random.u8(..4) {
            0 => message.truncate(at),
            1 => message.insert(at, random.u8(..)),
            2 => {
                let part = message[at.saturating_sub(random.usize(..40))..at].to_vec();
                message.splice(at..at, part);
            }
            _ => message.extend((0..random.usize(..20)).map(|_| random.u8(..))),
        }
    }
}

fn hostile_requests(random: &mut fastrand::Rng, method: usize, root: &Blob) -> Vec<Bytes> {
    if random.u8(..8) == 0 {
        let mut message = vec![0; random.usize(..200)];
        random.fill(&mut message);
        return vec![message.into()];
    }
    let right = right_requests(random, method, root);
    let mut requests = right[random.usize(..right.len())].clone();
    let hit = random.usize(..requests.len());
    match random.u8(..8) {
        0 => drop(requests.remove(hit)),
        1 | 2 => mutilate(random, &mut requests[hit]),
        _ => distort(random, &mut requests[hit]),
    }
    requests.into_iter().map(Bytes::from).collect()
}

/// Whether a client's mistake explains the outcome.
fn is_explained(outcome: &Result<Vec<Bytes>, Status>) -> bool {
    let Err(status) = outcome else {
        return true;
    };
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::Aborted => true,
        // What the protocol layer says of bytes that are no message, or of no message at all.
        Code::Internal => {
            status.message().contains("decode") || status.message().contains("Missing request")
        }
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reapi_96_thousands_of_hostile_messages_harm_nothing() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = TestServer::start_on_files_with(64 << 20, GrpcOptions::default()).await;
    let file = Blob::new("file");
    let root = directory(&[("file", &file)], &[("empty", &Blob::new(""))]);
    server.put(&[&file, &root]).await;

    for (position, method) in METHODS.into_iter().enumerate() {
        let requests: Vec<_> = (0..MESSAGES_PER_METHOD)
            .map(|_| hostile_requests(&mut random, position, &root))
            .collect();
        let calls = requests.into_iter().map(|requests| {
            let channel = &server.channel;
            async move { (requests.clone(), raw_call(channel, method, requests).await) }
        });
        let mut calls = futures_util::stream::iter(calls).buffer_unordered(CONCURRENCY);
        while let Some((requests, outcome)) = calls.next().await {
            let sent = requests.first().map_or(0, Bytes::len);
            assert!(is_explained(&outcome), "{method}, {sent} bytes {requests:?}: {outcome:?}");
        }
    }

    assert_all_present(&Subject::of(&root).calls(&server).await);
    assert_eq!(server.read(&file.read_name()).await.unwrap(), file.data);
    let stats = server.store().stats();
    assert_eq!((stats.ledger_errors, stats.corrupt_blobs), (0, 0));
}

/// Two clients that send one another's bytes: a refused upload must not poison its name.
#[tokio::test]
async fn reapi_96_a_refused_upload_does_not_poison_its_name() {
    let server = TestServer::start().await;
    let [right, wrong] = [1, 2].map(|seed| Blob::random(seed, 300_000));
    let name = right.write_name();
    for _ in 0..3 {
        assert!(server.write(&name, &wrong.data).await.is_err());
    }
    server.write(&name, &right.data).await.unwrap();
    assert_eq!(server.read(&right.read_name()).await.unwrap(), right.data);
}
