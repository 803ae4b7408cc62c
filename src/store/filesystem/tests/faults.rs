//! Every kind of call to the file system fails in every way, once or for good, in the middle of
//! everything: nothing wrong is served, nothing leaks, and all is well when it ends.

use super::super::disk::{Call, Faults, Lasting};
use super::life::{
    Scene, Setting, Story, copy, founded, in_process, open_files, recovers, scratch_in_memory,
    settled,
};
use super::*;
use rustix::io::Errno;

const ERRNOS: [Errno; 9] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::MFILE,
    Errno::NOMEM,
    Errno::ROFS,
    Errno::NOENT,
    Errno::MLINK,
    Errno::XDEV,
];

/// When a fault begins and how long it lasts.
#[derive(Clone, Copy, Debug)]
enum Moment {
    FirstCall(Lasting),
    LaterCall,
    AtTheStop,
}

const MOMENTS: [Moment; 4] = [
    Moment::FirstCall(Lasting::Once),
    Moment::FirstCall(Lasting::Sticky),
    Moment::LaterCall,
    Moment::AtTheStop,
];

fn busy(root: &Path, durability: Durability) -> FilesystemOptions {
    FilesystemOptions {
        durability,
        snapshot_interval: Duration::from_secs(20),
        sync_interval: Duration::from_secs(7),
        verify_on_read: VerifyOnRead::Always,
        reserve_timeout: Duration::from_secs(5),
        ..options(root, 1 << 20)
    }
}

/// Each kind of call where writes make it.
fn setting(call: Call) -> Setting {
    let options: fn(&Path) -> FilesystemOptions = match call {
        Call::SyncFile | Call::SyncDirectory => |root| busy(root, Durability::Fsync),
        Call::Sync => |root| busy(root, Durability::Group),
        _ => |root| busy(root, Durability::Async),
    };
    Setting { options, has_temp_names: matches!(call, Call::Create | Call::Link) }
}

/// What may come of an operation on a disk that fails with `errno`.
fn allowed<T>(errno: Errno, outcome: Result<T, StoreError>) -> Option<T> {
    let is_full = matches!(errno, Errno::NOSPC | Errno::DQUOT);
    match outcome {
        Ok(result) => return Some(result),
        Err(StoreError::NoSpace { reason, .. }) => {
            let waits = reason == "the cap is taken by uploads and reads under way";
            assert!(is_full || waits, "{errno}: {reason}");
        }
        Err(StoreError::Io { operation, source }) => {
            let is_raw = super::super::disk::is_full(&source);
            assert!(!is_raw, "{errno}: a full disk is no failure: {operation}: {source}");
        }
        Err(error) => panic!("{errno}: {error:?}"),
    }
    None
}

async fn reads(scene: &Scene, errno: Errno, key: &Key, data: &Bytes) {
    let whole = allowed(errno, scene.store.get_all(key, u64::MAX).await).flatten();
    assert!(whole.is_none_or(|it| it == data), "wrong bytes");
    let middle = ByteRange { offset: data.len() as u64 / 2, limit: Some(1_000) };
    let reader = allowed(errno, scene.store.get(key, middle).await).flatten();
    if let Some(reader) = reader
        && let Some(part) = allowed(errno, reader.read_all().await)
    {
        let from = data.len() / 2;
        assert_eq!(part, data.slice(from..data.len().min(from + 1_000)), "silently cut");
    }
}

/// Everything that a store does, whatever fails.
async fn does_everything(scene: &Scene, errno: Errno) {
    let small = blob(1, 3_000);
    let large = blob(2, 100_000);
    let streamed = blob(3, 150_000);
    for (key, data) in [&small, &large] {
        allowed(errno, scene.put(key, data).await);
    }
    allowed(errno, scene.stream(&streamed.0, &streamed.1).await);
    let (key, data) = blob(4, 90_000);
    drop(allowed(errno, scene.begin(&key, &data, 2).await));
    let result = result_key("a");
    for data in ["one", "two"] {
        allowed(errno, scene.put(&result, &data.into()).await);
    }
    for (key, data) in [&small, &large, &streamed] {
        reads(scene, errno, key, data).await;
    }
    allowed(errno, scene.store.find_missing(&[small.0, large.0, result]).await);
    let linkable = allowed(errno, scene.store.linkable(small.0.digest).await).flatten();
    let executable = allowed(errno, scene.store.executable(large.0.digest).await).flatten();
    for (number, pin) in linkable.into_iter().chain(executable).enumerate() {
        let mut pin = pin;
        let target = scene.outside.join(number.to_string());
        if allowed(errno, pin.link(&target).await) == Some(true) {
            let data = if number == 0 && pin.size_bytes() == 3_000 { &small.1 } else { &large.1 };
            assert_eq!(std::fs::read(&target).unwrap(), *data);
        }
    }
    for seed in 10..16 {
        let (key, data) = blob(seed, 130_000);
        allowed(errno, scene.put(&key, &data).await);
    }
    let scope = PurgeScope::Namespace(result.namespace);
    allowed(errno, scene.story.purges(&scene.store, scope).await);
    tokio::time::sleep(Duration::from_secs(45)).await;
    allowed(errno, scene.put(&result, &"three".into()).await);
}

/// After the fault has ended: no trace of it, and all works.
async fn is_well(scene: &Scene, descriptors: &[std::path::PathBuf]) {
    let store = &scene.store;
    scene.faults.clear();
    settled(store).await;
    scene.story.dies(store);
    for seed in 20..22 {
        let (key, data) = blob(seed, 20_000);
        scene.put(&key, &data).await.unwrap();
        assert_eq!(read(store, &key).await, Some(data));
        // The next snapshot says again how long the last one is.
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    settled(store).await;
    scene.story.dies(store);
    scene.story.is_kept(store).await;
    settled(store).await;
    let shared = &store.shared;
    assert_eq!((shared.checks.len(), shared.variants.len()), (0, 0));
    assert_eq!(shared.parts.index.lock(|index| index.pending()), (0, 0, 0));
    check(store);
    let mut left = open_files(store.root());
    left.sort();
    assert_eq!(left, descriptors);
    scene.story.dies(store);
}

/// One cell of the matrix.
fn suffers(fresh: &Path, root: &Path, call: Call, errno: Errno, moment: Moment, random: u64) {
    copy(fresh, root);
    let setting = setting(call);
    let tale = Arc::<Story>::default();
    let outside = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    in_process(async {
        let faults = Arc::<Faults>::default();
        let store = setting.open(root, &faults).await.unwrap();
        settled(&store).await;
        let mut descriptors = open_files(root);
        descriptors.sort();
        let outside = outside.path().to_owned();
        let scene = Scene { store, story: Arc::clone(&tale), faults, outside };
        match moment {
            Moment::FirstCall(lasting) => scene.faults.fail(call, 1, errno, lasting),
            Moment::LaterCall => scene.faults.fail(call, 2 + random % 12, errno, Lasting::Once),
            Moment::AtTheStop => {}
        }
        does_everything(&scene, errno).await;
        is_well(&scene, &descriptors).await;
        if matches!(moment, Moment::AtTheStop) {
            scene.faults.fail(call, 1, errno, Lasting::Sticky);
            let _either = scene.store.shutdown(Cleanup::Keep).await;
        } else {
            scene.store.shutdown(Cleanup::Keep).await.unwrap();
        }
    });
    assert_eq!(open_files(root), [] as [std::path::PathBuf; 0]);
    in_process(recovers((setting.options)(root), &tale));
    std::fs::remove_dir_all(root).unwrap();
}

fn suffers_all(dir: &Path, errnos: &[Errno]) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cells = 0;
    for call in Call::ALL {
        let folder = dir.join(format!("{call:?}"));
        std::fs::create_dir(&folder).unwrap();
        let fresh = founded(setting(call), &folder);
        for errno in errnos {
            for moment in MOMENTS {
                println!("{call:?} {errno} {moment:?}");
                suffers(&fresh, &folder.join("root"), call, *errno, moment, random.u64(..));
                cells += 1;
            }
        }
    }
    println!("{cells} faults");
    assert_eq!(cells, Call::ALL.len() * errnos.len() * MOMENTS.len());
}

#[test]
fn i15_no_failing_call_does_lasting_harm() {
    let dir = scratch_in_memory();
    suffers_all(dir.path(), &ERRNOS[..3]);
}

#[test]
fn i15_no_call_without_memory_or_rights_does_lasting_harm() {
    let dir = scratch_in_memory();
    suffers_all(dir.path(), &ERRNOS[3..6]);
}

#[test]
fn i15_no_call_with_an_odd_answer_does_lasting_harm() {
    let dir = scratch_in_memory();
    suffers_all(dir.path(), &ERRNOS[6..]);
}

/// Directories take blocks where this is: those must be in the books too.
#[test]
fn i3_no_failing_call_leaves_a_directory_out_of_the_books() {
    let dir = scratch();
    for call in [Call::Link, Call::Stat, Call::SyncDirectory, Call::MakeDirectory] {
        let folder = dir.path().join(format!("{call:?}"));
        std::fs::create_dir(&folder).unwrap();
        let fresh = founded(setting(call), &folder);
        for random in 0..6 {
            println!("{call:?} {random}");
            let root = folder.join("root");
            suffers(&fresh, &root, call, Errno::IO, Moment::LaterCall, random);
        }
    }
}

#[test]
fn i19_a_start_on_a_failing_disk_fails_or_works_and_the_next_one_works() {
    let dir = scratch_in_memory();
    let mut refused = 0;
    for call in Call::ALL {
        for errno in ERRNOS {
            for (nth, lasting) in [(1, Lasting::Once), (3, Lasting::Once), (1, Lasting::Sticky)] {
                let root = dir.path().join("root");
                refused += usize::from(!starts(&root, call, nth, errno, lasting));
                std::fs::remove_dir_all(&root).unwrap();
            }
        }
    }
    println!("{refused} starts refused");
    assert!(refused > 0);
}

/// Whether a start with a fault in it worked.
fn starts(root: &Path, call: Call, nth: u64, errno: Errno, lasting: Lasting) -> bool {
    println!("{call:?} {nth} {errno} {lasting:?}");
    let setting = setting(Call::Open);
    let tale = Arc::<Story>::default();
    let outside = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    let scene = |store, faults: &Arc<Faults>| Scene {
        store,
        story: Arc::clone(&tale),
        faults: Arc::clone(faults),
        outside: outside.path().to_owned(),
    };
    in_process(async {
        let store = setting.open(root, &Arc::default()).await.unwrap();
        let scene = scene(store, &Arc::default());
        does_everything(&scene, Errno::IO).await;
        scene.story.dies(&scene.store);
    });
    let faults = Arc::<Faults>::default();
    faults.fail(call, nth, errno, lasting);
    let has_started = in_process(async {
        let Ok(store) = setting.open(root, &faults).await else { return false };
        let scene = scene(store, &faults);
        reads(&scene, errno, &result_key("a"), &"three".into()).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        faults.clear();
        settled(&scene.store).await;
        scene.story.dies(&scene.store);
        scene.story.is_kept(&scene.store).await;
        let (key, data) = blob(30, 20_000);
        scene.put(&key, &data).await.unwrap();
        tokio::time::sleep(Duration::from_secs(90)).await;
        check(&scene.store);
        true
    });
    in_process(recovers((setting.options)(root), &tale));
    has_started
}

#[test]
fn i15_each_failed_unlink_is_counted_and_tried_again() {
    let dir = scratch();
    in_process(async {
        let store = open(dir.path(), 2 << 20).await;
        let faults = Arc::clone(store.shared.parts.disk.faults());
        let blobs: Vec<_> = (0..12).map(|seed| blob(seed, 20_000)).collect();
        for (key, data) in &blobs {
            store.put(key, data.clone()).await.unwrap();
            drop(store.executable(key.digest).await.unwrap());
        }
        let before = faults.counts().of(Call::Unlink);
        faults.fail(Call::Unlink, 1, Errno::IO, Lasting::Sticky);
        let purged = store.purge(PurgeScope::All).await.unwrap();
        assert_eq!(purged.removed, 12);
        tokio::time::sleep(Duration::from_mins(5)).await;
        let calls = faults.counts().of(Call::Unlink) - before;
        let stats = store.stats();
        assert!(calls >= 24, "tried again and again: {calls}");
        assert_eq!(stats.evict_unlink_failures, calls, "each one counts, once");
        assert_eq!((stats.entries, stats.purged_entries), (0, 12));
        assert!(stats.dying_bytes >= 24 * 20_000, "what is there is charged: {stats:?}");
        assert_eq!(du(dir.path()), stats.charged_bytes());
        faults.clear();
        settled(&store).await;
        let after = store.stats();
        assert_eq!(after.evict_unlink_failures, calls);
        assert_eq!(value_files(dir.path()), [] as [String; 0]);
        check(&store);
    });
}
