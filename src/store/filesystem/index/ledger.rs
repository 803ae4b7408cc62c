//! The books: where every byte under the cap stands.
//!
//! `resident + reserved + dying + overhead + unread <= max_bytes` at every unlock (I2). Bytes are
//! allocated blocks, what `du` shows. A byte enters as reserved, becomes resident when its file is
//! published, dying when its entry leaves the map, and is free when the file is gone.

/// The sums. Every subtraction is checked (I4): an error is counted, never wrapped.
#[derive(Debug)]
pub(crate) struct Ledger {
    max: u64,
    /// What may be used at present: less than `max` while the disk has less.
    limit: u64,
    low_water: u64,
    resident: u64,
    reserved: u64,
    dying: u64,
    /// The part of `dying` that readers hold open: unlinking alone does not free it.
    held: u64,
    /// The part of `dying` whose unlink failed: nobody knows when it will work.
    stuck: u64,
    overhead: u64,
    /// At most what the shards take that have not been read yet, and what a former server's files
    /// take that have not been taken over.
    unread: u64,
    /// What was there beyond the limit when a former server's directory was found. It is no reason
    /// to evict before all of it is known.
    excess: u64,
    settle_excess: u64,
    errors: u64,
}

/// A copy of the sums, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerSnapshot {
    /// The cap.
    pub(crate) max_bytes: u64,
    /// The part of it that may be used at present.
    pub(crate) limit_bytes: u64,
    /// Charges of all entries.
    pub(crate) resident_bytes: u64,
    /// Live reservations.
    pub(crate) reserved_bytes: u64,
    /// Entries that left the map, files not gone.
    pub(crate) dying_bytes: u64,
    /// The part of it that readers hold open.
    pub(crate) held_bytes: u64,
    /// Directories, the format file, foreign files.
    pub(crate) overhead_bytes: u64,
    /// At most what the shards take that have not been read yet.
    pub(crate) unread_bytes: u64,
    /// Publications that allocated more than they had reserved.
    pub(crate) settle_excess: u64,
    /// Subtractions that would have gone below zero.
    pub(crate) ledger_errors: u64,
}

impl LedgerSnapshot {
    /// Everything that counts against the cap.
    pub(crate) fn total_bytes(&self) -> u64 {
        let known = self.resident_bytes + self.reserved_bytes + self.dying_bytes;
        known + self.overhead_bytes + self.unread_bytes
    }
}

impl Ledger {
    pub(super) fn new(max: u64, low_water: u64) -> Self {
        Self {
            max,
            limit: max,
            low_water: low_water.min(max),
            resident: 0,
            reserved: 0,
            dying: 0,
            held: 0,
            stuck: 0,
            overhead: 0,
            unread: 0,
            excess: 0,
            settle_excess: 0,
            errors: 0,
        }
    }

    fn total(&self) -> u64 {
        self.resident + self.reserved + self.dying + self.overhead + self.unread
    }

    /// Allows so much of the cap for the present. What is over it is evicted, not cut off.
    pub(super) fn set_limit(&mut self, bytes: u64) {
        self.limit = bytes.min(self.max);
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit
    }

    pub(super) fn set_unread(&mut self, bytes: u64) {
        self.unread = bytes;
    }

    /// Puts up with what is there over the limit, until [`Ledger::end_excess`].
    pub(super) fn bear_excess(&mut self) {
        self.excess = self.total().saturating_sub(self.max);
    }

    /// Something has gone that was not taken out for room: as much of the excess does not come back
    /// (I2). What is taken out for a write makes room for that write, and for no others.
    pub(super) fn shrink_excess(&mut self) {
        self.excess = self.excess.min(self.total().saturating_sub(self.max));
    }

    pub(super) fn end_excess(&mut self) {
        self.excess = 0;
    }

    /// Where the disk has less than the cap, the limit says what it has, whatever was there.
    fn bearable(&self) -> u64 {
        if self.limit < self.max { self.limit } else { self.max.saturating_add(self.excess) }
    }

    /// Whether `wanted` bytes fit an otherwise empty store with `removable` bytes of its overhead
    /// gone.
    pub(super) fn can_ever_fit(&self, wanted: u64, removable: u64) -> bool {
        let fixed = self.overhead.saturating_sub(removable);
        fixed.saturating_add(wanted) <= self.max
    }

    /// The same for what the disk has at present.
    pub(super) fn could_ever_fit_limit(&self, wanted: u64, removable: u64) -> bool {
        let fixed = self.overhead.saturating_sub(removable);
        fixed.saturating_add(wanted) <= self.limit
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident
    }

    /// Whether directories take so much that empty ones should go.
    pub(super) fn is_overhead_heavy(&self) -> bool {
        self.overhead > self.max / 16
    }

    /// What the evictor keeps free; in proportion where the disk has less than the cap, or it
    /// would evict everything for it.
    pub(super) fn low_water_bytes(&self) -> u64 {
        let part =
            u128::from(self.low_water) * u128::from(self.limit) / u128::from(self.max.max(1));
        u64::try_from(part).unwrap_or(self.low_water)
    }

    /// Reserves if it fits now. I2.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        let fits = self.total().checked_add(bytes).is_some_and(|total| total <= self.bearable());
        if fits {
            self.reserved += bytes;
        }
        fits
    }

    pub(super) fn unreserve(&mut self, bytes: u64) {
        Self::subtract(&mut self.reserved, bytes, &mut self.errors);
    }

    /// A published file: its reservation ends, its charge begins.
    pub(super) fn settle(&mut self, reserved: u64, charge: u64) {
        if charge > reserved {
            self.settle_excess += 1;
        }
        Self::subtract(&mut self.reserved, reserved, &mut self.errors);
        self.resident += charge;
    }

    pub(super) fn adopt(&mut self, charge: u64) {
        self.resident += charge;
    }

    /// An entry leaves the map, or a file that was booked never enters it.
    pub(super) fn condemn(&mut self, charge: u64) {
        Self::subtract(&mut self.resident, charge, &mut self.errors);
        self.dying += charge;
    }

    pub(super) fn hold(&mut self, charge: u64) {
        self.held += charge;
    }

    pub(super) fn unhold(&mut self, charge: u64) {
        Self::subtract(&mut self.held, charge, &mut self.errors);
    }

    pub(super) fn stick(&mut self, charge: u64) {
        self.stuck += charge;
    }

    pub(super) fn unstick(&mut self, charge: u64) {
        Self::subtract(&mut self.stuck, charge, &mut self.errors);
    }

    /// A condemned file is really gone.
    pub(super) fn release(&mut self, charge: u64) {
        Self::subtract(&mut self.dying, charge, &mut self.errors);
    }

    pub(super) fn set_overhead(&mut self, now: u64, before: u64) {
        Self::subtract(&mut self.overhead, before, &mut self.errors);
        self.overhead += now;
    }

    /// Bytes that must still be condemned so that `wanted` bytes fit and `spare` stay free.
    ///
    /// What is dying counts as free already, or every waiter would evict for all the others too;
    /// what readers hold open or cannot be unlinked does not: nobody knows when that ends.
    pub(super) fn shortfall(&self, wanted: u64, spare: u64) -> u64 {
        let going = self.dying - (self.held + self.stuck).min(self.dying);
        let lasting = self.total() - going;
        lasting.saturating_add(wanted).saturating_add(spare).saturating_sub(self.bearable())
    }

    /// Whether `wanted` bytes would fit with every entry gone but `kept` bytes of them, and
    /// `removable` bytes of overhead.
    pub(super) fn could_fit(&self, wanted: u64, removable: u64, kept: u64) -> bool {
        let fixed = self.overhead.saturating_sub(removable);
        let lasting = self.reserved + self.held + self.stuck + fixed + kept;
        lasting.saturating_add(wanted) <= self.limit
    }

    /// The same once all writes and reads that are under way have ended.
    pub(super) fn could_fit_in_the_end(&self, wanted: u64, removable: u64, kept: u64) -> bool {
        let fixed = self.overhead.saturating_sub(removable);
        (self.stuck + fixed + kept).saturating_add(wanted) <= self.limit
    }

    pub(super) fn note_error(&mut self) {
        self.errors += 1;
    }

    pub(super) fn snapshot(&self) -> LedgerSnapshot {
        LedgerSnapshot {
            max_bytes: self.max,
            limit_bytes: self.limit,
            resident_bytes: self.resident,
            reserved_bytes: self.reserved,
            dying_bytes: self.dying,
            held_bytes: self.held,
            overhead_bytes: self.overhead,
            unread_bytes: self.unread,
            settle_excess: self.settle_excess,
            ledger_errors: self.errors,
        }
    }

    // I4: a wrong subtraction is a bug; it must neither wrap nor stop the server, and is seen.
    fn subtract(from: &mut u64, bytes: u64, errors: &mut u64) {
        if let Some(rest) = from.checked_sub(bytes) {
            *from = rest;
        } else {
            debug_assert!(false, "ledger underflow: {from} - {bytes}");
            *errors += 1;
            *from = 0;
        }
    }
}
