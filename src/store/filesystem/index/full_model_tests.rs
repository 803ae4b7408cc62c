//! The whole index against the reference: 200,000 random operations in episodes, each on what a
//! former process left, with leases, pins, variants, purges, limits on age and number.
//!
//! After each operation I1, I2, I4, I8, I14, I16 and I21 hold.

use std::collections::BTreeMap;

use super::reference_tests::{BLOCK, FORMERLY, Reference, State, key, left, limits};
use super::*;
use crate::store::filesystem::snapshot::Record;
use crate::store::filesystem::tombstones::Reason;
use crate::store::waiters::Ticket;
use crate::store::{Namespace, PurgeScope};

const EPISODES: u32 = 50;
const OPERATIONS: u32 = 4_000;

/// Room that was given to a write, and what was purged since it began.
struct Write {
    claim: Claim,
    purged: Vec<PurgeScope>,
}

/// A write that waits for room.
struct Waiting {
    ticket: Ticket,
    bytes: u64,
    purged: Vec<PurgeScope>,
}

struct Bench {
    rng: fastrand::Rng,
    index: Index<u64>,
    reference: Reference,
    unread: BTreeMap<Shard, Vec<Record>>,
    timeline: Vec<(u64, u64)>,
    fences: Vec<PurgeScope>,
    writes: Vec<Write>,
    /// Files with a name that are not booked.
    named: Vec<(FileName, Write)>,
    queued: Vec<Waiting>,
    victims: Vec<Victim>,
    open: Vec<Found>,
    pins: Vec<Found>,
}

impl Bench {
    fn new(mut rng: fastrand::Rng) -> Self {
        let limits = limits(&mut rng);
        let records = left(&mut rng);
        let timeline: Vec<_> = (0..8).map(|at| (at * 100, FORMERLY + at * 20)).collect();
        let now = FORMERLY + 141 + rng.u64(..60);
        let mut index = Index::new(limits, 1_000);
        index.recover(Fences::default(), &timeline, u64::MAX);
        while index.set_now(now) {}
        let mut unread: BTreeMap<Shard, Vec<Record>> = BTreeMap::new();
        for record in records {
            unread.entry(Shard::of(&record.file.key)).or_default().push(record);
        }
        let size = |records: &Vec<Record>| {
            records.iter().map(|it| it.charge_bytes + it.variant_bytes).sum::<u64>()
        };
        let sizes = if rng.bool() {
            let mut sizes = vec![0; Shard::COUNT];
            for (shard, records) in &unread {
                sizes[shard.index()] = size(records);
            }
            UnreadShards::Exact(sizes)
        } else {
            UnreadShards::AtMost(unread.values().map(size).sum::<u64>() + BLOCK * rng.u64(..9))
        };
        index.begin_loading(sizes, 0);
        for shard in Shard::all().filter(|shard| !unread.contains_key(shard)) {
            assert_eq!(index.load_shard(shard, &[], 0, 0), []);
        }
        let mut timeline = timeline;
        timeline.push((1_001, now));
        Self {
            rng,
            index,
            reference: Reference::new(limits, now),
            unread,
            timeline,
            fences: Vec::new(),
            writes: Vec::new(),
            named: Vec::new(),
            queued: Vec::new(),
            victims: Vec::new(),
            open: Vec::new(),
            pins: Vec::new(),
        }
    }

    /// A key whose shard is read.
    fn key(&mut self) -> Key {
        let key = key(&mut self.rng);
        self.load(Shard::of(&key));
        key
    }

    fn load(&mut self, shard: Shard) {
        let Some(mut records) = self.unread.remove(&shard) else { return };
        records.sort_by_key(|it| (it.stamp, it.file.generation));
        let victims = self.index.load_shard(shard, &records, 0, 0);
        for record in &records {
            let file = record.file;
            let is_newest = records
                .iter()
                .all(|it| it.file.key != file.key || it.file.generation <= file.generation);
            let is_purged = self.fences.iter().any(|it| it.covers(file.key.namespace));
            let is_victim = victims.iter().any(|it| it.file == file);
            assert_eq!(is_victim, is_purged || !is_newest, "I16, I19");
            if is_victim {
                self.reference.dying += record.charge_bytes + record.variant_bytes;
            } else {
                let noted = self.timeline.iter().find(|(stamp, _)| *stamp > record.stamp);
                self.reference.adopt(record, noted.map(|it| it.1));
            }
        }
        self.victims.extend(victims);
    }

    fn take_victims(&mut self, victims: Vec<Victim>) {
        assert!(victims.is_empty() || self.unread.is_empty(), "I14: not before all is read");
        self.reference.evicted(&victims);
        self.victims.extend(victims);
    }

    fn reserve(&mut self) {
        if self.queued.len() + self.writes.len() + self.named.len() > 4 {
            return self.abandon();
        }
        let bytes = BLOCK * self.rng.u64(1..=6);
        match self.index.reserve(bytes, 32, bytes) {
            Reserve::Granted(claim) => self.writes.push(Write { claim, purged: Vec::new() }),
            Reserve::Queued(ticket, victims) => {
                self.take_victims(victims);
                self.queued.push(Waiting { ticket, bytes, purged: Vec::new() });
            }
            Reserve::Leased => {
                assert_eq!(self.reference.limits.lease_policy, LeasePolicy::RefuseWrites);
                assert!(self.reference.leased_bytes() > 0, "I21");
            }
            other => panic!("six blocks fit: {other:?}"),
        }
    }

    fn grant(&mut self) {
        for grant in self.index.grant() {
            let Waiting { bytes, purged, .. } = self.queued.remove(0);
            assert_eq!((grant.claim.bytes, grant.waker), (bytes, bytes), "first come first");
            self.writes.push(Write { claim: grant.claim, purged });
        }
    }

    fn abandon(&mut self) {
        if let Some(write) = self.writes.pop() {
            self.index.unreserve(write.claim);
        } else if let Some(waiting) = self.queued.pop() {
            assert!(self.index.cancel(waiting.ticket));
        } else if let Some((file, write)) = self.named.pop() {
            self.index.abandon_publication(file.generation);
            self.index.unreserve(write.claim);
        }
    }

    fn name(&mut self) {
        let key = self.key();
        let Some(write) = self.writes.pop() else { return };
        let is_purged = write.purged.iter().any(|it| it.covers(key.namespace));
        let is_whole = self.reference.find(&key).is_some_and(|it| !it.is_suspect);
        match self.index.begin_publication(&key, &write.claim) {
            Start::Write(generation) => {
                assert!(!is_purged, "I16");
                let len_bytes = if key.kind == Kind::Blob { key.digest.size_bytes } else { 1 };
                self.named.push((FileName::own(key, len_bytes, generation), write));
                return;
            }
            Start::Overtaken => {
                assert!(key.kind == Kind::Blob && is_whole && !is_purged);
                self.reference.touch(&key);
            }
            Start::Purged => assert!(is_purged, "I16"),
            Start::Closed => panic!("nothing is closed"),
        }
        self.index.unreserve(write.claim);
    }

    fn publish(&mut self) {
        if self.named.is_empty() {
            return self.name();
        }
        let (file, write) = self.named.swap_remove(self.rng.usize(..self.named.len()));
        let charge = write.claim.bytes - BLOCK * self.rng.u64(..2);
        let is_purged = write.purged.iter().any(|it| it.covers(file.key.namespace));
        let is_whole = self.reference.find(&file.key).is_some_and(|it| !it.is_suspect);
        let is_overtaken = file.key.kind == Kind::Blob && is_whole;
        match self.index.publish(file, write.claim, charge) {
            Publish::Inserted => {
                assert!(!is_purged && self.reference.find(&file.key).is_none());
                self.reference.add(file, charge);
            }
            Publish::Replaced(victim) => {
                assert!(!is_purged && !is_overtaken);
                assert_eq!(victim.file.key, file.key);
                self.reference.replace(&victim, file, charge, self.unread.is_empty());
                self.victims.push(victim);
            }
            Publish::Lost(victim) => {
                assert!(!is_purged && is_overtaken);
                self.reference.touch(&file.key);
                self.reference.dying += charge;
                self.victims.push(victim);
            }
            Publish::Purged(victim) => {
                assert!(is_purged, "I16");
                self.reference.dying += charge;
                self.victims.push(victim);
            }
            Publish::Closed(_) => panic!("nothing is closed"),
        }
        let victims = self.index.evict_over_count(32);
        self.take_victims(victims);
    }

    /// A blob that is there.
    fn some_blob(&mut self) -> Option<Found> {
        let blobs: Vec<Key> = self.reference.entries.iter().map(|it| it.file.key).collect();
        let blobs: Vec<Key> = blobs.into_iter().filter(|it| it.kind == Kind::Blob).collect();
        let key = *self.rng.choice(&blobs)?;
        self.index.peek(&key)
    }

    fn publish_variant(&mut self) {
        let Some(blob) = self.some_blob() else { return };
        let Some(write) = self.writes.pop() else { return };
        // It may leave while the copy is made.
        if self.rng.u8(..4) == 0 {
            self.remove(&blob.file.key);
        }
        let charge = BLOCK * self.rng.u64(1..=write.claim.bytes / BLOCK);
        let known = self.reference.find(&blob.file.key);
        let may = known.is_some_and(|it| it.file == blob.file && it.variant == 0);
        let is_booked = self.index.publish_variant(&blob, &write.claim, charge);
        assert_eq!(is_booked, may, "I9");
        if !is_booked {
            return self.index.unreserve(write.claim);
        }
        self.reference.pin(&blob.file);
        self.reference.find(&blob.file.key).unwrap().variant = charge;
        self.pins.push(blob);
    }

    fn remove_variant(&mut self) {
        let Some(blob) = self.some_blob() else { return };
        let victim = self.index.remove_variant(&blob.file);
        let known = self.reference.find(&blob.file.key).unwrap();
        assert_eq!(victim.as_ref().map_or(0, Victim::charge), known.variant);
        self.reference.dying += std::mem::take(&mut known.variant);
        self.victims.extend(victim);
    }

    fn remove(&mut self, key: &Key) {
        let Some(file) = self.reference.find(key).map(|it| it.file) else { return };
        let victim = self.index.remove(&file, Reason::Corrupt).unwrap();
        self.reference.take(&victim);
        self.victims.push(victim);
    }

    fn bury(&mut self) {
        if self.victims.is_empty() {
            return;
        }
        let victim = self.victims.swap_remove(self.rng.usize(..self.victims.len()));
        let before = self.index.ledger().dying_bytes;
        let is_open = self.open.iter().any(|it| it.file.generation == victim.file.generation);
        let (charge, part) = (victim.charge(), victim.part);
        self.index.bury(victim);
        let freed = before - self.index.ledger().dying_bytes;
        let is_held = is_open && matches!(part, Part::Value | Part::ValueAndVariant);
        assert_eq!(freed, if is_held { 0 } else { charge }, "held until the last reader");
        self.reference.dying -= freed;
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let found = self.open.swap_remove(self.rng.usize(..self.open.len()));
        let before = self.index.ledger().dying_bytes;
        self.index.close_reader(&found);
        self.reference.dying -= before - self.index.ledger().dying_bytes;
    }

    fn pass(&mut self) {
        let now = self.reference.now + self.rng.u64(1..12);
        while self.index.set_now(now) {}
        self.reference.set_now(now);
    }

    fn purge(&mut self) {
        let scope = match self.rng.u8(..4) {
            0 => PurgeScope::All,
            1 => PurgeScope::Namespace(Namespace::SHARED),
            _ => PurgeScope::Namespace(Namespace::of_instance("main")),
        };
        let fence = self.index.raise_fence(scope).unwrap();
        let is_meant = |it: &FileName| scope.covers(it.key.namespace);
        let expected = self.reference.entries.iter().filter(|it| is_meant(&it.file)).count();
        let mut next = Some(0);
        let mut count = 0;
        while let Some(from) = next {
            let (victims, rest) = self.index.purge_from(scope, fence, from, 7);
            next = rest;
            for victim in victims {
                assert!(is_meant(&victim.file));
                count += 1;
                self.reference.take(&victim);
                self.victims.push(victim);
            }
        }
        assert_eq!(count, expected, "I16");
        let with_names = self.named.iter_mut().map(|it| &mut it.1);
        let all = self.writes.iter_mut().chain(with_names).map(|it| &mut it.purged);
        all.for_each(|it| it.push(scope));
        self.queued.iter_mut().for_each(|it| it.purged.push(scope));
        self.fences.push(scope);
        let writers = self.writes.len() + self.named.len() + self.queued.len();
        assert_eq!(self.index.writers_before(fence), writers);
    }

    fn promise(&mut self, key: &Key) -> Option<Found> {
        let found = self.index.look_up(key, Use::Promise);
        assert_eq!(found.is_some(), self.reference.promise(key));
        if found.is_some_and(|it| !it.is_suspect) && self.unread.is_empty() {
            self.reference.keep_a_fifth();
        }
        found
    }

    /// As a build does that needs all there is.
    fn promise_all(&mut self) {
        let keys: Vec<Key> = self.reference.entries.iter().map(|it| it.file.key).collect();
        for key in keys {
            assert!(self.promise(&key).is_some());
        }
    }

    fn use_one(&mut self) {
        let key = self.key();
        let found = match self.rng.u8(..4) {
            0 => {
                let found = self.index.open(&key, Use::Touch);
                self.open.extend(found);
                assert_eq!(found.is_some(), self.reference.touch(&key));
                return;
            }
            1 => {
                let found = self.index.look_up(&key, Use::Touch);
                assert_eq!(found.is_some(), self.reference.touch(&key));
                found
            }
            _ => self.promise(&key),
        };
        if let Some(found) = found.filter(|it| it.is_suspect && self.rng.bool()) {
            self.index.mark_verified(&found);
            self.reference.find(&key).unwrap().is_suspect = false;
        }
    }

    fn step(&mut self) {
        match self.rng.u16(..400) {
            0 => self.purge(),
            1..=3 => self.promise_all(),
            4..=70 => self.reserve(),
            71..=110 => self.name(),
            111..=160 => self.publish(),
            161..=220 => self.bury(),
            221..=230 => self.abandon(),
            231..=290 | 372..=380 => self.use_one(),
            291..=315 => self.close(),
            316..=325 => {
                let key = self.key();
                self.remove(&key);
            }
            326..=335 => self.publish_variant(),
            336..=338 => self.remove_variant(),
            339..=342 => {
                let key = self.key();
                if let Some(found) = self.index.peek(&key) {
                    assert!(self.index.pin(&found) && self.reference.pin(&found.file));
                    self.pins.push(found);
                }
            }
            343..=368 => {
                if !self.pins.is_empty() {
                    let found = self.pins.swap_remove(self.rng.usize(..self.pins.len()));
                    self.index.unpin(&found);
                    self.reference.unpin(&found.file);
                }
            }
            369..=371 => self.pass(),
            381..=382 => {
                let shards: Vec<Shard> = self.unread.keys().copied().collect();
                if let Some(shard) = self.rng.choice(&shards) {
                    self.load(*shard);
                }
            }
            _ => {
                let victims = self.index.evict_to_low_water(8);
                self.take_victims(victims);
            }
        }
        self.grant();
    }

    fn check(&self) {
        self.index.check();
        let reference = &self.reference;
        let books = self.index.ledger();
        let writes = self.writes.iter().chain(self.named.iter().map(|it| &it.1));
        assert_eq!(books.reserved_bytes, writes.map(|it| it.claim.bytes).sum::<u64>(), "I1");
        assert_eq!(books.dying_bytes, reference.dying, "I1");
        let mut files = self.index.files();
        let (order, mut pinned) = reference.in_order();
        let mut rest = files.split_off(order.len());
        assert_eq!(files, order, "I14");
        rest.sort_by_key(|it| it.generation);
        pinned.sort_by_key(|it| it.generation);
        assert_eq!(rest, pinned, "I14: the pinned");
        assert_eq!(self.index.leases(), (reference.leased_bytes(), reference.broken), "I21");
        let variants = reference.entries.iter().filter(|it| it.variant > 0).count() as u64;
        let suspects = reference.entries.iter().filter(|it| it.is_suspect).count() as u64;
        assert_eq!((self.index.variants(), self.index.suspects()), (variants, suspects));
        let writes = self.writes.len() + self.named.len() + self.queued.len();
        assert_eq!(self.index.pending().2, writes, "I22");
    }

    /// I22: every token type is back at zero at quiescence, and the limits hold.
    fn end(&mut self) {
        for shard in Shard::all() {
            self.load(shard);
        }
        while !(self.writes.is_empty() && self.named.is_empty() && self.queued.is_empty()) {
            self.abandon();
        }
        for found in std::mem::take(&mut self.pins) {
            self.index.unpin(&found);
            self.reference.unpin(&found.file);
        }
        loop {
            let victims = self.index.evict_to_low_water(1_000);
            if victims.is_empty() {
                break;
            }
            self.take_victims(victims);
        }
        while !self.open.is_empty() {
            self.close();
        }
        while !self.victims.is_empty() {
            self.bury();
        }
        self.check();
        let books = self.index.ledger();
        assert_eq!((books.reserved_bytes, books.dying_bytes, books.held_bytes), (0, 0, 0));
        assert_eq!((books.unread_bytes, self.index.pending()), (0, (0, 0, 0)));
        assert!(
            self.reference
                .entries
                .iter()
                .all(|it| it.state != State::Pinned { pins: 1, is_promised: true })
        );
        let most = self.reference.limits.max_entries.unwrap_or(u64::MAX);
        let may_break = self.reference.limits.lease_policy == LeasePolicy::BreakOldest;
        assert!(self.reference.entries.len() as u64 <= most || !may_break);
    }
}

#[test]
fn i1_i2_i4_i8_i9_i14_i16_i21_random_operations_match_the_whole_reference() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut seeds = fastrand::Rng::with_seed(seed);
    let (mut evictions, mut broken) = (0, 0);
    for _ in 0..EPISODES {
        let mut bench = Bench::new(seeds.fork());
        bench.check();
        for _ in 0..OPERATIONS {
            bench.step();
            bench.check();
        }
        bench.end();
        evictions += bench.reference.evictions;
        broken += bench.reference.broken;
    }
    assert!(evictions > 2_000 && broken > 100, "a dull run proves nothing: {evictions} {broken}");
}
