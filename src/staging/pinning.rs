//! Getting hold of the files of a tree, so that none of them leaves before it is linked.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::plan::{Plan, WantedFile};
use super::{LinkMode, StageError, Stager};
use crate::digest::Digest;
use crate::store::StoreError;
use crate::store::filesystem::{FilesystemStore, PinnedFile};

/// Times that what is absent is fetched: between that and the pin it may leave again.
const MAX_ROUNDS: usize = 3;

/// The files of a tree, which stay in the store as long as this lives.
#[derive(Debug)]
pub(super) struct Pins {
    files: Vec<PinnedFile>,
    /// Whether executables are pinned as mere blobs, for want of room for their variants.
    pub(super) has_no_variants: bool,
    /// Those whose first inode has no links left.
    renewed: Mutex<HashMap<usize, Arc<PinnedFile>>>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        PinnedFile::release(std::mem::take(&mut self.files));
    }
}

impl Pins {
    pub(super) fn get(&self, at: usize) -> Option<&PinnedFile> {
        self.files.get(at)
    }

    /// What took the place of a file whose links were used up.
    pub(super) fn renewed(&self, at: usize) -> Option<Arc<PinnedFile>> {
        self.renewed.lock().get(&at).map(Arc::clone)
    }

    /// Finds an inode with links to be had; `None` when the blob has left. Blocking: must be called
    /// where waiting is allowed.
    pub(super) fn renew(
        &self,
        runtime: &Handle,
        store: &FilesystemStore,
        (at, wanted): (usize, WantedFile),
    ) -> Result<Option<Arc<PinnedFile>>, StoreError> {
        let fresh = runtime.block_on(async {
            let mut pinned = store.pin_files(&[wanted]).await?;
            let Some(fresh) = pinned.pop().flatten() else { return Ok(None) };
            fresh.renewed().await
        })?;
        let fresh = fresh.map(Arc::new);
        if let Some(fresh) = &fresh {
            self.renewed.lock().insert(at, Arc::clone(fresh));
        }
        Ok(fresh)
    }
}

impl Stager {
    /// Pins all files of a tree; what is not local is fetched first. All that is nowhere is
    /// reported at once.
    pub(super) async fn pin_all(&self, plan: &Plan, mode: LinkMode) -> Result<Pins, StageError> {
        let has_links = matches!(mode, LinkMode::Auto | LinkMode::HardLink);
        let mut wanted: Vec<WantedFile> = plan.files.clone();
        let as_blobs = |wanted: &mut Vec<WantedFile>| {
            for (_, is_executable) in wanted {
                *is_executable = false;
            }
        };
        if !has_links {
            as_blobs(&mut wanted);
        }
        let mut has_no_variants = false;
        let mut pinned = match self.files.pin_files(&wanted).await {
            Err(StoreError::NoSpace { .. }) if mode == LinkMode::Auto => {
                has_no_variants = true;
                as_blobs(&mut wanted);
                self.files.pin_files(&wanted).await?
            }
            pinned => pinned?,
        };
        for _ in 0..MAX_ROUNDS {
            let absent = absent(&wanted, &pinned);
            if absent.is_empty() {
                break;
            }
            let digests: Vec<Digest> = absent.iter().map(|(_, wanted)| wanted.0).collect();
            self.require(&digests).await?;
            self.fetch_all(&digests, None).await?;
            let again: Vec<WantedFile> = absent.iter().map(|(_, wanted)| *wanted).collect();
            let again = self.files.pin_files(&again).await?;
            for ((at, _), file) in absent.into_iter().zip(again) {
                if let Some(place) = pinned.get_mut(at) {
                    *place = file;
                }
            }
        }
        let absent = absent(&wanted, &pinned);
        if !absent.is_empty() {
            return Err(missing(absent.into_iter().map(|(_, wanted)| wanted.0)));
        }
        let files = pinned.into_iter().flatten().collect();
        Ok(Pins { files, has_no_variants, renewed: Mutex::default() })
    }

    /// Reports what is nowhere of these.
    pub(super) async fn require(&self, digests: &[Digest]) -> Result<(), StageError> {
        let distinct: BTreeSet<Digest> = digests.iter().copied().collect();
        let distinct: Vec<Digest> = distinct.into_iter().collect();
        let absent = self.cas.find_missing(&distinct).await?;
        let absent = distinct.iter().zip(absent).filter(|(_, is_absent)| *is_absent);
        let mut absent = absent.map(|(digest, _)| *digest).peekable();
        if absent.peek().is_none() { Ok(()) } else { Err(missing(absent)) }
    }

    /// What a tree lacks of which directories are absent already.
    pub(super) async fn all_missing(&self, plan: &Plan) -> Result<(), StageError> {
        if plan.missing.is_empty() {
            return Ok(());
        }
        let files: Vec<Digest> = plan.files.iter().map(|(digest, _)| *digest).collect();
        let absent = match self.require(&files).await {
            Err(StageError::Missing(absent)) => absent,
            outcome => outcome.map(|()| Vec::new())?,
        };
        Err(missing(plan.missing.iter().copied().chain(absent)))
    }
}

/// What was not pinned, and where it belongs.
fn absent(wanted: &[WantedFile], pinned: &[Option<PinnedFile>]) -> Vec<(usize, WantedFile)> {
    let all = wanted.iter().zip(pinned).enumerate();
    all.filter(|(_, (_, file))| file.is_none()).map(|(at, (wanted, _))| (at, *wanted)).collect()
}

/// Reports what is missing, each once.
pub(super) fn missing(digests: impl IntoIterator<Item = Digest>) -> StageError {
    let distinct: BTreeSet<Digest> = digests.into_iter().collect();
    StageError::Missing(distinct.into_iter().collect())
}
