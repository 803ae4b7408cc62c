//! `castellan config convert`: bazel-remote's YAML as a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::cli::{EX_USAGE, compat, fail};

/// Flags of `config convert`.
#[derive(Debug, Args)]
pub(super) struct ConvertArguments {
    /// A configuration file of bazel-remote (YAML).
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Prints the file, or everything that stands in its way.
pub(super) fn run(arguments: &ConvertArguments) -> ExitCode {
    match compat::convert(&arguments.file) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(problems) => fail(EX_USAGE, &problems),
    }
}
