//! `NativeLink`'s executable variants, which lie beside its directory and outside of every limit.

use std::io;
use std::ops::ControlFlow;

use super::super::shared::Parts;
use crate::former::{NATIVELINK_BLOB_DIR, nativelink};

/// Names that are removed between two looks at the directory.
const BATCH: usize = 1024;

/// Removes `<root>.exec`: the store makes its own variants, and charges them. What is not named
/// like a variant stays. Blocking.
pub(super) fn remove(parts: &Parts) -> io::Result<()> {
    // Paths of the disk begin at the root, but for absolute ones.
    let root = std::path::absolute(parts.disk.root_path())?;
    let Some(root) = root.to_str().map(|it| it.trim_end_matches('/')) else { return Ok(()) };
    let beside = format!("{root}.exec");
    if root.is_empty() || !parts.disk.is_directory(&beside)? {
        return Ok(());
    }
    for directory in [format!("{beside}/{NATIVELINK_BLOB_DIR}"), beside] {
        if parts.disk.is_directory(&directory)? {
            remove_in(parts, &directory)?;
        }
    }
    Ok(())
}

fn remove_in(parts: &Parts, directory: &str) -> io::Result<()> {
    let (mut files, mut bytes) = (0_u64, 0);
    loop {
        let batch = some_variants(parts, directory)?;
        if batch.is_empty() {
            break;
        }
        for name in batch {
            parts.check_open()?;
            let path = format!("{directory}/{name}");
            bytes += parts.disk.allocated_at(&path)?;
            parts.disk.unlink(&path)?;
            files += 1;
        }
    }
    parts.disk.remove_empty_directory(directory);
    tracing::info!(path = directory, files, bytes, "executables of another server removed");
    Ok(())
}

fn some_variants(parts: &Parts, directory: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    parts.disk.visit(directory, |found| {
        if found.is_file && nativelink(&found.name).is_some() {
            names.push(found.name);
        }
        if names.len() < BATCH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(names)
}
