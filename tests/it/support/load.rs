//! Traffic against a server that may end at any moment, and the book of what it acknowledged.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use castellan::digest::{Digest, DigestFunction};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::items::{Item, Mix, find_present};
use super::{Client, disk};

/// How long calls may take to fail; only a server that hangs reaches it.
const PATIENCE: Duration = Duration::from_mins(1);
/// What is absent is read in samples, one of so many.
const ABSENT_SAMPLE: u64 = 8;
/// Calls at a time while everything is checked.
const CONCURRENCY: usize = 8;

/// What was ever sent to one directory.
pub(crate) struct Book {
    mix: Mix,
    first_seed: u64,
    /// By seed, from the first one on: the digest, and whether it is that of an action.
    sent: Vec<(Digest, bool)>,
    by_digest: HashMap<(bool, Digest), u64>,
    /// Of these the server has said that they are stored.
    pub(crate) acknowledged: BTreeSet<u64>,
    pub(crate) bytes: u64,
}

/// What a server says about everything in a book.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Blobs that are said to be there, and results that are.
    pub(crate) present: BTreeSet<u64>,
    /// Of these, what could not be read.
    pub(crate) lies: BTreeSet<u64>,
}

struct Shared {
    mix: Mix,
    /// The next seed that nobody has sent yet.
    next_seed: AtomicU64,
    /// From now on calls may fail.
    is_ending: AtomicBool,
    stored: Mutex<Vec<u64>>,
}

impl Book {
    /// An empty one; no other `seed` gives the same items.
    pub(crate) fn new(seed: u64, mix: Mix) -> Self {
        Self {
            mix,
            first_seed: seed << 32,
            sent: Vec::new(),
            by_digest: HashMap::new(),
            acknowledged: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// The item of a seed.
    pub(crate) fn item(&self, seed: u64) -> Item {
        Item::of(seed, self.mix)
    }

    fn next_seed(&self) -> u64 {
        self.first_seed + self.sent.len() as u64
    }

    /// The seeds that somebody has begun to send, the youngest last.
    pub(crate) fn seeds(&self) -> impl DoubleEndedIterator<Item = u64> + use<> {
        self.first_seed..self.next_seed()
    }

    fn entry(&self, seed: u64) -> (Digest, bool) {
        self.sent[usize::try_from(seed - self.first_seed).unwrap()]
    }

    /// What the files of these take at least, in blocks of 4 KiB.
    pub(crate) fn charge_bytes(&self, seeds: &BTreeSet<u64>) -> u64 {
        let file_bytes = |seed: &u64| match self.entry(*seed) {
            (_, true) => 1,
            (digest, false) => digest.size_bytes,
        };
        seeds.iter().map(|seed| file_bytes(seed).div_ceil(4096) * 4096).sum()
    }

    /// Eight writers and two readers until `end`, which is called after so many acknowledged
    /// writes, has ended the server or its disk. No call fails before that.
    pub(crate) async fn load(&mut self, address: &str, writes: usize, end: impl AsyncFnOnce()) {
        let shared = Arc::new(Shared {
            mix: self.mix,
            next_seed: AtomicU64::new(self.next_seed()),
            is_ending: AtomicBool::new(false),
            stored: Mutex::new(self.acknowledged.iter().copied().collect()),
        });
        let (acknowledged, mut told) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let client = Client::connect(address).await;
            let shared = Arc::clone(&shared);
            if number < 8 {
                tasks.spawn(write_on(client, shared, number, acknowledged.clone()));
            } else {
                tasks.spawn(read_on(client, shared, number));
            }
        }
        drop(acknowledged);
        for _ in 0..writes {
            // Only a writer that has failed is silent for ever, and that is told below.
            let Some(seed) = told.recv().await else { break };
            self.acknowledged.insert(seed);
        }
        shared.is_ending.store(true, Ordering::SeqCst);
        end().await;
        let rest = async {
            while let Some(seed) = told.recv().await {
                self.acknowledged.insert(seed);
            }
            tasks.join_all().await;
        };
        tokio::time::timeout(PATIENCE, rest).await.expect("every call ends");
        for seed in self.next_seed()..shared.next_seed.load(Ordering::SeqCst) {
            let item = self.item(seed);
            self.sent.push((item.digest, item.is_result));
            self.by_digest.insert((item.is_result, named(item.digest, item.is_result)), seed);
            self.bytes += item.value.len() as u64;
        }
    }

    /// Asks for everything in one go, then reads what of it is `wanted` and there, all results,
    /// and a part of what is not there.
    pub(crate) async fn ask(
        &self,
        client: &Client,
        wanted: impl Fn(u64) -> bool + Send + Sync,
    ) -> Answers {
        let blobs = self.seeds().map(|it| self.entry(it)).filter(|(_, is_result)| !is_result);
        let blobs: Vec<Digest> = blobs.map(|(digest, _)| digest).collect();
        let found = find_present(client, &blobs).await;
        let mut answers = Answers::default();
        let is_there = |seed| {
            let (digest, is_result) = self.entry(seed);
            (!is_result).then(|| found.contains(&digest))
        };
        let turn = self.next_seed();
        let reads = self.seeds().filter(|seed| match is_there(*seed) {
            None => true,
            Some(true) => wanted(*seed),
            Some(false) => wanted(*seed) && (seed + turn).is_multiple_of(ABSENT_SAMPLE),
        });
        let reads = reads.map(async |seed| {
            let read = self.item(seed).get(client).await;
            (seed, read.unwrap_or_else(|status| panic!("{seed}: {status:?}")).is_some())
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(CONCURRENCY);
        while let Some((seed, is_read)) = reads.next().await {
            match is_there(seed) {
                None if is_read => drop(answers.present.insert(seed)),
                Some(true) if !is_read => drop(answers.lies.insert(seed)),
                Some(false) => assert!(!is_read, "{seed} is said to be missing and can be read"),
                _ => {}
            }
        }
        drop(reads);
        answers.present.extend(self.seeds().filter(|seed| is_there(*seed) == Some(true)));
        answers
    }

    /// What has a file in a directory. Every file there is that of something in the book, has the
    /// right name and is the only one of its key.
    pub(crate) fn files(&self, root: &Path) -> BTreeSet<u64> {
        let mut seeds = BTreeSet::new();
        for (folder, is_result) in [("blobs", false), ("actions", true)] {
            let folder = root.join(folder);
            for path in disk::files(&folder) {
                let relative = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                let digest =
                    parse(relative, is_result).unwrap_or_else(|| panic!("litter: {path:?}"));
                let seed = self.by_digest.get(&(is_result, digest));
                let seed = *seed.unwrap_or_else(|| panic!("never sent: {path:?}"));
                assert!(seeds.insert(seed), "a second file of {seed}: {path:?}");
            }
        }
        let temporary = std::fs::read_dir(root.join("tmp")).into_iter().flatten();
        assert_eq!(temporary.count(), 0, "litter in tmp");
        seeds
    }
}

/// What the name of a file says of a digest: the size of an action is no part of it.
fn named(digest: Digest, is_result: bool) -> Digest {
    Digest { size_bytes: if is_result { 0 } else { digest.size_bytes }, ..digest }
}

/// `<function>/<aa>/<hash>-...<length>.<generation>`: what it says of the digest.
fn parse(relative: &str, is_result: bool) -> Option<Digest> {
    let mut segments = relative.split('/');
    let function = segments.next()?;
    let function = DigestFunction::ALL.into_iter().find(|it| it.name() == function)?;
    let shard = segments.next()?;
    let (identity, generation) = segments.next()?.split_once('.')?;
    generation.parse::<u64>().ok()?;
    let (text, rest) = identity.split_once('-')?;
    let size_bytes = rest.rsplit('-').next()?.parse().ok()?;
    let mut hash = [0; 32];
    const_hex::decode_to_slice(text, &mut hash).ok()?;
    let is_right = text.starts_with(shard) && shard.len() == 2 && segments.next().is_none();
    is_right.then_some(named(Digest { function, hash, size_bytes }, is_result))
}

/// Mostly new items, now and then one that was stored before.
async fn write_on(client: Client, shared: Arc<Shared>, number: u64, told: mpsc::Sender<u64>) {
    let mut random = fastrand::Rng::with_seed(shared.next_seed.load(Ordering::SeqCst) ^ number);
    loop {
        let former = if random.u8(..10) == 0 { shared.any(&mut random) } else { None };
        let seed = former.unwrap_or_else(|| shared.next_seed.fetch_add(1, Ordering::SeqCst));
        if let Err(status) = Item::of(seed, shared.mix).put(&client).await {
            let is_ending = shared.is_ending.load(Ordering::SeqCst);
            assert!(is_ending, "a write of {seed} failed: {status:?}");
            return;
        }
        shared.stored.lock().push(seed);
        told.send(seed).await.unwrap();
    }
}

/// Reads what was stored: the right bytes, or none if it was evicted.
async fn read_on(client: Client, shared: Arc<Shared>, number: u64) {
    let mut random = fastrand::Rng::with_seed(shared.next_seed.load(Ordering::SeqCst) ^ number);
    while !shared.is_ending.load(Ordering::SeqCst) {
        let Some(seed) = shared.any(&mut random) else {
            tokio::task::yield_now().await;
            continue;
        };
        if let Err(status) = Item::of(seed, shared.mix).get(&client).await {
            let is_ending = shared.is_ending.load(Ordering::SeqCst);
            assert!(is_ending, "a read of {seed} failed: {status:?}");
        }
    }
}

impl Shared {
    /// Something that is stored, the younger the likelier.
    fn any(&self, random: &mut fastrand::Rng) -> Option<u64> {
        let stored = self.stored.lock();
        let among = stored.len().min(1 << random.u8(3..12));
        (among > 0).then(|| stored[stored.len() - 1 - random.usize(..among)])
    }
}
