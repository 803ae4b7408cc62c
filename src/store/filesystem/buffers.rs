//! Read buffers that are used again: touching fresh pages costs more than reading a file.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// The size of one buffer and so of the largest chunk handed out.
pub(super) const BUFFER_BYTES: usize = 256 << 10;
/// Idle buffers kept: 16 MiB.
const MAX_IDLE: usize = 64;
/// Chunks below this are copied out, so that a small reply does not pin a large buffer.
const COPY_BELOW_BYTES: usize = 16 << 10;

/// A free list of equally sized buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    idle: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan; it goes back when the last `Bytes` over it is dropped.
pub(super) struct Buffer {
    data: Box<[u8]>,
    home: Arc<Buffers>,
}

impl Buffers {
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let idle = self.idle.lock().pop();
        let data = idle.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buffer { data, home: Arc::clone(self) }
    }
}

impl Buffer {
    /// At most `len` bytes to read into.
    pub(super) fn space(&mut self, len: usize) -> &mut [u8] {
        let end = len.min(self.data.len());
        self.data.get_mut(..end).unwrap_or_default()
    }

    /// The first `len` bytes, for handing out.
    pub(super) fn freeze(self, len: usize) -> Bytes {
        if len < COPY_BELOW_BYTES {
            return Bytes::copy_from_slice(self.data.get(..len).unwrap_or_default());
        }
        let mut bytes = Bytes::from_owner(self);
        bytes.truncate(len);
        bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(std::mem::take(&mut self.data));
        }
    }
}
