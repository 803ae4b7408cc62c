//! Goal: a hit is complete and byte for byte what was sent. Method: a store in memory that records
//! what it is asked, and results built with the generated types.

mod completeness;
mod inline;
mod service;
mod validate;
mod wire;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use castellan_proto::v2;
use parking_lot::Mutex;
use prost::Message;

use super::{ActionCache, ActionCacheError, InlineRequest};
use crate::cas::Cas;
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Namespace, Purged, Selection, StoreError,
};

/// A store in memory.
#[derive(Debug, Default)]
struct MemoryStore {
    values: Mutex<HashMap<Key, Bytes>>,
    /// Keys that a lookup found present.
    touched: Mutex<HashSet<Key>>,
    /// Keys whose reads report corruption.
    corrupt: Mutex<HashSet<Key>>,
    lookups: AtomicUsize,
    reads: AtomicUsize,
}

#[async_trait::async_trait]
impl BlobStore for MemoryStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let values = self.values.lock();
        let missing: Vec<bool> = keys.iter().map(|key| !values.contains_key(key)).collect();
        let present = keys.iter().zip(&missing).filter(|(_, missing)| !**missing);
        self.touched.lock().extend(present.map(|(key, _)| *key));
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        assert_eq!(range, ByteRange::ALL);
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.corrupt.lock().contains(key) {
            return Err(StoreError::Corrupt { key: key.to_string() });
        }
        Ok(self.values.lock().get(key).cloned().map(BlobReader::Bytes))
    }

    async fn begin_put(&self, _key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        Err(StoreError::NoSpace { size_bytes, reason: "a test double" })
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.values.lock().insert(*key, data);
        Ok(())
    }

    async fn find_by_hash(
        &self,
        _function: DigestFunction,
        _hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        Ok(None)
    }

    async fn purge_selected(&self, _selection: Selection) -> Result<Purged, StoreError> {
        Err(StoreError::Unsupported { what: "a test double" })
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.values.lock().remove(key).is_some())
    }

    fn max_blob_bytes(&self) -> u64 {
        u64::MAX
    }
}

/// An action cache over a [`MemoryStore`], and one action in it.
struct Fixture {
    store: Arc<MemoryStore>,
    cache: ActionCache,
    action: Digest,
}

impl Fixture {
    fn new() -> Self {
        Self::with(DigestFunction::Sha256, false)
    }

    fn with(function: DigestFunction, read_only: bool) -> Self {
        let store = Arc::new(MemoryStore::default());
        let blobs: Arc<dyn BlobStore> = Arc::clone(&store) as _;
        let cas = Cas::new(Arc::clone(&blobs));
        let cache = ActionCache::new(cas, blobs, Namespace::of_instance("main"), read_only);
        Self { store, cache, action: Digest::of(function, b"an action") }
    }

    /// Names `data` without storing it.
    fn digest(&self, data: &[u8]) -> v2::Digest {
        to_wire(Digest::of(self.action.function, data))
    }

    /// Stores `data` and names it.
    fn blob(&self, data: impl Into<Bytes>) -> v2::Digest {
        let data = data.into();
        let digest = Digest::of(self.action.function, &data);
        self.store.values.lock().insert(Key::blob(digest), data);
        to_wire(digest)
    }

    fn message(&self, message: &impl Message) -> v2::Digest {
        self.blob(message.encode_to_vec())
    }

    fn remove(&self, digest: &v2::Digest) {
        self.store.values.lock().remove(&self.key(digest)).unwrap();
    }

    fn key(&self, digest: &v2::Digest) -> Key {
        let function = self.action.function;
        Key::blob(Digest::parse(function, digest.hash.as_bytes(), digest.size_bytes).unwrap())
    }

    async fn update(&self, result: &v2::ActionResult) {
        self.cache.update(self.action, result.encode_to_vec().into()).await.unwrap();
    }

    async fn get(&self, inline: &InlineRequest) -> Option<Bytes> {
        self.cache.get(self.action, inline).await.unwrap()
    }

    async fn is_hit(&self) -> bool {
        self.get(&InlineRequest::default()).await.is_some()
    }
}

fn to_wire(digest: Digest) -> v2::Digest {
    v2::Digest {
        hash: digest.hash_hex().as_str().to_owned(),
        size_bytes: digest.size_bytes.cast_signed(),
    }
}

fn output_file(path: &str, digest: v2::Digest) -> v2::OutputFile {
    v2::OutputFile { path: path.to_owned(), digest: Some(digest), ..Default::default() }
}

fn file_node(name: &str, digest: v2::Digest) -> v2::FileNode {
    v2::FileNode { name: name.to_owned(), digest: Some(digest), ..Default::default() }
}

fn directory_node(name: &str, digest: v2::Digest) -> v2::DirectoryNode {
    v2::DirectoryNode { name: name.to_owned(), digest: Some(digest) }
}

/// A directory of files, given as names and digests.
fn directory<'a>(files: impl IntoIterator<Item = (&'a str, v2::Digest)>) -> v2::Directory {
    let files = files.into_iter().map(|(name, digest)| file_node(name, digest)).collect();
    v2::Directory { files, ..Default::default() }
}

fn with_tree(tree: v2::Digest) -> v2::ActionResult {
    with_directory(v2::OutputDirectory { tree_digest: Some(tree), ..Default::default() })
}

fn with_root(root: v2::Digest) -> v2::ActionResult {
    let root_directory_digest = Some(root);
    with_directory(v2::OutputDirectory { root_directory_digest, ..Default::default() })
}

fn with_directory(directory: v2::OutputDirectory) -> v2::ActionResult {
    v2::ActionResult { output_directories: vec![directory], ..Default::default() }
}

/// A result with every field that there is.
#[expect(deprecated, reason = "old clients still send these fields")]
fn full_result(fixture: &Fixture) -> v2::ActionResult {
    let timestamp = castellan_proto::protobuf::Timestamp { seconds: 1_700_000_000, nanos: 5 };
    let properties = v2::NodeProperties {
        properties: vec![v2::NodeProperty { name: "owner".into(), value: "build".into() }],
        mtime: Some(timestamp),
        unix_mode: Some(castellan_proto::protobuf::UInt32Value { value: 0o755 }),
    };
    let symlink = v2::OutputSymlink {
        path: "out/link".into(),
        target: "/usr/../bin/cc".into(),
        node_properties: Some(properties.clone()),
    };
    let tree =
        v2::Tree { root: Some(directory([("a", fixture.blob("file a"))])), children: vec![] };
    v2::ActionResult {
        output_files: vec![
            v2::OutputFile {
                is_executable: true,
                node_properties: Some(properties),
                ..output_file("out/tool", fixture.blob("a tool"))
            },
            output_file("out/lib.a", fixture.blob("a library")),
        ],
        output_file_symlinks: vec![symlink.clone()],
        output_symlinks: vec![symlink.clone()],
        output_directory_symlinks: vec![symlink],
        output_directories: vec![v2::OutputDirectory {
            path: "out/dir".into(),
            tree_digest: Some(fixture.message(&tree)),
            is_topologically_sorted: true,
            root_directory_digest: tree.root.as_ref().map(|root| fixture.message(root)),
        }],
        exit_code: -1,
        stdout_raw: b"inlined".to_vec(),
        stdout_digest: Some(fixture.blob("standard output")),
        stderr_raw: vec![],
        stderr_digest: Some(fixture.blob("standard error")),
        execution_metadata: Some(v2::ExecutedActionMetadata {
            worker: "worker-7".into(),
            queued_timestamp: Some(timestamp),
            auxiliary_metadata: vec![castellan_proto::protobuf::Any {
                type_url: "example.com/usage".into(),
                value: vec![1, 2, 3],
            }],
            ..Default::default()
        }),
    }
}
