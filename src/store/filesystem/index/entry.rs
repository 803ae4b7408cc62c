//! One value in the index, packed.

use super::super::layout::{FileName, Form, Generation, Shard};
use super::slots::NONE;
use crate::digest::{Digest, HASH_BYTES};
use crate::store::{Key, Kind, Namespace};

/// The unit of stored charges, that of `st_blocks`.
const SECTOR_BYTES: u64 = 512;

/// The list that an entry is in; see [`super::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// Used by this process and free to go.
    Idle,
    /// Free to go after a lease.
    Returned,
    /// Promised to a build.
    Leased,
    /// Being linked right now.
    Pinned,
    /// Left by a former process and not used since.
    Recovered,
    /// The same, promised to a build by the former process.
    RecoveredLease,
}

/// One value: its name, its charges, its last use and its place in the order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    hash: [u8; HASH_BYTES],
    namespace: Namespace,
    size_bytes: u64,
    pub(super) generation: Generation,
    /// Logical time of the last use.
    pub(super) stamp: u64,
    charge_sectors: u32,
    /// Of a blob, what its executable variant takes, 0 when there is none; the length of a blob is
    /// its digest's size. Of an action result, which has no variant, its length in bytes.
    sectors_or_length: u32,
    /// Neighbors in the list, `NONE` at the ends; `younger` chains the free slots too.
    pub(super) older: u32,
    pub(super) younger: u32,
    pub(super) readers: u32,
    pub(super) pins: u16,
    /// Kind and function of the digest, as the shard says them.
    class: u8,
    place_and_flags: u8,
}

/// Of `place_and_flags`: the place, [`FREE`] for a slot without an entry.
const PLACE: u8 = 0x07;
const FREE: u8 = 0x07;
/// Its bytes are known to be right.
const VERIFIED: u8 = 0x08;
/// A crash may have torn it: hashed before anything is said of it.
const SUSPECT: u8 = 0x10;
/// It goes to the leased ones when its last pin ends.
const PROMISED: u8 = 0x20;
/// Others have, or had, links to its file.
const EXPOSED: u8 = 0x40;
/// Its file is as another server wrote it.
const FORMER: u8 = 0x80;

const _: () = assert!(std::mem::size_of::<Entry>() <= 96, "1 M entries must stay under 120 MB");

impl Entry {
    pub(super) fn new(file: &FileName, charge_bytes: u64, stamp: u64) -> Self {
        let FileName { key, len_bytes, generation, form } = file;
        Self {
            hash: key.digest.hash,
            namespace: key.namespace,
            size_bytes: key.digest.size_bytes,
            generation: *generation,
            stamp,
            charge_sectors: sectors(charge_bytes),
            sectors_or_length: match key.kind {
                Kind::Blob => 0,
                Kind::ActionResult => u32::try_from(*len_bytes).unwrap_or(u32::MAX),
            },
            older: NONE,
            younger: NONE,
            readers: 0,
            pins: 0,
            class: u8::try_from(Shard::of(key).class_index()).unwrap_or(u8::MAX),
            place_and_flags: Place::Idle as u8
                | match form {
                    Form::Own => 0,
                    Form::Former => FORMER,
                },
        }
    }

    pub(super) fn place(&self) -> Place {
        match self.place_and_flags & PLACE {
            0 => Place::Idle,
            1 => Place::Returned,
            2 => Place::Leased,
            3 => Place::Pinned,
            4 => Place::Recovered,
            _ => Place::RecoveredLease,
        }
    }

    pub(super) fn set_place(&mut self, place: Place) {
        self.place_and_flags = self.place_and_flags & !PLACE | place as u8;
    }

    /// Whether the slot has no entry.
    pub(super) fn is_free(&self) -> bool {
        self.place_and_flags & PLACE == FREE
    }

    pub(super) fn set_free(&mut self) {
        self.place_and_flags |= FREE;
    }

    fn set(&mut self, flag: u8, value: bool) {
        let others = self.place_and_flags & !flag;
        self.place_and_flags = if value { others | flag } else { others };
    }

    pub(super) fn is_verified(&self) -> bool {
        self.place_and_flags & VERIFIED != 0
    }

    pub(super) fn set_verified(&mut self, value: bool) {
        self.set(VERIFIED, value);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.place_and_flags & SUSPECT != 0
    }

    pub(super) fn set_suspect(&mut self, value: bool) {
        self.set(SUSPECT, value);
    }

    pub(super) fn is_promised(&self) -> bool {
        self.place_and_flags & PROMISED != 0
    }

    pub(super) fn set_promised(&mut self, value: bool) {
        self.set(PROMISED, value);
    }

    pub(super) fn is_exposed(&self) -> bool {
        self.place_and_flags & EXPOSED != 0
    }

    pub(super) fn set_exposed(&mut self, value: bool) {
        self.set(EXPOSED, value);
    }

    fn form(&self) -> Form {
        if self.place_and_flags & FORMER == 0 { Form::Own } else { Form::Former }
    }

    fn is_blob(&self) -> bool {
        Shard::kind_of_class(usize::from(self.class)) == Kind::Blob
    }

    pub(super) fn key(&self) -> Key {
        let class = usize::from(self.class);
        let function = Shard::function_of_class(class);
        let digest = Digest { function, hash: self.hash, size_bytes: self.size_bytes };
        Key { namespace: self.namespace, kind: Shard::kind_of_class(class), digest }
    }

    pub(super) fn is_of(&self, key: &Key) -> bool {
        self.hash == key.digest.hash && self.key() == *key
    }

    pub(super) fn namespace(&self) -> Namespace {
        self.namespace
    }

    pub(super) fn shard(&self) -> Shard {
        let [first, ..] = self.hash;
        Shard::in_class(self.class, first)
    }

    /// What the value's own file takes.
    pub(super) fn file_charge_bytes(&self) -> u64 {
        u64::from(self.charge_sectors) * SECTOR_BYTES
    }

    /// What the executable variant takes, 0 without one.
    pub(super) fn variant_bytes(&self) -> u64 {
        if self.is_blob() { u64::from(self.sectors_or_length) * SECTOR_BYTES } else { 0 }
    }

    pub(super) fn set_variant_bytes(&mut self, bytes: u64) {
        if self.is_blob() {
            self.sectors_or_length = sectors(bytes);
        }
    }

    /// Both.
    pub(super) fn charge_bytes(&self) -> u64 {
        self.file_charge_bytes() + self.variant_bytes()
    }

    pub(super) fn has_variant(&self) -> bool {
        self.variant_bytes() > 0
    }

    pub(super) fn is_leased(&self) -> bool {
        match self.place() {
            Place::Leased | Place::RecoveredLease => true,
            Place::Pinned => self.is_promised(),
            Place::Idle | Place::Returned | Place::Recovered => false,
        }
    }

    pub(super) fn file(&self) -> FileName {
        let key = self.key();
        let len_bytes = match key.kind {
            Kind::Blob => self.size_bytes,
            Kind::ActionResult => u64::from(self.sectors_or_length),
        };
        FileName { key, len_bytes, generation: self.generation, form: self.form() }
    }
}

fn sectors(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(SECTOR_BYTES)).unwrap_or(u32::MAX)
}
