//! The page: what it may do, what it is made of, and how a digest is read from a query.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use base64::Engine as _;
use sha2::Digest as _;
use tower::ServiceExt as _;

use super::*;
use crate::operator::WatchedStores;
use crate::shutdown::Readiness;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_errors::RecentErrors;

/// An operator of no stores.
pub(in crate::http) fn operator() -> Arc<Operator> {
    let metrics = Metrics::new(RecentErrors::default());
    Operator::new(WatchedStores::default(), metrics, Readiness::new())
}

async fn get(path: &str) -> (Response, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let (head, body) = routes(operator()).oneshot(request).await.unwrap().into_parts();
    let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    (Response::from_parts(head, Body::empty()), text)
}

/// What is between two tags that are there once.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(begin).unwrap();
    let (inside, rest) = rest.split_once(end).unwrap();
    assert!(!rest.contains(begin) && !rest.contains(end), "{begin} is there twice");
    inside
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_load_nothing() {
    let (response, page) = get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    for (kind, begin, end) in
        [("script", "<script>", "</script>"), ("style", "<style>", "</style>")]
    {
        let hash = sha2::Sha256::digest(between(&page, begin, end));
        let hash = base64::engine::general_purpose::STANDARD.encode(hash);
        assert!(policy.contains(&format!("{kind}-src 'sha256-{hash}';")), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert!(page.is_ascii());
    // The one address in it names a language, and is not asked for.
    let foreign = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!foreign.contains("http:") && !foreign.contains("https:"), "something is loaded");
    for part in [" src=", "@import", "url(", " style=", " onclick", "/*STYLE*/", "/*SCRIPT*/"] {
        assert!(!page.contains(part), "{part}");
    }
}

#[tokio::test]
async fn the_script_makes_no_markup_of_what_it_is_told() {
    let (_, page) = get("/").await;
    let script = between(&page, "<script>", "</script>").replace(".innerHTML !== ", "");
    for way in
        ["innerHTML =", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
    {
        assert!(!script.contains(way), "{way}");
    }
    assert_eq!(script.matches("innerHTML").count(), 1, "it is compared, never set");
}

#[tokio::test]
async fn a_question_without_a_digest_is_refused_as_json() {
    for path in ["/status/why", "/status/why?digest=", "/status/why?digest=abc", "/status/why?x=1"]
    {
        let (response, text) = get(path).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        assert!(serde_json::from_str::<Value>(&text).unwrap()["error"].is_string(), "{text}");
    }
    let hash = "0123456789abcdef".repeat(4);
    for query in [format!("digest={hash}%2F12"), format!("a=b&digest=+blake3/{hash}/12%20")] {
        let (response, text) = get(&format!("/status/why?{query}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{text}");
        assert!(text.starts_with("{\"status\":\"unknown\""), "{text}");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn nothing_can_be_changed_here() {
    for path in ["/", "/status", "/status/history", "/status/why", "/v1/purge"] {
        let request = Request::post(path).body(Body::from("{\"all\":true}")).unwrap();
        let status = routes(operator()).oneshot(request).await.unwrap().status();
        let refused = [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_FOUND];
        assert!(refused.contains(&status), "{path}: {status}");
    }
}
