//! Reading files as another server wrote them.

use std::io;

use super::super::checksum::Checksum;
use super::super::disk::{ReadFile, UnnamedFile};
use super::super::layout::FileName;
use super::super::shared::Parts;
use crate::former::{Casblob, CasblobError};
use crate::store::{Key, Kind, StoreError};

const READ_BYTES: usize = 256 << 10;

/// Writes the value of a file of the other form to a fresh file of the store's own; false when its
/// bytes are not what its name says. Blocking.
pub(in crate::store::filesystem) fn rewrite(
    parts: &Parts,
    old: &FileName,
    to: &UnnamedFile,
) -> io::Result<bool> {
    let source = open(parts, old)?;
    let mut checksum = Checksum::new(&old.key);
    let mut offset = 0;
    let is_whole = read(&source, &old.key, old.len_bytes, |piece| {
        checksum.update(piece);
        to.write_at(piece, offset)?;
        offset += piece.len() as u64;
        Ok(())
    })?;
    if !is_whole || offset != old.len_bytes {
        return Ok(false);
    }
    match checksum.seal(&old.key) {
        Ok(None) => Ok(true),
        Ok(Some(trailer)) => to.write_at(&trailer, offset).map(|()| true),
        Err(StoreError::HashMismatch { .. }) => Ok(false),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// Whether a blob in a file of either form is what its name says; of an action result in the other
/// form nobody knows more than its length. Blocking.
pub(in crate::store::filesystem) fn is_right(
    file: &ReadFile,
    key: &Key,
    len_bytes: u64,
    is_casblob: bool,
) -> io::Result<bool> {
    let mut checksum = Checksum::new(key);
    let mut read_bytes = 0;
    let take = |piece: &[u8]| {
        checksum.update(piece);
        read_bytes += piece.len() as u64;
        Ok(())
    };
    let is_whole = if is_casblob {
        decode(file, take)?
    } else {
        copy(file, len_bytes, take).map(|()| true)?
    };
    Ok(is_whole && read_bytes == len_bytes && checksum.matches(key, None))
}

/// Whether an entry whose file has the other form is what it claims. Blocking.
pub(in crate::store::filesystem) fn is_whole(parts: &Parts, file: &FileName) -> io::Result<bool> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let source = parts.disk.open_untouched(&file.path())?.ok_or_else(missing)?;
    match file.key.kind {
        Kind::Blob => is_right(&source, &file.key, file.len_bytes, true),
        Kind::ActionResult => Ok(source.len_bytes() == file.len_bytes),
    }
}

fn open(parts: &Parts, file: &FileName) -> io::Result<ReadFile> {
    parts.disk.open_file(&file.path())?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn read(
    source: &ReadFile,
    key: &Key,
    len_bytes: u64,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    match key.kind {
        Kind::Blob => decode(source, take),
        Kind::ActionResult => copy(source, len_bytes, take).map(|()| true),
    }
}

/// False when it is no whole casblob.
fn decode(source: &ReadFile, take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
    let decoded =
        Casblob::open(source, source.len_bytes()).and_then(|casblob| casblob.decode(source, take));
    match decoded {
        Ok(()) => Ok(true),
        Err(CasblobError::Io(error)) => Err(error),
        Err(CasblobError::Invalid(problem)) => {
            tracing::debug!(problem, "not a whole casblob");
            Ok(false)
        }
    }
}

fn copy(
    source: &ReadFile,
    len_bytes: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(len_bytes).unwrap_or(READ_BYTES))];
    let mut offset = 0;
    while offset < len_bytes {
        let rest = usize::try_from(len_bytes - offset).unwrap_or(usize::MAX);
        let want = rest.min(buffer.len());
        let read = source.read_full(buffer.get_mut(..want).unwrap_or_default(), offset)?;
        if read == 0 {
            return Ok(());
        }
        take(buffer.get(..read).unwrap_or_default())?;
        offset += read as u64;
    }
    Ok(())
}
