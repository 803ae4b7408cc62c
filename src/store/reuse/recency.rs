//! Keys in order of their last use, and how many bytes were used since.
//!
//! Uses are numbered as they come; only the last of each key counts. A binary indexed tree
//! (Fenwick) over their bytes gives the sum behind any of them in as many steps as its length has
//! digits. When half of the numbers are of uses that no longer count, all are numbered anew, which
//! costs each use a constant on average.

use std::collections::BTreeMap;

/// The last use of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) hash: u64,
    pub(super) bytes: u64,
}

/// What [`Recency::last_use`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastUse {
    /// What the key takes itself.
    pub(super) bytes: u64,
    /// What those keys take that were used later.
    pub(super) younger_bytes: u64,
}

/// A bounded number of keys, known by their hashes.
///
/// Memory for 8192 of them: 16,384 uses of 24 bytes and sums of 8, and a tree of 16 bytes a key,
/// half full at worst: below 900 KiB.
#[derive(Debug)]
pub(super) struct Recency {
    max_uses: usize,
    /// The number of the last use of each key.
    numbers: BTreeMap<u64, usize>,
    /// `None` where the key was used again or removed.
    uses: Vec<Option<Use>>,
    /// The indexed tree: each the sum of as many uses, itself the last, as the lowest digit of its
    /// number, counted from 1, is worth.
    sums: Vec<u64>,
    total_bytes: u64,
    /// No use before this one counts.
    oldest: usize,
}

fn lowest_digit(number: usize) -> usize {
    number & number.wrapping_neg()
}

impl Recency {
    /// For at most `max_keys` and one more.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            max_uses: max_keys * 2,
            numbers: BTreeMap::new(),
            uses: Vec::new(),
            sums: Vec::new(),
            total_bytes: 0,
            oldest: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// What all keys take.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The last use of a key.
    pub(super) fn last_use(&self, hash: u64) -> Option<LastUse> {
        let number = *self.numbers.get(&hash)?;
        let bytes = self.uses.get(number).copied().flatten()?.bytes;
        let younger_bytes = self.total_bytes - self.sum_to(number + 1);
        Some(LastUse { bytes, younger_bytes })
    }

    /// The key whose last use is the longest ago.
    pub(super) fn oldest(&mut self) -> Option<Use> {
        loop {
            match self.uses.get(self.oldest)? {
                Some(oldest) => return Some(*oldest),
                None => self.oldest += 1,
            }
        }
    }

    /// Makes a key the youngest, of so many bytes from now on.
    pub(super) fn touch(&mut self, hash: u64, bytes: u64) {
        self.remove(hash);
        if self.uses.len() >= self.max_uses {
            self.number_anew();
        }
        self.push(Use { hash, bytes });
    }

    /// Removes a key, if it is there.
    pub(super) fn remove(&mut self, hash: u64) {
        let Some(number) = self.numbers.remove(&hash) else { return };
        let Some(last) = self.uses.get_mut(number).and_then(Option::take) else { return };
        self.total_bytes -= last.bytes;
        let mut at = number + 1;
        while let Some(sum) = self.sums.get_mut(at - 1) {
            *sum -= last.bytes;
            at += lowest_digit(at);
        }
    }

    /// Removes the key with the largest hash and returns that.
    pub(super) fn remove_largest(&mut self) -> Option<u64> {
        let (&hash, _) = self.numbers.last_key_value()?;
        self.remove(hash);
        Some(hash)
    }

    fn push(&mut self, latest: Use) {
        self.numbers.insert(latest.hash, self.uses.len());
        self.uses.push(Some(latest));
        self.total_bytes += latest.bytes;
        self.push_sum(latest.bytes);
    }

    fn push_sum(&mut self, bytes: u64) {
        let at = self.sums.len() + 1;
        let before = self.sum_to(at - 1) - self.sum_to(at - lowest_digit(at));
        self.sums.push(before + bytes);
    }

    /// The sum of the first `count` uses.
    fn sum_to(&self, count: usize) -> u64 {
        let (mut sum, mut at) = (0, count);
        while at > 0 {
            sum += self.sums.get(at - 1).copied().unwrap_or_default();
            at -= lowest_digit(at);
        }
        sum
    }

    fn number_anew(&mut self) {
        self.uses.retain(Option::is_some);
        self.sums.clear();
        self.oldest = 0;
        for number in 0..self.uses.len() {
            let Some(last) = self.uses.get(number).copied().flatten() else { continue };
            self.numbers.insert(last.hash, number);
            self.push_sum(last.bytes);
        }
    }

    /// For how many uses and sums there is memory.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> (usize, usize) {
        (self.uses.capacity(), self.sums.capacity())
    }
}
