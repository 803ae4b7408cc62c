//! Reads: what they fetch, and what they do when it is not there.

use super::*;

/// More than is fetched before the first byte is handed out.
const LARGE: usize = (4 << 20) + 100_000;

#[tokio::test]
async fn every_boundary_reads_the_same() {
    let world = World::open().await;
    let data = noise(20, 60_000);
    let key = world.put(&data).await;
    let mut seams = vec![0, 1, 59_999, 60_000];
    let mut start = 0;
    for chunk in world.list(&key).await.chunks().take(5) {
        start += usize::try_from(chunk.size_bytes).unwrap();
        seams.extend([start - 1, start, start + 1]);
    }
    for offset in seams.clone() {
        for end in seams.iter().copied().filter(|end| *end >= offset) {
            let part = read_part(&*world.store, &key, offset, end - offset).await;
            assert_eq!(part, data[offset..end], "{offset}..{end}");
        }
    }
    assert_eq!(read_part(&*world.store, &key, 60_001, 1).await, "");
    assert_eq!(read_part(&*world.store, &key, usize::MAX, usize::MAX).await, "");
}

#[tokio::test]
async fn a_part_costs_the_chunks_that_it_is_in() {
    let world = World::open().await;
    let data = noise(21, 200_000);
    let key = world.put(&data).await;
    let lens: Vec<u64> = world.list(&key).await.chunks().map(|chunk| chunk.size_bytes).collect();
    let start = usize::try_from(lens[..10].iter().sum::<u64>()).unwrap();
    let two = usize::try_from(lens[10] + lens[11]).unwrap();
    for (offset, len, chunks) in
        [(0, 1, 1), (start, two, 2), (start - 1, two, 3), (start + 5, 10, 1), (199_999, 1, 1)]
    {
        world.content.spy.calls();
        world.content.spy.delivered_bytes();
        let part = read_part(&*world.store, &key, offset, len).await;
        assert_eq!(part, data[offset..offset + len]);
        assert_eq!(gets(&world.content.spy.calls()), chunks, "{offset} {len}");
        assert_eq!(world.content.spy.delivered_bytes(), len as u64, "{offset} {len}");
    }
}

#[tokio::test]
async fn i22_a_slow_client_has_few_chunks_fetched_ahead() {
    let world = World::open().await;
    let data = noise(22, LARGE);
    let key = world.put(&data).await;
    world.content.spy.calls();
    let mut reader = world.store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    let mut all = reader.next(1).await.unwrap().unwrap().to_vec();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let fetched = gets(&world.content.spy.calls());
    assert!(fetched <= SMALL.max_concurrent_fetches + 1, "{fetched} chunks");
    // Dropped calls lose nothing.
    for polls in (0..3).cycle() {
        match poll_only(polls, reader.next(50_000)).await {
            Some(Ok(Some(chunk))) => all.extend_from_slice(&chunk),
            Some(Ok(None)) => break,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    assert_eq!(all, data);
    world.assert_idle().await;
}

#[tokio::test]
async fn a_chunk_that_leaves_in_the_middle_of_a_read_is_an_error_and_heals() {
    let world = World::open().await;
    let data = noise(23, LARGE);
    let key = world.put(&data).await;
    let last = world.list(&key).await.chunks().count() - 1;
    let mut reader = world.store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    world.lose(&key, last).await;
    let mut delivered = 0;
    let error = loop {
        match reader.next(1 << 20).await {
            Ok(chunk) => delivered += chunk.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!((1..LARGE).contains(&delivered));
    reader.next(1).await.unwrap_err();
    assert_eq!(world.store.stats().corrupt, 1);
    assert!(is_missing(&*world.store, &key).await);
    world.put(&data).await;
    assert_eq!(read(&*world.store, &key).await, Some(data));
    world.assert_idle().await;
}

#[tokio::test]
async fn i20_a_list_that_is_another_blobs_delivers_no_whole_blob() {
    let world = World::open().await;
    let (data, other) = (noise(24, LARGE), noise(25, LARGE));
    let (key, other_key) = (world.put(&data).await, world.put(&other).await);
    // As it is, it is not even read.
    let stolen = world.list(&other_key).await.encoded().clone();
    world.index.files.put(&list_key(&key), stolen).await.unwrap();
    assert!(read(&*world.store, &key).await.is_none());
    assert!(is_missing(&*world.store, &key).await);
    // Forged with everything right but the hash of the whole.
    let mut builder = list::ListBuilder::default();
    let chunks: Vec<Digest> = world.list(&other_key).await.chunks().collect();
    for chunk in &chunks {
        builder.push(chunk);
    }
    let forged = builder.finish(key.digest).encoded().clone();
    world.index.files.put(&list_key(&key), forged).await.unwrap();
    let mut reader = world.store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    let mut delivered = 0;
    let error = loop {
        match reader.next(1 << 20).await {
            Ok(chunk) => delivered += chunk.unwrap().len() as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let last = chunks.last().unwrap().size_bytes;
    assert_eq!(delivered, LARGE as u64 - last, "the last chunk is withheld");
    assert!(is_missing(&*world.store, &key).await);
    // One that is fetched at once delivers nothing.
    let (small, foreign) = (noise(26, 50_000), noise(27, 50_000));
    let (key, foreign_key) = (world.put(&small).await, world.put(&foreign).await);
    let mut builder = list::ListBuilder::default();
    for chunk in world.list(&foreign_key).await.chunks() {
        builder.push(&chunk);
    }
    let forged = builder.finish(key.digest).encoded().clone();
    world.index.files.put(&list_key(&key), forged).await.unwrap();
    let outcome = world.store.get(&key, ByteRange::ALL).await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
    assert!(is_missing(&*world.store, &key).await);
}

#[tokio::test]
async fn a_small_blob_outlives_its_chunks_once_it_is_open() {
    let world = World::open().await;
    let data = noise(28, 300_000);
    let key = world.put(&data).await;
    let reader = world.store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    world.store.purge_selected(Selection::Scope(PurgeScope::All)).await.unwrap();
    assert!(is_missing(&*world.store, &key).await);
    assert_eq!(reader.read_all().await.unwrap(), data);
}
