//! The body of a request, counted as it is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf as _;
use hyper::body::{Body, Frame, SizeHint};

use super::calls::Method;
use super::requests::Requests;

/// A body whose bytes are counted for its method.
#[derive(Debug)]
pub struct ReceivedBody<B> {
    pub(super) inner: B,
    pub(super) requests: Arc<Requests>,
    pub(super) method: Method,
}

impl<B: Body + Unpin> Body for ReceivedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.requests.add_received(self.method, data.remaining());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
