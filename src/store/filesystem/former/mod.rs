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
pub(super) mod rewrite;
mod sources;
mod take_over;
mod walk;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::index::Found;
use super::options::Adopt;
use super::shared::{Parts, Shared};
use super::sync::Mutex;
use crate::digest::DigestFunction;
use crate::store::{Key, StoreError};
pub(super) use sources::Findings;
use sources::{Layout, Source};
pub(super) use walk::run_walk;

/// Keys looked up under one hold of the index lock.
const LOOKUP_BATCH: usize = 512;
/// Keys that one job looks for.
const JOB_KEYS: usize = 64;
const STRIPES: usize = 256;

/// What is known of the other server's files.
#[derive(Debug)]
pub(super) struct Former {
    sources: Vec<Source>,
    adopt: Adopt,
    function: DigestFunction,
    /// What was purged later is purged of them too: a point on the line of logical time.
    since: u64,
    is_done: AtomicBool,
    is_stopped: AtomicBool,
    /// One who takes over files of one first byte at a time.
    stripes: Vec<Mutex<()>>,
    /// Held while names that are kept beside the store's go, or are measured.
    originals: Mutex<()>,
}

impl Former {
    pub(super) fn new(findings: Findings, since: u64) -> Self {
        let Findings { sources, adopt, function } = findings;
        Self {
            is_done: AtomicBool::new(sources.is_empty()),
            is_stopped: AtomicBool::new(false),
            sources,
            adopt,
            function,
            since,
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            originals: Mutex::default(),
        }
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

    fn keeps_originals(&self) -> bool {
        self.adopt == Adopt::Link
    }

    fn sources_of(&self, key: &Key) -> impl Iterator<Item = &Source> {
        let is_function = key.digest.function == self.function;
        self.sources.iter().filter(move |source| is_function && source.may_hold(key))
    }

    fn stripe(&self, first_byte: u8) -> Option<&Mutex<()>> {
        self.stripes.get(usize::from(first_byte))
    }
}

/// Makes sure that the files of these keys are taken over, if there are any.
///
/// Cancel safe.
pub(super) async fn ensure(parts: &Arc<Parts>, keys: &[Key]) -> Result<(), StoreError> {
    if parts.former.is_done() {
        return Ok(());
    }
    let may_be = |key: &&Key| parts.former.sources_of(key).next().is_some();
    let mut wanted = Vec::new();
    for batch in keys.chunks(LOOKUP_BATCH) {
        let batch: Vec<&Key> = batch.iter().filter(may_be).collect();
        parts.index.lock(|index| {
            // There may be a better one of what nobody has used yet.
            let is_wanted = |key: &&Key| index.peek(key).is_none_or(|it| it.is_untried);
            wanted.extend(batch.into_iter().filter(is_wanted));
        });
    }
    for batch in wanted.chunks(JOB_KEYS) {
        let (worker, batch) = (Arc::clone(parts), batch.to_vec());
        let job = move || batch.iter().try_for_each(|key| seek(&worker, key));
        // What cannot be looked for is not there: other requests need not fail for that.
        if let Err(error) = parts.pool.run_unmetered(job).await? {
            tracing::warn!(%error, "files of another server not looked through");
        }
    }
    Ok(())
}

/// Looks for the file of one key. Blocking.
fn seek(parts: &Parts, key: &Key) -> io::Result<()> {
    for source in parts.former.sources_of(key) {
        match source.layout {
            Layout::Flat => take_over::by_name(parts, source, key)?,
            Layout::Buckets => {
                let [first, ..] = key.digest.hash;
                take_over::bucket(parts, source, first)?;
            }
        }
    }
    Ok(())
}

/// Checks an entry whose file has another form without rewriting it; false when it is not what it
/// claims, which takes it out.
pub(super) async fn check_in_place(
    shared: &Arc<Shared>,
    found: &Found,
) -> Result<bool, StoreError> {
    let (worker, found) = (Arc::clone(&shared.parts), *found);
    let job = move || {
        let is_whole = rewrite::is_whole(&worker, &found.file)?;
        if is_whole {
            worker.index.lock(|index| index.mark_verified(&found));
        } else {
            worker.condemn_corrupt(&found.file);
        }
        Ok(is_whole)
    };
    let checked: io::Result<bool> = shared.parts.pool.run(job).await?;
    checked.map_err(|error| StoreError::io("check a file of another server", error))
}

/// Takes over what there may be of a hash, whatever the size. Blocking.
pub(super) fn seek_hash(parts: &Parts, hash: &[u8]) -> io::Result<()> {
    let Some(first) = hash.first().filter(|_| !parts.former.is_done()) else { return Ok(()) };
    for source in &parts.former.sources {
        match source.layout {
            Layout::Flat => take_over::by_hash(parts, source, hash)?,
            Layout::Buckets => take_over::bucket(parts, source, *first)?,
        }
    }
    Ok(())
}
