//! Asks whether all chunks of blobs are there, many at a time and each once.

use std::collections::HashMap;

use super::list::List;
use crate::digest::Digest;
use crate::store::{BlobStore, Key, StoreError};

/// Chunks asked about at a time.
const MAX_KEYS: usize = 4096;
/// Chunks of blobs that are remembered at a time; of many that share chunks.
const MAX_PLACES: usize = 16 * MAX_KEYS;

/// A question under way, for any number of blobs that are known by numbers.
#[derive(Debug, Default)]
pub(super) struct Presence {
    keys: Vec<Key>,
    /// Where a chunk is in `keys`.
    numbers: HashMap<Digest, usize>,
    /// Blobs, and the number of a chunk of each.
    places: Vec<(usize, usize)>,
    /// Blobs without one of their chunks; may name one more than once.
    broken: Vec<usize>,
}

impl Presence {
    /// Adds the chunks of a blob.
    pub(super) async fn add(
        &mut self,
        content: &dyn BlobStore,
        blob: usize,
        list: &List,
    ) -> Result<(), StoreError> {
        for chunk in list.chunks() {
            self.add_chunk(content, blob, chunk).await?;
        }
        Ok(())
    }

    /// Adds one chunk of a blob.
    pub(super) async fn add_chunk(
        &mut self,
        content: &dyn BlobStore,
        blob: usize,
        chunk: Digest,
    ) -> Result<(), StoreError> {
        let keys = &mut self.keys;
        let number = *self.numbers.entry(chunk).or_insert_with(|| {
            keys.push(Key::blob(chunk));
            keys.len() - 1
        });
        self.places.push((blob, number));
        if self.keys.len() >= MAX_KEYS || self.places.len() >= MAX_PLACES {
            self.ask(content).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, content: &dyn BlobStore) -> Result<(), StoreError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let missing = content.find_missing(&self.keys).await?;
        for (blob, number) in self.places.drain(..) {
            if missing.get(number).copied().unwrap_or(true) {
                self.broken.push(blob);
            }
        }
        self.broken.dedup();
        self.keys.clear();
        self.numbers.clear();
        Ok(())
    }

    /// The blobs that are not whole; may name one more than once.
    pub(super) async fn broken(
        mut self,
        content: &dyn BlobStore,
    ) -> Result<Vec<usize>, StoreError> {
        self.ask(content).await?;
        Ok(self.broken)
    }
}
