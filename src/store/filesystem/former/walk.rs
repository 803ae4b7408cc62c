//! Taking over everything, slowly, while requests are served.
//!
//! First it is estimated what there is, so that the books can be kept; until then nothing is
//! evicted (I14) and writes get what surely is free. Then directory after directory is taken over;
//! requests do not wait for the walk, they look for their files themselves.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::shared::Parts;
use super::super::sync::{Instant, sleep};
use super::super::{disk, full_disk, snapshots};
use super::candidate::Candidate;
use super::executables;
use super::measure::{Measure, estimate, measure};
use super::sources::{Holds, Layout, Source};
use super::take_over;
use crate::store::StoreError;
use crate::store::waiters::until;

/// Names of one flat directory that are held in memory at once.
const MAX_CANDIDATES: u64 = 1 << 16;
/// Of those, how many one job takes over.
const JOB_CANDIDATES: usize = 1024;
/// After a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between attempts to end.
const HOPELESS_PAUSE: Duration = Duration::from_mins(1);
/// Tries of one step before the walk goes on without it.
const MAX_TRIES: u32 = 3;
/// How often room is made on a full disk for one step.
const MAX_ROOMS: u32 = 16;
/// How often the walk begins anew for steps that have failed.
const MAX_ROUNDS: u32 = 5;
/// Measures of what is left, until nothing goes meanwhile.
const MAX_MEASURES: u32 = 10;
/// Of a step's time, how long the walk rests after it: half of the time at most it works.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// Takes over what there is, then says so, unless the store closes.
pub(in crate::store::filesystem) async fn run_walk(parts: Arc<Parts>, closing: CancellationToken) {
    if parts.former.is_done() {
        return;
    }
    let walk = Walk { parts, has_failed: AtomicBool::new(false) };
    let mut run = pin!(walk.run());
    tokio::select! {
        biased;
        () = closing.cancelled() => {
            walk.parts.former.stop();
            walk.parts.write_ended.notify_waiters();
        }
        () = &mut run => return,
    }
    // What has begun ends: after a stop nothing touches the directory.
    run.await;
}

struct Walk {
    parts: Arc<Parts>,
    /// Whether some step has been given up since this was last looked at.
    has_failed: AtomicBool,
}

impl Walk {
    async fn run(&self) {
        // Of files with two names only who knows the entries can say whose they are; and what an
        // unclean stop makes of the books until then is no reason to bear anything.
        let is_read = || !self.parts.index.lock(|index| index.has_unread_shards());
        until(&self.parts.write_ended, || self.parts.former.is_stopped() || is_read()).await;
        let measured = self.step("estimate what another server left", estimate_all).await;
        if self.parts.former.is_stopped() {
            return;
        }
        // One that cannot be estimated is walked through all the same.
        let sources = self.parts.former.sources.len();
        let measured = measured.unwrap_or_else(|| vec![Measure::default(); sources]);
        // Names can say anything; the disk knows better what there is at most.
        let used_bytes = self.parts.disk.space().map_or(0, |space| space.used_bytes);
        let bytes = measured.iter().fold(0_u64, |sum, it| sum.saturating_add(it.bytes));
        let bytes = bytes.min(used_bytes);
        let files = measured.iter().fold(0_u64, |sum, it| sum.saturating_add(it.candidates));
        let root = self.parts.disk.root_path().display().to_string();
        tracing::info!(root, files, bytes, "taking over what another server left");
        let books = self.parts.update(|index| {
            index.measure_former(bytes);
            index.ledger()
        });
        // Without what is only feared to be there.
        let known_bytes = books.resident_bytes.saturating_add(books.overhead_bytes);
        let over = known_bytes.saturating_add(bytes).saturating_sub(books.max_bytes);
        if over > 0 {
            tracing::warn!(
                root,
                over,
                "more than the cap: what was used longest ago leaves at the end"
            );
        }
        let has_flat = |it: &Source| it.layout == Layout::Flat && it.holds != Holds::Others;
        if !self.parts.former.keeps_originals() && self.parts.former.sources.iter().any(has_flat) {
            self.step("remove executables", executables::remove).await;
        }
        self.has_failed.store(false, Ordering::Relaxed);
        for _ in 0..MAX_ROUNDS {
            for (at, measure) in measured.iter().enumerate() {
                self.walk_source(at, *measure).await;
            }
            if !self.has_failed.swap(false, Ordering::Relaxed) || self.parts.former.is_stopped() {
                break;
            }
            // Whatever is not taken over when all ends is not served before the next start.
            self.pause(HOPELESS_PAUSE).await;
        }
        self.finish(&root).await;
    }

    /// Says that all is done, as soon as that can be said.
    async fn finish(&self, root: &str) {
        while self.step("measure what is left", end).await.is_none() {
            if self.parts.former.is_stopped() {
                return;
            }
            self.pause(HOPELESS_PAUSE).await;
        }
        let counters = &self.parts.counters;
        tracing::info!(
            root,
            taken_over = counters.former_taken_over.get(),
            dropped = counters.former_dropped.get(),
            duplicates = counters.former_duplicates.get(),
            left = counters.former_left.get(),
            "everything of another server is taken over"
        );
        self.parts.poke_evictor();
    }

    async fn walk_source(&self, at: usize, measure: Measure) {
        let Some(source) = self.parts.former.sources.get(at) else { return };
        match source.layout {
            _ if source.holds == Holds::Others => {}
            Layout::Buckets => {
                // Some may have been taken over in the round before.
                for byte in (0..=u8::MAX).filter(|byte| !source.is_done(*byte)) {
                    self.source_step(at, move |parts, source| {
                        take_over::bucket(parts, source, byte)
                    })
                    .await;
                }
            }
            Layout::Flat => {
                // Names are random, so each pass finds about as many.
                let passes = measure.candidates.div_ceil(MAX_CANDIDATES).clamp(1, 256);
                for pass in 0..passes {
                    self.walk_flat(at, pass, passes).await;
                }
            }
        }
    }

    async fn walk_flat(&self, at: usize, pass: u64, passes: u64) {
        let list = move |parts: &Parts, source: &Source| list_part(parts, source, pass, passes);
        let candidates = self.source_step(at, list).await.unwrap_or_default();
        for some in candidates.chunks(JOB_CANDIDATES) {
            let some = some.to_vec();
            self.source_step(at, move |parts, source| {
                take_over::by_shard(parts, source, some.clone())
            })
            .await;
        }
    }

    async fn source_step<R: Send + 'static>(
        &self,
        at: usize,
        act: impl Fn(&Parts, &Source) -> io::Result<R> + Clone + Send + 'static,
    ) -> Option<R> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.step("take over files", move |parts| {
            act(parts, parts.former.sources.get(at).ok_or_else(missing)?)
        })
        .await
    }

    /// Does one step on a blocking thread, and rests; `None` when it does not work. That the disk
    /// is full is no failure as long as room can be made, within bounds.
    async fn step<R: Send + 'static>(
        &self,
        what: &'static str,
        act: impl Fn(&Parts) -> io::Result<R> + Clone + Send + 'static,
    ) -> Option<R> {
        let (mut tries, mut rooms) = (0, 0);
        while tries < MAX_TRIES {
            if self.parts.former.is_stopped() {
                return None;
            }
            let (worker, act) = (Arc::clone(&self.parts), act.clone());
            let began = Instant::now();
            let outcome = self.parts.pool.run_unmetered(move || act(&worker)).await;
            match outcome {
                Ok(Ok(result)) => {
                    self.rest(began.elapsed()).await;
                    return Some(result);
                }
                // Others may take what is freed, and there are full disks that no room helps.
                Ok(Err(error))
                    if disk::is_full(&error)
                        && rooms < MAX_ROOMS
                        && full_disk::make_room(&self.parts, 0).await =>
                {
                    rooms += 1;
                }
                Ok(Err(_)) if self.parts.former.is_stopped() => return None,
                Ok(Err(error)) => {
                    tracing::warn!(what, %error, "step of the walk failed");
                    tries += 1;
                    self.pause(RETRY_PAUSE).await;
                }
                Err(StoreError::ShuttingDown) => return None,
                Err(error) => {
                    tracing::error!(what, %error, "step of the walk failed");
                    tries += 1;
                }
            }
        }
        self.has_failed.store(true, Ordering::Relaxed);
        None
    }

    /// Waits, unless the store closes.
    async fn pause(&self, pause: Duration) {
        self.parts.wait_until(pause, || self.parts.former.is_stopped()).await;
    }

    /// Not while somebody waits for what is taken over.
    async fn rest(&self, worked: Duration) {
        if !self.parts.index.lock(|index| index.has_waiters()) {
            sleep(worked.min(MAX_PAUSE)).await;
        }
    }
}

fn estimate_all(parts: &Parts) -> io::Result<Vec<Measure>> {
    of_all(parts, |source| estimate(parts, source))
}

fn of_all(
    parts: &Parts,
    measure: impl Fn(&Source) -> io::Result<Measure>,
) -> io::Result<Vec<Measure>> {
    let measures = parts.former.sources.iter().map(measure).collect();
    // Then a part is missing.
    if parts.former.is_stopped() { Err(io::ErrorKind::Interrupted.into()) } else { measures }
}

/// The names of a flat directory whose hashes are in a part of all.
fn list_part(parts: &Parts, source: &Source, pass: u64, passes: u64) -> io::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    parts.disk.visit(&source.directory, |found| {
        let candidate = Candidate::parse(source, None, &found.name);
        let is_meant = |it: &Candidate| {
            it.hash.first().is_some_and(|byte| u64::from(*byte) * passes / 256 == pass)
        };
        candidates.extend(candidate.filter(is_meant));
        parts.former.go_on()
    })?;
    candidates.sort_unstable_by_key(|candidate| candidate.hash);
    Ok(candidates)
}

/// Removes directories that have become empty, books what is left, and says that all is done.
fn end(parts: &Parts) -> io::Result<()> {
    let former = &parts.former;
    for source in former.sources.iter().filter(|source| !source.is_root()) {
        if source.layout == Layout::Buckets {
            for byte in 0..=u8::MAX {
                parts.disk.remove_empty_directory(&source.bucket_path(byte));
            }
        }
        parts.disk.remove_empty_directory(&source.directory);
    }
    for _ in 0..MAX_MEASURES {
        // Not while something goes: it would have been counted, and be there still.
        let releases = {
            let _held = former.hold_all();
            former.releases.load(Ordering::Relaxed)
        };
        let left = of_all(parts, |source| measure(parts, source))?;
        let has_candidates = left.iter().any(|it| it.candidates > 0);
        if !has_candidates {
            close_format(parts)?;
        }
        let _held = former.hold_all();
        // What went meanwhile was counted, or was not.
        if releases == former.releases.load(Ordering::Relaxed) {
            conclude(parts, &left, has_candidates);
            return Ok(());
        }
    }
    // On a busy store nothing goes for that long.
    let _held = former.hold_all();
    let left = of_all(parts, |source| measure(parts, source))?;
    conclude(parts, &left, left.iter().any(|it| it.candidates > 0));
    Ok(())
}

/// Writes down that the next directory of another server's begins anew.
fn close_format(parts: &Parts) -> io::Result<()> {
    // From now on a file's own times say no more when it was used last.
    let written = snapshots::make_room(parts).map_or(Ok(String::new()), snapshots::write);
    if let Err(error) = written {
        tracing::warn!(%error, "no snapshot of what was taken over");
    }
    parts.state.update(parts, |format| format.former = None)
}

fn conclude(parts: &Parts, left: &[Measure], has_candidates: bool) {
    let bytes = left.iter().map(|it| it.bytes).sum();
    parts.update(|index| {
        index.keep_fences(has_candidates);
        index.end_former(bytes);
    });
    parts.former.has_left.store(has_candidates, Ordering::Release);
    parts.former.is_done.store(true, Ordering::Release);
    parts.write_ended.notify_waiters();
}
