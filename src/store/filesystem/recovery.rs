//! Opening a directory: what a former process left becomes the index again.
//!
//! I19: whatever a crash left, the index, the books and the files agree afterwards, and nothing is
//! left over. Only names are read, never files: a name says which value it holds, how long it is
//! and which write made it. Without better knowledge a younger generation counts as used more
//! recently.

use std::collections::HashSet;
use std::io;

use super::deletions::Deletions;
use super::disk::Disk;
use super::index::{Index, Victim};
use super::layout::{BlockSize, FileName, Generation, Shard, fixed_directories};
use super::sync::run_together;

const FORMAT_NAME: &str = "FORMAT";
const FORMAT_VERSION: u32 = 1;
/// Threads that read directories; a listing waits mostly for the disk.
const READERS: usize = 4;

/// What the shards hold.
#[derive(Debug, Default)]
pub(super) struct Census {
    files: Vec<FileName>,
    directories: Vec<(Shard, u64)>,
    /// The directories that hold shards, each by one of them.
    classes: Vec<(Shard, u64)>,
    foreign_bytes: u64,
    /// Files that are not the store's.
    pub(super) foreign_files: u64,
    overhead_bytes: u64,
}

/// Makes the fixed directories and starts a new epoch: the first generation of this process is
/// above every one given out before (I6), written down before the first is used.
pub(super) fn begin_epoch(disk: &Disk, census: &Census) -> io::Result<Generation> {
    let recorded = match disk.read_own(FORMAT_NAME)? {
        None => 0,
        Some(text) => parse_format(&text)?,
    };
    let seen = census.files.iter().map(|file| file.generation.epoch()).max().unwrap_or(0);
    let epoch = recorded.max(seen) + 1;
    if epoch >= Generation::MAX_EPOCH {
        let text = "this directory has been started 16 million times; begin a new one";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    disk.write_own(FORMAT_NAME, &format!("castellan {FORMAT_VERSION}\nepoch {epoch}\n"))?;
    Ok(Generation::first_of_epoch(epoch))
}

fn parse_format(text: &str) -> io::Result<u32> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version != format!("castellan {FORMAT_VERSION}") {
        return Err(invalid(format!("FORMAT says {version:?}, this build reads version 1")));
    }
    // A damaged epoch is found again from the names.
    let epoch = lines.next().and_then(|it| it.strip_prefix("epoch ")?.parse().ok());
    Ok(epoch.filter(|epoch| *epoch < Generation::MAX_EPOCH).unwrap_or(0))
}

/// Reads every shard, a few at a time. Blocking.
pub(super) fn take_census(disk: &Disk, deletions: Option<&Deletions>) -> io::Result<Census> {
    for path in fixed_directories() {
        disk.make_directory(&path)?;
        disk.require_directory(&path)?;
    }
    let shards: Vec<Shard> = Shard::all().collect();
    let readers = shards
        .chunks(Shard::COUNT.div_ceil(READERS))
        .map(|part| move || read_shards(disk, deletions, part));
    let parts: io::Result<Vec<Census>> = run_together(readers).into_iter().collect();
    let parts = parts?;
    let mut census = Census::default();
    for part in parts {
        census.files.extend(part.files);
        census.directories.extend(part.directories);
        census.foreign_bytes += part.foreign_bytes;
        census.foreign_files += part.foreign_files;
    }
    find_strangers(disk, &mut census)?;
    // Oldest first, which is the order of eviction.
    census.files.sort_unstable_by_key(|file| file.generation);
    Ok(census)
}

/// Counts what lies beside the store's own names above the shards.
fn find_strangers(disk: &Disk, census: &mut Census) -> io::Result<()> {
    let own_files = ["LOCK", FORMAT_NAME, "tmp"].map(str::to_owned);
    let own: HashSet<String> = own_files
        .into_iter()
        .chain(fixed_directories())
        .chain(Shard::all().map(Shard::path))
        .collect();
    for folder in [".".to_owned()].into_iter().chain(fixed_directories()) {
        for entry in disk.list(&folder)?.unwrap_or_default() {
            let path = if folder == "." { entry.name } else { format!("{folder}/{}", entry.name) };
            if !own.contains(&path) {
                tracing::warn!(path, "foreign file left alone");
                census.foreign_files += 1;
                census.foreign_bytes += disk.allocated_below(&path);
            }
        }
    }
    Ok(())
}

/// Measures what the store itself takes beside its values. After [`begin_epoch`], which writes.
pub(super) fn measure_overhead(disk: &Disk, census: &mut Census) -> io::Result<()> {
    for path in [".", "LOCK", FORMAT_NAME, "tmp", "blobs", "actions"] {
        census.overhead_bytes += disk.allocated_at(path)?;
    }
    for shard in Shard::all().step_by(Shard::COUNT / Shard::CLASSES) {
        census.classes.push((shard, disk.allocated_at(&shard.class_path())?));
    }
    Ok(())
}

fn read_shards(disk: &Disk, deletions: Option<&Deletions>, shards: &[Shard]) -> io::Result<Census> {
    let mut census = Census::default();
    for shard in shards {
        let path = shard.path();
        if !disk.exists(&path)? {
            continue;
        }
        disk.require_directory(&path)?;
        if let Some(deletions) = deletions {
            deletions.watch(*shard, &disk.absolute(&path));
        }
        let unreadable =
            |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        let Some(found) = disk.list(&path).map_err(unreadable)? else {
            continue;
        };
        census.directories.push((*shard, disk.allocated_at(&path)?));
        for entry in found {
            if let Some(file) = FileName::parse(*shard, &entry.name).filter(|_| entry.is_file) {
                census.files.push(file);
                continue;
            }
            let foreign = format!("{path}/{}", entry.name);
            tracing::warn!(path = %foreign, "foreign file left alone");
            census.foreign_files += 1;
            census.foreign_bytes += disk.allocated_below(&foreign);
        }
    }
    Ok(census)
}

impl Census {
    /// Everything under the root, in bytes.
    pub(super) fn total_bytes(&self, blocks: BlockSize) -> u64 {
        let values: u64 = self.files.iter().map(|file| blocks.charge_of(file.file_bytes())).sum();
        let directories = self.directories.iter().chain(&self.classes);
        let directories: u64 = directories.map(|(_, bytes)| bytes).sum();
        values + directories + self.foreign_bytes + self.overhead_bytes
    }

    /// Fills an empty index; returns the files that must go: older generations of a key, and what
    /// is over the cap.
    pub(super) fn fill<W>(&self, index: &mut Index<W>, blocks: BlockSize) -> Vec<Victim> {
        index.add_overhead(self.overhead_bytes + self.foreign_bytes);
        for (shard, bytes) in &self.directories {
            index.settle_shard(*shard, Some(*bytes));
        }
        for (shard, bytes) in &self.classes {
            index.settle_class(*shard, *bytes);
        }
        let mut victims = Vec::new();
        for file in &self.files {
            victims.extend(index.adopt(*file, blocks.charge_of(file.file_bytes())));
        }
        victims
    }
}
