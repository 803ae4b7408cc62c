//! Compressed blobs over a real store.

mod hostile;

use super::*;
use crate::store::spy_tests::{
    Call, Scratch, begin, is_missing, key_of, noise, poll_only, read, read_part, stream, text,
};

/// The smallest blocks, so that few bytes are many of them.
const SMALL: CompressionOptions =
    CompressionOptions { block_bytes: 4 << 10, max_decode_block_bytes: 16 << 20 };

fn over(scratch: &Scratch, options: CompressionOptions) -> Arc<CompressionStore> {
    let backend: Arc<dyn BlobStore> = Arc::clone(&scratch.spy) as _;
    CompressionStore::new(backend, options)
}

/// What is kept for a blob.
async fn stored(scratch: &Scratch, key: &Key) -> Bytes {
    read(&*scratch.files, &stored_key(key)).await.unwrap()
}

#[tokio::test]
async fn the_format_stays() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let short = Bytes::from_static(b"hello");
    store.put(&key_of(&short), short.clone()).await.unwrap();
    let stored_short = const_hex::encode(stored(&scratch, &key_of(&short)).await);
    assert_eq!(stored_short, GOLDEN_SHORT);
    // Whatever LZ4 makes of it by now, what it once made is read.
    let long = Bytes::from(vec![b'a'; 5_000]);
    let golden = Bytes::from(const_hex::decode(GOLDEN_LONG).unwrap());
    scratch.files.put(&stored_key(&key_of(&long)), golden).await.unwrap();
    assert_eq!(read(&*store, &key_of(&long)).await, Some(long.clone()));
    assert_eq!(read_part(&*store, &key_of(&long), 4_999, 9).await, "a");
}

const GOLDEN_SHORT: &str = "43534c5a010900000010000005000000000000007caec527629e4a1c08649ed9\
     1b08547b05000080d4676d452b12202168656c6c6f";
const GOLDEN_LONG: &str = "43534c5a010900000010000088130000000000006ab6fe4aaa84965999e8119d\
     93eac9a31b000000791409230cdc83461f610100ffffffffffffffffffffffff\
     fffffff5606161616161610f00000052217052bc3e4ef71f610100ffffff7160\
     6161616161614b00000000000000";

#[tokio::test]
async fn bytes_of_every_length_come_back() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let block = SMALL.block_bytes as usize;
    for len in [0, 1, 12, 13, block - 1, block, block + 1, 3 * block, 3 * block + 7] {
        for data in [noise(len as u64, len), text(len as u64, len)] {
            let key = key_of(&data);
            if !is_missing(&*store, &key).await {
                continue;
            }
            stream(&*store, &key, &data, 1_000).await.unwrap();
            assert_eq!(read(&*store, &key).await, Some(data.clone()), "{len}");
            let streamed = stored(&scratch, &key).await;
            assert!(store.remove(&key).await.unwrap());
            assert_eq!(read(&*store, &key).await, None);
            store.put(&key, data.clone()).await.unwrap();
            assert_eq!(read(&*store, &key).await, Some(data), "{len}");
            assert_eq!(stored(&scratch, &key).await, streamed);
        }
    }
    assert_eq!(store.stats().corrupt, 0);
    scratch.assert_idle().await;
}

#[tokio::test]
async fn what_can_be_compressed_takes_less() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, CompressionOptions::default());
    let data = text(1, 1 << 20);
    let key = key_of(&data);
    stream(&*store, &key, &data, 100_000).await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.blobs, stats.uncompressed_bytes), (1, 1 << 20));
    assert_eq!(stats.compressed_bytes, stored(&scratch, &key).await.len() as u64);
    assert!(stats.compressed_bytes < 512 << 10, "{stats:?}");
    // What cannot takes a little more.
    let data = noise(2, 1 << 20);
    store.put(&key_of(&data), data.clone()).await.unwrap();
    let most = store.shared.header(key_of(&data).digest).worst_case();
    assert_eq!(stored(&scratch, &key_of(&data)).await.len() as u64, most);
    assert!(most < (1 << 20) + 1_000);
}

#[tokio::test]
async fn a_part_costs_the_blocks_that_it_is_in() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = noise(3, 100 * (4 << 10) + 5);
    let key = key_of(&data);
    store.put(&key, data.clone()).await.unwrap();
    let frame = u64::from(SMALL.block_bytes) + format::FRAME_BYTES as u64;
    let header = format::HEADER_BYTES as u64;
    let ends = data.len() - 3;
    for (offset, len, blocks) in [
        (0, 1, 1),
        (4095, 1, 1),
        (4095, 2, 2),
        (4096, 4096, 1),
        (50 * 4096 + 9, 10, 1),
        (50 * 4096 - 1, 4098, 3),
        (ends, 3, 1),
    ] {
        scratch.spy.delivered_bytes();
        let part = read_part(&*store, &key, offset, len).await;
        assert_eq!(part, data[offset..offset + len], "{offset} {len}");
        let most = header + blocks * frame + 8;
        let delivered = scratch.spy.delivered_bytes();
        assert!(delivered <= most, "{offset} {len}: {delivered} bytes of {most}");
    }
    for offset in [data.len(), data.len() + 1, usize::MAX] {
        assert_eq!(read_part(&*store, &key, offset, 10).await, "");
    }
    assert_eq!(read_part(&*store, &key, 5, 0).await, "");
}

#[tokio::test]
async fn every_boundary_reads_the_same() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = [text(4, 10_000), noise(4, 10_000)].concat();
    let key = key_of(&data);
    store.put(&key, data.clone().into()).await.unwrap();
    let seams = [0, 1, 4095, 4096, 4097, 8192, 16_383, 16_384, 19_999];
    for offset in seams {
        for end in seams.into_iter().chain([20_000]).filter(|end| *end >= offset) {
            let part = read_part(&*store, &key, offset, end - offset).await;
            assert_eq!(part, data[offset..end], "{offset}..{end}");
        }
    }
}

#[tokio::test]
async fn blocks_of_another_size_are_read_up_to_the_limit() {
    let scratch = Scratch::open().await;
    let large = CompressionOptions { block_bytes: 1 << 20, ..SMALL };
    let data = text(5, 3 << 20);
    let key = key_of(&data);
    stream(&*over(&scratch, large), &key, &data, 700_000).await.unwrap();
    let store = over(&scratch, SMALL);
    assert_eq!(read(&*store, &key).await, Some(data.clone()));
    assert_eq!(read_part(&*store, &key, 2_500_000, 9).await, data[2_500_000..2_500_009]);
    // One that must not hold so much.
    let limited = CompressionOptions { max_decode_block_bytes: 1 << 19, ..SMALL };
    let store = over(&scratch, limited);
    let outcome = store.get(&key, ByteRange::ALL).await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
    assert!(is_missing(&*store, &key).await);
    assert_eq!(store.stats().corrupt, 1);
}

#[tokio::test]
async fn wrong_bytes_and_wrong_sizes_are_refused() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    for len in [100, 4096, 20_000] {
        let data = noise(6, len);
        let key = key_of(&data);
        let mut wrong = data.to_vec();
        wrong[len - 1] ^= 1;
        let wrong = Bytes::from(wrong);
        for outcome in
            [store.put(&key, wrong.clone()).await, stream(&*store, &key, &wrong, 999).await]
        {
            assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
        }
        let few = data.slice(1..);
        let many = Bytes::from([&data[..], b"!"].concat());
        for sent in [few, many] {
            let streamed = stream(&*store, &key, &sent, 999).await;
            for outcome in [store.put(&key, sent).await, streamed] {
                assert!(matches!(outcome, Err(StoreError::SizeMismatch { .. })), "{outcome:?}");
            }
        }
        assert!(is_missing(&*store, &key).await);
        // Nor when the right ones are there.
        store.put(&key, data).await.unwrap();
        let outcome = store.put(&key, wrong).await;
        assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
    }
    assert_eq!(store.stats().blobs, 3);
    scratch.assert_idle().await;
}

#[tokio::test]
async fn what_is_there_is_not_written_again() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = text(7, 20_000);
    let key = key_of(&data);
    store.put(&key, data.clone()).await.unwrap();
    scratch.spy.calls();
    let begun = store.begin_put(&key, 20_000).await.unwrap();
    assert!(matches!(begun, BeginPut::AlreadyPresent));
    store.put(&key, data).await.unwrap();
    let is_write = |call: &Call| matches!(call, Call::Put(_) | Call::BeginPut(..));
    assert!(!scratch.spy.calls().iter().any(is_write));
    // The name of no blob does not become one.
    let digest = Digest { size_bytes: 20_001, ..key.digest };
    assert!(read(&*store, &Key::blob(digest)).await.is_none());
    assert!(matches!(store.begin_put(&Key::blob(digest), 20_001).await, Ok(BeginPut::Upload(_))));
    let found = store.find_by_hash(digest.function, digest.hash).await.unwrap();
    assert_eq!(found, Some(key.digest));
}

#[tokio::test]
async fn results_pass_unchanged() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let digest = Digest::of(DigestFunction::Sha256, b"action");
    let key = Key::action_result(Namespace::of_instance("main"), digest);
    store.put(&key, "first".into()).await.unwrap();
    assert_eq!(read(&*scratch.files, &key).await, Some("first".into()));
    let mut upload = begin_result(&*store, &key, 6).await;
    upload.write("second".into()).await.unwrap();
    upload.commit().await.unwrap();
    assert_eq!(read(&*store, &key).await, Some("second".into()));
    assert_eq!(store.stats(), CompressionStats::default());
}

async fn begin_result(store: &dyn BlobStore, key: &Key, size_bytes: u64) -> Upload {
    match store.begin_put(key, size_bytes).await.unwrap() {
        BeginPut::Upload(upload) => upload,
        BeginPut::AlreadyPresent => panic!("a result is never there already"),
    }
}

#[tokio::test]
async fn i16_a_purge_takes_blobs_and_uploads_with_it() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let there = text(8, 10_000);
    let coming = text(9, 10_000);
    let blobs = Selection::Scope(PurgeScope::Namespace(Namespace::SHARED));
    let hash = Selection::Hash(key_of(&coming).digest.hash);
    for selection in [blobs, Selection::Scope(PurgeScope::All), hash] {
        let (key, data) = (key_of(&coming), &coming);
        store.put(&key_of(&there), there.clone()).await.unwrap();
        let mut upload = begin(&*store, &key).await;
        upload.write(data.slice(..9_000)).await.unwrap();
        // That it goes says that the purge has begun.
        store.put(&key, data.clone()).await.unwrap();
        let finish = async {
            while read(&*store, &key).await.is_some() {
                tokio::task::yield_now().await;
            }
            upload.write(data.slice(9_000..)).await?;
            upload.commit().await
        };
        let (purged, finished) = tokio::join!(store.purge_selected(selection), finish);
        assert!(purged.unwrap().is_drained);
        assert!(matches!(finished, Err(StoreError::Purged)), "{finished:?}");
        assert!(is_missing(&*store, &key).await);
        assert_eq!(is_missing(&*store, &key_of(&there)).await, selection != hash);
    }
    scratch.assert_idle().await;
}

#[tokio::test]
async fn what_the_store_behind_refuses_leaves_nothing() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = text(10, 40_000);
    let key = key_of(&data);
    scratch.spy.fail_to_write(true);
    for data in [data.slice(..4_000), data.clone()] {
        let outcome = store.put(&key_of(&data), data.clone()).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
        assert!(is_missing(&*store, &key_of(&data)).await);
    }
    scratch.spy.fail_to_write(false);
    let mut upload = begin(&*store, &key).await;
    upload.write(data.slice(..10_000)).await.unwrap();
    scratch.spy.fail_to_write(true);
    upload.write(data.slice(10_000..20_000)).await.unwrap_err();
    assert!(!upload.is_resumable());
    upload.write(data.slice(20_000..)).await.unwrap_err();
    drop(upload);
    scratch.spy.fail_to_write(false);
    store.put(&key, data.clone()).await.unwrap();
    // What cannot be read now is not corrupt.
    let mut reader = store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    scratch.spy.fail_to_read(true);
    let outcome = loop {
        match reader.next(1 << 20).await {
            Ok(Some(_)) => {}
            outcome => break outcome,
        }
    };
    if let Err(error) = outcome {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
    scratch.spy.fail_to_read(false);
    assert_eq!(read(&*store, &key).await, Some(data));
    assert_eq!(store.stats().corrupt, 0);
    scratch.assert_idle().await;
}

#[tokio::test]
async fn whatever_is_dropped_leaves_nothing() {
    let scratch = Scratch::open().await;
    let large = CompressionOptions { block_bytes: 128 << 10, ..SMALL };
    for options in [SMALL, large] {
        let store = over(&scratch, options);
        let data = text(11, 300_000);
        let key = key_of(&data);
        for polls in 0..40 {
            let whole = poll_only(polls, store.put(&key, data.clone())).await;
            if whole.is_none() && !is_missing(&*store, &key).await {
                assert_eq!(read(&*store, &key).await, Some(data.clone()));
            }
            store.remove(&key).await.unwrap();
            let mut upload = begin(&*store, &key).await;
            let written = poll_only(polls, upload.write(data.clone())).await;
            assert_eq!(upload.is_resumable(), written.is_some() || polls == 0);
            if written.is_some() {
                poll_only(polls, upload.commit()).await;
            } else if polls > 0 {
                upload.write("more".into()).await.unwrap_err();
                assert!(is_missing(&*store, &key).await);
            }
            store.remove(&key).await.unwrap();
        }
        store.put(&key, data.clone()).await.unwrap();
        let mut reader = store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
        let mut all = Vec::new();
        for polls in (0..3).cycle() {
            match poll_only(polls, reader.next(50_000)).await {
                Some(Ok(Some(chunk))) => all.extend_from_slice(&chunk),
                Some(Ok(None)) => break,
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        assert_eq!(all, data);
        store.remove(&key).await.unwrap();
    }
    scratch.assert_idle().await;
}

fn worst_case(size_bytes: u64) -> u64 {
    let digest = Digest { size_bytes, ..Digest::empty(DigestFunction::Sha256) };
    Header { digest, block_bytes: 4096 }.worst_case()
}

#[test]
fn the_largest_blob_is_the_largest_that_fits() {
    for limit in [36, 48, 49, 5_000, 1 << 20, (1 << 40) + 7] {
        let largest = format::largest_within(limit, 4096);
        assert!(worst_case(largest) <= limit, "{limit}");
        assert!(worst_case(largest + 1) > limit, "{limit}");
    }
    assert_eq!(format::largest_within(0, 4096), 0);
    assert_eq!(format::largest_within(u64::MAX, 4096), u64::MAX);
}

#[test]
fn wrong_options_are_named_and_made_right() {
    assert_eq!(CompressionOptions::default().check(), Ok(()));
    for (block_bytes, max_decode_block_bytes) in
        [(0, 1 << 20), (4095, 1 << 20), (u32::MAX, u32::MAX), (1 << 20, 1 << 19)]
    {
        let options = CompressionOptions { block_bytes, max_decode_block_bytes };
        assert!(options.check().is_err(), "{options:?}");
        assert_eq!(options.clamped().check(), Ok(()), "{options:?}");
    }
}

#[tokio::test]
async fn i16_a_write_that_a_purge_overtakes_while_it_looks_for_its_blob_is_cut_off() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = text(31, 50_000);
    for len in [100, data.len()] {
        let data = data.slice(..len);
        let key = key_of(&data);
        let held = scratch.spy.hold_lookups().await;
        let purging = async {
            scratch.spy.looked_up().await;
            store.purge_selected(Selection::Scope(PurgeScope::All)).await.unwrap();
            drop(held);
        };
        let (written, ()) = tokio::join!(store.put(&key, data.clone()), purging);
        assert!(matches!(written, Err(StoreError::Purged)), "{written:?}");
        assert_eq!(read(&*store, &key).await, None);
        store.put(&key, data.clone()).await.unwrap();
        assert_eq!(read(&*store, &key).await, Some(data));
    }
}
