//! Requests whose length their sender chooses, decoded into bounded memory.
//!
//! An empty entry takes two bytes on the wire and eighty when it is built: a request that is under
//! every limit of its size could take forty times as much. Entries over [`MAX_ENTRIES`] are
//! counted, so that a server can refuse them by number, and not built.

#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::messages::{BatchReadBlobsRequest, BatchUpdateBlobsRequest, GetActionResultRequest};

/// The entries of one request that are built.
pub const MAX_ENTRIES: usize = 1 << 17;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is decoded.
    Yes,
    /// It is an entry too many.
    Counted,
    /// A server has no use for it.
    No,
}

/// A request with repeated fields.
pub trait Repeated: Message + Default {
    /// What becomes of the next field with this tag.
    fn keep(&self, tag: u32) -> Keep;
}

/// A request of which no more than [`MAX_ENTRIES`] entries are built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounded<M> {
    /// What is built.
    pub message: M,
    /// Entries that were left out.
    pub excess: usize,
}

fn counted(entries: usize) -> Keep {
    if entries < MAX_ENTRIES { Keep::Yes } else { Keep::Counted }
}

impl Repeated for BatchUpdateBlobsRequest {
    fn keep(&self, tag: u32) -> Keep {
        if tag == 2 { counted(self.requests.len()) } else { Keep::Yes }
    }
}

impl Repeated for BatchReadBlobsRequest {
    fn keep(&self, tag: u32) -> Keep {
        match tag {
            2 => counted(self.digests.len()),
            // A reply may always be uncompressed, whatever the client accepts besides.
            3 => Keep::No,
            _ => Keep::Yes,
        }
    }
}

impl Repeated for GetActionResultRequest {
    fn keep(&self, tag: u32) -> Keep {
        // Inlining is a courtesy, and no result has so many files.
        if tag == 5 && self.inline_output_files.len() >= MAX_ENTRIES { Keep::No } else { Keep::Yes }
    }
}

impl<M: Repeated> Message for Bounded<M> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.message.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let keep = self.message.keep(tag);
        if keep == Keep::Yes {
            return self.message.merge_field(tag, wire_type, buf, ctx);
        }
        self.excess = self.excess.saturating_add(usize::from(keep == Keep::Counted));
        skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.message.encoded_len()
    }

    fn clear(&mut self) {
        self.message.clear();
        self.excess = 0;
    }
}
