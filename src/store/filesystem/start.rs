//! Opening a directory, quickly whatever it holds.
//!
//! Only a few files are read before the first request: the format file, the ends of the last
//! snapshot, the directories above the shards. The rest is the loader's.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use tokio::sync::Notify;

use super::counters::Counters;
use super::deletions::Deletions;
use super::directory_sizes::DirectorySizes;
use super::disk::{Disk, MountIdentity};
use super::format::Format;
use super::former::{Findings, Former};
use super::index::{Index, Limits, UnreadShards};
use super::index_cell::IndexCell;
use super::layout::{
    ADMIN_SOCKET, BlockSize, FileName, Generation, MAX_VALUE_BYTES, Shard, VALUES_DIR,
    fixed_directories,
};
use super::loader::{Legacy, Loader, OldSnapshot};
use super::options::{Cap, FilesystemOptions};
use super::pool::Pool;
use super::purge::Purges;
use super::shared::{Parts, Shared};
use super::snapshots::{self, SNAPSHOT_NAME, Snapshots};
use super::state::{self, FORMAT_NAME, StateFile};
use super::sync::Mutex;
use super::sync_rounds::{Durability, SyncRounds};
use super::tombstone_log::{REMOVED_NAME, TombstoneLog};
use super::wall_clock::WallClock;
use crate::former::RAW_DIR;

/// The store's own files in the root; the operator's socket takes no room.
pub(super) const OWN_FILES: [&str; 6] =
    ["LOCK", FORMAT_NAME, SNAPSHOT_NAME, REMOVED_NAME, "tmp", ADMIN_SOCKET];

/// What the store itself takes beside the values and the shards.
struct Overhead {
    fixed_bytes: u64,
    class_bytes: Vec<(Shard, u64)>,
    format_bytes: u64,
    snapshot_bytes: u64,
    foreign_bytes: u64,
    foreign_files: u64,
    /// The shards that there are.
    shards: HashSet<String>,
}

/// Locks the directory and reads what is needed before the first request. Blocking.
pub(super) fn open(options: &FilesystemOptions, disk: Disk) -> io::Result<Shared> {
    for path in fixed_directories() {
        disk.make_directory(&path)?;
        disk.require_directory(&path)?;
    }
    let blocks = BlockSize(disk.space()?.block_size);
    let (former, is_whole) = state::read(&disk)?;
    let identity = disk.identity()?;
    let mut legacy = legacy(&disk, &former, &identity);
    legacy.former_from = former.former;
    let epoch = next_epoch(&disk, &former, is_whole, &mut legacy)?;
    if options.durability != Durability::Async && !legacy.is_clean {
        // I18: what is there is "present" to the next who sends it, so it must be on the disk.
        disk.sync()?;
    }
    let findings = Findings::look(&disk, &options.former)?;
    let caps = resolve_cap(options, &disk, &former, &legacy, findings.is_some())?;
    let Caps { max_bytes, set_aside_bytes } = caps;
    // Its blocks are there before they are counted.
    let tombstones = TombstoneLog::open(&disk, max_bytes);
    let format = begin(&disk, &former, &identity, &legacy, epoch, max_bytes, &findings)?;
    let since = format.former.map_or(0, |it| it.0);
    let has_values = set_aside_bytes > 0;
    let overhead = Overhead::measure(&disk, has_values, &findings)?;
    let mut index = index(options, &disk, &former, &legacy, &overhead, epoch, max_bytes)?;
    index.keep_fences(format.former.is_some());
    if findings.is_some() {
        index.begin_former();
    }
    // The kernel's word comes by no door that a model checker could hold shut.
    let deletions = if cfg!(feature = "shuttle") { None } else { Deletions::new() };
    let parts = Arc::new(Parts {
        index: IndexCell::new(index),
        state: StateFile::new(format, identity, overhead.format_bytes),
        snapshots: Snapshots::new(overhead.snapshot_bytes),
        disk,
        settings: options.settings(),
        clock: WallClock::default(),
        pool: Pool::default(),
        counters: Counters::default(),
        deletions: deletions.map(Arc::new),
        blocks,
        directory_sizes: DirectorySizes::default(),
        loader: Loader::new(legacy),
        former: Former::new(findings, since, has_values),
        rounds: SyncRounds::default(),
        purges: Purges::default(),
        tombstones,
        failed: Mutex::new(Vec::new()),
        wake: Notify::new(),
        exposing: Mutex::default(),
        variant_exits: Mutex::default(),
        write_ended: Notify::new(),
    });
    parts.counters.foreign_files.add(overhead.foreign_files);
    for shard in Shard::all().filter(|shard| !overhead.shards.contains(&shard.path())) {
        parts.update(|index| index.load_shard(shard, &[], 0, 0)).clear();
    }
    // What directories may come to take is not promised to a blob.
    let reachable = max_bytes - (max_bytes / 8).min(8 << 20);
    let max_blob_bytes =
        options.max_blob_bytes.unwrap_or(MAX_VALUE_BYTES).min(reachable).min(MAX_VALUE_BYTES);
    Ok(Shared::new(parts, max_blob_bytes, set_aside_bytes))
}

/// What a cap comes to.
struct Caps {
    max_bytes: u64,
    /// What the store in [`VALUES_DIR`] gets of it.
    set_aside_bytes: u64,
}

/// A share of the disk is a share of what is free and of what the store holds, as far as the last
/// snapshot knows; and of what the store holds that it sets room aside for.
fn resolve_cap(
    options: &FilesystemOptions,
    disk: &Disk,
    former: &Format,
    legacy: &Legacy,
    has_former: bool,
) -> io::Result<Caps> {
    if has_former && options.cap.is_guess() {
        let text = "another server has left files here: say how much the store may take \
                    (--max-size), or that they are left alone (--adopt=off)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let space = disk.space()?;
    let mut held_bytes = held(legacy.snapshot.as_ref(), former);
    if options.set_aside.is_some() && matches!(options.cap, Cap::Share { .. }) {
        held_bytes = held_bytes.saturating_add(held_by_values(disk));
    }
    // How much of the disk another server has taken nobody has counted yet: all that is used.
    let held_bytes = if has_former { space.used_bytes } else { held_bytes.min(space.used_bytes) };
    let all_bytes = options.cap.resolve(space.free_bytes.saturating_add(held_bytes));
    let set_aside_bytes = options.set_aside.map_or(0, |it| it.of(all_bytes));
    let max_bytes = all_bytes.saturating_sub(set_aside_bytes);
    let invalid =
        |problem| io::Error::new(io::ErrorKind::InvalidInput, format!("the cap: {problem}"));
    Cap::Bytes(max_bytes).check().map_err(invalid)?;
    Ok(Caps { max_bytes, set_aside_bytes })
}

fn held(snapshot: Option<&OldSnapshot>, former: &Format) -> u64 {
    match snapshot {
        Some(snapshot) => shard_sizes(snapshot).iter().sum(),
        // Not known: as much as it was allowed, or a full store would be cut down to what is free.
        None => former.cap_bytes.unwrap_or_default(),
    }
}

/// The same of the store in [`VALUES_DIR`]; what cannot be read counts as nothing.
fn held_by_values(disk: &Disk) -> u64 {
    let path = |name| format!("{VALUES_DIR}/{name}");
    let snapshot = open_snapshot(disk, &path(SNAPSHOT_NAME)).unwrap_or_default();
    let text = disk.read_own(&path(FORMAT_NAME)).ok().flatten().unwrap_or_default();
    held(snapshot.as_ref(), &Format::parse(&text).unwrap_or_default())
}

/// What the former process left beside the values.
fn legacy(disk: &Disk, former: &Format, identity: &MountIdentity) -> Legacy {
    let snapshot = open_snapshot(disk, SNAPSHOT_NAME)
        .inspect_err(|error| tracing::warn!(%error, "snapshot not usable, reading the names"))
        .unwrap_or_default();
    let is_clean = match (&snapshot, &former.clean) {
        (Some(snapshot), Some(clean)) => snapshot.index.identity() == clean,
        _ => false,
    };
    let is_same_mount = former.boot.as_deref() == Some(identity.boot.as_str())
        && former.mount == Some(identity.mount)
        && !identity.boot.is_empty();
    // The page cache of another boot, or of a mount that is gone, is gone with it (I18).
    let may_be_torn = !is_clean && !is_same_mount;
    let suspect_from = may_be_torn.then(|| former.durable.unwrap_or(Generation(0)));
    Legacy { snapshot, is_clean, suspect_from, former_from: None }
}

fn open_snapshot(disk: &Disk, path: &str) -> io::Result<Option<OldSnapshot>> {
    let Some(file) = disk.open_own(path)? else { return Ok(None) };
    let finished = disk.changed_at(path)?;
    let index = snapshots::parse(&file)?;
    Ok(Some(OldSnapshot { index, file, finished }))
}

/// The number of this start. What a fresh directory has is not doubted.
fn next_epoch(
    disk: &Disk,
    former: &Format,
    is_whole: bool,
    legacy: &mut Legacy,
) -> io::Result<u32> {
    let last_epoch = last_epoch(disk, former, is_whole, legacy)?;
    if last_epoch == 0 {
        legacy.suspect_from = None;
    }
    if let Some(first) = legacy.suspect_from {
        tracing::warn!(from = first.0, "power may have been lost, what is younger is hashed first");
    }
    let epoch = last_epoch + 1;
    if epoch >= Generation::MAX_EPOCH {
        let text = "this directory has been started a million times; begin a new one";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(epoch)
}

/// The last start before this one, 0 when there was none. I6: the first generation of this process
/// will be above every one given out before.
fn last_epoch(disk: &Disk, former: &Format, is_whole: bool, legacy: &Legacy) -> io::Result<u32> {
    let clock = legacy.snapshot.as_ref().map_or(0, |it| it.index.summary().clock);
    let noted = Generation(clock).epoch();
    let epoch = former.epoch.max(noted);
    if is_whole {
        return Ok(epoch);
    }
    // The one case in which all names are read first: nobody can be believed about the epoch.
    Ok(epoch.max(last_epoch_of_names(disk)?))
}

fn last_epoch_of_names(disk: &Disk) -> io::Result<u32> {
    let mut last = 0;
    for shard in Shard::all() {
        for found in disk.list(&shard.path())?.unwrap_or_default() {
            let file = FileName::parse_any(shard, &found.name).map(|(file, _)| file);
            last = last.max(file.map_or(0, |file| file.generation.epoch()));
        }
    }
    Ok(last)
}

/// Writes down that a process has begun, before it changes anything: a clean stop is none any
/// more, and the epoch is taken.
fn begin(
    disk: &Disk,
    former: &Format,
    identity: &MountIdentity,
    legacy: &Legacy,
    epoch: u32,
    max_bytes: u64,
    findings: &Findings,
) -> io::Result<Format> {
    let mut format = former.clone();
    if findings.is_some() {
        format.former = former.former.or(Some(Generation::first_of_epoch(epoch)));
    } else if findings.are_there_none() {
        // The next directory of another server's begins anew.
        format.former = None;
    }
    format.epoch = epoch;
    format.cap_bytes = Some(max_bytes.max(former.cap_bytes.unwrap_or_default()));
    format.clean = None;
    if legacy.suspect_from.is_none() {
        state::stamp(identity, &mut format);
    }
    disk.write_own(FORMAT_NAME, &format.to_string())?;
    Ok(format)
}

impl Overhead {
    /// Measures what there is above the shards, and finds what is not the store's.
    fn measure(disk: &Disk, has_values: bool, findings: &Findings) -> io::Result<Self> {
        let mut overhead = Self {
            fixed_bytes: 0,
            class_bytes: Vec::new(),
            format_bytes: disk.allocated_at(FORMAT_NAME)?,
            snapshot_bytes: disk.allocated_at(SNAPSHOT_NAME)?,
            foreign_bytes: 0,
            foreign_files: 0,
            shards: HashSet::new(),
        };
        for path in [".", "LOCK", REMOVED_NAME, "tmp", "blobs", "actions"] {
            overhead.fixed_bytes += disk.allocated_at(path)?;
        }
        for shard in Shard::all().step_by(Shard::COUNT / Shard::CLASSES) {
            overhead.class_bytes.push((shard, disk.allocated_at(&shard.class_path())?));
        }
        for path in findings.refused_beside() {
            overhead.foreign_files += 1;
            overhead.foreign_bytes += disk.allocated_below(path);
        }
        overhead.look_around(disk, has_values, findings)?;
        Ok(overhead)
    }

    fn look_around(
        &mut self,
        disk: &Disk,
        has_values: bool,
        findings: &Findings,
    ) -> io::Result<()> {
        // A second store keeps its own books. What is left of one that is not run any more is
        // foreign: nobody else would count it.
        let raw = Some(RAW_DIR).filter(|_| findings.were_looked_for());
        let neighbors = [VALUES_DIR].into_iter().chain(raw).filter(|_| has_values);
        let known = OWN_FILES.into_iter().chain(neighbors).map(str::to_owned);
        let own: HashSet<String> = known.chain(fixed_directories()).collect();
        let shards: HashSet<String> = Shard::all().map(Shard::path).collect();
        let root = (!findings.has_root()).then(|| ".".to_owned());
        for folder in root.into_iter().chain(fixed_directories()) {
            for entry in disk.list(&folder)?.unwrap_or_default() {
                let is_top = folder == ".";
                let path = if is_top { entry.name } else { format!("{folder}/{}", entry.name) };
                if shards.contains(&path) {
                    self.shards.insert(path);
                } else if !own.contains(&path) && !findings.covers(&path) {
                    tracing::warn!(path, "foreign file left alone");
                    self.foreign_files += 1;
                    self.foreign_bytes += disk.allocated_below(&path);
                }
            }
        }
        Ok(())
    }
}

/// An index that knows its limits and what the unread shards take at most.
fn index<W>(
    options: &FilesystemOptions,
    disk: &Disk,
    former: &Format,
    legacy: &Legacy,
    overhead: &Overhead,
    epoch: u32,
    max_bytes: u64,
) -> io::Result<Index<W>> {
    let limits = Limits {
        max_bytes,
        low_water_bytes: options.low_water_bytes.unwrap_or((max_bytes / 100).min(256 << 20)),
        max_entries: options.max_entries,
        max_age_seconds: options.max_age.map(|age| age.as_secs()),
        lease_seconds: options.lease.as_secs(),
        lease_policy: options.lease_policy,
    };
    let mut index = Index::new(limits, Generation::first_of_epoch(epoch).0);
    let timeline = legacy.snapshot.as_ref().map(|it| it.index.summary().timeline.as_slice());
    let now = WallClock::default().now();
    index.recover(state::read_fences(former), timeline.unwrap_or_default(), now);
    index.begin_after_calendar();
    index.set_now(now);
    let fixed_bytes = overhead.fixed_bytes
        + overhead.format_bytes
        + overhead.snapshot_bytes
        + overhead.foreign_bytes;
    index.change_overhead(fixed_bytes, 0);
    for (shard, bytes) in &overhead.class_bytes {
        index.settle_class(*shard, *bytes);
    }
    let known_bytes = index.ledger().overhead_bytes;
    let expected = legacy.snapshot.as_ref().map_or(0, entries);
    index.begin_loading(unread(disk, former, legacy, known_bytes)?, expected);
    Ok(index)
}

/// What the shards take: known after a clean stop; after a crash not more than the cap was, and
/// not more than all files on the disk.
fn unread(
    disk: &Disk,
    former: &Format,
    legacy: &Legacy,
    known_bytes: u64,
) -> io::Result<UnreadShards> {
    if legacy.is_exact()
        && let Some(snapshot) = &legacy.snapshot
    {
        return Ok(UnreadShards::Exact(shard_sizes(snapshot)));
    }
    // Files that share blocks take them once and count twice.
    let on_disk = disk.space()?.used_bytes.saturating_mul(2);
    let most = former.cap_bytes.unwrap_or(u64::MAX).min(on_disk);
    Ok(UnreadShards::AtMost(most.saturating_sub(known_bytes)))
}

/// What each shard takes, as a snapshot has it.
fn shard_sizes(snapshot: &OldSnapshot) -> Vec<u64> {
    let size = |shard| {
        let shard = snapshot.index.shard(shard);
        shard.map_or(0, |it| it.charge_bytes.saturating_add(it.directory_bytes))
    };
    Shard::all().map(size).collect()
}

/// How many entries a snapshot has.
fn entries(snapshot: &OldSnapshot) -> usize {
    let records = |shard| snapshot.index.shard(shard).map_or(0, |it| it.records as usize);
    Shard::all().map(records).sum()
}
