//! Reading an archive, member after member, from a file or from standard input.

use std::io::{Read, stdin};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};

use super::super::origin::Chunks;
use super::super::{Client, ClientError, upload};
use super::{BLOCK_BYTES, Block, Described, FIRST, FIRST_OF_ANY, Member, padding};

/// What is read at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// What may be behind the end of an archive: what `tar` fills its last record with.
const MAX_REST_BYTES: u64 = 1 << 20;

/// An archive that is being read.
pub(in super::super) struct ArchiveReader {
    client: Arc<Client>,
    from: Option<Box<dyn Read + Send>>,
    /// Read and not looked at.
    buffer: BytesMut,
    /// What the open member still has, and what fills its last block.
    left_bytes: u64,
    padding: usize,
    read_bytes: u64,
}

/// What comes next.
#[derive(Debug)]
pub(in super::super) enum Found {
    /// Something that can be taken; its bytes are read from here.
    Member(Member, u64),
    /// Something that cannot, and why not.
    Other(String, String),
    /// The end, as it should be.
    End,
}

impl ArchiveReader {
    /// Opens an archive; `-` is standard input. Gives its length too, where it has one.
    pub(in super::super) async fn open(
        client: &Arc<Client>,
        path: &Path,
    ) -> Result<(Self, Option<u64>), ClientError> {
        let path = path.to_owned();
        let open = move || {
            if path == Path::new("-") {
                return Ok((Box::new(stdin()) as Box<dyn Read + Send>, None));
            }
            let file = upload::open_file(&path)?;
            let length = file.metadata().map(|it| it.len()).ok();
            Ok((Box::new(file) as Box<dyn Read + Send>, length))
        };
        let (from, length) = client.jobs.run(open).await?;
        let mut reader = Self {
            client: Arc::clone(client),
            from: Some(from),
            buffer: BytesMut::new(),
            left_bytes: 0,
            padding: 0,
            read_bytes: 0,
        };
        reader.check_first().await?;
        Ok((reader, length))
    }

    async fn check_first(&mut self) -> Result<(), ClientError> {
        let stranger = || broken("is no archive that castellan export has made");
        let first = match self.block().await {
            Ok(block) => Described::read(&block).map_err(|_| stranger())?,
            Err(error @ ClientError::File { .. }) => return Err(error),
            Err(_) => return Err(stranger()),
        };
        if first.name == FIRST.as_bytes() && first.size_bytes == 0 {
            return Ok(());
        }
        if first.name.starts_with(FIRST_OF_ANY.as_bytes()) {
            return Err(broken("is of a version that this program does not know"));
        }
        Err(stranger())
    }

    /// Bytes that were looked at.
    pub(in super::super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next member. What was not read of the last one is passed over.
    pub(in super::super) async fn next_member(&mut self) -> Result<Found, ClientError> {
        while self.next().await?.is_some() {}
        self.skip_padding().await?;
        let block = self.block().await?;
        if block.iter().all(|it| *it == 0) {
            let second = self.block().await?;
            if second.iter().any(|it| *it != 0) {
                return Err(broken("has something in its end"));
            }
            self.drain().await?;
            return Ok(Found::End);
        }
        let described = Described::read(&block).map_err(broken)?;
        self.left_bytes = described.size_bytes;
        self.padding = padding(described.size_bytes);
        Ok(match described.member() {
            Ok(member) => Found::Member(member, described.size_bytes),
            Err(problem) => Found::Other(described.shown(), problem),
        })
    }

    async fn skip_padding(&mut self) -> Result<(), ClientError> {
        let padding = std::mem::take(&mut self.padding);
        self.need(padding).await?;
        self.advance(padding);
        Ok(())
    }

    async fn block(&mut self) -> Result<Block, ClientError> {
        self.need(BLOCK_BYTES).await?;
        let block = self.buffer.first_chunk::<BLOCK_BYTES>().copied();
        self.advance(BLOCK_BYTES);
        block.ok_or_else(|| broken("ends before its end"))
    }

    fn advance(&mut self, count: usize) {
        self.buffer.advance(count.min(self.buffer.len()));
        self.read_bytes = self.read_bytes.saturating_add(count as u64);
    }

    /// Reads until so many bytes are there.
    async fn need(&mut self, count: usize) -> Result<(), ClientError> {
        while self.buffer.len() < count {
            if !self.fill().await? {
                return Err(broken("ends before its end"));
            }
        }
        Ok(())
    }

    /// Reads on; false at the end.
    async fn fill(&mut self) -> Result<bool, ClientError> {
        let Some(mut from) = self.from.take() else { return Ok(false) };
        let read = move || {
            let mut data = Vec::new();
            let read = from.by_ref().take(CHUNK_BYTES).read_to_end(&mut data);
            read.map_err(|error| ClientError::file("read", "the archive", error))?;
            Ok((from, data))
        };
        let (from, data) = self.client.jobs.run(read).await?;
        if data.is_empty() {
            return Ok(false);
        }
        self.from = Some(from);
        self.buffer.extend_from_slice(&data);
        Ok(true)
    }

    /// Lets whoever writes the archive end it.
    async fn drain(&mut self) -> Result<(), ClientError> {
        let mut drained = 0;
        while drained < MAX_REST_BYTES {
            drained += self.buffer.len() as u64;
            self.buffer.clear();
            if !self.fill().await? {
                break;
            }
        }
        Ok(())
    }
}

/// The bytes of the open member.
#[async_trait]
impl Chunks for ArchiveReader {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        if self.left_bytes == 0 {
            return Ok(None);
        }
        self.need(1).await?;
        let left = usize::try_from(self.left_bytes).unwrap_or(usize::MAX);
        let data = self.buffer.split_to(left.min(self.buffer.len())).freeze();
        self.left_bytes = self.left_bytes.saturating_sub(data.len() as u64);
        self.read_bytes = self.read_bytes.saturating_add(data.len() as u64);
        Ok(Some(data))
    }
}

fn broken(problem: &str) -> ClientError {
    ClientError::invalid("archive", problem)
}
