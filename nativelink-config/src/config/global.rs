//! The `global` settings of a file.

use crate::document::Node;
use crate::reader::Reader;

/// What concerns the process as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlobalConfig {
    /// How many files may be open; absent or 0 is the server's choice.
    pub max_open_files: Option<u64>,
    /// The digest function of clients that name none.
    pub default_digest_hash_function: DigestFunction,
    /// The size of the blobs with which health checks try a store, in bytes.
    pub default_digest_size_health_check: Option<u64>,
}

/// A digest function of the format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DigestFunction {
    /// `sha256`.
    #[default]
    Sha256,
    /// `blake3`.
    Blake3,
}

const DIGEST_FUNCTIONS: &[(&str, DigestFunction)] =
    &[("sha256", DigestFunction::Sha256), ("blake3", DigestFunction::Blake3)];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<GlobalConfig> {
    reader.object(node, |table| {
        let config = GlobalConfig {
            max_open_files: table.optional("max_open_files", Reader::count).filter(|n| *n != 0),
            default_digest_hash_function: table
                .optional("default_digest_hash_function", |reader, node| {
                    reader.choice(node, DIGEST_FUNCTIONS)
                })
                .unwrap_or_default(),
            default_digest_size_health_check: table
                .optional("default_digest_size_health_check", Reader::size),
        };
        table.removed(&["disable_metrics"]);
        Some(config)
    })
}
