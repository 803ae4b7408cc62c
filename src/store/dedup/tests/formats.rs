//! What is stored: where blobs are cut, and their lists.

use proptest::prelude::*;

use super::super::chunker::Chunker;
use super::super::list::{ListBuilder, list_bytes, max_chunks};
use super::*;

/// Cuts data that comes in pieces of `piece` bytes.
fn cut(options: DedupOptions, data: &Bytes, piece: usize) -> Vec<Bytes> {
    let mut chunker = Chunker::new(options);
    let mut chunks = Vec::new();
    let mut rest = data.clone();
    while !rest.is_empty() {
        let mut some = rest.split_to(piece.min(rest.len()));
        while let Some(chunk) = chunker.next(&mut some) {
            chunks.push(chunk);
        }
        assert!(some.is_empty());
    }
    while let Some(chunk) = chunker.next_at_end() {
        chunks.push(chunk);
    }
    chunks
}

#[test]
fn where_blobs_are_cut_stays() {
    let mut data = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    let data = Bytes::from(data);
    let lens: Vec<usize> =
        cut(DedupOptions::default(), &data, 4 << 20).iter().map(Bytes::len).collect();
    assert_eq!(lens, GOLDEN_LENS);
}

const GOLDEN_LENS: [usize; 11] = [
    524_288, 301_351, 305_508, 316_312, 212_550, 286_725, 67_744, 432_899, 329_930, 291_600, 76_821,
];

#[test]
fn how_the_bytes_come_does_not_move_the_cuts() {
    for data in [noise(31, 100_000), Bytes::from(vec![0; 100_000])] {
        let whole = cut(SMALL, &data, usize::MAX);
        assert_eq!(whole.concat(), data);
        for piece in [1, 1000, 16 << 10, 17 << 10, 40_000] {
            assert_eq!(cut(SMALL, &data, piece), whole, "{piece}");
        }
        let (last, others) = whole.split_last().unwrap();
        assert!((1..=16 << 10).contains(&last.len()));
        for chunk in others {
            assert!((1 << 10..=16 << 10).contains(&chunk.len()), "{}", chunk.len());
        }
    }
}

#[test]
fn wrong_options_are_named_and_made_right() {
    assert_eq!(DedupOptions::default().check(), Ok(()));
    assert_eq!(SMALL.check(), Ok(()));
    let wrong = [
        DedupOptions { min_bytes: 62, ..SMALL },
        DedupOptions { min_bytes: 1025, ..SMALL },
        DedupOptions { min_bytes: 2 << 20, normal_bytes: 2 << 20, max_bytes: 4 << 20, ..SMALL },
        DedupOptions { min_bytes: 8 << 10, ..SMALL },
        DedupOptions { normal_bytes: 4097, ..SMALL },
        DedupOptions { normal_bytes: 8 << 20, max_bytes: 16 << 20, ..SMALL },
        DedupOptions { max_bytes: 65_535, ..SMALL },
        DedupOptions { max_bytes: 32 << 20, ..SMALL },
        DedupOptions { max_bytes: 2 << 10, ..SMALL },
        DedupOptions { max_concurrent_fetches: 0, ..SMALL },
        DedupOptions { max_concurrent_fetches: usize::MAX, ..SMALL },
    ];
    let data = noise(32, 50_000);
    for options in wrong {
        let text = options.check().unwrap_err();
        assert!(!text.is_empty());
        assert_eq!(options.clamped().check(), Ok(()), "{options:?}");
        assert_eq!(cut(options.clamped(), &data, 9_999).concat(), data);
    }
}

fn sample() -> List {
    let mut builder = ListBuilder::default();
    builder.push(&Digest::of(DigestFunction::Sha256, b"hello "));
    builder.push(&Digest::of(DigestFunction::Sha256, b"world"));
    builder.finish(Digest::of(DigestFunction::Sha256, b"hello world"))
}

fn parse(encoded: &Bytes) -> Option<List> {
    let Digest { function, hash, .. } = sample().digest;
    List::parse(encoded, function, hash)
}

#[test]
fn the_format_stays() {
    let list = sample();
    assert_eq!(const_hex::encode(list.encoded()), GOLDEN_LIST);
    assert_eq!(parse(list.encoded()), Some(list));
    let empty = ListBuilder::default().finish(Digest::empty(DigestFunction::Blake3));
    let Digest { function, hash, .. } = empty.digest;
    assert_eq!(List::parse(empty.encoded(), function, hash), Some(empty));
}

const GOLDEN_LIST: &str = "4353444c010100000b00000000000000020000005e3235a8346e5a4585f8c585\
     62f5052b8fe26a3bb122e1e96c76784964dfc46106000000486ea46224d1bb4f\
     b680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a70500000067898927\
     ef7006fef7688b0204f8e0c7";

#[test]
fn a_changed_list_is_none() {
    let right = sample().encoded().clone();
    assert_eq!(right.len() as u64, list_bytes(2));
    for place in 0..right.len() {
        for bit in 0..8 {
            let mut wrong = right.to_vec();
            wrong[place] ^= 1 << bit;
            assert_eq!(parse(&wrong.into()), None, "byte {place}, bit {bit}");
        }
        assert_eq!(parse(&right.slice(..place)), None, "{place} bytes");
    }
    assert_eq!(parse(&[&right[..], b"\0"].concat().into()), None);
    // Nor is it another blob's.
    let hash = [0; HASH_BYTES];
    assert_eq!(List::parse(&right, DigestFunction::Sha256, hash), None);
    let Digest { hash, .. } = sample().digest;
    assert_eq!(List::parse(&right, DigestFunction::Blake3, hash), None);
}

#[test]
fn a_list_that_does_not_add_up_is_none() {
    for sizes in [&[11, 0][..], &[10], &[12], &[], &[1, 9], &[u64::from(u32::MAX), 11]] {
        let mut builder = ListBuilder::default();
        for size_bytes in sizes {
            builder.push(&Digest { size_bytes: *size_bytes, ..sample().digest });
        }
        let list = builder.finish(sample().digest);
        assert_eq!(parse(list.encoded()), None, "{sizes:?}");
    }
}

#[test]
fn a_blob_of_the_largest_size_has_a_list() {
    for limit in [0, 35, 36, 71, 72, 1_000, 1 << 20] {
        let chunks = max_chunks(limit);
        assert!(chunks == 0 || list_bytes(chunks) <= limit, "{limit}");
        assert!(list_bytes(chunks + 1) > limit, "{limit}");
    }
    assert!(list::may_have(list_bytes(max_chunks(u64::MAX))));
    assert!(!list::may_have(list_bytes(max_chunks(u64::MAX) + 1)));
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn chance_is_no_list(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(parse(&bytes.into()), None);
    }

    #[test]
    fn any_options_cut_without_loss(
        min_bytes in 0..40_000_u32, normal_bytes in 0..40_000_u32, max_bytes in 0..40_000_u32,
        len in 0..90_000_usize, piece in 1..50_000_usize,
    ) {
        let options = DedupOptions { min_bytes, normal_bytes, max_bytes, ..SMALL }.clamped();
        prop_assert_eq!(options.check(), Ok(()));
        let data = noise(u64::from(min_bytes), len);
        let chunks = cut(options, &data, piece);
        prop_assert_eq!(chunks.concat(), data);
        let most = (len as u64).div_ceil(u64::from(options.min_bytes));
        prop_assert!(chunks.len() as u64 <= most);
    }
}
