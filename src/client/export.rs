//! Action results with everything they reach, written to an archive.
//!
//! A blob comes before what names it, and each comes once: whatever of an archive has arrived
//! stands for itself.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::actions::decode_result;
use super::archive::{ArchiveWriter, Member};
use super::closure::{self, Named};
use super::import::{OnSkip, Reason, Skipped};
use super::origin::Origin;
use super::{Client, ClientError, Progress};
use crate::digest::Digest;
use crate::store::remote::with_sources;

/// Blobs of so many bytes are read ahead of being written.
const SMALL_BYTES: u64 = 256 << 10;
/// How many of them.
const AHEAD: usize = 32;
/// Results that are looked into ahead of being written.
const RESULTS_AHEAD: usize = 16;

/// What an export came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Action results.
    pub results: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Actions that were left out.
    pub skipped: u64,
}

/// What belongs to an action.
struct Closure {
    action: Digest,
    encoded: Bytes,
    /// What the result needs.
    reached: Vec<Digest>,
    /// What is known of the action itself.
    about: Vec<Digest>,
}

/// An export under way.
struct Export {
    client: Arc<Client>,
    progress: Arc<Progress>,
    writer: ArchiveWriter,
    written: HashSet<Digest>,
    exported: Exported,
}

impl Client {
    /// Writes the results of actions with everything they reach, and the actions with their
    /// commands where they are there; `-` is standard output. An action without a result, or whose
    /// result lacks something, is left out and `on_skip` is told.
    pub async fn export(
        self: &Arc<Self>,
        mut actions: Vec<Digest>,
        with_inputs: bool,
        to: &Path,
        progress: &Arc<Progress>,
        mut on_skip: OnSkip,
    ) -> Result<Exported, ClientError> {
        // The archive must not depend on the order in which they are named.
        actions.sort_unstable();
        actions.dedup();
        let mut export = Export {
            client: Arc::clone(self),
            progress: Arc::clone(progress),
            writer: ArchiveWriter::create(self, to).await?,
            written: HashSet::new(),
            exported: Exported::default(),
        };
        let looking = actions
            .into_iter()
            .map(|action| async move { (action, self.closure_of(action, with_inputs).await) });
        let mut closures = stream::iter(looking).buffered(RESULTS_AHEAD);
        while let Some((action, closure)) = closures.next().await {
            match closure {
                Ok(closure) => export.closure(closure).await?,
                Err(error) => {
                    let reason = Reason::of_result(&error);
                    let Some(mut reason) = reason else { return Err(error) };
                    let mut problem = with_sources(&error);
                    if matches!(error, ClientError::Absent(digest) if digest == action) {
                        (reason, problem) = (Reason::Absent, "the action has no result".to_owned());
                    }
                    export.exported.skipped += 1;
                    on_skip(&Skipped { name: action.to_string(), reason, problem });
                }
            }
        }
        progress.expect_no_more();
        export.writer.finish().await?;
        Ok(export.exported)
    }

    async fn closure_of(
        self: &Arc<Self>,
        action: Digest,
        with_inputs: bool,
    ) -> Result<Closure, ClientError> {
        let origin: Arc<dyn Origin> = Arc::<Self>::clone(self);
        let encoded = self.encoded_result(action).await?.ok_or(ClientError::Absent(action))?;
        let result = decode_result(action, encoded.clone())?;
        let reached = Named::of(action.function, &result)?.closure(&origin).await?;
        let mut about = closure::of_action(&origin, action, with_inputs).await?;
        let all = [&*reached, &*about].concat();
        let absent: HashSet<Digest> = self.absent(&all).await?.into_iter().collect();
        let lacking: Vec<Digest> =
            reached.iter().copied().filter(|it| absent.contains(it)).collect();
        if !lacking.is_empty() {
            return Err(ClientError::Missing(lacking));
        }
        about.retain(|it| !absent.contains(it));
        Ok(Closure { action, encoded, reached, about })
    }
}

impl Export {
    async fn closure(&mut self, closure: Closure) -> Result<(), ClientError> {
        let Closure { action, encoded, reached, about } = closure;
        let mut digests: Vec<Digest> = [reached, about].concat();
        digests.retain(|digest| self.written.insert(*digest));
        let bytes = digests.iter().fold(0_u64, |sum, it| sum.saturating_add(it.size_bytes));
        self.progress.expect(digests.len() as u64, bytes);
        let client = Arc::clone(&self.client);
        let reading = digests.into_iter().map(|digest| {
            let client = &client;
            async move {
                let is_small = digest.size_bytes <= SMALL_BYTES;
                let data = if is_small { Some(client.read(digest).all().await) } else { None };
                (digest, data)
            }
        });
        let mut blobs = std::pin::pin!(stream::iter(reading).buffered(AHEAD));
        while let Some((digest, data)) = blobs.next().await {
            self.blob(digest, data.transpose()?).await?;
        }
        self.writer.begin(Member::Result(action), encoded.len() as u64)?;
        self.writer.write(&encoded).await?;
        self.writer.end()?;
        self.exported.results += 1;
        Ok(())
    }

    /// Writes a blob: what was read ahead, or else while it is read.
    async fn blob(&mut self, digest: Digest, data: Option<Bytes>) -> Result<(), ClientError> {
        self.writer.begin(Member::Blob(digest), digest.size_bytes)?;
        if let Some(data) = data {
            self.writer.write(&data).await?;
            self.progress.move_bytes(data.len() as u64);
        } else {
            let mut reading = self.client.read(digest);
            while let Some(chunk) = reading.next().await? {
                self.writer.write(&chunk).await?;
                self.progress.move_bytes(chunk.len() as u64);
            }
        }
        self.writer.end()?;
        self.progress.finish_files(1);
        self.exported.blobs += 1;
        self.exported.blob_bytes = self.exported.blob_bytes.saturating_add(digest.size_bytes);
        Ok(())
    }
}
