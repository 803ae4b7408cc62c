//! Taking over what another server has left in the store's directory.
//!
//! Nothing is copied and nothing is scanned before the first request. A request for a value that is
//! not known looks for the file that the other server would have it in; a walk in the background
//! takes over the rest. Taking over is a hard link under a name of the store's and the removal of
//! the old one: a kill in between leaves two names of one file, which the next walk puts right. The
//! entry is one that a former process left: of unknown truth, hashed before its first byte goes
//! out, as old as its file's last use.
//!
//! What has another form, a casblob or an action result without a checksum, is an entry all the
//! same and is rewritten before it is read ([`rewrite`]). What lies (another size, another hash, a
//! torn header) is dropped and counted. A purge cuts off what was not taken over yet too (I16).
//!
//! With [`Adopt::Link`] the old names stay, each a second name of the store's file, so that the
//! other server can be gone back to; they leave when their entry does ([`originals`]).

mod candidate;
pub(super) mod executables;
mod measure;
pub(super) mod originals;
mod owned;
mod proof;
pub(super) mod rewrite;
mod sources;
mod take_over;
mod walk;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::index::Found;
use super::options::Adopt;
use super::shared::{Parts, Shared};
use super::sync::{self, Mutex, MutexGuard};
use crate::digest::{DigestFunction, HASH_BYTES};
use crate::store::{Key, StoreError};
pub(super) use sources::Findings;
use sources::{Layout, Source};
pub(super) use walk::run_walk;

/// Keys looked up under one hold of the index lock.
const LOOKUP_BATCH: usize = 512;
/// Keys that one job looks for.
const JOB_KEYS: usize = 64;
const STRIPES: usize = 256;
/// Jobs that look for files of requests at once.
const MAX_SEEKERS: usize = 8;

/// What is known of the other server's files.
#[derive(Debug)]
pub(super) struct Former {
    sources: Vec<Source>,
    adopt: Adopt,
    function: DigestFunction,
    /// What was purged later is purged of them too: a point on the line of logical time.
    since: u64,
    is_done: AtomicBool,
    /// Whether there may be files under old names.
    has_left: AtomicBool,
    is_stopped: AtomicBool,
    /// One who takes over files of one first byte at a time.
    stripes: Vec<Mutex<()>>,
    /// Whether values are kept in a store of their own below the root.
    has_values: bool,
    seekers: Semaphore,
    /// Held while names that are kept beside the store's go, or are measured.
    originals: Mutex<()>,
    /// How often names have gone, or become the store's.
    releases: AtomicU64,
}

impl Former {
    pub(super) fn new(findings: Findings, since: u64, has_values: bool) -> Self {
        let Findings { sources, adopt, function, .. } = findings;
        let stripes = if sources.is_empty() { 0 } else { STRIPES };
        let stripes = (0..stripes).map(|_| Mutex::new(())).collect();
        Self {
            is_done: AtomicBool::new(sources.is_empty()),
            has_left: AtomicBool::new(!sources.is_empty()),
            is_stopped: AtomicBool::new(false),
            sources,
            adopt,
            function,
            since,
            stripes,
            has_values,
            seekers: Semaphore::new(MAX_SEEKERS),
            originals: Mutex::default(),
            releases: AtomicU64::new(0),
        }
    }

    /// That of a directory where no other server has been.
    #[cfg(all(test, feature = "shuttle"))]
    pub(super) fn nothing() -> Self {
        Self::new(Findings::nothing(), 0, false)
    }

    /// Whether everything has been taken over that could be.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Directories that are still being taken over.
    pub(super) fn open_directories(&self) -> u64 {
        if self.is_done() { 0 } else { self.sources.len() as u64 }
    }

    /// Ends the walk soon.
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Whether a look through many names goes on.
    fn go_on(&self) -> ControlFlow<()> {
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Whether files keep the names that another server has given them.
    pub(super) fn keeps_originals(&self) -> bool {
        self.adopt == Adopt::Link && !self.sources.is_empty()
    }

    fn may_be_in(&self, source: &Source, key: &Key) -> bool {
        key.digest.function == self.function && source.may_hold(key)
    }

    fn sources_of(&self, key: &Key) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(move |source| self.may_be_in(source, key))
    }

    /// Keeps every file of another server what it is until the result is dropped: nothing is taken
    /// over and no name goes. Whoever holds a stripe may come to want `originals`.
    fn hold_all(&self) -> (Vec<MutexGuard<'_, ()>>, MutexGuard<'_, ()>) {
        (self.stripes.iter().map(Mutex::lock).collect(), self.originals.lock())
    }

    fn stripe(&self, first_byte: u8) -> Option<&Mutex<()>> {
        self.stripes.get(usize::from(first_byte))
    }
}

/// Makes sure that the files of these keys are taken over, if there are any. What cannot be looked
/// for is not there: other requests need not fail for that.
///
/// Cancel safe.
pub(super) async fn ensure(parts: &Arc<Parts>, keys: &[Key]) -> Result<(), StoreError> {
    if parts.former.is_done() {
        return Ok(());
    }
    let may_be = |key: &&Key| parts.former.sources_of(key).next().is_some();
    let mut wanted: Vec<Key> = Vec::new();
    for batch in keys.chunks(LOOKUP_BATCH) {
        let batch: Vec<&Key> = batch.iter().filter(may_be).collect();
        parts.index.lock(|index| {
            // There may be a better one of what nobody has used yet.
            let is_wanted = |key: &&Key| index.peek(key).is_none_or(|it| it.is_untried);
            wanted.extend(batch.into_iter().filter(is_wanted));
        });
    }
    wanted.sort_unstable_by_key(|key| key.digest.hash);
    wanted.dedup();
    for batch in wanted.chunks(JOB_KEYS) {
        let permit = parts.former.seekers.acquire().await;
        let _permit = permit.map_err(|_| StoreError::ShuttingDown)?;
        let (worker, batch) = (Arc::clone(parts), batch.to_vec());
        let job = move || {
            let same_byte = |one: &Key, other: &Key| first_byte(one) == first_byte(other);
            for of_byte in batch.chunk_by(same_byte) {
                if let Err(error) = seek(&worker, of_byte) {
                    tracing::debug!(%error, "files of another server not looked for");
                }
            }
        };
        parts.pool.run_unmetered(job).await?;
    }
    Ok(())
}

fn first_byte(key: &Key) -> u8 {
    let [first, ..] = key.digest.hash;
    first
}

/// Looks for the files of keys with one first byte, wherever they may be. Blocking.
fn seek(parts: &Parts, keys: &[Key]) -> io::Result<()> {
    let mut outcome = Ok(());
    for source in &parts.former.sources {
        let keys: Vec<&Key> =
            keys.iter().filter(|key| parts.former.may_be_in(source, key)).collect();
        let Some(first) = keys.first() else { continue };
        outcome = outcome.and(match source.layout {
            // One that cannot be sought is no reason to leave out the others.
            Layout::Flat => {
                let mut sought = Ok(());
                for key in keys {
                    sought = take_over::by_name(parts, source, key).and(sought);
                }
                sought
            }
            Layout::Buckets => {
                let is_wanted = |hash: &[u8; HASH_BYTES]| {
                    keys.binary_search_by_key(&hash, |key| &key.digest.hash).is_ok()
                };
                take_over::of_bucket(parts, source, first_byte(first), is_wanted)
            }
        });
    }
    outcome
}

/// Keeps files with this first byte from being taken over until the result is dropped; `None` when
/// all are.
pub(super) fn hold<'a>(parts: &'a Parts, hash: &[u8]) -> Option<MutexGuard<'a, ()>> {
    let first = hash.first().filter(|_| !parts.former.is_done())?;
    parts.former.stripe(*first).map(Mutex::lock)
}

/// Checks an entry whose file has another form without rewriting it, once for all who ask; false
/// when it is not what it claims, which takes it out.
///
/// Cancel safe.
pub(super) async fn check_in_place(
    shared: &Arc<Shared>,
    found: &Found,
) -> Result<bool, StoreError> {
    let (mut outcome, duty) = shared.checks.join(found.file.generation);
    if let Some(duty) = duty {
        let (worker, found) = (Arc::clone(shared), *found);
        sync::spawn("check a file of another server", async move {
            let _permit = worker.check_permits.acquire().await;
            let parts = Arc::clone(&worker.parts);
            let checked = worker.parts.pool.run(move || check_here(&parts, &found)).await;
            worker.checks.end(duty, checked.ok().and_then(Result::ok));
        });
    }
    outcome.wait().await.ok_or_else(|| {
        let source = io::Error::other("it could not be read");
        StoreError::io("check a file of another server", source)
    })
}

fn check_here(parts: &Parts, found: &Found) -> io::Result<bool> {
    let is_whole = rewrite::is_whole(parts, &found.file)?;
    if is_whole {
        parts.index.lock(|index| index.mark_verified(found));
    } else {
        parts.condemn_corrupt(&found.file);
    }
    Ok(is_whole)
}

/// Takes over what there may be of a hash, whatever the size. Blocking.
pub(super) fn seek_hash(parts: &Parts, hash: &[u8; HASH_BYTES]) -> io::Result<()> {
    if parts.former.is_done() {
        return Ok(());
    }
    let [first, ..] = *hash;
    for source in &parts.former.sources {
        match source.layout {
            Layout::Flat => take_over::by_hash(parts, source, hash)?,
            Layout::Buckets => {
                take_over::of_bucket(parts, source, first, |other| other == hash)?;
            }
        }
    }
    Ok(())
}

impl Parts {
    /// Refuses to go on once the store is stopping: the directory may soon be another's.
    fn check_open(&self) -> io::Result<()> {
        let is_closed = self.former.is_stopped() || self.index.lock(|index| index.is_closed());
        if is_closed { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}
