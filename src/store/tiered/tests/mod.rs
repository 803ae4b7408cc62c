//! Goal: no answer that is not true, nothing acknowledged that is lost, nothing that waits for
//! ever. Method: two scripted stores, and calls that wait at closed gates while something happens.

mod behind;
mod cancellation;
mod directions;
pub(in crate::store) mod fake;
mod populate;
mod purges;
mod results;
mod through;

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{Direction, TieredOptions, TieredStats, TieredStore, WriteBehindOptions};
use crate::digest::{Digest, DigestFunction};
use crate::store::{BeginPut, BlobStore, BlobStoreExt, Key, Namespace, StoreError, Upload};
use fake::Fake;

/// Turns of the runtime after which a condition will not come true any more.
const TURNS: usize = 100_000;

/// A tiered store before two fakes.
struct Tiers {
    fast: Arc<Fake>,
    slow: Arc<Fake>,
    store: Arc<TieredStore>,
}

impl Tiers {
    fn new(options: TieredOptions) -> Self {
        let (fast, slow) = (Fake::new(), Fake::new());
        let store = TieredStore::new(Arc::clone(&fast) as _, Arc::clone(&slow) as _, options);
        Self { fast, slow, store }
    }

    fn through() -> Self {
        Self::new(TieredOptions::default())
    }

    fn behind(options: WriteBehindOptions) -> Self {
        Self::new(TieredOptions { write_behind: Some(options), ..TieredOptions::default() })
    }

    fn of(fast_direction: Direction, slow_direction: Direction) -> Self {
        Self::new(TieredOptions { fast_direction, slow_direction, ..TieredOptions::default() })
    }

    /// The counters, which must add up at every moment.
    #[track_caller]
    fn stats(&self) -> TieredStats {
        checked(self.store.stats())
    }

    async fn put(&self, key: &Key, data: &Bytes) -> Result<(), StoreError> {
        self.store.put(key, data.clone()).await
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.store.get_all(key, u64::MAX).await
    }

    async fn is_present(&self, key: &Key) -> bool {
        self.store.contains(key).await.unwrap()
    }

    /// Begins an upload and writes all but the commit.
    async fn upload(&self, key: &Key, data: &Bytes) -> Result<Upload, StoreError> {
        let mut upload = match self.store.begin_put(key, data.len() as u64).await? {
            BeginPut::Upload(upload) => upload,
            BeginPut::AlreadyPresent => panic!("{key} is there already"),
        };
        upload.write(data.slice(..data.len() / 2)).await?;
        upload.write(data.slice(data.len() / 2..)).await?;
        Ok(upload)
    }

    /// Does something with the store in a task.
    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<TieredStore>) -> F,
    ) -> JoinHandle<T> {
        #[expect(clippy::disallowed_methods, reason = "a test wants the outcome")]
        tokio::spawn(work(Arc::clone(&self.store)))
    }

    fn spawn_read(&self, key: &Key) -> JoinHandle<Result<Option<Bytes>, StoreError>> {
        let key = *key;
        self.spawn(move |store| async move { store.get_all(&key, u64::MAX).await })
    }

    fn spawn_put(&self, key: &Key, data: &Bytes) -> JoinHandle<Result<(), StoreError>> {
        let (key, data) = (*key, data.clone());
        self.spawn(move |store| async move { store.put(&key, data).await })
    }
}

/// I15, under the one lock of the books.
#[track_caller]
fn checked(stats: TieredStats) -> TieredStats {
    assert_eq!(stats.offered, stats.accepted + stats.write_drops, "{stats:?}");
    let ended = stats.persisted + stats.failed + stats.cancelled;
    assert_eq!(stats.accepted, ended + stats.queued_items + stats.in_flight, "{stats:?}");
    stats
}

/// A blob of its own for each seed.
pub(in crate::store) fn blob(seed: u64, len: usize) -> (Key, Bytes) {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    let data = Bytes::from(data);
    (Key::blob(Digest::of(DigestFunction::Sha256, &data)), data)
}

fn result_key(name: &str) -> Key {
    let action = Digest::of(DigestFunction::Sha256, name.as_bytes());
    Key::action_result(Namespace::of_instance("main"), action)
}

/// Waits until something is so, without a clock.
pub(in crate::store) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..TURNS {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {what}");
}
