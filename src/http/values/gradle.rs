//! `/gradle/`: Gradle's HTTP build cache, `{url}/{key}`.
//!
//! Gradle takes 413 as "too large, do not send it again" and goes on; after most other errors it
//! does not use the cache for the rest of the build. With `useExpectContinue` it waits for the
//! answer to the head before it sends a body.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;

use super::common::{Item, serve_item};
use super::refusal::Refusal;
use crate::values::{ValueNamespace, Values};

pub(super) fn routes() -> Router<Arc<Values>> {
    Router::new().route("/gradle/{*name}", any(serve))
}

async fn serve(State(values): State<Arc<Values>>, request: Request) -> Result<Response, Refusal> {
    let item = Item::new(values, ValueNamespace::Gradle, request.uri().path())?;
    serve_item(&item, request, StatusCode::OK).await
}
