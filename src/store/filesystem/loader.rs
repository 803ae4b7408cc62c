//! Reading what former processes left, one shard at a time, while requests are served.
//!
//! I19: whatever a crash left, the index, the books and the files agree afterwards, and nothing is
//! left over. A request for a digest whose shard is not read yet reads that shard first; the rest
//! goes on in the background. Names are read, not files: a name says which value it holds, how
//! long it is and which write made it; the last snapshot says when it was used. Only where a power
//! cut may have torn a file that was to replace another one is it read, to know which of them
//! counts. After a clean stop the snapshot says it all, unless somebody has changed the directory
//! since.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::checksum::check_file;
use super::disk::{Moment, ReadFile};
use super::former;
use super::layout::{FileName, Form, Generation, LEAST_VARIANT_BYTES, Shard};
use super::shared::Parts;
use super::snapshot::{Record, SnapshotIndex};
use super::sync::Mutex;
use crate::store::{Key, StoreError};

/// Shards that requests and the background read at once.
const MAX_READERS: usize = 8;
/// Shards that are read in one job.
const BATCH: usize = 4;
const STRIPES: usize = 64;
/// Rounds after which what cannot be read is not waited for any longer.
const ROUNDS_OF_HOPE: u32 = 3;
/// Between two rounds after that.
const HOPELESS_PAUSE: Duration = Duration::from_mins(1);
/// Bytes that are hashed at once.
const READ_BYTES: usize = 64 << 10;

/// A snapshot that a former process left.
#[derive(Debug)]
pub(super) struct OldSnapshot {
    pub(super) index: SnapshotIndex,
    pub(super) file: ReadFile,
    /// When it was finished, as the file system tells the time.
    pub(super) finished: Moment,
}

/// What is known before the first shard is read.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    pub(super) snapshot: Option<OldSnapshot>,
    /// Whether the snapshot was the end of a clean stop.
    pub(super) is_clean: bool,
    /// After a power cut: files from this one on may be torn, and no variant is trusted.
    pub(super) suspect_from: Option<Generation>,
    /// While another server's files are taken over: the first generation that one of them can have.
    pub(super) former_from: Option<Generation>,
}

impl Legacy {
    /// Whether the snapshot says what each shard takes. It does not say where foreign files are.
    pub(super) fn is_exact(&self) -> bool {
        let foreign_bytes = self.snapshot.as_ref().map(|it| it.index.summary().foreign_bytes);
        self.is_clean && foreign_bytes == Some(0)
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Loader {
    /// Let go of when everything is read: its file may have been replaced by then.
    snapshot: Mutex<Option<Arc<OldSnapshot>>>,
    /// Whether the snapshot says all there is to know, unless somebody has changed something.
    is_exact: bool,
    suspect_from: Option<Generation>,
    former_from: Option<Generation>,
    /// What files that are not the store's take in the shards.
    foreign_bytes: AtomicU64,
    is_done: AtomicBool,
    permits: Semaphore,
    /// One reader a shard.
    stripes: [Mutex<()>; STRIPES],
}

/// What a shard takes beside its values.
#[derive(Debug, Default)]
struct Taken {
    directory_bytes: u64,
    foreign_bytes: u64,
    foreign_files: u64,
}

impl Loader {
    pub(super) fn new(legacy: Legacy) -> Self {
        let is_exact = legacy.is_exact();
        let Legacy { snapshot, suspect_from, former_from, .. } = legacy;
        Self {
            snapshot: Mutex::new(snapshot.map(Arc::new)),
            is_exact,
            suspect_from,
            former_from,
            foreign_bytes: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
            permits: Semaphore::new(MAX_READERS),
            stripes: [const { Mutex::new(()) }; STRIPES],
        }
    }

    /// That of a directory in which there is nothing to read.
    #[cfg(all(test, feature = "shuttle"))]
    pub(super) fn finished() -> Self {
        let loader = Self::new(Legacy::default());
        loader.is_done.store(true, Ordering::Release);
        loader
    }

    /// Whether every shard has been read and what that threw out is gone.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// What foreign files take in the shards that were read, as they were then.
    pub(super) fn foreign_bytes(&self) -> u64 {
        self.foreign_bytes.load(Ordering::Relaxed)
    }

    /// Whether there may be files in unread shards that a power cut tore.
    pub(super) fn may_find_suspects(&self) -> bool {
        self.suspect_from.is_some() && !self.is_done()
    }
}

/// Makes sure that the shards of these keys have been read, and files of them that another server
/// has left taken over.
///
/// Cancel safe.
pub(super) async fn ensure(parts: &Arc<Parts>, keys: &[Key]) -> Result<(), StoreError> {
    if !parts.loader.is_done() {
        ensure_shards(parts, keys).await?;
    }
    former::ensure(parts, keys).await
}

async fn ensure_shards(parts: &Arc<Parts>, keys: &[Key]) -> Result<(), StoreError> {
    let mut wanted: Vec<Shard> = keys.iter().map(Shard::of).collect();
    wanted.sort_unstable();
    wanted.dedup();
    parts.index.lock(|index| wanted.retain(|shard| !index.is_read(*shard)));
    let mut outcome = Ok(());
    for shards in wanted.chunks(BATCH) {
        // The others are read all the same.
        outcome = outcome.and(load(parts, shards.to_vec()).await);
    }
    outcome
}

/// Reads the rest, shard by shard, until all are read or the store closes.
pub(super) async fn run_loader(parts: Arc<Parts>, closing: CancellationToken) {
    for round in 1.. {
        let (worker, until) = (Arc::clone(&parts), closing.clone());
        // One job for all: what each shard needs for a moment is kept for the next.
        let read = parts.pool.run_unmetered(move || load_all(&worker, &until)).await;
        if matches!(read, Ok(0)) {
            break;
        }
        tracing::error!(unreadable = ?read, "directories cannot be read, trying again");
        let mut pause = super::reclaim::RETRY_FIRST;
        if round >= ROUNDS_OF_HOPE {
            // The others are served and evicted from; the disk may still come back.
            parts.update(super::index::Index::give_up_unread);
            pause = HOPELESS_PAUSE;
        }
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = super::sync::sleep(pause) => {}
        }
    }
    if parts.index.lock(|index| index.unread_shards()) > 0 {
        return;
    }
    parts.loader.is_done.store(true, Ordering::Release);
    parts.loader.snapshot.lock().take();
    let entries = parts.index.lock(|index| index.len());
    tracing::info!(entries, "every directory is read");
    // Room that was kept for what might have been there is free now.
    parts.update(|_| ());
    parts.poke_evictor();
}

/// Reads all shards that can be read; how many cannot. Blocking.
fn load_all(parts: &Parts, closing: &CancellationToken) -> usize {
    let mut scratch = Scratch::default();
    let is_unreadable = |shard: &Shard| {
        let outcome = load_shard(parts, *shard, &mut scratch);
        outcome.inspect_err(|error| tracing::warn!(%error, "directory not read")).is_err()
    };
    Shard::all().take_while(|_| !closing.is_cancelled()).filter(is_unreadable).count()
}

async fn load(parts: &Arc<Parts>, shards: Vec<Shard>) -> Result<(), StoreError> {
    let _permit = parts.loader.permits.acquire().await.map_err(|_| StoreError::ShuttingDown)?;
    let worker = Arc::clone(parts);
    let job = move || {
        let mut scratch = Scratch::default();
        let mut outcome = Ok(());
        for shard in shards {
            outcome = outcome.and(load_shard(&worker, shard, &mut scratch));
        }
        outcome
    };
    let loaded = parts.pool.run_unmetered(job).await?;
    loaded.map_err(|error| StoreError::io("read a directory of the store", error))
}

/// What reading a shard needs for a moment, kept for the next: shards are alike in size, and an
/// allocator that is asked for as much each time may keep more than it gives.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A section of the snapshot.
    bytes: Vec<u8>,
    /// What it says.
    known: Vec<Record>,
    /// What is there.
    records: Vec<Record>,
    variants: Vec<FileName>,
}

/// Reads a shard unless that has been done. Blocking.
pub(super) fn load_shard(parts: &Parts, shard: Shard, scratch: &mut Scratch) -> io::Result<()> {
    let stripe = parts.loader.stripes.get(shard.index() % STRIPES);
    let held = stripe.map(Mutex::lock);
    if parts.index.lock(|index| index.is_read(shard)) {
        return Ok(());
    }
    let Taken { directory_bytes, foreign_bytes, foreign_files } = read(parts, shard, scratch)?;
    parts.counters.foreign_files.add(foreign_files);
    parts.loader.foreign_bytes.fetch_add(foreign_bytes, Ordering::Relaxed);
    let records = &scratch.records;
    let victims =
        parts.update(|index| index.load_shard(shard, records, directory_bytes, foreign_bytes));
    drop(held);
    parts.bury(victims);
    Ok(())
}

/// Reads a shard into `scratch.records`, in the order of last use.
fn read(parts: &Parts, shard: Shard, scratch: &mut Scratch) -> io::Result<Taken> {
    scratch.records.clear();
    let path = shard.path();
    if !parts.disk.exists(&path)? {
        return Ok(Taken::default());
    }
    parts.disk.require_directory(&path)?;
    // Before it is listed, so that no deletion falls between.
    if let Some(deletions) = &parts.deletions {
        deletions.watch(shard, &parts.disk.absolute(&path));
    }
    let snapshot = parts.loader.snapshot.lock().clone();
    let is_known = snapshot.as_ref().is_some_and(|snapshot| recollect(snapshot, shard, scratch));
    let is_same = match &snapshot {
        // A change at the very moment may have come after: clocks of file systems are coarse.
        Some(snapshot) if parts.loader.is_exact && is_known => {
            parts.disk.changed_at(&path)? < snapshot.finished
        }
        _ => false,
    };
    if is_same {
        std::mem::swap(&mut scratch.records, &mut scratch.known);
        let directory_bytes = parts.disk.allocated_at(&path)?;
        return Ok(Taken { directory_bytes, ..Taken::default() });
    }
    let unreadable = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    list(parts, shard, scratch).map_err(unreadable)
}

/// Reads what the snapshot says of a shard into `scratch.known`; false when it does not say, or
/// cannot be believed.
fn recollect(snapshot: &OldSnapshot, shard: Shard, scratch: &mut Scratch) -> bool {
    let Scratch { bytes, known, .. } = scratch;
    known.clear();
    let Some((offset, len)) = snapshot.index.section_range(shard) else {
        return true;
    };
    bytes.resize(len, 0);
    let read = match snapshot.file.read_full(bytes, offset) {
        Ok(read) => bytes.get(..read).unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "snapshot not readable, reading the names");
            return false;
        }
    };
    match snapshot.index.decode_section(shard, read, known) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "snapshot not believed, reading the names");
            known.clear();
            false
        }
    }
}

/// Reads the names in a shard and joins them with what the snapshot knew of them.
fn list(parts: &Parts, shard: Shard, scratch: &mut Scratch) -> io::Result<Taken> {
    let path = shard.path();
    let Scratch { known, records, variants, .. } = scratch;
    variants.clear();
    let mut taken = Taken::default();
    let known: HashMap<Generation, &Record> =
        known.iter().map(|record| (record.file.generation, record)).collect();
    for found in parts.disk.list(&path)?.unwrap_or_default() {
        match FileName::parse_any(shard, &found.name).filter(|_| found.is_file) {
            Some((file, false)) => {
                let known = known.get(&file.generation).filter(|it| it.file == file);
                records.push(recall(parts, file, known.copied()));
            }
            Some((file, true)) => variants.push(file),
            None => {
                let foreign = format!("{path}/{}", found.name);
                tracing::warn!(path = %foreign, "foreign file left alone");
                taken.foreign_files += 1;
                taken.foreign_bytes += parts.disk.allocated_below(&foreign);
            }
        }
    }
    records.sort_unstable_by_key(|record| (record.file.generation, record.file.key.digest.hash));
    for variant in variants {
        adopt_variant(parts, variant, records, &mut taken);
    }
    if records.iter().any(|record| record.is_suspect) {
        drop_torn(parts, records, &mut taken);
    }
    records.sort_unstable_by_key(|record| (record.stamp, record.file.generation));
    taken.directory_bytes = parts.disk.allocated_at(&path)?;
    Ok(taken)
}

/// Joins a name with what the snapshot knew of it.
fn recall(parts: &Parts, file: FileName, known: Option<&Record>) -> Record {
    let suspect_from = parts.loader.suspect_from;
    let is_young = suspect_from.is_some_and(|first| file.generation >= first);
    let measure = || match file.form {
        Form::Own => parts.blocks.charge_of(file.file_bytes()),
        // Its name does not say how long the file is.
        Form::Former => parts
            .disk
            .allocated_at(&file.path())
            .unwrap_or_else(|_| parts.blocks.charge_of(file.len_bytes)),
    };
    Record {
        file,
        charge_bytes: known.map_or_else(measure, |it| it.charge_bytes),
        variant_bytes: 0,
        stamp: known.map_or_else(|| stamp_of(parts, &file), |it| it.stamp),
        is_leased: known.is_some_and(|it| it.is_leased),
        is_suspect: is_young || known.is_some_and(|it| it.is_suspect),
    }
}

/// When a file was used that the snapshot does not know: at least when it was written. Of one that
/// may have been taken over its own times tell, and that nobody has hashed it.
fn stamp_of(parts: &Parts, file: &FileName) -> u64 {
    let may_be_former = parts.loader.former_from.is_some_and(|first| file.generation >= first);
    let look = may_be_former.then(|| parts.disk.look_at_former(&file.path()).ok().flatten());
    look.flatten().map_or(file.generation.0, |look| look.stamp(parts.clock.now()))
}

/// Adds a variant to its blob. One without a blob is litter of a crash (I8); after a power cut
/// every one is, for its generation does not say when it was made.
///
/// `records` are in the order of generations and hashes.
fn adopt_variant(parts: &Parts, variant: &FileName, records: &mut [Record], taken: &mut Taken) {
    let is_trusted = parts.loader.suspect_from.is_none();
    let wanted = (variant.generation, variant.key.digest.hash);
    let place = records.binary_search_by_key(&wanted, |record| {
        (record.file.generation, record.file.key.digest.hash)
    });
    let blob = place.ok().and_then(|at| records.get_mut(at)).filter(|it| it.file == *variant);
    if let Some(record) = blob.filter(|_| is_trusted) {
        let charge = parts.blocks.charge_of(variant.file_bytes());
        record.variant_bytes = charge.max(LEAST_VARIANT_BYTES);
        return;
    }
    parts.counters.stray_variants.add(1);
    let path = variant.variant_path();
    if let Err(error) = parts.disk.unlink(&path) {
        tracing::warn!(path, %error, "stray variant not unlinked");
        taken.foreign_bytes += parts.disk.allocated_below(&path);
    }
}

/// Of several files of one key the youngest counts, and the others go. One that a power cut tore
/// must not take with it what it was to replace: that may be on the disk and acknowledged (I18),
/// while it cannot be both. So it goes first.
fn drop_torn(parts: &Parts, records: &mut Vec<Record>, taken: &mut Taken) {
    let mut by_key: HashMap<Key, Vec<Record>> = HashMap::with_capacity(records.len());
    for record in records.iter() {
        by_key.entry(record.file.key).or_default().push(*record);
    }
    for mut of_key in by_key.into_values().filter(|it| it.len() > 1) {
        of_key.sort_unstable_by_key(|record| std::cmp::Reverse(record.file.generation));
        // The oldest replaces nothing: it is checked like every other before it is served.
        let Some((_, younger)) = of_key.split_last() else { continue };
        for record in younger {
            // What cannot be read may be whole; then it counts as ever.
            if !record.is_suspect || is_whole(parts, &record.file).unwrap_or(true) {
                break;
            }
            tracing::warn!(key = %record.file.key, "torn by a power cut, the former one counts");
            records.retain(|it| it.file != record.file);
            remove_torn(parts, record, taken);
        }
    }
}

/// Unlinks the files of a record that counts no more; what stays is foreign.
fn remove_torn(parts: &Parts, record: &Record, taken: &mut Taken) {
    // I8: the variant first.
    let variant = (record.variant_bytes > 0).then(|| record.file.variant_path());
    for path in variant.into_iter().chain([record.file.path()]) {
        if let Err(error) = parts.disk.unlink(&path) {
            tracing::warn!(path, %error, "torn file not unlinked");
            taken.foreign_bytes += parts.disk.allocated_below(&path);
        }
    }
}

/// Whether a file has the bytes that its name promises. Blocking.
fn is_whole(parts: &Parts, file: &FileName) -> io::Result<bool> {
    if file.form == Form::Former {
        return former::rewrite::is_whole(parts, file);
    }
    let Some(opened) = parts.disk.open_file(&file.path())? else { return Ok(false) };
    let has_length = opened.len_bytes() == file.file_bytes();
    Ok(has_length && check_file(&opened, file, &mut vec![0; READ_BYTES], |_, _| Ok(()))?)
}
