//! The reference of the index: slow and obvious. It never looks into the index.

use super::{Bench, CAP, State};
use crate::store::Key;
use crate::store::memory::index::Payload as _;

impl Bench {
    pub(super) fn tick(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    pub(super) fn at(&self, key: &Key) -> Option<usize> {
        self.known.iter().position(|it| it.key == *key)
    }

    pub(super) fn resident(&self) -> u64 {
        self.known.iter().map(|it| it.charge).sum()
    }

    pub(super) fn reserved(&self) -> u64 {
        self.writes.iter().filter(|it| !self.queue.contains(&it.number)).map(|it| it.bytes).sum()
    }

    pub(super) fn held(&self) -> u64 {
        self.held_charges.iter().map(|it| it.1).sum()
    }

    pub(super) fn free(&self) -> u64 {
        CAP - self.resident() - self.reserved() - self.held()
    }

    pub(super) fn sum(&self, is_it: impl Fn(State) -> bool) -> u64 {
        self.known.iter().filter(|it| is_it(it.state)).map(|it| it.charge).sum()
    }

    pub(super) fn leased(&self) -> u64 {
        self.sum(|it| it == State::Leased)
    }

    pub(super) fn pinned(&self) -> u64 {
        self.sum(|it| matches!(it, State::Pinned { .. }))
    }

    pub(super) fn oldest(&self, state: State) -> Option<usize> {
        let all = 0..self.known.len();
        all.filter(|at| self.known[*at].state == state).min_by_key(|at| self.known[*at].used)
    }

    pub(super) fn touch(&mut self, at: usize) {
        let used = self.tick();
        let entry = &mut self.known[at];
        (entry.used, entry.used_ms) = (used, self.now_ms);
    }

    pub(super) fn promise(&mut self, at: usize) {
        self.touch(at);
        if self.limits.lease_ms == 0 {
            return;
        }
        match &mut self.known[at].state {
            State::Pinned { is_promised, .. } => *is_promised = true,
            state => *state = State::Leased,
        }
        self.keep_a_fifth();
    }

    pub(super) fn keep_a_fifth(&mut self) {
        while self.leased() > CAP / 10 * 8 {
            self.break_oldest();
        }
    }

    pub(super) fn break_oldest(&mut self) -> bool {
        let Some(oldest) = self.oldest(State::Leased) else { return false };
        self.known[oldest].state = State::Free;
        self.broken += 1;
        true
    }

    pub(super) fn leave(&mut self, at: usize) {
        let known = self.known.remove(at);
        if known.share.is_held() {
            self.held_charges.push((known.share, known.charge));
        }
    }

    pub(super) fn is_over_age(&self, at: usize) -> bool {
        let entry = &self.known[at];
        let most = self.limits.max_age_ms.unwrap_or(u64::MAX);
        entry.state == State::Free && self.now_ms - entry.used_ms > most
    }

    /// Whether it is there for somebody who asks.
    pub(super) fn is_there(&mut self, key: &Key) -> Option<usize> {
        let at = self.at(key)?;
        if self.is_over_age(at) {
            self.leave(at);
            return None;
        }
        Some(at)
    }

    /// What the reference expects to follow from a call: who is served, who leaves.
    pub(super) fn settle_known(&mut self) {
        loop {
            let waiting = self.queue.len();
            while self.head_bytes().is_some_and(|bytes| bytes <= self.free()) {
                self.queue.remove(0);
            }
            let mut is_quiet = waiting == self.queue.len();
            while self.evict_one() {
                is_quiet = false;
            }
            if is_quiet {
                return;
            }
        }
    }

    pub(super) fn head_bytes(&self) -> Option<u64> {
        let number = self.queue.first()?;
        self.writes.iter().find(|it| it.number == *number).map(|it| it.bytes)
    }

    /// The next one to leave; false when all may stay.
    pub(super) fn evict_one(&mut self) -> bool {
        let head_bytes = self.head_bytes().unwrap_or(0);
        let could_fit = head_bytes + self.reserved() + self.held() + self.pinned() <= CAP;
        if head_bytes > self.free() && could_fit {
            self.is_refilling = true;
            return self.evict_oldest(true);
        }
        if self.is_refilling {
            let kept = self.leased() + self.pinned();
            let may = kept == 0 || self.resident() - kept > CAP / 5;
            let wants = self.free() < head_bytes + self.limits.low_water_bytes;
            if may && wants && self.evict_oldest(false) {
                return true;
            }
            self.is_refilling = false;
        }
        if self.limits.max_entries.is_some_and(|most| self.known.len() as u64 > most) {
            return self.evict_oldest(true);
        }
        let is_over_age = self.oldest(State::Free).is_some_and(|at| self.is_over_age(at));
        is_over_age && self.evict_oldest(false)
    }

    pub(super) fn evict_oldest(&mut self, may_break: bool) -> bool {
        if self.oldest(State::Free).is_none() && may_break {
            self.break_oldest();
        }
        let oldest = self.oldest(State::Free);
        oldest.map(|at| self.leave(at)).is_some()
    }
}
