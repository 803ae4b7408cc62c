//! The probes follow the readiness that the other listener shares.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tower::ServiceExt as _;

use super::router;
use crate::operator::{Activity, Operator};
use crate::shutdown::Readiness;

async fn status_of(readiness: &Readiness, path: &str) -> StatusCode {
    let operator = Operator::new(Vec::new(), Activity::default(), readiness.clone());
    let request = Request::get(path).body(Body::empty()).unwrap();
    router(readiness.clone(), operator).oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn readyz_turns_503_while_draining_and_livez_does_not() {
    let readiness = Readiness::new();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::OK);
    readiness.start_draining();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of(&readiness, "/livez").await, StatusCode::OK);
    assert_eq!(status_of(&readiness, "/cas/x").await, StatusCode::NOT_FOUND);
}
