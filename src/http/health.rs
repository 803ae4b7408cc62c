//! Pages beside the services of a gRPC listener, at paths of the operator's choice: whether the
//! stores answer, and where a scheduler would be told things.
//!
//! Unlike the probes of the HTTP listener this asks the stores: it is for those who decide where
//! to send work, not for those who restart what is slow.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::digest::{Digest, DigestFunction};
use crate::shutdown::Readiness;
use crate::store::{BlobStore, Key, Namespace, StoreError};

/// I22: questions to one store at once; who comes while there are so many waits for its turn.
const MAX_QUESTIONS: usize = 4;
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What there is beside the services of a listener.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// Where the health is, and what is asked for it.
    pub health: Option<(String, Arc<HealthCheck>)>,
    /// Where a scheduler would be told things; it and all below it say that there is none.
    pub admin_path: Option<String>,
}

/// Asks the stores of a listener whether they answer.
#[derive(Debug)]
pub struct HealthCheck {
    stores: Vec<Asked>,
    timeout: Duration,
    readiness: Readiness,
}

/// A store that is asked.
#[derive(Debug)]
struct Asked {
    name: String,
    store: Arc<dyn BlobStore>,
    /// Its own: one that hangs takes those of no other.
    turns: Semaphore,
}

/// What became of asking one of them.
#[derive(Debug)]
enum Answer {
    Good,
    Failed(String),
    TimedOut,
}

impl HealthCheck {
    /// A check of these stores, under their names, that ends after `timeout`.
    pub fn new(
        stores: Vec<(String, Arc<dyn BlobStore>)>,
        timeout: Duration,
        readiness: Readiness,
    ) -> Arc<Self> {
        let stores = stores.into_iter().map(|(name, store)| {
            let turns = Semaphore::new(MAX_QUESTIONS);
            Asked { name, store, turns }
        });
        Arc::new(Self { stores: stores.collect(), timeout, readiness })
    }

    /// Whether all is well, and what each says. Cancel safe.
    async fn run(&self) -> (bool, Value) {
        // A draining server answers, but must not be sent more.
        let server = if self.readiness.is_ready() {
            Answer::Good
        } else {
            Answer::Failed("draining".to_owned())
        };
        let mut answers = vec![("/server".to_owned(), server)];
        let asked = self.stores.iter().map(|asked| async {
            let answer = match timeout(self.timeout, asked.answer()).await {
                Ok(Ok(())) => Answer::Good,
                Ok(Err(error)) => Answer::Failed(error.to_string()),
                Err(_) => Answer::TimedOut,
            };
            (format!("/stores/{}", asked.name), answer)
        });
        answers.extend(join_all(asked).await);
        let is_good = answers.iter().all(|(_, answer)| matches!(answer, Answer::Good));
        let report = answers.iter().map(|(name, answer)| indicator(name, answer));
        (is_good, Value::Array(report.collect()))
    }
}

impl Asked {
    /// A lookup takes every step on the way to the data and costs next to nothing.
    async fn answer(&self) -> Result<(), StoreError> {
        let _turn = self.turns.acquire().await.map_err(|_| StoreError::ShuttingDown)?;
        let digest = Digest::of(DigestFunction::Sha256, b"castellan health check");
        // An upstream may have only the one or the other, and answers for the rest by itself.
        let keys = [Key::blob(digest), Key::action_result(Namespace::SHARED, digest)];
        self.store.find_missing(&keys).await.map(drop)
    }
}

/// As `NativeLink` writes it, for the scripts that read it.
fn indicator(name: &str, answer: &Answer) -> Value {
    let status = match answer {
        Answer::Good => json!({ "Ok": { "struct_name": "castellan", "message": "answers" } }),
        Answer::Failed(message) => {
            json!({ "Failed": { "struct_name": "castellan", "message": message } })
        }
        Answer::TimedOut => json!({ "Timeout": { "struct_name": "castellan" } }),
    };
    json!({ "namespace": name, "status": status })
}

/// Puts pages before services. Over HTTP/1.1, which gRPC cannot be spoken on, there is nothing
/// else.
pub fn with_pages(services: Router, pages: Pages) -> Router {
    services.layer(from_fn_with_state(Arc::new(pages), answer))
}

async fn answer(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Some((at, check)) = &pages.health
        && path == at
    {
        return health(check, request.method()).await;
    }
    if pages.admin_path.as_deref().is_some_and(|admin| is_below(path, admin)) {
        let text = "there is no scheduler here: castellan stores, and executes nothing";
        return page(StatusCode::NOT_FOUND, &json!({ "error": text }));
    }
    if request.version() < Version::HTTP_2 {
        let text = "only gRPC is here, which needs HTTP/2";
        return page(StatusCode::HTTP_VERSION_NOT_SUPPORTED, &json!({ "error": text }));
    }
    next.run(request).await
}

fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn health(check: &HealthCheck, method: &Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let text = "only GET and HEAD are served here";
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": text }));
        refusal.headers_mut().insert(ALLOW, ALLOWED);
        return refusal;
    }
    let (is_good, report) = check.run().await;
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = page(status, &report);
    if method == Method::HEAD { answer.map(|_| Body::empty()) } else { answer }
}

fn page(status: StatusCode, body: &Value) -> Response {
    let headers = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, NO_STORE)];
    (status, headers, format!("{body}\n")).into_response()
}
