//! Asking a running server: where its admin API is, and one request.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::serve::default_root;
use super::served::resolve;
use crate::admin_socket::{AdminAddress, connect};
use crate::shutdown;
use crate::store::filesystem::ADMIN_SOCKET;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to answer; a purge waits for writes that are under way.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
/// No answer is longer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Which server is asked.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// The admin API of the server, as `unix:PATH` or `HOST:PORT` [default: the socket in the
    /// directory].
    #[arg(long, env = "CASTELLAN_ADMIN", value_name = "ADDRESS")]
    pub(super) admin: Option<String>,

    /// The directory of the server's store [default: castellan in the user's cache folder].
    #[arg(long, env = "CASTELLAN_DIR", value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

impl ServerFlags {
    /// The directory, given or not.
    pub(super) fn root(&self) -> Result<PathBuf, String> {
        let env = |name: &str| std::env::var(name).ok();
        let root = self.dir.clone().map_or_else(|| default_root(&env), Ok);
        root.map_err(|problem| format!("error: --dir: {problem}"))
    }

    /// Where the server is asked.
    pub(super) fn address(&self) -> Result<AdminAddress, String> {
        match &self.admin {
            None => self.root().map(|root| AdminAddress::Unix(root.join(ADMIN_SOCKET))),
            Some(text) => {
                parse_address(text).map_err(|problem| format!("error: --admin: {problem}"))
            }
        }
    }
}

/// Reads `unix:PATH` or `HOST:PORT`.
pub(super) fn parse_address(text: &str) -> Result<AdminAddress, String> {
    match text.trim().strip_prefix("unix:") {
        Some("") => Err("unix: without a path".to_owned()),
        Some(path) => Ok(AdminAddress::Unix(path.into())),
        None => resolve(text.trim()).map(AdminAddress::Tcp),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody is there, or not for this user.
    #[error("error: no server answers on {address}: {source}")]
    Unreachable { address: AdminAddress, source: io::Error },
    /// The connection broke, or what came is no answer.
    #[error("error: {address}: {problem}")]
    Broken { address: AdminAddress, problem: String },
    /// The server says no.
    #[error("error: the server refuses ({status}): {problem}")]
    Refused { status: StatusCode, problem: String },
}

/// Asks with `GET`, or with `POST` where there is something to send.
pub(super) fn call(
    address: &AdminAddress,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, CallError> {
    let broken = |problem: String| CallError::Broken { address: address.clone(), problem };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| broken(format!("start the runtime: {error}")))?;
    runtime.block_on(async {
        let unreachable = |source| CallError::Unreachable { address: address.clone(), source };
        let connecting = timeout(CONNECT_TIMEOUT, connect(address)).await;
        let stream = connecting
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        let request = request(path, body).map_err(|error| broken(error.to_string()))?;
        let answered = timeout(ANSWER_TIMEOUT, exchange(TokioIo::new(stream), request)).await;
        let (status, bytes) = answered
            .map_err(|_| broken("no answer in time".to_owned()))?
            .map_err(|error| broken(error.to_string()))?;
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        match json {
            Some(json) if status == StatusCode::OK => Ok(json),
            json => {
                let text = json.as_ref().and_then(|it| it.get("error")).and_then(Value::as_str);
                let problem = text.unwrap_or("it does not say why").to_owned();
                Err(CallError::Refused { status, problem })
            }
        }
    })
}

fn request(path: &str, body: Option<&Value>) -> http::Result<Request<Full<Bytes>>> {
    let request = Request::builder().uri(path).header("host", "castellan");
    match body {
        None => request.method(Method::GET).body(Full::default()),
        Some(json) => request
            .method(Method::POST)
            .header("content-type", "application/json")
            .body(Full::from(json.to_string())),
    }
}

async fn exchange<S>(
    stream: TokioIo<S>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let driving = shutdown::spawn("admin client", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the server failed");
        }
    });
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?;
    driving.abort();
    Ok((status, body.to_bytes()))
}
