//! Deadlines: a call whose client has said how long it waits is given up when that time is over.
//!
//! What a client says is in `grpc-timeout`; what cannot be read is no deadline.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tower::{Layer, Service};

const TIMEOUT: &str = "grpc-timeout";
/// The protocol allows no more.
const MAX_DIGITS: usize = 8;

/// Gives the calls of a service their deadlines.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub(super) struct DeadlineService<S> {
    inner: S,
}

impl<S, B, ResponseBody> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<ResponseBody>, Error = Infallible>,
    ResponseBody: Default,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let end = patience(request.headers()).map(sleep);
        DeadlineFuture { inner: self.inner.call(request), end }
    }
}

pin_project! {
    /// A call until its answer begins.
    #[derive(Debug)]
    pub(super) struct DeadlineFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        end: Option<Sleep>,
    }
}

impl<F, B> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Default,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(response) = this.inner.poll(context) {
            return Poll::Ready(response);
        }
        match this.end.as_pin_mut() {
            None => Poll::Pending,
            Some(end) => end.poll(context).map(|()| {
                let status = Status::deadline_exceeded("the time that the client gave is over");
                Ok(status.into_http())
            }),
        }
    }
}

/// How long the client waits: up to eight digits and a unit.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (unit_at, unit) = text.char_indices().next_back()?;
    let digits = text.get(..unit_at).filter(|it| it.len() <= MAX_DIGITS)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 60 * 60)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// What a call ends with whose answer takes a second.
    async fn status(timeout: Option<&str>) -> Option<Code> {
        let slow = service_fn(|_: Request<()>| async {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Response::new(()))
        });
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request.headers_mut().insert(TIMEOUT, timeout.parse().unwrap());
        }
        let answer = DeadlineLayer.layer(slow).oneshot(request).await.unwrap();
        answer.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn i23_a_call_ends_with_its_deadline() {
        assert_eq!(status(Some("999m")).await, Some(Code::DeadlineExceeded));
        assert_eq!(status(Some("2S")).await, None);
        assert_eq!(status(None).await, None);
    }

    fn of(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, text.parse().unwrap());
        patience(&headers)
    }

    #[test]
    fn every_unit_is_read_and_nonsense_is_no_deadline() {
        let units = [("H", 7_200_000), ("M", 120_000), ("S", 2000), ("m", 2)];
        for (unit, millis) in units {
            assert_eq!(of(&format!("2{unit}")), Some(Duration::from_millis(millis)));
        }
        assert_eq!(of("2u"), Some(Duration::from_micros(2)));
        assert_eq!(of("2n"), Some(Duration::from_nanos(2)));
        assert_eq!(of("99999999H"), Some(Duration::from_hours(99_999_999)));
        for nonsense in ["", "S", "2", "-1S", "+1S", "999999999S", "1.5S", "2s", "S2"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }
}
