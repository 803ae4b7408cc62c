//! Which stores of a file may hold what `NativeLink` has left in their directories.
//!
//! A name there does not tell a blob from an action result, nor from what stands for a blob: the
//! services that use a store do.

use crate::digest::DigestFunction;
use crate::server::{GrpcListener, InstanceSettings, Instances, StoreKind, StoreSettings};
use crate::store::filesystem::{FilesystemOptions, FormerContents};

/// Says of each store of files what was left in it.
pub(super) fn note_contents(stores: &mut [StoreSettings], listeners: &[GrpcListener]) {
    for store in stores.iter_mut() {
        if let StoreKind::Filesystem(options) = &mut store.kind {
            options.former.contents = FormerContents::Nothing;
        }
    }
    for listener in listeners {
        let function = listener.options.default_digest_function;
        for instance in instances(listener) {
            note(stores, instance.action_cache, FormerContents::ActionResults, function);
        }
    }
    for listener in listeners {
        let function = listener.options.default_digest_function;
        for instance in instances(listener) {
            for at in [instance.cas, instance.bytestream, instance.completeness] {
                note(stores, at, FormerContents::Blobs, function);
            }
        }
    }
}

fn instances(listener: &GrpcListener) -> Vec<InstanceSettings> {
    match &listener.instances {
        Instances::Any(settings) => vec![*settings],
        Instances::Named(named) => named.values().copied().collect(),
    }
}

/// Each store stands before others only, so this ends.
fn note(
    stores: &mut [StoreSettings],
    at: Option<usize>,
    contents: FormerContents,
    function: DigestFunction,
) {
    let Some(store) = at.and_then(|at| stores.get_mut(at)) else { return };
    let behind = match &mut store.kind {
        StoreKind::Filesystem(FilesystemOptions { former, .. }) => {
            former.contents = match (former.contents, contents) {
                (FormerContents::ActionResults | FormerContents::Both, FormerContents::Blobs) => {
                    FormerContents::Both
                }
                _ => contents,
            };
            former.function = function;
            return;
        }
        // Results are asked for in one store of files, the nearest.
        StoreKind::Tiered { fast, slow, .. } if contents == FormerContents::ActionResults => {
            let (fast, slow) = (*fast, *slow);
            vec![if has_files(stores, fast) { fast } else { slow }]
        }
        StoreKind::BySize { .. } | StoreKind::Sharded(_)
            if contents == FormerContents::ActionResults =>
        {
            return;
        }
        StoreKind::Tiered { fast, slow, .. } => vec![*fast, *slow],
        StoreKind::ExistenceCache { backend, .. } | StoreKind::Counted { backend, .. } => {
            vec![*backend]
        }
        StoreKind::BySize { lower, upper, .. } => vec![*lower, *upper],
        StoreKind::Sharded(shards) => shards.iter().map(|(at, _)| *at).collect(),
        // What is behind the first two is not what the digests name.
        StoreKind::Compression { .. }
        | StoreKind::Dedup { .. }
        | StoreKind::Memory(_)
        | StoreKind::Remote(_)
        | StoreKind::Noop => return,
    };
    for at in behind {
        note(stores, Some(at), contents, function);
    }
}

/// Whether the results of a store are in files that can be asked for what was left in them.
fn has_files(stores: &[StoreSettings], at: usize) -> bool {
    match stores.get(at).map(|store| &store.kind) {
        Some(StoreKind::Filesystem(_)) => true,
        Some(StoreKind::Tiered { fast, slow, .. }) => {
            has_files(stores, *fast) || has_files(stores, *slow)
        }
        Some(StoreKind::ExistenceCache { backend, .. } | StoreKind::Counted { backend, .. }) => {
            has_files(stores, *backend)
        }
        _ => false,
    }
}
