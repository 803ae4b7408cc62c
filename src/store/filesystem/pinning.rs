//! How blobs are pinned: many at once, their bytes known to be right, their variants made.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::index::{Found, Pinning};
use super::pins::{Pin, PinnedFile};
use super::shared::Shared;
use super::{loader, reader, variants};
use crate::store::{Key, StoreError};

/// Times that a blob may leave, come again or be changed during one call.
const MAX_ROUNDS: usize = 8;
/// Pins under one hold of the index lock.
const BATCH: usize = 512;
/// Batches of one call that are looked at on the disk at the same time.
const BATCHES_AT_ONCE: usize = 4;
/// Files that one call has hashed or copied at the same time.
const FILES_AT_ONCE: usize = 16;

/// What a blob is pinned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is to stay.
    Keep,
    /// Links to its file.
    Link,
    /// Links to its executable variant, made on first demand.
    Run,
}

/// What is to be pinned.
pub(super) type Wanted = (Key, Purpose);

/// Pins a blob; `None` when it is absent or leaves meanwhile. The bytes are known to be right.
pub(super) async fn pin(
    shared: &Arc<Shared>,
    key: Key,
    purpose: Purpose,
) -> Result<Option<PinnedFile>, StoreError> {
    Ok(pin_all(shared, &[(key, purpose)]).await?.pop().flatten())
}

/// The same for many, in their order. After an error none is pinned.
///
/// Cancel safe.
pub(super) async fn pin_all(
    shared: &Arc<Shared>,
    wanted: &[Wanted],
) -> Result<Vec<Option<PinnedFile>>, StoreError> {
    let keys: Vec<Key> = wanted.iter().map(|(key, _)| *key).collect();
    loader::ensure(&shared.parts, &keys).await?;
    let batches: Vec<Vec<Wanted>> = wanted.chunks(BATCH).map(<[Wanted]>::to_vec).collect();
    let attempts = stream::iter(batches).map(|batch| pin_batch(shared, batch));
    let attempts = attempts.buffered(BATCHES_AT_ONCE).try_concat().await?;
    let mut pinned = Vec::with_capacity(wanted.len());
    let mut unready = Vec::new();
    for (attempt, wanted) in attempts.into_iter().zip(wanted) {
        if matches!(attempt, Attempt::Unready) {
            unready.push((pinned.len(), *wanted));
        }
        pinned.push(if let Attempt::Pinned(file) = attempt { Some(file) } else { None });
    }
    let prepare = |(at, wanted): (usize, Wanted)| async move {
        Ok::<_, StoreError>((at, prepare(shared, wanted).await?))
    };
    let mut prepared = stream::iter(unready).map(prepare).buffer_unordered(FILES_AT_ONCE);
    while let Some((at, file)) = prepared.try_next().await? {
        if let Some(place) = pinned.get_mut(at) {
            *place = file;
        }
    }
    Ok(pinned)
}

/// What came of a first look.
enum Attempt {
    Absent,
    Pinned(PinnedFile),
    /// Something must be hashed or copied before.
    Unready,
}

/// Pins those of a batch that are ready.
async fn pin_batch(shared: &Arc<Shared>, batch: Vec<Wanted>) -> Result<Vec<Attempt>, StoreError> {
    let pinnings: Vec<Pinning> = shared.parts.index.lock(|index| {
        batch.iter().map(|(key, purpose)| index.pin_ready(key, *purpose == Purpose::Run)).collect()
    });
    let mut attempts = Vec::with_capacity(batch.len());
    let mut fresh = Vec::with_capacity(batch.len());
    for (pinning, (_, purpose)) in pinnings.into_iter().zip(&batch) {
        attempts.push(match pinning {
            Pinning::Absent => Attempt::Absent,
            Pinning::Unready(_) | Pinning::TooMany => Attempt::Unready,
            Pinning::Pinned(found) => {
                fresh.push((found, *purpose));
                Attempt::Pinned(take_over(shared, found, *purpose))
            }
        });
    }
    let ready = expose(shared, fresh).await?;
    let are_pinned = attempts.iter_mut().filter(|it| matches!(it, Attempt::Pinned(_)));
    for (attempt, is_ready) in are_pinned.zip(ready) {
        if !is_ready {
            *attempt = Attempt::Unready;
        }
    }
    Ok(attempts)
}

fn take_over(shared: &Arc<Shared>, found: Found, purpose: Purpose) -> PinnedFile {
    PinnedFile::new(shared, Pin::of_pinned(&shared.parts, found), purpose == Purpose::Run)
}

/// Readies pinned files for links; which of them are ready.
async fn expose(
    shared: &Arc<Shared>,
    pinned: Vec<(Found, Purpose)>,
) -> Result<Vec<bool>, StoreError> {
    if pinned.iter().all(|(_, purpose)| *purpose == Purpose::Keep) {
        return Ok(vec![true; pinned.len()]);
    }
    let worker = Arc::clone(&shared.parts);
    let exposed = shared.parts.pool.run(move || worker.expose(&pinned)).await?;
    exposed.map_err(|error| StoreError::io("look at a blob's file", error))
}

/// Does what it takes until one can be pinned.
async fn prepare(
    shared: &Arc<Shared>,
    (key, purpose): Wanted,
) -> Result<Option<PinnedFile>, StoreError> {
    let is_executable = purpose == Purpose::Run;
    // Held until this call has a pin of its own.
    let mut made = None;
    for _ in 0..MAX_ROUNDS {
        let pinning = shared.parts.index.lock(|index| index.pin_ready(&key, is_executable));
        let found = match pinning {
            Pinning::Absent => return Ok(None),
            Pinning::TooMany => {
                let size_bytes = key.digest.size_bytes;
                let reason = "more hold its file than can be counted";
                return Err(StoreError::NoSpace { size_bytes, reason });
            }
            Pinning::Pinned(found) => {
                let file = take_over(shared, found, purpose);
                if expose(shared, vec![(found, purpose)]).await? == [true] {
                    return Ok(Some(file));
                }
                found
            }
            Pinning::Unready(found) => found,
        };
        if is_executable && !found.is_former() {
            made = variants::make(shared, found).await?;
            if made.is_none() {
                return Ok(None);
            }
        } else {
            // A link outlives every later check, so the first look is a full one (I20).
            reader::verify(shared, &key).await?;
        }
    }
    drop(made);
    Ok(None)
}
