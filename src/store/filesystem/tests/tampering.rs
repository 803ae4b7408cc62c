//! What others do to the store's files through the links they have.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::*;

/// What is done to a file through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Write,
    Append,
    Truncate,
    Chmod,
    Touch,
}

impl Deed {
    const ALL: [Self; 5] = [Self::Write, Self::Append, Self::Truncate, Self::Chmod, Self::Touch];

    fn keeps_bytes(self) -> bool {
        matches!(self, Self::Chmod | Self::Touch)
    }

    /// Does it as one who may do everything, and leaves the mode as it was unless that is the deed.
    fn do_to(self, link: &Path) {
        let mode = link.metadata().unwrap().permissions();
        std::fs::set_permissions(link, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = || std::fs::OpenOptions::new().write(true).open(link).unwrap();
        match self {
            Self::Write => io::Write::write_all(&mut open(), b"X").unwrap(),
            Self::Append => {
                let len = link.metadata().unwrap().len();
                std::os::unix::fs::FileExt::write_all_at(&open(), b"X", len).unwrap();
            }
            Self::Truncate => open().set_len(10).unwrap(),
            Self::Chmod => return,
            Self::Touch => open().set_modified(std::time::SystemTime::now()).unwrap(),
        }
        std::fs::set_permissions(link, mode).unwrap();
    }
}

struct Linked {
    dir: tempfile::TempDir,
    links: tempfile::TempDir,
    store: Arc<FilesystemStore>,
    key: Key,
    data: Bytes,
}

impl Linked {
    fn link(&self) -> PathBuf {
        self.links.path().join("link")
    }

    async fn again(self, options: impl Fn(&Path, u64) -> FilesystemOptions) -> Self {
        let Self { dir, links, store, key, data } = self;
        store.shutdown(Cleanup::Keep).await.unwrap();
        drop(store);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        store.loaded().await;
        Self { dir, links, store, key, data }
    }

    /// Takes the bytes back in, which the store must have let go of.
    async fn heal(&self) {
        self.store.put(&self.key, self.data.clone()).await.unwrap();
        assert_eq!(read(&self.store, &self.key).await.as_ref(), Some(&self.data));
        self.store.quiesce().await;
        check(&self.store);
    }
}

/// A store of one blob with a link to its file or to its variant.
async fn linked(is_executable: bool) -> Linked {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 300_000);
    store.put(&key, data.clone()).await.unwrap();
    let wanted = [(key.digest, is_executable)];
    let mut pinned = store.pin_files(&wanted).await.unwrap().pop().flatten().unwrap();
    assert!(pinned.link(&links.path().join("link")).await.unwrap());
    drop(pinned);
    Linked { dir, links, store, key, data }
}

fn never(root: &Path, max_bytes: u64) -> FilesystemOptions {
    let verify_on_read = VerifyOnRead::Never;
    FilesystemOptions { verify_on_read, ..options(root, max_bytes) }
}

/// What a read of the whole gives: the bytes, or nothing. Any other outcome is a failure.
async fn read_or_miss(it: &Linked, deed: Deed) -> bool {
    match it.store.get_all(&it.key, u64::MAX).await {
        Ok(Some(bytes)) => {
            assert_eq!(bytes, it.data, "{deed:?}: wrong bytes");
            true
        }
        Ok(None) | Err(StoreError::Corrupt { .. }) => false,
        Err(error) => panic!("{deed:?}: {error}"),
    }
}

#[tokio::test]
async fn i20_a_change_through_a_link_is_found_by_the_next_read() {
    for deed in Deed::ALL {
        let it = linked(false).await;
        assert!(read_or_miss(&it, deed).await);
        deed.do_to(&it.link());
        assert_eq!(read_or_miss(&it, deed).await, deed.keeps_bytes(), "{deed:?}");
        let stats = it.store.stats();
        let removed = u64::from(!deed.keeps_bytes());
        assert_eq!((stats.tampered_blobs, stats.corrupt_blobs), (removed, removed), "{deed:?}");
        assert_eq!(stats.suspects, 0);
        assert_eq!(it.store.find_missing(&[it.key]).await.unwrap(), [!deed.keeps_bytes()]);
        if deed.keeps_bytes() {
            let mode = it.link().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o444, "put back");
        }
        it.heal().await;
    }
}

#[tokio::test]
async fn i20_a_change_through_a_link_is_found_by_the_read_of_a_part() {
    for deed in Deed::ALL {
        let it = linked(false).await;
        deed.do_to(&it.link());
        let range = ByteRange { offset: 200_000, limit: Some(10) };
        let reader = it.store.get(&it.key, range).await.unwrap();
        assert_eq!(reader.is_some(), deed.keeps_bytes(), "{deed:?}: before the first byte");
        if let Some(reader) = reader {
            let part = reader.read_all().await.unwrap();
            assert_eq!(part, it.data.slice(200_000..200_010));
        }
        it.heal().await;
    }
}

#[tokio::test]
async fn i20_a_change_through_a_link_is_found_by_the_next_pin() {
    for deed in Deed::ALL {
        let it = linked(false).await;
        deed.do_to(&it.link());
        let pinned = it.store.linkable(it.key.digest).await.unwrap();
        assert_eq!(pinned.is_some(), deed.keeps_bytes(), "{deed:?}");
        assert_eq!(it.store.stats().tampered_blobs, u64::from(!deed.keeps_bytes()), "{deed:?}");
        if let Some(pinned) = pinned {
            assert_eq!(std::fs::read(pinned.path()).unwrap(), it.data);
            assert_eq!(pinned.path().metadata().unwrap().mode() & 0o7777, 0o444);
        }
        it.heal().await;
    }
}

#[tokio::test]
async fn i20_a_change_through_a_link_is_found_where_a_copy_is_made() {
    for deed in Deed::ALL {
        let it = linked(false).await;
        let pinned = it.store.linkable(it.key.digest).await.unwrap().unwrap();
        deed.do_to(&it.link());
        let file = std::fs::File::create(it.links.path().join("copy")).unwrap();
        assert_eq!(pinned.copy_to(&file, CopyBy::Any).unwrap(), deed.keeps_bytes(), "{deed:?}");
        if deed.keeps_bytes() {
            assert_eq!(std::fs::read(it.links.path().join("copy")).unwrap(), it.data);
        }
        drop(pinned);
        it.heal().await;
        // A variant is not made of such bytes either.
        let pinned = it.store.linkable(it.key.digest).await.unwrap().unwrap();
        deed.do_to(&pinned.path());
        drop(pinned);
        let made = it.store.executable(it.key.digest).await.unwrap();
        assert_eq!(made.is_some(), deed.keeps_bytes(), "{deed:?}");
        if let Some(made) = made {
            assert_eq!(std::fs::read(made.path()).unwrap(), it.data);
        }
        it.heal().await;
    }
}

#[tokio::test]
async fn i20_a_change_through_a_link_is_found_after_a_restart() {
    for verifying in [options, never] {
        for (deed, is_before) in Deed::ALL.into_iter().flat_map(|it| [(it, false), (it, true)]) {
            let mut it = linked(false).await;
            if is_before {
                deed.do_to(&it.link());
            }
            it = it.again(verifying).await;
            if !is_before {
                assert!(read_or_miss(&it, deed).await);
                deed.do_to(&it.link());
            }
            assert_eq!(read_or_miss(&it, deed).await, deed.keeps_bytes(), "{deed:?}");
            let tampered = it.store.stats().tampered_blobs;
            assert_eq!(tampered, u64::from(!deed.keeps_bytes()), "{deed:?}");
            it.heal().await;
        }
    }
}

#[tokio::test]
async fn i20_an_executable_that_was_changed_through_a_link_is_made_anew() {
    for (deed, has_restart) in Deed::ALL.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let mut it = linked(true).await;
        let before = it.link().metadata().unwrap().ino();
        deed.do_to(&it.link());
        if has_restart {
            it = it.again(options).await;
        }
        let made = it.store.executable(it.key.digest).await.unwrap().unwrap();
        assert_eq!(std::fs::read(made.path()).unwrap(), it.data, "{deed:?}");
        let now = made.path().metadata().unwrap();
        assert_eq!((now.mode() & 0o7777, now.ino() == before), (0o555, false), "{deed:?}");
        drop(made);
        let stats = it.store.stats();
        assert_eq!((stats.tampered_blobs, stats.corrupt_blobs), (1, 0), "{deed:?}");
        assert!(read_or_miss(&it, deed).await, "the blob is another inode");
        it.heal().await;
    }
}

#[tokio::test]
async fn a_variant_that_is_changed_many_times_serves_all_who_ask() {
    let it = linked(true).await;
    for round in 0..20 {
        let path = it.store.executable(it.key.digest).await.unwrap().unwrap().path();
        Deed::ALL[round % Deed::ALL.len()].do_to(&path);
        let asked = (0..8).map(|_| it.store.executable(it.key.digest));
        for made in futures_util::future::join_all(asked).await {
            let made = made.unwrap().unwrap();
            assert_eq!(std::fs::read(made.path()).unwrap(), it.data);
        }
        assert_eq!(it.store.stats().tampered_blobs, round as u64 + 1);
    }
    it.heal().await;
}

#[tokio::test]
async fn what_nobody_changed_is_hashed_once_however_often_it_is_linked() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 300_000);
    store.put(&key, data.clone()).await.unwrap();
    let reads = || store.shared.parts.disk.faults().counts().of(disk::Call::Read);
    let wanted = [(key.digest, false), (key.digest, true)];
    drop(store.pin_files(&wanted).await.unwrap());
    let before = reads();
    for round in 0..5 {
        let pinned = store.pin_files(&wanted).await.unwrap();
        let directory = std::fs::File::open(links.path()).unwrap();
        for (at, pinned) in pinned.iter().flatten().enumerate() {
            use std::os::fd::AsFd as _;
            let name = format!("{round}-{at}");
            let linked = pinned.link_at(directory.as_fd(), &name).unwrap();
            assert_eq!(linked, LinkOutcome::Linked);
            assert_eq!(std::fs::read(links.path().join(name)).unwrap(), data);
        }
        PinnedFile::release(pinned.into_iter().flatten().collect());
    }
    assert_eq!(reads(), before);
    let stamps = store.shared.parts.disk.faults().counts().of(disk::Call::Stamp);
    assert_eq!(stamps, 2, "once each");
    check(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i20_readers_and_pins_see_right_bytes_while_somebody_goes_on_writing() {
    let it = Arc::new(linked(false).await);
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (link, until_then) = (it.link(), Arc::clone(&is_over));
    let vandal = std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(7);
        while !until_then.load(std::sync::atomic::Ordering::Relaxed) {
            // Whatever is linked there by now.
            if link.exists() && rng.u8(..3) == 0 {
                Deed::Chmod.do_to(&link);
            } else if link.exists() {
                Deed::Touch.do_to(&link);
            }
            std::thread::yield_now();
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let it = Arc::clone(&it);
        tasks.spawn(async move {
            for _ in 0..20 {
                // Too many changes during one call count as a miss or a failure, never as bytes.
                if let Ok(Some(bytes)) = it.store.get_all(&it.key, u64::MAX).await {
                    assert_eq!(bytes, it.data);
                }
                drop(it.store.linkable(it.key.digest).await);
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    vandal.join().unwrap();
    it.heal().await;
    assert_eq!(it.store.stats().suspects, 0);
}
