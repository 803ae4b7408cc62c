//! Writing an archive: to a file that gets its name when it is whole, or to standard output.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use super::super::download::{Look, Part, Place, parent_of};
use super::super::{Client, ClientError};
use super::{BLOCK_BYTES, FIRST, Member, header, padding};
use crate::trees::on_disk::Kind;

/// What is written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// An archive that is being written. Dropping it leaves nothing.
pub(in super::super) struct ArchiveWriter {
    client: Arc<Client>,
    to: Option<Output>,
    buffer: BytesMut,
    /// What the open member still lacks.
    left_bytes: u64,
    padding: usize,
}

enum Output {
    File(Part),
    Standard,
}

impl ArchiveWriter {
    /// Begins one; `-` is standard output.
    pub(in super::super) async fn create(
        client: &Arc<Client>,
        path: &Path,
    ) -> Result<Self, ClientError> {
        let to = path.to_owned();
        let open = move || {
            if to == Path::new("-") {
                return Ok(Output::Standard);
            }
            let (folder, name) = parent_of(&to)?;
            // Its place is taken by a file, and whoever names a device or a link wants that kept.
            if folder.metadata_of(&name).is_ok_and(|it| it.kind != Kind::File) {
                return Err(ClientError::unfit(&to, "is there, and is no regular file"));
            }
            let place = Place::new(Arc::new(folder), name, to.display().to_string());
            Part::create(place, Look::of(None)).map(Output::File)
        };
        let to = Some(client.jobs.run(open).await?);
        let client = Arc::clone(client);
        let mut writer = Self { client, to, buffer: BytesMut::new(), left_bytes: 0, padding: 0 };
        writer.put_header(FIRST, 0)?;
        Ok(writer)
    }

    /// Begins a member of so many bytes.
    pub(in super::super) fn begin(
        &mut self,
        member: Member,
        bytes: u64,
    ) -> Result<(), ClientError> {
        self.put_header(&member.to_string(), bytes)
    }

    fn put_header(&mut self, name: &str, size_bytes: u64) -> Result<(), ClientError> {
        let block = header(name, size_bytes)
            .ok_or_else(|| ClientError::invalid(name, "is too long a name for an archive"))?;
        self.buffer.put_slice(&block);
        (self.left_bytes, self.padding) = (size_bytes, padding(size_bytes));
        Ok(())
    }

    /// Appends bytes of the open member. More than were said cannot come: all were checked.
    pub(in super::super) async fn write(&mut self, data: &[u8]) -> Result<(), ClientError> {
        self.buffer.put_slice(data);
        self.left_bytes = self.left_bytes.saturating_sub(data.len() as u64);
        if self.buffer.len() >= BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Ends the open member.
    pub(in super::super) fn end(&mut self) -> Result<(), ClientError> {
        if self.left_bytes > 0 {
            return Err(ClientError::invalid("archive", "a member has fewer bytes than it should"));
        }
        self.buffer.put_bytes(0, std::mem::take(&mut self.padding));
        Ok(())
    }

    /// Ends the archive; it has its name from now on.
    pub(in super::super) async fn finish(mut self) -> Result<(), ClientError> {
        self.buffer.put_bytes(0, 2 * BLOCK_BYTES);
        self.flush().await?;
        let Some(Output::File(part)) = self.to.take() else { return Ok(()) };
        self.client.jobs.run(move || part.place(Look::of(None))).await
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        let data = self.buffer.split().freeze();
        let Some(mut to) = self.to.take() else {
            return Err(ClientError::invalid("archive", "could not be written before"));
        };
        let write = move || {
            match &mut to {
                Output::File(part) => part.write(&data)?,
                Output::Standard => {
                    let mut output = std::io::stdout().lock();
                    let written = output.write_all(&data).and_then(|()| output.flush());
                    written.map_err(|error| ClientError::file("write", "-", error))?;
                }
            }
            Ok(to)
        };
        self.to = Some(self.client.jobs.run(write).await?);
        Ok(())
    }
}
