//! Values that are no action results, over HTTP: a prefix for each kind of client.
//!
//! A protocol is a file; what they have in common is `common.rs`.

mod ccache;
mod common;
mod gradle;
mod refusal;
#[cfg(test)]
mod tests;
mod webdav;

use std::sync::Arc;

use axum::Router;
use axum::routing::any;

use crate::values::{ValueNamespace, Values};
use refusal::Refusal;

/// The routes of all prefixes; without values they say why there are none.
pub fn routes(values: Option<Arc<Values>>) -> Router {
    match values {
        Some(values) => {
            let routes = ccache::routes().merge(gradle::routes()).merge(webdav::routes());
            routes.with_state(values)
        }
        None => [ValueNamespace::Ccache, ValueNamespace::Gradle, ValueNamespace::Webdav]
            .into_iter()
            .fold(Router::new(), |router, namespace| {
                let prefix = namespace.prefix();
                let off = || async { Refusal::off() };
                router.route(&format!("{prefix}{{*name}}"), any(off)).route(prefix, any(off))
            }),
    }
}
