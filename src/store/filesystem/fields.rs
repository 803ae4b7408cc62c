//! Numbers of fixed width in the store's own files: little-endian, read without a panic.
//!
//! Pure. What a number means, and whether it may be believed, is for the format that has it.

/// Bits of the short numbers: enough for the bytes of anything on one disk.
const SHORT_BITS: u32 = 48;

/// A number of [`SHORT_BITS`] bits as it is written; `None` for one that does not fit.
pub(super) fn short(value: u64) -> Option<[u8; 6]> {
    value.to_le_bytes().first_chunk().copied().filter(|_| value <= MAX_SHORT)
}

/// The largest number that [`short`] can write.
pub(super) const MAX_SHORT: u64 = (1 << SHORT_BITS) - 1;

/// What is left to read of some bytes. Every read is `None` when less is left than it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads `bytes` from the start.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    /// The next two bytes.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    /// The next four bytes.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// The next six bytes, which [`short`] wrote.
    pub(super) fn short(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        *bytes.first_chunk_mut::<6>()? = self.take()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The next eight bytes.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Whether everything has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that have not been read.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, 255, 1 << 40, MAX_SHORT] {
            assert_eq!(Fields::new(&short(value).unwrap()).short(), Some(value));
        }
        assert_eq!(short(MAX_SHORT + 1), None);
        assert_eq!(short(u64::MAX), None);
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let mut fields = Fields::new(&[1, 2, 3]);
        assert_eq!((fields.u64(), fields.short(), fields.u32()), (None, None, None));
        assert_eq!((fields.u16(), fields.u16(), fields.len()), (Some(0x0201), None, 1));
        assert_eq!((fields.u8(), fields.u8(), fields.is_empty()), (Some(3), None, true));
    }
}
