//! L3: the HTTP listener: the cache for clients that speak plain HTTP, values that are no action
//! results, the operator's page, and health probes.
//!
//! Owns the options of the wire and the assembly of its routes. What REAPI means is decided below;
//! what a failure is called is decided in `status`. It must never touch a store to answer a probe:
//! a slow disk is no reason to be restarted. Who wants to know whether the stores answer asks the
//! page in `health`.

mod activity;
pub mod admin;
mod body;
mod cache;
mod connections;
pub mod health;
mod metric;
pub mod metrics;
mod observe;
pub mod operator;
mod options;
mod status;
mod store_metrics;
#[cfg(test)]
mod tests;
mod tree_metrics;
mod values;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

pub use self::connections::{Connections, serve};
pub use self::observe::observed;
pub use self::options::HttpOptions;
use crate::instance::Instances;
use crate::shutdown::Readiness;
use crate::values::Values;

/// What the routes of the HTTP listener work on.
#[derive(Clone, Debug)]
pub struct Front {
    /// The instances that the cache serves.
    pub instances: Arc<Instances>,
    /// Values that are no action results; `None` answers that there are none.
    pub values: Option<Arc<Values>>,
    /// Whether new work is still welcome.
    pub readiness: Readiness,
    /// The bounds.
    pub options: HttpOptions,
}

/// The routes of the HTTP listener.
///
/// The cache is what all other paths lead to, because any prefix may name an instance.
pub fn router(front: Front) -> Router {
    let probes = probes(front.readiness.clone());
    Router::new().merge(probes).merge(values::routes(&front)).merge(cache::routes(front))
}

fn probes(readiness: Readiness) -> Router {
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
