//! Small blobs travel together.
//!
//! Owns the queue in front of the batches. A batch leaves as soon as a slot is free, with all that
//! has come until then: under no load it carries one blob without delay.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use castellan_proto::messages::{BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest};
use castellan_proto::rpc;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Response, Status};

use super::Upstream;
use super::names::{read_digest, wire_digest};
use super::pool::Line;
use super::status::{is_of_transport, no_answer};
use crate::digest::{Digest, DigestFunction};
use crate::shutdown;

/// What a blob weighs in a batch beside its bytes: its digest, twice.
const ITEM_BYTES: u64 = 160;

/// Which way blobs travel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What became of a blob in a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was read, with these bytes; not looked at yet.
    Read(Bytes),
    /// It was stored.
    Stored,
    /// It is not there.
    Absent,
    /// It may be different when the blob travels alone.
    Alone,
    /// It was not done, and would not be alone.
    Failed(Status),
}

/// The queue in front of the batches of one direction.
#[derive(Debug)]
pub(super) struct Batches {
    upstream: Arc<Upstream>,
    direction: Direction,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Item>,
    waiting_bytes: u64,
    workers: usize,
}

#[derive(Debug)]
struct Item {
    digest: Digest,
    /// Of a blob to be stored.
    data: Bytes,
    reply: oneshot::Sender<Outcome>,
}

impl Item {
    fn weight(&self) -> u64 {
        self.digest.size_bytes.saturating_add(ITEM_BYTES)
    }
}

/// Those who wait, by what for.
type Waiters = HashMap<Digest, Vec<oneshot::Sender<Outcome>>>;

impl Batches {
    pub(super) fn new(upstream: Arc<Upstream>, direction: Direction) -> Arc<Self> {
        Arc::new(Self { upstream, direction, queue: Mutex::default() })
    }

    /// Has a blob travel with others. Cancel safe: who does not wait any more is left out, or the
    /// batch goes on without them.
    pub(super) async fn travel(
        self: &Arc<Self>,
        digest: Digest,
        data: Bytes,
        deadline: Instant,
    ) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        if !self.enqueue(Item { digest, data, reply }) {
            return Outcome::Alone;
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            // Whoever had it is gone without a word.
            Ok(Err(_)) => Outcome::Failed(Status::unavailable("the batch was given up")),
            Err(_) => Outcome::Failed(no_answer()),
        }
    }

    /// False when the queue is full.
    fn enqueue(self: &Arc<Self>, item: Item) -> bool {
        let options = &self.upstream.options.batching;
        let mut queue = self.queue.lock();
        let bytes = queue.waiting_bytes.saturating_add(item.weight());
        if bytes > options.max_queued_bytes {
            return false;
        }
        queue.waiting_bytes = bytes;
        queue.waiting.push_back(item);
        if queue.workers < options.slots {
            queue.workers += 1;
            drop(queue);
            let worker = Worker { batches: Arc::clone(self), is_counted: true };
            shutdown::spawn("upstream batches", worker.run());
        }
        true
    }

    /// What fits one batch, of one digest function; ends the worker when nothing waits.
    fn take(&self, max_bytes: u64) -> Option<(DigestFunction, Vec<Item>)> {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        let mut function = None;
        let mut batch = Vec::new();
        let mut bytes = 0_u64;
        let mut passed = VecDeque::new();
        while let Some(item) = queue.waiting.pop_front() {
            let weight = item.weight();
            if item.reply.is_closed() {
                queue.waiting_bytes = queue.waiting_bytes.saturating_sub(weight);
                continue;
            }
            let sum = bytes.saturating_add(weight);
            let fits = batch.is_empty() || sum <= max_bytes;
            if !fits || *function.get_or_insert(item.digest.function) != item.digest.function {
                passed.push_back(item);
                if fits {
                    continue;
                }
                break;
            }
            bytes = sum;
            queue.waiting_bytes = queue.waiting_bytes.saturating_sub(weight);
            batch.push(item);
        }
        while let Some(item) = passed.pop_back() {
            queue.waiting.push_front(item);
        }
        if batch.is_empty() {
            queue.workers -= 1;
        }
        function.map(|function| (function, batch))
    }

    async fn run(&self, function: DigestFunction, batch: Vec<Item>, deadline: Instant) {
        let mut blobs = HashMap::new();
        let mut waiters = Waiters::new();
        for Item { digest, data, reply } in batch {
            blobs.insert(digest, data);
            waiters.entry(digest).or_default().push(reply);
        }
        let outcomes = match self.direction {
            Direction::Read => self.read(function, &blobs, deadline).await,
            Direction::Write => self.write(function, &blobs, deadline).await,
        };
        match outcomes {
            Ok(outcomes) => {
                for (digest, outcome) in outcomes {
                    // A second answer about a blob, or one that nobody has asked for.
                    let Some(replies) = digest.and_then(|it| waiters.remove(&it)) else {
                        self.upstream.counters.strays.add(1);
                        continue;
                    };
                    answer(replies, &outcome);
                }
                // What was left out is asked for alone.
                for replies in waiters.into_values() {
                    answer(replies, &Outcome::Alone);
                }
            }
            Err(status) => {
                let outcome = if is_about_the_batch(&status) {
                    Outcome::Alone
                } else {
                    Outcome::Failed(status)
                };
                for replies in waiters.into_values() {
                    answer(replies, &outcome);
                }
            }
        }
    }

    async fn read(
        &self,
        function: DigestFunction,
        blobs: &HashMap<Digest, Bytes>,
        deadline: Instant,
    ) -> Result<Vec<(Option<Digest>, Outcome)>, Status> {
        let message = BatchReadBlobsRequest {
            instance_name: self.upstream.options.instance_name.clone(),
            digests: blobs.keys().map(wire_digest).collect(),
            acceptable_compressors: Vec::new(),
            digest_function: function.to_wire(),
        };
        let attempt = |line: Arc<Line>| {
            let request = self.upstream.unary(message.clone(), deadline);
            async move { line.cas().batch_read_blobs(request).await.map(Response::into_inner) }
        };
        let response = self.upstream.call(deadline, attempt).await?;
        let outcomes = response.responses.into_iter().map(|one| {
            let data = one.data;
            self.upstream.counters.bytes_read.add(data.len() as u64);
            let outcome = outcome(one.status.as_ref(), || Outcome::Read(data));
            (read_digest(function, one.digest.as_ref()), outcome)
        });
        Ok(outcomes.collect())
    }

    async fn write(
        &self,
        function: DigestFunction,
        blobs: &HashMap<Digest, Bytes>,
        deadline: Instant,
    ) -> Result<Vec<(Option<Digest>, Outcome)>, Status> {
        let requests = blobs.iter().map(|(digest, data)| BatchUpdateBlob {
            digest: Some(wire_digest(digest)),
            data: data.clone(),
            compressor: 0,
        });
        let message = BatchUpdateBlobsRequest {
            instance_name: self.upstream.options.instance_name.clone(),
            requests: requests.collect(),
            digest_function: function.to_wire(),
        };
        let attempt = |line: Arc<Line>| {
            let request = self.upstream.unary(message.clone(), deadline);
            async move { line.cas().batch_update_blobs(request).await.map(Response::into_inner) }
        };
        let response = self.upstream.call(deadline, attempt).await?;
        let sent_bytes = blobs.values().map(|data| data.len() as u64).sum();
        self.upstream.counters.bytes_written.add(sent_bytes);
        let outcomes = response.responses.into_iter().map(|one| {
            let digest = read_digest(function, one.digest.as_ref());
            match outcome(one.status.as_ref(), || Outcome::Stored) {
                Outcome::Absent => (digest, Outcome::Alone),
                outcome => (digest, outcome),
            }
        });
        Ok(outcomes.collect())
    }
}

fn outcome(status: Option<&rpc::Status>, done: impl FnOnce() -> Outcome) -> Outcome {
    match status.map_or(Code::Ok, |status| Code::from_i32(status.code)) {
        Code::Ok => done(),
        Code::NotFound => Outcome::Absent,
        _ => Outcome::Alone,
    }
}

fn answer(replies: Vec<oneshot::Sender<Outcome>>, outcome: &Outcome) {
    for reply in replies {
        // Who does not wait any more needs no answer.
        drop(reply.send(match outcome {
            Outcome::Read(data) => Outcome::Read(data.clone()),
            Outcome::Stored => Outcome::Stored,
            Outcome::Absent => Outcome::Absent,
            Outcome::Alone => Outcome::Alone,
            Outcome::Failed(status) => Outcome::Failed(status.clone()),
        }));
    }
}

/// Whether a whole batch was refused for what it is, not for the state of the upstream.
fn is_about_the_batch(status: &Status) -> bool {
    let codes = [
        Code::InvalidArgument,
        Code::OutOfRange,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::NotFound,
    ];
    !is_of_transport(status) && codes.contains(&status.code())
}

/// One of the slots.
struct Worker {
    batches: Arc<Batches>,
    is_counted: bool,
}

impl Worker {
    async fn run(mut self) {
        loop {
            // Who sends a blob here has asked for them.
            let max_bytes = self.batches.upstream.known_limits.latest().max_batch_bytes;
            let Some((function, batch)) = self.batches.take(max_bytes) else {
                self.is_counted = false;
                return;
            };
            let deadline = self.batches.upstream.deadline();
            self.batches.run(function, batch, deadline).await;
        }
    }
}

impl Drop for Worker {
    /// After a panic, or when the runtime stops: the slot is free again.
    fn drop(&mut self) {
        if self.is_counted {
            self.batches.queue.lock().workers -= 1;
        }
    }
}
