//! Bodies: requests at the pace of the client, bounded below; answers at the pace of the client,
//! one chunk at a time.
//!
//! Neither ever holds more than one chunk. How long an answer may wait for its client is decided
//! in `activity`.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{EXPECT, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::options::HttpOptions;
use super::status::Refusal;
use crate::shutdown;

/// One chunk of an answer; no larger size reads faster, and a stalled client holds one.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// What is read of a refused body so that its client gets to see the answer: one that still sends
/// when the connection closes sees that instead.
const DISCARD_BYTES: u64 = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// How long a client may be silent while others wait for the room it holds.
const STALL_UNDER_PRESSURE: Duration = Duration::from_secs(2);

/// Waits for the next piece of a body, but not for a client that holds up those who wait for the
/// room it holds.
pub(super) async fn unless_others_wait<T>(
    next: impl Future<Output = Result<T, Refusal>>,
    do_others_wait: impl Fn() -> bool,
) -> Result<T, Refusal> {
    let mut next = pin!(next);
    loop {
        match timeout(STALL_UNDER_PRESSURE, next.as_mut()).await {
            Ok(next) => return next,
            Err(_) if do_others_wait() => return Err(Refusal::gave_way()),
            Err(_) => {}
        }
    }
}

/// A request body on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    window: Duration,
    window_bytes: u64,
    /// How long this window has waited for the client, and what has come meanwhile.
    waited: Duration,
    received_bytes: u64,
    /// Since when it waits for the next piece.
    waits_since: Option<Instant>,
    /// Whether the client has been asked for it.
    has_begun: bool,
}

impl Incoming {
    /// Takes charge of a body.
    pub(super) fn new(body: Body, options: &HttpOptions) -> Self {
        Self {
            body,
            window: options.upload_window,
            window_bytes: options.upload_window_bytes,
            waited: Duration::ZERO,
            received_bytes: 0,
            waits_since: None,
            has_begun: false,
        }
    }

    /// The next piece; `None` at the end. Only the time that is spent in here counts: a slow store
    /// is not the client's fault. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            // A call that was dropped has waited too.
            let since = *self.waits_since.get_or_insert_with(Instant::now);
            self.has_begun = true;
            let end = since + self.window.saturating_sub(self.waited);
            let Ok(data) = timeout_at(end, self.next_data()).await else {
                // I23: a client that trickles holds space and a place that others wait for.
                if self.received_bytes < self.window_bytes {
                    return Err(Refusal::too_slow(self.window, self.window_bytes));
                }
                (self.waited, self.received_bytes) = (Duration::ZERO, 0);
                self.waits_since = None;
                continue;
            };
            self.waited += since.elapsed();
            self.waits_since = None;
            let data = data?;
            self.received_bytes += data.as_ref().map_or(0, |it| it.len() as u64);
            return Ok(data);
        }
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Refusal::cut_short()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    // Trailers say nothing here.
                    Err(_) => {}
                },
            }
        }
    }

    /// The answer to the request, and what becomes of the rest of its body.
    pub(super) fn answer(
        self,
        headers: &HeaderMap,
        answered: Result<Response, Refusal>,
    ) -> Response {
        let mut response = answered.unwrap_or_else(|refusal| {
            // Who waits to be told to go on has sent nothing, and is not told.
            let waits = headers.contains_key(EXPECT) && !self.has_begun;
            if !waits && !refusal.ends_connection() {
                self.discard();
            }
            refusal.into_response()
        });
        // What is served is anybody's: no browser may take it for a page.
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }

    /// Reads what is left and drops it, behind an answer that does not need it.
    fn discard(mut self) {
        if self.body.is_end_stream() {
            return;
        }
        shutdown::spawn("refused request body", async move {
            let mut left = DISCARD_BYTES;
            let reading = async {
                while let Ok(Some(data)) = self.next().await {
                    let Some(rest) = left.checked_sub(data.len() as u64) else { return };
                    left = rest;
                }
            };
            // Whether it has ended, the connection knows.
            drop(timeout(DISCARD_TIME, reading).await);
        });
    }
}
