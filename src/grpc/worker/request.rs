//! What requests say, checked before anything is done for them.

use std::time::Duration;

use castellan_proto::protobuf::Duration as WireDuration;
use castellan_proto::worker::{Digest as WireDigest, LinkMode as WireLinkMode, StageTreeRequest};
use castellan_proto::worker::{fetch_tree_request, stage_tree_request};
use tonic::Status;

use super::paths;
use crate::digest::{Digest, DigestFunction};
use crate::grpc::status::invalid_field;
use crate::staging::{LinkMode, StageOptions, TreeRoot};

/// The longest lease without a stream.
const MAX_LEASE: Duration = Duration::from_hours(24);
/// To the system it means no change of owner.
const NOBODY: u32 = u32::MAX;
/// The permission bits that there are.
const PERMISSIONS: u32 = 0o777;
/// Paths in one request.
const MAX_PATHS: usize = 10_000;
const DEFAULT_UMASK: u32 = 0o022;

/// Reads a `digest_function` field; 0 is the server's default.
pub(super) fn digest_function(
    value: i32,
    default: DigestFunction,
) -> Result<DigestFunction, Status> {
    match value {
        0 => Ok(default),
        _ => Ok(DigestFunction::from_wire(value)?),
    }
}

fn digest(field: &str, function: DigestFunction, wire: &WireDigest) -> Result<Digest, Status> {
    Digest::parse(function, wire.hash.as_bytes(), wire.size_bytes)
        .map_err(|error| invalid_field(field, error))
}

/// A tree that a request names.
pub(super) enum WireRoot<'a> {
    Directory(&'a WireDigest),
    Tree(&'a WireDigest),
}

impl<'a> From<&'a stage_tree_request::Root> for WireRoot<'a> {
    fn from(root: &'a stage_tree_request::Root) -> Self {
        match root {
            stage_tree_request::Root::InputRootDigest(digest) => Self::Directory(digest),
            stage_tree_request::Root::TreeDigest(digest) => Self::Tree(digest),
        }
    }
}

impl<'a> From<&'a fetch_tree_request::Root> for WireRoot<'a> {
    fn from(root: &'a fetch_tree_request::Root) -> Self {
        match root {
            fetch_tree_request::Root::InputRootDigest(digest) => Self::Directory(digest),
            fetch_tree_request::Root::TreeDigest(digest) => Self::Tree(digest),
        }
    }
}

/// Reads the tree that a request must name.
pub(super) fn tree_root<'a>(
    root: Option<impl Into<WireRoot<'a>>>,
    function: DigestFunction,
) -> Result<TreeRoot, Status> {
    match root.map(Into::into) {
        None => Err(invalid_field("root", "is required")),
        Some(WireRoot::Directory(wire)) => {
            digest("input_root_digest", function, wire).map(TreeRoot::Directory)
        }
        Some(WireRoot::Tree(wire)) => digest("tree_digest", function, wire).map(TreeRoot::Tree),
    }
}

/// Reads how a tree is to be made.
pub(super) fn stage_options(request: &StageTreeRequest) -> Result<StageOptions, Status> {
    let link_mode = match WireLinkMode::try_from(request.link_mode) {
        Ok(WireLinkMode::Unspecified) => LinkMode::Auto,
        Ok(WireLinkMode::HardLink) => LinkMode::HardLink,
        Ok(WireLinkMode::Reflink) => LinkMode::Reflink,
        Ok(WireLinkMode::Copy) => LinkMode::Copy,
        Err(unknown) => return Err(invalid_field("link_mode", unknown)),
    };
    let umask = request.umask.unwrap_or(DEFAULT_UMASK);
    if umask & !PERMISSIONS != 0 {
        return Err(invalid_field("umask", format_args!("{umask:#o} is over {PERMISSIONS:#o}")));
    }
    for (field, id) in [("uid", request.uid), ("gid", request.gid)] {
        if id == Some(NOBODY) {
            return Err(invalid_field(field, format_args!("{NOBODY} is nobody's number")));
        }
    }
    check_paths("writable_directories", &request.writable_directories)?;
    Ok(StageOptions {
        link_mode,
        writable_directories: request.writable_directories.clone(),
        uid: request.uid,
        gid: request.gid,
        umask,
    })
}

/// Refuses paths that lead elsewhere, and too many of them.
pub(super) fn check_paths(field: &str, paths: &[String]) -> Result<(), Status> {
    if paths.len() > MAX_PATHS {
        let problem = format_args!("{} are over the limit of {MAX_PATHS}", paths.len()).to_string();
        return Err(invalid_field(field, problem));
    }
    let mut numbered = paths.iter().enumerate();
    numbered.try_for_each(|(at, path)| paths::check(format_args!("{field}[{at}]"), path))
}

/// Reads how long a lease is to last; `None` for as long as its stream.
pub(super) fn lease(wire: Option<WireDuration>) -> Result<Option<Duration>, Status> {
    let Some(wire) = wire else { return Ok(None) };
    let duration = || {
        let nanos = u32::try_from(wire.nanos).ok().filter(|it| *it < 1_000_000_000)?;
        Some(Duration::new(u64::try_from(wire.seconds).ok()?, nanos))
    };
    match duration() {
        Some(lease) if !lease.is_zero() && lease <= MAX_LEASE => Ok(Some(lease)),
        _ => Err(invalid_field("lease_duration", "is not above 0 s and at most 24 h")),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn owners_are_numbers_that_somebody_can_have() {
        let of = |uid, gid| StageTreeRequest { uid, gid, ..StageTreeRequest::default() };
        assert!(stage_options(&of(Some(0), Some(u32::MAX - 1))).is_ok());
        for request in [of(Some(u32::MAX), None), of(None, Some(u32::MAX))] {
            assert_eq!(stage_options(&request).unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn leases_have_bounds() {
        let of = |seconds, nanos| lease(Some(WireDuration { seconds, nanos }));
        assert_eq!(lease(None).unwrap(), None);
        assert_eq!(of(1, 500_000_000).unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(of(86_400, 0).unwrap(), Some(MAX_LEASE));
        for (seconds, nanos) in
            [(0, 0), (-1, 0), (1, -1), (1, 1_000_000_000), (86_400, 1), (i64::MAX, 0)]
        {
            let status = of(seconds, nanos).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{seconds} {nanos}");
        }
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let good = stage_options(&StageTreeRequest::default()).unwrap();
        assert_eq!((good.link_mode, good.umask), (LinkMode::Auto, 0o022));
        let many = vec!["x".to_owned(); MAX_PATHS + 1];
        for request in [
            StageTreeRequest { link_mode: 4, ..StageTreeRequest::default() },
            StageTreeRequest { umask: Some(0o1000), ..StageTreeRequest::default() },
            StageTreeRequest { writable_directories: many, ..StageTreeRequest::default() },
            StageTreeRequest {
                writable_directories: vec!["../x".to_owned()],
                ..StageTreeRequest::default()
            },
        ] {
            assert_eq!(stage_options(&request).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
