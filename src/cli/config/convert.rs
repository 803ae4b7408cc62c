//! `castellan config convert`: bazel-remote's YAML as a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{print, print_error};
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
        Ok(converted) => {
            print(&converted.text);
            let flag = format!("--http-listen={}", converted.http);
            print_error(&format!(
                "note: the file cannot say where HTTP is: say {flag}
"
            ));
            ExitCode::SUCCESS
        }
        Err(problems) => fail(EX_USAGE, &problems),
    }
}
