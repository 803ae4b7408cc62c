//! Reads of whole blobs that the fast tier does not have, which fill it on the way.
//!
//! A task reads the slow tier, writes into the fast one, and hands the same chunks to the first
//! reader as they come. Others wait until the fast tier has the blob, or read the slow tier
//! themselves. Whatever becomes of the copy, the first reader gets the bytes of the slow tier.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::fence::{Origin, Ticket};
use super::flights::{Duty, Followed, Joined, Landing, follow};
use super::parts::{Parts, bounded};
use crate::store::{BeginPut, BlobReader, BlobSource, ByteRange, Key, StoreError, Upload};

/// How much is read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that the first reader may lag behind.
const LAG_CHUNKS: usize = 4;
/// How long the fast tier may hold a read up to make room.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// How long room in the fast tier is held for a reader who takes nothing.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a population goes on without its reader.
const ALONE_PATIENCE: Duration = Duration::from_mins(1);
/// Flights that are joined in a row before the slow tier is asked.
const MAX_ROUNDS: usize = 4;

/// A chunk; `Ok(None)` is the end of the value.
type Piece = Result<Option<Bytes>, StoreError>;

/// Reads a whole value that the fast tier did not have. Cancel safe.
pub(super) async fn read(parts: &Arc<Parts>, key: &Key) -> Result<Option<BlobReader>, StoreError> {
    for _ in 0..MAX_ROUNDS {
        let progress = match parts.flights.join(key) {
            Joined::Leader(duty) => return lead(parts, key, duty).await,
            Joined::Follower(progress) => progress,
        };
        match follow(progress).await {
            Followed::Landed(Landing::InFast) => {
                if let Some(reader) = parts.open_fast(key, ByteRange::ALL).await {
                    return Ok(Some(reader));
                }
                break;
            }
            Followed::Abandoned => {}
            Followed::Landed(_) | Followed::Stalled => break,
        }
    }
    parts.open_slow(key, ByteRange::ALL).await
}

async fn lead(parts: &Arc<Parts>, key: &Key, duty: Duty) -> Result<Option<BlobReader>, StoreError> {
    // I16: from before the slow tier is asked.
    let ticket = parts.fence.begin(key, Origin::Stored);
    // An earlier flight may have ended since this reader looked.
    if let Some(reader) = parts.open_fast(key, ByteRange::ALL).await {
        duty.end(Landing::InFast);
        return Ok(Some(reader));
    }
    let Some(reader) = parts.open_slow(key, ByteRange::ALL).await? else { return Ok(None) };
    let remaining_bytes = reader.remaining_bytes();
    let (client, pieces) = mpsc::channel(LAG_CHUNKS);
    let population = Population {
        parts: Arc::clone(parts),
        key: *key,
        copy: None,
        client: Some(client),
        alone_until: None,
        total_bytes: remaining_bytes,
        done_bytes: 0,
    };
    let broken_off = parts.broken_off.clone();
    parts.spawn("populate the fast tier", async move {
        let running = Box::pin(population.run(reader, ticket, duty));
        broken_off.run_until_cancelled(running).await.unwrap_or_default();
    });
    let rest = Bytes::new();
    let relay = Relay { pieces, remaining_bytes, rest, is_ended: false };
    Ok(Some(BlobReader::Stream(Box::new(relay))))
}

/// A copy on its way into the fast tier.
#[derive(Debug)]
struct Copy {
    upload: Upload,
    ticket: Ticket,
    duty: Duty,
}

#[derive(Debug)]
struct Population {
    parts: Arc<Parts>,
    key: Key,
    /// `None` when the fast tier is not to get it.
    copy: Option<Copy>,
    /// `None` when the reader has gone away.
    client: Option<mpsc::Sender<Piece>>,
    /// Since the reader has gone away.
    alone_until: Option<Instant>,
    total_bytes: u64,
    done_bytes: u64,
}

impl Population {
    async fn run(mut self, mut reader: BlobReader, ticket: Ticket, duty: Duty) {
        self.begin(ticket, duty).await;
        while let Some(piece) = self.next(&mut reader).await {
            match piece {
                Ok(Some(chunk)) => {
                    self.done_bytes += chunk.len() as u64;
                    self.write(chunk.clone()).await;
                    self.hand_over(Ok(Some(chunk))).await;
                }
                Ok(None) => return self.finish().await,
                Err(error) => {
                    self.give_up(&error);
                    return self.hand_over(Err(error)).await;
                }
            }
        }
    }

    async fn begin(&mut self, ticket: Ticket, duty: Duty) {
        let parts = Arc::clone(&self.parts);
        if parts.fast.is_waiting_for_room() {
            parts.counters.population_failures.rise();
            return duty.end(Landing::NotInFast);
        }
        let begun = ticket.guard(parts.fast.begin_put(&self.key, self.total_bytes));
        match timeout(ROOM_PATIENCE, begun).await {
            Ok(Ok(BeginPut::Upload(upload))) => self.copy = Some(Copy { upload, ticket, duty }),
            Ok(Ok(BeginPut::AlreadyPresent)) => duty.end(Landing::InFast),
            Ok(Err(error)) => {
                parts.counters.population_failures.rise();
                tracing::debug!(%error, key = %self.key, "fast tier takes no copy");
                duty.end(Landing::NotInFast);
            }
            Err(_) => {
                parts.counters.population_failures.rise();
                duty.end(Landing::NotInFast);
            }
        }
    }

    /// The next piece of the slow tier; `None` when nobody needs it any more.
    async fn next(&mut self, reader: &mut BlobReader) -> Option<Piece> {
        loop {
            let Some(client) = &self.client else {
                let (until, copy) = (self.alone_until?, self.copy.as_ref()?);
                return tokio::select! {
                    piece = reader.next(CHUNK_BYTES) => Some(piece),
                    () = sleep_until(until) => None,
                    () = copy.ticket.cut() => None,
                };
            };
            tokio::select! {
                biased;
                piece = reader.next(CHUNK_BYTES) => return Some(piece),
                () = client.closed() => self.go_on_alone(),
                // A purge of the fast tier waits for what is being written there.
                () = cut(self.copy.as_ref()) => self.give_up(&StoreError::Purged),
            }
        }
    }

    /// The reader has gone away: the copy is finished if others wait or little is missing.
    fn go_on_alone(&mut self) {
        self.client = None;
        let is_mostly_done = self.done_bytes >= self.total_bytes.div_ceil(2);
        let is_wanted = self.copy.as_ref().is_some_and(|it| it.duty.has_followers());
        if self.copy.is_some() && (is_mostly_done || is_wanted) {
            self.alone_until = Some(Instant::now() + ALONE_PATIENCE);
        }
    }

    async fn write(&mut self, chunk: Bytes) {
        let Some(mut copy) = self.copy.take() else { return };
        match copy.ticket.guard(bounded(copy.upload.write(chunk))).await {
            Ok(()) => {
                copy.duty.moves();
                self.copy = Some(copy);
            }
            Err(error) => self.refuse(copy.duty, &error),
        }
    }

    /// Hands a piece to the reader, as fast as that takes it.
    async fn hand_over(&mut self, piece: Piece) {
        let Some(client) = self.client.clone() else { return };
        if let Some(Copy { ticket, .. }) = &self.copy {
            tokio::select! {
                biased;
                permit = client.reserve() => {
                    return match permit {
                        Ok(permit) => permit.send(piece),
                        Err(_) => self.go_on_alone(),
                    };
                }
                // The room is another's then.
                () = ticket.cut() => self.give_up(&StoreError::Purged),
                () = tokio::time::sleep(CLIENT_PATIENCE) => {
                    let what = "the reader of the value takes nothing".to_owned();
                    self.give_up(&StoreError::Unavailable { what });
                }
            }
        }
        if client.send(piece).await.is_err() {
            self.go_on_alone();
        }
    }

    /// Ends the read and the copy; neither waits long for the other.
    async fn finish(mut self) {
        let told = self.client.as_ref().map(|client| client.try_send(Ok(None)));
        self.commit().await;
        if let Some(Err(_)) = told {
            self.hand_over(Ok(None)).await;
        }
    }

    async fn commit(&mut self) {
        let Some(Copy { upload, ticket, duty }) = self.copy.take() else { return };
        if ticket.is_cut() {
            return self.refuse(duty, &StoreError::Purged);
        }
        // The fast tier refuses what a purge cuts off from here on.
        match bounded(upload.commit()).await {
            Ok(()) => {
                self.parts.counters.populations.rise();
                duty.end(Landing::InFast);
            }
            Err(error) => self.refuse(duty, &error),
        }
        drop(ticket);
    }

    fn give_up(&mut self, error: &StoreError) {
        if let Some(Copy { upload, ticket, duty }) = self.copy.take() {
            drop((upload, ticket));
            self.refuse(duty, error);
        }
    }

    fn refuse(&self, duty: Duty, error: &StoreError) {
        self.parts.counters.population_failures.rise();
        tracing::debug!(%error, key = %self.key, "no copy in the fast tier");
        duty.end(Landing::NotInFast);
    }
}

/// Waits until a copy is cut off.
async fn cut(copy: Option<&Copy>) {
    match copy {
        Some(copy) => copy.ticket.cut().await,
        None => std::future::pending().await,
    }
}

/// What the first reader reads.
#[derive(Debug)]
struct Relay {
    pieces: mpsc::Receiver<Piece>,
    remaining_bytes: u64,
    rest: Bytes,
    is_ended: bool,
}

#[async_trait]
impl BlobSource for Relay {
    fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        while self.rest.is_empty() && !self.is_ended {
            match self.pieces.recv().await {
                Some(Ok(Some(chunk))) => self.rest = chunk,
                // I20: only what the slow tier has ended has an end.
                Some(Ok(None)) => self.is_ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(StoreError::ShuttingDown),
            }
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let chunk = self.rest.split_to(self.rest.len().min(max_bytes));
        self.remaining_bytes = self.remaining_bytes.saturating_sub(chunk.len() as u64);
        Ok(Some(chunk))
    }
}
