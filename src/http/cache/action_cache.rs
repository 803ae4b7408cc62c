//! `/ac/{hash}`: action results, validated and complete exactly as over gRPC, and the same ones.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::cas::build;
use super::conditions::{self, Condition};
use super::negotiation::wants_json;
use super::source::{Announced, Source};
use super::upload::stored;
use super::{Call, json};
use crate::action_cache::{ActionCacheError, InlineRequest, MAX_RESULT_BYTES};
use crate::digest::Digest;
use crate::http::body::{CHUNK_BYTES, Incoming};
use crate::http::status::Refusal;
use crate::store::StoreError;

/// A result up to this is small: however many come at once, they are no danger.
const SMALL_RESULT_BYTES: u64 = 64 << 10;

/// A larger result is not written as JSON: that would take one thread too long.
const MAX_JSON_BYTES: usize = 1 << 20;

/// How long a large result waits for its place.
const PLACE_WAIT: Duration = Duration::from_secs(10);

/// The digest of an action. Nobody says its size here, and no key has it.
fn action(call: &Call<'_>) -> Digest {
    Digest { function: call.function(), hash: call.hash, size_bytes: 0 }
}

/// Answers with the result of an action, if everything that it names is there.
pub(super) async fn fetch(call: Call<'_>) -> Result<Response, Refusal> {
    let action_cache = call.instance.action_cache()?;
    let found = action_cache.get(action(&call), &InlineRequest::default()).await?;
    let encoded = found.ok_or_else(|| Refusal::not_found("no complete result of this action"))?;
    // It is not what its action hashes to, and may be replaced.
    let hash = Digest::of(call.function(), &encoded).hash_hex();
    let is_json = wants_json(call.headers) && encoded.len() <= MAX_JSON_BYTES;
    let (content_type, etag, body) = if is_json {
        let json = json::action_result(&encoded).map_err(|error| {
            tracing::error!(%error, "a stored result is none");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the stored result cannot be read")
        })?;
        ("application/json", conditions::weak_etag(hash.as_str(), "json"), json.into())
    } else {
        ("application/octet-stream", conditions::etag(hash.as_str()), encoded)
    };
    let answer = Response::builder().header(ETAG, &etag).header(VARY, "accept");
    match conditions::check(call.headers, &etag) {
        Condition::NotModified => build(answer.status(StatusCode::NOT_MODIFIED), Body::empty()),
        Condition::Failed => {
            Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "the result has another tag"))
        }
        Condition::Holds => {
            let answer = answer.header(CONTENT_TYPE, content_type);
            let answer = answer.header(CONTENT_LENGTH, body.len());
            build(answer, if call.is_head { Body::empty() } else { whole(body, call.place) })
        }
    }
}

/// A body that is in memory. I22: a large one holds its place until it has been sent.
fn whole(body: Bytes, place: OwnedSemaphorePermit) -> Body {
    if body.len() <= CHUNK_BYTES {
        return Body::from(body);
    }
    Body::from_stream(stream::iter([body]).map(move |body| {
        let _held = &place;
        Ok::<_, Infallible>(body)
    }))
}

/// Stores the result of an action; the later one wins.
///
/// Cancel safe: a dropped call has stored the result or has not.
pub(super) async fn store(call: Call<'_>, incoming: &mut Incoming) -> Result<Response, Refusal> {
    let action_cache = call.instance.action_cache()?;
    if action_cache.is_read_only() {
        return Err(ActionCacheError::ReadOnly.into());
    }
    let announced = Announced::of(call.headers)?;
    check_size(announced.size_bytes.unwrap_or(0))?;
    let is_small = announced.size_bytes.is_some_and(|it| it <= SMALL_RESULT_BYTES);
    // I22: a result is whole in memory, so the large ones are counted.
    let _place = if is_small {
        None
    } else {
        let place = Arc::clone(&call.cache.large_results).acquire_owned();
        let too_many = || Refusal::retry_later("too many large results are on their way");
        let place = timeout(PLACE_WAIT, place).await.map_err(|_| too_many())?;
        Some(place.map_err(|_| too_many())?)
    };
    let mut encoded = BytesMut::new();
    let limit_bytes = announced.size_bytes.unwrap_or(MAX_RESULT_BYTES);
    let mut source = Source::new(call.cache, announced, incoming)?;
    source.read_into(&mut encoded, limit_bytes).await?;
    let received_bytes = encoded.len() as u64;
    check_size(received_bytes)?;
    if announced.size_bytes.is_some_and(|it| it != received_bytes) {
        let message = "the result is not as long as X-Digest-SizeBytes says";
        return Err(Refusal::bad_request(message));
    }
    action_cache.update(action(&call), encoded.freeze()).await?;
    Ok(stored())
}

fn check_size(size_bytes: u64) -> Result<(), Refusal> {
    let limit_bytes = MAX_RESULT_BYTES;
    if size_bytes > limit_bytes {
        return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
    }
    Ok(())
}
