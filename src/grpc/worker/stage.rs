//! `StageTree` and `ReleaseTree`: a directory for a worker, and the lease of what is in it.

use std::sync::Arc;
use std::time::Duration;

use castellan_proto::worker::{ReleaseTreeRequest, StagedTree as WireStagedTree};
use castellan_proto::worker::{StageTreeRequest, StageTreeResponse, stage_tree_response};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::Worker;
use super::events::{EventStream, Events, Failure};
use super::instances::Local;
use super::paths::Target;
use super::request;
use super::turns::Waiting;
use crate::grpc::status::retry_later;
use crate::grpc::trace::record_call;
use crate::shutdown::{self, detached};
use crate::staging::leases::{Lease, Place};
use crate::staging::{Progress, StageError, StageOptions, StagedTree, Totals, TreeRoot};
use crate::store::filesystem::FilesystemStore;
use crate::telemetry::metrics::{Metrics, StageOutcome};

/// What a lease holds.
#[derive(Debug)]
pub(super) struct Held {
    tree: StagedTree,
    target: Target,
    pub(super) files: Arc<FilesystemStore>,
    metrics: Arc<Metrics>,
}

impl Held {
    fn new(tree: StagedTree, work: &Work, metrics: &Arc<Metrics>) -> Self {
        metrics.staging.begin_lease();
        Self {
            tree,
            target: work.target.clone(),
            files: Arc::clone(&work.local.files),
            metrics: Arc::clone(metrics),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.staging.end_lease();
    }
}

/// A request, checked.
#[derive(Debug)]
struct Work {
    local: Local,
    root: TreeRoot,
    target: Target,
    options: StageOptions,
    lease: Option<Duration>,
}

impl Work {
    fn read(worker: &Worker, request: &StageTreeRequest) -> Result<Self, Status> {
        let local = worker.instances.get(&request.instance_name)?;
        let function = worker.digest_function(request.digest_function)?;
        let root = request::tree_root(request.root.as_ref(), function)?;
        let (TreeRoot::Directory(digest) | TreeRoot::Tree(digest)) = root;
        record_call(&request.instance_name, Some(&digest));
        Ok(Self {
            local,
            root,
            target: Target::parse("path", &request.path)?,
            options: request::stage_options(request)?,
            lease: request::lease(request.lease_duration)?,
        })
    }
}

/// Begins to stage a tree.
pub(super) fn start(
    worker: &Arc<Worker>,
    request: &StageTreeRequest,
) -> Result<EventStream<StageTreeResponse>, Status> {
    let work = Work::read(worker, request)?;
    let place = worker.leases.place().ok_or_else(|| {
        retry_later(Code::ResourceExhausted, "too many staged trees are leased; release some")
    })?;
    let waiting = worker.stages.join()?;
    let (events, stream) = Events::channel(worker.options.idle_timeout, worker.stop.clone());
    let staging = run(Arc::clone(worker), work, place, waiting, events);
    shutdown::spawn("stage", worker.tasks.track_future(staging));
    Ok(stream)
}

async fn run(
    worker: Arc<Worker>,
    work: Work,
    place: Place<Arc<Held>>,
    waiting: Waiting,
    events: Events<StageTreeResponse>,
) {
    let progress = Arc::default();
    let making = make(&worker, &work, place, waiting, &progress);
    let made = events.attend(&progress, making).await;
    worker.metrics.staging.count_tree(outcome_of(&made));
    let (totals, lease) = match made {
        Ok(made) => made,
        Err(failure) => return events.fail(failure).await,
    };
    let linked = totals.files.saturating_sub(totals.copied_files);
    worker.metrics.staging.count_files(linked, totals.copied_files);
    if let Err(failure) = events.deliver(message(&totals, lease.id())).await {
        // Nobody knows of it: as if it had not been made.
        if let Some(held) = lease.end() {
            give_back(&worker, &held).await;
        }
        return events.fail(failure).await;
    }
    let Some(duration) = work.lease else { return hold(lease, events).await };
    lease.keep_until(Instant::now() + duration);
    events.finish();
}

/// Makes the directory, and the lease of what is in it.
async fn make(
    worker: &Worker,
    work: &Work,
    place: Place<Arc<Held>>,
    waiting: Waiting,
    progress: &Arc<Progress>,
) -> Result<(Totals, Lease<Arc<Held>>), Failure> {
    let _turn = waiting.turn().await?;
    let parent = worker.root.open("path", &work.target.parent).await?;
    let name = &work.target.name;
    let stager = &work.local.stager;
    let tree = stager.stage(work.root, parent, name, &work.options, Arc::clone(progress)).await?;
    let totals = tree.totals();
    let held = Arc::new(Held::new(tree, work, &worker.metrics));
    match place.fill(Arc::clone(&held)) {
        Ok(Some(lease)) => Ok((totals, lease)),
        outcome => {
            give_back(worker, &held).await;
            let failed = |error| Status::internal(format!("name a lease: {error}"));
            outcome.map_err(failed)?;
            Err(Failure::Stopping)
        }
    }
}

/// Keeps the lease for as long as the stream.
async fn hold(lease: Lease<Arc<Held>>, events: Events<StageTreeResponse>) {
    let is_stopped = tokio::select! {
        () = events.gone() => false,
        () = lease.ended() => false,
        () = events.stopped() => true,
    };
    drop(lease);
    if is_stopped {
        events.fail(Failure::Stopping).await;
    } else {
        events.finish();
    }
}

fn outcome_of<T>(made: &Result<T, Failure>) -> StageOutcome {
    match made {
        Ok(_) => StageOutcome::Staged,
        Err(Failure::Stage(StageError::Missing(missing))) => {
            StageOutcome::Missing(missing.len() as u64)
        }
        Err(Failure::Stage(_) | Failure::Refused(_)) => StageOutcome::Failed,
        Err(Failure::Stopping | Failure::Gone) => StageOutcome::Cancelled,
    }
}

fn message(totals: &Totals, lease_id: String) -> StageTreeResponse {
    let Totals { files, directories, symlinks, bytes, copied_files } = *totals;
    let staged = WireStagedTree { lease_id, files, directories, symlinks, bytes, copied_files };
    let event = Some(stage_tree_response::Event::Staged(staged));
    StageTreeResponse { event, missing: Vec::new() }
}

/// Removes a directory that nobody has any more.
async fn give_back(worker: &Worker, held: &Held) {
    let turn = worker.removals.own_turn().await;
    let removed = worker.root.remove(&held.target, held.tree.identity()).await;
    drop(turn);
    if let Err(status) = removed {
        let Target { parent, name } = &held.target;
        tracing::warn!(parent, name, status = status.message(), "staged directory not removed");
    }
}

/// Ends a lease; says whether the directory was removed. What it has begun it ends even when its
/// client goes away.
pub(super) async fn release(
    worker: &Arc<Worker>,
    request: ReleaseTreeRequest,
) -> Result<bool, Status> {
    let ReleaseTreeRequest { lease_id, remove } = request;
    let ended = || Status::not_found("lease_id: no lease has this name; it may have ended before");
    if !remove {
        return worker.leases.take(&lease_id).map(|_| false).ok_or_else(ended);
    }
    let held = worker.leases.get(&lease_id).ok_or_else(ended)?;
    let turn = worker.removals.join()?.turn().await?;
    let its = Arc::clone(worker);
    // The tree is leased until its files are gone: until then they may be in use, and when not all
    // of them go somebody has to try again.
    let removing = async move {
        let removed = its.root.remove(&held.target, held.tree.identity()).await;
        drop(turn);
        if removed.is_ok() {
            drop(its.leases.take(&lease_id));
        }
        removed
    };
    let removed = detached("release", worker.tasks.track_future(removing)).await;
    removed.unwrap_or_else(|| Err(Status::internal("the removal died")))
}

#[cfg(test)]
mod tests;
