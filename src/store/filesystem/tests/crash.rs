//! I19: the end of a process at any call to the file system, and what the next one finds.
//!
//! Each plot is lived again and again, and ends at its first call, at its second, and so on until
//! it comes to its end. After each the store is opened again and everything is looked at.

use super::super::disk::{Call, Faults, Lasting};
use super::life::{
    Plot, Scene, Setting, Story, copy, founded, in_process, open_files, recovers, scratch_in_memory,
};
use super::*;
use rustix::io::Errno;

/// Crashes that the tests in here make at least, one by one; together more than a thousand.
const LEAST: [u64; 9] = [100, 150, 150, 150, 150, 150, 150, 150, 80];
const _: () = {
    let mut sum = 0;
    let mut at = 0;
    while at < LEAST.len() {
        sum += LEAST[at];
        at += 1;
    }
    assert!(sum >= 1_000);
};

fn roomy(root: &Path) -> FilesystemOptions {
    options(root, 8 << 20)
}

/// So small that something leaves for almost everything that comes.
fn narrow(root: &Path) -> FilesystemOptions {
    options(root, 512 << 10)
}

fn periodic(root: &Path) -> FilesystemOptions {
    FilesystemOptions {
        snapshot_interval: Duration::from_secs(20),
        sync_interval: Duration::from_secs(7),
        lease: Duration::from_mins(1),
        ..options(root, 8 << 20)
    }
}

fn suspicious(root: &Path) -> FilesystemOptions {
    FilesystemOptions { verify_on_read: VerifyOnRead::Always, ..options(root, 8 << 20) }
}

fn grouped(root: &Path) -> FilesystemOptions {
    FilesystemOptions { durability: Durability::Group, ..options(root, 1 << 20) }
}

fn synced(root: &Path) -> FilesystemOptions {
    FilesystemOptions { durability: Durability::Fsync, ..options(root, 1 << 20) }
}

const fn named(options: fn(&Path) -> FilesystemOptions) -> Setting {
    Setting { options, has_temp_names: true }
}

const fn unnamed(options: fn(&Path) -> FilesystemOptions) -> Setting {
    Setting { options, has_temp_names: false }
}

async fn puts(scene: &Scene) -> Result<(), StoreError> {
    let blobs = [(1, 10), (2, 70_000), (3, 0), (4, 200_000)].map(|(seed, len)| blob(seed, len));
    for (key, data) in &blobs {
        scene.put(key, data).await?;
    }
    let (key, data) = blob(5, 250_000);
    scene.stream(&key, &data).await?;
    // One that is given up, one that lies.
    let (key, data) = blob(6, 30_000);
    drop(scene.begin(&key, &data, 2).await?);
    let lie = blob(7, 30_000).1;
    assert!(scene.store.put(&key, lie).await.is_err());
    let keys = blobs.each_ref().map(|(key, _)| *key);
    assert_eq!(scene.store.find_missing(&keys).await?, [false; 4]);
    for (key, data) in &blobs {
        assert_eq!(scene.store.get_all(key, u64::MAX).await?.as_ref(), Some(data));
    }
    Ok(())
}

async fn results(scene: &Scene) -> Result<(), StoreError> {
    let key = result_key("a");
    for data in ["one", "two", ""] {
        scene.put(&key, &data.into()).await?;
    }
    scene.put(&result_key("b"), &vec![b'b'; 9_000].into()).await?;
    scene.stream(&key, &vec![b'a'; 100_000].into()).await?;
    scene.put(&key, &"three".into()).await
}

async fn evicts(scene: &Scene) -> Result<(), StoreError> {
    for seed in 0..14 {
        let (key, data) = blob(seed, 40_000 + usize::try_from(seed).unwrap());
        scene.put(&key, &data).await?;
    }
    let (key, data) = blob(20, 300_000);
    scene.stream(&key, &data).await
}

async fn makes_variants(scene: &Scene) -> Result<(), StoreError> {
    let tools = [1, 2].map(|seed| blob(seed, 50_000));
    for (key, data) in &tools {
        scene.put(key, data).await?;
        if let Some(pin) = scene.store.executable(key.digest).await? {
            assert!(pin.path().exists());
        }
    }
    // Their room goes to others, and then they come back.
    for seed in 10..13 {
        let (key, data) = blob(seed, 130_000);
        scene.put(&key, &data).await?;
    }
    let (key, data) = &tools[0];
    scene.put(key, data).await?;
    drop(scene.store.executable(key.digest).await?);
    scene.story.purges(&scene.store, PurgeScope::All).await
}

async fn links(scene: &Scene) -> Result<(), StoreError> {
    let (key, data) = blob(1, 40_000);
    scene.put(&key, &data).await?;
    let mut pins = Vec::new();
    pins.extend(scene.store.linkable(key.digest).await?);
    pins.extend(scene.store.executable(key.digest).await?);
    for (number, pin) in pins.iter_mut().enumerate() {
        for link in 0..2 {
            let target = scene.outside.join(format!("{number}-{link}"));
            assert!(pin.link(&target).await?);
            assert_eq!(std::fs::read(&target).unwrap(), data);
            scene.faults.fail(Call::Link, 1, Errno::MLINK, Lasting::Once);
        }
    }
    Ok(())
}

async fn purges_one(scene: &Scene) -> Result<(), StoreError> {
    let other = Key { namespace: Namespace::of_instance("other"), ..result_key("a") };
    for key in [result_key("a"), result_key("b"), other] {
        scene.put(&key, &"value".into()).await?;
    }
    let (key, data) = (result_key("c"), Bytes::from(vec![b'c'; 100_000]));
    let upload = scene.begin(&key, &data, 2).await?;
    scene.story.purges(&scene.store, PurgeScope::Namespace(key.namespace)).await?;
    if let Some(upload) = upload {
        let cut_off = scene.end(upload, &key, &data).await;
        let is_crash = scene.faults.is_crashed();
        assert!(is_crash || matches!(cut_off, Err(StoreError::Purged)), "{cut_off:?}");
    }
    scene.put(&result_key("a"), &"again".into()).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.put(&result_key("d"), &"later".into()).await
}

async fn purges_all(scene: &Scene) -> Result<(), StoreError> {
    for seed in 1..4 {
        let (key, data) = blob(seed, 20_000);
        scene.put(&key, &data).await?;
    }
    let (key, data) = blob(4, 200_000);
    let upload = scene.begin(&key, &data, 2).await?;
    let purge = scene.story.purges(&scene.store, PurgeScope::All);
    let write = async {
        match upload {
            Some(upload) => scene.end(upload, &key, &data).await,
            None => Ok(()),
        }
    };
    let (purged, written) = tokio::join!(purge, write);
    purged?;
    if let Err(error) = written
        && !matches!(error, StoreError::Purged)
    {
        return Err(error);
    }
    let (key, data) = blob(1, 20_000);
    scene.put(&key, &data).await
}

async fn passes_time(scene: &Scene) -> Result<(), StoreError> {
    for seed in 0..6 {
        let (key, data) = blob(seed, 5_000);
        scene.put(&key, &data).await?;
        scene.put(&result_key("a"), &data).await?;
        drop(scene.store.executable(key.digest).await?);
        scene.store.find_missing(&[key]).await?;
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    let stopped = scene.store.shutdown(Cleanup::Keep).await;
    stopped.map_err(|error| StoreError::io("shut down", error))
}

async fn removes_itself(scene: &Scene) -> Result<(), StoreError> {
    for seed in 0..3 {
        let (key, data) = blob(seed, 5_000);
        scene.put(&key, &data).await?;
    }
    // What a removal has taken is no loss, and no name is left to be given out twice.
    scene.story.begins_anew();
    scene.story.purges(&scene.store, PurgeScope::All).await?;
    let stopped = scene.store.shutdown(Cleanup::Remove).await;
    stopped.map_err(|error| StoreError::io("shut down", error))
}

async fn finds_damage(scene: &Scene) -> Result<(), StoreError> {
    for (seed, len) in [(1, 60_000), (2, 300_000)] {
        let (key, data) = blob(seed, len);
        scene.put(&key, &data).await?;
        drop(scene.store.executable(key.digest).await?);
        scene.story.damages(&key);
        let file = scene.store.shared.parts.index.lock(|index| index.peek(&key));
        let Some(file) = file else { continue };
        let mut bytes = data.to_vec();
        bytes[len / 2] ^= 1;
        std::fs::remove_file(scene.store.root().join(file.file.path())).unwrap();
        let path = scene.store.root().join(file.file.path());
        std::fs::write(&path, bytes).unwrap();
        let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        std::fs::set_permissions(&path, read_only).unwrap();
        let outcome = scene.store.get_all(&key, u64::MAX).await;
        assert!(scene.faults.is_crashed() || !matches!(outcome, Ok(Some(_))));
    }
    Ok(())
}

async fn does_some_of_all(scene: &Scene) -> Result<(), StoreError> {
    puts(scene).await?;
    results(scene).await?;
    let (key, data) = blob(30, 60_000);
    scene.put(&key, &data).await?;
    drop(scene.store.executable(key.digest).await?);
    evicts(scene).await
}

/// Lives a plot until call `nth`; true when it came to an end without a crash.
fn live(
    setting: Setting,
    root: &Path,
    tale: &Arc<Story>,
    nth: u64,
    tears: bool,
    plot: Plot,
) -> bool {
    let faults = Arc::<Faults>::default();
    if tears {
        faults.tear_writes();
    }
    faults.crash_at(nth);
    let outside = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    let scene = |store| Scene {
        store,
        story: Arc::clone(tale),
        faults: Arc::clone(&faults),
        outside: outside.path().to_owned(),
    };
    in_process(async {
        let Ok(store) = setting.open(root, &faults).await else {
            assert!(faults.is_crashed(), "call {nth}");
            return;
        };
        let scene = scene(store);
        let outcome = plot(&scene).await;
        assert!(outcome.is_ok() || faults.is_crashed(), "call {nth}: {outcome:?}");
        tale.dies(&scene.store);
    });
    assert_eq!(open_files(root), [] as [std::path::PathBuf; 0]);
    !faults.is_crashed()
}

/// Crashes a plot at each of its calls; the number of crashes. The first start of all, which looks
/// for every directory that could be there, is behind it.
fn crashes_everywhere(setting: Setting, tears: bool, plot: Plot) -> u64 {
    crashes_at(1.., setting, tears, plot)
}

fn crashes_at(nths: impl Iterator<Item = u64>, setting: Setting, tears: bool, plot: Plot) -> u64 {
    let dir = scratch_in_memory();
    let fresh = founded(setting, dir.path());
    let mut crashes = 0;
    for nth in nths {
        let root = dir.path().join(nth.to_string());
        copy(&fresh, &root);
        let tale = Arc::<Story>::default();
        let is_over = live(setting, &root, &tale, nth, tears, plot);
        in_process(recovers((setting.options)(&root), &tale));
        std::fs::remove_dir_all(&root).unwrap();
        if is_over {
            break;
        }
        crashes += 1;
    }
    println!("{crashes} crashes");
    crashes
}

fn crashes_each_way(setting: Setting, plot: Plot) -> u64 {
    [false, true].map(|tears| crashes_everywhere(setting, tears, plot)).iter().sum()
}

/// The first start of all; among the directories that are not there one is like the other.
#[test]
fn i19_a_crash_at_the_calls_of_the_first_start() {
    let nths = (1..60).chain((60..1_000).step_by(117)).chain(1_000..);
    let mut crashes = 0;
    for nth in nths {
        let dir = scratch_in_memory();
        let root = dir.path().join("root");
        let tale = Arc::<Story>::default();
        let plot: Plot = |it| Box::pin(super::life::loads(it));
        let is_over = live(unnamed(roomy), &root, &tale, nth, nth % 2 == 0, plot);
        in_process(recovers(roomy(&root), &tale));
        if is_over {
            break;
        }
        crashes += 1;
    }
    assert!(crashes >= LEAST[0], "{crashes}");
}

#[test]
fn i19_a_crash_at_any_call_of_a_write() {
    let plots: [Plot; 2] = [|it| Box::pin(puts(it)), |it| Box::pin(results(it))];
    let crashes: u64 = plots.map(|plot| crashes_each_way(unnamed(roomy), plot)).iter().sum();
    assert!(crashes >= LEAST[1], "{crashes}");
}

#[test]
fn i19_a_crash_at_any_call_of_a_write_where_files_have_temporary_names() {
    let plots: [Plot; 2] = [|it| Box::pin(puts(it)), |it| Box::pin(evicts(it))];
    let settings = [named(roomy), named(narrow)];
    let crashes: u64 =
        settings.into_iter().zip(plots).map(|(it, plot)| crashes_each_way(it, plot)).sum();
    assert!(crashes >= LEAST[2], "{crashes}");
}

#[test]
fn i8_i19_a_crash_at_any_call_of_an_eviction() {
    let plots: [Plot; 2] = [|it| Box::pin(evicts(it)), |it| Box::pin(makes_variants(it))];
    let crashes: u64 = plots.map(|plot| crashes_each_way(unnamed(narrow), plot)).iter().sum();
    assert!(crashes >= LEAST[3], "{crashes}");
}

#[test]
fn i16_i19_a_crash_at_any_call_of_a_purge() {
    let plots: [Plot; 2] = [|it| Box::pin(purges_one(it)), |it| Box::pin(purges_all(it))];
    let crashes: u64 = plots.map(|plot| crashes_each_way(unnamed(periodic), plot)).iter().sum();
    assert!(crashes >= LEAST[4], "{crashes}");
}

#[test]
fn i17_i19_a_crash_at_any_call_of_a_snapshot_and_of_a_stop() {
    let mut crashes = crashes_each_way(unnamed(periodic), |it| Box::pin(passes_time(it)));
    // A removal tries every directory that could be there; one is like the other.
    let nths = (1..150).chain((150..1_050).step_by(117)).chain(1_050..);
    crashes += crashes_at(nths, unnamed(roomy), true, |it| Box::pin(removes_itself(it)));
    assert!(crashes >= LEAST[5], "{crashes}");
}

#[test]
fn i18_i19_a_crash_at_any_call_of_a_durable_write() {
    let plot: Plot = |it| Box::pin(does_some_of_all(it));
    let settings = [unnamed(grouped), unnamed(synced)];
    let crashes: u64 = settings.map(|it| crashes_each_way(it, plot)).iter().sum();
    assert!(crashes >= LEAST[6], "{crashes}");
}

#[test]
fn i19_i20_a_crash_at_any_call_of_a_link_and_of_a_discovery() {
    let plots: [Plot; 2] = [|it| Box::pin(links(it)), |it| Box::pin(finds_damage(it))];
    let settings = [unnamed(roomy), unnamed(suspicious)];
    let crashes: u64 =
        settings.into_iter().zip(plots).map(|(it, plot)| crashes_each_way(it, plot)).sum();
    assert!(crashes >= LEAST[7], "{crashes}");
}

/// The second life ends at each call of its start, the first one somewhere else each time.
#[test]
fn i19_a_crash_at_any_call_of_the_start_after_a_crash() {
    let plots: [Plot; 2] = [|it| Box::pin(passes_time(it)), |it| Box::pin(does_some_of_all(it))];
    let mut crashes = 0;
    for (setting, plot) in [unnamed(periodic), unnamed(grouped)].into_iter().zip(plots) {
        let dir = scratch_in_memory();
        let fresh = founded(setting, dir.path());
        for nth in 1.. {
            let root = dir.path().join(nth.to_string());
            copy(&fresh, &root);
            let tale = Arc::<Story>::default();
            let first = 50 + nth * 37 % 300;
            live(setting, &root, &tale, first, nth % 2 == 0, plot);
            let loads: Plot = |it| Box::pin(super::life::loads(it));
            let is_over = live(setting, &root, &tale, nth, nth % 3 == 0, loads);
            in_process(recovers((setting.options)(&root), &tale));
            std::fs::remove_dir_all(&root).unwrap();
            if is_over {
                break;
            }
            crashes += 1;
        }
    }
    println!("{crashes} crashes");
    assert!(crashes >= LEAST[8], "{crashes}");
}
