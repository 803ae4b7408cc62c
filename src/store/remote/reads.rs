//! Blobs that are read from an upstream.
//!
//! Owns transfers that break: they go on where they were. What comes is believed by nobody: a
//! whole blob is hashed, a part of one is measured.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use castellan_proto::messages::{ReadRequest, ReadResponse};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, Streaming};

use super::Upstream;
use super::batches::{Batches, Outcome};
use super::names::wire_size;
use super::pool::Line;
use super::results::cut;
use super::status::{delay, is_interruption};
use super::upstream::within;
use crate::digest::Digest;
use crate::store::verified::Verified;
use crate::store::{BlobReader, BlobSource, ByteRange, Key, StoreError};

/// How often one transfer is continued, at most.
const MAX_RESUMES: u32 = 8;

/// Opens a blob; `None` when it is absent.
pub(super) async fn open(
    batches: &Arc<Batches>,
    upstream: &Arc<Upstream>,
    digest: Digest,
    range: ByteRange,
) -> Result<Option<BlobReader>, StoreError> {
    if digest.is_empty() {
        return Ok(Some(BlobReader::Bytes(Bytes::new())));
    }
    let begun = Instant::now();
    let deadline = upstream.deadline();
    let wanted_bytes = range.len_within(digest.size_bytes);
    if wanted_bytes == 0 {
        let is_present = upstream.contains(digest, deadline).await?;
        return Ok(is_present.then(|| BlobReader::Bytes(Bytes::new())));
    }
    let limits = upstream.limits(deadline).await;
    if !limits.knows(digest.function) {
        return Ok(None);
    }
    let options = &upstream.options;
    if digest.size_bytes <= options.batching.max_blob_bytes.min(limits.max_batch_bytes) {
        match batches.travel(digest, Bytes::new(), deadline).await {
            Outcome::Read(data) => return check(upstream, digest, range, data).map(Some),
            Outcome::Absent => return Ok(None),
            Outcome::Failed(status) => return Err(upstream.error(&Key::blob(digest), &status)),
            Outcome::Alone | Outcome::Stored => {}
        }
    }
    let is_whole = wanted_bytes == digest.size_bytes;
    let (start, end) = if is_whole || options.verify_ranges {
        (0, digest.size_bytes)
    } else {
        (range.offset, range.offset.saturating_add(wanted_bytes))
    };
    let Some(source) = Transfer::begin(upstream, digest, start..end, begun).await? else {
        return Ok(None);
    };
    if end - start < digest.size_bytes {
        return Ok(Some(BlobReader::Stream(Box::new(source))));
    }
    let upstream = Arc::clone(upstream);
    let mismatch = move || upstream.lie(&Key::blob(digest));
    let verified = Verified::new(Box::new(source), digest, range, mismatch);
    Ok(Some(BlobReader::Stream(Box::new(verified))))
}

/// The part of a whole blob that is wanted.
fn check(
    upstream: &Upstream,
    digest: Digest,
    range: ByteRange,
    data: Bytes,
) -> Result<BlobReader, StoreError> {
    if data.len() as u64 != digest.size_bytes || Digest::of(digest.function, &data) != digest {
        return Err(upstream.lie(&Key::blob(digest)));
    }
    Ok(BlobReader::Bytes(cut(data, range)))
}

/// A part of a blob on its way here; neither hashed nor believed.
#[derive(Debug)]
struct Transfer {
    upstream: Arc<Upstream>,
    digest: Digest,
    name: String,
    position: u64,
    end: u64,
    open: Option<Open>,
    /// What has come and is not handed out.
    pending: Bytes,
    resumes: u32,
    /// When something came last, or was first waited for.
    progress: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Running,
    Ended,
    Failed(StoreError),
}

/// A call that is answering.
#[derive(Debug)]
struct Open {
    line: Arc<Line>,
    messages: Streaming<ReadResponse>,
}

impl Transfer {
    /// Waits for the first bytes: only then is it known whether there are any. `begun` is when the
    /// wait began.
    async fn begin(
        upstream: &Arc<Upstream>,
        digest: Digest,
        range: Range<u64>,
        begun: Instant,
    ) -> Result<Option<Self>, StoreError> {
        let mut transfer = Self {
            upstream: Arc::clone(upstream),
            digest,
            name: upstream.read_name(&digest),
            position: range.start,
            end: range.end,
            open: None,
            pending: Bytes::new(),
            resumes: 0,
            progress: begun,
            state: State::Running,
        };
        match transfer.call().await {
            Ok(()) => Ok(Some(transfer)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(upstream.error(&Key::blob(digest), &status)),
        }
    }

    /// Asks for what has not come yet, and takes the first of it in.
    async fn call(&mut self) -> Result<(), Status> {
        let upstream = &self.upstream;
        let is_to_the_end = self.end == self.digest.size_bytes;
        let message = ReadRequest {
            resource_name: self.name.clone(),
            read_offset: wire_size(self.position),
            read_limit: if is_to_the_end { 0 } else { wire_size(self.end - self.position) },
        };
        let attempt = |line: Arc<Line>| {
            let request = upstream.request(message.clone());
            async move {
                let mut messages = line.byte_stream().read(request).await?.into_inner();
                // Empty messages are allowed and say nothing (reapi 57).
                let first = loop {
                    match messages.message().await? {
                        Some(message) if message.data.is_empty() => {}
                        first => break first,
                    }
                };
                Ok((Open { line, messages }, first))
            }
        };
        let (open, first) = upstream.call(self.deadline(), attempt).await?;
        self.open = Some(open);
        // An error is kept for whoever reads.
        drop(self.take_in(first));
        Ok(())
    }

    /// When the next bytes must have come.
    fn deadline(&self) -> Instant {
        self.progress + self.upstream.options.rpc_timeout
    }

    /// Takes in a message; `None` is the end.
    fn take_in(&mut self, message: Option<ReadResponse>) -> Result<(), StoreError> {
        let Some(ReadResponse { data }) = message else {
            self.open = None;
            if self.position < self.end {
                return Err(self.lie());
            }
            self.state = State::Ended;
            return Ok(());
        };
        self.upstream.counters.bytes_read.add(data.len() as u64);
        self.position = self.position.saturating_add(data.len() as u64);
        if self.position > self.end {
            return Err(self.lie());
        }
        self.pending = data;
        Ok(())
    }

    fn lie(&mut self) -> StoreError {
        let error = self.upstream.lie(&Key::blob(self.digest));
        self.fail(error)
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        self.open = None;
        self.state = State::Failed(error.duplicate());
        error
    }

    /// Notes that the call broke, if it may go on at all.
    fn interrupt(&mut self, line: &Line, status: &Status) -> Result<(), StoreError> {
        self.open = None;
        if self.position == self.end {
            // Nothing is missing but the word that nothing is.
            self.state = State::Ended;
            return Ok(());
        }
        self.upstream.settle(line, status);
        let is_over = self.resumes >= MAX_RESUMES || Instant::now() >= self.deadline();
        if is_over || !is_interruption(status, &self.upstream.options.retry) {
            let error = self.upstream.error(&Key::blob(self.digest), status);
            return Err(self.fail(error));
        }
        self.resumes += 1;
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), StoreError> {
        let options = &self.upstream.options.retry;
        let pause = delay(&Status::unavailable(""), options, self.resumes.saturating_sub(1));
        sleep_until(self.deadline().min(Instant::now() + pause)).await;
        self.upstream.counters.retries.add(1);
        if let Err(status) = self.call().await {
            let error = self.upstream.error(&Key::blob(self.digest), &status);
            return Err(self.fail(error));
        }
        Ok(())
    }
}

#[async_trait]
impl BlobSource for Transfer {
    fn remaining_bytes(&self) -> u64 {
        self.end.saturating_sub(self.position).saturating_add(self.pending.len() as u64)
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        self.progress = Instant::now();
        loop {
            match &self.state {
                State::Failed(error) => return Err(error.duplicate()),
                _ if !self.pending.is_empty() => {
                    let length = self.pending.len().min(max_bytes);
                    return Ok(Some(self.pending.split_to(length)));
                }
                State::Ended => return Ok(None),
                State::Running => {}
            }
            let deadline = self.deadline();
            let Some(open) = &mut self.open else {
                self.resume().await?;
                continue;
            };
            match within(deadline, open.messages.message()).await {
                Ok(message) => self.take_in(message)?,
                Err(status) => {
                    let line = Arc::clone(&open.line);
                    self.interrupt(&line, &status)?;
                }
            }
        }
    }
}
