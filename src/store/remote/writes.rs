//! One `Write` to an upstream, of bytes that are known to be right when the last of them goes.
//!
//! Owns what is sent and kept to be sent again. A connection that breaks is made anew and asked
//! how far it had come; what lies behind that and is not kept any more ends the write.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use castellan_proto::messages::{QueryWriteStatusRequest, WriteRequest};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::Upstream;
use super::names::wire_size;
use super::pool::Line;
use super::status::{delay, is_interruption, no_answer};
use crate::digest::Digest;
use crate::shutdown;
use crate::store::{Key, StoreError};

/// What one message carries.
const MESSAGE_BYTES: usize = 256 << 10;
/// Messages between us and the connection.
const QUEUED_MESSAGES: usize = 4;
/// How often one write is continued, at most.
const MAX_RESUMES: u32 = 8;

/// What a write keeps of what it has sent.
#[derive(Debug)]
enum Keep {
    /// Everything: it is in memory anyway.
    All,
    /// The last of it.
    Last { permit: OwnedSemaphorePermit },
    /// Nothing: too much is kept already.
    Nothing,
}

/// A write under way. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Writing {
    upstream: Arc<Upstream>,
    digest: Digest,
    name: String,
    /// What may have to be sent, again or for the first time, one piece behind the other.
    kept: VecDeque<Bytes>,
    kept_from: u64,
    kept_to: u64,
    /// The next byte to send.
    position: u64,
    keep: Keep,
    call: Option<Call>,
    resumes: u32,
    /// When the upstream took something last, or was first waited for.
    progress: Instant,
    is_complete: bool,
}

/// A call that takes messages.
#[derive(Debug)]
struct Call {
    messages: mpsc::Sender<WriteRequest>,
    answer: oneshot::Receiver<Result<i64, Status>>,
    line: Arc<Line>,
    task: AbortHandle,
    is_first: bool,
}

/// A call takes no more: what it came to.
struct Ended(Result<i64, Status>);

impl Call {
    /// Hands a message on as soon as the connection takes more.
    async fn send(&mut self, mut message: WriteRequest, deadline: Instant) -> Result<(), Ended> {
        if !std::mem::replace(&mut self.is_first, false) {
            message.resource_name.clear();
        }
        tokio::select! {
            biased;
            answer = &mut self.answer => return Err(Ended(flatten(answer))),
            place = timeout_at(deadline, self.messages.reserve()) => match place {
                Ok(Ok(place)) => {
                    place.send(message);
                    return Ok(());
                }
                Ok(Err(_)) => {}
                Err(_) => return Err(Ended(Err(no_answer()))),
            },
        }
        // It has ended, and says in a moment how.
        let answer = timeout_at(deadline, &mut self.answer).await;
        Err(Ended(answer.map_or_else(|_| Err(no_answer()), flatten)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writing {
    /// A write of bytes that come one after the other.
    pub(super) fn stream(upstream: &Arc<Upstream>, digest: Digest) -> Self {
        let kept_bytes = upstream.options.batching.kept_bytes;
        let kib = u32::try_from(kept_bytes >> 10).unwrap_or(u32::MAX);
        let permit = Arc::clone(&upstream.resend_kib).try_acquire_many_owned(kib);
        Self::new(upstream, digest, permit.map_or(Keep::Nothing, |permit| Keep::Last { permit }))
    }

    /// Writes bytes that are all here.
    pub(super) async fn whole(
        upstream: &Arc<Upstream>,
        digest: Digest,
        data: Bytes,
    ) -> Result<(), StoreError> {
        let mut writing = Self::new(upstream, digest, Keep::All);
        writing.send(data).await?;
        writing.finish().await
    }

    fn new(upstream: &Arc<Upstream>, digest: Digest, keep: Keep) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            digest,
            name: upstream.write_name(&digest),
            kept: VecDeque::new(),
            kept_from: 0,
            kept_to: 0,
            position: 0,
            keep,
            call: None,
            resumes: 0,
            progress: Instant::now(),
            is_complete: false,
        }
    }

    /// Whether the upstream has the blob, so that nothing more has to be sent (reapi 70).
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Sends the next bytes. With the last of the blob it says that they are. Not cancel safe: a
    /// write whose `send` was dropped is good for nothing.
    pub(super) async fn send(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.kept_to = self.kept_to.saturating_add(data.len() as u64);
        self.kept.push_back(data);
        self.progress = Instant::now();
        self.push().await
    }

    /// Waits until the upstream has confirmed the blob.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        self.progress = Instant::now();
        while !self.is_complete {
            self.push().await?;
            let deadline = self.deadline();
            let Some(call) = &mut self.call else { continue };
            let answer = timeout_at(deadline, &mut call.answer).await;
            let answer = answer.map_or_else(|_| Err(no_answer()), flatten);
            self.end(answer).await?;
        }
        Ok(())
    }

    /// When the upstream must have done something.
    fn deadline(&self) -> Instant {
        self.progress + self.upstream.options.rpc_timeout
    }

    /// Whether there is something to say; of a call that is made anew at the very end, only that
    /// it is the end.
    fn has_more(&self) -> bool {
        let is_at_end = self.position == self.digest.size_bytes;
        self.position < self.kept_to || (is_at_end && self.call.is_none())
    }

    /// Sends what is not sent yet.
    async fn push(&mut self) -> Result<(), StoreError> {
        while !self.is_complete && self.has_more() {
            if self.call.is_none() {
                self.call = Some(self.open().await?);
            }
            let data = self.piece();
            let sent_bytes = data.len() as u64;
            let next = self.position.saturating_add(sent_bytes);
            let message = WriteRequest {
                resource_name: self.name.clone(),
                write_offset: wire_size(self.position),
                finish_write: next == self.digest.size_bytes,
                data,
            };
            let deadline = self.deadline();
            let Some(call) = &mut self.call else { continue };
            match call.send(message, deadline).await {
                Ok(()) => {
                    self.upstream.counters.bytes_written.add(sent_bytes);
                    self.position = next;
                    self.progress = Instant::now();
                    self.forget();
                }
                Err(Ended(answer)) => self.end(answer).await?,
            }
        }
        Ok(())
    }

    /// The bytes from `position` on, as many as one message takes.
    fn piece(&self) -> Bytes {
        let mut from = self.kept_from;
        for chunk in &self.kept {
            let skip = usize::try_from(self.position.saturating_sub(from)).unwrap_or(usize::MAX);
            if skip < chunk.len() {
                return chunk.slice(skip..chunk.len().min(skip.saturating_add(MESSAGE_BYTES)));
            }
            from = from.saturating_add(chunk.len() as u64);
        }
        Bytes::new()
    }

    /// Lets go of what has been sent and is not to be kept.
    fn forget(&mut self) {
        let keep_bytes = match &self.keep {
            Keep::All => return,
            Keep::Last { permit } => (permit.num_permits() as u64) << 10,
            Keep::Nothing => 0,
        };
        while let Some(oldest) = self.kept.front() {
            let next = self.kept_from.saturating_add(oldest.len() as u64);
            if next > self.position || self.position - next < keep_bytes {
                return;
            }
            self.kept_from = next;
            self.kept.pop_front();
        }
    }

    /// Begins a call at `position`. It runs in a task of its own, for as long as this lives.
    async fn open(&self) -> Result<Call, StoreError> {
        let upstream = &self.upstream;
        let line = upstream.line(self.deadline()).await;
        let line = line.map_err(|status| self.error(&status))?;
        upstream.counters.requests.add(1);
        let (messages, receiver) = mpsc::channel(QUEUED_MESSAGES);
        let (reply, answer) = oneshot::channel();
        let request = upstream.request(ReceiverStream::new(receiver));
        let mut client = line.byte_stream();
        let task = shutdown::spawn("upstream write", async move {
            let answer = client.write(request).await;
            drop(reply.send(answer.map(|it| it.into_inner().committed_size)));
        });
        Ok(Call { messages, answer, line, task: task.abort_handle(), is_first: true })
    }

    /// Takes the end of a call to heart: the blob is there, or the write goes on in another call,
    /// or it has failed.
    async fn end(&mut self, answer: Result<i64, Status>) -> Result<(), StoreError> {
        let Some(call) = self.call.take() else { return Ok(()) };
        let status = match answer {
            Ok(committed) => {
                call.line.answered();
                drop(call);
                return self.believe(committed).await;
            }
            Err(status) => status,
        };
        self.upstream.settle(&call.line, &status);
        drop(call);
        let is_over = self.resumes >= MAX_RESUMES || Instant::now() >= self.deadline();
        if is_over || !is_interruption(&status, &self.upstream.options.retry) {
            return Err(self.error(&status));
        }
        let pause = delay(&status, &self.upstream.options.retry, self.resumes);
        sleep_until(self.deadline().min(Instant::now() + pause)).await;
        self.resumes += 1;
        self.upstream.counters.retries.add(1);
        self.find_position(&status).await
    }

    /// Checks an answer of success: before the end it means that the blob was there already, and
    /// then it has the blob's size (reapi 70).
    async fn believe(&mut self, committed: i64) -> Result<(), StoreError> {
        if committed == wire_size(self.digest.size_bytes) {
            self.is_complete = true;
            return Ok(());
        }
        // -1 is for compressed uploads, and anything else is a half-closed write or nonsense.
        // Whether the blob is there can be asked.
        self.is_complete = self.upstream.contains(self.digest, self.deadline()).await?;
        if self.is_complete {
            return Ok(());
        }
        self.upstream.counters.corrupt.add(1);
        let key = Key::blob(self.digest);
        Err(self.upstream.unavailable(format_args!(
            "{key}: stored {committed} bytes of {}",
            self.digest.size_bytes
        )))
    }

    /// Asks how far the write had come when its call broke.
    async fn find_position(&mut self, cause: &Status) -> Result<(), StoreError> {
        let upstream = &self.upstream;
        let deadline = self.deadline();
        let message = QueryWriteStatusRequest { resource_name: self.name.clone() };
        let attempt = |line: Arc<Line>| {
            let request = upstream.unary(message.clone(), deadline);
            async move {
                let answer = line.byte_stream().query_write_status(request).await;
                answer.map(Response::into_inner)
            }
        };
        let committed = match upstream.call(deadline, attempt).await {
            Ok(answer) if answer.complete => {
                self.is_complete = true;
                return Ok(());
            }
            Ok(answer) => u64::try_from(answer.committed_size).unwrap_or(0),
            // A server that does not know is one that has nothing.
            Err(status) if !is_interruption(&status, &upstream.options.retry) => 0,
            Err(status) => return Err(self.error(&status)),
        };
        if (self.kept_from..=self.position).contains(&committed) {
            self.position = committed;
            return Ok(());
        }
        Err(self.upstream.unavailable(format_args!(
            "{}: the write broke ({:?}) and cannot go on at {committed}",
            Key::blob(self.digest),
            cause.code(),
        )))
    }

    fn error(&self, status: &Status) -> StoreError {
        self.upstream.write_error(&Key::blob(self.digest), self.digest.size_bytes, status)
    }
}

/// The answer of a call; one whose task is gone has none.
fn flatten(answer: Result<Result<i64, Status>, oneshot::error::RecvError>) -> Result<i64, Status> {
    answer.unwrap_or_else(|_| Err(no_answer()))
}
