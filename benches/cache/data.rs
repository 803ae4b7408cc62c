//! What is stored: made once, for hashing must not be in any figure but the server's.

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction, Hasher};
use castellan_proto::messages;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A blob as the messages that carry it. The first is its own, the rest it shares with others.
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) messages: Vec<Bytes>,
}

impl Blob {
    /// The digest as the wire has it.
    pub(crate) fn wire(&self) -> messages::Digest {
        wire(&self.digest)
    }
}

/// Blobs of one size, sent in messages of one size.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) function: DigestFunction,
    pub(crate) blobs: Vec<Blob>,
}

impl Group {
    /// The bytes of all its blobs.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.digest.size_bytes).sum()
    }
}

/// Everything that is stored.
pub(crate) struct Data {
    /// 4 KiB each, for batches.
    pub(crate) small: Vec<Group>,
    /// For streams.
    pub(crate) large: Vec<Group>,
    /// Digests that nobody stores.
    pub(crate) absent: Vec<Digest>,
}

impl Data {
    pub(crate) fn new() -> Self {
        let (sha256, blake3) = (DigestFunction::Sha256, DigestFunction::Blake3);
        let mut maker = Maker::new();
        let mut group = |name, function, count, size, message| {
            let blobs = (0..count).map(|_| maker.blob(function, size, message)).collect();
            Group { name, function, blobs }
        };
        let small = vec![
            group("SHA256", sha256, 10_000, 4 * KIB, 4 * KIB),
            group("BLAKE3", blake3, 5_000, 4 * KIB, 4 * KIB),
        ];
        let large = vec![
            group("64 KiB", sha256, 1024, 64 * KIB, 64 * KIB),
            group("64 KiB, BLAKE3", blake3, 1024, 64 * KIB, 64 * KIB),
            group("1 MiB", sha256, 128, MIB, 64 * KIB),
            group("1 MiB, BLAKE3", blake3, 128, MIB, 64 * KIB),
            group("1 MiB, messages of 16 KiB", sha256, 128, MIB, 16 * KIB),
            group("1 MiB, messages of 1 MiB", sha256, 128, MIB, MIB),
            group("64 MiB", sha256, 8, 64 * MIB, 256 * KIB),
            group("64 MiB, BLAKE3", blake3, 8, 64 * MIB, 256 * KIB),
        ];
        let absent = (0..10_000)
            .map(|_| Digest { function: sha256, hash: maker.hash(), size_bytes: 4096 })
            .collect();
        Self { small, large, absent }
    }
}

/// A digest as the wire has it.
pub(crate) fn wire(digest: &Digest) -> messages::Digest {
    messages::Digest {
        hash: Bytes::copy_from_slice(digest.hash_hex().as_str().as_bytes()),
        size_bytes: i64::try_from(digest.size_bytes).unwrap(),
    }
}

struct Maker {
    random: fastrand::Rng,
    shared: Bytes,
}

impl Maker {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let mut shared = vec![0; MIB];
        random.fill(&mut shared);
        Self { random, shared: shared.into() }
    }

    fn hash(&mut self) -> [u8; 32] {
        let mut hash = [0; 32];
        self.random.fill(&mut hash);
        hash
    }

    fn blob(&mut self, function: DigestFunction, size: usize, message: usize) -> Blob {
        let mut own = vec![0; message];
        self.random.fill(&mut own);
        let mut messages = vec![Bytes::from(own)];
        messages.resize(size / message, self.shared.slice(..message));
        let mut hasher = Hasher::new(function);
        for data in &messages {
            hasher.update(data);
        }
        let digest = Digest { function, hash: hasher.finish(), size_bytes: size as u64 };
        Blob { digest, messages }
    }
}
