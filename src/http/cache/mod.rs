//! `/cas/{hash}` and `/ac/{hash}` behind any prefix, which is the instance name.
//!
//! Decides who is let in and who answers; what the answers are is decided in `cas`, `upload` and
//! `action_cache`. Names carry no digest function and no size: the one is an option, and the size
//! of a blob is what the store or the sender says.

mod action_cache;
mod cas;
mod compression;
mod conditions;
mod json;
mod negotiation;
mod path;
pub(super) mod range;
mod source;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::path::{Kind, Target};
use super::Front;
use super::body::Incoming;
use super::options::HttpOptions;
use super::status::Refusal;
use super::values;
use crate::digest::{DigestFunction, HASH_BYTES};
use crate::former::mangled_action_hash;
use crate::instance::{Instance, Instances};
use crate::shutdown::Readiness;
use crate::values::Values;

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What every request of the cache works on.
#[derive(Clone, Debug)]
struct Cache {
    instances: Arc<Instances>,
    /// Where results are kept that are none.
    values: Option<Arc<Values>>,
    readiness: Readiness,
    options: Arc<HttpOptions>,
    /// I22: one place for each request under way.
    requests: Arc<Semaphore>,
    /// One for each body that is compressed or decompressed.
    codecs: Arc<Semaphore>,
    /// One for each action result on its way in that is not small.
    large_results: Arc<Semaphore>,
}

/// The cache, as the fallback of whatever else there is.
pub(super) fn routes(front: Front) -> Router {
    let places = |number: usize| Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS)));
    let cache = Cache {
        requests: places(front.options.max_requests),
        codecs: places(front.options.max_codecs),
        large_results: places(front.options.max_large_results),
        instances: front.instances,
        values: front.values,
        readiness: front.readiness,
        options: Arc::new(front.options),
    };
    Router::new().fallback(serve).with_state(cache)
}

/// A request that has been understood, without its body.
#[derive(Debug)]
struct Call<'r> {
    cache: &'r Cache,
    instance: Instance,
    hash: [u8; HASH_BYTES],
    headers: &'r HeaderMap,
    is_head: bool,
    /// Whether a body of unknown length can end in an error: not before HTTP/1.1.
    can_chunk: bool,
    place: OwnedSemaphorePermit,
}

impl Call<'_> {
    /// The function of the hash.
    fn function(&self) -> DigestFunction {
        self.cache.options.default_digest_function
    }
}

/// What a value at `/ac/` is kept under: a hash of the client's own choice, the same in all
/// instances unless they are to be apart.
fn raw_result_hash(target: &Target, options: &HttpOptions) -> [u8; HASH_BYTES] {
    if options.raw_results_are_mangled {
        return mangled_action_hash(&target.hash, &target.instance_name);
    }
    target.hash
}

async fn serve(State(cache): State<Cache>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut incoming = Incoming::new(body, &cache.options);
    let answered = answer(&cache, &parts, &mut incoming).await;
    let response = incoming.answer(&parts.headers, answered);
    tracing::debug!(
        method = %parts.method,
        path = parts.uri.path(),
        status = response.status().as_u16(),
        "cache request"
    );
    response
}

async fn answer(
    cache: &Cache,
    parts: &request::Parts,
    incoming: &mut Incoming,
) -> Result<Response, Refusal> {
    let target = Target::parse(parts.uri.path(), cache.options.default_digest_function)?;
    let is_head = parts.method == Method::HEAD;
    let is_put = parts.method == Method::PUT;
    if !is_head && !is_put && parts.method != Method::GET {
        let message = "only GET, HEAD and PUT are served here";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, ALLOWED));
    }
    if !cache.readiness.is_ready() {
        return Err(Refusal::draining());
    }
    let place = Arc::clone(&cache.requests).try_acquire_owned();
    let place = place.map_err(|_| Refusal::retry_later("too many requests are under way"))?;
    if cache.options.keeps_raw_results && target.kind == Kind::ActionResult {
        let values = cache.values.as_deref();
        let hash = raw_result_hash(&target, &cache.options);
        return values::raw_result(values, hash, parts, incoming, place).await;
    }
    let call = Call {
        cache,
        instance: cache.instances.get(&target.instance_name)?,
        hash: target.hash,
        headers: &parts.headers,
        is_head,
        can_chunk: parts.version >= Version::HTTP_11,
        place,
    };
    match (target.kind, is_put) {
        (Kind::Blob, true) => upload::store(call, incoming).await,
        (Kind::Blob, false) => cas::fetch(call).await,
        (Kind::ActionResult, true) => action_cache::store(call, incoming).await,
        (Kind::ActionResult, false) => action_cache::fetch(call).await,
    }
}
