//! Whether a file under an old name is the store's under another.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use super::super::disk::FormerLook;
use super::super::layout::{FileName, Shard};
use super::super::shared::Parts;
use crate::store::Key;

/// Whether a file is that of the entry of its key. Blocking.
pub(super) fn is_entry(parts: &Parts, key: &Key, look: &FormerLook) -> io::Result<bool> {
    let Some(found) = parts.index.lock(|index| index.peek(key)) else { return Ok(false) };
    let own = parts.disk.look_at_former(&found.file.path())?;
    Ok(own.is_some_and(|own| own.is_same_file(look)))
}

/// Those of the files of one shard's keys that have no name of the store's: neither an entry's nor
/// that of a victim, which has its charge until it is unlinked. Lists the shard. Blocking.
pub(super) fn without_own(
    parts: &Parts,
    shard: Shard,
    files: &[(Key, FormerLook)],
) -> io::Result<Vec<FormerLook>> {
    let mut left: HashMap<Key, Vec<FormerLook>> = HashMap::new();
    for (key, look) in files {
        left.entry(*key).or_default().push(*look);
    }
    parts.disk.visit(&shard.path(), |found| {
        let file = FileName::parse(shard, &found.name);
        if let Some((file, looks)) = file.and_then(|it| Some((it, left.get_mut(&it.key)?)))
            && let Ok(Some(own)) = parts.disk.look_at_former(&file.path())
        {
            looks.retain(|look| !own.is_same_file(look));
        }
        ControlFlow::Continue(())
    })?;
    Ok(left.into_values().flatten().collect())
}
