//! What a former process left.

use super::transfer::reopen;
use super::*;

#[tokio::test]
async fn i19_a_restart_finds_every_entry_with_its_charge_and_order() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs: Vec<_> = (0..50).map(|it| blob(it as u64, 1 + 2_000 * it)).collect();
    for (key, data) in &blobs {
        store.put(key, data.clone()).await.unwrap();
    }
    store.put(&result_key("a"), "result".into()).await.unwrap();
    store.put(&result_key("empty"), "".into()).await.unwrap();
    let before = store.stats();
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);

    let store = reopen(dir.path()).await;
    let after = store.stats();
    assert_eq!(after.entries, before.entries);
    assert_eq!(after.resident_bytes, before.resident_bytes);
    check(&store);
    let order = store.shared.parts.index.lock(|index| index.files());
    assert!(order.is_sorted_by_key(|file| file.generation));
    for (key, data) in &blobs {
        assert_eq!(read(&store, key).await.as_ref(), Some(data));
    }
    assert_eq!(read(&store, &result_key("a")).await.unwrap(), "result");
    assert_eq!(read(&store, &result_key("empty")).await.unwrap(), "");
}

#[tokio::test]
async fn i6_generations_rise_across_restarts_even_when_the_youngest_file_is_gone() {
    let dir = scratch();
    let mut last = 0;
    for _ in 0..3 {
        let store = reopen(dir.path()).await;
        let (key, data) = blob(1, 10);
        store.put(&key, data).await.unwrap();
        let file = store.shared.parts.index.lock(|index| index.peek(&key).unwrap().file);
        assert!(file.generation.0 > last);
        last = file.generation.0;
        drop(store);
        std::fs::remove_file(dir.path().join(file.path())).unwrap();
    }
}

#[tokio::test]
async fn i19_older_generations_and_temp_files_go_foreign_files_stay() {
    let dir = scratch();
    let (key, data) = blob(1, 10);
    let store = open(dir.path(), 8 << 20).await;
    store.put(&key, data.clone()).await.unwrap();
    let name = store.shared.parts.index.lock(|index| index.peek(&key).unwrap().file);
    drop(store);

    let older = layout::FileName { generation: layout::Generation(7), ..name };
    std::fs::write(dir.path().join(older.path()), b"0123456789").unwrap();
    let foreign = dir.path().join(layout::Shard::of(&key).path()).join("README.txt");
    std::fs::write(&foreign, b"not ours").unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    std::fs::write(dir.path().join("tmp/3"), b"litter").unwrap();

    let store = reopen(dir.path()).await;
    assert!(!dir.path().join(older.path()).exists());
    assert!(!dir.path().join("tmp/3").exists());
    assert!(foreign.exists());
    let stats = store.stats();
    assert_eq!((stats.entries, stats.foreign_files), (1, 1));
    assert_eq!(du(dir.path()), stats.charged_bytes());
    assert_eq!(read(&store, &key).await, Some(data));
}

#[tokio::test]
async fn a_smaller_cap_holds_before_anything_is_stored() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    for seed in 0..40 {
        let (key, data) = blob(seed, 100_000);
        store.put(&key, data).await.unwrap();
    }
    drop(store);
    let store = loop {
        match FilesystemStore::open(options(dir.path(), 1 << 20)).await {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (another, data) = blob(40, 1_000);
    store.put(&another, data).await.unwrap();
    store.quiesce().await;
    let stats = store.stats();
    assert!((5..=11).contains(&stats.entries), "{stats:?}");
    check(&store);
    let (youngest, _) = blob(39, 100_000);
    assert_eq!(store.find_missing(&[youngest]).await.unwrap(), [false]);
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let dir = scratch();
    let _store = open(dir.path(), 8 << 20).await;
    let error = FilesystemStore::open(options(dir.path(), 8 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
}

#[tokio::test]
async fn a_directory_of_another_format_is_refused_untouched() {
    let dir = scratch();
    std::fs::write(dir.path().join("FORMAT"), "castellan 99\n").unwrap();
    let error = FilesystemStore::open(options(dir.path(), 8 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(std::fs::read_to_string(dir.path().join("FORMAT")).unwrap(), "castellan 99\n");
}

#[tokio::test]
async fn a_torn_file_is_a_miss_and_leaves() {
    let dir = scratch();
    let (key, data) = blob(1, 10_000);
    let store = open(dir.path(), 8 << 20).await;
    store.put(&key, data).await.unwrap();
    drop(store);
    let path = dir.path().join(&value_files(dir.path())[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    let store = reopen(dir.path()).await;
    assert_eq!(read(&store, &key).await, None);
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
    assert!(!path.exists());
    check(&store);
}

#[tokio::test]
async fn the_fallback_without_unnamed_files_keeps_the_same_promises() {
    let dir = scratch();
    let mut disk = Disk::open(dir.path()).unwrap();
    disk.forget_unnamed_files().unwrap();
    for path in layout::fixed_directories() {
        disk.make_directory(&path).unwrap();
    }
    let file = disk.create(disk::FileMode::Blob).unwrap();
    file.write_at(b"hello", 0).unwrap();
    assert!(dir.path().join("tmp/0").exists());
    disk.link(&file, "blobs/x").unwrap();
    assert!(disk.link(&file, "blobs/x").is_err(), "I6: never replaces");
    drop(file);
    assert!(!dir.path().join("tmp/0").exists());
    assert_eq!(std::fs::read(dir.path().join("blobs/x")).unwrap(), b"hello");
}

#[tokio::test]
async fn i6_a_link_by_descriptor_and_one_through_proc_never_replace() {
    let dir = scratch();
    for name in ["by-descriptor", "through-proc"] {
        let mut disk = Disk::open(dir.path()).unwrap();
        if name == "through-proc" {
            disk.forget_descriptor_links();
        }
        let file = disk.create(disk::FileMode::Blob).unwrap();
        file.write_at(name.as_bytes(), 0).unwrap();
        disk.link(&file, name).unwrap();
        assert!(disk.link(&file, name).is_err());
        drop(file);
        assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap(), name);
    }
}

#[tokio::test]
async fn i17_a_store_that_was_shut_down_has_let_go_of_its_directory() {
    let dir = scratch();
    for _ in 0..20 {
        let store = open(dir.path(), 8 << 20).await;
        let (key, data) = blob(1, 1_000);
        store.put(&key, data).await.unwrap();
        store.shutdown(Cleanup::Keep).await.unwrap();
    }
}

/// A result that comes before its directory has been read is not taken for a former process's.
#[tokio::test]
async fn i7_i19_a_result_that_is_replaced_while_directories_are_read_stays() {
    let dir = scratch();
    let keys: Vec<Key> = (0..200).map(|seed| result_key(&format!("result {seed}"))).collect();
    let store = open(dir.path(), 64 << 20).await;
    for key in &keys {
        store.put(key, "former".into()).await.unwrap();
    }
    drop(store);
    let store = loop {
        match FilesystemStore::open(options(dir.path(), 64 << 20)).await {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                tokio::task::yield_now().await;
            }
            opened => break opened.unwrap(),
        }
    };
    // From the last one on: the background reads from the first.
    for key in keys.iter().rev() {
        store.put(key, "later".into()).await.unwrap();
        let shard = layout::Shard::of(key);
        assert!(store.shared.parts.index.lock(|index| index.is_read(shard)));
    }
    store.quiesce().await;
    for key in &keys {
        assert_eq!(read(&store, key).await.unwrap(), "later");
    }
    let stats = store.stats();
    assert_eq!((stats.entries, stats.index_file_missing), (200, 0));
    check(&store);
}

/// A power cut while a result is replaced: the later one has its name and not its bytes.
#[tokio::test]
async fn i18_i19_a_torn_replacement_does_not_take_the_former_result_with_it() {
    let dir = scratch();
    let [torn, whole] = ["torn", "whole"].map(result_key);
    let store = open(dir.path(), 8 << 20).await;
    let mut formers = Vec::new();
    for key in [&torn, &whole] {
        store.put(key, "former".into()).await.unwrap();
        let file = store.shared.parts.index.lock(|index| index.peek(key).unwrap().file);
        let path = dir.path().join(file.path());
        formers.push((std::fs::read(&path).unwrap(), path));
        store.put(key, "later!".into()).await.unwrap();
    }
    let later = store.shared.parts.index.lock(|index| index.peek(&torn).unwrap().file);
    drop(store);
    for (bytes, path) in formers {
        std::fs::write(path, bytes).unwrap();
    }
    let path = dir.path().join(later.path());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0; 6 + layout::RESULT_TRAILER_BYTES]).unwrap();
    // Nothing says which mount it was, nor how much of it was on the disk.
    std::fs::write(dir.path().join("FORMAT"), "castellan 1\nepoch 9\n").unwrap();

    let store = reopen(dir.path()).await;
    assert_eq!(read(&store, &torn).await.unwrap(), "former");
    assert_eq!(read(&store, &whole).await.unwrap(), "later!");
    store.quiesce().await;
    assert_eq!(store.stats().entries, 2);
    check(&store);
}
