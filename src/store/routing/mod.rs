//! Stores that spread keys over others: by size, or by hash.
//!
//! Owns nothing but the choice. Action results are chosen for without the size of their action,
//! which clients of HTTP do not know; what stands for a blob goes where the blob would go.

mod shards;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use self::shards::Shards;
use super::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Pin, Purged, Selection, StoreError,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::shutdown::detached;

/// Several stores that are one.
#[derive(Debug)]
pub struct RoutingStore {
    stores: Vec<Arc<dyn BlobStore>>,
    route: Route,
}

#[derive(Debug)]
enum Route {
    /// Smaller than so many bytes to the first, the rest to the second.
    Size(u64),
    Shards(Shards),
}

/// Where a key belongs.
#[derive(Clone, Copy)]
enum Place {
    At(usize),
    /// It would be known if the size were.
    Unknown,
}

impl RoutingStore {
    /// What has less than `size_bytes` is in `lower`, the rest in `upper`.
    pub fn by_size(
        size_bytes: u64,
        lower: Arc<dyn BlobStore>,
        upper: Arc<dyn BlobStore>,
    ) -> Arc<Self> {
        Arc::new(Self { stores: vec![lower, upper], route: Route::Size(size_bytes) })
    }

    /// Spreads over stores by their weights, as `NativeLink` does; `None` when there are none, or
    /// a weight is 0.
    pub fn sharded(stores: Vec<(Arc<dyn BlobStore>, u32)>) -> Option<Arc<Self>> {
        let (stores, weights): (Vec<_>, Vec<_>) = stores.into_iter().unzip();
        let route = Route::Shards(Shards::new(&weights)?);
        Some(Arc::new(Self { stores, route }))
    }

    fn place(&self, key: &Key) -> Place {
        let digest = match key.kind {
            Kind::ActionResult if !key.is_derived() => key.without_hint().digest,
            Kind::ActionResult if key.digest.size_bytes == 0 => return Place::Unknown,
            Kind::ActionResult | Kind::Blob => key.digest,
        };
        Place::At(match &self.route {
            Route::Size(limit_bytes) => usize::from(digest.size_bytes >= *limit_bytes),
            Route::Shards(shards) => shards.of(&digest),
        })
    }

    /// Where a key belongs; without its size, where it would if it were empty.
    fn store(&self, key: &Key) -> Result<&Arc<dyn BlobStore>, StoreError> {
        let at = match self.place(key) {
            Place::At(at) => at,
            Place::Unknown => 0,
        };
        self.stores.get(at).ok_or(StoreError::Unsupported { what: "a shard is not there" })
    }

    /// The stores that may have a key.
    fn candidates(&self, key: &Key) -> &[Arc<dyn BlobStore>] {
        match self.place(key) {
            Place::At(at) => self.stores.get(at..=at).unwrap_or_default(),
            Place::Unknown => &self.stores,
        }
    }
}

#[async_trait]
impl BlobStore for RoutingStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let places: Vec<Place> = keys.iter().map(|key| self.place(key)).collect();
        let asked = self.stores.iter().enumerate().map(|(at, store)| {
            let is_here = |place: &Place| match place {
                Place::At(place) => *place == at,
                Place::Unknown => true,
            };
            let here = keys.iter().zip(&places).enumerate().filter(|(_, (_, it))| is_here(it));
            let (positions, keys): (Vec<usize>, Vec<Key>) =
                here.map(|(position, (key, _))| (position, *key)).unzip();
            async move {
                let answers =
                    if keys.is_empty() { Vec::new() } else { store.find_missing(&keys).await? };
                Ok::<_, StoreError>((positions, answers))
            }
        });
        let mut missing = vec![true; keys.len()];
        for (positions, answers) in try_join_all(asked).await? {
            for (position, is_missing) in positions.into_iter().zip(answers) {
                if let Some(missing) = missing.get_mut(position) {
                    *missing &= is_missing;
                }
            }
        }
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        for store in self.candidates(key) {
            if let Some(reader) = store.get(key, range).await? {
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.store(key)?.begin_put(key, size_bytes).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.store(key)?.put(key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        for store in &self.stores {
            if let Some(digest) = store.find_by_hash(function, hash).await? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        let mut was_there = false;
        for store in self.candidates(key) {
            was_there |= store.remove(key).await?;
        }
        Ok(was_there)
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        let stores = self.stores.clone();
        let purging = async move {
            // At the same time: each may wait for writes that it has cut off.
            let purges = stores.iter().map(|store| store.purge_selected(selection));
            Purged::sum(join_all(purges).await)
        };
        detached("purge", purging).await.ok_or(StoreError::ShuttingDown)?
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        self.store(key)?.pin(key).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.stores.iter().map(|store| store.max_blob_bytes()).max().unwrap_or_default()
    }

    fn is_waiting_for_room(&self) -> bool {
        self.stores.iter().any(|store| store.is_waiting_for_room())
    }
}
