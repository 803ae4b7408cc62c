//! Where files of another server are.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::disk::Disk;
use super::super::options::{Adopt, FormerContents, FormerOptions};
use crate::digest::DigestFunction;
use crate::former::{
    ACTION_RESULT_DIR, BLOB_DIR, NATIVELINK_BLOB_DIR, NATIVELINK_STRING_DIR, RAW_DIR, nativelink,
};
use crate::store::{Key, Kind, Namespace};

/// Names of the root that are looked at before the first request. Where there are more, the walk
/// looks through them.
const MAX_ROOT_NAMES: usize = 4096;
/// The root itself.
const ROOT: &str = ".";

/// How files lie in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// All in one directory, named as NativeLink does.
    Flat,
    /// In a directory for each first byte of the hash, named as bazel-remote does.
    Buckets,
}

/// What the files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Blobs,
    Results(Namespace),
    /// Nothing that can be asked for: it is measured and left alone.
    Others,
}

/// A directory of another server's.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path from the root.
    pub(super) directory: String,
    pub(super) layout: Layout,
    pub(super) holds: Holds,
    /// The buckets that have been taken over.
    done: Vec<AtomicBool>,
}

impl Source {
    fn new(directory: &str, layout: Layout, holds: Holds) -> Self {
        let done = (0..=u8::MAX).map(|_| AtomicBool::new(false)).collect();
        Self { directory: directory.to_owned(), layout, holds, done }
    }

    pub(super) fn may_hold(&self, key: &Key) -> bool {
        match self.holds {
            Holds::Blobs => key.kind == Kind::Blob,
            Holds::Results(namespace) => {
                key.kind == Kind::ActionResult && key.namespace == namespace
            }
            Holds::Others => false,
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.directory == ROOT
    }

    /// The path from the root of something in it.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.is_root() { name.to_owned() } else { format!("{}/{name}", self.directory) }
    }

    pub(super) fn bucket_path(&self, first_byte: u8) -> String {
        format!("{}/{first_byte:02x}", self.directory)
    }

    pub(super) fn is_done(&self, first_byte: u8) -> bool {
        self.done.get(usize::from(first_byte)).is_none_or(|it| it.load(Ordering::Acquire))
    }

    pub(super) fn set_done(&self, first_byte: u8) {
        if let Some(done) = self.done.get(usize::from(first_byte)) {
            done.store(true, Ordering::Release);
        }
    }
}

/// What a look at the root found.
#[derive(Debug)]
pub(in crate::store::filesystem) struct Findings {
    pub(super) sources: Vec<Source>,
    pub(super) adopt: Adopt,
    pub(super) function: DigestFunction,
}

impl Findings {
    /// Looks for the directories of other servers; reads none of them. Blocking.
    pub(in crate::store::filesystem) fn look(
        disk: &Disk,
        options: &FormerOptions,
    ) -> io::Result<Self> {
        let FormerOptions { adopt, contents, function } = *options;
        let mut findings = Self { sources: Vec::new(), adopt, function };
        if adopt == Adopt::Off {
            return Ok(findings);
        }
        match contents {
            FormerContents::Nothing => {}
            FormerContents::Blobs => {
                findings.look_for_nativelink(disk, Holds::Blobs)?;
                findings.look_for_buckets(disk, BLOB_DIR, Holds::Blobs)?;
                let results = Holds::Results(Namespace::ADOPTED);
                findings.look_for_buckets(disk, ACTION_RESULT_DIR, results)?;
            }
            FormerContents::ActionResults => {
                findings.look_for_nativelink(disk, Holds::Results(Namespace::ADOPTED))?;
            }
            FormerContents::Values(namespace) => {
                // Beside the root, which is a directory within the other server's.
                let directory = format!("../{RAW_DIR}");
                findings.look_for_buckets(disk, &directory, Holds::Results(namespace))?;
            }
        }
        Ok(findings)
    }

    /// Whether there is anything.
    pub(in crate::store::filesystem) fn is_some(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the walk looks through the names of the root.
    pub(in crate::store::filesystem) fn has_root(&self) -> bool {
        self.sources.iter().any(Source::is_root)
    }

    /// Whether something in the root is what the walk looks through.
    pub(in crate::store::filesystem) fn covers(&self, path: &str) -> bool {
        self.sources.iter().any(|source| source.directory == path)
    }

    fn look_for_buckets(&mut self, disk: &Disk, directory: &str, holds: Holds) -> io::Result<()> {
        if disk.is_directory(directory)? {
            self.sources.push(Source::new(directory, Layout::Buckets, holds));
        }
        Ok(())
    }

    fn look_for_nativelink(&mut self, disk: &Disk, holds: Holds) -> io::Result<()> {
        if disk.is_directory(NATIVELINK_BLOB_DIR)? {
            self.sources.push(Source::new(NATIVELINK_BLOB_DIR, Layout::Flat, holds));
            if disk.is_directory(NATIVELINK_STRING_DIR)? {
                let others = Source::new(NATIVELINK_STRING_DIR, Layout::Flat, Holds::Others);
                self.sources.push(others);
            }
        }
        let mut names = 0;
        let mut is_found = false;
        disk.visit(ROOT, |found| {
            names += 1;
            is_found = is_found || names > MAX_ROOT_NAMES || nativelink(&found.name).is_some();
            if is_found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if is_found {
            self.sources.push(Source::new(ROOT, Layout::Flat, holds));
        }
        Ok(())
    }
}
