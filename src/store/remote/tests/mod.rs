//! A store over an upstream that lies, breaks, hangs and comes back.

mod batching;
mod breaks;
mod fake;
mod health;
mod lies;
mod options;
mod results;
mod tls;
mod transfers;

use std::sync::Arc;

use bytes::Bytes;
use tonic::transport::Uri;

use self::fake::Fake;
use super::{Endpoint, RemoteKind, RemoteOptions, RemoteStore};
use crate::digest::{Digest, DigestFunction};
use crate::store::{
    BeginPut, BlobReader, BlobStore as _, BlobStoreExt as _, ByteRange, Key, StoreError, Upload,
};

/// Bytes that no other seed gives.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    data.into()
}

fn sha256(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

fn key_of(data: &[u8]) -> Key {
    Key::blob(sha256(data))
}

fn store_over(fake: &Arc<Fake>) -> Arc<RemoteStore> {
    store_with(std::slice::from_ref(fake), |_| {})
}

/// A store whose endpoints are these.
fn store_with(fakes: &[Arc<Fake>], edit: impl FnOnce(&mut RemoteOptions)) -> Arc<RemoteStore> {
    let address = |number: usize| Endpoint::new(format!("grpc://fake{number}:1"));
    let endpoints = (0..fakes.len()).map(address).collect();
    let mut options = RemoteOptions::new("main", endpoints, RemoteKind::Cas);
    edit(&mut options);
    RemoteStore::dial(options, |endpoint| {
        let host = endpoint.uri().host().unwrap();
        let number: usize = host.trim_start_matches("fake").parse().unwrap_or(0);
        let fake = Arc::clone(&fakes[number]);
        let connector = tower::service_fn(move |_: Uri| std::future::ready(fake.accept()));
        endpoint.connect_with_connector_lazy(connector)
    })
    .unwrap()
}

async fn read(store: &RemoteStore, digest: Digest) -> Result<Option<Bytes>, StoreError> {
    store.get_all(&Key::blob(digest), u64::MAX).await
}

async fn read_range(
    store: &RemoteStore,
    digest: Digest,
    offset: u64,
    limit: u64,
) -> Result<Bytes, StoreError> {
    let range = ByteRange { offset, limit: Some(limit) };
    store.get(&Key::blob(digest), range).await?.unwrap().read_all().await
}

async fn reader(store: &RemoteStore, digest: Digest) -> BlobReader {
    store.get(&Key::blob(digest), ByteRange::ALL).await.unwrap().unwrap()
}

async fn begin(store: &RemoteStore, digest: Digest) -> Upload {
    match store.begin_put(&Key::blob(digest), digest.size_bytes).await.unwrap() {
        BeginPut::Upload(upload) => upload,
        BeginPut::AlreadyPresent => panic!("it is there"),
    }
}

/// Uploads in pieces.
async fn stream(store: &RemoteStore, data: &Bytes) -> Result<(), StoreError> {
    let mut upload = begin(store, sha256(data)).await;
    for piece in data.chunks(100_003) {
        upload.write(data.slice_ref(piece)).await?;
    }
    upload.commit().await
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Unavailable { what }) => what,
        other => panic!("{other:?}"),
    }
}
