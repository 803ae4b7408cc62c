//! The naive reference of the whole index: a list of entries and what is known of each.
//!
//! Slow and obvious. It never looks into the index; the bench in `full_model_tests` compares.

use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::Namespace;
use crate::store::filesystem::snapshot::Record;
use crate::store::filesystem::tombstones::Reason;

const LEASE: u64 = 64;
pub(super) const BLOCK: u64 = 4096;
const CAP: u64 = 64 * BLOCK;
const KEYS: u8 = 48;
/// When the former process ended.
pub(super) const FORMERLY: u64 = 1_000_000;

pub(super) fn limits(rng: &mut fastrand::Rng) -> Limits {
    let policies = [LeasePolicy::BreakOldest, LeasePolicy::RefuseWrites];
    Limits {
        max_bytes: CAP,
        low_water_bytes: 4 * BLOCK,
        max_entries: rng.bool().then_some(18),
        max_age_seconds: rng.bool().then_some(150),
        lease_seconds: LEASE,
        lease_policy: policies[rng.usize(..2)],
    }
}

pub(super) fn key(rng: &mut fastrand::Rng) -> Key {
    let digest = Digest::of(DigestFunction::Sha256, &[rng.u8(..KEYS)]);
    match rng.u8(..6) {
        0 => Key::action_result(Namespace::of_instance("main"), digest),
        1 => Key::action_result(Namespace::of_instance("other"), digest),
        _ => Key::blob(digest),
    }
}

/// What a former process left: a third of the cap at most, some values in several generations.
pub(super) fn left(rng: &mut fastrand::Rng) -> Vec<Record> {
    let mut records = Vec::new();
    for number in 1..=rng.u64(..16) {
        let key = key(rng);
        let is_blob = key.kind == Kind::Blob;
        let len_bytes = if is_blob { key.digest.size_bytes } else { 1 };
        let stamp = number * 50 + rng.u64(..50);
        records.push(Record {
            file: FileName::own(key, len_bytes, Generation(number)),
            charge_bytes: BLOCK,
            variant_bytes: if is_blob && rng.bool() { BLOCK } else { 0 },
            stamp,
            is_leased: rng.bool(),
            is_suspect: rng.u8(..4) == 0,
        });
    }
    records
}

/// Who may take an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Leased,
    Pinned { pins: u32, is_promised: bool },
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) file: FileName,
    pub(super) charge: u64,
    pub(super) variant: u64,
    pub(super) is_suspect: bool,
    pub(super) state: State,
    /// Rises with every use.
    used: u64,
    /// When the clock was looked at next after the last use.
    used_before: Option<u64>,
}

impl Known {
    pub(super) fn total(&self) -> u64 {
        self.charge + self.variant
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) entries: Vec<Known>,
    pub(super) limits: Limits,
    pub(super) now: u64,
    pub(super) dying: u64,
    pub(super) broken: u64,
    pub(super) evictions: u64,
    uses: u64,
}

impl Reference {
    pub(super) fn new(limits: Limits, now: u64) -> Self {
        let entries = Vec::new();
        // Above the stamps of former processes.
        Self { entries, limits, now, dying: 0, broken: 0, evictions: 0, uses: 1 << 40 }
    }

    pub(super) fn find(&mut self, key: &Key) -> Option<&mut Known> {
        self.entries.iter_mut().find(|it| it.file.key == *key)
    }

    /// Of this very generation.
    fn find_file(&mut self, file: &FileName) -> Option<&mut Known> {
        self.entries.iter_mut().find(|it| it.file == *file)
    }

    fn tick(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    pub(super) fn touch(&mut self, key: &Key) -> bool {
        let used = self.tick();
        let Some(entry) = self.find(key) else { return false };
        entry.used = used;
        entry.used_before = None;
        true
    }

    pub(super) fn promise(&mut self, key: &Key) -> bool {
        if !self.touch(key) {
            return false;
        }
        let entry = self.find(key).unwrap();
        if entry.is_suspect {
            return true;
        }
        match &mut entry.state {
            State::Pinned { is_promised, .. } => *is_promised = true,
            state => *state = State::Leased,
        }
        true
    }

    /// What a promise may do to the oldest ones.
    pub(super) fn keep_a_fifth(&mut self) {
        let most = self.limits.max_bytes / 10 * 8;
        while self.limits.lease_policy == LeasePolicy::BreakOldest && self.leased_bytes() > most {
            let oldest = self.oldest(State::Leased).unwrap();
            self.entries[oldest].state = State::Free;
            self.broken += 1;
        }
    }

    pub(super) fn leased_bytes(&self) -> u64 {
        self.entries.iter().filter(|it| it.state == State::Leased).map(Known::total).sum()
    }

    fn oldest(&self, state: State) -> Option<usize> {
        let all = 0..self.entries.len();
        all.filter(|at| self.entries[*at].state == state).min_by_key(|at| self.entries[*at].used)
    }

    pub(super) fn pin(&mut self, file: &FileName) -> bool {
        if self.find_file(file).is_none() {
            return false;
        }
        self.touch(&file.key);
        let entry = self.find_file(file).unwrap();
        entry.state = match entry.state {
            State::Pinned { pins, is_promised } => State::Pinned { pins: pins + 1, is_promised },
            state => State::Pinned { pins: 1, is_promised: state == State::Leased },
        };
        true
    }

    pub(super) fn unpin(&mut self, file: &FileName) {
        let used = self.tick();
        let Some(entry) = self.find_file(file) else { return };
        let State::Pinned { pins, is_promised } = entry.state else { panic!("it was pinned") };
        if pins > 1 {
            entry.state = State::Pinned { pins: pins - 1, is_promised };
            return;
        }
        entry.state = if is_promised { State::Leased } else { State::Free };
        entry.used = used;
        entry.used_before = None;
    }

    pub(super) fn add(&mut self, file: FileName, charge: u64) {
        let used = self.tick();
        let (state, variant) = (State::Free, 0);
        let known =
            Known { file, charge, variant, is_suspect: false, state, used, used_before: None };
        self.entries.push(known);
    }

    /// I21: what takes the place of something that is promised is promised too.
    pub(super) fn replace(
        &mut self,
        victim: &Victim,
        file: FileName,
        charge: u64,
        may_break: bool,
    ) {
        let was_promised = match self.take(victim).state {
            State::Pinned { is_promised, .. } => is_promised,
            state => state == State::Leased,
        };
        self.add(file, charge);
        if was_promised {
            self.promise(&file.key);
        }
        if was_promised && may_break {
            self.keep_a_fifth();
        }
    }

    pub(super) fn adopt(&mut self, record: &Record, used_before: Option<u64>) {
        let is_in_lease = used_before.is_none_or(|at| self.now - at < LEASE);
        let is_leased = record.is_leased && is_in_lease;
        self.entries.push(Known {
            file: record.file,
            charge: record.charge_bytes,
            variant: record.variant_bytes,
            is_suspect: record.is_suspect,
            state: if is_leased { State::Leased } else { State::Free },
            used: record.stamp,
            used_before,
        });
    }

    /// Takes an entry out for a victim, which must be that very one.
    pub(super) fn take(&mut self, victim: &Victim) -> Known {
        let at = self.entries.iter().position(|it| it.file == victim.file).unwrap();
        let entry = self.entries.swap_remove(at);
        assert_eq!(victim.charge(), entry.total(), "I4: the stored charge");
        let part = if entry.variant > 0 { Part::ValueAndVariant } else { Part::Value };
        assert_eq!(victim.part, part, "I8: a variant goes with its blob");
        self.dying += victim.charge();
        entry
    }

    /// I14: the oldest that is free; I21: a lease is broken only where none is free, and only where
    /// that is allowed.
    pub(super) fn evicted(&mut self, victims: &[Victim]) {
        for victim in victims {
            self.evictions += 1;
            let oldest = self.oldest(State::Free).unwrap_or_else(|| {
                assert_eq!(self.limits.lease_policy, LeasePolicy::BreakOldest, "I21");
                assert_ne!(victim.reason, Some(Reason::Expired), "I21");
                self.broken += 1;
                self.oldest(State::Leased).expect("I14: what is pinned stays")
            });
            assert_eq!(self.entries[oldest].file, victim.file, "I14");
            let most = self.limits.max_entries.unwrap_or(u64::MAX);
            if victim.reason == Some(Reason::Count) {
                assert!(self.entries.len() as u64 > most, "not too many");
            }
            let entry = self.take(victim);
            let age = entry.used_before.map_or(0, |at| self.now - at);
            if victim.reason == Some(Reason::Expired) {
                assert!(age > self.limits.max_age_seconds.unwrap(), "not too old");
            }
        }
    }

    pub(super) fn set_now(&mut self, now: u64) {
        self.now = now;
        for entry in &mut self.entries {
            let used_before = *entry.used_before.get_or_insert(now);
            if entry.state == State::Leased && now - used_before >= LEASE {
                entry.state = State::Free;
            }
        }
    }

    /// Files in the order in which they would go: the free, then the leased; and the pinned.
    pub(super) fn in_order(&self) -> (Vec<FileName>, Vec<FileName>) {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|it| (it.state != State::Free, it.used));
        let (pinned, rest): (Vec<_>, Vec<_>) =
            entries.iter().partition(|it| matches!(it.state, State::Pinned { .. }));
        let files = |list: Vec<Known>| list.iter().map(|it| it.file).collect();
        (files(rest), files(pinned))
    }
}
