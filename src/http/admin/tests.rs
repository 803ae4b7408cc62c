//! The admin API: what it refuses before anything is purged.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt as _;

use super::*;
use crate::http::operator::tests::operator;

async fn purge(body: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = Request::post("/v1/purge");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = router(operator()).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_web_page_cannot_purge() {
    let (status, _) = purge("{\"all\":true}", &[("content-type", "text/plain")]).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, _) = purge("{\"all\":true}", &[]).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, _) = purge("{\"all\":true}", &[JSON, ("origin", "http://localhost")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, json) = purge("{\"all\":true,\"dry_run\":true}", &[JSON]).await;
    assert_eq!(status, StatusCode::OK);
    let nothing = serde_json::json!({ "dry_run": true, "entries": 0, "charged_bytes": 0 });
    assert_eq!(json, nothing);
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_the_reason() {
    for (body, reason) in [
        ("", "EOF"),
        ("{\"all\":true", "EOF"),
        ("{\"all\":true,\"dry-run\":true}", "\"dry-run\" is none of"),
        ("{}", "say one of"),
    ] {
        let (status, json) = purge(body, &[JSON]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(json["error"].as_str().unwrap().contains(reason), "{json}");
    }
    let (status, _) = purge(&" ".repeat(MAX_BODY_BYTES + 1), &[JSON]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_given_up() {
    let never = futures_util::stream::pending::<Result<&str, std::io::Error>>();
    let request = Request::post("/v1/purge").header(JSON.0, JSON.1);
    let request = request.body(Body::from_stream(never)).unwrap();
    let response = router(operator()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}
