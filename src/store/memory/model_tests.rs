//! The index against a naive reference: a list of entries and what is known of each.
//!
//! Method: random calls to both; after each, the books are sums (I1, I2, I4), the same values are
//! there in the same order (I14), the same writes wait, and every byte is accounted for.

mod reference_tests;

use std::cell::Cell;
use std::rc::Rc;

use super::index::{Claim, Index, Limits, Payload, Publish, Use, Victim};
use super::room::{Freed, Reserve, Settled};
use crate::digest::{Digest, DigestFunction};
use crate::store::waiters::Ticket;
use crate::store::{Key, Kind, Namespace, PurgeScope, Selection};

const CAP: u64 = 1_000;
const LEASE: u64 = 500;
const CALLS: usize = 40_000;

/// Bytes of which the test says who holds them.
#[derive(Clone, Debug)]
struct Share(Rc<Cell<u32>>);

impl Payload for Share {
    fn is_held(&self) -> bool {
        self.0.get() > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Free,
    Leased,
    Pinned { pins: u32, is_promised: bool },
}

/// One entry as the reference knows it.
#[derive(Clone, Debug)]
struct Known {
    key: Key,
    charge: u64,
    share: Share,
    state: State,
    used: u64,
    used_ms: u64,
    /// What the index calls this generation, once that is known.
    born: Option<u64>,
}

/// A write that reserves, or waits to.
#[derive(Debug)]
struct Write {
    key: Key,
    bytes: u64,
    ticket: Option<Ticket>,
    claim: Option<Claim>,
    is_fenced: bool,
    number: u64,
}

/// A reader of something that may have left.
struct Reader {
    share: Share,
    charge: u64,
}

struct Bench {
    index: Index<Share, u64>,
    limits: Limits,
    known: Vec<Known>,
    writes: Vec<Write>,
    /// Numbers of the writes that wait, in their order.
    queue: Vec<u64>,
    readers: Vec<Reader>,
    /// Left while somebody read them.
    held_charges: Vec<(Share, u64)>,
    pins: Vec<(Key, u64)>,
    now_ms: u64,
    uses: u64,
    broken: u64,
    is_refilling: bool,
    random: fastrand::Rng,
}

impl Bench {
    fn new(mut random: fastrand::Rng) -> Self {
        let limits = Limits {
            max_bytes: CAP,
            low_water_bytes: if random.bool() { 150 } else { 0 },
            max_entries: random.bool().then_some(12),
            max_age_ms: random.bool().then_some(3_000),
            lease_ms: if random.u8(..4) == 0 { 0 } else { LEASE },
        };
        Self {
            index: Index::new(limits),
            limits,
            known: Vec::new(),
            writes: Vec::new(),
            queue: Vec::new(),
            readers: Vec::new(),
            held_charges: Vec::new(),
            pins: Vec::new(),
            now_ms: 0,
            uses: 0,
            broken: 0,
            is_refilling: false,
            random,
        }
    }

    fn key(&mut self) -> Key {
        let digest = Digest::of(DigestFunction::Sha256, &[self.random.u8(..30)]);
        match self.random.u8(..4) {
            0 => Key::action_result(Namespace::of_instance("main"), digest),
            _ => Key::blob(digest),
        }
    }

    /// Time goes on, in small steps and large ones.
    fn pass(&mut self) {
        self.now_ms += if self.random.u8(..20) == 0 { 800 } else { self.random.u64(..30) };
        self.index.order.set_now(self.now_ms);
        for entry in &mut self.known {
            if entry.state == State::Leased && self.now_ms - entry.used_ms >= LEASE {
                entry.state = State::Free;
            }
        }
    }

    /// The same for the index, as the store does it.
    fn settle(&mut self) {
        loop {
            let Settled { victims, grants } = self.index.settle();
            self.check_books();
            if victims.is_empty() && grants.is_empty() {
                break;
            }
            for grant in grants {
                let write = self.writes.iter_mut().find(|it| it.number == grant.waker).unwrap();
                assert_eq!(write.claim.replace(grant.claim), None);
                write.ticket = None;
            }
            let mut freed = Freed::default();
            for Victim { payload, charge, is_falling } in victims {
                assert_eq!(is_falling, !payload.is_held());
                if is_falling {
                    freed.bytes += charge;
                    freed.falling_bytes += charge;
                }
            }
            self.index.free(freed);
        }
        self.settle_known();
        self.check();
    }

    fn check_books(&self) {
        let books = self.index.books;
        assert!(books.total() <= CAP, "I2: {books:?}");
        assert_eq!(books.errors, 0, "I4");
    }

    fn check(&self) {
        self.index.check();
        let books = self.index.books;
        assert_eq!(books.resident_bytes, self.resident(), "I1");
        assert_eq!(books.reserved_bytes, self.reserved(), "I1");
        assert_eq!(books.dying_bytes, self.held(), "I1");
        assert_eq!(books.falling_bytes, 0);
        let waiting: Vec<_> =
            self.writes.iter().filter(|it| it.claim.is_none()).map(|it| it.number).collect();
        let mut queue = self.queue.clone();
        queue.sort_unstable();
        assert_eq!(waiting, queue);
        assert_eq!(self.index.order.leases_broken(), self.broken);
        // I14: the free ones and the leased ones in order of use; the pinned in none.
        let mut known: Vec<&Known> = self.known.iter().collect();
        known.sort_by_key(|it| match it.state {
            State::Free => (0, it.used),
            State::Leased => (1, it.used),
            State::Pinned { .. } => (2, 0),
        });
        let (expected, pinned): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|it| !matches!(it.state, State::Pinned { .. }));
        let actual: Vec<Key> = self.index.order.in_order().iter().map(|it| it.key).collect();
        let expected: Vec<Key> = expected.iter().map(|it| it.key).collect();
        assert_eq!(actual[..expected.len()], expected);
        let mut rest = actual[expected.len()..].to_vec();
        let mut pinned: Vec<Key> = pinned.iter().map(|it| it.key).collect();
        rest.sort();
        pinned.sort();
        assert_eq!(rest, pinned);
    }

    fn begin(&mut self) {
        let (key, bytes) = (self.key(), self.random.u64(1..300));
        let bytes = if self.random.u8(..30) == 0 { CAP } else { bytes };
        let number = self.tick();
        let mut write = Write { key, bytes, ticket: None, claim: None, is_fenced: false, number };
        match self.index.reserve(key, bytes, number) {
            Reserve::Granted(claim) => write.claim = Some(claim),
            Reserve::Queued(ticket) => write.ticket = Some(ticket),
        }
        let is_expected = self.queue.is_empty() && bytes <= self.free();
        assert_eq!(write.claim.is_some(), is_expected);
        if write.claim.is_none() {
            self.queue.push(number);
        }
        self.writes.push(write);
    }

    fn take_granted(&mut self) -> Option<(Write, Claim)> {
        let granted: Vec<_> =
            (0..self.writes.len()).filter(|at| self.writes[*at].claim.is_some()).collect();
        let at = self.random.choice(granted)?;
        let mut write = self.writes.remove(at);
        let claim = write.claim.take()?;
        Some((write, claim))
    }

    fn publish(&mut self) {
        let Some((write, claim)) = self.take_granted() else { return };
        let charge = self.random.u64(1..=write.bytes);
        let share = Share(Rc::default());
        let there = self.at(&write.key);
        let published = self.index.publish(write.key, claim, charge, share.clone());
        match published {
            Publish::Purged(_, claim) => {
                assert!(write.is_fenced, "I16");
                self.index.unreserve(claim);
            }
            Publish::Overtaken(_, claim) => {
                assert!(!write.is_fenced && write.key.kind == Kind::Blob);
                self.index.unreserve(claim);
                self.touch(there.unwrap());
            }
            Publish::Visible => {
                assert!(!write.is_fenced, "I16");
                assert!(there.is_none() || write.key.kind == Kind::ActionResult);
                let is_leased = there.is_some_and(|at| match self.known[at].state {
                    State::Pinned { is_promised, .. } => is_promised,
                    state => state == State::Leased,
                });
                if let Some(at) = there {
                    self.leave(at);
                }
                let (used, used_ms) = (self.tick(), self.now_ms);
                let (key, state, born) = (write.key, State::Free, None);
                self.known.push(Known { key, charge, share, state, used, used_ms, born });
                if is_leased {
                    self.promise(self.known.len() - 1);
                }
            }
        }
    }

    fn give_up(&mut self) {
        let Some(at) = self.random.choice(0..self.writes.len()) else { return };
        let write = self.writes.remove(at);
        match (write.claim, write.ticket) {
            (Some(claim), _) => self.index.unreserve(claim),
            (None, Some(ticket)) => {
                assert_eq!(self.index.cancel(ticket), Some(write.number));
                assert_eq!(self.index.cancel(ticket), None);
                self.queue.retain(|it| *it != write.number);
            }
            (None, None) => panic!("it has neither"),
        }
    }

    fn look_up(&mut self, purpose: Use) {
        let key = self.key();
        let found = self.index.look_up(&key, purpose).map(|it| it.payload.clone());
        let at = self.is_there(&key);
        assert_eq!(found.is_some(), at.is_some());
        let Some(at) = at else { return };
        if purpose == Use::Promise {
            return self.promise(at);
        }
        self.touch(at);
        if self.random.bool() && self.readers.len() < 4 {
            let share = self.known[at].share.clone();
            share.0.set(share.0.get() + 1);
            self.readers.push(Reader { share, charge: self.known[at].charge });
        }
    }

    fn close_reader(&mut self) {
        let Some(at) = self.random.choice(0..self.readers.len()) else { return };
        let Reader { share, charge } = self.readers.swap_remove(at);
        share.0.set(share.0.get() - 1);
        let left = self.held_charges.iter().position(|it| Rc::ptr_eq(&it.0.0, &share.0));
        if let Some(left) = left
            && !share.is_held()
        {
            self.held_charges.swap_remove(left);
            self.index.free(Freed { bytes: charge, falling_bytes: 0 });
        }
    }

    fn pin(&mut self) {
        let key = self.key();
        if self.pins.len() > 2 {
            let (key, born) = self.pins.swap_remove(self.random.usize(..3));
            self.index.unpin(&key, born);
            return self.unpin_known(&key, born);
        }
        let pinned = self.index.pin(&key);
        let at = self.is_there(&key);
        assert_eq!(pinned.is_some(), at.is_some());
        let (Some(born), Some(at)) = (pinned, at) else { return };
        self.touch(at);
        self.touch(at);
        let entry = &mut self.known[at];
        entry.born = Some(born);
        entry.state = match entry.state {
            State::Pinned { pins, is_promised } => State::Pinned { pins: pins + 1, is_promised },
            state => State::Pinned { pins: 1, is_promised: state == State::Leased },
        };
        self.pins.push((key, born));
    }

    fn unpin_known(&mut self, key: &Key, born: u64) {
        let used = self.tick();
        let Some(at) = self.at(key).filter(|at| self.known[*at].born == Some(born)) else { return };
        let now_ms = self.now_ms;
        let entry = &mut self.known[at];
        let State::Pinned { pins, is_promised } = entry.state else { return };
        if pins > 1 {
            entry.state = State::Pinned { pins: pins - 1, is_promised };
            return;
        }
        (entry.used, entry.used_ms) = (used, now_ms);
        entry.state = if is_promised { State::Leased } else { State::Free };
        self.keep_a_fifth();
    }

    fn remove(&mut self) {
        let key = self.key();
        let was_there = self.at(&key).is_some_and(|at| !self.is_over_age(at));
        assert_eq!(self.index.remove(&key), was_there);
        if let Some(at) = self.at(&key) {
            self.leave(at);
        }
    }

    fn purge(&mut self) {
        let key = self.key();
        let selection = match self.random.u8(..4) {
            0 => Selection::Scope(PurgeScope::All),
            1 => Selection::Scope(PurgeScope::Namespace(key.namespace)),
            _ => Selection::Hash(key.digest.hash),
        };
        let moment = self.index.raise_fence(selection).unwrap();
        for write in &mut self.writes {
            write.is_fenced |= selection.covers(&write.key, 0);
        }
        let mut next = Some(u32::MAX);
        while let Some(from) = next {
            next = self.index.purge_below(&selection, moment, from, 3);
        }
        while let Some(at) = self.known.iter().position(|it| selection.covers(&it.key, 0)) {
            self.leave(at);
        }
    }

    fn act(&mut self) {
        self.pass();
        match self.random.u8(..100) {
            0..22 => self.begin(),
            22..45 => self.publish(),
            45..52 => self.give_up(),
            52..66 => self.look_up(Use::Touch),
            66..80 => self.look_up(Use::Promise),
            80..88 => self.close_reader(),
            88..94 => self.pin(),
            94..98 => self.remove(),
            98 => self.purge(),
            _ => {}
        }
        self.settle();
    }
}

#[test]
fn i1_i2_i14_i21_the_index_does_what_a_list_would() {
    let seed = std::env::var("CASTELLAN_SEED").map_or(1, |it| it.parse().unwrap());
    for world in 0..16 {
        println!("CASTELLAN_SEED={seed}, world {world}");
        let mut bench = Bench::new(fastrand::Rng::with_seed(seed * 1_000 + world));
        for _ in 0..CALLS / 16 {
            bench.act();
        }
        // In the end everything goes.
        while !bench.writes.is_empty() || !bench.readers.is_empty() {
            bench.give_up();
            bench.close_reader();
            bench.settle();
        }
        assert_eq!(bench.index.books.total(), bench.resident());
        assert_eq!(bench.index.writers.len(), 0);
    }
}
