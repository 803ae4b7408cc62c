//! Stored bytes that are not what was stored: never wrong bytes, never a panic.

use proptest::prelude::*;

use super::super::format::{FRAME_BYTES, HEADER_BYTES};
use super::*;
use crate::store::BlobStoreExt as _;

/// Reads of the whole and of parts give the bytes, or an error, or nothing.
async fn assert_never_wrong(store: &CompressionStore, key: &Key, data: &[u8]) -> bool {
    let mut is_noticed = false;
    let ranges = [(0, data.len()), (data.len() - 1, 1), (1, 4_100), (5_000, 3), (9_000, 1_000)];
    for (offset, limit) in ranges {
        let range = ByteRange { offset: offset as u64, limit: Some(limit as u64) };
        let reader = match store.get(key, range).await {
            Ok(Some(reader)) => reader,
            Ok(None) => return true,
            Err(StoreError::Corrupt { .. }) => {
                is_noticed = true;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        match reader.read_all().await {
            Ok(part) => assert_eq!(part, data[offset..data.len().min(offset + limit)]),
            Err(StoreError::Corrupt { .. }) => is_noticed = true,
            Err(error) => panic!("{error}"),
        }
    }
    is_noticed
}

#[tokio::test]
async fn i20_no_changed_byte_becomes_a_wrong_one() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = [text(1, 9_000), noise(1, 1_000)].concat();
    let key = key_of(&data);
    store.put(&key, data.clone().into()).await.unwrap();
    let right = stored(&scratch, &key).await;
    let index = right.len() - 2 * 8;
    let mut places: Vec<usize> = (0..HEADER_BYTES + FRAME_BYTES + 9).collect();
    places.extend((places.len()..index).step_by(37));
    places.extend(index..right.len());
    for place in places {
        let mut wrong = right.to_vec();
        wrong[place] ^= 1 << (place % 8);
        scratch.files.put(&stored_key(&key), wrong.into()).await.unwrap();
        let before = store.stats().corrupt;
        assert!(assert_never_wrong(&store, &key, &data).await, "byte {place} was not missed");
        assert!(is_missing(&*store, &key).await, "byte {place}");
        assert_eq!(store.stats().corrupt, before + 1);
    }
    // The next upload heals.
    store.put(&key, data.clone().into()).await.unwrap();
    assert_eq!(read(&*store, &key).await, Some(data.into()));
    scratch.assert_idle().await;
}

#[tokio::test]
async fn i20_no_other_length_becomes_wrong_bytes() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let data = [text(2, 9_000), noise(2, 1_000)].concat();
    let key = key_of(&data);
    store.put(&key, data.clone().into()).await.unwrap();
    let right = stored(&scratch, &key).await;
    for len in (0..right.len()).step_by(41).chain(right.len() - 20..right.len()) {
        scratch.files.put(&stored_key(&key), right.slice(..len)).await.unwrap();
        assert!(assert_never_wrong(&store, &key, &data).await, "{len} bytes");
    }
    for more in [1, 8, 5_000] {
        let longer = [&right[..], &noise(3, more)].concat();
        scratch.files.put(&stored_key(&key), longer.into()).await.unwrap();
        assert!(assert_never_wrong(&store, &key, &data).await, "{more} bytes more");
    }
}

#[tokio::test]
async fn i20_another_blob_does_not_stand_for_this_one() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let (data, other) = (text(3, 9_000), text(4, 9_000));
    let (key, other_key) = (key_of(&data), key_of(&other));
    store.put(&other_key, other.clone()).await.unwrap();
    let stolen = stored(&scratch, &other_key).await;
    scratch.files.put(&stored_key(&key), stolen).await.unwrap();
    assert!(assert_never_wrong(&store, &key, &data).await);
    // Not even where all checksums were made for it.
    let header = store.shared.header(key.digest);
    let mut forged = header.encode().to_vec();
    let mut ends = Vec::new();
    for (number, block) in other.chunks(4096).enumerate() {
        header.seal().encode_block(number as u64, block, &mut forged);
        ends.push(forged.len() as u64);
    }
    ends.pop();
    forged.extend(ends.iter().flat_map(|end| end.to_le_bytes()));
    scratch.files.put(&stored_key(&key), forged.into()).await.unwrap();
    let mut reader = store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    let mut delivered = 0;
    let error = loop {
        match reader.next(1 << 20).await {
            Ok(chunk) => delivered += chunk.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert_eq!(delivered, 8192, "the last block is withheld");
    assert!(reader.next(1).await.is_err());
    assert!(is_missing(&*store, &key).await);
}

/// A blob of one block that is stored as `body`, with checksums that are right.
fn forge(header: &Header, word: u32, body: &[u8]) -> Bytes {
    let checksum = header.seal().checksum(0, word, body);
    [&header.encode()[..], &word.to_le_bytes(), &checksum, body].concat().into()
}

#[tokio::test]
async fn i22_what_is_declared_allocates_nothing() {
    let scratch = Scratch::open().await;
    let store = over(&scratch, SMALL);
    let hash = [7; HASH_BYTES];
    for size_bytes in [0, 1, 4096, 1 << 40, u64::MAX] {
        let digest = Digest { function: DigestFunction::Sha256, hash, size_bytes };
        let key = Key::blob(digest);
        let header = store.shared.header(digest);
        let bomb = lz4_flex::block::compress(&vec![0; 900_000]);
        let bomb_word = u32::try_from(bomb.len()).unwrap();
        let forged = [
            forge(&header, 0, b""),
            forge(&header, u32::MAX, b"x"),
            forge(&header, u32::MAX >> 1, b"x"),
            forge(&header, 1 << 31, b""),
            forge(&header, 3, b"\xff\xff\xff"),
            forge(&header, bomb_word, &bomb),
            Bytes::copy_from_slice(&header.encode()),
        ];
        for stored in forged {
            scratch.files.put(&stored_key(&key), stored).await.unwrap();
            let found = store.find_by_hash(digest.function, hash).await.unwrap();
            assert_eq!(found, Some(digest));
            for offset in [0, 4096, size_bytes - size_bytes.min(1)] {
                let range = ByteRange { offset, limit: None };
                let Ok(Some(mut reader)) = store.get(&key, range).await else { continue };
                if size_bytes > offset {
                    let outcome = reader.next(1 << 20).await;
                    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
                }
            }
        }
    }
}

#[test]
fn i20_chance_is_no_blob() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = runtime.block_on(Scratch::open());
    let store = over(&scratch, SMALL);
    let data = text(5, 10_000);
    let key = key_of(&data);
    let head = store.shared.header(key.digest).encode();
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
    proptest!(config, |(bytes in prop::collection::vec(any::<u8>(), 0..300), has_head: bool)| {
        let head = if has_head { &head[..] } else { &[] };
        let stored = Bytes::from([head, &bytes].concat());
        runtime.block_on(async {
            scratch.files.put(&stored_key(&key), stored).await.unwrap();
            assert!(assert_never_wrong(&store, &key, &data).await);
            store.find_by_hash(key.digest.function, key.digest.hash).await.unwrap();
            assert!(store.get_all(&key, 1 << 20).await.unwrap_or_default().is_none());
        });
    });
}
