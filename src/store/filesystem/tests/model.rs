//! The store against a naive reference: 200,000 random operations on a small cap.
//!
//! The reference keeps what was stored in order of use. After each operation the store must hold
//! exactly the youngest part of it (I14) and its books must agree (I1, I2, I4); every 2,000
//! operations the directory is compared with the books (I3).

use std::collections::VecDeque;

use super::*;

const OPERATIONS: u32 = 200_000;
const MAX_BYTES: u64 = 600 << 10;

struct Bench {
    rng: fastrand::Rng,
    store: Arc<FilesystemStore>,
    values: Vec<(Key, Bytes)>,
    /// What was stored and not yet seen to be gone, oldest first.
    model: VecDeque<(Key, Bytes)>,
    evicted: usize,
}

impl Bench {
    fn touch(&mut self, key: &Key) -> Option<Bytes> {
        let at = self.model.iter().position(|(it, _)| it == key)?;
        let entry = self.model.remove(at)?;
        let data = entry.1.clone();
        self.model.push_back(entry);
        Some(data)
    }

    fn stored(&mut self, key: Key, data: Bytes) {
        if self.touch(&key).is_some() && key.kind == Kind::Blob {
            return;
        }
        self.model.retain(|(it, _)| *it != key);
        self.model.push_back((key, data));
    }

    async fn step(&mut self) {
        let at = self.rng.usize(..self.values.len());
        let (key, data) = self.values[at].clone();
        match self.rng.u8(..10) {
            0 => {
                self.store.put(&key, data.clone()).await.unwrap();
                self.stored(key, data);
            }
            1 => match self.store.begin_put(&key, data.len() as u64).await.unwrap() {
                BeginPut::AlreadyPresent => assert!(self.touch(&key).is_some()),
                BeginPut::Upload(mut upload) => {
                    let cut = self.rng.usize(..=data.len());
                    upload.write(data.slice(..cut)).await.unwrap();
                    if self.rng.u8(..3) > 0 {
                        upload.write(data.slice(cut..)).await.unwrap();
                        upload.commit().await.unwrap();
                        self.stored(key, data);
                    }
                }
            },
            2..=5 => {
                let got = read(&self.store, &key).await;
                // The reservation of the last operation may have evicted: settle that first.
                self.settle();
                assert_eq!(got, self.touch(&key));
            }
            _ => {
                self.settle();
                let missing = self.store.find_missing(&[key]).await.unwrap();
                assert_eq!(missing, [self.touch(&key).is_none()]);
            }
        }
    }

    /// Drops from the reference what the store has evicted: only the oldest may be gone.
    fn settle(&mut self) {
        let entries = usize::try_from(self.store.stats().entries).unwrap();
        while self.model.len() > entries {
            self.model.pop_front();
            self.evicted += 1;
        }
    }

    fn check(&mut self) {
        self.settle();
        let keys: Vec<Key> = self.store.shared.parts.index.lock(|index| {
            index.check();
            index.files().iter().map(|file| file.key).collect()
        });
        let expected: Vec<Key> = self.model.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, expected, "I14: what is left is the youngest part, in order");
        let stats = self.store.stats();
        assert_eq!((stats.reserved_bytes, stats.dying_bytes), (0, 0), "I1");
    }
}

#[tokio::test]
async fn i1_i2_i3_i4_i14_random_operations_match_the_reference() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    // In memory where the system has that: this is about order, not about disks.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { scratch() };
    let mut values: Vec<_> = (0..60).map(|it| blob(it, rng.usize(1..20_000))).collect();
    // Few shards, so that directories do not outweigh the values.
    for at in 0..20 {
        let mut data = vec![0; rng.usize(..3_000)];
        rng.fill(&mut data);
        values.push((result_key(&at.to_string()), data.into()));
    }
    let store = open(dir.path(), MAX_BYTES).await;
    let mut bench = Bench { rng, store, values, model: VecDeque::new(), evicted: 0 };
    for number in 0..OPERATIONS {
        bench.step().await;
        bench.check();
        if number % 2_000 == 0 {
            check(&bench.store);
        }
    }
    check(&bench.store);
    assert!(bench.evicted > 1_000, "a dull run proves nothing");
}
