//! Where things are: names under the root, shards, and what a file of a given length charges.
//!
//! Pure. Nothing outside this file may assume how an entry maps to a path, or that it is one file.
//!
//! ```text
//! LOCK FORMAT
//! blobs/<function>/<aa>/<hash>-<size>.<generation>
//! actions/<function>/<aa>/<hash>-<size>-<namespace>-<length>.<generation>
//! ```
//! `<aa>` is the first byte of the hash. A generation is never given out twice, so a name is
//! created once and unlinked once (I6).

use std::fmt::Write as _;

use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{Key, Kind, Namespace};

/// The number of one write of one value; unique in the life of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Generation {
    /// Bits that count the writes of one process; the bits above count the starts.
    const WRITE_BITS: u32 = 40;

    /// The first generation of the `epoch`-th start.
    pub(crate) fn first_of_epoch(epoch: u32) -> Self {
        Self(u64::from(epoch) << Self::WRITE_BITS)
    }

    /// The start that gave this generation out.
    pub(crate) fn epoch(self) -> u32 {
        u32::try_from(self.0 >> Self::WRITE_BITS).unwrap_or(u32::MAX)
    }
}

/// One of the directories that hold values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shard(u16);

const KINDS: [Kind; 2] = [Kind::Blob, Kind::ActionResult];
const FANOUT: u16 = 256;

impl Shard {
    /// How many directories hold shards.
    pub(crate) const CLASSES: usize = KINDS.len() * DigestFunction::ALL.len();
    /// How many shards there are.
    pub(crate) const COUNT: usize = Self::CLASSES * FANOUT as usize;

    /// Every shard.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..FANOUT * 4).map(Self)
    }

    /// The shard of a key.
    pub(crate) fn of(key: &Key) -> Self {
        let function = match key.digest.function {
            DigestFunction::Sha256 => 0,
            DigestFunction::Blake3 => 1,
        };
        let [first, ..] = key.digest.hash;
        Self((key.kind as u16 * 2 + function) * FANOUT + u16::from(first))
    }

    /// Its position in tables by shard.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The position of the directory that holds it, in tables of those.
    pub(crate) fn class_index(self) -> usize {
        usize::from(self.0 / FANOUT)
    }

    /// The path of the directory that holds it.
    pub(crate) fn class_path(self) -> String {
        class_path(self.kind(), self.function())
    }

    /// What its files hold.
    pub(crate) fn kind(self) -> Kind {
        if self.0 < FANOUT * 2 { Kind::Blob } else { Kind::ActionResult }
    }

    /// The function of its files' hashes.
    pub(crate) fn function(self) -> DigestFunction {
        if (self.0 / FANOUT).is_multiple_of(2) {
            DigestFunction::Sha256
        } else {
            DigestFunction::Blake3
        }
    }

    /// Its path below the root.
    pub(crate) fn path(self) -> String {
        format!("{}/{:02x}", self.class_path(), self.0 % FANOUT)
    }
}

fn class_path(kind: Kind, function: DigestFunction) -> String {
    let top = match kind {
        Kind::Blob => "blobs",
        Kind::ActionResult => "actions",
    };
    format!("{top}/{}", function.name())
}

/// The directories that exist from the first start on, parents first.
pub(crate) fn fixed_directories() -> Vec<String> {
    let mut paths = vec!["blobs".to_owned(), "actions".to_owned()];
    for kind in KINDS {
        for function in DigestFunction::ALL {
            paths.push(class_path(kind, function));
        }
    }
    paths
}

/// Everything the name of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    /// The value it holds.
    pub(crate) key: Key,
    /// The length of the value in bytes.
    pub(crate) len_bytes: u64,
    /// The write that made it.
    pub(crate) generation: Generation,
}

impl FileName {
    /// Its path below the root.
    pub(crate) fn path(&self) -> String {
        let mut path = Shard::of(&self.key).path();
        let digest = &self.key.digest;
        let hash = digest.hash_hex();
        // Writing to a String cannot fail.
        let _ = write!(path, "/{}-{}", hash.as_str(), digest.size_bytes);
        if self.key.kind == Kind::ActionResult {
            let namespace = const_hex::encode(self.key.namespace.0);
            let _ = write!(path, "-{namespace}-{}", self.len_bytes);
        }
        let _ = write!(path, ".{}", self.generation.0);
        path
    }

    /// Reads a name found in `shard`; `None` for a foreign file.
    pub(crate) fn parse(shard: Shard, name: &str) -> Option<Self> {
        let (identity, generation) = name.split_once('.')?;
        let mut parts = identity.split('-');
        let mut hash = [0; HASH_BYTES];
        const_hex::decode_to_slice(parts.next()?, &mut hash).ok()?;
        let size_bytes = parts.next()?.parse().ok()?;
        let digest = Digest { function: shard.function(), hash, size_bytes };
        let (key, len_bytes) = match shard.kind() {
            Kind::Blob => (Key::blob(digest), size_bytes),
            Kind::ActionResult => {
                let mut namespace = [0; Namespace::BYTES];
                const_hex::decode_to_slice(parts.next()?, &mut namespace).ok()?;
                let len_bytes = parts.next()?.parse().ok()?;
                (Key::action_result(Namespace(namespace), digest), len_bytes)
            }
        };
        let generation = Generation(generation.parse().ok()?);
        let parsed = Self { key, len_bytes, generation };
        // A name has one spelling: "+1", upper case or a file in the wrong shard is foreign.
        let expected = parsed.path();
        let exact = expected.rsplit_once('/').is_some_and(|(_, last)| last == name);
        (exact && Shard::of(&key) == shard).then_some(parsed)
    }
}

/// How lengths become charges on this file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSize(pub(crate) u64);

impl BlockSize {
    /// What a file of `len_bytes` allocates when it is not fragmented.
    pub(crate) fn charge_of(self, len_bytes: u64) -> u64 {
        len_bytes.div_ceil(self.0).saturating_mul(self.0)
    }

    /// What must be free before a file of `len_bytes` is begun.
    ///
    /// Beyond the data: one block each for a new shard directory and for the growth of one, and
    /// extent blocks for a long file on a fragmented disk. What is not used is given back at
    /// publication.
    pub(crate) fn reservation_for(self, len_bytes: u64) -> u64 {
        const BYTES_PER_EXTENT_BLOCK: u64 = 64 << 20;
        let extra_blocks = 2 + len_bytes / BYTES_PER_EXTENT_BLOCK;
        self.charge_of(len_bytes).saturating_add(extra_blocks.saturating_mul(self.0))
    }
}
