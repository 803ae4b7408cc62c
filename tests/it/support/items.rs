//! Blobs and action results that a number stands for, so that a test can send many of them, keep
//! none, and still know every byte.

use std::collections::HashSet;

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction};
use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest, FindMissingBlobsRequest,
    GetActionResultRequest, UpdateActionResultRequest,
};
use castellan_proto::v2;
use prost::Message as _;
use tonic::{Code, Status};

use super::client::whole;
use super::{Blob, Client, wire};

/// What goes in a batch; everything longer is a stream.
const BATCH_BYTES: usize = 8 << 10;
/// Digests in one request.
const DIGESTS: usize = 20_000;

/// How long the blobs are: of a hundred items so many of each size, the rest action results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Up to 8 KiB, in batches.
    pub(crate) small: u32,
    /// About 100 KiB.
    pub(crate) medium: u32,
    /// About 2 MiB.
    pub(crate) large: u32,
}

/// A blob, or an action and its result.
pub(crate) struct Item {
    /// The blob, or the action.
    pub(crate) digest: Digest,
    /// What is stored: the blob, or the encoded result.
    pub(crate) value: Bytes,
    pub(crate) is_result: bool,
}

impl Item {
    /// The item of a seed.
    pub(crate) fn of(seed: u64, mix: Mix) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let function = DigestFunction::ALL[usize::from(random.bool())];
        let mut draw = random.u32(..100);
        for (share, most) in [(mix.small, BATCH_BYTES), (mix.medium, 200 << 10)] {
            if draw < share {
                let len = random.usize(1..=most);
                return Self::blob(function, seed, len);
            }
            draw -= share;
        }
        if draw < mix.large {
            return Self::blob(function, seed, random.usize(1 << 20..3 << 20));
        }
        let action = Blob::with(function, Blob::random(seed, 32).data);
        let result = v2::ActionResult {
            stdout_raw: Blob::random(seed, random.usize(..1000)).data.into(),
            exit_code: 1,
            ..v2::ActionResult::default()
        };
        let value = result.encode_to_vec().into();
        Self { digest: action.digest, value, is_result: true }
    }

    fn blob(function: DigestFunction, seed: u64, len: usize) -> Self {
        let blob = Blob::with(function, Blob::random(seed, len).data);
        Self { digest: blob.digest, value: blob.data, is_result: false }
    }

    /// Stores it the way a client would that has it.
    pub(crate) async fn put(&self, client: &Client) -> Result<(), Status> {
        if self.is_result {
            let request = UpdateActionResultRequest {
                action_digest: Some(wire(&self.digest)),
                action_result: Some(self.value.clone()),
                digest_function: self.digest.function.to_wire(),
                ..UpdateActionResultRequest::default()
            };
            let mut results = ActionCacheClient::new(client.channel());
            return results.update_action_result(request).await.map(drop);
        }
        if self.value.len() > BATCH_BYTES {
            let name = format!("uploads/{}/blobs/{}", uuid::Uuid::new_v4(), self.segments());
            let committed = client.write(whole(&name, &self.value)).await?;
            assert_eq!(committed, i64::try_from(self.value.len()).unwrap());
            return Ok(());
        }
        let request = BatchUpdateBlobsRequest {
            requests: vec![BatchUpdateBlob {
                digest: Some(wire(&self.digest)),
                data: self.value.clone(),
                compressor: 0,
            }],
            digest_function: self.digest.function.to_wire(),
            ..BatchUpdateBlobsRequest::default()
        };
        let reply = cas(client).batch_update_blobs(request).await?.into_inner();
        let status = reply.responses[0].status.as_ref().unwrap();
        if status.code == 0 { Ok(()) } else { Err(of_wire(status.code, &status.message)) }
    }

    /// Reads it; `None` where it is absent. Panics at a wrong byte.
    pub(crate) async fn get(&self, client: &Client) -> Result<Option<()>, Status> {
        let found = match self.bytes(client).await {
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            outcome => outcome?,
        };
        assert!(found == self.value, "wrong bytes of {}: {}", self.digest, found.len());
        Ok(Some(()))
    }

    async fn bytes(&self, client: &Client) -> Result<Bytes, Status> {
        let digest_function = self.digest.function.to_wire();
        if self.is_result {
            let request = GetActionResultRequest {
                action_digest: Some(wire(&self.digest)),
                digest_function,
                ..GetActionResultRequest::default()
            };
            let mut results = ActionCacheClient::new(client.channel());
            return Ok(results.get_action_result(request).await?.into_inner().encoded);
        }
        if self.value.len() > BATCH_BYTES {
            return client.read(&format!("blobs/{}", self.segments())).await;
        }
        let request = BatchReadBlobsRequest {
            digests: vec![wire(&self.digest)],
            digest_function,
            ..BatchReadBlobsRequest::default()
        };
        let mut reply = cas(client).batch_read_blobs(request).await?.into_inner();
        let outcome = reply.responses.remove(0);
        let status = outcome.status.unwrap_or_default();
        if status.code == 0 { Ok(outcome.data) } else { Err(of_wire(status.code, &status.message)) }
    }

    /// The digest as resource names have it.
    fn segments(&self) -> String {
        let function = self.digest.function.path_segment();
        let function = function.map(|it| format!("{it}/")).unwrap_or_default();
        let digest = &self.digest;
        format!("{function}{}/{}", digest.hash_hex().as_str(), digest.size_bytes)
    }
}

/// Those of these blobs that the server says it has; asks for all of a function at once.
pub(crate) async fn find_present(client: &Client, digests: &[Digest]) -> HashSet<Digest> {
    let mut present: HashSet<Digest> = digests.iter().copied().collect();
    for function in DigestFunction::ALL {
        let asked: Vec<_> = digests.iter().filter(|it| it.function == function).collect();
        for part in asked.chunks(DIGESTS) {
            let request = FindMissingBlobsRequest {
                blob_digests: part.iter().map(|digest| wire(digest)).collect(),
                digest_function: function.to_wire(),
                ..FindMissingBlobsRequest::default()
            };
            let reply = cas(client).find_missing_blobs(request).await.unwrap().into_inner();
            for missing in reply.missing_blob_digests {
                let mut hash = [0; 32];
                const_hex::decode_to_slice(&missing.hash, &mut hash).unwrap();
                let size_bytes = u64::try_from(missing.size_bytes).unwrap();
                assert!(present.remove(&Digest { function, hash, size_bytes }), "{missing:?}");
            }
        }
    }
    present
}

fn cas(client: &Client) -> ContentAddressableStorageClient<tonic::transport::Channel> {
    ContentAddressableStorageClient::new(client.channel()).max_decoding_message_size(64 << 20)
}

fn of_wire(code: i32, message: &str) -> Status {
    Status::new(Code::from_i32(code), message)
}
