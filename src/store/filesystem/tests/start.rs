//! Starting on what former processes left, while requests come (I19).

use super::*;

/// Blobs of one block in few shards, so that directories do not take what the blobs should.
fn small_blobs(count: usize) -> Vec<(Key, Bytes)> {
    let in_few_shards = |it: &(Key, Bytes)| it.0.digest.hash[0] < 8;
    (0..).map(|seed| blob(seed, 4_096)).filter(in_few_shards).take(count).collect()
}

fn keys_of(blobs: &[(Key, Bytes)]) -> Vec<Key> {
    blobs.iter().map(|it| it.0).collect()
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Killed,
    KilledAfterSnapshot,
}

const ENDS: [End; 3] = [End::Clean, End::Killed, End::KilledAfterSnapshot];

async fn end(store: Arc<FilesystemStore>, how: End) {
    match how {
        End::Clean => store.shutdown(Cleanup::Keep).await.unwrap(),
        End::Killed => {}
        End::KilledAfterSnapshot => write_snapshot(&store),
    }
    drop(store);
}

fn write_snapshot(store: &FilesystemStore) {
    let room = snapshots::make_room(&store.shared.parts).unwrap();
    snapshots::write(room).unwrap();
}

#[tokio::test]
async fn i19_answers_are_exact_before_everything_is_read() {
    for how in ENDS {
        let dir = scratch();
        let blobs: Vec<_> = (0..400).map(|seed| blob(seed, 200)).collect();
        let store = open(dir.path(), 16 << 20).await;
        put_all(&store, &blobs[..300]).await;
        store.put(&result_key("a"), "result".into()).await.unwrap();
        end(store, how).await;
        let store = open_soon(options(dir.path(), 16 << 20)).await;
        assert!(store.stats().unread_shards > 100, "{how:?}");
        let missing = store.find_missing(&keys_of(&blobs)[290..310]).await.unwrap();
        assert_eq!(missing, [[false; 10], [true; 10]].concat(), "{how:?}");
        assert_eq!(read(&store, &blobs[7].0).await.as_ref(), Some(&blobs[7].1));
        assert_eq!(read(&store, &blobs[350].0).await, None);
        assert_eq!(read(&store, &result_key("a")).await.unwrap(), "result");
        let begun = store.begin_put(&blobs[8].0, 200).await.unwrap();
        assert!(matches!(begun, BeginPut::AlreadyPresent));
        put_all(&store, &blobs[300..310]).await;
        assert!(store.executable(blobs[9].0.digest).await.unwrap().is_some());
        assert!(store.linkable(blobs[340].0.digest).await.unwrap().is_none());
        store.quiesce().await;
        let missing = store.find_missing(&keys_of(&blobs)).await.unwrap();
        assert_eq!(missing, [[false; 310].as_slice(), &[true; 90]].concat(), "{how:?}");
        check(&store);
    }
}

/// Reopens with room for about so many blobs; which are left.
async fn survivors(root: &Path, blobs: &[(Key, Bytes)], count: u64, fixed: u64) -> Vec<usize> {
    let cap = fixed + count * 4_096 + (64 << 10);
    let store = open_soon(options(root, cap)).await;
    store.quiesce().await;
    check(&store);
    let is_absent = absent(&store, &keys_of(blobs));
    (0..blobs.len()).filter(|at| !is_absent[*at]).collect()
}

#[tokio::test]
async fn i14_i19_the_youngest_survive_a_start_with_less_room() {
    for how in ENDS {
        let dir = scratch();
        let blobs = small_blobs(400);
        let store = open(dir.path(), 16 << 20).await;
        put_all(&store, &blobs).await;
        let overhead = store.stats().overhead_bytes;
        end(store, how).await;
        let left = survivors(dir.path(), &blobs, 195, overhead).await;
        assert!((150..=240).contains(&left.len()), "{how:?}: {}", left.len());
        let expected: Vec<usize> = (400 - left.len()..400).collect();
        assert_eq!(left, expected, "{how:?}: the youngest");
    }
}

#[tokio::test]
async fn i14_i19_the_order_of_reads_survives_a_stop_and_a_snapshot() {
    for how in [End::Clean, End::KilledAfterSnapshot] {
        let dir = scratch();
        let blobs = small_blobs(200);
        let store = open(dir.path(), 16 << 20).await;
        put_all(&store, &blobs).await;
        for at in (0..40).rev() {
            assert!(read(&store, &blobs[at].0).await.is_some());
        }
        let overhead = store.stats().overhead_bytes;
        end(store, how).await;
        let left = survivors(dir.path(), &blobs, 90, overhead).await;
        let young = left.len() - 40;
        assert!((20..80).contains(&young), "{how:?}: {}", left.len());
        let expected: Vec<usize> = (0..40).chain(200 - young..200).collect();
        assert_eq!(left, expected, "{how:?}");
    }
}

#[tokio::test]
async fn i14_what_a_write_evicts_during_a_start_is_the_oldest_of_all() {
    for how in ENDS {
        let dir = scratch();
        let blobs = small_blobs(300);
        let store = open(dir.path(), 16 << 20).await;
        put_all(&store, &blobs).await;
        let cap = store.stats().charged_bytes() + (64 << 10);
        end(store, how).await;
        let store = open_soon(options(dir.path(), cap)).await;
        let (large, data) = blob(9_999, 400_000);
        store.put(&large, data).await.unwrap();
        store.quiesce().await;
        check(&store);
        let absent = absent(&store, &keys_of(&blobs));
        let left = absent.iter().filter(|it| !**it).count();
        assert!((150..290).contains(&left), "{how:?}: {left}");
        assert!(absent.iter().skip(300 - left).all(|it| !it), "{how:?}: the oldest went");
    }
}

#[tokio::test]
async fn i2_the_cap_holds_while_it_is_only_known_what_is_there_at_most() {
    for how in ENDS {
        let dir = scratch();
        let store = open(dir.path(), 2 << 20).await;
        for seed in 0..100 {
            let (key, data) = blob(seed, 30_000);
            store.put(&key, data).await.unwrap();
        }
        end(store, how).await;
        let store = open_soon(options(dir.path(), 2 << 20)).await;
        let mut puts = tokio::task::JoinSet::new();
        for seed in 200..240 {
            let (key, data) = blob(seed, 30_000);
            let store = Arc::clone(&store);
            puts.spawn(async move { store.put(&key, data).await });
        }
        while let Some(outcome) = puts.join_next().await {
            outcome.unwrap().unwrap();
            let stats = store.stats();
            assert!(stats.charged_bytes() <= 2 << 20, "I2: {how:?} {stats:?}");
        }
        store.quiesce().await;
        check(&store);
    }
}

#[tokio::test]
async fn i19_what_others_changed_while_the_store_was_stopped_is_noticed() {
    for is_same_moment in [false, true] {
        let dir = scratch();
        let blobs: Vec<_> = (0..60).map(|seed| blob(seed, 3_000)).collect();
        let store = open(dir.path(), 8 << 20).await;
        put_all(&store, &blobs).await;
        drop(store.executable(blobs[20].0.digest).await.unwrap());
        let index = |at: usize| store.shared.parts.index.lock(|it| it.peek(&blobs[at].0).unwrap());
        let (gone, variant, copied) = (index(10).file, index(20).file, index(30).file);
        store.shutdown(Cleanup::Keep).await.unwrap();
        drop(store);
        std::fs::remove_file(dir.path().join(gone.path())).unwrap();
        std::fs::remove_file(dir.path().join(variant.variant_path())).unwrap();
        let older = layout::FileName { generation: layout::Generation(3), ..copied };
        std::fs::write(dir.path().join(older.path()), "an older one").unwrap();
        if is_same_moment {
            // As where the clock of the file system is coarse.
            let finished = std::fs::metadata(dir.path().join("SNAPSHOT")).unwrap();
            for file in [gone, variant, copied] {
                let shard = layout::Shard::of(&file.key).path();
                let shard = std::fs::File::open(dir.path().join(shard)).unwrap();
                shard.set_modified(finished.modified().unwrap()).unwrap();
            }
        }
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        assert_eq!(store.find_missing(&[gone.key]).await.unwrap(), [true]);
        store.quiesce().await;
        assert_eq!((store.stats().entries, store.stats().variants), (59, 0));
        assert!(!dir.path().join(older.path()).exists());
        check(&store);
    }
}

#[tokio::test]
async fn i2_foreign_files_in_a_shard_stay_charged_over_clean_stops() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 3_000);
    store.put(&key, data).await.unwrap();
    drop(store);
    let foreign = dir.path().join(layout::Shard::of(&key).path()).join("core");
    std::fs::write(&foreign, vec![1; 1 << 20]).unwrap();
    for _ in 0..3 {
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        store.quiesce().await;
        assert_eq!(du(dir.path()), store.stats().charged_bytes());
        assert_eq!(store.stats().foreign_files, 1);
        store.shutdown(Cleanup::Keep).await.unwrap();
    }
}

/// A store of some blobs that was stopped, how many there are, and the blobs.
async fn stopped(dir: &Path) -> Vec<(Key, Bytes)> {
    let blobs: Vec<_> = (0..40).map(|seed| blob(seed, 2_000)).collect();
    let store = open(dir, 8 << 20).await;
    put_all(&store, &blobs).await;
    drop(store.executable(blobs[5].0.digest).await.unwrap());
    store.shutdown(Cleanup::Keep).await.unwrap();
    blobs
}

async fn check_all_there(dir: &Path, blobs: &[(Key, Bytes)], what: &str) {
    let store = open_soon(options(dir, 8 << 20)).await;
    store.quiesce().await;
    check(&store);
    for (key, data) in blobs {
        assert_eq!(read(&store, key).await.as_ref(), Some(data), "{what}");
    }
    let (key, data) = blob(1_000, 2_000);
    store.put(&key, data).await.unwrap();
    let files = store.shared.parts.index.lock(|index| index.files());
    let newest = files.iter().max_by_key(|it| it.generation).unwrap();
    assert_eq!(newest.key, key, "I6: {what}");
    check(&store);
}

#[tokio::test]
async fn i19_a_damaged_snapshot_costs_only_time() {
    let dir = scratch();
    let blobs = stopped(dir.path()).await;
    let whole = std::fs::read(dir.path().join("SNAPSHOT")).unwrap();
    drop(dir);
    let flips = [0, 20, 200, whole.len() / 2, whole.len() - 100, whole.len() - 40];
    for at in flips {
        let dir = scratch();
        stopped(dir.path()).await;
        let mut bytes = std::fs::read(dir.path().join("SNAPSHOT")).unwrap();
        bytes[at] ^= 4;
        std::fs::write(dir.path().join("SNAPSHOT"), bytes).unwrap();
        check_all_there(dir.path(), &blobs, &format!("bit of byte {at}")).await;
    }
    for len in [0, 1, 100, whole.len() - 1] {
        let dir = scratch();
        stopped(dir.path()).await;
        std::fs::write(dir.path().join("SNAPSHOT"), &whole[..len]).unwrap();
        check_all_there(dir.path(), &blobs, &format!("cut to {len}")).await;
    }
    let dir = scratch();
    stopped(dir.path()).await;
    // One of another directory.
    std::fs::write(dir.path().join("SNAPSHOT"), &whole).unwrap();
    check_all_there(dir.path(), &blobs, "another one").await;
}

#[tokio::test]
async fn i6_i19_a_damaged_format_file_costs_only_time() {
    type Damage = fn(String) -> String;
    let damages: [(&str, Damage); 5] = [
        ("removed lines", |_| "castellan 1\n".to_owned()),
        ("cut in the epoch", |text| text[..text.find("epoch 1").unwrap() + 7].to_owned()),
        ("another epoch", |text| text.replace("epoch 12", "epoch 2")),
        ("no checksum", |text| text[..text.find("sum").unwrap()].to_owned()),
        ("no epoch", |text| text.replace("epoch 12", "Epoch 12")),
    ];
    for (what, damage) in damages {
        let dir = scratch();
        // The snapshot is of the first start, the last file of the twelfth.
        let blobs = stopped(dir.path()).await;
        for _ in 0..10 {
            drop(open_soon(options(dir.path(), 8 << 20)).await);
        }
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        let (last, data) = blob(500, 2_000);
        store.put(&last, data).await.unwrap();
        drop(store);
        until("closed", || Disk::open(dir.path()).is_ok()).await;
        let text = std::fs::read_to_string(dir.path().join("FORMAT")).unwrap();
        assert!(text.contains("epoch 12\n"), "{text}");
        std::fs::write(dir.path().join("FORMAT"), damage(text)).unwrap();
        check_all_there(dir.path(), &blobs, what).await;
    }
}

#[tokio::test]
async fn i17_i19_a_clean_stop_counts_once() {
    let dir = scratch();
    let blobs = stopped(dir.path()).await;
    assert!(format_of(dir.path()).clean.is_some());
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    assert!(format_of(dir.path()).clean.is_none(), "before anything changes");
    store.purge(PurgeScope::All).await.unwrap();
    let (key, data) = blob(700, 2_000);
    store.put(&key, data).await.unwrap();
    drop(store);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.quiesce().await;
    assert_eq!(store.stats().entries, 1);
    assert_eq!(store.find_missing(&[blobs[0].0, key]).await.unwrap(), [true, false]);
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_nobody_uses_writes_nothing() {
    let dir = scratch();
    let often = FilesystemOptions {
        snapshot_interval: Duration::from_mins(1),
        lease: Duration::from_secs(64),
        ..options(dir.path(), 8 << 20)
    };
    let store = open_with(often).await;
    let (key, data) = blob(1, 2_000);
    store.put(&key, data).await.unwrap();
    until_later("a snapshot", || dir.path().join("SNAPSHOT").exists()).await;
    let hour = async |store: &FilesystemStore| {
        for _ in 0..60 {
            store.shared.parts.clock.advance(60);
            // What is due is done meanwhile.
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        store.shared.parts.disk.faults().counts().of(disk::Call::RenameOwn)
    };
    let before = hour(&store).await;
    assert_eq!(hour(&store).await, before);
    assert!(store.stats().oldest_age_seconds.unwrap() > 7_000);
    // And then it goes on.
    assert!(read(&store, &key).await.is_some());
    assert!(hour(&store).await > before);
}
