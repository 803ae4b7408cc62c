//! Names and headers, read as they are written.

use super::*;

fn digest(size_bytes: u64) -> Digest {
    Digest { function: DigestFunction::Sha256, hash: [0xab; 32], size_bytes }
}

#[test]
fn members_are_read_as_they_are_named() {
    for function in DigestFunction::ALL {
        for size_bytes in [1, 1234, i64::MAX as u64] {
            let digest = Digest { function, ..digest(size_bytes) };
            for member in [Member::Blob(digest), Member::Result(digest)] {
                assert_eq!(Member::parse(member.to_string().as_bytes()), Some(member));
            }
        }
        let unknown = Member::Result(Digest { function, ..digest(0) });
        assert_eq!(Member::parse(unknown.to_string().as_bytes()), Some(unknown));
        let empty = Member::Blob(Digest::empty(function));
        assert_eq!(Member::parse(empty.to_string().as_bytes()), Some(empty));
    }
    let name = Member::Blob(digest(5)).to_string();
    let near = [
        name.to_uppercase(),
        name.replace('-', "/"),
        name.replace("-5", ""),
        name.replace("-5", "-+5"),
        name.replace("-5", "-05"),
        name.replace("-5", "-0"),
        name.replace("-5", "-9223372036854775808"),
        format!("{name}/"),
        format!("{name}/x"),
        format!("/{name}"),
        format!("../{name}"),
        name.replace("sha256", "sha1"),
    ];
    for name in near {
        assert_eq!(Member::parse(name.as_bytes()), None, "{name}");
    }
    assert_eq!(Member::parse(b"\xff/\xff/\xff"), None);
}

#[test]
fn headers_say_what_was_written_whatever_the_size() {
    // The longest name and a size that no field of octal digits takes.
    let digest = Digest { function: DigestFunction::Blake3, ..digest(i64::MAX as u64) };
    for member in [Member::Blob(digest), Member::Result(digest)] {
        for size_bytes in [0, 1, 8 << 30, (8 << 30) - 1, i64::MAX as u64] {
            let block = header(&member.to_string(), size_bytes).unwrap();
            let read = Described::read(&block).unwrap();
            assert_eq!(read.size_bytes, size_bytes);
            assert_eq!(read.member(), Ok(member));
        }
    }
}

#[test]
fn a_changed_header_is_noticed() {
    let block = header(&Member::Blob(digest(5)).to_string(), 5).unwrap();
    for at in 0..BLOCK_BYTES {
        let mut changed = block;
        changed[at] ^= 1;
        // The field of the checksum has bytes behind its end.
        let is_same = Described::read(&changed).is_ok_and(|it| it.size_bytes == 5);
        assert!(!is_same || (148..156).contains(&at), "byte {at}");
    }
}

#[test]
fn members_end_where_a_block_does() {
    for (size_bytes, padding_bytes) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
        assert_eq!(padding(size_bytes), padding_bytes);
    }
}
