//! How blobs are pinned: many at once, their bytes known to be right, their variants made.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::index::{Found, Pinning};
use super::pins::{Pin, PinnedFile};
use super::shared::Shared;
use super::{loader, reader, variants};
use crate::store::{Key, StoreError};

/// Times that a blob may leave and come again during one call.
const MAX_ROUNDS: usize = 8;
/// Pins under one hold of the index lock.
const BATCH: usize = 512;
/// Files that one call has hashed or copied at the same time.
const MAX_AT_ONCE: usize = 16;

/// What is to be pinned: a blob, or its executable variant.
pub(super) type Wanted = (Key, bool);

/// Pins a blob for links, or its executable variant, made on first demand; `None` when the blob is
/// absent or leaves meanwhile. The bytes are known to be right.
pub(super) async fn pin(
    shared: &Arc<Shared>,
    key: Key,
    is_executable: bool,
) -> Result<Option<PinnedFile>, StoreError> {
    Ok(pin_all(shared, &[(key, is_executable)]).await?.pop().flatten())
}

/// The same for many, in their order. After an error none is pinned.
///
/// Cancel safe.
pub(super) async fn pin_all(
    shared: &Arc<Shared>,
    wanted: &[Wanted],
) -> Result<Vec<Option<PinnedFile>>, StoreError> {
    let parts = &shared.parts;
    let keys: Vec<Key> = wanted.iter().map(|(key, _)| *key).collect();
    loader::ensure(parts, &keys).await?;
    let mut pinned = Vec::with_capacity(wanted.len());
    let mut unready = Vec::new();
    for batch in wanted.chunks(BATCH) {
        let pinnings: Vec<Pinning> = parts.index.lock(|index| {
            batch.iter().map(|(key, is_executable)| index.pin_ready(key, *is_executable)).collect()
        });
        for (pinning, wanted) in pinnings.into_iter().zip(batch) {
            if matches!(pinning, Pinning::Unready(_) | Pinning::TooMany) {
                unready.push((pinned.len(), *wanted));
            }
            let found = if let Pinning::Pinned(found) = pinning { Some(found) } else { None };
            pinned.push(found.map(|found| take_over(shared, found, wanted.1)));
        }
    }
    let prepare = |(at, wanted): (usize, Wanted)| async move {
        Ok::<_, StoreError>((at, prepare(shared, wanted).await?))
    };
    let mut prepared = stream::iter(unready).map(prepare).buffer_unordered(MAX_AT_ONCE);
    while let Some((at, file)) = prepared.try_next().await? {
        if let Some(place) = pinned.get_mut(at) {
            *place = file;
        }
    }
    Ok(pinned)
}

fn take_over(shared: &Arc<Shared>, found: Found, is_executable: bool) -> PinnedFile {
    PinnedFile::new(shared, Pin::of_pinned(&shared.parts, found), is_executable)
}

/// Does what it takes until one can be pinned.
async fn prepare(
    shared: &Arc<Shared>,
    (key, is_executable): Wanted,
) -> Result<Option<PinnedFile>, StoreError> {
    // Held until this call has a pin of its own.
    let mut _made = None;
    for _ in 0..MAX_ROUNDS {
        match shared.parts.index.lock(|index| index.pin_ready(&key, is_executable)) {
            Pinning::Absent => return Ok(None),
            Pinning::Pinned(found) => return Ok(Some(take_over(shared, found, is_executable))),
            Pinning::TooMany => {
                let size_bytes = key.digest.size_bytes;
                let reason = "more hold its file than can be counted";
                return Err(StoreError::NoSpace { size_bytes, reason });
            }
            Pinning::Unready(found) if is_executable => {
                _made = variants::make(shared, found).await?;
                if _made.is_none() {
                    return Ok(None);
                }
            }
            // A link outlives every later check, so the first look is a full one (I20).
            Pinning::Unready(_) => drop(reader::verify(shared, &key).await?),
        }
    }
    Ok(None)
}
