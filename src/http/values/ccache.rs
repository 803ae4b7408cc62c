//! `/ccache/`: the HTTP storage of ccache.
//!
//! Every layout is only a way to spell keys: `ac/<64 hexadecimal digits>` with `layout=bazel`,
//! `<key>` with `flat`, `<ab>/<key>` with `subdirs`; more segments before them are welcome, as for
//! one prefix a project. ccache wants any 2xx for what it writes, and 404 for a miss.

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
    Router::new().route("/ccache/{*name}", any(serve))
}

async fn serve(State(values): State<Arc<Values>>, request: Request) -> Result<Response, Refusal> {
    let item = Item::new(values, ValueNamespace::Ccache, request.uri().path())?;
    serve_item(&item, request, StatusCode::OK).await
}
