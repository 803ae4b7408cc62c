//! `/webdav/`: as much of `WebDAV` (RFC 4918) as caches need, for sccache and others.
//!
//! Collections are never stored: every path that ends with a slash is one and is there, so that
//! nothing can stand in the way of a PUT, and none has members to list. sccache reads and writes
//! `.sccache_check`, and asks with PROPFIND whether the collections above a name are there.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http::StatusCode;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName};

use super::common::{Item, empty, serve_item};
use super::refusal::Refusal;
use crate::values::{ValueNamespace, Values};

const METHODS: &str = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, MKCOL";
/// Collections are neither read nor removed.
const COLLECTION_METHODS: &str = "OPTIONS, PROPFIND, MKCOL";
const DAV: HeaderName = HeaderName::from_static("dav");
const DEPTH: HeaderName = HeaderName::from_static("depth");
/// What a PROPFIND says that it wants; it gets everything there is.
const MAX_PROPFIND_BYTES: usize = 64 << 10;
/// The store keeps no times that mean anything to a client, and clients refuse an answer without.
const LAST_MODIFIED: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

pub(super) fn routes() -> Router<Arc<Values>> {
    Router::new()
        .route("/webdav", any(serve))
        .route("/webdav/", any(serve))
        .route("/webdav/{*name}", any(serve))
}

async fn serve(State(values): State<Arc<Values>>, request: Request) -> Result<Response, Refusal> {
    let method = request.method().as_str();
    if method == "OPTIONS" {
        return Ok((StatusCode::OK, [(DAV, "1"), (ALLOW, METHODS)]).into_response());
    }
    let path = request.uri().path().to_owned();
    let place = Place::new(values, &path)?;
    match (method, place) {
        ("PROPFIND", place) => propfind(&place, &path, request).await,
        ("MKCOL", place) => {
            let has_body = request.body().size_hint().exact() != Some(0);
            drop(request);
            mkcol(&place, &path, has_body).await
        }
        (_, Place::Collection) => Err(Refusal::method(COLLECTION_METHODS)),
        ("GET" | "HEAD" | "PUT" | "DELETE", Place::Item(item)) => {
            serve_item(&item, request, StatusCode::CREATED).await
        }
        (_, Place::Item(_)) => Err(Refusal::method(METHODS)),
    }
}

/// What a path names.
enum Place {
    Collection,
    Item(Item),
}

impl Place {
    fn new(values: Arc<Values>, path: &str) -> Result<Self, Refusal> {
        let prefix = ValueNamespace::Webdav.prefix();
        let Some(inside) = path.strip_prefix(prefix).filter(|inside| !inside.is_empty()) else {
            return Ok(Self::Collection);
        };
        // Collections have names that a value could have, too.
        let name = inside.strip_suffix('/').unwrap_or(inside);
        let item = Item::new(values, ValueNamespace::Webdav, &format!("{prefix}{name}"))?;
        Ok(if inside.ends_with('/') { Self::Collection } else { Self::Item(item) })
    }
}

/// Says what is known about a path: whether it is a collection, and how long a value is.
async fn propfind(place: &Place, path: &str, request: Request) -> Result<Response, Refusal> {
    let depth = request.headers().get(DEPTH).map(|depth| depth.as_bytes().to_ascii_lowercase());
    if !matches!(depth.as_deref(), Some(b"0" | b"1")) {
        let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
                    <D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>";
        return Ok(xml(StatusCode::FORBIDDEN, text.to_owned()));
    }
    if to_bytes(request.into_body(), MAX_PROPFIND_BYTES).await.is_err() {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long"));
    }
    let properties = match place {
        Place::Collection => "<D:resourcetype><D:collection/></D:resourcetype>".to_owned(),
        Place::Item(item) => {
            let size_bytes = item.size_bytes().await?.ok_or_else(Refusal::not_found)?;
            format!(
                "<D:resourcetype/><D:getcontentlength>{size_bytes}</D:getcontentlength>\
                 <D:getcontenttype>application/octet-stream</D:getcontenttype>"
            )
        }
    };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{}</D:href><D:propstat><D:prop>\
         {properties}<D:getlastmodified>{LAST_MODIFIED}</D:getlastmodified></D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>",
        escape(path)
    );
    Ok(xml(StatusCode::MULTI_STATUS, text))
}

/// Makes a collection, which takes nothing to do.
async fn mkcol(place: &Place, path: &str, has_body: bool) -> Result<Response, Refusal> {
    if has_body {
        let text = "MKCOL takes no body";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let is_taken = match place {
        Place::Collection => matches!(path, "/webdav" | "/webdav/"),
        Place::Item(item) => item.size_bytes().await?.is_some(),
    };
    if is_taken { Err(Refusal::method(METHODS)) } else { Ok(empty(StatusCode::CREATED)) }
}

fn xml(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "application/xml; charset=utf-8")], Body::from(text)).into_response()
}

/// Text as XML has it between tags.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}
