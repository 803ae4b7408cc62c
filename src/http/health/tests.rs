//! What a page says when a store fails, or does not answer.

use async_trait::async_trait;
use axum::body::to_bytes;
use bytes::Bytes;
use tower::ServiceExt as _;

use super::*;
use crate::digest::HASH_BYTES;
use crate::store::{BeginPut, BlobReader, ByteRange, Purged, Selection};

/// What a store does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Behavior {
    Good,
    Fails,
    Hangs,
}

#[derive(Debug)]
struct Stub(Behavior);

#[async_trait]
impl BlobStore for Stub {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        match self.0 {
            Behavior::Good => Ok(vec![true; keys.len()]),
            Behavior::Fails => Err(StoreError::Purged),
            Behavior::Hangs => std::future::pending().await,
        }
    }

    async fn get(&self, _: &Key, _: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        unreachable!()
    }

    async fn begin_put(&self, _: &Key, _: u64) -> Result<BeginPut, StoreError> {
        unreachable!()
    }

    async fn put(&self, _: &Key, _: Bytes) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn find_by_hash(
        &self,
        _: DigestFunction,
        _: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        unreachable!()
    }

    async fn remove(&self, _: &Key) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn purge_selected(&self, _: Selection) -> Result<Purged, StoreError> {
        unreachable!()
    }

    fn max_blob_bytes(&self) -> u64 {
        0
    }
}

fn pages(stores: &[(&str, Behavior)], readiness: &Readiness) -> Router {
    let stores = stores.iter().map(|(name, it)| {
        let store: Arc<dyn BlobStore> = Arc::new(Stub(*it));
        ((*name).to_owned(), store)
    });
    let check = HealthCheck::new(stores.collect(), Duration::from_secs(5), readiness.clone());
    let health = Some(("/status".to_owned(), check));
    with_pages(Router::new(), Pages { health, admin_path: Some("/admin".to_owned()) })
}

async fn ask(pages: Router, method: Method, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let answer = pages.oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 64 << 10).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test(start_paused = true)]
async fn i23_each_store_has_its_line_and_one_that_hangs_its_time() {
    let readiness = Readiness::new();
    let all_good = pages(&[("cas", Behavior::Good)], &readiness);
    let (status, report) = ask(all_good, Method::GET, "/status").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(report[0]["namespace"], "/server");
    assert_eq!(report[1]["namespace"], "/stores/cas");
    assert!(report[1]["status"]["Ok"]["message"].is_string());

    let stores = [("a", Behavior::Good), ("b", Behavior::Fails), ("c", Behavior::Hangs)];
    let (status, report) = ask(pages(&stores, &readiness), Method::GET, "/status").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(report[1]["status"]["Ok"].is_object());
    assert!(report[2]["status"]["Failed"]["message"].is_string());
    assert!(report[3]["status"]["Timeout"].is_object());
}

/// Whoever is asked often while it hangs stands in nobody's way.
#[tokio::test(start_paused = true)]
async fn i22_questions_to_a_store_that_hangs_wait_for_their_turn_and_no_other_store_does() {
    let stores = [("good", Behavior::Good), ("hangs", Behavior::Hangs)];
    let pages = pages(&stores, &Readiness::new());
    let asked = (0..4 * MAX_QUESTIONS).map(|_| ask(pages.clone(), Method::GET, "/status"));
    for (status, report) in join_all(asked).await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(report[1]["status"]["Ok"].is_object(), "{report}");
        assert!(report[2]["status"]["Timeout"].is_object(), "{report}");
    }
}

#[tokio::test]
async fn a_server_that_drains_is_not_well() {
    let readiness = Readiness::new();
    let pages = pages(&[("cas", Behavior::Good)], &readiness);
    readiness.start_draining();
    let (status, report) = ask(pages, Method::GET, "/status").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(report[0]["status"]["Failed"]["message"], "draining");
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let pages = pages(&[], &Readiness::new());
    let (status, nothing) = ask(pages.clone(), Method::HEAD, "/status").await;
    assert_eq!((status, nothing), (StatusCode::OK, Value::Null));
    let (status, _) = ask(pages.clone(), Method::POST, "/status").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (status, why) =
        ask(pages.clone(), Method::POST, "/admin/scheduler/s/set_drain_worker/w/1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(why["error"].as_str().unwrap().contains("no scheduler"));
    for path in ["/", "/administration", "/google.bytestream.ByteStream/Read"] {
        let (status, _) = ask(pages.clone(), Method::GET, path).await;
        assert_eq!(status, StatusCode::HTTP_VERSION_NOT_SUPPORTED, "{path}");
    }
}
