//! A `Tree` message: a directory with all that are below it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

use super::directory::{Allowance, Directory, InvalidDirectory};
use crate::digest::{Digest, DigestFunction};

const ROOT: u32 = 1;
const CHILDREN: u32 = 2;

/// A directory with all that are below it. Each is under the digest of the bytes that the sender
/// made of it, so that nothing can be below itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The uppermost directory.
    pub root: Arc<Directory>,
    /// The others.
    pub children: HashMap<Digest, Arc<Directory>>,
}

fn malformed(problem: impl std::fmt::Display) -> InvalidDirectory {
    InvalidDirectory { entry: String::new(), problem: format!("is no Tree message: {problem}") }
}

/// The next bytes that have their length before them.
fn take<'a>(wire_type: WireType, rest: &mut &'a [u8]) -> Result<&'a [u8], InvalidDirectory> {
    if wire_type != WireType::LengthDelimited {
        return Err(malformed("a directory is no message"));
    }
    let length = decode_varint(rest).map_err(malformed)?;
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (taken, behind) = split.ok_or_else(|| malformed("it ends too soon"))?;
    *rest = behind;
    Ok(taken)
}

impl Tree {
    /// Reads and checks an encoded `Tree` whose digests are of `function`.
    pub fn decode(function: DigestFunction, encoded: &[u8]) -> Result<Self, InvalidDirectory> {
        Self::decode_within(function, encoded, &Allowance::default())
    }

    /// The same with no more directories, and no more entries in all of them, than allowed.
    pub fn decode_within(
        function: DigestFunction,
        encoded: &[u8],
        entries: &Allowance,
    ) -> Result<Self, InvalidDirectory> {
        // One that is empty takes memory as well.
        let directories = entries.afresh();
        let mut root = None;
        let mut children = HashMap::new();
        let mut rest = encoded;
        while rest.has_remaining() {
            let (tag, wire_type) = decode_key(&mut rest).map_err(malformed)?;
            match tag {
                ROOT => {
                    let message = take(wire_type, &mut rest)?;
                    let read = Directory::decode_within(function, message, entries)?;
                    if root.replace(Arc::new(read)).is_some() {
                        return Err(malformed("it has two roots"));
                    }
                }
                CHILDREN => {
                    let child = take(wire_type, &mut rest)?;
                    directories.take()?;
                    let read = Directory::decode_within(function, child, entries)?;
                    children.insert(Digest::of(function, child), Arc::new(read));
                }
                _ => skip_field(wire_type, tag, &mut rest, DecodeContext::default())
                    .map_err(malformed)?,
            }
        }
        let root = root.ok_or_else(|| malformed("it has no root"))?;
        Ok(Self { root, children })
    }

    /// The message, in which each directory is in the form that REAPI wants. The children must be
    /// under the digests of that form.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        let mut put = |tag, directory: &Directory| {
            let bytes = directory.encode();
            encode_key(tag, WireType::LengthDelimited, &mut encoded);
            encode_varint(bytes.len() as u64, &mut encoded);
            encoded.put_slice(&bytes);
        };
        put(ROOT, &self.root);
        let mut children: Vec<_> = self.children.iter().collect();
        children.sort_unstable_by_key(|(digest, _)| **digest);
        for (_, child) in children {
            put(CHILDREN, child);
        }
        encoded
    }
}
