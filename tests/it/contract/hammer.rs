//! Everything at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use castellan::store::{BeginPut, ByteRange, Key, PurgeScope, Selection, StoreError};
use tokio::task::JoinSet;

use super::values::{
    assert_holds, assert_same, key_of, main_namespace, noise, other_namespace, put,
    read_what_is_promised, result_key,
};
use super::{Open, Opened, Wanted};
use crate::support::{Blob, random_of};

const TASKS: usize = 8;
const CALLS: usize = 250;
/// Half as much again as there is room for.
const CAP: u64 = 3 << 20;
const BLOBS: u64 = 48;
const LARGEST: usize = 192 << 10;
const RESULTS: usize = 8;

/// A result says which it is: its first bytes are the seed of the others.
fn result_value(random: &mut fastrand::Rng) -> Bytes {
    let seed = random.u32(..);
    let len = random.usize(..20_000);
    [&seed.to_le_bytes()[..], &noise(u64::from(seed), len)].concat().into()
}

#[track_caller]
fn check_result(data: &[u8]) {
    let (seed, rest) = data.split_at(4);
    let seed = u32::from_le_bytes(seed.try_into().unwrap());
    assert_same(rest, &noise(u64::from(seed), rest.len()));
}

struct World {
    opened: Opened,
    blobs: Vec<Blob>,
    results: Vec<Key>,
    stored: AtomicU64,
    refused: AtomicU64,
    read: AtomicU64,
}

impl World {
    fn count(&self, outcome: Result<(), StoreError>) {
        let counter = match outcome {
            Ok(()) => &self.stored,
            // What a store may say when everything happens at once.
            Err(
                StoreError::NoSpace { .. }
                | StoreError::Purged
                | StoreError::TooManyPurges
                | StoreError::Unavailable { .. },
            ) => &self.refused,
            Err(error) => panic!("{error}"),
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    fn key(&self, random: &mut fastrand::Rng) -> Key {
        if random.u8(..5) == 0 {
            return self.results[random.usize(..RESULTS)];
        }
        key_of(&self.blobs[random.usize(..self.blobs.len())])
    }

    fn check(&self, key: &Key, data: &[u8]) {
        match self.blobs.iter().find(|it| key_of(it) == *key) {
            Some(blob) => assert_same(data, &blob.data),
            None => check_result(data),
        }
    }

    fn value(&self, key: &Key, random: &mut fastrand::Rng) -> Bytes {
        let blob = self.blobs.iter().find(|it| key_of(it) == *key);
        blob.map_or_else(|| result_value(random), |it| it.data.clone())
    }

    async fn act(&self, random: &mut fastrand::Rng) {
        let store = &self.opened.store;
        let key = self.key(random);
        match random.u8(..100) {
            0..20 => self.count(store.put(&key, self.value(&key, random)).await),
            20..45 => self.upload(&key, random).await,
            45..75 => self.read(&key, random).await,
            75..85 => {
                let keys: Vec<_> = (0..random.usize(1..40)).map(|_| self.key(random)).collect();
                let missing = store.find_missing(&keys).await.unwrap();
                assert_eq!(missing.len(), keys.len());
            }
            85..90 => {
                store.find_by_hash(key.digest.function, key.digest.hash).await.unwrap();
            }
            90..98 => {
                store.remove(&key).await.unwrap();
            }
            _ => self.purge(&key, random).await,
        }
        self.opened.check_caps();
    }

    async fn upload(&self, key: &Key, random: &mut fastrand::Rng) {
        let data = self.value(key, random);
        let mut upload = match self.opened.store.begin_put(key, data.len() as u64).await {
            Ok(BeginPut::Upload(upload)) => upload,
            Ok(BeginPut::AlreadyPresent) => return,
            Err(error) => return self.count(Err(error)),
        };
        let mut rest = data;
        while !rest.is_empty() {
            // Given up halfway, or every byte of it wrong.
            if random.u8(..20) == 0 {
                return;
            }
            let piece = rest.split_to(random.usize(1..=rest.len()));
            if let Err(error) = upload.write(piece).await {
                return self.count(Err(error));
            }
        }
        self.count(upload.commit().await);
    }

    async fn read(&self, key: &Key, random: &mut fastrand::Rng) {
        let store = &self.opened.store;
        let offset = if random.bool() { 0 } else { random.u64(..LARGEST as u64) };
        let limit = random.bool().then(|| random.u64(..LARGEST as u64));
        let Some(mut reader) = store.get(key, ByteRange { offset, limit }).await.unwrap() else {
            return;
        };
        let announced = reader.remaining_bytes();
        let mut read = Vec::new();
        loop {
            if random.u8(..30) == 0 {
                return;
            }
            match reader.next(random.usize(1..70_000)).await {
                Ok(Some(chunk)) => read.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    assert!(!self.opened.readers_stay, "{error}");
                    return;
                }
            }
        }
        assert_eq!(read.len() as u64, announced);
        self.read.fetch_add(1, Ordering::SeqCst);
        if let Some(blob) = self.blobs.iter().find(|it| key_of(it) == *key) {
            let from = usize::try_from(offset).unwrap().min(blob.data.len());
            assert_same(&read, &blob.data[from..from + read.len()]);
        } else if offset == 0 && limit.is_none() {
            check_result(&read);
        }
    }

    async fn purge(&self, key: &Key, random: &mut fastrand::Rng) {
        let selection = match random.u8(..5) {
            0 => Selection::Scope(PurgeScope::All),
            1 => Selection::Scope(PurgeScope::Namespace(main_namespace())),
            2 => Selection::ResultsOlderThan { namespace: None, age: Duration::ZERO },
            _ => Selection::Hash(key.digest.hash),
        };
        self.count(self.opened.store.purge_selected(selection).await.map(drop));
    }
}

pub(super) async fn many_at_once_read_only_what_was_stored(open: Open) {
    let mut random = random_of("contract hammer");
    let opened = open(Wanted { cap_bytes: CAP, ..Wanted::SMALL }).await;
    let blobs = (0..BLOBS).map(|seed| Blob::random(seed, random.usize(1..LARGEST))).collect();
    let namespaces = [main_namespace(), other_namespace()];
    let results = (0..RESULTS).map(|at| result_key(namespaces[at % 2], &at.to_string())).collect();
    let [stored, refused, read] = [const { AtomicU64::new(0) }; 3];
    let world = Arc::new(World { opened, blobs, results, stored, refused, read });
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (world, mut random) = (Arc::clone(&world), random.fork());
        tasks.spawn(async move {
            for _ in 0..CALLS {
                world.act(&mut random).await;
            }
        });
    }
    tasks.join_all().await;
    world.opened.settle().await;
    let [stored, refused, read] =
        [&world.stored, &world.refused, &world.read].map(|it| it.load(Ordering::SeqCst));
    println!("{stored} stored, {refused} refused, {read} read");
    assert!(stored > 100 && read > 20, "{stored} stored, {refused} refused, {read} read");
    // Purges cut writes off, and so does room that a store of several parts loses under them.
    assert!(refused * 4 < stored, "{refused} refused, {stored} stored");
    for key in world.blobs.iter().map(key_of).chain(world.results.iter().copied()) {
        if let Some(data) = read_what_is_promised(&*world.opened.store, &key).await {
            world.check(&key, &data);
        }
    }
    let last = Blob::random(9_999, LARGEST);
    put(&*world.opened.store, &last).await;
    assert_holds(&*world.opened.store, &key_of(&last), &last.data).await;
    world.opened.settle().await;
}
