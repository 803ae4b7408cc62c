//! L3: the admin API, on a listener of its own. `docs/admin.md` describes it.
//!
//! Purges are reachable here and nowhere else. Who may connect is the socket's affair; a web page
//! in the browser of somebody who may is kept out here.

mod listener;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::time::timeout;

pub use self::listener::serve;
use super::operator::{answer, explain, problem, refusal};
use crate::operator::{Operator, PurgeRequest};

/// Requests are a few words.
const MAX_BODY_BYTES: usize = 64 << 10;
/// How long they may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The routes of the admin API.
pub fn router(operator: Arc<Operator>) -> Router {
    Router::new()
        .route("/v1/stats", get(stats))
        .route("/v1/history", get(history))
        .route("/v1/why", get(why))
        .route("/v1/purge", post(purge))
        .with_state(operator)
}

async fn stats(State(operator): State<Arc<Operator>>) -> Response {
    answer(StatusCode::OK, &operator.status().await)
}

async fn history(State(operator): State<Arc<Operator>>) -> Response {
    answer(StatusCode::OK, &operator.history())
}

async fn why(State(operator): State<Arc<Operator>>, RawQuery(query): RawQuery) -> Response {
    explain(&operator, query.as_deref().unwrap_or_default()).await
}

async fn purge(State(operator): State<Arc<Operator>>, headers: HeaderMap, body: Body) -> Response {
    // A page of another site can make a browser send a form, but no JSON, and not without this.
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|it| it == "application/json");
    if headers.contains_key(ORIGIN) {
        return problem(StatusCode::FORBIDDEN, "not for browsers");
    }
    if !is_json {
        let text = "the content type is not application/json";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    // I23: who begins a request and never ends it holds a place that an operator may need.
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return problem(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long"),
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "the request does not end"),
    };
    let parsed = serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string());
    let request = match parsed.and_then(|json| PurgeRequest::parse(&json)) {
        Ok(request) => request,
        Err(text) => return problem(StatusCode::BAD_REQUEST, &text),
    };
    match operator.purge(&request).await {
        Ok(json) => answer(StatusCode::OK, &json),
        Err(error) => refusal(&error),
    }
}
