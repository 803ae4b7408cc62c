//! The messages of a call whose work goes on beside it: how far it is, and how it ended.
//!
//! The work is a task of its own, which notices that its client is gone or takes nothing while
//! the transport does not ask the stream for more.

use std::time::Duration;

use castellan_proto::worker::{Digest as WireDigest, FetchTreeResponse};
use castellan_proto::worker::{StageProgress, StageTreeResponse, stage_tree_response};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
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

/// Where the messages of a stream go.
#[derive(Debug)]
pub(super) struct Events<M> {
    sender: mpsc::Sender<Result<M, Status>>,
    /// How long a client may take nothing.
    patience: Duration,
    stop: CancellationToken,
}

/// What the transport asks for messages.
pub(super) type EventStream<M> = ReceiverStream<Result<M, Status>>;

impl<M: Message> Events<M> {
    pub(super) fn channel(patience: Duration, stop: CancellationToken) -> (Self, EventStream<M>) {
        // So that a message has been taken when there is room for the next one.
        let (sender, receiver) = mpsc::channel(1);
        (Self { sender, patience, stop }, ReceiverStream::new(receiver))
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
            place.send(Ok(M::of_progress(told)));
        }
    }

    /// Sends a message; whether it was taken. Waits no longer than the client may take, and than
    /// the server lives.
    pub(super) async fn deliver(&self, message: M) -> bool {
        let taken = async {
            self.sender.send(Ok(message)).await.is_ok() && self.sender.reserve().await.is_ok()
        };
        tokio::select! {
            biased;
            taken = timeout(self.patience, taken) => taken.unwrap_or(false),
            () = self.stop.cancelled() => false,
        }
    }

    /// Waits until the client is gone. Cancel safe.
    pub(super) async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Waits until the server stops. Cancel safe.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Ends the stream with what went wrong.
    pub(super) async fn fail(self, failure: Failure) {
        let status = match failure {
            Failure::Gone => return,
            Failure::Refused(status) => status,
            Failure::Stopping => retry_later(Code::Unavailable, "the server stops"),
            Failure::Stage(error) => {
                if let StageError::Missing(missing) = &error {
                    for some in missing.chunks(DIGESTS_PER_MESSAGE) {
                        let some = some.iter().map(wire_digest).collect();
                        if !self.deliver(M::of_missing(some)).await {
                            break;
                        }
                    }
                }
                error.into()
            }
        };
        // Who is gone needs no answer, and the end of the server waits for nobody.
        drop(timeout(self.patience, self.sender.send(Err(status))).await);
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
