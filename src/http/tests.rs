//! The probes follow the readiness that the other listener shares; every error has its status.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use tower::ServiceExt as _;

use super::status::Refusal;
use super::{Front, HttpOptions, router};
use crate::action_cache::ActionCacheError;
use crate::digest::{Digest, DigestFunction};
use crate::instance::Instances;
use crate::shutdown::Readiness;
use crate::store::StoreError;

async fn status_of(readiness: &Readiness, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let front = Front {
        instances: Arc::new(Instances::named(HashMap::new())),
        readiness: readiness.clone(),
        options: HttpOptions::default(),
    };
    router(front).oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn readyz_turns_503_while_draining_and_livez_does_not() {
    let readiness = Readiness::new();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::OK);
    readiness.start_draining();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of(&readiness, "/livez").await, StatusCode::OK);
    assert_eq!(status_of(&readiness, "/nothing").await, StatusCode::NOT_FOUND);
}

#[test]
fn reapi_h9_every_error_has_its_status() {
    let digest = Digest::of(DigestFunction::Sha256, b"x");
    let io = |error: i32| StoreError::Io {
        operation: "open",
        source: std::io::Error::from_raw_os_error(error),
    };
    let errors = [
        (StoreError::HashMismatch { expected: digest, actual: String::new() }, 400, false),
        (StoreError::SizeMismatch { digest, expected_bytes: 1, received_bytes: 2 }, 400, false),
        (StoreError::TooLarge { size_bytes: 2, limit_bytes: 1 }, 413, false),
        (StoreError::NoSpace { size_bytes: 1, reason: "" }, 507, true),
        (StoreError::Corrupt { key: String::new() }, 500, false),
        (StoreError::Purged, 503, true),
        (StoreError::TooManyPurges, 503, true),
        (StoreError::ShuttingDown, 503, true),
        // Out of descriptors, then a failing disk.
        (io(24), 503, true),
        (io(5), 500, false),
    ];
    for (error, status, is_temporary) in errors {
        let what = error.to_string();
        let response = Refusal::from(ActionCacheError::Store(error)).into_response();
        assert_eq!(response.status().as_u16(), status, "{what}");
        assert_eq!(response.headers().contains_key("retry-after"), is_temporary, "{what}");
    }
}
