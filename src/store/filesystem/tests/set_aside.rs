//! Room that one store leaves to another in its directory: both together keep to one cap.

use super::full_disk::SmallDisk;
use super::*;

const MIB: u64 = 1 << 20;

fn with_values(root: &Path, cap: Cap, part: Option<SetAside>) -> FilesystemOptions {
    FilesystemOptions { cap, set_aside: part, ..options(root, 0) }
}

/// The store that room is left to.
async fn open_values(beside: &FilesystemStore) -> Arc<FilesystemStore> {
    open_with(options(&beside.root().join(VALUES_DIR), beside.set_aside_bytes())).await
}

#[tokio::test]
async fn what_is_set_aside_comes_out_of_the_cap() {
    for (cap_bytes, part, set_aside_bytes) in [
        (256 * MIB, None, 0),
        (256 * MIB, Some(SetAside::Bytes(5 * MIB)), 5 * MIB),
        (200 * MIB, Some(SetAside::Percent(10)), 20 * MIB),
        // Too little to be of use.
        (150 * MIB, Some(SetAside::Percent(10)), 0),
    ] {
        let dir = scratch();
        let store = open_with(with_values(dir.path(), Cap::Bytes(cap_bytes), part)).await;
        assert_eq!(store.set_aside_bytes(), set_aside_bytes, "{cap_bytes} {part:?}");
        assert_eq!(store.stats().max_bytes, cap_bytes - set_aside_bytes);
    }
}

#[tokio::test]
async fn a_cap_of_which_nothing_is_left_is_refused() {
    let dir = scratch();
    let options = with_values(dir.path(), Cap::Bytes(MIB), Some(SetAside::Bytes(MIB)));
    let error = FilesystemStore::open(options).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn i2_the_other_store_is_charged_only_when_nobody_else_counts_it() {
    let dir = scratch();
    let cap = Cap::Bytes(64 * MIB);
    let part = Some(SetAside::Bytes(16 * MIB));
    let store = open_with(with_values(dir.path(), cap, part)).await;
    let values = open_values(&store).await;
    let (key, data) = blob(1, 3_000_000);
    values.put(&key, data).await.unwrap();
    let values_bytes = du(values.root());
    assert_eq!(values_bytes, values.stats().charged_bytes());
    assert_eq!(store.stats().charged_bytes() + values_bytes, du(dir.path()));
    assert!(values.stats().charged_bytes() <= 16 * MIB);
    values.shutdown(Cleanup::Keep).await.unwrap();
    store.shutdown(Cleanup::Keep).await.unwrap();

    let store = open_with(with_values(dir.path(), cap, None)).await;
    let stats = store.stats();
    assert_eq!((stats.foreign_files, stats.max_bytes), (1, 64 * MIB));
    assert_eq!(stats.charged_bytes(), du(dir.path()), "left alone, and counted");
}

/// A share of the disk counts what both hold, or a restart would take room from a full store.
#[tokio::test]
async fn i2_two_stores_on_one_share_keep_their_room_over_restarts() {
    let Some(disk) = SmallDisk::mount(192 * MIB, 100_000) else { return };
    let cap = Cap::Share { percent: 80, at_most_bytes: u64::MAX };
    let open_both = || async {
        let part = Some(SetAside::Percent(25));
        let store = open_with(with_values(&disk.root(), cap, part)).await;
        let values = open_values(&store).await;
        let caps = (store.stats().max_bytes, values.stats().max_bytes);
        (store, values, caps)
    };
    let (mut store, mut values, first) = open_both().await;
    assert!(first.0 + first.1 <= 192 * MIB / 5 * 4, "{first:?}");
    for (full, count) in [(&store, 90), (&values, 30)] {
        for seed in 0..count {
            let (key, data) = blob(seed, 1_000_000);
            full.put(&key, data).await.unwrap();
        }
    }
    for round in 0..3 {
        values.shutdown(Cleanup::Keep).await.unwrap();
        store.shutdown(Cleanup::Keep).await.unwrap();
        let caps;
        (store, values, caps) = open_both().await;
        let near = |now: u64, before: u64| now.abs_diff(before) <= before / 20;
        assert!(near(caps.0, first.0) && near(caps.1, first.1), "{round}: {caps:?}, {first:?}");
        assert!(caps.0 + caps.1 <= 192 * MIB / 100 * 81, "{caps:?}");
        assert_eq!((store.stats().entries, values.stats().entries), (90, 30));
    }
}
