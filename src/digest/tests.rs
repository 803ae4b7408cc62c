//! Digests, hashing and resource names.

use super::*;

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const SHA256: DigestFunction = DigestFunction::Sha256;

fn sha256(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

#[test]
fn known_vectors_of_both_functions() {
    for (function, data, hash) in [
        (
            DigestFunction::Sha256,
            "abc",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            DigestFunction::Blake3,
            "abc",
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        ),
    ] {
        assert_eq!(Digest::of(function, data.as_bytes()).hash_hex().as_str(), hash);
        let empty = Digest::of(function, b"");
        assert_eq!(empty, Digest::empty(function));
    }
}

#[test]
fn reapi_1_a_hash_is_lower_case_hexadecimal_of_full_length() {
    let parse = |hash: &str| Digest::parse(DigestFunction::Sha256, hash.as_bytes(), 5);
    assert!(parse(HASH).is_ok());
    let upper = HASH.to_uppercase();
    assert!(matches!(parse(&upper), Err(InvalidDigest::Hash { .. })));
    assert!(matches!(parse(&HASH.replace('0', "g")), Err(InvalidDigest::Hash { .. })));
    for length in [0, 1, 40, 63] {
        assert!(matches!(parse(&HASH[..length]), Err(InvalidDigest::Length { .. })));
    }
    assert!(matches!(parse(&format!("{HASH}0")), Err(InvalidDigest::Length { .. })));
    // The text is shortened, its length is not.
    let long = parse(&HASH.repeat(2)).unwrap_err();
    assert!(matches!(long, InvalidDigest::Length { length: 128, .. }), "{long}");
    assert!(matches!(parse(&"\u{e9}".repeat(32)), Err(InvalidDigest::Hash { .. })));
}

#[test]
fn reapi_2_10_sizes_are_not_negative_and_zero_belongs_to_the_empty_blob() {
    let parse = |hash: &str, size| Digest::parse(DigestFunction::Sha256, hash.as_bytes(), size);
    assert!(matches!(parse(HASH, -1), Err(InvalidDigest::Size { .. })));
    assert!(matches!(parse(HASH, 0), Err(InvalidDigest::Empty { .. })));
    let empty = Digest::empty(DigestFunction::Sha256);
    assert_eq!(parse(empty.hash_hex().as_str(), 0).unwrap(), empty);
    assert!(matches!(parse(empty.hash_hex().as_str(), 1), Err(InvalidDigest::Empty { .. })));
}

#[test]
fn reapi_3_4_an_unset_function_is_sha256_and_unknown_ones_are_refused() {
    assert_eq!(DigestFunction::from_wire(0), Ok(DigestFunction::Sha256));
    for function in DigestFunction::ALL {
        assert_eq!(DigestFunction::from_wire(function.to_wire()), Ok(function));
    }
    for value in [-1, 2, 3, 4, 5, 6, 7, 8, 10, 11, i32::MAX] {
        assert_eq!(DigestFunction::from_wire(value), Err(InvalidFunction { value }));
    }
}

#[test]
fn reapi_49_names_that_can_be_read() {
    for (name, instance, function, compressor) in [
        (format!("blobs/{HASH}/5"), "", DigestFunction::Sha256, Compressor::Identity),
        (format!("main/blobs/{HASH}/5"), "main", DigestFunction::Sha256, Compressor::Identity),
        (
            format!("a/b/c/blobs/blake3/{HASH}/5"),
            "a/b/c",
            DigestFunction::Blake3,
            Compressor::Identity,
        ),
        (format!("compressed-blobs/zstd/{HASH}/5"), "", DigestFunction::Sha256, Compressor::Zstd),
        (
            format!("x/compressed-blobs/deflate/blake3/{HASH}/5"),
            "x",
            DigestFunction::Blake3,
            Compressor::Deflate,
        ),
    ] {
        let parsed = ReadResource::parse(&name, SHA256).unwrap();
        assert_eq!(parsed.instance_name, instance, "{name}");
        assert_eq!((parsed.digest.function, parsed.compressor), (function, compressor), "{name}");
        assert_eq!(parsed.digest.size_bytes, 5);
    }
}

#[test]
fn names_without_a_function_have_the_one_that_is_asked_for() {
    for unnamed in DigestFunction::ALL {
        let read = ReadResource::parse(&format!("blobs/{HASH}/5"), unnamed).unwrap();
        assert_eq!(read.digest.function, unnamed);
        let write = WriteResource::parse(&format!("uploads/u/blobs/{HASH}/5"), unnamed).unwrap();
        assert_eq!(write.digest.function, unnamed);
        let named = ReadResource::parse(&format!("blobs/blake3/{HASH}/5"), unnamed).unwrap();
        assert_eq!(named.digest.function, DigestFunction::Blake3);
    }
}

#[test]
fn reapi_6_13_52_names_that_cannot_be_read() {
    for name in [
        String::new(),
        "blobs".to_owned(),
        format!("blobs/{HASH}"),
        format!("/blobs/{HASH}/5"),
        format!("a//blobs/{HASH}/5"),
        format!("blobs/{HASH}/5/"),
        format!("blobs/{HASH}/5/more"),
        format!("blobs/{HASH}/-5"),
        format!("blobs/{HASH}/+5"),
        format!("blobs/{HASH}/05"),
        format!("blobs/{HASH}/5 "),
        format!("blobs/{HASH}/9223372036854775808"),
        format!("blobs/sha256/{HASH}/5"),
        format!("blobs/{}/5", HASH.to_uppercase()),
        format!("uploads/u/blobs/{HASH}/5"),
        format!("compressed-blobs/identity/{HASH}/5"),
        format!("compressed-blobs/gzip/{HASH}/5"),
        format!("compressed-blobs/zstd/blobs/{HASH}/5"),
        format!("actions/blobs/{HASH}/5"),
        format!("{}/blobs/{HASH}/5", "i".repeat(2_000)),
        "b".repeat(100_000),
    ] {
        assert!(ReadResource::parse(&name, SHA256).is_err(), "{name}");
    }
}

#[test]
fn reapi_50_51_names_that_can_be_written() {
    for (name, instance, uuid) in [
        (format!("uploads/u-1/blobs/{HASH}/5"), "", "u-1"),
        (format!("a/b/uploads/u/blobs/{HASH}/5/foo/bar.cc"), "a/b", "u"),
        (format!("uploads/u/blobs/{HASH}/5/blobs/x/1"), "", "u"),
        (format!("uploads/blobs/blobs/{HASH}/5"), "", "blobs"),
        (format!("uploads/not a uuid/blobs/blake3/{HASH}/5/uploads/y"), "", "not a uuid"),
    ] {
        let parsed = WriteResource::parse(&name, SHA256).unwrap();
        assert_eq!((parsed.instance_name.as_str(), parsed.uuid.as_str()), (instance, uuid));
    }
    for name in [
        format!("blobs/{HASH}/5"),
        format!("uploads//blobs/{HASH}/5"),
        format!("uploads/u/{HASH}/5"),
        format!("uploads/u/blobs/{HASH}"),
        format!("/uploads/u/blobs/{HASH}/5"),
        format!("a/blobs/uploads/u/blobs/{HASH}/5"),
        format!("uploads/{}/blobs/{HASH}/5", "u".repeat(300)),
    ] {
        assert!(WriteResource::parse(&name, SHA256).is_err(), "{name}");
    }
}

#[test]
fn reapi_11_instance_names() {
    for name in ["", "main", "projects/p/instances/default_instance", "\u{e9}t\u{e9}"] {
        assert_eq!(check_instance_name(name), Ok(()), "{name}");
    }
    for name in ["/", "a/", "/a", "a//b", "a/blobs", "uploads", "x/compressed-blobs/y", "a\0b"] {
        assert!(check_instance_name(name).is_err(), "{name}");
    }
}

#[test]
fn an_error_never_repeats_a_hostile_name_at_length() {
    let error = ReadResource::parse(&"x".repeat(10_000), SHA256).unwrap_err().to_string();
    assert!(error.len() < 300, "{error}");
}

#[test]
fn a_digest_displays_as_resource_names_spell_it() {
    let digest = sha256(b"abc");
    assert_eq!(digest.to_string(), format!("{}/3", digest.hash_hex().as_str()));
    let digest = Digest::of(DigestFunction::Blake3, b"abc");
    assert_eq!(digest.to_string(), format!("blake3/{}/3", digest.hash_hex().as_str()));
}

proptest::proptest! {
    #[test]
    fn no_name_panics_and_what_parses_prints_the_same(name in "[a-z0-9/-]{0,120}|.{0,80}") {
        drop(WriteResource::parse(&name, SHA256));
        if let Ok(parsed) = ReadResource::parse(&name, SHA256) {
            proptest::prop_assert!(name.ends_with(&parsed.digest.to_string()));
        }
    }

    #[test]
    fn names_made_of_their_parts_parse_again(
        instance in "([a-z]{1,5}/){0,3}",
        uuid in "[a-zA-Z0-9-]{1,36}",
        data: Vec<u8>,
        metadata in "(/[a-z]{0,8}){0,3}",
        is_blake3: bool,
    ) {
        let function =
            if is_blake3 { DigestFunction::Blake3 } else { DigestFunction::Sha256 };
        let digest = Digest::of(function, &data);
        let reserved = ["blobs", "uploads", "actions"].iter().any(|it| instance.contains(it));
        let name = format!("{instance}uploads/{uuid}/blobs/{digest}{metadata}");
        let parsed = WriteResource::parse(&name, SHA256);
        proptest::prop_assert!(reserved || parsed.is_ok_and(|it| it.digest == digest));
    }
}
