//! Where files of another server are.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::disk::Disk;
use super::super::options::{Adopt, FormerContents, FormerOptions};
use super::proof;
use crate::digest::DigestFunction;
use crate::former::{
    ACTION_RESULT_DIR, BLOB_DIR, NATIVELINK_BLOB_DIR, NATIVELINK_STRING_DIR, RAW_DIR,
};
use crate::store::{Key, Kind, Namespace};

/// The root itself.
const ROOT: &str = ".";

/// How files lie in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// All in one directory, named as `NativeLink` does.
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

    /// The path of the directory of a first byte, or of all.
    pub(super) fn path_in(&self, bucket: Option<u8>) -> String {
        bucket.map_or_else(|| self.directory.clone(), |it| self.bucket_path(it))
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
    were_looked_for: bool,
    /// What is left alone this time.
    refused: Vec<String>,
}

impl Findings {
    #[cfg(all(test, feature = "shuttle"))]
    pub(super) fn nothing() -> Self {
        let (adopt, function) = (Adopt::Off, DigestFunction::Sha256);
        let (sources, refused, were_looked_for) = (Vec::new(), Vec::new(), false);
        Self { sources, adopt, function, were_looked_for, refused }
    }

    /// Looks for the directories of other servers; reads none of them. Blocking.
    pub(in crate::store::filesystem) fn look(
        disk: &Disk,
        options: &FormerOptions,
    ) -> io::Result<Self> {
        let FormerOptions { adopt, contents, function } = *options;
        let were_looked_for = adopt != Adopt::Off && contents != FormerContents::Nothing;
        let (sources, refused) = (Vec::new(), Vec::new());
        let mut findings = Self { sources, adopt, function, were_looked_for, refused };
        if !were_looked_for {
            return Ok(findings);
        }
        match contents {
            FormerContents::Nothing => {}
            FormerContents::Blobs | FormerContents::Both => {
                if contents == FormerContents::Blobs {
                    findings.look_for_nativelink(disk, Holds::Blobs)?;
                } else if disk.is_directory(NATIVELINK_BLOB_DIR)? {
                    let text = "d is left alone: where services keep blobs and action results in \
                                one directory, names do not say which is which";
                    tracing::error!(root = %disk.root_path().display(), "{text}");
                    findings.refused.push(NATIVELINK_BLOB_DIR.to_owned());
                }
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

    /// Whether there was a look and it found nothing, not even something to be left alone.
    pub(in crate::store::filesystem) fn are_there_none(&self) -> bool {
        self.were_looked_for && self.refused.is_empty() && self.sources.is_empty()
    }

    /// What is left alone beside the root, which nobody else counts.
    pub(in crate::store::filesystem) fn refused_beside(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().map(String::as_str).filter(|path| path.starts_with("../"))
    }

    /// Whether there was a look at all.
    pub(in crate::store::filesystem) fn were_looked_for(&self) -> bool {
        self.were_looked_for
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
        if self.is_directory(disk, directory)? {
            // It knows no other.
            if self.function != DigestFunction::Sha256 {
                tracing::error!(
                    directory,
                    "left alone: bazel-remote's hashes are SHA-256, and another function is \
                     configured"
                );
                self.refused.push(directory.to_owned());
                return Ok(());
            }
            self.add(disk, Source::new(directory, Layout::Buckets, holds));
        }
        Ok(())
    }

    fn look_for_nativelink(&mut self, disk: &Disk, holds: Holds) -> io::Result<()> {
        let inner = Source::new(NATIVELINK_BLOB_DIR, Layout::Flat, holds);
        let is_there = self.is_directory(disk, NATIVELINK_BLOB_DIR)?;
        let is_proved = is_there && proof::is_of(disk, &inner, self.function)?;
        if is_there && !is_proved {
            self.refused.push(inner.directory);
        } else if is_proved {
            self.add(disk, inner);
            if disk.is_directory(NATIVELINK_STRING_DIR)? {
                let others = Source::new(NATIVELINK_STRING_DIR, Layout::Flat, Holds::Others);
                self.sources.push(others);
            }
        }
        let root = Source::new(ROOT, Layout::Flat, holds);
        if proof::is_of(disk, &root, self.function)? {
            self.add(disk, root);
        }
        Ok(())
    }

    /// Unless the old names cannot be removed: a file that keeps one has bytes that nobody frees.
    fn add(&mut self, disk: &Disk, source: Source) {
        if self.adopt == Adopt::Move && !disk.is_writable(&source.directory) {
            let directory = &source.directory;
            tracing::error!(directory, "files of another server are left alone: not writable");
            self.refused.push(source.directory);
            return;
        }
        self.sources.push(source);
    }

    /// Whether a directory of another server's is there, itself and no link to one: who could
    /// change the link could have anything taken over.
    fn is_directory(&mut self, disk: &Disk, directory: &str) -> io::Result<bool> {
        let is_directory = disk.is_directory(directory)?;
        if !is_directory && disk.exists(directory)? {
            tracing::error!(directory, "left alone: a link or a file, and no directory");
            self.refused.push(directory.to_owned());
        }
        Ok(is_directory)
    }
}
