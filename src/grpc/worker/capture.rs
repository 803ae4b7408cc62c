//! `CaptureTree` and `CaptureFiles`: what an action has made goes to the store.

use std::sync::Arc;

use castellan_proto::worker::{
    CaptureFilesRequest, CaptureFilesResponse, CaptureTreeRequest, CaptureTreeResponse,
    CapturedDirectory as WireDirectory, CapturedFile as WireFile, CapturedSymlink as WireSymlink,
};
use tonic::Status;

use super::Worker;
use super::events::wire_digest;
use super::instances::Local;
use super::turns::Turn;
use super::{paths, request};
use crate::digest::DigestFunction;
use crate::grpc::status::invalid_field;
use crate::grpc::trace::record_call;
use crate::staging::capture::{CapturedDirectory, CapturedFile, CapturedSymlink};
use crate::trees::on_disk::Folder;

/// What both calls begin with.
struct Captured {
    local: Local,
    function: DigestFunction,
    base: Folder,
    _turn: Turn,
}

impl Captured {
    /// Checks the request, then waits for a turn and opens the directory of its paths.
    async fn begin(
        worker: &Worker,
        instance_name: &str,
        digest_function: i32,
        base: &str,
        paths: &[String],
    ) -> Result<Self, Status> {
        record_call(instance_name, None);
        let local = worker.instances.get(instance_name)?;
        let function = worker.digest_function(digest_function)?;
        paths::check("base", base)?;
        request::check_paths("paths", paths)?;
        if base.is_empty() {
            for (at, path) in paths.iter().enumerate() {
                paths::check_apart(format_args!("paths[{at}]"), path)?;
            }
        }
        let turn = worker.captures.join()?.turn().await?;
        let base = worker.root.open("base", base).await?;
        Ok(Self { local, function, base, _turn: turn })
    }
}

/// Stores directories. Cancel safe.
pub(super) async fn trees(
    worker: &Arc<Worker>,
    request: CaptureTreeRequest,
) -> Result<CaptureTreeResponse, Status> {
    let CaptureTreeRequest { instance_name, digest_function, base, paths, give_up_files } = request;
    if let Some(at) = paths.iter().position(String::is_empty).filter(|_| base.is_empty()) {
        return Err(invalid_field(format_args!("paths[{at}]"), "is the worker root itself"));
    }
    let call = Captured::begin(worker, &instance_name, digest_function, &base, &paths).await?;
    let Captured { local, function, base, _turn } = call;
    let captured = local.stager.capture_directories(function, &base, &paths, give_up_files).await?;
    worker.metrics.staging.count_captured(captured.iter().map(|it| it.files).sum());
    let wire = |directory: CapturedDirectory| WireDirectory {
        tree_digest: Some(wire_digest(&directory.tree_digest)),
        root_directory_digest: Some(wire_digest(&directory.root_directory_digest)),
        path: directory.path,
        files: directory.files,
        bytes: directory.bytes,
    };
    Ok(CaptureTreeResponse { directories: captured.into_iter().map(wire).collect() })
}

/// Stores files and symbolic links. Cancel safe.
pub(super) async fn files(
    worker: &Arc<Worker>,
    request: CaptureFilesRequest,
) -> Result<CaptureFilesResponse, Status> {
    let CaptureFilesRequest { instance_name, digest_function, base, paths, give_up_files } =
        request;
    let call = Captured::begin(worker, &instance_name, digest_function, &base, &paths).await?;
    let Captured { local, function, base, _turn } = call;
    let captured = local.stager.capture_files(function, &base, &paths, give_up_files).await?;
    worker.metrics.staging.count_captured(captured.files.len() as u64);
    let wire = |CapturedFile { path, digest, is_executable }| WireFile {
        path,
        digest: Some(wire_digest(&digest)),
        is_executable,
    };
    let wire_symlink = |CapturedSymlink { path, target }| WireSymlink { path, target };
    Ok(CaptureFilesResponse {
        files: captured.files.into_iter().map(wire).collect(),
        symlinks: captured.symlinks.into_iter().map(wire_symlink).collect(),
    })
}
