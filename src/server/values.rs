//! The store of values beside the first store of a server.

use std::sync::Arc;
use std::time::Duration;

use super::{ServerError, open_store};
use crate::store::Namespace;
use crate::store::filesystem::{
    Cap, FilesystemOptions, FilesystemStore, FormerContents, FormerOptions, VALUES_DIR,
};
use crate::values::Values;

/// What the values of bazel-remote have before their names.
const RAW_PREFIX: &str = "/ac/";

/// Values that are no action results, in the room that the first store
/// [sets aside](FilesystemOptions::set_aside) for them.
#[derive(Clone, Copy, Debug)]
pub struct ValuesSettings {
    /// The largest of them in bytes.
    pub max_value_bytes: u64,
}

/// The values and where they are.
#[derive(Debug)]
pub(super) struct OpenValues {
    pub(super) store: Arc<FilesystemStore>,
    pub(super) values: Arc<Values>,
}

/// Opens the store of values in the directory of the store that has set room aside; `None` when
/// that is too little to be of use.
pub(super) async fn open(
    settings: ValuesSettings,
    options: &FilesystemOptions,
    beside: &FilesystemStore,
) -> Result<Option<OpenValues>, ServerError> {
    let room_bytes = beside.set_aside_bytes();
    if room_bytes == 0 {
        tracing::info!("too little room for values, /ccache/, /gradle/ and /webdav/ are off");
        return Ok(None);
    }
    let options = FilesystemOptions {
        root: beside.root().join(VALUES_DIR),
        cap: Cap::Bytes(room_bytes),
        set_aside: None,
        max_blob_bytes: Some(settings.max_value_bytes),
        low_water_bytes: None,
        // It limits blobs and results, and nobody is promised a value.
        max_entries: None,
        lease: Duration::ZERO,
        former: FormerOptions {
            contents: FormerContents::Values(Namespace::of_values(RAW_PREFIX)),
            ..options.former
        },
        ..options.clone()
    };
    let store = open_store(options).await?;
    let values = Values::new(Arc::<FilesystemStore>::clone(&store), settings.max_value_bytes);
    Ok(Some(OpenValues { store, values: Arc::new(values) }))
}
