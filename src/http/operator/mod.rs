//! L3: the page for people, and what it reads: `/`, `/status`, `/status/history`, `/status/why`.
//!
//! Read-only: whoever reaches the HTTP listener may look. What it says comes from clients in part
//! (names of tools and instances), so the page never makes markup of it, and may run no script but
//! its own.

mod page;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};

use self::page::Page;
use crate::operator::{Operator, OperatorError};
use crate::store::filesystem::Wanted;

/// What every answer says: it is of this moment, and is what it says it is.
fn common() -> [(HeaderName, HeaderValue); 2] {
    [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]
}

/// The routes of the page and of what it reads.
pub fn routes(operator: Arc<Operator>) -> Router {
    let page = Page::new();
    Router::new()
        .route("/", get(move || std::future::ready(page.response())))
        .route("/status", get(status))
        .route("/status/history", get(history))
        .route("/status/why", get(why))
        .with_state(operator)
}

async fn status(State(operator): State<Arc<Operator>>) -> Response {
    answer(StatusCode::OK, &operator.status().await)
}

async fn history(State(operator): State<Arc<Operator>>) -> Response {
    answer(StatusCode::OK, &operator.history())
}

async fn why(State(operator): State<Arc<Operator>>, RawQuery(query): RawQuery) -> Response {
    explain(&operator, query.as_deref().unwrap_or_default()).await
}

/// What is known about the digest in a query.
pub(super) async fn explain(operator: &Operator, query: &str) -> Response {
    let Some(digest) = digest_in(query) else {
        return problem(StatusCode::BAD_REQUEST, "say which: ?digest=HASH/SIZE");
    };
    let wanted = match Wanted::parse(digest.trim()) {
        Ok(wanted) => wanted,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match operator.explain(&wanted).await {
        Ok(json) => answer(StatusCode::OK, &json),
        Err(error) => refusal(&error),
    }
}

/// The value of `digest`. Of what a query writes in a special way a digest has only the slash, and
/// a blank around it where somebody copied too much.
fn digest_in(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|field| field.strip_prefix("digest="))?;
    Some(value.replace("%2F", "/").replace("%2f", "/").replace("%20", " ").replace('+', " "))
}

pub(super) fn refusal(error: &OperatorError) -> Response {
    match error {
        OperatorError::Busy => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        OperatorError::Store { .. } => {
            tracing::warn!(%error, "an operator got no answer");
            problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}

/// Why there is no answer, as `{"error": TEXT}`.
pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({ "error": text }))
}

/// An answer as JSON.
pub(super) fn answer(status: StatusCode, json: &Value) -> Response {
    let kind = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut body = json.to_string();
    body.push('\n');
    (status, [kind], common(), body).into_response()
}
