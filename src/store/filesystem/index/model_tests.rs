//! The index against a naive reference: 200,000 random operations, I1-I4 and I14 after each.
//!
//! The reference is a list of entries, oldest first, and a few sums; it is slow and obvious.

use std::collections::VecDeque;

use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::Namespace;
use crate::store::filesystem::tombstones::Reason;
use crate::store::waiters::Ticket;

const OPERATIONS: u32 = 200_000;
const BLOCK: u64 = 4096;
const CAP: u64 = 64 * BLOCK;
const KEYS: u8 = 48;

fn limits() -> Limits {
    Limits {
        max_bytes: CAP,
        low_water_bytes: 4 * BLOCK,
        max_entries: None,
        max_age_seconds: None,
        lease_seconds: 0,
        lease_policy: LeasePolicy::default(),
    }
}

/// The reference.
#[derive(Debug, Default)]
struct Model {
    /// Present files with their charges, oldest first.
    entries: VecDeque<(FileName, u64)>,
    reserved: u64,
    dying: u64,
}

impl Model {
    fn position(&self, key: &Key) -> Option<usize> {
        self.entries.iter().position(|(file, _)| file.key == *key)
    }

    fn touch(&mut self, key: &Key) -> bool {
        let Some(at) = self.position(key) else {
            return false;
        };
        let entry = self.entries.remove(at).unwrap();
        self.entries.push_back(entry);
        true
    }

    fn remove(&mut self, at: usize) -> (FileName, u64) {
        let (file, charge) = self.entries.remove(at).unwrap();
        self.dying += charge;
        (file, charge)
    }

    /// I14: victims are the oldest entries, in order.
    fn evicted(&mut self, victims: &[Victim]) {
        for victim in victims {
            let (file, charge) = self.remove(0);
            assert_eq!((victim.file, victim.charge()), (file, charge), "I14");
        }
    }
}

/// The index, the reference, and the tokens in flight.
struct Bench {
    rng: fastrand::Rng,
    index: Index<u64>,
    model: Model,
    next_generation: u64,
    /// Reservations that were granted and not yet used, in bytes.
    reservations: Vec<Claim>,
    queued: VecDeque<(Ticket, u64)>,
    victims: Vec<Victim>,
    open: Vec<Found>,
    evictions: usize,
    entries_seen: usize,
}

impl Bench {
    fn key(&mut self) -> Key {
        let digest = Digest::of(DigestFunction::Sha256, &[self.rng.u8(..KEYS)]);
        if self.rng.u8(..4) == 0 {
            Key::action_result(Namespace::of_instance("main"), digest)
        } else {
            Key::blob(digest)
        }
    }

    fn reserve(&mut self) {
        // A long queue would keep the index empty and the run dull.
        if self.queued.len() + self.reservations.len() > 8 {
            return self.publish();
        }
        let bytes = BLOCK * self.rng.u64(1..=6);
        match self.index.reserve(bytes, 32, bytes) {
            Reserve::Granted(claim) => {
                self.model.reserved += bytes;
                self.reservations.push(claim);
            }
            Reserve::Queued(ticket, victims) => {
                self.evictions += victims.len();
                self.model.evicted(&victims);
                self.victims.extend(victims);
                self.queued.push_back((ticket, bytes));
            }
            other => panic!("six blocks fit, nothing is pinned: {other:?}"),
        }
    }

    fn publish(&mut self) {
        if self.reservations.is_empty() {
            return;
        }
        let claim = self.reservations.swap_remove(self.rng.usize(..self.reservations.len()));
        let reserved = claim.bytes;
        let charge = reserved - BLOCK * self.rng.u64(..=(reserved / BLOCK).min(2));
        self.next_generation += 1;
        let generation = Generation(self.next_generation);
        let file = FileName::own(self.key(), 1, generation);
        self.model.reserved -= reserved;
        match self.index.publish(file, claim, charge) {
            Publish::Inserted => {
                assert_eq!(self.model.position(&file.key), None);
                self.model.entries.push_back((file, charge));
            }
            Publish::Replaced(victim) => {
                let at = self.model.position(&file.key).unwrap();
                assert_eq!(self.model.remove(at), (victim.file, victim.charge()));
                self.model.entries.push_back((file, charge));
                self.victims.push(victim);
            }
            Publish::Lost(victim) => {
                assert!(file.key.kind == Kind::Blob && self.model.touch(&file.key));
                self.model.dying += charge;
                self.victims.push(victim);
            }
            other => panic!("nothing is purged or closed: {other:?}"),
        }
    }

    fn grant(&mut self) {
        for grant in self.index.grant() {
            let (_, bytes) = self.queued.pop_front().unwrap();
            assert_eq!(
                (grant.claim.bytes, grant.waker),
                (bytes, bytes),
                "first come, first served"
            );
            self.model.reserved += bytes;
            self.reservations.push(grant.claim);
        }
    }

    fn abandon(&mut self) {
        if let Some(claim) = self.reservations.pop() {
            self.model.reserved -= claim.bytes;
            self.index.unreserve(claim);
        } else if let Some((ticket, _)) = self.queued.pop_back() {
            assert!(self.index.cancel(ticket));
        }
    }

    fn bury(&mut self) {
        if self.victims.is_empty() {
            return;
        }
        let victim = self.victims.swap_remove(self.rng.usize(..self.victims.len()));
        let charge = victim.charge();
        let is_open = self.open.iter().any(|it| it.file.generation == victim.file.generation);
        self.index.bury(victim);
        if !is_open {
            self.model.dying -= charge;
        }
    }

    fn open(&mut self) {
        let key = self.key();
        let found = self.index.open(&key, Use::Touch);
        assert_eq!(found.is_some(), self.model.touch(&key));
        self.open.extend(found);
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let found = self.open.swap_remove(self.rng.usize(..self.open.len()));
        let generation = found.file.generation;
        let before = self.index.ledger().dying_bytes;
        self.index.close_reader(&found);
        let freed = before - self.index.ledger().dying_bytes;
        let is_last = self.open.iter().all(|it| it.file.generation != generation);
        let is_gone = self.model.entries.iter().all(|(file, _)| file.generation != generation)
            && self.victims.iter().all(|it| it.file.generation != generation);
        assert!(freed == 0 || (is_last && is_gone), "held until the last reader");
        self.model.dying -= freed;
    }

    fn remove(&mut self) {
        let key = self.key();
        if let Some(at) = self.model.position(&key) {
            let (file, charge) = self.model.remove(at);
            let victim = self.index.remove(&file, Reason::Corrupt).unwrap();
            assert_eq!((victim.file, victim.charge()), (file, charge));
            self.victims.push(victim);
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0..=4 => self.reserve(),
            5..=8 => self.publish(),
            9..=11 => self.bury(),
            12 => self.abandon(),
            13 => {
                let key = self.key();
                let found = self.index.look_up(&key, Use::Touch);
                assert_eq!(found.is_some(), self.model.touch(&key));
            }
            14 | 15 => self.open(),
            16 | 17 => self.close(),
            18 => self.remove(),
            _ => {
                let victims = self.index.evict_to_low_water(8);
                self.model.evicted(&victims);
                self.victims.extend(victims);
            }
        }
        self.grant();
    }

    fn check(&self) {
        self.index.check();
        let books = self.index.ledger();
        assert_eq!(books.reserved_bytes, self.model.reserved, "I1");
        assert_eq!(books.dying_bytes, self.model.dying, "I1");
        let files: Vec<_> = self.model.entries.iter().map(|(file, _)| *file).collect();
        assert_eq!(self.index.files(), files, "I14");
    }
}

#[test]
fn i1_i2_i4_i14_random_operations_match_the_reference() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut bench = Bench {
        rng: fastrand::Rng::with_seed(seed),
        index: Index::new(limits(), 0),
        model: Model::default(),
        next_generation: 1 << 60,
        reservations: Vec::new(),
        queued: VecDeque::new(),
        victims: Vec::new(),
        open: Vec::new(),
        evictions: 0,
        entries_seen: 0,
    };
    for _ in 0..OPERATIONS {
        bench.step();
        bench.check();
        bench.entries_seen += bench.index.len();
    }
    let mean_entries = bench.entries_seen / OPERATIONS as usize;
    assert!(bench.evictions > 5_000 && mean_entries > 5, "a dull run proves nothing");
    // I22: every token type is back at zero at quiescence.
    while !(bench.reservations.is_empty() && bench.queued.is_empty()) {
        bench.abandon();
    }
    while !bench.victims.is_empty() {
        bench.bury();
    }
    while !bench.open.is_empty() {
        bench.close();
    }
    bench.check();
    let books = bench.index.ledger();
    assert_eq!((books.reserved_bytes, books.dying_bytes, books.held_bytes), (0, 0, 0));
    assert_eq!(bench.index.pending(), (0, 0, 0));
}
