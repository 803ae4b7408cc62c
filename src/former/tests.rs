//! Names and casblobs: what is read, and what of a hostile directory is refused.

use std::io;

use super::*;
use crate::digest::{Digest, DigestFunction};

#[path = "../../examples/former_cache/fixtures/casblob.rs"]
pub(crate) mod written;

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn hash() -> [u8; 32] {
    const_hex::decode_to_array(HASH).unwrap()
}

#[test]
fn names_of_nativelink_have_a_size() {
    for size in [0, 1, 1234, i64::MAX as u64] {
        let name =
            FormerName { hash: hash(), size_bytes: Some(size), encoding: FormerEncoding::Identity };
        assert_eq!(nativelink(&format!("{HASH}-{size}")), Some(name));
    }
    for size in ["", "-1", "+1", "01", "00", " 1", "1 ", "1-2", "9223372036854775808", "1.exec"] {
        assert_eq!(nativelink(&format!("{HASH}-{size}")), None, "{size}");
    }
    for name in [HASH, "", "-", "-5", "d", "FORMAT"] {
        assert_eq!(nativelink(name), None, "{name}");
    }
    assert_eq!(nativelink(&format!("{}-5", HASH.to_uppercase())), None);
    assert_eq!(nativelink(&format!("{}-5", &HASH[1..])), None);
    assert_eq!(nativelink(&format!("0{HASH}-5")), None);
}

#[test]
fn names_of_blobs_of_bazel_remote_say_how_they_are_stored() {
    let read = |rest: &str| {
        let name = bazel_remote_cas(0x01, &format!("{HASH}{rest}"))?;
        assert_eq!(name.hash, hash());
        Some((name.size_bytes, name.encoding))
    };
    let (casblob, identity) = (FormerEncoding::Casblob, FormerEncoding::Identity);
    assert_eq!(read("-5-123456789"), Some((Some(5), casblob)));
    assert_eq!(read("-5-a"), Some((Some(5), casblob)));
    assert_eq!(read("-123456789.v1"), Some((None, identity)));
    assert_eq!(read("-5-123456789.v1"), Some((Some(5), identity)));
    assert_eq!(read(&format!("-{}-1", i64::MAX)), Some((Some(i64::MAX as u64), casblob)));
    for rest in [
        "",
        "-",
        ".v1",
        "-.v1",
        // Without a size.
        "-123456789",
        "--1",
        "-0-1",
        "-05-1",
        "-+5-1",
        "-5x-1",
        "-5-",
        "-5--1",
        "-5-1-2",
        "-5-1.v2",
        "-5-1.v1.v1",
        "-5-_",
        "-5-1/",
        "-9223372036854775808-1",
    ] {
        assert_eq!(read(rest), None, "{rest}");
    }
    assert_eq!(bazel_remote_cas(0x02, &format!("{HASH}-5-1")), None, "another bucket");
    assert_eq!(bazel_remote_cas(0x01, &format!("{}-5-1", HASH.to_uppercase())), None);
    assert_eq!(bazel_remote_cas(0x01, &format!("{}-5-1", &HASH[..63])), None);
}

#[test]
fn names_of_results_of_bazel_remote_have_a_random_part() {
    let read = |rest: &str| bazel_remote_result(0x01, &format!("{HASH}{rest}"));
    assert_eq!(read("-123456789"), Some(hash()));
    assert_eq!(read("-aZ9"), Some(hash()));
    for rest in ["", "-", "-1-2", "-1.v1", "-\u{e9}"] {
        assert_eq!(read(rest), None, "{rest}");
    }
    assert_eq!(bazel_remote_result(0x10, &format!("{HASH}-1")), None, "another bucket");
}

#[test]
fn results_of_instances_are_apart_where_they_are_mangled() {
    assert_eq!(mangled_action_hash(&hash(), ""), hash());
    let expected = Digest::of(DigestFunction::Sha256, format!("{HASH}main/x").as_bytes());
    assert_eq!(mangled_action_hash(&hash(), "main/x"), expected.hash);
}

/// A file that gives a few bytes at a time, and knows how far it was read.
struct File<'a> {
    bytes: &'a [u8],
    piece_bytes: usize,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, piece_bytes: usize::MAX }
    }
}

impl ReadAt for File<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len()).min(self.piece_bytes);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

fn decode_from(file: &File<'_>) -> Result<Vec<u8>, CasblobError> {
    let casblob = Casblob::open(file, file.bytes.len() as u64)?;
    let mut decoded = Vec::new();
    casblob.decode(file, |piece| {
        decoded.extend_from_slice(piece);
        Ok(())
    })?;
    assert_eq!(decoded.len() as u64, casblob.size_bytes());
    Ok(decoded)
}

fn decode(bytes: &[u8]) -> Result<Vec<u8>, CasblobError> {
    decode_from(&File::new(bytes))
}

/// Bytes of which some compress and some do not.
fn data(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|at| if at % 512 < 256 { random.u8(..) } else { 7 }).collect()
}

/// A casblob with a field of its header changed.
fn with(file: &[u8], offset: usize, field: &[u8]) -> Vec<u8> {
    let mut changed = file.to_vec();
    changed[offset..offset + field.len()].copy_from_slice(field);
    changed
}

#[test]
fn casblobs_of_any_number_of_chunks_are_decoded() {
    for (len, chunk_bytes) in [
        (1, 1 << 20),
        (1000, 1000),
        (1001, 1000),
        (5000, 1000),
        (3 << 20, written::CHUNK_BYTES),
        (700, 1),
    ] {
        let data = data(len);
        let file = written::compressed(&data, chunk_bytes).unwrap();
        assert_eq!(decode(&file).unwrap(), data, "{len} in chunks of {chunk_bytes}");
    }
    // More than the buffer that is copied with.
    for len in [1, 300_000] {
        let data = data(len);
        assert_eq!(decode(&written::uncompressed(&data)).unwrap(), data);
    }
}

#[test]
fn a_file_that_is_read_in_small_pieces_is_decoded_too() {
    let data = data(3000);
    let file = written::compressed(&data, 1000).unwrap();
    assert_eq!(decode_from(&File { bytes: &file, piece_bytes: 3 }).unwrap(), data);
}

#[test]
fn the_number_of_offsets_may_leave_out_the_last() {
    let data = data(3000);
    let file = written::compressed(&data, 1000).unwrap();
    assert_eq!(decode(&with(&file, 21, &3_i64.to_le_bytes())).unwrap(), data);
    for wrong in [i64::MIN, -1, 0, 2, 5, i64::MAX] {
        assert!(decode(&with(&file, 21, &wrong.to_le_bytes())).is_err(), "{wrong}");
    }
}

#[test]
fn opening_says_that_a_file_is_torn_without_its_data() {
    let file = written::compressed(&data(3000), 1000).unwrap();
    let open = |file: &[u8]| {
        // All that is there to be read is the header.
        let header = File::new(&file[..written::FIXED_BYTES + 4 * 8]);
        Casblob::open(&header, file.len() as u64).map(|casblob| casblob.size_bytes())
    };
    assert_eq!(open(&file).unwrap(), 3000);
    let refused = |file: &[u8]| matches!(open(file), Err(CasblobError::Invalid(_)));
    assert!(refused(&file[..file.len() - 1]), "cut off");
    assert!(refused(&[&file, &b"x"[..]].concat()), "too long");
    assert!(refused(&with(&file, written::FIXED_BYTES, &[0; 4 * 8])), "no offsets");
    // What the writer leaves there until it is done.
    let unfinished = with(&file, written::FIXED_BYTES + 8, &[0; 3 * 8]);
    assert!(refused(&with(&unfinished, written::FIXED_BYTES, &[29])));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let file = written::compressed(&data(3000), 1000).unwrap();
    for (what, offset, field) in [
        ("magic", 0, 0_u32.to_le_bytes().as_slice()),
        ("a header of nothing", 4, &0_u32.to_le_bytes()),
        ("a header of gigabytes", 4, &u32::MAX.to_le_bytes()),
        ("no size", 8, &0_i64.to_le_bytes()),
        ("a size below nothing", 8, &i64::MIN.to_le_bytes()),
        ("the largest size", 8, &i64::MAX.to_le_bytes()),
        ("a compression of the future", 16, &[2]),
        ("chunks of nothing", 17, &0_u32.to_le_bytes()),
        ("chunks of a byte", 17, &1_u32.to_le_bytes()),
        ("chunks over the limit", 17, &((16_u32 << 20) + 1).to_le_bytes()),
        ("an offset below nothing", 37, &(-1_i64).to_le_bytes()),
    ] {
        let refused = decode(&with(&file, offset, field));
        assert!(matches!(refused, Err(CasblobError::Invalid(_))), "{what}");
    }
    assert!(matches!(decode(b""), Err(CasblobError::Invalid(_))));
}

#[test]
fn a_chunk_gives_no_more_than_its_length() {
    // The header promises 100 bytes; the frame has a megabyte.
    let bomb = written::compressed(&vec![0; 1 << 20], 1 << 20).unwrap();
    assert!(decode(&with(&bomb, 8, &100_i64.to_le_bytes())).is_err());
    // The frame has fewer than promised.
    assert!(decode(&with(&bomb, 8, &((1_i64 << 20) - 1).to_le_bytes())).is_err());
    let short = written::compressed(&data(3000), 1000).unwrap();
    assert!(decode(&with(&short, 8, &2999_i64.to_le_bytes())).is_err());
}

#[test]
fn what_the_writer_refuses_ends_the_decoding() {
    let file = written::compressed(&data(3000), 1000).unwrap();
    let casblob = Casblob::open(&File::new(&file), file.len() as u64).unwrap();
    let mut calls = 0;
    let outcome = casblob.decode(&File::new(&file), |_| {
        calls += 1;
        Err(io::Error::other("full"))
    });
    assert!(matches!(outcome, Err(CasblobError::Io(_))));
    assert_eq!(calls, 1);
}

#[test]
fn every_truncation_is_refused() {
    for file in [
        written::compressed(&data(3000), 1000).unwrap(),
        written::compressed(&data(1), 1000).unwrap(),
        written::uncompressed(&data(100)),
    ] {
        for len in 0..file.len() {
            assert!(decode(&file[..len]).is_err(), "{len}");
        }
        // The same while it is being read.
        let casblob = Casblob::open(&File::new(&file), file.len() as u64).unwrap();
        for len in 0..file.len() {
            assert!(casblob.decode(&File::new(&file[..len]), |_| Ok(())).is_err(), "{len}");
        }
    }
}

#[test]
fn a_changed_byte_never_changes_the_length() {
    let data = data(1500);
    for file in [written::compressed(&data, 500).unwrap(), written::uncompressed(&data[..100])] {
        let expected = decode(&file).unwrap().len();
        for at in 0..file.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= change;
                if let Ok(decoded) = decode(&changed) {
                    assert_eq!(decoded.len(), expected, "byte {at}");
                }
            }
        }
    }
}
