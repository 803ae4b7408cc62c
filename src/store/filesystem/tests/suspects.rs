//! What a power cut may have torn: never reported present, never served, until it was hashed.

use super::*;

/// Makes the next start one after a power cut; what is older than `durable` was on the disk.
fn cut_power(root: &Path, durable: Option<layout::Generation>) {
    let mut format = format_of(root);
    format.boot = Some("another-boot".to_owned());
    format.clean = None;
    format.durable = durable;
    std::fs::write(root.join("FORMAT"), format.to_string()).unwrap();
}

async fn closed(root: &Path) {
    until("closed", || Disk::open(root).is_ok()).await;
}

/// Replaces a value's file by one with other bytes.
fn tear(root: &Path, file: &layout::FileName, bytes: &[u8]) {
    let path = root.join(file.path());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
}

fn file_of(store: &FilesystemStore, key: &Key) -> layout::FileName {
    store.shared.parts.index.lock(|index| index.peek(key).unwrap().file)
}

/// A killed store of 30 blobs and a result, with its files.
async fn killed(root: &Path) -> (Vec<(Key, Bytes)>, Vec<layout::FileName>) {
    let mut values: Vec<_> = (0..30).map(|seed| blob(seed, 9_000)).collect();
    values.push((result_key("a"), "a result".into()));
    let store = open(root, 8 << 20).await;
    put_all(&store, &values).await;
    drop(store.executable(values[3].0.digest).await.unwrap());
    let files = values.iter().map(|(key, _)| file_of(&store, key)).collect();
    drop(store);
    closed(root).await;
    (values, files)
}

/// Waits for the background too: it may still hash what has been replaced.
async fn at_rest(store: &FilesystemStore) {
    store.quiesce().await;
    until("nobody reads what has left", || store.stats().dying_bytes == 0).await;
}

#[tokio::test]
async fn i18_i20_what_was_torn_is_never_present_nor_served() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    tear(dir.path(), &files[0], b"");
    tear(dir.path(), &files[1], &[0; 9_000]);
    tear(dir.path(), &files[2], &values[2].1[..8_999]);
    tear(dir.path(), &files[30], &[0; 8 + 16]);
    cut_power(dir.path(), None);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    for at in [0, 1, 2, 30] {
        assert_eq!(store.get_all(&values[at].0, 10_000).await.unwrap(), None, "{at}");
    }
    let keys: Vec<Key> = values.iter().map(|it| it.0).collect();
    let missing = store.find_missing(&keys).await.unwrap();
    let torn: Vec<usize> = (0..31).filter(|at| missing[*at]).collect();
    assert_eq!(torn, [0, 1, 2, 30]);
    for (key, data) in &values[4..30] {
        assert_eq!(read(&store, key).await.as_ref(), Some(data));
    }
    at_rest(&store).await;
    assert_eq!((store.stats().suspects, store.stats().variants), (0, 0));
    assert_eq!(store.stats().stray_variants, 1);
    check(&store);
}

#[tokio::test]
async fn i18_find_missing_alone_finds_what_was_torn() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    tear(dir.path(), &files[0], b"");
    tear(dir.path(), &files[1], &[0; 9_000]);
    cut_power(dir.path(), None);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    let keys: Vec<Key> = values[..3].iter().map(|it| it.0).collect();
    assert_eq!(store.find_missing(&keys).await.unwrap(), [true, true, false]);
    // A variant is made of right bytes only.
    let made = store.executable(values[4].0.digest).await.unwrap().unwrap();
    assert_eq!(std::fs::read(made.path()).unwrap(), values[4].1);
    drop(made);
    at_rest(&store).await;
    check(&store);
}

#[tokio::test]
async fn i18_no_variant_nor_link_is_made_of_what_was_torn() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    tear(dir.path(), &files[0], &[0; 9_000]);
    tear(dir.path(), &files[1], &[0; 9_000]);
    cut_power(dir.path(), None);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    assert!(store.executable(values[0].0.digest).await.unwrap().is_none());
    assert!(store.linkable(values[1].0.digest).await.unwrap().is_none());
    at_rest(&store).await;
    assert_eq!(store.stats().entries, 29);
    check(&store);
}

#[tokio::test]
async fn i18_an_upload_heals_what_was_torn() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    tear(dir.path(), &files[0], &[0; 9_000]);
    tear(dir.path(), &files[1], &[0; 9_000]);
    cut_power(dir.path(), None);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.put(&values[0].0, values[0].1.clone()).await.unwrap();
    let mut upload = begin(&store, &values[1].0, 9_000).await;
    upload.write(values[1].1.clone()).await.unwrap();
    upload.commit().await.unwrap();
    for at in [0, 1] {
        assert_eq!(read(&store, &values[at].0).await.as_ref(), Some(&values[at].1));
    }
    at_rest(&store).await;
    assert_eq!(store.stats().entries, 31);
    check(&store);
}

#[tokio::test]
async fn i18_what_was_on_the_disk_is_not_doubted() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    cut_power(dir.path(), Some(files[20].generation));
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    let keys: Vec<Key> = values.iter().map(|it| it.0).collect();
    let mut doubted = 0;
    for shard in layout::Shard::all() {
        let mut scratch = loader::Scratch::default();
        loader::load_shard(&store.shared.parts, shard, &mut scratch).unwrap();
    }
    store.shared.parts.index.lock(|index| {
        for (at, key) in keys.iter().enumerate() {
            let is_suspect = index.peek(key).unwrap().is_suspect;
            assert_eq!(is_suspect, at >= 20, "{at}");
            doubted += u64::from(is_suspect);
        }
    });
    assert_eq!(store.stats().suspects, doubted);
}

#[tokio::test]
async fn i18_doubts_survive_the_next_crash() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    tear(dir.path(), &files[7], &[0; 9_000]);
    cut_power(dir.path(), Some(files[5].generation));
    for _ in 0..3 {
        // Killed before anything was hashed.
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        assert!(store.stats().unread_shards > 0);
        drop(store);
        closed(dir.path()).await;
        assert_eq!(format_of(dir.path()).boot.unwrap(), "another-boot");
        assert_eq!(format_of(dir.path()).durable, Some(files[5].generation));
    }
    // And one that wrote a value and was stopped in order, before all was read.
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    assert_eq!(store.find_missing(&[values[7].0]).await.unwrap(), [true]);
    at_rest(&store).await;
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i18_once_all_is_hashed_the_doubts_are_over() {
    let dir = scratch();
    let (values, files) = killed(dir.path()).await;
    tear(dir.path(), &files[7], &[0; 9_000]);
    cut_power(dir.path(), None);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.loaded().await;
    // Without any request: the scrub takes them first, whatever its rate.
    until_later("hashed", || store.stats().suspects == 0).await;
    assert_eq!(store.stats().corrupt_blobs, 1);
    assert!(store.shared.parts.index.lock(|index| index.peek(&values[7].0)).is_none());
    let is_over = || format_of(dir.path()).boot.unwrap() != "another-boot";
    until_later("written down", is_over).await;
    assert!(format_of(dir.path()).durable.is_some());
    drop(store);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    at_rest(&store).await;
    assert_eq!((store.stats().suspects, store.stats().entries), (0, 30));
    check(&store);
}
