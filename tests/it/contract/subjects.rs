//! The stores that keep the contract: one constructor each.

use std::sync::Arc;

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
