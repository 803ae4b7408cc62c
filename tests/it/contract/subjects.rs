//! The stores that keep the contract: one constructor each.

use std::sync::Arc;

use castellan::store::compression::{CompressionOptions, CompressionStore};
use castellan::store::counted::CountedStore;
use castellan::store::dedup::{DedupOptions, DedupStore};
use castellan::store::existence_cache::{ExistenceCacheOptions, ExistenceCacheStore};
use castellan::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};
use castellan::store::memory::{MemoryOptions, MemoryStore};
use castellan::store::routing::RoutingStore;
use castellan::store::tiered::{TieredOptions, TieredStore, WriteBehindOptions};

pub(crate) use super::over_the_wire::upstream;
use super::{Opened, Wanted};

/// A directory of files.
pub(crate) async fn filesystem(wanted: Wanted) -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let options = FilesystemOptions {
        max_blob_bytes: wanted.max_blob_bytes,
        lease: wanted.lease(),
        scrub_bytes_per_second: 0,
        ..FilesystemOptions::new(directory.path(), Cap::Bytes(wanted.cap_bytes))
    };
    let store = FilesystemStore::open(options).await.unwrap();
    let (charged, in_flight) = (Arc::clone(&store), Arc::clone(&store));
    Opened {
        charged: vec![(Box::new(move || charged.stats().charged_bytes()), wanted.cap_bytes)],
        in_flight: vec![Box::new(move || {
            let stats = in_flight.stats();
            stats.reserved_bytes + stats.dying_bytes + stats.waiting_uploads
        })],
        keep: vec![Box::new(directory)],
        ..Opened::new(store)
    }
}

/// A directory before another, written to at the same time.
pub(crate) async fn tiered(wanted: Wanted) -> Opened {
    tiered_with(wanted, None).await
}

/// A directory before another, written to one after the other.
pub(crate) async fn tiered_behind(wanted: Wanted) -> Opened {
    tiered_with(wanted, Some(WriteBehindOptions::default())).await
}

async fn tiered_with(wanted: Wanted, write_behind: Option<WriteBehindOptions>) -> Opened {
    let (fast, slow) = (filesystem(wanted).await, filesystem(wanted).await);
    let options = TieredOptions { write_behind, ..TieredOptions::default() };
    let store = TieredStore::new(Arc::clone(&fast.store), Arc::clone(&slow.store), options);
    let copies = Arc::clone(&store);
    let mut opened = Opened::before(store, vec![fast, slow]);
    opened.in_flight.push(Box::new(move || {
        let stats = copies.stats();
        stats.queued_items + stats.in_flight
    }));
    opened
}

/// A cache that lets every question through.
pub(crate) async fn existence_local(wanted: Wanted) -> Opened {
    let backend = filesystem(wanted).await;
    let options = ExistenceCacheOptions::default();
    let store = ExistenceCacheStore::new(Arc::clone(&backend.store), false, options);
    Opened::before(store, vec![backend])
}

/// A cache that answers for seconds what it has heard, before one that keeps what it has said.
pub(crate) async fn existence_remote(wanted: Wanted) -> Opened {
    let roomy = Wanted {
        cap_bytes: Wanted::ROOMY.cap_bytes,
        max_blob_bytes: wanted.max_blob_bytes.or(Some(wanted.cap_bytes)),
        ..wanted
    };
    let backend = filesystem(roomy).await;
    let options = ExistenceCacheOptions::default();
    let store = ExistenceCacheStore::new(Arc::clone(&backend.store), true, options);
    let keep = vec![Box::new(backend.keep) as _];
    Opened { evicts: false, keep, ..Opened::new(store) }
}

/// Values in memory.
pub(crate) async fn memory(wanted: Wanted) -> Opened {
    let store = MemoryStore::new(&MemoryOptions {
        max_blob_bytes: wanted.max_blob_bytes,
        lease: wanted.lease(),
        ..MemoryOptions::new(wanted.cap_bytes)
    });
    let (charged, in_flight) = (Arc::clone(&store), Arc::clone(&store));
    Opened {
        charged: vec![(Box::new(move || charged.stats().charged_bytes()), wanted.cap_bytes)],
        in_flight: vec![Box::new(move || {
            let stats = in_flight.stats();
            assert_eq!(stats.ledger_errors, 0, "I4");
            stats.reserved_bytes + stats.dying_bytes + stats.writes
        })],
        ..Opened::new(store)
    }
}

/// Compressed blobs in a directory.
pub(crate) async fn compression(wanted: Wanted) -> Opened {
    let files = filesystem(wanted).await;
    let backend = Arc::clone(&files.store);
    let store = CompressionStore::new(backend, CompressionOptions::default());
    Opened::before(store, vec![files])
}

/// Chunks in one directory, their lists in another.
pub(crate) async fn dedup(wanted: Wanted) -> Opened {
    let (index, content) = (filesystem(wanted).await, filesystem(wanted).await);
    chunked(index, content)
}

/// Chunks, small ones, and their lists in the same directory.
pub(crate) async fn dedup_in_one(wanted: Wanted) -> Opened {
    let files = filesystem(wanted).await;
    let options = DedupOptions {
        min_bytes: 4 << 10,
        normal_bytes: 16 << 10,
        max_bytes: 64 << 10,
        max_concurrent_fetches: 3,
    };
    let store = DedupStore::new(Arc::clone(&files.store), Arc::clone(&files.store), options);
    Opened { readers_stay: false, ..Opened::before(store, vec![files]) }
}

/// Compressed chunks.
pub(crate) async fn dedup_before_compression(wanted: Wanted) -> Opened {
    let (index, content) = (filesystem(wanted).await, compression(wanted).await);
    chunked(index, content)
}

fn chunked(index: Opened, content: Opened) -> Opened {
    let options = DedupOptions::default();
    let store = DedupStore::new(Arc::clone(&index.store), Arc::clone(&content.store), options);
    Opened { readers_stay: false, ..Opened::before(store, vec![index, content]) }
}

/// Small values in memory, large ones in files, counted.
pub(crate) async fn by_size(wanted: Wanted) -> Opened {
    let (lower, upper) = (memory(wanted).await, filesystem(wanted).await);
    let routed =
        RoutingStore::by_size(64 << 10, Arc::clone(&lower.store), Arc::clone(&upper.store));
    Opened::before(CountedStore::new(routed), vec![lower, upper])
}

/// Three directories, which hold together about twice what is wanted of one.
pub(crate) async fn sharded(wanted: Wanted) -> Opened {
    let part = Wanted { cap_bytes: wanted.cap_bytes / 3 * 2, ..wanted };
    let mut shards = Vec::new();
    for _ in 0..3 {
        shards.push(filesystem(part).await);
    }
    let weighted = shards.iter().map(|shard| (Arc::clone(&shard.store), 1));
    Opened::before(RoutingStore::sharded(weighted.collect()).unwrap(), shards)
}

/// What most people run: memory before files, behind a cache of what is there.
pub(crate) async fn stack(wanted: Wanted) -> Opened {
    let (fast, slow) = (memory(wanted).await, filesystem(wanted).await);
    let (near, far) = (Arc::clone(&fast.store), Arc::clone(&slow.store));
    let tiered = TieredStore::new(near, far, TieredOptions::default());
    let options = ExistenceCacheOptions::default();
    let store = ExistenceCacheStore::new(tiered, false, options);
    Opened::before(store, vec![fast, slow])
}
