//! `/webdav/`: as much of `WebDAV` (RFC 4918) as caches need, for sccache and others.
//!
//! Collections are never stored: every path that ends with a slash is one and is there, so that
//! nothing can stand in the way of a PUT, and none has members to list. sccache reads and writes
//! `.sccache_check`, and asks with PROPFIND whether the collections above a name are there.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::Call;
use super::common::{empty, method_not_allowed, missing};
use crate::http::status::Refusal;
use crate::values::ValueName;

const ALLOWED: HeaderValue =
    HeaderValue::from_static("OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, MKCOL");
/// Collections are neither read nor removed.
const ALLOWED_ON_COLLECTION: HeaderValue = HeaderValue::from_static("OPTIONS, PROPFIND, MKCOL");
const DAV: HeaderName = HeaderName::from_static("dav");
const DEPTH: HeaderName = HeaderName::from_static("depth");
/// What a PROPFIND says that it wants; it gets everything there is.
const MAX_PROPFIND_BYTES: usize = 64 << 10;
/// The store keeps no times that mean anything to a client, and clients refuse an answer without.
const LAST_MODIFIED: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
const XML: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";

pub(super) async fn answer(call: Call<'_>) -> Result<Response, Refusal> {
    let method = call.parts.method.as_str();
    if method == "OPTIONS" {
        let headers = [(DAV, HeaderValue::from_static("1")), (ALLOW, ALLOWED)];
        return Ok((StatusCode::OK, headers).into_response());
    }
    let place = Place::of(&call)?;
    match (method, &place) {
        ("PROPFIND", place) => propfind(call, place).await,
        ("MKCOL", place) => mkcol(call, place).await,
        (_, Place::Collection) => Err(method_not_allowed(ALLOWED_ON_COLLECTION)),
        ("GET" | "HEAD" | "PUT" | "DELETE", Place::Item(name)) => {
            call.serve(name, StatusCode::CREATED).await
        }
        (_, Place::Item(_)) => Err(method_not_allowed(ALLOWED)),
    }
}

/// What a path names.
enum Place {
    Collection,
    Item(ValueName),
}

impl Place {
    fn of(call: &Call<'_>) -> Result<Self, Refusal> {
        let path = call.parts.uri.path();
        if is_root(path) {
            return Ok(Self::Collection);
        }
        // The rules for names hold for those of collections, too.
        let name = call.space.item(path.strip_suffix('/').unwrap_or(path))?;
        Ok(if path.ends_with('/') { Self::Collection } else { Self::Item(name) })
    }
}

fn is_root(path: &str) -> bool {
    matches!(path, "/webdav" | "/webdav/")
}

/// Says what is known about a path: whether it is a collection, and how long a value is.
async fn propfind(call: Call<'_>, place: &Place) -> Result<Response, Refusal> {
    let depth = call.parts.headers.get(DEPTH).map(HeaderValue::as_bytes);
    if !matches!(depth, Some(b"0" | b"1")) {
        let text = "<D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>";
        return Ok(xml(StatusCode::FORBIDDEN, text));
    }
    let mut length = 0;
    while let Some(data) = call.incoming.next().await? {
        length += data.len();
        if length > MAX_PROPFIND_BYTES {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long"));
        }
    }
    let properties = match place {
        Place::Collection => "<D:resourcetype><D:collection/></D:resourcetype>".to_owned(),
        Place::Item(name) => {
            let size_bytes = call.space.size_bytes(name).await?.ok_or_else(missing)?;
            format!(
                "<D:resourcetype/><D:getcontentlength>{size_bytes}</D:getcontentlength>\
                 <D:getcontenttype>application/octet-stream</D:getcontenttype>"
            )
        }
    };
    let text = format!(
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{}</D:href><D:propstat><D:prop>\
         {properties}<D:getlastmodified>{LAST_MODIFIED}</D:getlastmodified></D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>",
        escape(call.parts.uri.path())
    );
    Ok(xml(StatusCode::MULTI_STATUS, &text))
}

/// Makes a collection, which takes nothing to do.
async fn mkcol(call: Call<'_>, place: &Place) -> Result<Response, Refusal> {
    if call.incoming.next().await?.is_some() {
        let message = "MKCOL takes no body";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let is_taken = match place {
        Place::Collection => is_root(call.parts.uri.path()),
        Place::Item(name) => call.space.size_bytes(name).await?.is_some(),
    };
    if is_taken { Err(method_not_allowed(ALLOWED)) } else { Ok(empty(StatusCode::CREATED)) }
}

fn xml(status: StatusCode, text: &str) -> Response {
    let body = Body::from(format!("{XML}{text}"));
    (status, [(CONTENT_TYPE, "application/xml; charset=utf-8")], body).into_response()
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
