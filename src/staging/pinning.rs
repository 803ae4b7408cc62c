//! Getting hold of the files of a tree, so that none of them leaves before it is linked.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::fetch::{AT_ONCE, BATCH};
use super::jobs::some_time;
use super::plan::{MANY, Plan, WantedFile};
use super::{LinkMode, StageError, Stager};
use crate::digest::Digest;
use crate::store::filesystem::PinnedFile;
use crate::store::{BlobStore as _, Key, StoreError};

/// Times that a blob is fetched: between that and the pin it may leave again.
const MAX_ROUNDS: usize = 3;

/// The files of a tree, which stay in the store as long as this lives.
#[derive(Debug)]
pub(super) struct Pins {
    /// In the order of the plan; all are there once they are complete.
    files: Vec<Option<PinnedFile>>,
    /// Whether executables are pinned as mere blobs, for want of room for their variants.
    pub(super) has_no_variants: bool,
    /// Those whose first inode has no links left. The first pin may be of nothing by then.
    newest: Mutex<HashMap<usize, Arc<PinnedFile>>>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        let is_long = files.len() > MANY;
        let release = move || PinnedFile::release(files.into_iter().flatten().collect());
        if is_long { some_time(release) } else { release() }
    }
}

impl Pins {
    fn new(files: Vec<Option<PinnedFile>>, has_no_variants: bool) -> Self {
        Self { files, has_no_variants, newest: Mutex::default() }
    }

    pub(super) fn get(&self, at: usize) -> Option<&PinnedFile> {
        self.files.get(at)?.as_ref()
    }

    /// What took the place of a file whose links were used up.
    pub(super) fn newest(&self, at: usize) -> Option<Arc<PinnedFile>> {
        self.newest.lock().get(&at).map(Arc::clone)
    }

    /// Finds an inode with links to be had, after there were none of `exhausted`, which is the
    /// first one if not said; `None` when the blob has left. Blocking: must be called where waiting
    /// is allowed.
    pub(super) fn renew(
        &self,
        runtime: &Handle,
        at: usize,
        exhausted: Option<&Arc<PinnedFile>>,
    ) -> Result<Option<Arc<PinnedFile>>, StoreError> {
        let Some(first) = self.get(at) else { return Ok(None) };
        let newest = self.newest(at);
        if newest.as_ref().map(Arc::as_ptr) != exhausted.map(Arc::as_ptr) {
            return Ok(newest);
        }
        // Held until the fresh one is. The store makes one for all who ask at once.
        let exhausted = exhausted.map_or(first, Arc::as_ref);
        let fresh = runtime.block_on(exhausted.renewed())?.map(Arc::new);
        if let Some(fresh) = &fresh {
            self.newest.lock().insert(at, Arc::clone(fresh));
        }
        Ok(fresh)
    }

    /// Those that are not there yet, each blob with where it is wanted.
    fn absent(&self, wanted: &[WantedFile]) -> HashMap<Digest, Vec<(usize, WantedFile)>> {
        let mut absent: HashMap<_, Vec<_>> = HashMap::new();
        for (at, (file, wanted)) in self.files.iter().zip(wanted).enumerate() {
            if file.is_none() {
                absent.entry(wanted.0).or_default().push((at, *wanted));
            }
        }
        absent
    }
}

/// A blob that was fetched for some files, which are pinned; `None` when it was not to be had.
struct Fetched {
    digest: Digest,
    files: Option<Vec<(usize, PinnedFile)>>,
    has_no_variants: bool,
}

/// Asks for mere blobs.
fn without_variants(wanted: &[WantedFile]) -> Vec<WantedFile> {
    wanted.iter().map(|(digest, _)| (*digest, false)).collect()
}

impl Stager {
    /// Pins all files of a tree; what is not local is fetched first. All that is nowhere is
    /// reported at once. `has_links` is whether there is to be a link to any of them.
    pub(super) async fn pin_all(
        &self,
        plan: &Plan,
        mode: LinkMode,
        has_links: bool,
    ) -> Result<Pins, StageError> {
        let blobs;
        let wanted = if has_links {
            &plan.files
        } else {
            blobs = without_variants(&plan.files);
            &blobs
        };
        let may_copy = mode == LinkMode::Auto;
        let (files, has_no_variants) = self.pin_files(wanted, may_copy).await?;
        let mut pins = Pins::new(files, has_no_variants);
        let absent = pins.absent(wanted);
        if absent.is_empty() {
            return Ok(pins);
        }
        let digests: Vec<Digest> = absent.keys().copied().collect();
        self.require(&digests).await?;
        let mut unheld = Vec::new();
        let work = absent.into_iter().map(|(digest, at)| self.fetch_held(digest, at, may_copy));
        let mut fetched = stream::iter(work).buffer_unordered(AT_ONCE);
        while let Some(Fetched { digest, files, has_no_variants }) = fetched.try_next().await? {
            pins.has_no_variants |= has_no_variants;
            if files.is_none() {
                unheld.push(digest);
            }
            for (at, file) in files.into_iter().flatten() {
                if let Some(place) = pins.files.get_mut(at) {
                    *place = Some(file);
                }
            }
        }
        drop(fetched);
        if unheld.is_empty() { Ok(pins) } else { Err(self.explain_absence(unheld).await) }
    }

    /// Pins what is local; whether it did without variants, if it may, for want of room for them.
    async fn pin_files(
        &self,
        wanted: &[WantedFile],
        may_copy: bool,
    ) -> Result<(Vec<Option<PinnedFile>>, bool), StoreError> {
        match self.files.pin_files(wanted).await {
            Err(StoreError::NoSpace { .. }) if may_copy => {
                Ok((self.files.pin_files(&without_variants(wanted)).await?, true))
            }
            pinned => Ok((pinned?, false)),
        }
    }

    /// Fetches a blob and pins it at once: the next ones that are fetched may need its room.
    async fn fetch_held(
        &self,
        digest: Digest,
        places: Vec<(usize, WantedFile)>,
        may_copy: bool,
    ) -> Result<Fetched, StoreError> {
        let wanted: Vec<WantedFile> = places.iter().map(|(_, wanted)| *wanted).collect();
        for _ in 0..MAX_ROUNDS {
            if !self.fetch_one(digest).await? {
                break;
            }
            let (pinned, has_no_variants) = self.pin_files(&wanted, may_copy).await?;
            if pinned.iter().all(Option::is_some) {
                let files = places.iter().map(|(at, _)| *at).zip(pinned.into_iter().flatten());
                return Ok(Fetched { digest, files: Some(files.collect()), has_no_variants });
            }
        }
        Ok(Fetched { digest, files: None, has_no_variants: false })
    }

    /// Which of these are nowhere; refreshes the others, where they are found first.
    pub(super) async fn find_absent(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut absent = Vec::new();
        for batch in digests.chunks(BATCH) {
            let keys: Vec<Key> = batch.iter().copied().map(Key::blob).collect();
            let not_here = self.files.find_missing(&keys).await?;
            let not_here = batch.iter().zip(not_here).filter(|(_, is_absent)| *is_absent);
            let not_here: Vec<Digest> = not_here.map(|(digest, _)| *digest).collect();
            if not_here.is_empty() {
                continue;
            }
            let nowhere = self.cas.find_missing(&not_here).await?;
            let nowhere = not_here.into_iter().zip(nowhere).filter(|(_, is_absent)| *is_absent);
            absent.extend(nowhere.map(|(digest, _)| digest));
        }
        Ok(absent)
    }

    /// What to say when blobs were not to be had: those that are nowhere are missing. If there are
    /// none, the store behind has them all and this one has no peace to hold them.
    pub(super) async fn explain_absence(&self, digests: Vec<Digest>) -> StageError {
        if let Err(error) = self.require(&digests).await {
            return error;
        }
        let first = digests.first().map(ToString::to_string).unwrap_or_default();
        let what = format!(
            "{} blobs, as {first}, left the store while they were needed, and are to be had again",
            digests.len(),
        );
        StoreError::Unavailable { what }.into()
    }

    /// Reports what is nowhere of these.
    pub(super) async fn require(&self, digests: &[Digest]) -> Result<(), StageError> {
        let distinct = distinct(digests.iter().copied());
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

/// Reports what is missing, each once.
pub(super) fn missing(digests: impl IntoIterator<Item = Digest>) -> StageError {
    StageError::Missing(distinct(digests))
}

/// Each once, in order.
pub(super) fn distinct(digests: impl IntoIterator<Item = Digest>) -> Vec<Digest> {
    let mut digests: Vec<Digest> = digests.into_iter().collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}
