//! An archive that is imported, member after member.

use std::path::Path;
use std::sync::Arc;

use super::super::archive::{ArchiveReader, Found, Member};
use super::super::origin::collect;
use super::super::{ClientError, DIGESTS_PER_QUESTION};
use super::{Import, Item, ItemBytes, MAX_RESULT_BYTES, NewResult, Reason};
use crate::digest::Digest;
use crate::store::StoreError;

/// Blobs of so many bytes are asked for together.
const SMALL_BYTES: u64 = 1 << 20;
/// What is in memory of them at most, but for the last.
const BATCH_BYTES: u64 = 8 << 20;

/// Members that no export writes; what has more of them is no archive of ours.
const MAX_OTHERS: u64 = 10_000;

/// What was read and is not stored yet.
#[derive(Default)]
struct Batch {
    blobs: Vec<Item>,
    results: Vec<NewResult>,
    bytes: u64,
}

impl Import {
    /// Imports an archive; `-` is standard input. What is whole of one that is cut off is taken
    /// before that is said.
    pub async fn archive(self: &Arc<Self>, path: &Path) -> Result<(), ClientError> {
        let (mut reader, length) = ArchiveReader::open(&self.target, path).await?;
        if let Some(length) = length {
            self.progress.expect(0, length);
            self.progress.expect_no_more();
        }
        let mut batch = Batch::default();
        let read = self.members(&mut reader, &mut batch).await;
        self.flush(&mut batch).await?;
        read
    }

    async fn members(
        self: &Arc<Self>,
        reader: &mut ArchiveReader,
        batch: &mut Batch,
    ) -> Result<(), ClientError> {
        let mut others = 0;
        loop {
            // How long it takes is known of the archive alone.
            self.progress.reach_bytes(reader.read_bytes().saturating_sub(batch.bytes));
            match reader.next_member().await? {
                Found::End => return Ok(()),
                Found::Other(name, problem) => {
                    self.tally.skip(name, Reason::BadName, problem);
                    others += 1;
                    if others > MAX_OTHERS {
                        let problem = "has too many members that no export writes";
                        return Err(ClientError::invalid("archive", problem));
                    }
                }
                Found::Member(Member::Blob(digest), bytes) => {
                    self.progress.expect(1, 0);
                    self.member(reader, batch, digest, bytes).await?;
                }
                Found::Member(Member::Result(action), bytes) => {
                    self.result_member(reader, batch, action, bytes).await?;
                }
            }
            let is_full = batch.bytes >= BATCH_BYTES
                || batch.blobs.len() + batch.results.len() >= DIGESTS_PER_QUESTION;
            if is_full {
                self.flush(batch).await?;
            }
        }
    }

    /// Stores what was read: results last.
    async fn flush(self: &Arc<Self>, batch: &mut Batch) -> Result<(), ClientError> {
        let Batch { blobs, results, .. } = std::mem::take(batch);
        if !blobs.is_empty() {
            self.blobs(blobs).await?;
        }
        self.results(results).await
    }

    async fn member(
        self: &Arc<Self>,
        reader: &mut ArchiveReader,
        batch: &mut Batch,
        digest: Digest,
        received_bytes: u64,
    ) -> Result<(), ClientError> {
        if received_bytes != digest.size_bytes {
            let expected_bytes = digest.size_bytes;
            let error = StoreError::SizeMismatch { digest, expected_bytes, received_bytes };
            let name = Member::Blob(digest).to_string();
            return self.skip(name, Some(Reason::WrongSize), error.into());
        }
        if received_bytes > SMALL_BYTES {
            return self.large(reader, digest).await;
        }
        let data = collect(reader, digest).await?;
        batch.bytes = batch.bytes.saturating_add(received_bytes);
        batch.blobs.push(Item { digest, bytes: ItemBytes::Here(data) });
        Ok(())
    }

    /// Sends a blob while it is read. It can be read once: when the connection breaks for so long
    /// that the server lacks what is not in memory any more, the import ends, and the next goes on.
    async fn large(
        self: &Arc<Self>,
        reader: &mut ArchiveReader,
        digest: Digest,
    ) -> Result<(), ClientError> {
        let is_missing = self.target.find_missing(&[digest]).await? == [true];
        let outcome = match self.check_size(digest) {
            Ok(()) if is_missing && !self.options.is_dry_run => {
                self.sending().once(digest, reader, &mut 0).await
            }
            checked => checked.map(|()| is_missing),
        };
        self.progress.finish_files(1);
        match outcome {
            Ok(is_taken) => self.tally.blob(digest, is_taken),
            // That the archive ends is not about this blob alone.
            Err(error @ (ClientError::Invalid { .. } | ClientError::File { .. })) => {
                return Err(error);
            }
            Err(error) => {
                let name = Member::Blob(digest).to_string();
                self.skip(name, Reason::of_blob(&error), error)?;
            }
        }
        Ok(())
    }

    async fn result_member(
        self: &Arc<Self>,
        reader: &mut ArchiveReader,
        batch: &mut Batch,
        action: Digest,
        size_bytes: u64,
    ) -> Result<(), ClientError> {
        let name = Member::Result(action).to_string();
        if size_bytes > MAX_RESULT_BYTES {
            let error = StoreError::TooLarge { size_bytes, limit_bytes: MAX_RESULT_BYTES };
            return self.skip(name, Some(Reason::TooLarge), error.into());
        }
        let encoded = collect(reader, Digest { size_bytes, ..action }).await?;
        batch.bytes = batch.bytes.saturating_add(size_bytes);
        batch.results.push(NewResult { action, encoded, name });
        Ok(())
    }
}
