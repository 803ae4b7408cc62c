//! Blobs in another server, over the wire.
//!
//! An upstream cannot be told to remove, to purge, or to find by a hash alone, and its action
//! cache takes nothing but action results of one instance. All that goes to the upstream's own
//! store here, behind its back; the behaviors about nothing else are left out of the table.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction, HASH_BYTES};
use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};
use castellan::store::remote::{Endpoint, RemoteKind, RemoteOptions, RemoteStore};
use castellan::store::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Purged, Selection, StoreError,
};

use super::{Opened, Wanted};
use crate::support::{Blob, TestServer};

/// A server on another port, and its store.
#[derive(Debug)]
struct Split {
    remote: Arc<RemoteStore>,
    behind: Arc<FilesystemStore>,
}

impl Split {
    fn of(&self, key: &Key) -> &dyn BlobStore {
        match key.kind {
            Kind::Blob => &*self.remote,
            Kind::ActionResult => &*self.behind,
        }
    }
}

#[async_trait]
impl BlobStore for Split {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let blobs = self.remote.find_missing(keys).await?;
        let is_blob = |key: &Key| key.kind == Kind::Blob;
        let results: Vec<Key> = keys.iter().filter(|key| !is_blob(key)).copied().collect();
        let mut results = self.behind.find_missing(&results).await?.into_iter();
        let missing = keys.iter().zip(blobs);
        let missing =
            missing.map(|(key, it)| if is_blob(key) { it } else { results.next().unwrap() });
        Ok(missing.collect())
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        self.of(key).get(key, range).await
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.of(key).begin_put(key, size_bytes).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.of(key).put(key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        self.behind.find_by_hash(function, hash).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.behind.remove(key).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.behind.purge_selected(selection).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.remote.max_blob_bytes()
    }
}

/// Blobs over the wire.
pub(crate) async fn upstream(wanted: Wanted) -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let options = FilesystemOptions {
        max_blob_bytes: wanted.max_blob_bytes,
        lease: wanted.lease(),
        scrub_bytes_per_second: 0,
        ..FilesystemOptions::new(directory.path(), Cap::Bytes(wanted.cap_bytes))
    };
    let settings = InstanceSettings::new(0, 0);
    // An upload that broke off is not waited for, or it would hold its room for a minute.
    let grpc = GrpcOptions { max_parked_uploads: 0, ..GrpcOptions::default() };
    let server =
        TestServer::start_settings(directory, options, Instances::Any(settings), grpc).await;
    let address = server.server.grpc_address().unwrap();
    let endpoints = vec![Endpoint::new(format!("grpc://{address}"))];
    let options = RemoteOptions::new("main", endpoints, RemoteKind::Cas);
    let remote = RemoteStore::connect(options).unwrap();
    // It knows then how large a blob may be.
    remote.find_missing(&[Key::blob(Blob::new("x").digest)]).await.unwrap();
    let behind = Arc::clone(server.store());
    let (charged, held, calls) = (Arc::clone(&behind), Arc::clone(&behind), Arc::clone(&remote));
    Opened {
        lowest: vec![Arc::<FilesystemStore>::clone(&behind)],
        charged: vec![(Box::new(move || charged.stats().charged_bytes()), wanted.cap_bytes)],
        in_flight: vec![
            Box::new(move || {
                let stats = held.stats();
                stats.reserved_bytes + stats.dying_bytes + stats.waiting_uploads
            }),
            Box::new(move || calls.stats().in_flight),
        ],
        keep: vec![Box::new(server)],
        ..Opened::new(Arc::new(Split { remote, behind }))
    }
}
