//! `filesystem`: content in a directory.

use super::super::facts::Facts;
use super::eviction::{self, EvictionPolicy};
use crate::diagnostic::Located;
use crate::document::Node;
use crate::reader::{Reader, Table};
use std::ops::RangeInclusive;
use std::time::Duration;

const WEEK: Duration = Duration::from_hours(7 * 24);
/// More rounds of syncs would leave the disk no time for anything else.
const SYNC_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_hours(1);
const SNAPSHOT_INTERVALS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(24);

/// The settings of a `filesystem` store.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesystemStore {
    /// Where the content lives; never empty.
    pub content_path: Located<String>,
    /// Where unfinished uploads live, on the same file system; next to the content if absent.
    pub temp_path: Option<Located<String>>,
    /// How much one read asks the disk for, in bytes; absent or 0 is the server's choice.
    pub read_buffer_size: Option<u64>,
    /// The unit in which disk use is counted, in bytes; absent or 0 is the server's choice.
    pub block_size: Option<u64>,
    /// How many files are written to the disk at the same time; absent or 0 is no limit.
    pub max_concurrent_writes: Option<u64>,
    /// Whether written and read pages are dropped from the page cache.
    pub evict_page_cache: bool,
    /// When content is removed.
    pub eviction_policy: EvictionPolicy,
    /// What this server offers beyond the format.
    pub extension: FilesystemExtension,
}

/// The keys of a `filesystem` store that are this server's own. What is absent is its choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemExtension {
    /// The largest blob to take, in bytes; absent or 0 is the server's choice.
    pub max_blob_bytes: Option<u64>,
    /// Free space to leave to others on the same disk, in bytes.
    pub min_free_bytes: Option<u64>,
    /// How long what a client was told is there stays for sure, at most a week; 0 is no promise.
    pub lease: Option<Duration>,
    /// What gives way when such promises hold the room that a write needs.
    pub on_lease_pressure: Option<LeasePressure>,
    /// When a write is acknowledged.
    pub durability: Option<Durability>,
    /// How often everything written is synced to the disk, from 10 ms to an hour.
    pub sync_interval: Option<Duration>,
    /// Which reads check the bytes against their hash.
    pub verify_on_read: Option<VerifyOnRead>,
    /// Bytes that are checked in the background each second; 0 is none.
    pub scrub_bytes_per_second: Option<u64>,
    /// How often the order of use is written down, from a second to a day.
    pub snapshot_interval: Option<Duration>,
}

/// What gives way when leases hold the room that a write needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeasePressure {
    /// `break`: the oldest lease.
    Break,
    /// `refuse`: the write.
    Refuse,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `async`: at once.
    Async,
    /// `group`: after a sync that many share.
    Group,
    /// `fsync`: after a sync of its own.
    Fsync,
}

/// Which reads check the bytes against their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyOnRead {
    /// `first`: the first in the life of the process.
    First,
    /// `always`: all.
    Always,
    /// `never`: none.
    Never,
}

const LEASE_PRESSURES: &[(&str, LeasePressure)] =
    &[("break", LeasePressure::Break), ("refuse", LeasePressure::Refuse)];
const DURABILITIES: &[(&str, Durability)] =
    &[("async", Durability::Async), ("group", Durability::Group), ("fsync", Durability::Fsync)];
const VERIFICATIONS: &[(&str, VerifyOnRead)] = &[
    ("first", VerifyOnRead::First),
    ("always", VerifyOnRead::Always),
    ("never", VerifyOnRead::Never),
];

pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<FilesystemStore> {
    reader.object(node, |table| {
        let content_path =
            table.required("content_path", |r, node| r.located(node, Reader::file_path));
        let temp_path = table.optional("temp_path", |r, node| r.located(node, Reader::file_path));
        facts.add_content_path(content_path.as_ref());
        facts.add_temp_path(temp_path.as_ref());
        let store = FilesystemStore {
            temp_path,
            read_buffer_size: table.optional("read_buffer_size", Reader::nonzero_size),
            block_size: table.optional("block_size", Reader::nonzero_size),
            max_concurrent_writes: table.optional("max_concurrent_writes", Reader::nonzero_count),
            evict_page_cache: table.flag("evict_page_cache"),
            eviction_policy: table.optional("eviction_policy", eviction::read).unwrap_or_default(),
            extension: read_extension(table),
            content_path: content_path?,
        };
        Some(store)
    })
}

fn read_extension(table: &mut Table<'_, '_, '_>) -> FilesystemExtension {
    FilesystemExtension {
        max_blob_bytes: table.optional("max_blob_bytes", Reader::nonzero_size),
        min_free_bytes: table.optional("min_free_bytes", Reader::size),
        lease: table.optional("lease_s", read_lease),
        on_lease_pressure: table
            .optional("on_lease_pressure", |reader, node| reader.choice(node, LEASE_PRESSURES)),
        durability: table.optional("durability", |reader, node| reader.choice(node, DURABILITIES)),
        sync_interval: table.optional("sync_interval_s", |reader, node| {
            let expected = "a duration from 10ms to 1h";
            reader.within_range(node, &SYNC_INTERVALS, expected, Reader::seconds)
        }),
        verify_on_read: table
            .optional("verify_on_read", |reader, node| reader.choice(node, VERIFICATIONS)),
        scrub_bytes_per_second: table.optional("scrub_bytes_per_second", Reader::size),
        snapshot_interval: table.optional("snapshot_interval_s", |reader, node| {
            let expected = "a duration from 1s to 1 day";
            reader.within_range(node, &SNAPSHOT_INTERVALS, expected, Reader::seconds)
        }),
    }
}

/// The length of a promise: none, or from a second to a week.
pub(super) fn read_lease(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let lease = reader.seconds(node)?;
    if lease.is_zero() || (Duration::from_secs(1)..=WEEK).contains(&lease) {
        return Some(lease);
    }
    reader.mismatch(node, "0 for no lease, or a duration from 1s to 7 days");
    None
}
