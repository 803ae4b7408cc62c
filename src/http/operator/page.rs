//! The page: one document with its style and its script inside, put together at the start.

use axum::body::Bytes;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::common;

const DOCUMENT: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One script, in the order of what uses what.
const SCRIPTS: [&str; 3] =
    [include_str!("page_parts.js"), include_str!("page_charts.js"), include_str!("page.js")];

/// The page and its policy.
#[derive(Clone, Debug)]
pub(super) struct Page {
    document: Bytes,
    policy: HeaderValue,
}

impl Page {
    pub(super) fn new() -> Self {
        let script = SCRIPTS.concat();
        // By hash, not by place: blobs that clients have stored are at this origin too.
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; \
             connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            source(&script),
            source(STYLE)
        );
        let document = DOCUMENT.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", &script);
        let refused = HeaderValue::from_static("default-src 'none'");
        let policy = HeaderValue::from_str(&policy).unwrap_or(refused);
        Self { document: document.into(), policy }
    }

    pub(super) fn response(&self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, self.policy.clone()),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        (headers, common(), self.document.clone()).into_response()
    }
}

fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
