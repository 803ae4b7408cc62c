//! A cache that is spoken to over HTTP/1.1: blobs at `/cas/HASH`, results at `/ac/HASH`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::super::ClientError;
use super::super::origin::{Chunks, Origin};
use super::MAX_RESULT_BYTES;
use super::connection::{NoConnection, Trust, connect};
use crate::digest::{Digest, shorten};
use crate::shutdown;
use crate::store::StoreError;

/// How long nothing may come (I23).
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// What of a body that nobody wants is read, so that its connection can be used again.
const MAX_DRAINED_BYTES: usize = 64 << 10;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are kept for the next request.
const MAX_IDLE: usize = 64;

type Sender = SendRequest<Empty<Bytes>>;

/// A cache over HTTP.
pub struct HttpCache {
    authority: String,
    /// For TLS.
    trust: Option<Trust>,
    /// What stands before `/cas/` and `/ac/`.
    prefix: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    idle: Arc<Mutex<Vec<Sender>>>,
}

impl fmt::Debug for HttpCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

/// Why a text names no cache over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHttpCache {
    /// TLS cannot be spoken with it.
    #[error("{0:?}: {1}")]
    Tls(String, String),
    /// It has another form.
    #[error("{0:?} is not http://HOST[:PORT][/PREFIX] or the same with https://")]
    Form(String),
    /// A header that cannot be sent.
    #[error("{0:?} is no header")]
    Header(String),
}

impl HttpCache {
    /// Reads `http://HOST[:PORT][/PREFIX]`, or the same with `https://`, which trusts whom the
    /// system trusts. The headers are sent with every request.
    pub fn parse(text: &str, headers: &[(String, String)]) -> Result<Self, InvalidHttpCache> {
        let text = text.trim();
        let form = || InvalidHttpCache::Form(shorten(text));
        let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") else {
            return Err(form());
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let uri: http::Uri = format!("http://{authority}{prefix}/").parse().map_err(|_| form())?;
        if authority.contains('@') || uri.host().is_none() || uri.query().is_some() {
            return Err(form());
        }
        let host = uri.host().unwrap_or_default();
        let untrusted = |problem| InvalidHttpCache::Tls(shorten(text), problem);
        let (usual_port, trust) = match scheme {
            "https" => (443, Some(Trust::of_system(host).map_err(untrusted)?)),
            _ => (80, None),
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(usual_port));
        let header = |(name, value): &(String, String)| {
            let invalid = || InvalidHttpCache::Header(shorten(name));
            let name = name.parse().map_err(|_| invalid())?;
            Ok((name, value.parse().map_err(|_| invalid())?))
        };
        let headers = headers.iter().map(header).collect::<Result<_, _>>()?;
        Ok(Self { authority, trust, prefix, headers, idle: Arc::default() })
    }

    fn unavailable(&self, problem: impl fmt::Display) -> ClientError {
        StoreError::Unavailable { what: format!("{self:?}: {problem}") }.into()
    }

    /// A connection that is left of an earlier request.
    fn left(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let stream = match connect(&self.authority, self.trust.as_ref()).await {
            Ok(stream) => stream,
            Err(NoConnection::Unreachable(error)) => return Err(self.unavailable(error)),
            Err(NoConnection::Untrusted(source)) => {
                let operation = "begin TLS with the cache over HTTP";
                return Err(StoreError::Io { operation, source }.into());
            }
        };
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| self.unavailable(error))?;
        drop(shutdown::spawn("connection of an import", async move {
            // Whoever waits for an answer is told as well.
            drop(connection.await);
        }));
        Ok(sender)
    }

    async fn ask(
        &self,
        method: Method,
        path: String,
    ) -> Result<Option<(Response<Incoming>, Sender)>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, &self.authority)
            .header(ACCEPT_ENCODING, "identity");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new());
        let request = request.map_err(|error| ClientError::invalid(&path, error))?;
        let (answer, sender) = self.exchange(request).await?;
        let status = answer.status();
        if status == StatusCode::OK && !answer.headers().contains_key(CONTENT_ENCODING) {
            return Ok(Some((answer, sender)));
        }
        self.drain(answer, sender).await;
        match status {
            StatusCode::OK => {
                Err(ClientError::invalid(path, "came encoded, which was not asked for"))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(self.unavailable(status)),
            // Who is not let in is not let in to anything.
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                tracing::debug!(%status, "the cache refuses");
                let what = "the cache over HTTP does not allow this; --source-header may help";
                Err(StoreError::Unsupported { what }.into())
            }
            status => Err(ClientError::invalid(path, status)),
        }
    }

    /// Sends a request, and gives what is answered.
    async fn exchange(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), ClientError> {
        // That one is closed while nobody uses it says nothing of the cache.
        if let Some(sender) = self.left()
            && let Ok(answered) = self.send(sender, request.clone()).await?
        {
            return Ok(answered);
        }
        let sender = self.connect().await?;
        self.send(sender, request).await?.map_err(|error| self.unavailable(error))
    }

    async fn send(
        &self,
        mut sender: Sender,
        request: Request<Empty<Bytes>>,
    ) -> Result<hyper::Result<(Response<Incoming>, Sender)>, ClientError> {
        let answered = timeout(IDLE_TIMEOUT, async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            Ok((answer, sender))
        });
        answered.await.map_err(|error| self.unavailable(error))
    }

    /// Reads a body that nobody wants, if it is short.
    async fn drain(&self, answer: Response<Incoming>, sender: Sender) {
        let mut body = self.body(answer, sender);
        let reading = async {
            let mut read_bytes = 0;
            while let Ok(Some(data)) = body.next().await {
                read_bytes += data.len();
                if read_bytes > MAX_DRAINED_BYTES {
                    break;
                }
            }
        };
        // The connection ends with a body that is not over.
        drop(timeout(DRAIN_TIMEOUT, reading).await);
    }

    /// What a body is said to have.
    fn length(answer: &Response<Incoming>) -> Option<u64> {
        answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    fn body(&self, answer: Response<Incoming>, sender: Sender) -> Body {
        let incoming = answer.into_body();
        let (name, idle) = (format!("{self:?}"), Arc::clone(&self.idle));
        Body { incoming, sender: Some(sender), idle, name }
    }
}

fn path(kind: &str, digest: Digest) -> String {
    format!("/{kind}/{}", digest.hash_hex().as_str())
}

/// A body that comes.
struct Body {
    incoming: Incoming,
    /// Goes back when the body is over.
    sender: Option<Sender>,
    idle: Arc<Mutex<Vec<Sender>>>,
    name: String,
}

#[async_trait]
impl Chunks for Body {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let broken = |problem: &dyn fmt::Display| {
            let what = format!("{}: {problem}", self.name);
            ClientError::Store(StoreError::Unavailable { what })
        };
        loop {
            let frame = timeout(IDLE_TIMEOUT, self.incoming.frame()).await;
            match frame.map_err(|error| broken(&error))? {
                None => {
                    let mut idle = self.idle.lock();
                    if let Some(sender) = self.sender.take()
                        && idle.len() < MAX_IDLE
                        && !sender.is_closed()
                    {
                        idle.push(sender);
                    }
                    return Ok(None);
                }
                Some(frame) => {
                    let data = frame.map_err(|error| broken(&error))?.into_data();
                    if let Some(data) = data.ok().filter(|data| !data.is_empty()) {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Origin for HttpCache {
    async fn open(&self, digest: Digest) -> Result<Box<dyn Chunks>, ClientError> {
        let answer = self.ask(Method::GET, path("cas", digest)).await?;
        let (answer, sender) = answer.ok_or(ClientError::Absent(digest))?;
        Ok(Box::new(self.body(answer, sender)))
    }

    async fn result(&self, action: Digest) -> Result<Option<Bytes>, ClientError> {
        let Some((answer, sender)) = self.ask(Method::GET, path("ac", action)).await? else {
            return Ok(None);
        };
        let mut body = self.body(answer, sender);
        let mut all = Vec::new();
        while let Some(data) = body.next().await? {
            all.extend_from_slice(&data);
            let (size_bytes, limit_bytes) = (all.len() as u64, MAX_RESULT_BYTES);
            if size_bytes > limit_bytes {
                return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
            }
        }
        Ok(Some(all.into()))
    }

    async fn sized(&self, digest: Digest) -> Result<Option<Digest>, ClientError> {
        if !digest.is_empty() || digest.hash == digest.function.empty_hash() {
            return Ok(Some(digest));
        }
        let path = path("cas", digest);
        let Some((answer, sender)) = self.ask(Method::HEAD, path.clone()).await? else {
            return Ok(None);
        };
        let length = Self::length(&answer);
        let mut body = self.body(answer, sender);
        while body.next().await?.is_some() {}
        let unsized_blob = || ClientError::invalid(path, "the cache does not say how long it is");
        let size_bytes = length.ok_or_else(unsized_blob)?;
        Digest::new(digest.function, digest.hash, size_bytes)
            .map(Some)
            .map_err(|problem| ClientError::invalid(digest.to_string(), problem))
    }
}
