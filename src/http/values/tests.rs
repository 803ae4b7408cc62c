//! What clients of each protocol are answered, without a socket.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use tower::ServiceExt as _;

use crate::former::mangled_action_hash;
use crate::http::{Front as HttpFront, HttpOptions, router};
use crate::instance::Instances;
use crate::shutdown::Readiness;
use crate::store::filesystem::{Cap, Cleanup, FilesystemOptions, FilesystemStore};
use crate::values::Values;

const MAX_VALUE_BYTES: u64 = 2 << 20;
const PREFIXES: [&str; 3] = ["/ccache/", "/gradle/", "/webdav/"];

/// Everything that the HTTP listener serves, with these values.
fn routes(values: Option<Arc<Values>>, options: HttpOptions) -> Router {
    let instances = Arc::new(Instances::named(HashMap::new()));
    let readiness = Readiness::new();
    router(HttpFront { instances, values, readiness, options })
}

struct Front {
    routes: Router,
    store: Arc<FilesystemStore>,
    _directory: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

impl Front {
    async fn open() -> Self {
        Self::with(HttpOptions::default()).await
    }

    async fn with(http: HttpOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = FilesystemOptions::new(directory.path(), Cap::Bytes(16 << 20));
        let store = FilesystemStore::open(options).await.unwrap();
        let values = Values::new(Arc::<FilesystemStore>::clone(&store), MAX_VALUE_BYTES);
        Self { routes: routes(Some(Arc::new(values)), http), store, _directory: directory }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[]).await
    }

    async fn put(&self, path: &str, body: impl Into<Bytes>) -> StatusCode {
        let body = body.into();
        let request = Request::put(path).header("content-length", body.len());
        self.send(request.body(Body::from(body)).unwrap()).await.status
    }
}

#[tokio::test]
async fn what_is_put_is_got_until_it_is_replaced_or_deleted() {
    let front = Front::open().await;
    for prefix in PREFIXES {
        let path = format!("{prefix}ab/key");
        assert_eq!(front.get(&path).await.status, StatusCode::NOT_FOUND);
        for data in ["first", "", "second, longer"] {
            assert!(front.put(&path, data).await.is_success(), "{path}");
            let answer = front.get(&path).await;
            assert_eq!((answer.status, answer.text()), (StatusCode::OK, data));
            assert_eq!(answer.header("content-length"), data.len().to_string());
            let answer = front.call("HEAD", &path, &[]).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-length"), data.len().to_string());
            assert!(answer.body.is_empty());
        }
        assert_eq!(front.call("DELETE", &path, &[]).await.status, StatusCode::NO_CONTENT);
        for method in ["GET", "HEAD", "DELETE"] {
            assert_eq!(front.call(method, &path, &[]).await.status, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn values_at_ac_are_those_of_one_instance_where_they_are_to_be_apart() {
    let hash = "ab".repeat(32);
    for raw_results_are_mangled in [false, true] {
        let options = HttpOptions {
            keeps_raw_results: true,
            raw_results_are_mangled,
            ..HttpOptions::default()
        };
        let front = Front::with(options).await;
        let [one, other, none] = ["/a", "/b/c", ""].map(|it| format!("{it}/ac/{hash}"));
        assert_eq!(front.put(&one, "value of a").await, StatusCode::OK);
        assert_eq!(front.get(&one).await.text(), "value of a");
        let found = if raw_results_are_mangled { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(front.get(&other).await.status, found);
        assert_eq!(front.get(&none).await.status, found);
    }
    // As bazel-remote has them: the hash of an instance is found without one, too.
    let options = HttpOptions {
        keeps_raw_results: true,
        raw_results_are_mangled: true,
        ..HttpOptions::default()
    };
    let front = Front::with(options).await;
    let mangled = const_hex::encode(mangled_action_hash(&[0xab; 32], "b/c"));
    assert_eq!(front.put(&format!("/ac/{mangled}"), "adopted").await, StatusCode::OK);
    assert_eq!(front.get(&format!("/b/c/ac/{hash}")).await.text(), "adopted");
}

#[tokio::test]
async fn a_value_of_many_chunks_is_streamed_whole() {
    let front = Front::open().await;
    let data: Vec<u8> = (0..1_500_007_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(front.put("/ccache/large", data.clone()).await, StatusCode::OK);
    assert_eq!(front.get("/ccache/large").await.body, data);
    let headers = [("range", "bytes=300000-1400000")];
    let answer = front.call("GET", "/ccache/large", &headers).await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.body, data[300_000..=1_400_000]);
}

#[tokio::test]
async fn one_range_is_served_and_other_forms_are_the_whole() {
    let front = Front::open().await;
    assert_eq!(front.put("/gradle/k", "0123456789").await, StatusCode::OK);
    // What a range is, the cache's own tests say.
    for (range, body, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
        ("bytes=0-1,3-4", "0123456789", ""),
    ] {
        let answer = front.call("GET", "/gradle/k", &[("range", range)]).await;
        assert_eq!((answer.text(), answer.header("content-range")), (body, content_range));
        assert_eq!(answer.status == StatusCode::PARTIAL_CONTENT, !content_range.is_empty());
    }
    for range in ["bytes=10-", "bytes=-0"] {
        let answer = front.call("GET", "/gradle/k", &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(answer.header("content-range"), "bytes */10");
    }
}

#[tokio::test]
async fn a_length_is_required_and_bounded() {
    let front = Front::open().await;
    let without = Request::put("/ccache/a").body(Body::empty()).unwrap();
    assert_eq!(front.send(without).await.status, StatusCode::LENGTH_REQUIRED);
    let stream = futures_util::stream::iter([Ok::<_, std::io::Error>("data")]);
    let chunked = Request::put("/ccache/a").body(Body::from_stream(stream)).unwrap();
    assert_eq!(front.send(chunked).await.status, StatusCode::LENGTH_REQUIRED);
    let large = vec![7; usize::try_from(MAX_VALUE_BYTES).unwrap() + 1];
    for prefix in PREFIXES {
        let path = format!("{prefix}a");
        assert_eq!(front.put(&path, large.clone()).await, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(front.put(&path, large[1..].to_vec()).await.is_success());
    }
}

#[tokio::test]
async fn names_that_climb_or_hide_are_refused_everywhere() {
    let front = Front::open().await;
    for prefix in PREFIXES {
        for name in ["../ac/x", "%2e%2e/x", "a/%2e/b", "a//b", "a%2F%2Fb", "a%00b", "a%zz", "..%2f"]
        {
            let path = format!("{prefix}{name}");
            assert_eq!(front.get(&path).await.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(front.put(&path, "x").await, StatusCode::BAD_REQUEST, "{path}");
            let answer = front.call("DELETE", &path, &[]).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }
    assert_eq!(front.store.stats().entries, 0);
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_served() {
    let front = Front::open().await;
    for (path, allowed) in [
        ("/ccache/a", "GET, HEAD, PUT, DELETE"),
        ("/gradle/a", "GET, HEAD, PUT, DELETE"),
        ("/webdav/a", "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, MKCOL"),
    ] {
        for method in ["POST", "PATCH", "LOCK", "COPY", "MOVE"] {
            let answer = front.call(method, path, &[]).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.header("allow"), allowed);
        }
    }
    for method in ["GET", "PUT", "DELETE", "MOVE"] {
        let answer = front.call(method, "/webdav/a/", &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), "OPTIONS, PROPFIND, MKCOL");
    }
}

#[tokio::test]
async fn webdav_says_what_it_is() {
    let front = Front::open().await;
    for path in ["/webdav", "/webdav/", "/webdav/a", "/webdav/a/b/"] {
        let answer = front.call("OPTIONS", path, &[]).await;
        assert_eq!((answer.status, answer.header("dav")), (StatusCode::OK, "1"), "{path}");
        assert!(answer.header("allow").contains("PROPFIND"));
    }
}

#[tokio::test]
async fn propfind_finds_collections_everywhere_and_values_where_they_are() {
    let front = Front::open().await;
    assert_eq!(front.put("/webdav/a/b&c%3C", "12345").await, StatusCode::CREATED);
    for path in ["/webdav", "/webdav/", "/webdav/a/", "/webdav/never/"] {
        for depth in ["0", "1"] {
            let answer = front.call("PROPFIND", path, &[("depth", depth)]).await;
            assert_eq!(answer.status, StatusCode::MULTI_STATUS, "{path}");
            let text = answer.text();
            assert!(text.contains(&format!("<D:href>{path}</D:href>")), "{text}");
            assert!(text.contains("<D:collection/>") && text.contains("getlastmodified"));
        }
    }
    let answer = front.call("PROPFIND", "/webdav/a/b&c%3C", &[("depth", "0")]).await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS);
    let text = answer.text();
    assert!(text.contains("<D:href>/webdav/a/b&amp;c%3C</D:href>"), "{text}");
    assert!(text.contains("<D:getcontentlength>5</D:getcontentlength>"), "{text}");
    assert!(!text.contains("collection"), "{text}");
    let answer = front.call("PROPFIND", "/webdav/a/b", &[("depth", "0")]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    for headers in [&[][..], &[("depth", "infinity")]] {
        let answer = front.call("PROPFIND", "/webdav/", headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.text().contains("propfind-finite-depth"));
    }
}

#[tokio::test]
async fn the_body_of_a_propfind_is_bounded_and_not_read() {
    let front = Front::open().await;
    for (len, status) in [(1000, StatusCode::MULTI_STATUS), (65_537, StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let request = Request::builder().method("PROPFIND").uri("/webdav/").header("depth", "1");
        let answer = front.send(request.body(Body::from("<".repeat(len))).unwrap()).await;
        assert_eq!(answer.status, status, "{len}");
    }
}

#[tokio::test]
async fn collections_need_not_be_made_and_can_be() {
    let front = Front::open().await;
    assert_eq!(front.put("/webdav/file", "x").await, StatusCode::CREATED);
    for (path, status) in [
        ("/webdav/a/", StatusCode::CREATED),
        ("/webdav/a", StatusCode::CREATED),
        ("/webdav/", StatusCode::METHOD_NOT_ALLOWED),
        ("/webdav/file", StatusCode::METHOD_NOT_ALLOWED),
        ("/webdav/../a/", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(front.call("MKCOL", path, &[]).await.status, status, "{path}");
    }
    let request = Request::builder().method("MKCOL").uri("/webdav/a/").body(Body::from("x"));
    let answer = front.send(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(front.store.stats().entries, 1);
}

#[tokio::test]
async fn without_values_the_answer_names_the_flag() {
    let front = Front { routes: routes(None, HttpOptions::default()), ..Front::open().await };
    for prefix in PREFIXES {
        let bare = prefix.trim_end_matches('/');
        for path in [bare.to_owned(), prefix.to_owned(), format!("{prefix}a/b")] {
            let answer = front.get(&path).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
            assert!(answer.text().contains("--values-max-size"), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_store_that_stops_asks_to_come_again() {
    let front = Front::open().await;
    front.store.shutdown(Cleanup::Keep).await.unwrap();
    let request = Request::put("/ccache/a").header("content-length", 1).body(Body::from("x"));
    let answer = front.send(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "1");
}
