//! The stores that keep the contract: one constructor each.

use std::sync::Arc;

use castellan::store::compression::{CompressionOptions, CompressionStore};
use castellan::store::dedup::{DedupOptions, DedupStore};
use castellan::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};

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
