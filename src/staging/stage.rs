//! Staging: from a digest to a directory.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::jobs::Jobs;
use super::pinning::Pins;
use super::place::{Tools, Work};
use super::plan::invalid;
use super::site::{Grounds, failed};
use super::writable::Writable;
use super::{LinkMode, Progress, StageError, StageOptions, Stager, Totals, TreeRoot};
use crate::store::StoreError;
use crate::trees::name::Name;
use crate::trees::on_disk::{Folder, Identity};

/// A tree in its place. What it is linked to stays in the store until this is dropped; the
/// directory stays after that.
#[derive(Debug)]
pub struct StagedTree {
    totals: Totals,
    identity: Identity,
    /// `None` where every file is a copy.
    _pins: Option<Arc<Pins>>,
}

impl StagedTree {
    /// What it is made of.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Which directory it is, whatever becomes of its name.
    pub fn identity(&self) -> Identity {
        self.identity
    }
}

/// Has what is half made removed when its caller goes away.
struct Guard {
    work: Option<Arc<Work>>,
    jobs: Jobs,
}

impl Guard {
    /// What is made stays.
    fn keep(&mut self) -> Option<Identity> {
        let work = self.work.take()?;
        work.site.keep();
        Some(work.site.identity())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            work.site.abandon();
            // The last one who has it removes it: this job, or one that still works on it.
            self.jobs.detach(move || drop(work));
        }
    }
}

impl Stager {
    /// Makes the directory `name` in `parent` from a tree. It must not be there yet, or be empty.
    ///
    /// It appears whole or not at all. What is missing is reported all at once. Cancel safe: what
    /// a dropped call has made goes, soon.
    pub async fn stage(
        self: &Arc<Self>,
        root: TreeRoot,
        parent: Folder,
        name: &str,
        options: &StageOptions,
        progress: Arc<Progress>,
    ) -> Result<StagedTree, StageError> {
        Name::new(name).map_err(|problem| invalid(name.to_owned(), problem.to_string()))?;
        let writable = Writable::new(options)?;
        let plan = self.plan(root).await?;
        progress.expect(plan.totals.files, plan.totals.bytes);
        self.all_missing(&plan).await?;
        let (parent, may_link) = self.may_link(parent).await?;
        let has_links =
            may_link && matches!(options.link_mode, LinkMode::Auto | LinkMode::HardLink);
        let pins = self.pin_all(&plan, options.link_mode, has_links).await?;
        let mut totals = plan.totals;
        let tools = Tools {
            plan,
            pins,
            may_link,
            options: options.clone(),
            writable,
            progress,
            runtime: Handle::current(),
        };
        let target = name.to_owned();
        let grounds = Grounds { parent, workshop: self.workshop.clone() };
        let begin = move || Work::begin(tools, grounds, &target).map(Arc::new);
        let work = Some(self.jobs.run(begin).await??);
        let mut guard = Guard { work, jobs: self.jobs.clone() };
        match self.carry_out(&guard).await {
            Ok((copied_files, pins)) => {
                totals.copied_files = copied_files;
                let identity = guard.keep().ok_or(StoreError::ShuttingDown)?;
                Ok(StagedTree { totals, identity, _pins: has_links.then_some(pins) })
            }
            Err(error) => {
                // The guard would do it, but later; and does where this is dropped.
                let Some(work) = guard.work.clone() else { return Err(error) };
                if let Ok(Err(error)) = self.jobs.run(move || work.site.remove()).await {
                    tracing::warn!(%error, name, "what was made of a tree stays");
                }
                match error {
                    StageError::Missing(left) => Err(self.explain_absence(left).await),
                    error => Err(error),
                }
            }
        }
    }

    /// Whether hard links to the store's files may be had in a directory; by its file system alone,
    /// and another mount of the same is found by the first link.
    async fn may_link(&self, folder: Folder) -> Result<(Folder, bool), StageError> {
        let root_path = self.files.root().to_owned();
        let look = move || {
            let store = Folder::open_root(&root_path)?.metadata()?.device;
            let own = folder.metadata()?.device;
            Ok((folder, own == store))
        };
        let looked = self.jobs.run(look).await?;
        looked.map_err(failed("look at the file system of", self.files.root()))
    }

    /// Makes everything and puts it in its place; says how many files were copied.
    async fn carry_out(&self, guard: &Guard) -> Result<(u64, Arc<Pins>), StageError> {
        let Some(work) = &guard.work else { return Err(StoreError::ShuttingDown.into()) };
        let runs = (0..self.jobs.width()).map(|_| {
            let work = Arc::clone(work);
            self.jobs.run(move || work.run())
        });
        for ended in join_all(runs).await {
            ended?;
        }
        let copied_files = work.outcome()?;
        let placed = Arc::clone(work);
        self.jobs.run(move || placed.site.put_in_place()).await??;
        Ok((copied_files, Arc::clone(&work.pins)))
    }
}
