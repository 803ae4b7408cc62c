//! What a worker does with results.

use crate::config::facts::Facts;
use crate::diagnostic::Located;
use crate::document::Node;
use crate::reader::{Reader, Table};

/// What a worker does with results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UploadActionResult {
    /// The store of action results; absent is nowhere.
    pub ac_store: Option<Located<String>>,
    /// Which results go there.
    pub upload_ac_results_strategy: UploadStrategy,
    /// The store of results for people to look at; absent is the one of the blobs.
    pub historical_results_store: Option<Located<String>>,
    /// Which results go there; absent is those of failures.
    pub upload_historical_results_strategy: Option<UploadStrategy>,
    /// What clients are told with a success; may be empty.
    pub success_message_template: String,
    /// What clients are told with a failure; may be empty.
    pub failure_message_template: String,
}

/// Which results are uploaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UploadStrategy {
    /// `success_only`: those with the exit code 0.
    #[default]
    SuccessOnly,
    /// `never`: none.
    Never,
    /// `everything`: all.
    Everything,
    /// `failures_only`: the others.
    FailuresOnly,
}

const STRATEGIES: &[(&str, UploadStrategy)] = &[
    ("success_only", UploadStrategy::SuccessOnly),
    ("never", UploadStrategy::Never),
    ("everything", UploadStrategy::Everything),
    ("failures_only", UploadStrategy::FailuresOnly),
];

pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<UploadActionResult> {
    reader.object(node, |table| {
        let mut store = |table: &mut Table<'_, '_, '_>, key| {
            let name = table.optional(key, |reader, node| reader.located(node, Reader::text));
            facts.use_store(name.as_ref());
            name
        };
        let strategy = |table: &mut Table<'_, '_, '_>, key| {
            table.optional(key, |reader, node| reader.choice(node, STRATEGIES))
        };
        Some(UploadActionResult {
            ac_store: store(table, "ac_store"),
            upload_ac_results_strategy: strategy(table, "upload_ac_results_strategy")
                .unwrap_or_default(),
            historical_results_store: store(table, "historical_results_store"),
            upload_historical_results_strategy: strategy(
                table,
                "upload_historical_results_strategy",
            ),
            success_message_template: table
                .optional("success_message_template", Reader::text)
                .unwrap_or_default(),
            failure_message_template: table
                .optional("failure_message_template", Reader::text)
                .unwrap_or_default(),
        })
    })
}
