//! What is remembered, for how long, and what must not be.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ExistenceCacheStats, is_remembered};
use crate::store::Key;

/// Answers from memory that await their confirmation; more are not given.
const MAX_WANTED: usize = 64 << 10;
/// Keys under one hold of the lock.
const BATCH: usize = 512;
/// Keys that are noted as taken away during one question; with more, none of its answers counts.
const MAX_TAKEN: usize = 1024;

/// Positive answers of the backend, bounded in number and time.
#[derive(Debug)]
pub(super) struct Memory {
    max_entries: usize,
    lifetime: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The place in `order` of each key.
    known: HashMap<Key, u64>,
    /// Who is forgotten first is in front. Places go up by one; a key that has another place now
    /// is skipped.
    order: VecDeque<(Key, Instant)>,
    /// The place of the front of `order`.
    front: u64,
    /// Given from memory and not confirmed yet.
    wanted: HashSet<Key>,
    questions: HashMap<u64, Taken>,
    next_question: u64,
    stats: ExistenceCacheStats,
}

/// What was taken away since a question was asked.
#[derive(Debug)]
enum Taken {
    Keys(HashSet<Key>),
    Everything,
}

/// A question on its way to the backend.
#[derive(Debug)]
pub(super) struct Question<'m> {
    memory: &'m Memory,
    id: u64,
}

impl Memory {
    pub(super) fn new(max_entries: usize, lifetime: Duration) -> Self {
        Self { max_entries, lifetime, state: Mutex::default() }
    }

    /// The places of the keys that the backend must be asked for. The others are there, and wanted
    /// to be confirmed.
    pub(super) fn recall(&self, keys: &[Key]) -> Vec<usize> {
        let mut unknown = Vec::new();
        let mut at = 0;
        for batch in keys.chunks(BATCH) {
            let mut state = self.state.lock();
            state.forget_expired(Instant::now());
            for key in batch {
                if state.recall(key) {
                    state.stats.hits += 1;
                } else {
                    state.stats.misses += 1;
                    unknown.push(at);
                }
                at += 1;
            }
        }
        unknown
    }

    /// Before a question goes to the backend.
    pub(super) fn ask(&self) -> Question<'_> {
        let mut state = self.state.lock();
        let id = state.next_question;
        state.next_question += 1;
        state.questions.insert(id, Taken::Keys(HashSet::new()));
        Question { memory: self, id }
    }

    /// A value is not there any more.
    pub(super) fn forget(&self, key: &Key) {
        let mut state = self.state.lock();
        state.known.remove(key);
        for taken in state.questions.values_mut() {
            match taken {
                Taken::Keys(keys) if keys.len() < MAX_TAKEN => drop(keys.insert(*key)),
                _ => *taken = Taken::Everything,
            }
        }
    }

    /// Nobody knows what is there.
    pub(super) fn forget_all(&self) {
        let mut state = self.state.lock();
        state.known.clear();
        state.front += state.order.len() as u64;
        state.order.clear();
        state.wanted.clear();
        state.questions.values_mut().for_each(|taken| *taken = Taken::Everything);
    }

    /// Some of the keys to be confirmed.
    pub(super) fn take_wanted(&self, most: usize) -> Vec<Key> {
        let mut state = self.state.lock();
        let taken: Vec<Key> = state.wanted.iter().take(most).copied().collect();
        for key in &taken {
            state.wanted.remove(key);
        }
        state.stats.refreshes += taken.len() as u64;
        taken
    }

    /// Counts what was remembered and was not there.
    pub(super) fn note_disproved(&self, keys: u64) {
        self.state.lock().stats.disproved += keys;
    }

    pub(super) fn stats(&self) -> ExistenceCacheStats {
        let state = self.state.lock();
        ExistenceCacheStats { entries: state.known.len() as u64, ..state.stats }
    }
}

impl State {
    fn recall(&mut self, key: &Key) -> bool {
        if !self.known.contains_key(key) {
            return false;
        }
        if self.wanted.len() >= MAX_WANTED && !self.wanted.contains(key) {
            return false;
        }
        self.wanted.insert(*key);
        true
    }

    fn remember(&mut self, key: Key, until: Instant, max_entries: usize) {
        let place = self.front + self.order.len() as u64;
        match self.known.entry(key) {
            MapEntry::Occupied(mut known) => drop(known.insert(place)),
            MapEntry::Vacant(free) => drop(free.insert(place)),
        }
        self.order.push_back((key, until));
        while self.order.len() > max_entries {
            self.forget_front();
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.forget_front();
        }
    }

    fn forget_front(&mut self) {
        let Some((key, _)) = self.order.pop_front() else { return };
        if self.known.get(&key) == Some(&self.front) {
            self.known.remove(&key);
        }
        self.front += 1;
    }
}

impl Question<'_> {
    /// Remembers what is there and was not taken away since the question; what is missing is
    /// forgotten. Pairs of a key and whether it is missing.
    pub(super) fn answered(self, answers: impl Iterator<Item = (Key, bool)>) {
        let until = Instant::now() + self.memory.lifetime;
        let mut missing = Vec::new();
        let mut state = self.memory.state.lock();
        for (key, is_missing) in answers.filter(|(key, _)| is_remembered(key)) {
            let is_taken = match state.questions.get(&self.id) {
                Some(Taken::Keys(keys)) => keys.contains(&key),
                Some(Taken::Everything) | None => true,
            };
            if is_missing {
                missing.push(key);
            } else if !is_taken {
                state.remember(key, until, self.memory.max_entries);
            }
        }
        drop(state);
        // Also for who has asked meanwhile.
        for key in missing {
            self.memory.forget(&key);
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.memory.state.lock().questions.remove(&self.id);
    }
}
