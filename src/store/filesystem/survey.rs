//! What fills a store, for its operator.

use std::sync::Arc;

use super::index::SurveyedEntry;
use super::shared::Parts;
use crate::store::{Key, Kind};

/// Slots looked at under one hold of the index lock.
const BATCH: usize = 1024;
/// How many of the largest values are named.
const LARGEST: usize = 10;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Where the classes of [`Survey::by_age`] end, in seconds; the last class has no end.
pub const AGE_LIMITS: [u64; 5] = [HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY];

/// Some entries and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Number of entries.
    pub entries: u64,
    /// What they take, in bytes.
    pub charged_bytes: u64,
}

impl Share {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.charged_bytes += bytes;
    }
}

/// What the entries of a store are and take. Seen one after the other while the store works, so
/// the sums are those of no single moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Blobs without their variants.
    pub blobs: Share,
    /// Executable variants.
    pub variants: Share,
    /// Action results.
    pub action_results: Share,
    /// All of them by the time since the last use; see [`AGE_LIMITS`].
    pub by_age: [Share; AGE_LIMITS.len() + 1],
    /// The largest entries, variants included, the largest first.
    pub largest: Vec<(Key, u64)>,
}

/// Looks at every entry. Lets others have the index lock in between; a million entries take some
/// tens of milliseconds. Cancel safe.
pub(super) async fn survey(parts: &Arc<Parts>) -> Survey {
    let mut survey = Survey::default();
    let mut next = Some(0);
    while let Some(from) = next {
        let (batch, rest) = parts.index.lock(|index| index.survey_from(from, BATCH));
        for entry in &batch {
            survey.add(entry);
        }
        next = rest;
        tokio::task::yield_now().await;
    }
    survey
}

impl Survey {
    fn add(&mut self, entry: &SurveyedEntry) {
        let SurveyedEntry { key, value_bytes, variant_bytes, unused_seconds } = *entry;
        match key.kind {
            Kind::Blob => self.blobs.add(value_bytes),
            Kind::ActionResult => self.action_results.add(value_bytes),
        }
        if variant_bytes > 0 {
            self.variants.add(variant_bytes);
        }
        let class = AGE_LIMITS.partition_point(|limit| *limit <= unused_seconds);
        if let Some(share) = self.by_age.get_mut(class) {
            share.add(value_bytes + variant_bytes);
        }
        self.rank(key, value_bytes + variant_bytes);
    }

    fn rank(&mut self, key: Key, bytes: u64) {
        let place = self.largest.partition_point(|(_, other)| *other >= bytes);
        if place < LARGEST {
            self.largest.insert(place, (key, bytes));
            self.largest.truncate(LARGEST);
        }
    }
}
