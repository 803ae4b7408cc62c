//! `PUT /cas/{hash}`: bytes that must be what their hash says.

use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};

use super::Call;
use super::source::{Announced, Source};
use crate::cas::Cas;
use crate::digest::{Digest, Hasher};
use crate::http::body::{Incoming, unless_others_wait};
use crate::http::status::Refusal;
use crate::store::{BeginPut, StoreError, Upload};

/// A blob up to this is stored in one step.
const WHOLE_BYTES: u64 = 64 << 10;
/// What is read of a blob whose size nobody has said.
const UNANNOUNCED_BYTES: u64 = 1 << 20;

/// The answer to a PUT that has been stored.
pub(super) fn stored() -> Response {
    (StatusCode::OK, [(CONTENT_LENGTH, "0")]).into_response()
}

/// Stores a blob. A refused one leaves nothing; one that is there already is verified and dropped.
///
/// Cancel safe: a dropped call has stored the blob or has not.
pub(super) async fn store(call: Call<'_>, incoming: &mut Incoming) -> Result<Response, Refusal> {
    let announced = Announced::of(call.headers)?;
    let cas = call.instance.cas()?;
    let mut begun = BytesMut::new();
    if let Some(size_bytes) = announced.size_bytes {
        let digest = digest_of(&call, size_bytes)?;
        let source = Source::new(call.cache, announced, incoming)?;
        receive(cas, digest, begun, source).await?;
        return Ok(stored());
    }
    let mut source = Source::new(call.cache, announced, incoming)?;
    let size_bytes = if source.read_into(&mut begun, UNANNOUNCED_BYTES).await? {
        begun.len() as u64
    } else {
        source.announced_bytes().filter(|bytes| *bytes >= begun.len() as u64).ok_or_else(|| {
            let message = "X-Digest-SizeBytes is required: the zstd frame does not say its size";
            Refusal::new(StatusCode::LENGTH_REQUIRED, message)
        })?
    };
    receive(cas, digest_of(&call, size_bytes)?, begun, source).await?;
    Ok(stored())
}

/// The digest of a blob that can be stored.
fn digest_of(call: &Call<'_>, size_bytes: u64) -> Result<Digest, Refusal> {
    let limit_bytes = call.instance.cas()?.max_blob_bytes();
    if size_bytes > limit_bytes {
        return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
    }
    Ok(Digest::new(call.function(), call.hash, size_bytes)?)
}

/// Stores what has `begun` and what is still to come.
async fn receive(
    cas: &Cas,
    digest: Digest,
    mut begun: BytesMut,
    mut source: Source<'_>,
) -> Result<(), Refusal> {
    if digest.size_bytes <= WHOLE_BYTES {
        // What is more than announced is refused by the store, like what is less.
        source.read_into(&mut begun, digest.size_bytes).await?;
        return Ok(cas.put(digest, begun.freeze()).await?);
    }
    let mut sink = match cas.begin_upload(digest).await? {
        BeginPut::Upload(upload) => Sink::New(Box::new(upload)),
        BeginPut::AlreadyPresent => {
            Sink::Present { hasher: Hasher::new(digest.function), bytes: 0 }
        }
    };
    if !begun.is_empty() {
        sink.write(digest, begun.freeze()).await?;
    }
    let do_others_wait = || cas.is_waiting_for_room();
    while let Some(data) = unless_others_wait(source.next(), do_others_wait).await? {
        sink.write(digest, data).await?;
    }
    Ok(sink.finish(digest).await?)
}

/// Where the bytes of a blob go.
enum Sink {
    /// Into the store.
    New(Box<Upload>),
    /// Nowhere, for it has them; but what is acknowledged must be right.
    Present { hasher: Hasher, bytes: u64 },
}

impl Sink {
    async fn write(&mut self, digest: Digest, data: Bytes) -> Result<(), StoreError> {
        match self {
            Self::New(upload) => upload.write(data).await,
            Self::Present { hasher, bytes } => {
                *bytes += data.len() as u64;
                hasher.update(&data);
                if *bytes > digest.size_bytes { Err(wrong_size(digest, *bytes)) } else { Ok(()) }
            }
        }
    }

    async fn finish(self, digest: Digest) -> Result<(), StoreError> {
        match self {
            Self::New(upload) => upload.commit().await,
            Self::Present { bytes, .. } if bytes != digest.size_bytes => {
                Err(wrong_size(digest, bytes))
            }
            Self::Present { hasher, .. } => {
                let hash = hasher.finish();
                if hash == digest.hash {
                    return Ok(());
                }
                let actual = const_hex::encode(hash);
                Err(StoreError::HashMismatch { expected: digest, actual })
            }
        }
    }
}

fn wrong_size(digest: Digest, received_bytes: u64) -> StoreError {
    let expected_bytes = digest.size_bytes;
    StoreError::SizeMismatch { digest, expected_bytes, received_bytes }
}
