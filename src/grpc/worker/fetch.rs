//! `FetchTree`: a tree and its blobs become local.

use std::sync::Arc;

use castellan_proto::worker::{FetchTreeRequest, FetchTreeResponse};
use tonic::Status;

use super::Worker;
use super::events::{EventStream, Events, Failure};
use super::instances::Local;
use super::request;
use super::turns::Waiting;
use crate::grpc::trace::record_call;
use crate::shutdown;
use crate::staging::{Progress, TreeRoot};

/// Begins to fetch a tree.
pub(super) fn start(
    worker: &Arc<Worker>,
    request: &FetchTreeRequest,
) -> Result<EventStream<FetchTreeResponse>, Status> {
    let local = worker.instances.get(&request.instance_name)?;
    let function = worker.digest_function(request.digest_function)?;
    let root = request::tree_root(request.root.as_ref(), function)?;
    let (TreeRoot::Directory(digest) | TreeRoot::Tree(digest)) = root;
    record_call(&request.instance_name, Some(&digest));
    let waiting = worker.fetches.join()?;
    let (events, stream) = Events::channel(worker.options.idle_timeout, worker.stop.clone());
    let fetching = run(local, root, waiting, events);
    shutdown::spawn("fetch", worker.tasks.track_future(fetching));
    Ok(stream)
}

async fn run(local: Local, root: TreeRoot, waiting: Waiting, events: Events<FetchTreeResponse>) {
    let progress = Arc::new(Progress::default());
    let fetching = async {
        let _turn = waiting.turn().await?;
        local.stager.fetch(root, Arc::clone(&progress)).await.map_err(Failure::from)
    };
    if let Err(failure) = events.attend(&progress, fetching).await {
        return events.fail(failure).await;
    }
    let progress = Some(super::events::snapshot(&progress));
    let done = FetchTreeResponse { progress, is_done: true, missing: Vec::new() };
    match events.deliver(done).await {
        Ok(()) => events.finish(),
        Err(failure) => events.fail(failure).await,
    }
}
