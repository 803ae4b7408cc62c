//! The flags of `serve` that say how stores behave, whether flags or a file say where they are.
//!
//! Kept as text like the others; what a flag does not say is left as it is.

use std::fmt;
use std::time::Duration;

use clap::Args;
use nativelink_config::Effective;
use nativelink_config::units::{parse_duration, parse_size};

use super::problems::Problems;
use crate::store::filesystem::{Adopt, Durability, FilesystemOptions, LeasePolicy, VerifyOnRead};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);
const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);
/// More rounds of syncs would leave the disk no time for anything else.
const LEAST_SYNC_INTERVAL: Duration = Duration::from_millis(10);

const LEASE_POLICIES: [(&str, LeasePolicy); 2] =
    [("break", LeasePolicy::BreakOldest), ("refuse", LeasePolicy::RefuseWrites)];
const DURABILITIES: [(&str, Durability); 3] =
    [("async", Durability::Async), ("group", Durability::Group), ("fsync", Durability::Fsync)];
const VERIFICATIONS: [(&str, VerifyOnRead); 3] = [
    ("first", VerifyOnRead::First),
    ("always", VerifyOnRead::Always),
    ("never", VerifyOnRead::Never),
];

const ADOPTIONS: [(&str, Adopt); 3] =
    [("move", Adopt::Move), ("link", Adopt::Link), ("off", Adopt::Off)];

/// See the module documentation.
#[derive(Debug, Args)]
pub(super) struct StoreFlags {
    /// Free space to leave to others on the same disk [default: 0].
    #[arg(long, env = "CASTELLAN_MIN_FREE", value_name = "SIZE")]
    min_free: Option<String>,

    /// The most blobs and action results to keep [default: what fits].
    #[arg(long, env = "CASTELLAN_MAX_ENTRIES", value_name = "N")]
    max_entries: Option<String>,

    /// The longest time without a use after which something is kept [default: while there is room].
    #[arg(long, env = "CASTELLAN_MAX_AGE", value_name = "DURATION")]
    max_age: Option<String>,

    /// How long what a client was told is there stays for sure; 0 for no promise [default: 30min].
    #[arg(long, env = "CASTELLAN_LEASE", value_name = "DURATION")]
    lease: Option<String>,

    /// When such promises hold the room that a write needs: `break` the oldest, or `refuse` the
    /// write [default: break].
    #[arg(long, env = "CASTELLAN_ON_LEASE_PRESSURE", value_name = "POLICY")]
    on_lease_pressure: Option<String>,

    /// When a write is acknowledged: `async`, at once, a power cut takes what is younger than the
    /// sync interval; `group`, after a sync that many share; `fsync`, after one of its own
    /// [default: async].
    #[arg(long, env = "CASTELLAN_DURABILITY", value_name = "CLASS")]
    durability: Option<String>,

    /// How often everything written is synced to the disk [default: 30s].
    #[arg(long, env = "CASTELLAN_SYNC_INTERVAL", value_name = "DURATION")]
    sync_interval: Option<String>,

    /// Which reads check the bytes against their hash: the `first` in the life of the process,
    /// `always`, or `never` [default: first].
    #[arg(long, env = "CASTELLAN_VERIFY_ON_READ", value_name = "WHEN")]
    verify_on_read: Option<String>,

    /// Bytes that are checked in the background each second; 0 for none [default: 8MiB].
    #[arg(long, env = "CASTELLAN_SCRUB_RATE", value_name = "SIZE")]
    scrub_rate: Option<String>,

    /// How often the order of use is written down, which a crash would lose [default: 5min].
    #[arg(long, env = "CASTELLAN_SNAPSHOT_INTERVAL", value_name = "DURATION")]
    snapshot_interval: Option<String>,

    #[expect(clippy::doc_markdown, reason = "help text, not documentation")]
    /// What becomes of what NativeLink or bazel-remote has left in the directory: `move` it, file
    /// by file, to names of the store's, `link` it, so that the other server can be gone back to,
    /// or `off`, leave it alone [default: move].
    #[arg(long, env = "CASTELLAN_ADOPT", value_name = "HOW")]
    adopt: Option<String>,
}

/// What the flags say, checked.
#[derive(Debug, Default)]
pub(super) struct StoreSettings {
    min_free_bytes: Option<u64>,
    max_entries: Option<u64>,
    max_age: Option<Duration>,
    lease: Option<Duration>,
    lease_policy: Option<LeasePolicy>,
    durability: Option<Durability>,
    sync_interval: Option<Duration>,
    verify_on_read: Option<VerifyOnRead>,
    scrub_bytes_per_second: Option<u64>,
    snapshot_interval: Option<Duration>,
    adopt: Option<Adopt>,
}

impl StoreFlags {
    /// Those of them that a configuration file says, and whether they are given.
    pub(super) fn in_file(&self) -> [(&'static str, bool); 2] {
        [("--max-entries", self.max_entries.is_some()), ("--max-age", self.max_age.is_some())]
    }

    /// Reads them all; a flag that is wrong is noted and left out.
    pub(super) fn read(&self, problems: &mut Problems) -> StoreSettings {
        let lasting = |least, most| move |text: &str| duration_within(text, least, most);
        StoreSettings {
            min_free_bytes: take(problems, "--min-free", self.min_free.as_deref(), parse_size),
            max_entries: take(problems, "--max-entries", self.max_entries.as_deref(), parse_count),
            max_age: take(problems, "--max-age", self.max_age.as_deref(), lasting(SECOND, CENTURY))
                .map(whole_seconds),
            lease: take(problems, "--lease", self.lease.as_deref(), parse_lease).map(whole_seconds),
            lease_policy: take(
                problems,
                "--on-lease-pressure",
                self.on_lease_pressure.as_deref(),
                one_of(&LEASE_POLICIES),
            ),
            durability: take(
                problems,
                "--durability",
                self.durability.as_deref(),
                one_of(&DURABILITIES),
            ),
            sync_interval: take(
                problems,
                "--sync-interval",
                self.sync_interval.as_deref(),
                lasting(LEAST_SYNC_INTERVAL, HOUR),
            ),
            verify_on_read: take(
                problems,
                "--verify-on-read",
                self.verify_on_read.as_deref(),
                one_of(&VERIFICATIONS),
            ),
            scrub_bytes_per_second: take(
                problems,
                "--scrub-rate",
                self.scrub_rate.as_deref(),
                parse_size,
            ),
            snapshot_interval: take(
                problems,
                "--snapshot-interval",
                self.snapshot_interval.as_deref(),
                lasting(SECOND, DAY),
            ),
            adopt: take(problems, "--adopt", self.adopt.as_deref(), one_of(&ADOPTIONS)),
        }
    }
}

impl StoreSettings {
    /// How long what a client was told is there stays for sure.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.lease
    }

    /// What the flags say, as the keys of a configuration file: flag, key, value.
    pub(super) fn as_keys(&self) -> Vec<(&'static str, &'static str, Effective)> {
        let word = |word: Option<&'static str>| word.map(|word| Effective::Text(word.to_owned()));
        let all = [
            ("--min-free", "min_free_bytes", self.min_free_bytes.map(Effective::Bytes)),
            ("--lease", "lease_s", self.lease.map(Effective::Duration)),
            (
                "--on-lease-pressure",
                "on_lease_pressure",
                word(word_of(&LEASE_POLICIES, self.lease_policy)),
            ),
            ("--durability", "durability", word(word_of(&DURABILITIES, self.durability))),
            ("--sync-interval", "sync_interval_s", self.sync_interval.map(Effective::Duration)),
            (
                "--verify-on-read",
                "verify_on_read",
                word(word_of(&VERIFICATIONS, self.verify_on_read)),
            ),
            (
                "--scrub-rate",
                "scrub_bytes_per_second",
                self.scrub_bytes_per_second.map(Effective::Bytes),
            ),
            (
                "--snapshot-interval",
                "snapshot_interval_s",
                self.snapshot_interval.map(Effective::Duration),
            ),
        ];
        all.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?))).collect()
    }

    /// Says to a store what the flags say.
    pub(super) fn apply(&self, store: &mut FilesystemOptions) {
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            *to = from.unwrap_or(*to);
        }
        set(&mut store.min_free_bytes, self.min_free_bytes);
        set(&mut store.max_entries, self.max_entries.map(Some));
        set(&mut store.max_age, self.max_age.map(Some));
        set(&mut store.lease, self.lease);
        set(&mut store.lease_policy, self.lease_policy);
        set(&mut store.durability, self.durability);
        set(&mut store.sync_interval, self.sync_interval);
        set(&mut store.verify_on_read, self.verify_on_read);
        set(&mut store.scrub_bytes_per_second, self.scrub_bytes_per_second);
        set(&mut store.snapshot_interval, self.snapshot_interval);
        set(&mut store.former.adopt, self.adopt);
    }
}

/// Stores tell ages in whole seconds; rounded up, nothing goes too early.
pub(super) fn whole_seconds(duration: Duration) -> Duration {
    let more = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(more))
}

fn take<T, E: fmt::Display>(
    problems: &mut Problems,
    flag: &str,
    text: Option<&str>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    text.and_then(|text| problems.take(flag, read(text)))
}

fn parse_count(text: &str) -> Result<u64, String> {
    match text.trim().parse() {
        Ok(0) => Err("0 would keep nothing; leave it out for no limit".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("{text:?} is not a whole number")),
    }
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Ok(Duration::ZERO),
        _ => duration_within(text, SECOND, WEEK),
    }
}

fn duration_within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration < least {
        return Err(format!("{text:?} is below the least, {least:?}"));
    }
    if duration > most {
        return Err(format!("{text:?} is above the most, {}h", most.as_secs() / HOUR.as_secs()));
    }
    Ok(duration)
}

fn word_of<T: Copy + PartialEq>(
    choices: &[(&'static str, T)],
    value: Option<T>,
) -> Option<&'static str> {
    choices.iter().find(|(_, choice)| value == Some(*choice)).map(|(word, _)| *word)
}

fn one_of<T: Copy>(choices: &[(&str, T)]) -> impl FnOnce(&str) -> Result<T, String> {
    |text| {
        let choice = choices.iter().find(|(name, _)| *name == text.trim());
        choice.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is none of {}", names.join(", "))
        })
    }
}
