//! One entry of the index as so many bytes.
//!
//! ```text
//! blob    hash (32) size (6)                              | generation (8) stamp (8)
//! action  hash (32) size (8) namespace (16) length (6)    | charge (6) variant (6) flags (1)
//! ```
//! The shard says the kind and the function. A record has one spelling, and what the store could
//! not have written is not read.

use crate::digest::Digest;
use crate::store::filesystem::fields::{self, Fields};
use crate::store::filesystem::layout::{FileName, Form, Generation, MAX_VALUE_BYTES, Shard};
use crate::store::{Key, Kind, Namespace};

/// What both kinds end with: generation, stamp, charge, variant and flags.
const COMMON_BYTES: usize = 8 + 8 + 6 + 6 + 1;
const BLOB_BYTES: usize = 32 + 6 + COMMON_BYTES;
const ACTION_RESULT_BYTES: usize = 32 + Namespace::BYTES + 6 + COMMON_BYTES;
/// The longest record, in bytes.
pub(super) const MAX_RECORD_BYTES: usize = ACTION_RESULT_BYTES;

const LEASED: u8 = 1;
const SUSPECT: u8 = 1 << 1;
const FORMER: u8 = 1 << 2;

/// An entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its file.
    pub(crate) file: FileName,
    /// What its file takes, in bytes.
    pub(crate) charge_bytes: u64,
    /// What its executable variant takes, in bytes; 0 when it has none.
    pub(crate) variant_bytes: u64,
    /// The logical time of its last use.
    pub(crate) stamp: u64,
    /// Whether a client was promised that it stays.
    pub(crate) is_leased: bool,
    /// Whether its bytes have to be checked before they are served.
    pub(crate) is_suspect: bool,
}

impl Record {
    /// What it takes in all, in bytes.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.charge_bytes.saturating_add(self.variant_bytes)
    }

    /// Where it stands in its section: the least recently used first.
    pub(super) fn order(&self) -> (u64, u64) {
        (self.stamp, self.file.generation.0)
    }

    /// Appends its bytes; `None`, and nothing appended that counts, when it does not belong into
    /// `shard` or is not an entry that a store can have.
    pub(super) fn encode(&self, shard: Shard, into: &mut Vec<u8>) -> Option<()> {
        if Shard::of(&self.file.key) != shard || !is_sound(&self.file) {
            return None;
        }
        let Key { namespace, kind, digest } = self.file.key;
        into.extend_from_slice(&digest.hash);
        if kind == Kind::ActionResult {
            into.extend_from_slice(&namespace.0);
        }
        into.extend_from_slice(&fields::short(self.file.len_bytes)?);
        into.extend_from_slice(&self.file.generation.0.to_le_bytes());
        into.extend_from_slice(&self.stamp.to_le_bytes());
        into.extend_from_slice(&fields::short(self.charge_bytes)?);
        into.extend_from_slice(&fields::short(self.variant_bytes)?);
        let leased = if self.is_leased { LEASED } else { 0 };
        let suspect = if self.is_suspect { SUSPECT } else { 0 };
        let former = if self.file.form == Form::Former { FORMER } else { 0 };
        into.push(leased | suspect | former);
        Some(())
    }

    /// Reads a record of `shard`; `None` for bytes that [`Record::encode`] cannot have given.
    pub(super) fn decode(shard: Shard, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (function, hash) = (shard.function(), fields.take()?);
        let (key, len_bytes) = match shard.kind() {
            Kind::Blob => {
                let size_bytes = fields.short()?;
                (Key::blob(Digest { function, hash, size_bytes }), size_bytes)
            }
            Kind::ActionResult => {
                let namespace = Namespace(fields.take()?);
                let digest = Digest { function, hash, size_bytes: 0 };
                (Key::action_result(namespace, digest), fields.short()?)
            }
        };
        let generation = Generation(fields.u64()?);
        let stamp = fields.u64()?;
        let (charge_bytes, variant_bytes, flags) = (fields.short()?, fields.short()?, fields.u8()?);
        let is_exact = fields.is_empty() && flags & !(LEASED | SUSPECT | FORMER) == 0;
        let form = if flags & FORMER == 0 { Form::Own } else { Form::Former };
        let file = FileName { key, len_bytes, generation, form };
        let is_leased = flags & LEASED != 0;
        let is_suspect = flags & SUSPECT != 0;
        // What has another form has no variant.
        let is_exact = is_exact && (form == Form::Own || variant_bytes == 0);
        (is_exact && Shard::of(&key) == shard && is_sound(&file)).then_some(Self {
            file,
            charge_bytes,
            variant_bytes,
            stamp,
            is_leased,
            is_suspect,
        })
    }
}

/// The length in bytes of a record of this kind.
pub(super) fn record_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Blob => BLOB_BYTES,
        Kind::ActionResult => ACTION_RESULT_BYTES,
    }
}

/// Whether the store could have made this file.
fn is_sound(file: &FileName) -> bool {
    let Key { namespace, kind, digest } = file.key;
    let is_plain_blob = namespace == Namespace::SHARED && digest.size_bytes == file.len_bytes;
    (kind != Kind::Blob || is_plain_blob)
        && file.len_bytes <= MAX_VALUE_BYTES
        && file.generation.epoch() < Generation::MAX_EPOCH
}
