//! bazel-remote's form of a compressed blob.
//!
//! Little-endian, and as a whole a valid zstd file, since the header is a skippable frame:
//!
//! ```text
//! 0x184D2A50  u32
//! length of what follows of the header, u32
//! length of the blob, i64
//! compression, u8: 0 none, 1 zstd
//! length of each chunk but the last, u32
//! number of offsets, i64
//! offsets, i64 each: where each chunk begins, and where the last one ends
//! a zstd frame for each chunk
//! ```
//!
//! The offsets are written last, over zeros: a table that does not grow is a torn file. Without
//! compression there is one chunk, of any length.

use std::collections::VecDeque;
use std::io;

use bytes::Buf as _;
use zstd::bulk::Decompressor;

const MAGIC: u32 = 0x184D_2A50;
/// The header up to the offsets.
const FIXED_BYTES: usize = 29;
/// What the length in the header does not count: itself and what is before it.
const UNCOUNTED_BYTES: u64 = 8;
const OFFSET_BYTES: u64 = 8;
/// Of the table, at a time: that of a blob of 1 TiB has 8 MiB.
const TABLE_PIECE_BYTES: usize = 4096;
/// Of a blob that is not compressed, at a time.
const COPY_BYTES: usize = 128 << 10;
/// The writer's chunks have 1 MiB.
const MAX_CHUNK_BYTES: u32 = 16 << 20;

/// Bytes that can be read at any place.
pub trait ReadAt {
    /// Reads some bytes from `offset` on, and says how many; none only where they end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Why a file is not read as a casblob.
#[derive(Debug, thiserror::Error)]
pub enum CasblobError {
    /// The file could not be read, or what came out of it not be written.
    #[error("the casblob cannot be read")]
    Io(#[from] io::Error),
    /// It is no casblob, or one that is cut off or changed.
    #[error("not a whole casblob: {0}")]
    Invalid(&'static str),
}

/// A casblob whose header has been found to agree with itself and the length of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Casblob {
    size_bytes: u64,
    is_compressed: bool,
    chunk_bytes: u32,
    /// Where the offsets end and the data begins.
    header_bytes: u64,
    file_bytes: u64,
}

impl Casblob {
    /// Reads and checks the header of a file of this length. Reads nothing of the data. Blocking.
    pub fn open(source: &impl ReadAt, file_bytes: u64) -> Result<Self, CasblobError> {
        let mut fixed = [0; FIXED_BYTES];
        read_full(source, &mut fixed, 0)?;
        let mut fields = fixed.as_slice();
        if fields.get_u32_le() != MAGIC {
            return Err(CasblobError::Invalid("it begins with another number"));
        }
        let header_bytes = u64::from(fields.get_u32_le()) + UNCOUNTED_BYTES;
        let size_bytes = fields.get_i64_le();
        let compression = fields.get_u8();
        let chunk_bytes = fields.get_u32_le();
        let offsets = fields.get_i64_le();
        let casblob = Self {
            size_bytes: u64::try_from(size_bytes).unwrap_or_default(),
            is_compressed: compression == 1,
            chunk_bytes,
            header_bytes,
            file_bytes,
        };
        if casblob.size_bytes == 0 || compression > 1 {
            return Err(CasblobError::Invalid("its blob has no length or an unknown compression"));
        }
        if !(1..=MAX_CHUNK_BYTES).contains(&chunk_bytes) {
            return Err(CasblobError::Invalid("its chunks are too long or have no length"));
        }
        let chunks = casblob.chunks();
        // Some count the end of the last chunk, some do not.
        let is_counted = u64::try_from(offsets).is_ok_and(|it| it == chunks || it == chunks + 1);
        if !is_counted || casblob.table_bytes() != Some((chunks + 1).saturating_mul(OFFSET_BYTES)) {
            return Err(CasblobError::Invalid("it has another number of chunks than its length"));
        }
        casblob.check_offsets(source)?;
        Ok(casblob)
    }

    /// The length of the blob.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Gives the bytes of the blob to `write`, piece by piece, and ends well only if they were as
    /// many as the header says. What they hash to is for the caller to say. Holds a chunk and its
    /// compressed form in memory. Blocking.
    pub fn decode(
        &self,
        source: &impl ReadAt,
        write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), CasblobError> {
        if self.is_compressed { self.decompress(source, write) } else { self.copy(source, write) }
    }

    fn chunks(&self) -> u64 {
        if self.is_compressed { self.size_bytes.div_ceil(u64::from(self.chunk_bytes)) } else { 1 }
    }

    fn table_bytes(&self) -> Option<u64> {
        self.header_bytes.checked_sub(FIXED_BYTES as u64)
    }

    fn offsets<'a, S: ReadAt>(&self, source: &'a S) -> Offsets<'a, S> {
        Offsets {
            source,
            place: FIXED_BYTES as u64,
            end: self.header_bytes,
            piece: VecDeque::new(),
            last: None,
        }
    }

    fn check_offsets(&self, source: &impl ReadAt) -> Result<(), CasblobError> {
        // Or a length that is made up would have a table of gigabytes looked for.
        if self.header_bytes >= self.file_bytes {
            return Err(CasblobError::Invalid("it ends in its header"));
        }
        let mut offsets = self.offsets(source);
        if offsets.next()? != Some(self.header_bytes) {
            return Err(CasblobError::Invalid("its first chunk is not behind its header"));
        }
        while offsets.next()?.is_some() {}
        if offsets.last != Some(self.file_bytes) {
            return Err(CasblobError::Invalid("its last chunk does not end where the file ends"));
        }
        let data_bytes = self.file_bytes - self.header_bytes;
        if !self.is_compressed && data_bytes != self.size_bytes {
            return Err(CasblobError::Invalid("it has another length than it says"));
        }
        Ok(())
    }

    fn decompress(
        &self,
        source: &impl ReadAt,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), CasblobError> {
        let mut decompressor = Decompressor::new()?;
        let (mut stored, mut chunk) = (Vec::new(), Vec::new());
        let mut offsets = self.offsets(source);
        let mut start = offsets.next()?.unwrap_or_default();
        let mut left = self.size_bytes;
        while let Some(end) = offsets.next()? {
            let chunk_bytes = left.min(u64::from(self.chunk_bytes));
            let stored_bytes = end - start;
            // The file may have changed since its header was checked.
            if end > self.file_bytes || stored_bytes > longest_frame(chunk_bytes) {
                return Err(CasblobError::Invalid("a chunk takes more than any compression makes"));
            }
            stored.resize(length(stored_bytes), 0);
            read_full(source, &mut stored, start)?;
            chunk.resize(length(chunk_bytes), 0);
            let decoded = decompressor.decompress_to_buffer(&stored, chunk.as_mut_slice());
            if decoded.ok() != Some(chunk.len()) {
                return Err(CasblobError::Invalid("a chunk is not zstd of its length"));
            }
            write(&chunk)?;
            left -= chunk_bytes;
            start = end;
        }
        if left > 0 {
            return Err(CasblobError::Invalid("it has fewer bytes than it says"));
        }
        Ok(())
    }

    fn copy(
        &self,
        source: &impl ReadAt,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), CasblobError> {
        let mut piece = vec![0; length(self.size_bytes.min(COPY_BYTES as u64))];
        let mut place = self.header_bytes;
        while place < self.file_bytes {
            piece.truncate(length(self.file_bytes - place));
            read_full(source, &mut piece, place)?;
            write(&piece)?;
            place += piece.len() as u64;
        }
        Ok(())
    }
}

/// The offset table, a piece at a time.
struct Offsets<'a, S> {
    source: &'a S,
    /// Where the next piece begins.
    place: u64,
    /// Where the table ends.
    end: u64,
    piece: VecDeque<u64>,
    /// The one that was given last.
    last: Option<u64>,
}

impl<S: ReadAt> Offsets<'_, S> {
    /// The next one, which is greater than the one before; `None` at the end.
    fn next(&mut self) -> Result<Option<u64>, CasblobError> {
        if self.piece.is_empty() {
            self.fill()?;
        }
        let Some(offset) = self.piece.pop_front() else { return Ok(None) };
        if self.last.is_some_and(|last| offset <= last) {
            return Err(CasblobError::Invalid("its offsets do not grow, as in a torn file"));
        }
        self.last = Some(offset);
        Ok(Some(offset))
    }

    fn fill(&mut self) -> Result<(), CasblobError> {
        let mut bytes = [0; TABLE_PIECE_BYTES];
        let wanted = length(self.end - self.place).min(TABLE_PIECE_BYTES);
        let piece = bytes.get_mut(..wanted).unwrap_or_default();
        read_full(self.source, piece, self.place)?;
        self.place += piece.len() as u64;
        // A negative one is greater than any file is long.
        self.piece.extend(piece.as_chunks().0.iter().map(|offset| u64::from_le_bytes(*offset)));
        Ok(())
    }
}

/// The longest frame for so many bytes, generously: bytes that cannot be compressed are stored as
/// they are, in blocks.
fn longest_frame(chunk_bytes: u64) -> u64 {
    chunk_bytes + chunk_bytes / 64 + 1024
}

/// What is longer than memory is cut off by the caller.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Fills the buffer from `offset` on.
fn read_full(
    source: &impl ReadAt,
    mut buffer: &mut [u8],
    mut offset: u64,
) -> Result<(), CasblobError> {
    while !buffer.is_empty() {
        match source.read_at(buffer, offset) {
            Ok(0) => return Err(CasblobError::Invalid("it ends early")),
            Ok(read) => {
                buffer = buffer.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
