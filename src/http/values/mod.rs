//! Values that are no action results: a prefix for each kind of client.
//!
//! Decides who is let in and which protocol a path speaks. What a protocol says of a value is in
//! `common`; that of ccache and Gradle is nothing else.

mod common;
#[cfg(test)]
mod tests;
mod webdav;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, request};
use axum::response::Response;
use axum::routing::any;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Front;
use super::body::Incoming;
use super::options::HttpOptions;
use super::status::Refusal;
use crate::digest::HASH_BYTES;
use crate::shutdown::Readiness;
use crate::values::{ValueName, ValueNamespace, Values};

const NAMESPACES: [ValueNamespace; 3] =
    [ValueNamespace::Ccache, ValueNamespace::Gradle, ValueNamespace::Webdav];

/// What every request works on.
#[derive(Clone, Debug)]
struct Shelf {
    values: Option<Arc<Values>>,
    readiness: Readiness,
    options: Arc<HttpOptions>,
    /// I22: one place for each request under way.
    requests: Arc<Semaphore>,
}

/// The routes of all prefixes.
pub(super) fn routes(front: &Front) -> Router {
    let shelf = Shelf {
        values: front.values.clone(),
        readiness: front.readiness.clone(),
        options: Arc::new(front.options.clone()),
        requests: Arc::new(Semaphore::new(front.options.max_requests.min(Semaphore::MAX_PERMITS))),
    };
    let routes = NAMESPACES.into_iter().fold(Router::new(), |routes, namespace| {
        let serve = move |shelf: State<Shelf>, request: Request| serve(shelf, namespace, request);
        let prefix = namespace.prefix();
        // `any` takes the methods of WebDAV too. A collection may be named without its slash.
        let routes = routes.route(prefix.trim_end_matches('/'), any(serve));
        routes.route(prefix, any(serve)).route(&format!("{prefix}{{*name}}"), any(serve))
    });
    routes.with_state(shelf)
}

/// A request that is let in.
#[derive(Debug)]
struct Call<'r> {
    space: Space<'r>,
    parts: &'r request::Parts,
    incoming: &'r mut Incoming,
    place: OwnedSemaphorePermit,
}

/// The values of one namespace.
#[derive(Clone, Copy, Debug)]
struct Space<'r> {
    values: &'r Values,
    namespace: ValueNamespace,
}

async fn serve(
    State(shelf): State<Shelf>,
    namespace: ValueNamespace,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut incoming = Incoming::new(body, &shelf.options);
    let answered = answer(&shelf, namespace, &parts, &mut incoming).await;
    let response = incoming.answer(&parts.headers, answered);
    tracing::debug!(
        method = %parts.method,
        path = parts.uri.path(),
        status = response.status().as_u16(),
        "value request"
    );
    response
}

async fn answer(
    shelf: &Shelf,
    namespace: ValueNamespace,
    parts: &request::Parts,
    incoming: &mut Incoming,
) -> Result<Response, Refusal> {
    let values = shelf.values.as_deref().ok_or_else(off)?;
    if !shelf.readiness.is_ready() {
        return Err(Refusal::draining());
    }
    let place = Arc::clone(&shelf.requests).try_acquire_owned();
    let place = place.map_err(|_| Refusal::retry_later("too many requests are under way"))?;
    let call = Call { space: Space { values, namespace }, parts, incoming, place };
    match namespace {
        ValueNamespace::Webdav => webdav::answer(call).await,
        // ccache: any 2xx for a write, 404 for a miss. Its layouts are ways to spell keys:
        // `ac/<64 digits>`, `<key>`, `<ab>/<key>`. Gradle: `{url}/{key}`, and 413 is "too large, do
        // not send it again", while after most other errors it goes on without the cache.
        ValueNamespace::Ccache | ValueNamespace::Gradle | ValueNamespace::RawResults => {
            let item = call.space.item(parts.uri.path())?;
            call.serve(&item, StatusCode::OK).await
        }
    }
}

fn off() -> Refusal {
    let message = "values are off: --values-max-size is 0, or too small to be of use, or not \
                   said beside --compat, or a configuration file says what is served";
    Refusal::not_found(message)
}

/// Answers for a value that is named by a hash, whatever path that stands in.
pub(super) async fn raw_result(
    values: Option<&Values>,
    hash: [u8; HASH_BYTES],
    parts: &request::Parts,
    incoming: &mut Incoming,
    place: OwnedSemaphorePermit,
) -> Result<Response, Refusal> {
    let values = values.ok_or_else(off)?;
    let space = Space { values, namespace: ValueNamespace::RawResults };
    let call = Call { space, parts, incoming, place };
    call.serve(&ValueName::of_hash(hash), StatusCode::OK).await
}
