//! Many trees staged from a store that holds little more than one, while others write.
//!
//! `CASTELLAN_STAGING_SECONDS` says for how long; a moment if not.

use std::sync::atomic::AtomicBool;

use tokio::sync::RwLock;
use tokio::task::JoinSet;

use super::*;
use crate::store::BlobStoreExt as _;

const STAGERS: u64 = 8;
const WRITERS: u64 = 8;
const FILES: u64 = 60;
const FILE_BYTES: usize = 40_000;

/// A tree of which no two seeds share a file.
fn tree(seed: u64) -> Model {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tree = Model::new();
    for number in 0..FILES {
        let mut data = vec![0; random.usize(1..FILE_BYTES)];
        random.fill(&mut data);
        let file = Item::File { data: data.into(), is_executable: number % 4 == 0 };
        let below = tree.entry(format!("d{}", number % 5)).or_insert(Item::Folder(Model::new()));
        if let Item::Folder(below) = below {
            below.insert(format!("f{number}"), file);
        }
    }
    tree
}

struct Pressure {
    world: World,
    /// Held by whoever changes the store, and alone by whoever measures it.
    gate: RwLock<()>,
    is_over: AtomicBool,
    staged: AtomicU64,
    missing: AtomicU64,
}

impl Pressure {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Stages one tree again and again, like a client that uploads what is said to be missing.
    async fn stage(self: Arc<Self>, seed: u64) {
        let (wanted, name) = (tree(seed), format!("target {seed}"));
        let parts = Parts::of(&wanted);
        let path = self.world.place.path().join(&name);
        while self.goes_on() {
            let gate = self.gate.read().await;
            let options = StageOptions::default();
            let (root, parent) = (TreeRoot::Directory(parts.root), self.world.parent());
            let call = self.world.stager.stage(root, parent, &name, &options, Arc::default());
            let staged = match call.await {
                Ok(staged) => staged,
                Err(StageError::Missing(missing)) => {
                    self.missing.fetch_add(1, Ordering::Relaxed);
                    assert!(!missing.is_empty() && missing.is_sorted());
                    assert!(!path.exists());
                    for digest in missing {
                        let data = parts.blobs.get(&digest).expect("a blob of this tree").clone();
                        // Others hold too much.
                        drop(self.world.store.put(&Key::blob(digest), data).await);
                    }
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            self.staged.fetch_add(1, Ordering::Relaxed);
            assert_eq!(read_back(&path), wanted);
            drop(gate);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            // Everything is there as long as it is leased, and so the store has it.
            let gate = self.gate.read().await;
            assert_eq!(read_back(&path), wanted);
            for digest in parts.blobs.keys().filter(|it| !parts.directories.contains_key(it)) {
                let key = Key::blob(*digest);
                assert!(self.world.store.contains(&key).await.unwrap(), "{digest} is leased");
            }
            drop(staged);
            self.world.parent().remove_all(&name).unwrap();
            drop(gate);
        }
    }

    async fn churn(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(1_000 + seed);
        while self.goes_on() {
            let _gate = self.gate.read().await;
            let mut data = vec![0; random.usize(1..FILE_BYTES)];
            random.fill(&mut data);
            let key = Key::blob(Digest::of(SHA256, &data));
            match self.world.store.put(&key, data.into()).await {
                // Staged trees may hold all that there is.
                Ok(()) | Err(StoreError::NoSpace { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_pressure_trees_are_whole_or_refused() {
    let seconds = std::env::var("CASTELLAN_STAGING_SECONDS");
    let seconds = seconds.ok().and_then(|it| it.parse().ok()).unwrap_or(3);
    // With its variants, and what the directories of the store take.
    let tree_bytes = {
        let world = World::new().await;
        let root = world.put_model(&tree(0)).await;
        let _staged = world.stage(root).await.unwrap();
        world.store.stats().charged_bytes()
    };
    let cap_bytes = tree_bytes + tree_bytes / 5;
    let world = World::with(cap_bytes, tempfile::tempdir().unwrap()).await;
    let pressure = Arc::new(Pressure {
        world,
        gate: RwLock::new(()),
        is_over: AtomicBool::new(false),
        staged: AtomicU64::new(0),
        missing: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for seed in 0..STAGERS {
        tasks.spawn(Arc::clone(&pressure).stage(seed));
    }
    for seed in 0..WRITERS {
        tasks.spawn(Arc::clone(&pressure).churn(seed));
    }
    let begun = std::time::Instant::now();
    let mut samples = 0;
    let (store, place) = (&pressure.world.store, pressure.world.store_place.path());
    while begun.elapsed() < Duration::from_secs(seconds) || samples < 3 {
        {
            let _alone = pressure.gate.write().await;
            let bytes = du(place);
            assert!(bytes <= cap_bytes, "{bytes} of {cap_bytes}");
        }
        assert!(store.stats().charged_bytes() <= cap_bytes);
        samples += 1;
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pressure.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(pressure.world.litter(), Vec::<String>::new());
    until("the ledger is not du", || store.stats().charged_bytes() == du(place)).await;
    let (staged, missing) = (&pressure.staged, &pressure.missing);
    let counts = (staged.load(Ordering::Relaxed), missing.load(Ordering::Relaxed));
    println!("{counts:?} staged and refused, {samples} samples");
    assert!(counts.0 > 0 && counts.1 > 0, "{counts:?}");
}
