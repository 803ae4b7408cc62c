//! Notices when somebody else deletes files of the store.
//!
//! People clean disks by hand, and other programs do it for them. The index would go on to say
//! "present" for what is gone (reapi 16); asking the disk at each look-up would cost forty times
//! the look-up. So the kernel tells: every shard directory is watched, and a deletion that the
//! index does not know of takes the entry out. The store's own deletions come by here too and find
//! their entry gone already. Where the kernel has no watch to give, a read still finds out.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::layout::{FileName, Shard};
use super::shared::Parts;
use super::sync::{self, Mutex};

/// Room for some hundred events.
const BUFFER_BYTES: usize = 16 << 10;
/// Entries that an audit takes from the index at once.
const AUDIT_BATCH: usize = 512;

/// The watches of one store.
#[derive(Debug)]
pub(super) struct Deletions {
    inotify: OwnedFd,
    /// At most one for each shard.
    shards: Mutex<HashMap<i32, Shard>>,
    is_auditing: AtomicBool,
}

impl AsRawFd for Deletions {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}

/// What a look at the events found.
#[derive(Debug, Default)]
struct Found {
    gone: Vec<FileName>,
    gone_variants: Vec<FileName>,
    /// Events were lost, or a whole directory went away.
    needs_audit: bool,
}

impl Deletions {
    /// Nothing is watched yet; `None` where the kernel has no instance to give.
    pub(super) fn new() -> Option<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .inspect_err(|error| tracing::info!(%error, "deletions by others go unnoticed"))
            .ok()?;
        Some(Self { inotify, shards: Mutex::default(), is_auditing: AtomicBool::new(false) })
    }

    /// Watches a shard that exists. To be called before its files are listed or the first is
    /// linked, so that no deletion falls between.
    pub(super) fn watch(&self, shard: Shard, path: &str) {
        let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVE_SELF;
        let flags = flags | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => {
                self.shards.lock().insert(watch, shard);
            }
            Err(error) => tracing::info!(%error, path, "deletions by others go unnoticed"),
        }
    }

    fn read(&self) -> Found {
        let mut found = Found::default();
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => return found,
            };
            let kinds = event.events();
            let lost = ReadFlags::QUEUE_OVERFLOW | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
            found.needs_audit |= kinds.intersects(lost);
            let name = event.file_name().and_then(|name| name.to_str().ok());
            let shard = self.shards.lock().get(&event.wd()).copied();
            if kinds.contains(ReadFlags::IGNORED) {
                self.shards.lock().remove(&event.wd());
            }
            if let (Some(shard), Some(name)) = (shard, name) {
                match FileName::parse_any(shard, name) {
                    Some((file, false)) => found.gone.push(file),
                    Some((file, true)) => found.gone_variants.push(file),
                    None => {}
                }
            }
        }
    }
}

/// Runs until the store closes or its last handle is dropped.
pub(super) async fn run_watcher(
    parts: Arc<Parts>,
    deletions: Arc<Deletions>,
    closing: CancellationToken,
) {
    // Its successor is an unsafe fn, for types that could close the descriptor early; this one
    // owns it as long as it lives.
    #[expect(deprecated, reason = "unsafe code is forbidden here")]
    let Ok(ready) = AsyncFd::new(Arc::clone(&deletions)) else { return };
    loop {
        let guard = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            guard = ready.readable() => guard,
        };
        let Ok(mut guard) = guard else { return };
        // Cleared first: an event that comes while these are read makes it ready again.
        guard.clear_ready();
        let Found { gone, gone_variants, needs_audit } = deletions.read();
        let worker = Arc::clone(&parts);
        // Most are the store's own and cost a look-up; those of others cost an unlink each.
        let forget = move || {
            worker.forget(&gone);
            worker.forget_variants(&gone_variants);
        };
        if let Err(error) = parts.pool.run_unmetered(forget).await {
            tracing::error!(%error, "deletions by others not handled");
        }
        // Beside the events, which would be lost again while it runs; one at a time.
        if needs_audit && !deletions.is_auditing.swap(true, Ordering::AcqRel) {
            let (worker, until) = (Arc::clone(&parts), closing.clone());
            let done = Arc::clone(&deletions);
            sync::spawn("audit of the directory", async move {
                let auditor = Arc::clone(&worker);
                if let Err(error) = worker.pool.run(move || audit(&auditor, &until)).await {
                    tracing::error!(%error, "audit of the directory not finished");
                }
                done.is_auditing.store(false, Ordering::Release);
            });
        }
    }
}

/// Looks for the files of every entry. Blocking; takes the index a few entries at a time.
fn audit(parts: &Parts, closing: &CancellationToken) {
    tracing::warn!("directory changed by somebody else, looking for every file");
    let is_gone = |path: &str| matches!(parts.disk.exists(path), Ok(false));
    let mut next = Some(0);
    while let Some(from) = next.filter(|_| !closing.is_cancelled()) {
        let (found, rest) = parts.index.lock(|index| index.some_from(from, AUDIT_BATCH));
        let (mut gone, mut gone_variants) = (Vec::new(), Vec::new());
        for entry in found {
            if is_gone(&entry.file.path()) {
                gone.push(entry.file);
            } else if entry.has_variant && is_gone(&entry.file.variant_path()) {
                gone_variants.push(entry.file);
            }
        }
        parts.forget(&gone);
        parts.forget_variants(&gone_variants);
        next = rest;
    }
}
