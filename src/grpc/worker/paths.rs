//! The worker root, and what the paths of requests lead to below it.
//!
//! What a path says is checked as text first, so that nothing of a hostile one reaches the file
//! system; where symbolic links lead is checked by the kernel, which opens below the root only.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use tonic::Status;

use crate::digest::shorten;
use crate::grpc::status::{from_folder, invalid_field};
use crate::staging::workshop::WORKSHOP;
use crate::trees::on_disk::{Folder, Identity};

/// What Linux takes.
const MAX_PATH_BYTES: usize = 4095;
const MAX_NAME_BYTES: usize = 255;

/// A directory to make: its parent below the worker root, and its name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) parent: String,
    pub(super) name: String,
}

impl Target {
    /// Reads the path of a directory to make.
    pub(super) fn parse(field: &str, path: &str) -> Result<Self, Status> {
        check(field, path)?;
        if path.is_empty() {
            return Err(invalid_field(field, "is the worker root itself"));
        }
        check_apart(field, path)?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(Self { parent: parent.to_owned(), name: name.to_owned() })
    }
}

/// Refuses what is no relative path that goes down only; "" is the directory itself.
pub(super) fn check(field: impl Display, path: &str) -> Result<(), Status> {
    let refuse =
        |problem: &str| Err(invalid_field(&field, format_args!("{:?} {problem}", shorten(path))));
    if path.is_empty() {
        return Ok(());
    }
    if path.starts_with('/') {
        return refuse("is absolute");
    }
    if path.contains('\0') {
        return refuse("contains NUL");
    }
    if path.len() > MAX_PATH_BYTES || path.split('/').any(|name| name.len() > MAX_NAME_BYTES) {
        return refuse("is too long");
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return refuse("has a part that is empty, \".\" or \"..\"");
    }
    Ok(())
}

/// Refuses what is of no worker, though it is below their root.
pub(super) fn check_apart(field: impl Display, path: &str) -> Result<(), Status> {
    if path.split('/').next() != Some(WORKSHOP) {
        return Ok(());
    }
    let problem = "is where the server has its unfinished trees";
    Err(invalid_field(field, format_args!("{:?} {problem}", shorten(path))))
}

/// The directory below which all directories of requests are.
#[derive(Clone, Debug)]
pub(super) struct Root {
    folder: Arc<Folder>,
}

impl Root {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder: Arc::new(folder) }
    }

    /// Opens a directory whose path has been checked.
    pub(super) async fn open(&self, field: &str, path: &str) -> Result<Folder, Status> {
        check_apart(field, path)?;
        let (root, relative) = (Arc::clone(&self.folder), path.to_owned());
        let opened = blocking(move || root.open_beneath(&relative)).await;
        opened.map_err(|error| from_folder(field, path, &error))
    }

    /// Removes a directory with everything in it; false when it is not there any more, or another
    /// has its name.
    pub(super) async fn remove(&self, target: &Target, identity: Identity) -> Result<bool, Status> {
        let (root, Target { parent, name }) = (Arc::clone(&self.folder), target.clone());
        let remove = move || {
            let parent = root.find_beneath(&parent)?;
            parent.map_or(Ok(false), |parent| parent.remove_this(&name, &identity))
        };
        let removed = blocking(remove).await;
        removed.map_err(|error| from_folder("path", &target.name, &error))
    }
}

/// Does what waits for a disk where waiting disturbs nobody.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    #[expect(clippy::disallowed_methods, reason = "calls of workers are bounded by their turns")]
    let running = tokio::task::spawn_blocking(job);
    running.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn only_paths_that_go_down_are_taken() {
        for path in ["", "a", "a/b", "a b/...", "..a/b..", "\u{e9}"] {
            check("path", path).unwrap();
        }
        let (long, deep) = ("x".repeat(256), "x/".repeat(2048) + "x");
        for path in
            ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", &long, &deep]
        {
            assert_eq!(check("path", path).unwrap_err().code(), Code::InvalidArgument, "{path:?}");
        }
    }

    #[test]
    fn a_target_is_a_name_in_a_directory() {
        let target =
            |parent: &str, name: &str| Target { parent: parent.to_owned(), name: name.to_owned() };
        assert_eq!(Target::parse("path", "a").unwrap(), target("", "a"));
        assert_eq!(Target::parse("path", "a/b/c").unwrap(), target("a/b", "c"));
        assert!(Target::parse("path", "").is_err());
    }
}
