//! The messages of a call whose work goes on beside it: how far it is, and how it ended.
//!
//! The work is a task of its own, which notices that its client is gone or takes nothing while
//! the transport does not ask the stream for more. Whether a message was taken is known exactly:
//! it lies where the stream takes it from, and who sent it may take it back until then.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use castellan_proto::worker::{Digest as WireDigest, FetchTreeResponse};
use castellan_proto::worker::{StageProgress, StageTreeResponse, stage_tree_response};
use futures_util::stream::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::digest::Digest;
use crate::grpc::convert::wire_size;
use crate::grpc::status::retry_later;
use crate::staging::{Progress, StageError};

/// The shortest time between two messages of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Digests in one message, some 80 KiB.
const DIGESTS_PER_MESSAGE: usize = 1000;

/// A message of a stream.
pub(super) trait Message: Send + 'static {
    /// Says how far the work is.
    fn of_progress(progress: StageProgress) -> Self;
    /// Says which blobs are missing.
    fn of_missing(missing: Vec<WireDigest>) -> Self;
}

impl Message for StageTreeResponse {
    fn of_progress(progress: StageProgress) -> Self {
        let event = Some(stage_tree_response::Event::Progress(progress));
        Self { event, missing: Vec::new() }
    }

    fn of_missing(missing: Vec<WireDigest>) -> Self {
        Self { event: None, missing }
    }
}

impl Message for FetchTreeResponse {
    fn of_progress(progress: StageProgress) -> Self {
        Self { progress: Some(progress), ..Self::default() }
    }

    fn of_missing(missing: Vec<WireDigest>) -> Self {
        Self { missing, ..Self::default() }
    }
}

/// Why work came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The tree, its blobs, or the disk.
    Stage(StageError),
    /// Something before that.
    Refused(Status),
    /// The server stops.
    Stopping,
    /// The client is gone, or takes nothing.
    Gone,
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Stage(error) => error.into(),
            Failure::Refused(status) => status,
            Failure::Stopping => retry_later(Code::Unavailable, "the server stops"),
            // Who is gone does not read it.
            Failure::Gone => Self::deadline_exceeded("the client takes no messages"),
        }
    }
}

/// A message that was not taken yet.
type Slot<M> = Arc<Mutex<Option<M>>>;

/// A message on its way. Whoever waits for its end learns of it when this is dropped, taken or not.
#[derive(Debug)]
struct Parcel<M> {
    slot: Slot<M>,
    _left: oneshot::Sender<Infallible>,
}

impl<M> Parcel<M> {
    fn new(message: M) -> (Self, Slot<M>, oneshot::Receiver<Infallible>) {
        let slot = Arc::new(Mutex::new(Some(message)));
        let (left, end) = oneshot::channel();
        (Self { slot: Arc::clone(&slot), _left: left }, slot, end)
    }
}

/// How a stream ends after its last message; `None` for well.
type Ending = Arc<Mutex<Option<Status>>>;

/// Where the messages of a stream go. A stream that is not finished ends with an error.
#[derive(Debug)]
pub(super) struct Events<M> {
    sender: mpsc::Sender<Parcel<M>>,
    ending: Ending,
    /// How long a client may take nothing.
    patience: Duration,
    stop: CancellationToken,
}

/// What the transport asks for messages.
#[derive(Debug)]
pub(super) struct EventStream<M> {
    receiver: mpsc::Receiver<Parcel<M>>,
    ending: Ending,
}

impl<M> Stream for EventStream<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Some(parcel) = ready!(self.receiver.poll_recv(context)) {
            let message = parcel.slot.lock().take();
            // Otherwise it was taken back.
            if message.is_some() {
                return Poll::Ready(message.map(Ok));
            }
        }
        Poll::Ready(self.ending.lock().take().map(Err))
    }
}

impl<M: Message> Events<M> {
    pub(super) fn channel(patience: Duration, stop: CancellationToken) -> (Self, EventStream<M>) {
        let (sender, receiver) = mpsc::channel(1);
        let ending = Arc::new(Mutex::new(Some(Status::internal("the work died"))));
        let events = Self { sender, ending: Arc::clone(&ending), patience, stop };
        (events, EventStream { receiver, ending })
    }

    /// Does work and tells how far it is. The work is dropped where nobody wants it any more.
    pub(super) async fn attend<T>(
        &self,
        progress: &Progress,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            outcome = work => outcome,
            () = self.sender.closed() => Err(Failure::Gone),
            () = self.report(progress) => Err(Failure::Gone),
            () = self.stop.cancelled() => Err(Failure::Stopping),
        }
    }

    /// Tells what has changed, until nobody takes it.
    async fn report(&self, progress: &Progress) {
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = StageProgress::default();
        loop {
            ticks.tick().await;
            if snapshot(progress) == told {
                continue;
            }
            let Ok(Ok(place)) = timeout(self.patience, self.sender.reserve()).await else { return };
            told = snapshot(progress);
            place.send(Parcel::new(M::of_progress(told)).0);
        }
    }

    /// Sends a message. When it fails nobody has taken it, and nobody will. Waits no longer than
    /// the client may take, and than the server lives.
    pub(super) async fn deliver(&self, message: M) -> Result<(), Failure> {
        let (parcel, slot, end) = Parcel::new(message);
        let leaving = async {
            // Neither says whether it was taken.
            drop(self.sender.send(parcel).await);
            drop(end.await);
        };
        let failure = tokio::select! {
            biased;
            _ = timeout(self.patience, leaving) => Failure::Gone,
            () = self.stop.cancelled() => Failure::Stopping,
        };
        if slot.lock().take().is_some() { Err(failure) } else { Ok(()) }
    }

    /// Waits until the client is gone. Cancel safe.
    pub(super) async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Waits until the server stops. Cancel safe.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Ends the stream well.
    pub(super) fn finish(self) {
        *self.ending.lock() = None;
    }

    /// Ends the stream with what went wrong.
    pub(super) async fn fail(self, mut failure: Failure) {
        if let Failure::Stage(StageError::Missing(missing)) = &failure
            && let Err(cut_short) = self.list(missing).await
        {
            failure = cut_short;
        }
        *self.ending.lock() = Some(failure.into());
    }

    /// Says which blobs are missing.
    async fn list(&self, missing: &[Digest]) -> Result<(), Failure> {
        for some in missing.chunks(DIGESTS_PER_MESSAGE) {
            let some = some.iter().map(wire_digest).collect();
            self.deliver(M::of_missing(some)).await?;
        }
        Ok(())
    }
}

/// What is known of the work now.
pub(super) fn snapshot(progress: &Progress) -> StageProgress {
    StageProgress {
        files_total: progress.files_total(),
        files_done: progress.files_done(),
        bytes_total: progress.bytes_total(),
        bytes_done: progress.bytes_done(),
    }
}

/// A digest as workers have it.
pub(super) fn wire_digest(digest: &Digest) -> WireDigest {
    WireDigest {
        hash: digest.hash_hex().as_str().to_owned(),
        size_bytes: wire_size(digest.size_bytes),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::StreamExt as _;
    use futures_util::{FutureExt as _, poll};

    use super::*;

    type Sent = (Events<FetchTreeResponse>, EventStream<FetchTreeResponse>);

    fn sent() -> Sent {
        Events::channel(Duration::from_mins(1), CancellationToken::new())
    }

    fn done() -> FetchTreeResponse {
        FetchTreeResponse { is_done: true, ..FetchTreeResponse::default() }
    }

    #[tokio::test]
    async fn a_message_is_taken_when_its_stream_ends_right_after_it() {
        let (events, mut stream) = sent();
        let mut delivery = Box::pin(events.deliver(done()));
        assert!(poll!(&mut delivery).is_pending());
        assert!(stream.next().await.unwrap().unwrap().is_done);
        drop(stream);
        delivery.await.unwrap();
    }

    #[tokio::test]
    async fn a_message_is_not_taken_when_its_stream_ends_before_it() {
        let (events, stream) = sent();
        let mut delivery = Box::pin(events.deliver(done()));
        assert!(poll!(&mut delivery).is_pending());
        drop(stream);
        assert!(matches!(delivery.await, Err(Failure::Gone)));
        assert!(matches!(events.deliver(done()).await, Err(Failure::Gone)));
    }

    #[tokio::test(start_paused = true)]
    async fn i23_a_message_that_nobody_took_in_time_is_never_taken() {
        let (events, mut stream) = sent();
        let failure = events.deliver(done()).await.unwrap_err();
        events.fail(failure).await;
        let ended = stream.next().await.unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn missing_blobs_are_all_named_or_the_status_is_another() {
        let missing = vec![Digest::of(crate::digest::DigestFunction::Sha256, b""); 1001];
        let failure = || Failure::Stage(StageError::Missing(missing.clone()));
        let (events, mut stream) = sent();
        let all = stream.by_ref().collect::<Vec<_>>();
        let ((), mut all) = tokio::join!(events.fail(failure()), all);
        let status = all.pop().unwrap().unwrap_err();
        let counts: Vec<_> = all.into_iter().map(|it| it.unwrap().missing.len()).collect();
        assert_eq!((counts, status.code()), (vec![1000, 1], Code::FailedPrecondition));

        let (events, mut stream) = sent();
        events.fail(failure()).await;
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_stream_ends_well_only_when_it_is_finished() {
        let (events, mut stream) = sent();
        assert!(stream.next().now_or_never().is_none());
        drop(events);
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
        let (events, mut stream) = sent();
        events.finish();
        assert!(stream.next().await.is_none());
    }
}
