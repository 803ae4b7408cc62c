//! The races, one scenario each, and one with a bit of everything.
//!
//! A scenario has at most three callers beside the store's own tasks. Room is counted in blocks: a
//! blob takes one and its variant another, a write reserves three.

use std::os::unix::fs::PermissionsExt as _;

use futures_util::FutureExt as _;
use shuttle::future::block_on;
use shuttle::rand::Rng as _;

use super::oracle::{check_at_rest, drop_last, finish, look_at_pinned, watch};
use super::world::{begin, blob, caller, put};
use super::*;

const BLOB_MODE: u32 = 0o444;
const VARIANT_MODE: u32 = 0o555;

/// Asks for a variant and looks at it; whether there was one.
async fn run_variant(store: &FilesystemStore, n: usize) -> bool {
    let pinned = store.executable(blob(n).0.digest).await.unwrap();
    if let Some(pinned) = &pinned {
        look_at_pinned(store, pinned, VARIANT_MODE).await;
    }
    pinned.is_some()
}

/// Asks for a blob's file and looks at it.
async fn link_blob(store: &FilesystemStore, n: usize) {
    if let Some(pinned) = store.linkable(blob(n).0.digest).await.unwrap() {
        look_at_pinned(store, &pinned, BLOB_MODE).await;
    }
}

/// Reads a blob, if it is there; whether it is.
async fn read(store: &FilesystemStore, n: usize) -> bool {
    let (key, data) = blob(n);
    let read = store.get_all(&key, u64::MAX).await.unwrap();
    assert!(read.as_ref().is_none_or(|it| *it == data), "I20");
    read.is_some()
}

/// A blob leaves while its variant is made: there is room for either write beside the blob, not
/// for both.
pub(super) fn evict_during_copy(root: &Root) {
    block_on(async {
        let store = root.store(6, 0);
        put(&store, 0).await;
        begin(&store);
        let maker = caller(&store, async |store| {
            run_variant(&store, 0).await;
        });
        let writer = caller(&store, async |store| put(&store, 1).await);
        maker.await.unwrap();
        writer.await.unwrap();
        assert!(read(&store, 1).await, "the younger one stays");
        finish(store).await;
    });
}

/// A blob with a variant leaves and comes back, variant and all, while the files of the first one
/// are still to be unlinked, and while somebody still works on the first one.
pub(super) fn late_delete(root: &Root) {
    block_on(async {
        let store = root.store(8, 8);
        put(&store, 0).await;
        assert!(run_variant(&store, 0).await);
        begin(&store);
        let evicting = caller(&store, async |store| put(&store, 1).await);
        let again = caller(&store, async |store| {
            put(&store, 0).await;
            run_variant(&store, 0).await;
        });
        let stale = caller(&store, async |store| {
            read(&store, 0).await;
        });
        for caller in [evicting, again, stale] {
            caller.await.unwrap();
        }
        finish(store).await;
    });
}

/// Several ask for a variant at once, and one of them goes away again.
pub(super) fn two_first_requests(root: &Root) {
    block_on(async {
        let store = root.store(8, 0);
        put(&store, 0).await;
        begin(&store);
        let askers = [(); 2].map(|()| {
            caller(&store, async |store| {
                assert!(run_variant(&store, 0).await, "nobody has taken the blob away");
            })
        });
        let hasty = caller(&store, async |store| {
            drop(store.executable(blob(0).0.digest).now_or_never());
        });
        for caller in askers.into_iter().chain([hasty]) {
            caller.await.unwrap();
        }
        let stats = store.stats();
        assert_eq!((stats.variants, stats.orphaned_variants), (1, 0), "I10");
        finish(store).await;
    });
}

/// A variant that somebody has changed is made anew for two who ask, under the name of the first
/// one, while the kernel's word of the first one's deletion comes in.
pub(super) fn changed_variant(root: &Root) {
    block_on(async {
        let store = root.store(8, 0);
        put(&store, 0).await;
        assert!(run_variant(&store, 0).await);
        let parts = &store.shared.parts;
        let file = parts.index.lock(|index| index.peek(&blob(0).0)).unwrap().file;
        let path = parts.disk.root_path().join(file.variant_path());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        begin(&store);
        let askers = [(); 2].map(|()| {
            caller(&store, async |store| {
                assert!(run_variant(&store, 0).await, "nobody has taken the blob away");
            })
        });
        let word = caller(&store, async move |store| {
            store.shared.parts.forget_variants(&[file]);
        });
        for caller in askers.into_iter().chain([word]) {
            caller.await.unwrap();
        }
        assert_eq!(store.stats().tampered_blobs, 1);
        finish(store).await;
    });
}

/// A purge comes while a blob is published and another's variant is made.
pub(super) fn purge_during_publication(root: &Root) {
    block_on(async {
        let store = root.store(12, 0);
        put(&store, 0).await;
        let (older, data) = blob(1);
        let begun = store.begin_put(&older, data.len() as u64).await.unwrap();
        let BeginPut::Upload(mut upload) = begun else { panic!("already present") };
        begin(&store);
        let writer = caller(&store, async move |_store| {
            upload.write(data).await.unwrap();
            let outcome = upload.commit().await;
            assert!(matches!(outcome, Ok(()) | Err(StoreError::Purged)), "{outcome:?}");
        });
        let maker = caller(&store, async |store| {
            run_variant(&store, 0).await;
        });
        let purger = caller(&store, async move |store| {
            let purged = store.purge(PurgeScope::All).await.unwrap();
            assert!(purged.is_drained);
            let missing = store.find_missing(&[blob(0).0, older]).await.unwrap();
            assert_eq!(missing, [true, true], "I16: nothing older is readable");
            put(&store, 0).await;
        });
        for caller in [writer, maker, purger] {
            caller.await.unwrap();
        }
        let missing = store.find_missing(&[blob(0).0, older]).await.unwrap();
        assert_eq!(missing, [false, true], "I16: what began later stays, nothing older comes");
        finish(store).await;
    });
}

/// The last handle goes away just when the evictor is called.
pub(super) fn last_handle_dropped(root: &Root) {
    block_on(async {
        let store = root.store(8, 8);
        begin(&store);
        let first = caller(&store, async |store| put(&store, 0).await);
        let second = caller(&store, async |store| put(&store, 1).await);
        drop_last(store).await;
        first.await.unwrap();
        second.await.unwrap();
    });
}

/// Writes that each need all the room there is wait for one another, and one gives up.
pub(super) fn full_queue(root: &Root) {
    block_on(async {
        let store = root.store(3, 0);
        put(&store, 0).await;
        begin(&store);
        let writers = [1, 2].map(|n| caller(&store, async move |store| put(&store, n).await));
        let hasty = caller(&store, async |store| {
            let (key, data) = blob(3);
            drop(store.put(&key, data).now_or_never());
        });
        for caller in writers.into_iter().chain([hasty]) {
            caller.await.unwrap();
        }
        finish(store).await;
    });
}

/// A write needs the room of a blob that is pinned and read.
pub(super) fn pinned(root: &Root) {
    block_on(async {
        let store = root.store(3, 0);
        put(&store, 0).await;
        begin(&store);
        let holder = caller(&store, async |store| link_blob(&store, 0).await);
        let reader = caller(&store, async |store| {
            read(&store, 0).await;
        });
        let writer = caller(&store, async |store| put(&store, 1).await);
        for caller in [holder, reader, writer] {
            caller.await.unwrap();
        }
        assert!(read(&store, 1).await);
        finish(store).await;
    });
}

/// The store is stopped while a blob is written and a variant is made.
pub(super) fn shutdown_under_load(root: &Root) {
    block_on(async {
        let store = root.store(6, 0);
        put(&store, 0).await;
        begin(&store);
        let is_answer = |outcome| matches!(outcome, Ok(()) | Err(StoreError::ShuttingDown));
        let writer = caller(&store, async move |store| {
            let (key, data) = blob(1);
            assert!(is_answer(store.put(&key, data).await));
        });
        let maker = caller(&store, async move |store| {
            assert!(is_answer(store.executable(blob(0).0.digest).await.map(drop)));
        });
        let stopping = caller(&store, async |store| {
            store.shutdown(Cleanup::Keep).await.unwrap();
            assert!(store.tasks.lock().is_empty(), "I17: no task is left");
        });
        for caller in [writer, maker, stopping] {
            caller.await.unwrap();
        }
        let (key, data) = blob(2);
        assert!(matches!(store.put(&key, data).await, Err(StoreError::ShuttingDown)));
        check_at_rest(&store.shared.parts).await;
        drop_last(store).await;
    });
}

/// The store is stopped for good while blobs are written.
pub(super) fn removal_under_load(root: &Root) {
    block_on(async {
        let store = root.store(8, 0);
        put(&store, 0).await;
        begin(&store);
        let writers = [1, 2].map(|n| {
            caller(&store, async move |store| {
                let (key, data) = blob(n);
                let outcome = store.put(&key, data).await;
                let is_answer =
                    matches!(outcome, Ok(()) | Err(StoreError::Purged | StoreError::ShuttingDown));
                assert!(is_answer, "{outcome:?}");
            })
        });
        let stopping = caller(&store, async |store| {
            store.shutdown(Cleanup::Remove).await.unwrap();
        });
        for caller in writers.into_iter().chain([stopping]) {
            caller.await.unwrap();
        }
        let left: Vec<_> = store.root().read_dir().unwrap().flatten().collect();
        assert!(left.is_empty(), "I17: nothing of the store's own is left: {left:?}");
    });
}

/// Stores a blob, unless a purge comes between.
async fn put_or_be_purged(store: &FilesystemStore, n: usize) {
    let (key, data) = blob(n);
    let outcome = store.put(&key, data).await;
    assert!(matches!(outcome, Ok(()) | Err(StoreError::Purged)), "{outcome:?}");
    watch(&store.shared.parts);
}

/// Begins something and goes away at the first wait.
fn give_up(store: &FilesystemStore, n: usize, is_write: bool) {
    let (key, data) = blob(n);
    if is_write {
        drop(store.put(&key, data).now_or_never());
    } else {
        drop(store.executable(key.digest).now_or_never());
    }
}

/// Three callers do this and that.
pub(super) fn broad(root: &Root) {
    block_on(async {
        let store = root.store(7, 4);
        put(&store, 0).await;
        begin(&store);
        let callers = [(); 3].map(|()| {
            caller(&store, async |store| {
                for _ in 0..2 {
                    let (call, n) = {
                        let mut dice = shuttle::rand::thread_rng();
                        (dice.gen_range(0..16), dice.gen_range(0..3))
                    };
                    match call {
                        0..5 => put_or_be_purged(&store, n).await,
                        5..9 => _ = run_variant(&store, n).await,
                        9..11 => link_blob(&store, n).await,
                        11..13 => _ = read(&store, n).await,
                        13..15 => give_up(&store, n, call == 13),
                        _ => _ = store.purge(PurgeScope::All).await.unwrap(),
                    }
                }
            })
        });
        for caller in callers {
            caller.await.unwrap();
        }
        finish(store).await;
    });
}

#[test]
fn i9_a_blob_that_leaves_while_its_variant_is_made_leaves_nothing() {
    check(evict_during_copy);
}

#[test]
fn i7_a_late_delete_hits_nothing_newer() {
    check(late_delete);
}

#[test]
fn i10_first_requests_share_one_variant_and_are_all_answered() {
    check(two_first_requests);
}

#[test]
fn i7_a_late_word_does_not_hit_a_variant_that_was_made_anew() {
    check(changed_variant);
}

#[test]
fn i16_nothing_older_than_a_purge_arrives_after_it() {
    check(purge_during_publication);
}

#[test]
fn i13_the_evictor_ends_with_the_last_handle_and_not_before_its_work() {
    check(last_handle_dropped);
}

#[test]
fn i12_a_full_queue_of_writes_is_served_while_the_evictor_works() {
    check(full_queue);
}

#[test]
fn i13_the_end_of_a_pin_or_a_read_lets_a_write_go_on() {
    check(pinned);
}

#[test]
fn i17_a_stop_under_load_answers_everybody_and_leaves_nothing() {
    check(shutdown_under_load);
}

#[test]
fn i17_a_store_that_removes_itself_under_load_leaves_nothing() {
    check(removal_under_load);
}

#[test]
fn i8_a_bit_of_everything_leaves_files_books_and_variants_in_agreement() {
    check(broad);
}
