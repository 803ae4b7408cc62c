//! L3: the HTTP listener: whether the process lives and wants work, and the page of its operator.
//!
//! It must never touch a store to answer a probe: a slow disk is no reason to be restarted.

pub mod admin;
pub mod metrics;
mod observe;
pub mod operator;
mod store_metrics;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

pub use self::observe::observed;
use crate::shutdown::Readiness;

/// The routes of the HTTP listener.
pub fn router(readiness: Readiness) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(readiness)
}

/// Alive as long as it answers, also while draining.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    }
}
