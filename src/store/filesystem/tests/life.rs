//! One life of a store in a process of its own, as far as files can tell.
//!
//! Each has a runtime, which takes every task with it at its end, and a clock that stands still
//! while anything is at work: what waits for hours waits no time, what would wait for ever ends
//! at [`PATIENCE`].

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;

use parking_lot::Mutex;

use super::super::disk::{Disk, Faults};
use super::*;

/// No life lasts longer.
const PATIENCE: Duration = Duration::from_hours(10);
/// Names that may be found in a root.
const OWN_NAMES: [&str; 7] = ["LOCK", "FORMAT", "SNAPSHOT", "REMOVED", "blobs", "actions", "tmp"];

/// Runs a life to its end; afterwards no task, thread or descriptor of it is left.
pub(super) fn in_process<R>(life: impl Future<Output = R>) -> R {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(async { timeout(PATIENCE, life).await });
    drop(runtime);
    outcome.expect("waits for ever")
}

/// A directory in memory, where syncs cost nothing; `CASTELLAN_TEST_DIR` comes first.
pub(super) fn scratch_in_memory() -> tempfile::TempDir {
    let is_chosen = std::env::var_os("CASTELLAN_TEST_DIR").is_some();
    let in_memory = (!is_chosen).then(|| tempfile::tempdir_in("/dev/shm").ok()).flatten();
    in_memory.unwrap_or_else(scratch)
}

/// The root of a store that was started once, for copies.
pub(super) fn founded(setting: Setting, folder: &Path) -> std::path::PathBuf {
    let root = folder.join("founded");
    in_process(async { drop(setting.open(&root, &Arc::default()).await.unwrap()) });
    root
}

/// Copies a root to where nothing is. What is in it are directories and small files.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// Descriptors of this process below a directory.
pub(super) fn open_files(root: &Path) -> Vec<std::path::PathBuf> {
    let targets = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = targets.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.starts_with(root)).collect()
}

/// Waits until a condition holds, without keeping the clock from going on.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

/// Waits until everything is read and everything that has left is gone.
pub(super) async fn settled(store: &FilesystemStore) {
    let parts = &store.shared.parts;
    until("settled", || {
        let is_idle = parts.index.lock(|index| {
            let (held, waiting, writes) = index.pending();
            (held, waiting, writes) == (0, 0, 0) && index.is_converged()
        });
        parts.loader.is_done() && is_idle && parts.failed.lock().is_empty()
    })
    .await;
}

/// What clients have sent and what they were told.
#[derive(Debug, Default)]
pub(super) struct Story(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    sent: HashMap<Key, Vec<Bytes>>,
    /// By key what a read may give; that it gives something was acknowledged.
    acknowledged: HashMap<Key, Vec<Bytes>>,
    purged: HashSet<Key>,
    /// What a purge under way may take, acknowledged meanwhile or not.
    purging: HashSet<Key>,
    /// Whose files somebody has changed.
    damaged: HashSet<Key>,
    /// The highest point in logical time that was seen.
    clock: u64,
    is_anew: bool,
}

impl Story {
    /// Before the first byte is sent.
    pub(super) fn sends(&self, key: &Key, data: &Bytes) {
        let mut told = self.0.lock();
        told.purged.remove(key);
        told.purging.remove(key);
        told.sent.entry(*key).or_default().push(data.clone());
        if let Some(either) = told.acknowledged.get_mut(key) {
            either.push(data.clone());
        }
    }

    /// After the store has said that it is done.
    pub(super) fn acknowledges(&self, key: &Key, data: &Bytes) {
        let mut told = self.0.lock();
        if !told.purging.contains(key) {
            told.acknowledged.insert(*key, vec![data.clone()]);
        }
    }

    /// A purge, from its beginning to its end: what of the scope has been sent is as good as gone,
    /// and is gone for good when the store has said so.
    pub(super) async fn purges(
        &self,
        store: &FilesystemStore,
        scope: PurgeScope,
    ) -> Result<(), StoreError> {
        {
            let mut told = self.0.lock();
            told.acknowledged.retain(|key, _| !scope.covers(key.namespace));
            told.purging =
                told.sent.keys().filter(|it| scope.covers(it.namespace)).copied().collect();
        }
        store.purge(scope).await?;
        let mut told = self.0.lock();
        let purging = std::mem::take(&mut told.purging);
        told.purged.extend(purging);
        Ok(())
    }

    pub(super) fn damages(&self, key: &Key) {
        let mut told = self.0.lock();
        told.damaged.insert(*key);
        told.acknowledged.remove(key);
    }

    /// From here on a store may be made from nothing, so that time begins anew.
    pub(super) fn begins_anew(&self) {
        self.0.lock().is_anew = true;
    }

    /// Forgets what the store no longer has in memory: it was evicted. What it does have is on the
    /// disk.
    pub(super) fn dies(&self, store: &FilesystemStore) {
        let mut told = self.0.lock();
        let parts = &store.shared.parts;
        let (keys, clock) = parts.index.lock(|index| {
            let keys: HashSet<Key> = index.files().into_iter().map(|it| it.key).collect();
            (keys, index.clock())
        });
        told.acknowledged.retain(|key, _| keys.contains(key));
        told.clock = told.clock.max(clock);
    }

    /// Reads everything that was ever sent.
    pub(super) async fn is_kept(&self, store: &FilesystemStore) {
        let told = std::mem::take(&mut *self.0.lock());
        for (key, sent) in &told.sent {
            let missing = store.find_missing(std::slice::from_ref(key)).await.unwrap();
            let outcome = store.get_all(key, u64::MAX).await;
            let is_damaged = told.damaged.contains(key);
            if is_damaged && matches!(outcome, Err(StoreError::Corrupt { .. })) {
                continue;
            }
            let found = outcome.unwrap();
            if let Some(found) = &found {
                assert!(sent.contains(found) && !is_damaged, "wrong bytes: {key}");
            }
            assert_eq!(missing, [found.is_none()], "{key}");
            if told.purged.contains(key) {
                assert_eq!(found, None, "I16: a purged value is back: {key}");
            }
            if let Some(either) = told.acknowledged.get(key) {
                let found = found.unwrap_or_else(|| panic!("acknowledged and lost: {key}"));
                assert!(either.contains(&found), "an older value is back: {key}");
            }
        }
        *self.0.lock() = told;
    }
}

/// I8: a variant has its blob beside it, the same bytes, and may be run.
fn variants_are_right(root: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for path in value_files(root) {
        let path = root.join(path);
        let Some(blob) = path.to_str().unwrap().strip_suffix(".exec") else {
            assert_eq!(mode(&path), 0o444, "{path:?}");
            continue;
        };
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(blob).unwrap(), "{path:?}");
        assert_eq!(mode(&path), 0o555, "{path:?}");
    }
}

/// No half-written file of the store's own, nothing temporary, nothing that nobody knows.
fn has_no_litter(root: &Path) {
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(OWN_NAMES.contains(&name.as_str()), "litter: {name}");
    }
    let temporary = std::fs::read_dir(root.join("tmp")).into_iter().flatten().count();
    assert_eq!(temporary, 0, "temporary files");
}

/// The next life after a crash: nothing wrong is served, nothing that was promised is missing,
/// nothing is left over, and all works.
pub(super) async fn recovers(options: FilesystemOptions, tale: &Story) {
    let root = options.root.clone();
    let store = FilesystemStore::open(options).await.unwrap();
    settled(&store).await;
    has_no_litter(&root);
    check(&store);
    assert_eq!(store.stats().foreign_files, 0);
    tale.is_kept(&store).await;
    settled(&store).await;
    check(&store);
    // What somebody has damaged is found by now.
    variants_are_right(&root);
    let (key, data) = blob(u64::MAX, 3_000);
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    let generation =
        store.shared.parts.index.lock(|index| index.peek(&key).unwrap().file.generation);
    let is_later = generation.0 > tale.0.lock().clock;
    assert!(is_later || tale.0.lock().is_anew, "I6: generations rise");
    settled(&store).await;
    check(&store);
    tale.dies(&store);
}

/// What a life is made of.
pub(super) struct Scene {
    pub(super) store: Arc<FilesystemStore>,
    pub(super) story: Arc<Story>,
    pub(super) faults: Arc<Faults>,
    /// A directory that is not the store's, on the same file system.
    pub(super) outside: std::path::PathBuf,
}

impl Scene {
    pub(super) async fn put(&self, key: &Key, data: &Bytes) -> Result<(), StoreError> {
        self.story.sends(key, data);
        self.store.put(key, data.clone()).await?;
        self.story.acknowledges(key, data);
        Ok(())
    }

    /// Sends a value in some parts; the last one and the end are the caller's.
    pub(super) async fn begin(
        &self,
        key: &Key,
        data: &Bytes,
        parts: usize,
    ) -> Result<Option<Upload>, StoreError> {
        self.story.sends(key, data);
        let begun = self.store.begin_put(key, data.len() as u64).await?;
        let BeginPut::Upload(mut upload) = begun else { return Ok(None) };
        for chunk in data.chunks(data.len().div_ceil(parts)).take(parts - 1) {
            upload.write(data.slice_ref(chunk)).await?;
        }
        Ok(Some(upload))
    }

    pub(super) async fn end(
        &self,
        mut upload: Upload,
        key: &Key,
        data: &Bytes,
    ) -> Result<(), StoreError> {
        let written = usize::try_from(upload.written_bytes()).unwrap();
        upload.write(data.slice(written..)).await?;
        upload.commit().await?;
        self.story.acknowledges(key, data);
        Ok(())
    }

    pub(super) async fn stream(&self, key: &Key, data: &Bytes) -> Result<(), StoreError> {
        match self.begin(key, data, 3).await? {
            Some(upload) => self.end(upload, key, data).await,
            None => Ok(()),
        }
    }
}

/// What happens in a life.
pub(super) type Plot =
    for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'a>>;

/// How a store is set up for a life.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) options: fn(&Path) -> FilesystemOptions,
    /// As on a file system where every file has a name.
    pub(super) has_temp_names: bool,
}

impl Setting {
    pub(super) async fn open(
        self,
        root: &Path,
        faults: &Arc<Faults>,
    ) -> io::Result<Arc<FilesystemStore>> {
        let faults = Arc::clone(faults);
        let disk = move |root: &Path| {
            let mut disk = Disk::open_with(root, faults)?;
            if self.has_temp_names {
                disk.forget_unnamed_files()?;
            }
            Ok(disk)
        };
        FilesystemStore::open_disk((self.options)(root), disk).await
    }
}

/// The plot in which nothing happens but that everything is read.
pub(super) async fn loads(scene: &Scene) -> Result<(), StoreError> {
    let loader = &scene.store.shared.parts.loader;
    until("loaded", || loader.is_done() || scene.faults.is_crashed()).await;
    Ok(())
}
