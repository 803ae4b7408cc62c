//! Many trees staged from a store that holds little more than one, while others write.
//!
//! `CASTELLAN_STAGING_SECONDS` says for how long; a moment if not.

use std::sync::atomic::AtomicBool;

use tokio::sync::{Mutex, RwLock};
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
    /// Of uploading all that a tree lacks, or none of them would ever have all.
    turn: Mutex<()>,
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
            let outcome = {
                let _gate = self.gate.read().await;
                self.try_to_stage(parts.root, &name).await
            };
            let staged = match outcome {
                Ok(staged) => staged,
                Err(StageError::Missing(missing)) => {
                    self.missing.fetch_add(1, Ordering::Relaxed);
                    assert!(!missing.is_empty() && missing.is_sorted());
                    assert!(!path.exists());
                    let _turn = self.turn.lock().await;
                    let _gate = self.gate.read().await;
                    let Some(staged) = self.upload(&parts, missing, &name).await else { continue };
                    staged
                }
                Err(error) => panic!("{error}"),
            };
            self.staged.fetch_add(1, Ordering::Relaxed);
            assert_eq!(read_back(&path), wanted);
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

    async fn try_to_stage(&self, root: Digest, name: &str) -> Result<StagedTree, StageError> {
        let (root, parent) = (TreeRoot::Directory(root), self.world.parent());
        let options = StageOptions::default();
        self.world.stager.stage(root, parent, name, &options, Arc::default()).await
    }

    /// Uploads what is missing and tries again.
    async fn upload(&self, parts: &Parts, missing: Vec<Digest>, name: &str) -> Option<StagedTree> {
        for digest in missing {
            let data = parts.blobs.get(&digest).expect("a blob of this tree").clone();
            match self.world.store.put(&Key::blob(digest), data).await {
                Ok(()) => {}
                // Others hold too much.
                Err(StoreError::NoSpace { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
        }
        match self.try_to_stage(parts.root, name).await {
            Ok(staged) => Some(staged),
            Err(StageError::Missing(missing)) => {
                let is_own = |digest| parts.blobs.contains_key(digest);
                assert!(!missing.is_empty() && missing.iter().all(is_own));
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn churn(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(1_000 + seed);
        while self.goes_on() {
            let gate = self.gate.read().await;
            let mut data = vec![0; random.usize(1..FILE_BYTES)];
            random.fill(&mut data);
            let key = Key::blob(Digest::of(SHA256, &data));
            match self.world.store.put(&key, data.into()).await {
                // Staged trees may hold all that there is.
                Ok(()) | Err(StoreError::NoSpace { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            drop(gate);
            tokio::time::sleep(Duration::from_millis(random.u64(1..40))).await;
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
        turn: Mutex::new(()),
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
