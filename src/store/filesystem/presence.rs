//! What a client is told of values it asks for.
//!
//! "Present" is a promise. What a power cut may have torn is hashed before it is given (I18), and
//! so is what another server has left: that one may have been cut off while it wrote.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::index::{Found, Use};
use super::shared::Shared;
use super::{former, loader, reader};
use crate::store::Key;

/// Look-ups under one hold of the index lock.
const LOOKUP_BATCH: usize = 512;
/// Bytes of another server's blobs that one question has hashed; the first is, whatever its size.
const MAX_TRIED_BYTES: u64 = 4 << 30;
/// Files that one question has hashed at the same time.
const CHECKS_AT_ONCE: usize = 16;

/// A value that has to be hashed, and its place in the question.
type Doubt = (usize, Found);

/// Says for each key whether it is absent; touches and promises the others.
pub(super) async fn find_missing(shared: &Arc<Shared>, keys: &[Key]) -> Vec<bool> {
    if let Err(error) = loader::ensure(&shared.parts, keys).await {
        // What cannot be read cannot be said to be there.
        tracing::error!(%error, "what is in it counts as missing");
    }
    let (mut missing, doubts) = promise(shared, keys);
    let doubts = within_reason(doubts, &mut missing);
    let checks = doubts.into_iter().map(|(at, doubtful)| async move {
        let is_there = is_there(shared, &doubtful).await;
        (at, is_there)
    });
    let mut checks = stream::iter(checks).buffer_unordered(CHECKS_AT_ONCE);
    while let Some((at, is_there)) = checks.next().await {
        if let Some(missing) = missing.get_mut(at) {
            *missing = !is_there;
        }
    }
    missing
}

/// Looks keys up; those to be hashed before come back beside the answer.
fn promise(shared: &Shared, keys: &[Key]) -> (Vec<bool>, Vec<Doubt>) {
    let mut missing = Vec::with_capacity(keys.len());
    let mut doubts = Vec::new();
    for batch in keys.chunks(LOOKUP_BATCH) {
        shared.parts.index.lock(|index| {
            for key in batch {
                let found = index.look_up(key, Use::Promise);
                doubts.extend(found.filter(Found::is_doubtful).map(|it| (missing.len(), it)));
                missing.push(found.is_none());
            }
        });
    }
    (missing, doubts)
}

/// Leaves out what this question cannot wait for: it is missing to it, and the next one goes on
/// there.
fn within_reason(doubts: Vec<Doubt>, missing: &mut [bool]) -> Vec<Doubt> {
    let mut tried_bytes: u64 = 0;
    let is_meant = |(at, doubtful): &Doubt| {
        let sum = tried_bytes.saturating_add(doubtful.file.len_bytes);
        let is_meant = doubtful.is_suspect || tried_bytes == 0 || sum <= MAX_TRIED_BYTES;
        if is_meant {
            tried_bytes = sum;
        } else if let Some(missing) = missing.get_mut(*at) {
            *missing = true;
        }
        is_meant
    };
    doubts.into_iter().filter(is_meant).collect()
}

/// Hashes a blob before a client is told that it is there; whether it is.
async fn is_there(shared: &Arc<Shared>, doubtful: &Found) -> bool {
    let key = doubtful.file.key;
    let checked = if doubtful.is_former() {
        former::check_in_place(shared, doubtful).await
    } else {
        reader::verify(shared, &key).await
    };
    if let Err(error) = checked {
        tracing::debug!(%error, %key, "not to be checked, counts as missing");
    }
    // What cannot be read stays doubtful. What a reader has rewritten meanwhile is not.
    let found = shared.parts.index.lock(|index| index.look_up(&key, Use::Promise));
    found.is_some_and(|found| !found.is_doubtful())
}
