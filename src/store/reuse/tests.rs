//! Against the distances counted in full, and against caches of every size that see the same
//! references. Hashes and traces are the same at each run.

use std::hash::{BuildHasherDefault, DefaultHasher};

use proptest::prelude::*;

use super::*;
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::Namespace;

type SameHashes = BuildHasherDefault<DefaultHasher>;
type Distances = ReuseDistances<SameHashes>;

/// The sizes to look at, in quarters of the present one.
const QUARTERS: [u64; 5] = [1, 2, 4, 8, 16];
/// The error allowed of a share of references.
const TOLERANCE: f64 = 0.03;

fn distances(present_bytes: u64, max_keys: usize) -> Distances {
    ReuseDistances::with_hasher(present_bytes, SameHashes::default(), max_keys)
}

/// A key as somebody would choose it who wants to be sampled, or not to be: all but a few bits are
/// the same.
fn key(number: u64) -> Key {
    let mut hash = [0; HASH_BYTES];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    let digest = Digest { function: DigestFunction::Sha256, hash, size_bytes: 0 };
    Key::action_result(Namespace::SHARED, digest)
}

/// So many quarters of a size.
fn quarters(bytes: u64, count: u64) -> u64 {
    bytes / 4 * count
}

/// A cache by the book: everything in a list in order of use, the oldest leave until the rest fits.
struct Lru {
    cap_bytes: u64,
    bytes: u64,
    /// For each key its neighbors, the younger first; the last of all is both ends.
    links: Vec<[u32; 2]>,
    hits: u64,
}

const OUT: u32 = u32::MAX;

impl Lru {
    fn new(cap_bytes: u64, keys: usize) -> Self {
        let mut links = vec![[OUT; 2]; keys];
        let ends = u32::try_from(keys).unwrap();
        links.push([ends; 2]);
        Self { cap_bytes, bytes: 0, links, hits: 0 }
    }

    fn unlink(&mut self, at: u32) {
        let [younger, older] = std::mem::replace(&mut self.links[at as usize], [OUT; 2]);
        self.links[younger as usize][1] = older;
        self.links[older as usize][0] = younger;
    }

    fn asked(&mut self, key: u32, sizes: &[u64]) -> bool {
        let is_hit = self.links[key as usize][0] != OUT;
        if is_hit {
            self.hits += 1;
            self.unlink(key);
        } else if sizes[key as usize] > self.cap_bytes {
            return false;
        } else {
            self.bytes += sizes[key as usize];
        }
        let ends = self.links.len() - 1;
        let youngest = std::mem::replace(&mut self.links[ends][1], key);
        self.links[youngest as usize][0] = key;
        self.links[key as usize] = [u32::try_from(ends).unwrap(), youngest];
        while self.bytes > self.cap_bytes {
            let oldest = self.links[ends][0];
            self.bytes -= sizes[oldest as usize];
            self.unlink(oldest);
        }
        is_hit
    }
}

/// What was predicted and what caches of those sizes do, for each of [`QUARTERS`].
struct Outcome {
    predicted: [f64; 5],
    simulated: [f64; 5],
    distances: Distances,
}

impl Outcome {
    #[track_caller]
    fn check(&self, what: &str) {
        println!("{what}: predicted {:.3?}, simulated {:.3?}", self.predicted, self.simulated);
        for (at, count) in QUARTERS.iter().enumerate() {
            let error = (self.predicted[at] - self.simulated[at]).abs();
            assert!(error < TOLERANCE, "{what}, {count} quarters: off by {error:.3}");
        }
    }
}

/// Has everybody see the same references; each miss is followed by a write.
fn replay(
    trace: impl Iterator<Item = u32>,
    sizes: &[u64],
    present_bytes: u64,
    max_keys: usize,
) -> Outcome {
    let present_bytes = present_bytes / 4 * 4;
    let distances = distances(present_bytes, max_keys);
    let mut caches = QUARTERS.map(|it| Lru::new(quarters(present_bytes, it), sizes.len()));
    let mut references = 0_u32;
    for number in trace {
        references += 1;
        let [_, _, is_there, ..] = caches.each_mut().map(|cache| cache.asked(number, sizes));
        let (key, bytes) = (key(u64::from(number)), sizes[number as usize]);
        distances.reference(&key, is_there.then_some(bytes));
        if !is_there {
            distances.write(&key, bytes);
        }
    }
    let predicted = QUARTERS.map(|it| distances.predict(quarters(present_bytes, it)).unwrap());
    let simulated = caches.map(|it| it.hits as f64 / f64::from(references));
    Outcome { predicted, simulated, distances }
}

/// Sizes over six orders of magnitude, as many in each.
fn varied_sizes(keys: usize) -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..keys)
        .map(|_| {
            let power = rng.u32(10..30);
            rng.u64(1 << power..2 << power)
        })
        .collect()
}

/// Ranks of which the n-th is asked for with a probability of n to the power of -`skew`.
struct Zipf {
    shares: Vec<f64>,
    rng: fastrand::Rng,
}

impl Zipf {
    fn new(keys: u32, skew: f64) -> Self {
        let mut sum = 0.0;
        let shares = (1..=keys).map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        });
        Self { shares: shares.collect(), rng: fastrand::Rng::with_seed(2) }
    }
}

impl Iterator for Zipf {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let at = self.rng.f64() * self.shares.last()?;
        u32::try_from(self.shares.partition_point(|it| *it < at)).ok()
    }
}

const MANY: u32 = 819_200;

#[test]
fn the_errors_on_a_hundred_times_the_sampled_keys_by_popularity_are_small() {
    let sizes = varied_sizes(MANY as usize + 1);
    let present_bytes = sizes.iter().sum::<u64>() / 8;
    for skew in [0.6, 0.9] {
        let trace = Zipf::new(MANY, skew).take(1_500_000);
        let outcome = replay(trace, &sizes, present_bytes, MAX_KEYS);
        outcome.check(&format!("Zipf {skew}"));
        assert!(outcome.distances.sample.lock().recency.len() <= MAX_KEYS);
    }
}

#[test]
fn the_errors_on_a_hundred_times_the_sampled_keys_in_a_loop_are_small() {
    let sizes = varied_sizes(MANY as usize);
    // The working set is one and a half times the present size, and a third of it.
    for (what, num, den) in [("1.5", 2, 3), ("a third of", 3, 1)] {
        let present_bytes = sizes.iter().sum::<u64>() / den * num;
        let trace = (0..MANY).cycle().take(MANY as usize * 2);
        let outcome = replay(trace, &sizes, present_bytes, MAX_KEYS);
        outcome.check(&format!("a loop of {what} the size"));
    }
}

#[test]
fn the_errors_are_small_when_what_is_used_only_once_comes_between() {
    let sizes = varied_sizes(1_600_000);
    let hot = 50_000;
    let present_bytes = sizes[..hot as usize].iter().sum::<u64>();
    let mut popular = Zipf::new(hot - 1, 0.5);
    let trace = (hot..1_600_000).flat_map(|once| [popular.next(), Some(once)]).flatten();
    let outcome = replay(trace, &sizes, present_bytes, MAX_KEYS);
    outcome.check("half of it used once");
}

/// The distances counted in full: the sizes of all keys used since, each once, and the own one.
#[derive(Default)]
struct Stack(Vec<(u8, u64)>);

impl Stack {
    fn distance(&self, key: u8) -> Option<u64> {
        let at = self.0.iter().position(|it| it.0 == key)?;
        Some(self.0[at..].iter().map(|it| it.1).sum())
    }

    fn touch(&mut self, key: u8, bytes: u64) {
        self.0.retain(|it| it.0 != key);
        self.0.push((key, bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..Default::default()
    })]

    #[test]
    fn without_sampling_every_distance_is_exact(
        sizes in prop::collection::vec(1_u64..5_000, 60),
        // A key, and whether it is only written.
        trace in prop::collection::vec((0_u8..60, prop::bool::weighted(0.3)), 2_000..2_200),
        present_bytes in 20_000_u64..100_000,
    ) {
        let distances = distances(present_bytes, MAX_KEYS);
        let mut stack = Stack::default();
        let (mut counted, mut references) = (Vec::new(), 0_u64);
        for (number, is_write) in trace {
            let (key, bytes) = (key(u64::from(number)), sizes[usize::from(number)]);
            if is_write {
                distances.write(&key, bytes);
                stack.touch(number, bytes);
                continue;
            }
            references += 1;
            let distance = stack.distance(number);
            counted.extend(distance);
            if distance.is_some_and(|it| it <= present_bytes) {
                distances.reference(&key, Some(bytes));
                stack.touch(number, bytes);
            } else {
                // A miss that nobody follows by a write changes nothing.
                distances.reference(&key, None);
            }
        }
        prop_assert_eq!(distances.references(), references);
        // Sizes at which a bucket ends, so that no share of one is in it, up to four times.
        let ends = (7..19).flat_map(|power| (16..32_u64).map(move |it| (it << (power - 4)) - 1));
        for cap_bytes in ends.filter(|it| *it <= present_bytes * 4) {
            let hits = counted.iter().filter(|it| **it <= cap_bytes).count();
            let exact = hits as f64 / references as f64;
            let predicted = distances.predict(cap_bytes).unwrap();
            prop_assert!((predicted - exact).abs() < 1e-9, "{cap_bytes}: {predicted} {exact}");
        }
    }

    #[test]
    fn between_two_ends_of_a_bucket_counts_are_spread(bytes in 16_u64..1 << 60) {
        let mut histogram = Histogram::default();
        histogram.add(bytes as f64, 1.0);
        prop_assert!(histogram.up_to(bytes - bytes / 8) < 0.01, "{bytes}");
        prop_assert!(histogram.up_to(bytes + bytes / 8 + 1) > 0.99, "{bytes}");
        prop_assert!(histogram.up_to(bytes) <= 1.0);
    }
}

#[test]
fn i22_memory_and_work_stay_bounded_whatever_comes() {
    let distances = distances(1 << 40, 1024);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..300_000 {
        let key = key(rng.u64(..));
        distances.write(&key, rng.u64(..));
        distances.reference(&key, Some(rng.u64(..1 << 20)));
    }
    let full = ReuseDistances::new(u64::MAX);
    for number in 0..40_000 {
        full.write(&key(number), 1);
    }
    for (distances, max_keys) in [(&distances.sample, 1024), (&full.sample, MAX_KEYS)] {
        let sample = distances.lock();
        assert!(sample.recency.len() <= max_keys);
        let (uses, sums) = sample.recency.capacities();
        assert!(uses <= 2 * max_keys && sums <= 2 * max_keys, "{uses} {sums}");
    }
    assert_eq!(full.sample.lock().recency.len(), MAX_KEYS, "no fewer than there may be");
}

#[test]
fn what_nobody_uses_again_does_not_push_the_rest_out_of_the_sample() {
    let distances = distances(4_000 * 1000, 1000);
    let mut rng = fastrand::Rng::with_seed(4);
    for number in 0..1_000_000_u64 {
        distances.write(&key(number + 100), 1000);
        let hot = key(rng.u64(..100));
        distances.reference(&hot, Some(1000));
    }
    // In sight are 20,000 keys of the million that there were.
    let share = 1.0 / distances.sample.lock().weight();
    assert!((0.035..0.05).contains(&share), "{share}");
    assert!(distances.sample.lock().recency.len() > 700);
}

#[test]
fn nobody_can_choose_keys_that_are_sampled() {
    // All that is chosen looks the same as chance: of keys that differ in few bits the share is
    // sampled that the threshold says.
    let distances = distances(u64::MAX, 1000);
    for number in 0..100_000 {
        distances.write(&key(number), 1);
    }
    let share = 1.0 / distances.sample.lock().weight();
    assert!((0.009..0.011).contains(&share), "{share}");
    // And no two stores sample the same.
    let sampled = |store: &ReuseDistances| -> Vec<bool> {
        (0..256).map(|it| store.hasher.hash_one(key(it)) < u64::MAX / 2).collect()
    };
    assert_ne!(sampled(&ReuseDistances::new(1)), sampled(&ReuseDistances::new(1)));
}

#[test]
fn asking_for_what_was_never_there_promises_nothing() {
    let distances = distances(1 << 20, MAX_KEYS);
    // One key again and again, sampled or not, and a flood of others.
    for number in 0..20_000 {
        distances.reference(&key(7), None);
        distances.reference(&key(number + 100), None);
    }
    assert_eq!(distances.predict(4 << 20), Some(0.0));
    assert_eq!(distances.sample.lock().recency.len(), 0, "nor does it take a place");
    // A real value is not crowded out by them.
    for _ in 0..20_000 {
        distances.reference(&key(8), Some(1000));
    }
    for count in QUARTERS {
        let predicted = distances.predict(quarters(1 << 20, count)).unwrap();
        assert!((predicted - 1.0 / 3.0).abs() < 0.01, "{predicted}");
    }
}

#[test]
fn hits_on_what_was_there_before_history_began_are_hits_at_the_present_size() {
    let distances = distances(1 << 20, MAX_KEYS);
    for number in 0..2_000 {
        distances.reference(&key(number), Some(100));
    }
    assert_eq!(distances.predict(1 << 20), Some(1.0));
    assert_eq!(distances.predict(4 << 20), Some(1.0));
    assert!(distances.predict(1 << 19).unwrap() < 0.01, "how old they were nobody knows");
}

#[test]
fn nothing_is_said_of_a_thousand_references_or_fewer() {
    let distances = distances(1 << 20, 1000);
    distances.write(&key(1), 1);
    for _ in 0..999 {
        distances.reference(&key(1), Some(1));
    }
    assert_eq!(distances.predict(1 << 20), None);
    distances.reference(&key(1), Some(1));
    assert_eq!(distances.predict(1 << 20), Some(1.0));
}

#[test]
fn the_estimate_follows_a_workload_that_changes() {
    let present_bytes = 1_000_000;
    let distances = distances(present_bytes, MAX_KEYS);
    let loop_over = |keys: u64, rounds: u64| {
        for number in (0..rounds).flat_map(|_| 0..keys) {
            distances.reference(&key(number), Some(1000));
        }
        distances.predict(present_bytes / 2).unwrap()
    };
    // Everything fits a half; then a loop over what fits only the whole.
    let before = loop_over(200, 1_000);
    assert!(before > 0.99, "{before}");
    let after = loop_over(900, 600);
    assert!(after < 0.05, "{after}");
}

#[test]
fn many_threads_lose_no_reference() {
    let distances = distances(1 << 20, 100);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..300).for_each(|it| distances.reference(&key(it), Some(1))));
        }
    });
    assert_eq!(distances.references(), 1200);
}
