//! What a tiered store is made with, and what follows from it for each tier.

/// What becomes of values in one tier. Both tiers are read in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Clients' writes go there, and reads populate it.
    #[default]
    Both,
    /// Clients' writes go there; reads do not populate it.
    Update,
    /// Reads populate it; clients' writes do not go there.
    Get,
    /// It gets no values.
    ReadOnly,
}

impl Direction {
    fn takes_writes(self) -> bool {
        matches!(self, Self::Both | Self::Update)
    }

    fn takes_reads(self) -> bool {
        matches!(self, Self::Both | Self::Get)
    }
}

/// What a [`TieredStore`](super::TieredStore) is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct TieredOptions {
    /// What becomes of values in the fast tier.
    pub fast_direction: Direction,
    /// What becomes of values in the slow tier. Reads never populate it.
    pub slow_direction: Direction,
    /// The fast tier keeps nothing.
    pub fast_is_noop: bool,
    /// The slow tier keeps nothing.
    pub slow_is_noop: bool,
    /// Acknowledge what the fast tier has, and copy it behind. Only where clients' writes go to
    /// both tiers.
    pub write_behind: Option<WriteBehindOptions>,
}

/// The bounds of the queue of values that are acknowledged and not yet in the slow tier.
#[derive(Clone, Copy, Debug)]
pub struct WriteBehindOptions {
    /// The most values, those being copied included.
    pub max_items: usize,
    /// The most bytes, those being copied included. They are kept from eviction in the fast tier,
    /// so this should be well below its cap; half of its largest value is the most that is taken.
    pub max_bytes: u64,
    /// Copies at one time.
    pub max_concurrent_copies: usize,
    /// How often a copy is tried before it counts as failed.
    pub max_attempts: u32,
}

impl Default for WriteBehindOptions {
    fn default() -> Self {
        Self { max_items: 10_000, max_bytes: 1 << 30, max_concurrent_copies: 16, max_attempts: 8 }
    }
}

/// Where clients' writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// To both, acknowledged when the slow tier has them.
    Through,
    /// To the fast tier, and from there to the slow one.
    Behind,
    Slow,
    Fast,
    Nowhere,
}

/// What follows from the options.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked on its own")]
pub(super) struct Roles {
    pub(super) has_fast: bool,
    pub(super) has_slow: bool,
    pub(super) writes: Writes,
    /// Whether whole reads of the slow tier fill the fast one.
    pub(super) populates: bool,
    /// Whether what only the fast tier has is present.
    pub(super) fast_counts: bool,
}

impl Roles {
    pub(super) fn of(options: &TieredOptions) -> Self {
        let (has_fast, has_slow) = (!options.fast_is_noop, !options.slow_is_noop);
        let to_fast = has_fast && options.fast_direction.takes_writes();
        let to_slow = has_slow && options.slow_direction.takes_writes();
        let writes = match (to_fast, to_slow) {
            (true, true) if options.write_behind.is_some() => Writes::Behind,
            (true, true) => Writes::Through,
            (true, false) => Writes::Fast,
            (false, true) => Writes::Slow,
            // A tier that keeps nothing takes everything.
            (false, false) if !has_slow => Writes::Slow,
            (false, false) => Writes::Nowhere,
        };
        let populates = has_fast && has_slow && options.fast_direction.takes_reads();
        Self { has_fast, has_slow, writes, populates, fast_counts: has_fast && !to_slow }
    }

    /// Whether the answer to a write is the fast tier's.
    pub(super) fn answers_fast(self) -> bool {
        self.writes == Writes::Fast
    }
}
