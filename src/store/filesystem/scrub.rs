//! Hashing what lies on the disk before somebody asks for it.
//!
//! Bits rot, and people edit files. A slow walk over all entries finds it, at so many bytes a
//! second that nobody notices. What a power cut may have torn comes first and at full speed: a
//! question for such a value must wait for its hash.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::former;
use super::index::Found;
use super::reader;
use super::shared::Shared;
use super::sync::sleep;

/// Entries looked at under one hold of the index lock.
const BATCH: usize = 256;
/// What opening a file is worth, or a million small files would be read at once.
const BYTES_PER_FILE: u64 = 64 << 10;
/// Between two walks, and between looks at a store that is still being read.
const PAUSE: Duration = Duration::from_mins(1);

/// Walks over the entries until the store closes. Holds the store only while it works on one.
pub(super) async fn run_scrub(shared: std::sync::Weak<Shared>, closing: CancellationToken) {
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = walk_on(shared) => {}
    }
}

async fn walk_on(shared: std::sync::Weak<Shared>) {
    loop {
        let Some(suspects) = walk(&shared, true).await else { return };
        let has_more = suspects > 0 || is_loading(&shared);
        if !has_more && walk(&shared, false).await.is_none() {
            return;
        }
        sleep(if has_more { Duration::from_secs(1) } else { PAUSE }).await;
    }
}

fn is_loading(shared: &std::sync::Weak<Shared>) -> bool {
    shared.upgrade().is_some_and(|shared| !shared.parts.loader.is_done())
}

/// One walk; how many entries were hashed, `None` when the store is gone.
async fn walk(shared: &std::sync::Weak<Shared>, only_suspects: bool) -> Option<u64> {
    let mut hashed = 0;
    let mut next = Some(0);
    while let Some(from) = next {
        let batch = {
            let shared = shared.upgrade()?;
            let parts = &shared.parts;
            if only_suspects && parts.index.lock(|index| index.suspects()) == 0 {
                return Some(hashed);
            }
            if !only_suspects && parts.settings.scrub_bytes_per_second == 0 {
                return Some(hashed);
            }
            let (batch, rest) = parts.index.lock(|index| index.some_from(from, BATCH));
            next = rest;
            batch
        };
        for found in batch.into_iter().filter(|it| it.is_suspect || !only_suspects) {
            hashed += 1;
            let pause = scrub(&shared.upgrade()?, &found).await;
            // The store is let go of before: it may end meanwhile (I13).
            if !only_suspects {
                sleep(pause).await;
            }
        }
    }
    Some(hashed)
}

/// Hashes one file as the disk has it; how long a rest that is worth.
async fn scrub(shared: &Arc<Shared>, found: &Found) -> Duration {
    let bytes = found.file.file_bytes();
    // A mismatch removes the entry and is logged where it is found.
    let outcome = if found.is_former() && !found.is_suspect {
        former::check_in_place(shared, found).await
    } else {
        reader::verify_on_disk(shared, found).await
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, key = %found.file.key, "not scrubbed");
    }
    shared.parts.counters.scrubbed_bytes.add(bytes);
    let rate = shared.parts.settings.scrub_bytes_per_second;
    let worth = (bytes + BYTES_PER_FILE) as f64 / rate as f64;
    Duration::try_from_secs_f64(worth).unwrap_or_default()
}
