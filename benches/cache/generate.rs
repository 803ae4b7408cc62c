//! A directory with many blobs, made without a server.
//!
//! Names and bytes are true: the server hashes what it cannot know to be whole.

use std::fs::{File, create_dir_all};
use std::io::Write as _;
use std::path::Path;

use castellan::digest::{Digest, DigestFunction};

/// Lengths go from here to twice this.
const LEAST_BYTES: u64 = 100;
/// The first generation of the first start.
const FIRST_GENERATION: u64 = 1 << 40;
const THREADS: usize = 2;

/// The bytes with a number, of which no two are the same.
fn content(number: u64) -> Vec<u8> {
    let len = usize::try_from(LEAST_BYTES + number % LEAST_BYTES).unwrap();
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(number).fill(&mut bytes);
    bytes
}

/// Their digest.
pub(crate) fn digest(number: u64) -> Digest {
    Digest::of(DigestFunction::Sha256, &content(number))
}

/// Makes the directory of a store that has written the digests below `entries` in their order,
/// and was killed.
pub(crate) fn fill(root: &Path, entries: u64) {
    let shards = root.join("blobs").join(DigestFunction::Sha256.name());
    for shard in 0..256 {
        create_dir_all(shards.join(format!("{shard:02x}"))).unwrap();
    }
    let mut format = File::create_new(root.join("FORMAT")).unwrap();
    format.write_all(b"castellan 1\nepoch 1\n").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (shards, numbers) = (&shards, (0..entries).skip(thread).step_by(THREADS));
            scope.spawn(move || numbers.for_each(|number| make_file(shards, number)));
        }
    });
}

fn make_file(shards: &Path, number: u64) {
    let bytes = content(number);
    let Digest { size_bytes, .. } = digest(number);
    let hash = digest(number).hash_hex();
    let generation = FIRST_GENERATION + number;
    let name = format!("{}/{}-{size_bytes}.{generation}", &hash.as_str()[..2], hash.as_str());
    File::create_new(shards.join(name)).unwrap().write_all(&bytes).unwrap();
}
