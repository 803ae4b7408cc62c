//! How blobs are called on the wire.

use bytes::Bytes;
use castellan_proto::messages;

use super::{Upstream, random};
use crate::digest::{Digest, DigestFunction};

/// A size or an offset as the wire has it; what is larger than any blob stays so.
pub(super) fn wire_size(size_bytes: u64) -> i64 {
    i64::try_from(size_bytes).unwrap_or(i64::MAX)
}

/// A digest as requests have it.
pub(super) fn wire_digest(digest: &Digest) -> messages::Digest {
    messages::Digest {
        hash: Bytes::copy_from_slice(digest.hash_hex().as_str().as_bytes()),
        size_bytes: wire_size(digest.size_bytes),
    }
}

/// A digest of an answer; `None` when it is none.
pub(super) fn read_digest(
    function: DigestFunction,
    wire: Option<&messages::Digest>,
) -> Option<Digest> {
    let wire = wire?;
    Digest::parse(function, &wire.hash, wire.size_bytes).ok()
}

impl Upstream {
    /// The name to read a blob under.
    pub(super) fn read_name(&self, digest: &Digest) -> String {
        format!("{}blobs/{}", self.instance_prefix(), self.blob_part(digest))
    }

    /// A fresh name to write a blob under.
    pub(super) fn write_name(&self, digest: &Digest) -> String {
        let (instance, blob) = (self.instance_prefix(), self.blob_part(digest));
        format!("{instance}uploads/{}/blobs/{blob}", upload_id())
    }

    fn instance_prefix(&self) -> String {
        match self.options.instance_name.as_str() {
            "" => String::new(),
            name => format!("{name}/"),
        }
    }

    fn blob_part(&self, digest: &Digest) -> String {
        if self.options.use_legacy_resource_names {
            return format!("{}/{}", digest.hash_hex().as_str(), digest.size_bytes);
        }
        digest.to_string()
    }
}

/// A random UUID (version 4).
fn upload_id() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff,
    )
}
