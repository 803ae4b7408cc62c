//! Where things are: names under the root, shards, and what a file of a given length charges.
//!
//! Pure. Nothing outside this file may assume how an entry maps to a path, or that it is one file.
//!
//! ```text
//! LOCK FORMAT
//! blobs/<function>/<aa>/<hash>-<size>.<generation>
//! actions/<function>/<aa>/<hash>-<namespace>-<length>.<generation>
//! ```
//! A blob that a worker has asked for as an executable has a second file, named like the first with
//! `.exec` behind it. `<aa>` is the first byte of the hash. A generation is never given out twice,
//! so a name is created once and unlinked once (I6). One that still has the bytes as another server
//! wrote them has `.former` behind it.

use std::fmt::Write as _;

use super::mutants::{self, Mutant};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{Key, Kind, Namespace};

/// The number of one write of one value; unique in the life of a directory.
///
/// A point on the store's line of logical time: uses of entries are other points on it, so without
/// better knowledge a younger generation counts as used more recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Generation {
    /// Bits that count what happens in one process; the bits above count the starts. The lower
    /// ones last for half a year at a million uses a second.
    pub(crate) const WRITE_BITS: u32 = 44;
    /// The last start that can be counted.
    pub(crate) const MAX_EPOCH: u32 = (1 << (u64::BITS - Self::WRITE_BITS)) - 1;

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
pub(crate) struct Shard(pub(crate) u16);

/// What the name of an executable variant ends with.
const VARIANT_SUFFIX: &str = ".exec";
/// What the name of a file ends with whose value is not of the store's own form.
const FORMER_SUFFIX: &str = ".former";
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

    /// The shard of a class whose hashes begin with this byte.
    pub(crate) fn in_class(class: u8, first_byte: u8) -> Self {
        Self(u16::from(class) * FANOUT + u16::from(first_byte))
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
        Self::kind_of_class(self.class_index())
    }

    /// What the hashes of its files begin with.
    pub(crate) fn first_byte(self) -> u8 {
        (self.0 % FANOUT).to_le_bytes()[0]
    }

    /// The function of its files' hashes.
    pub(crate) fn function(self) -> DigestFunction {
        Self::function_of_class(self.class_index())
    }

    /// What the files hold in the shards of a class.
    pub(crate) fn kind_of_class(class: usize) -> Kind {
        if class < 2 { Kind::Blob } else { Kind::ActionResult }
    }

    /// The function of the hashes in the shards of a class.
    pub(crate) fn function_of_class(class: usize) -> DigestFunction {
        if class.is_multiple_of(2) { DigestFunction::Sha256 } else { DigestFunction::Blake3 }
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

/// A directory in the root of a store for a second one, of values that are no action results.
pub const VALUES_DIR: &str = "values";
/// The name of the socket in the root on which the server listens to its operator.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// How a file holds its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As this store writes it.
    Own,
    /// As another server wrote it: a blob as a casblob, an action result without a checksum. It is
    /// rewritten before it is read (`super::former`).
    Former,
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
    /// How the file holds the value.
    pub(crate) form: Form,
}

impl FileName {
    /// The file of a value as this store writes it.
    pub(crate) fn own(key: Key, len_bytes: u64, generation: Generation) -> Self {
        Self { key, len_bytes, generation, form: Form::Own }
    }

    /// The length of the file, when it is of the store's own form.
    pub(crate) fn file_bytes(&self) -> u64 {
        file_bytes(self.key.kind, self.len_bytes)
    }

    /// Its path below the root.
    pub(crate) fn path(&self) -> String {
        let mut path = Shard::of(&self.key).path();
        let digest = &self.key.digest;
        let hash = digest.hash_hex();
        // Writing to a String cannot fail.
        let _ = write!(path, "/{}", hash.as_str());
        if self.key.kind == Kind::ActionResult {
            let _ = write!(path, "-{}", const_hex::encode(self.key.namespace.0));
        }
        let _ = write!(path, "-{}", self.len_bytes);
        let _ = write!(path, ".{}", self.generation.0);
        if self.form == Form::Former {
            path.push_str(FORMER_SUFFIX);
        }
        path
    }

    /// The path of the executable variant of this very file.
    pub(crate) fn variant_path(&self) -> String {
        let mut path = self.path();
        if mutants::is_on(Mutant::DeleteByFixedName) {
            path.truncate(path.rfind('.').unwrap_or(path.len()));
        }
        path.push_str(VARIANT_SUFFIX);
        path
    }

    /// Reads a name found in `shard`, and whether it is the name of a variant; `None` for a
    /// foreign file.
    pub(crate) fn parse_any(shard: Shard, name: &str) -> Option<(Self, bool)> {
        match name.strip_suffix(VARIANT_SUFFIX) {
            Some(name) if shard.kind() == Kind::Blob => {
                let file = Self::parse(shard, name)?;
                (file.form == Form::Own).then_some((file, true))
            }
            Some(_) => None,
            None => Some((Self::parse(shard, name)?, false)),
        }
    }

    /// Reads the name of a value found in `shard`; `None` for any other file.
    pub(crate) fn parse(shard: Shard, name: &str) -> Option<Self> {
        let (plain, form) = match name.strip_suffix(FORMER_SUFFIX) {
            Some(plain) => (plain, Form::Former),
            None => (name, Form::Own),
        };
        let (identity, generation) = plain.split_once('.')?;
        let mut parts = identity.split('-');
        let mut hash = [0; HASH_BYTES];
        const_hex::decode_to_slice(parts.next()?, &mut hash).ok()?;
        let mut namespace = [0; Namespace::BYTES];
        if shard.kind() == Kind::ActionResult {
            const_hex::decode_to_slice(parts.next()?, &mut namespace).ok()?;
        }
        let len_bytes = parts.next()?.parse().ok()?;
        let digest = Digest { function: shard.function(), hash, size_bytes: len_bytes };
        let key = match shard.kind() {
            Kind::Blob => Key::blob(digest),
            Kind::ActionResult => Key::action_result(Namespace(namespace), digest).without_hint(),
        };
        let generation = Generation(generation.parse().ok()?);
        // What this store could not have written; adopting it would break the books or the count.
        if len_bytes > MAX_VALUE_BYTES || generation.epoch() >= Generation::MAX_EPOCH {
            return None;
        }
        let parsed = Self { key, len_bytes, generation, form };
        // A name has one spelling: "+1", upper case or a file in the wrong shard is foreign.
        let expected = parsed.path();
        let exact = expected.rsplit_once('/').is_some_and(|(_, last)| last == name);
        (exact && Shard::of(&key) == shard).then_some(parsed)
    }
}

/// The largest value: what the charge of one entry can express, with room for metadata.
pub(crate) const MAX_VALUE_BYTES: u64 = 1 << 40;
/// What an executable variant is charged at least, so that a charge of nothing means that there is
/// none. Only a file system that keeps small files in their inodes has smaller ones.
pub(crate) const LEAST_VARIANT_BYTES: u64 = 512;
/// What follows an action result in its file: a checksum.
pub(crate) const RESULT_TRAILER_BYTES: usize = 16;

/// The length of the file that holds a value.
pub(crate) fn file_bytes(kind: Kind, len_bytes: u64) -> u64 {
    match kind {
        Kind::Blob => len_bytes,
        Kind::ActionResult => len_bytes.saturating_add(RESULT_TRAILER_BYTES as u64),
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
