//! What time it was at which point of the logical clock.
//!
//! Entries carry logical time only: it gives a total order, needs no system call under the lock,
//! and a file's generation is a point on the same line. Leases and age limits need seconds, but
//! not exactly: now and then a pair of both is noted down.

use std::collections::VecDeque;

use super::super::layout::Generation;

/// Pairs kept; beyond that every other one of the older half is forgotten.
const MAX_POINTS: usize = 1024;

/// Pairs of logical time and seconds since 1970, both rising.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    points: VecDeque<(u64, u64)>,
    now: u64,
    /// Least seconds between two pairs.
    resolution: u64,
    /// Before this a stamp says the time itself, see [`calendar_stamp`].
    calendar_end: u64,
}

/// The bits of a stamp of the calendar below its seconds.
const CALENDAR_BITS: u32 = 10;

/// What was used before the first process began, at so many seconds and nanoseconds since 1970:
/// a stamp below those of the first process.
pub(crate) fn calendar_stamp(seconds: u64, nanoseconds: u64) -> u64 {
    let below = (nanoseconds.min(999_999_999) << CALENDAR_BITS) / 1_000_000_000;
    let seconds = seconds.min((1 << (Generation::WRITE_BITS - CALENDAR_BITS)) - 1);
    (seconds << CALENDAR_BITS | below).max(1)
}

impl Timeline {
    /// An empty line that tells `span_seconds` to about a sixtieth.
    pub(super) fn new(span_seconds: u64) -> Self {
        let resolution = (span_seconds / 64).clamp(1, 60);
        Self { points: VecDeque::new(), now: 0, resolution, calendar_end: 0 }
    }

    /// Puts the pairs of a former process before those of this one. Its clock may have been ahead:
    /// nothing was later than it is `now`.
    pub(super) fn recover(&mut self, points: &[(u64, u64)], now: u64) {
        let mut last = (0, 0);
        for &(stamp, seconds) in points.iter().take(MAX_POINTS) {
            let seconds = seconds.min(now);
            if stamp >= last.0 && seconds >= last.1 {
                last = (stamp, seconds);
                self.points.push_back(last);
            }
        }
        self.now = self.now.max(last.1);
    }

    /// Takes stamps before `end` for ones of the calendar.
    pub(super) fn begin_after_calendar(&mut self, end: u64) {
        self.calendar_end = end;
    }

    /// Whether a stamp is from before the first process.
    pub(super) fn is_of_calendar(&self, stamp: u64) -> bool {
        stamp < self.calendar_end
    }

    /// Notes that it is `now` at `stamp`. A clock that was set back is taken to stand still.
    pub(super) fn note(&mut self, stamp: u64, now: u64) {
        self.now = self.now.max(now);
        let is_due = self
            .points
            .back()
            .is_none_or(|last| self.now >= last.1.saturating_add(self.resolution));
        if !is_due {
            return;
        }
        self.points.push_back((stamp, self.now));
        if self.points.len() > MAX_POINTS {
            self.thin_out();
        }
    }

    /// Says what time it is where nothing has happened since the last pair.
    pub(super) fn set_now(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The logical time of the last pair.
    pub(super) fn last_stamp(&self) -> Option<u64> {
        self.points.back().map(|point| point.0)
    }

    fn thin_out(&mut self) {
        let half = self.points.len() / 2;
        let mut at = 0;
        self.points.retain(|_| {
            at += 1;
            at > half || at % 2 == 0
        });
    }

    /// Seconds since 1970, as last noted.
    #[cfg(test)]
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// The latest time that `stamp` can have been. What of a former process is older than the first
    /// pair is taken to be of that time.
    pub(super) fn latest(&self, stamp: u64) -> u64 {
        if self.is_of_calendar(stamp) {
            return stamp >> CALENDAR_BITS;
        }
        let behind = self.points.partition_point(|point| point.0 <= stamp);
        self.points.get(behind).map_or(self.now, |point| point.1)
    }

    /// Seconds since `stamp`, at least.
    pub(super) fn age(&self, stamp: u64) -> u64 {
        self.now.saturating_sub(self.latest(stamp))
    }

    pub(super) fn points(&self) -> Vec<(u64, u64)> {
        self.points.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_said_too_high() {
        let mut line = Timeline::new(64);
        for second in 0..100 {
            line.note(second * 10, 1000 + second);
        }
        assert_eq!(line.now(), 1099);
        for second in 0..99 {
            let age = line.age(second * 10 + 5);
            assert!(age <= 99 - second && age + 2 > 99 - second, "{second}: {age}");
        }
    }

    #[test]
    fn the_number_of_points_is_bounded_and_the_order_stays() {
        let mut line = Timeline::new(1);
        for second in 0..100_000 {
            line.note(second, second);
        }
        let points = line.points();
        assert!(points.len() <= MAX_POINTS);
        assert!(points.is_sorted());
        assert_eq!(points.last(), Some(&(99_999, 99_999)));
    }

    #[test]
    fn a_clock_set_back_stands_still() {
        let mut line = Timeline::new(1);
        line.note(1, 500);
        line.note(2, 400);
        assert_eq!((line.now(), line.age(1)), (500, 0));
    }

    #[test]
    fn what_a_former_process_noted_goes_on() {
        let mut line = Timeline::new(1);
        line.recover(&[(10, 100), (20, 200), (15, 150)], 1_000);
        line.note(30, 300);
        assert_eq!((line.age(12), line.age(25)), (100, 0));
        assert_eq!(line.points().len(), 3);
    }
}
