//! Values to store, and what is done with a store again and again.

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction};
use castellan::store::{
    BeginPut, BlobReader, BlobStore, BlobStoreExt as _, ByteRange, Key, Namespace, StoreError,
    Upload,
};

use crate::support::Blob;

/// Pieces of a streamed upload; no power of two, no divisor of any buffer.
const PIECE_BYTES: usize = 100_003;

pub(super) fn main_namespace() -> Namespace {
    Namespace::of_instance("main")
}

pub(super) fn other_namespace() -> Namespace {
    Namespace::of_instance("other")
}

pub(super) fn key_of(blob: &Blob) -> Key {
    Key::blob(blob.digest)
}

/// The key of an action result; each name is another.
pub(super) fn result_key(namespace: Namespace, name: &str) -> Key {
    Key::action_result(namespace, Digest::of(DigestFunction::Sha256, name.as_bytes()))
}

/// Bytes that a compressor makes small.
pub(super) fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let words: Vec<String> = (0..64).map(|_| format!("word{} ", random.u16(..))).collect();
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        text.extend_from_slice(words[random.usize(..words.len())].as_bytes());
    }
    text.truncate(len);
    text
}

/// Bytes that no compressor makes small.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut noise);
    noise
}

/// Stores a blob in one call.
pub(super) async fn put(store: &dyn BlobStore, blob: &Blob) {
    store.put(&key_of(blob), blob.data.clone()).await.unwrap();
}

/// Begins an upload of something that is not there.
pub(super) async fn begin(store: &dyn BlobStore, key: &Key, size_bytes: usize) -> Upload {
    match store.begin_put(key, size_bytes as u64).await.unwrap() {
        BeginPut::Upload(upload) => upload,
        BeginPut::AlreadyPresent => panic!("{key} is there already"),
    }
}

/// Writes everything piece by piece.
pub(super) async fn write_all(upload: &mut Upload, data: &Bytes) -> Result<(), StoreError> {
    let mut rest = data.clone();
    while !rest.is_empty() {
        let before = upload.written_bytes();
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        let len = piece.len() as u64;
        upload.write(piece).await?;
        assert_eq!(upload.written_bytes(), before + len);
        assert!(upload.is_resumable());
    }
    Ok(())
}

/// Stores a value piece by piece.
pub(super) async fn stream(
    store: &dyn BlobStore,
    key: &Key,
    data: &Bytes,
) -> Result<(), StoreError> {
    match store.begin_put(key, data.len() as u64).await? {
        BeginPut::AlreadyPresent => Ok(()),
        BeginPut::Upload(mut upload) => {
            write_all(&mut upload, data).await?;
            upload.commit().await
        }
    }
}

pub(super) async fn is_missing(store: &dyn BlobStore, key: &Key) -> bool {
    let missing = store.find_missing(&[*key]).await.unwrap();
    assert_eq!(missing.len(), 1);
    missing[0]
}

/// The whole of a value, unless it is absent.
pub(super) async fn read(store: &dyn BlobStore, key: &Key) -> Option<Bytes> {
    store.get_all(key, u64::MAX).await.unwrap()
}

/// Opens a part of a value that is there.
pub(super) async fn open_part(
    store: &dyn BlobStore,
    key: &Key,
    offset: u64,
    limit: Option<u64>,
) -> BlobReader {
    let range = ByteRange { offset, limit };
    store.get(key, range).await.unwrap().unwrap_or_else(|| panic!("{key} is absent"))
}

/// Reads to the end in chunks of at most `max_bytes`, and holds every step to what was announced.
pub(super) async fn drain(mut reader: BlobReader, max_bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let before = reader.remaining_bytes();
        let Some(chunk) = reader.next(max_bytes).await.unwrap() else {
            assert_eq!(before, 0, "the end came too early");
            assert!(reader.next(max_bytes).await.unwrap().is_none(), "something behind the end");
            return all;
        };
        assert!(!chunk.is_empty() && chunk.len() <= max_bytes, "{} bytes", chunk.len());
        assert_eq!(reader.remaining_bytes(), before - chunk.len() as u64);
        all.extend_from_slice(&chunk);
    }
}

/// It is absent, whichever way one asks.
pub(super) async fn assert_absent(store: &dyn BlobStore, key: &Key) {
    assert!(is_missing(store, key).await, "{key} is said to be there");
    assert!(read(store, key).await.is_none(), "{key} can be read");
}

/// It is there, with these bytes.
pub(super) async fn assert_holds(store: &dyn BlobStore, key: &Key, data: &[u8]) {
    assert!(!is_missing(store, key).await, "{key} is said to be missing");
    assert_same(&read(store, key).await.unwrap_or_else(|| panic!("{key} is absent")), data);
}

/// The same bytes; says where they differ, not all of them.
#[track_caller]
pub(super) fn assert_same(actual: &[u8], expected: &[u8]) {
    assert_eq!(actual.len(), expected.len(), "another length");
    let differs = actual.iter().zip(expected).position(|(one, other)| one != other);
    assert_eq!(differs, None, "another byte");
}

/// What is said to be there can be read: asks, reads, and if there was nothing to read asks again,
/// for it may have left in between.
pub(super) async fn read_what_is_promised(store: &dyn BlobStore, key: &Key) -> Option<Bytes> {
    for _ in 0..3 {
        let is_missing = is_missing(store, key).await;
        if let Some(data) = read(store, key).await {
            return Some(data);
        }
        if is_missing {
            return None;
        }
    }
    panic!("{key} is said to be there time and again and cannot be read");
}
