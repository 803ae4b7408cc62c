//! Files of workers that become the store's own.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use futures_util::FutureExt as _;

use super::*;

const LEN: usize = 3 << 20;

/// A store, and a file beside it that nobody has open.
struct Given {
    _dir: tempfile::TempDir,
    outputs: tempfile::TempDir,
    store: Arc<FilesystemStore>,
    key: Key,
    data: Bytes,
}

impl Given {
    fn path(&self) -> PathBuf {
        self.outputs.path().join("output")
    }

    async fn adopt(&self, key: &Key) -> bool {
        let file = std::fs::File::open(self.path()).unwrap();
        self.store.adopt(key.digest, file).await.unwrap()
    }

    /// That nothing has come of it: the file is what it was, and so is the store.
    fn check_refused(&self, why: &str) {
        let now = self.path().metadata().unwrap();
        assert_eq!(now.permissions().mode() & 0o7777, 0o755, "{why}");
        assert_eq!(now.modified().unwrap(), long_ago(), "{why}");
        assert_eq!(absent(&self.store, &[self.key]), [true], "{why}");
        check(&self.store);
    }
}

fn long_ago() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(1_234_567_890)
}

async fn given() -> Given {
    given_to(|_| {}).await
}

async fn given_to(choose: impl FnOnce(&mut FilesystemOptions)) -> Given {
    let (dir, outputs) = (scratch(), scratch());
    let mut options = options(dir.path(), 32 << 20);
    choose(&mut options);
    let store = open_with(options).await;
    let (key, data) = blob(1, LEN);
    let given = Given { _dir: dir, outputs, store, key, data };
    std::fs::write(given.path(), &given.data).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(given.path(), mode).unwrap();
    std::fs::File::open(given.path()).unwrap().set_modified(long_ago()).unwrap();
    given
}

#[tokio::test]
async fn i3_an_adopted_file_is_stored_without_a_copy() {
    let given = given().await;
    let before = given.path().metadata().unwrap().ino();
    assert!(given.adopt(&given.key).await);
    let pinned = given.store.linkable(given.key.digest).await.unwrap().unwrap();
    let now = pinned.path().metadata().unwrap();
    assert_eq!((now.ino(), now.nlink(), now.mode() & 0o7777), (before, 2, 0o444));
    drop(pinned);
    std::fs::remove_file(given.path()).unwrap();
    assert_eq!(read(&given.store, &given.key).await.as_ref(), Some(&given.data));
    assert_eq!(given.store.stats().suspects, 0);
    check(&given.store);
    // Once more is nothing new.
    std::fs::write(given.path(), &given.data).unwrap();
    assert!(given.adopt(&given.key).await);
    assert_eq!(given.store.stats().entries, 1);
    check(&given.store);
}

#[tokio::test]
async fn a_file_that_somebody_can_still_change_is_not_adopted() {
    let given = given().await;
    let writer = std::fs::OpenOptions::new().write(true).open(given.path()).unwrap();
    assert!(!given.adopt(&given.key).await);
    given.check_refused("a writer");
    drop(writer);
    // A writer in another process.
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "exec 3<>\"$0\"; echo ready; read line"])
        .arg(given.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    assert!(!given.adopt(&given.key).await);
    given.check_refused("a writer in another process");
    drop(child.stdin.take());
    child.wait().unwrap();
    let own = std::fs::OpenOptions::new().read(true).write(true).open(given.path()).unwrap();
    assert!(!given.store.adopt(given.key.digest, own).await.unwrap());
    given.check_refused("the descriptor itself");
    let second = given.outputs.path().join("second");
    std::fs::hard_link(given.path(), &second).unwrap();
    assert!(!given.adopt(&given.key).await);
    given.check_refused("a second name");
    std::fs::remove_file(second).unwrap();
    assert!(given.adopt(&given.key).await);
}

#[tokio::test]
async fn i5_a_file_of_other_bytes_is_not_adopted() {
    let given = given().await;
    let other = blob(2, LEN).0;
    assert!(!given.adopt(&other).await);
    assert_eq!(absent(&given.store, &[other]), [true]);
    given.check_refused("another hash");
    let longer = blob(3, LEN + 1).0;
    assert!(!given.adopt(&longer).await);
    given.check_refused("another length");
    let directory = std::fs::File::open(given.outputs.path()).unwrap();
    assert!(!given.store.adopt(given.key.digest, directory).await.unwrap());
    let (small, data) = blob(4, 1_000);
    let path = given.outputs.path().join("small");
    std::fs::write(&path, data).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    assert!(!given.store.adopt(small.digest, file).await.unwrap());
    assert_eq!(given.store.stats().reserved_bytes, 0);
    given.check_refused("at the end");
}

#[tokio::test]
async fn i20_a_write_to_what_was_adopted_is_found() {
    let given = given().await;
    assert!(given.adopt(&given.key).await);
    std::fs::set_permissions(given.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(given.path()).unwrap();
    io::Write::write_all(&mut { file }, b"X").unwrap();
    assert!(given.store.linkable(given.key.digest).await.unwrap().is_none());
    assert_eq!(given.store.stats().tampered_blobs, 1);
    given.store.put(&given.key, given.data.clone()).await.unwrap();
    assert_eq!(read(&given.store, &given.key).await.as_ref(), Some(&given.data));
    check(&given.store);
}

#[tokio::test]
async fn i20_a_write_while_it_is_adopted_is_found() {
    // Between the name and the booking there is a round of syncing.
    let given = given_to(|options| options.durability = Durability::Group).await;
    let (worker, digest) = (Arc::clone(&given.store), given.key.digest);
    let file = std::fs::File::open(given.path()).unwrap();
    let adopting = tokio::task::spawn(async move { worker.adopt(digest, file).await });
    until("it has its name", || given.path().metadata().unwrap().nlink() == 2).await;
    std::fs::set_permissions(given.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(given.path()).unwrap();
    io::Write::write_all(&mut { file }, b"X").unwrap();
    assert!(adopting.await.unwrap().unwrap());
    // Nor does a second name show it any more.
    std::fs::remove_file(given.path()).unwrap();
    assert!(given.store.linkable(given.key.digest).await.unwrap().is_none());
    assert_eq!(given.store.stats().tampered_blobs, 1);
    check(&given.store);
}

#[tokio::test]
async fn an_adoption_goes_on_when_nobody_waits_for_it() {
    let given = given().await;
    let permits = given.store.shared.parts.pool.exhaust().await;
    let file = std::fs::File::open(given.path()).unwrap();
    assert!(given.store.adopt(given.key.digest, file).now_or_never().is_none());
    drop(permits);
    until("it is there", || given.store.stats().entries == 1).await;
    given.store.quiesce().await;
    assert_eq!(read(&given.store, &given.key).await.as_ref(), Some(&given.data));
    check(&given.store);
}

#[tokio::test]
async fn i16_a_purge_cuts_an_adoption_off() {
    let given = given().await;
    let file = std::fs::File::open(given.path()).unwrap();
    let permits = given.store.shared.parts.pool.exhaust().await;
    let (worker, digest) = (Arc::clone(&given.store), given.key.digest);
    let adopted = tokio::task::spawn(async move { worker.adopt(digest, file).await });
    until("room is reserved", || given.store.stats().writes == 1).await;
    let worker = Arc::clone(&given.store);
    let purged = tokio::task::spawn(async move { worker.purge(PurgeScope::All).await });
    until("the fence is up", || given.store.stats().purges == 1).await;
    drop(permits);
    let outcome = adopted.await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Purged)), "{outcome:?}");
    purged.await.unwrap().unwrap();
    given.check_refused("purged");
}
