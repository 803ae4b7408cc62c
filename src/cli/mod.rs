//! The command line: one file per subcommand.
//!
//! Exit codes: 0 done, 1 failed while running or nothing found, 64 (`EX_USAGE`) flags or
//! configuration are wrong; then every problem is on standard error, a line each, before any port
//! is opened. `action result` has two of its own.

mod action;
mod admin_client;
mod capture;
mod cat;
mod compat;
mod config;
mod config_file;
mod disk_usage;
mod download;
mod export;
mod fetch;
mod format;
mod import;
mod ls;
mod outputs;
mod problems;
mod purge;
mod remote_flags;
mod serve;
mod served;
mod skips;
mod stage;
mod stats;
mod store_flags;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;
mod values_flags;
mod why;
mod worker_client;
mod worker_flags;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Wrong flags or configuration.
const EX_USAGE: u8 = 64;

/// The storage side of remote execution: a content-addressed store and action cache.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the remote cache over gRPC and HTTP.
    Serve(Box<serve::ServeArguments>),
    /// Say how full a running server is, with what, and how useful.
    Stats(stats::StatsArguments),
    /// Say why a digest is missing, with a running server or from the directory alone.
    Why(why::WhyArguments),
    /// Have a running server remove things for good.
    Purge(purge::PurgeArguments),
    /// Check, explain and describe configuration files.
    Config(config::ConfigArguments),
    /// Make a directory of hard links from an input tree, on a worker's machine.
    Stage(stage::StageArguments),
    /// Store what an action made, on a worker's machine.
    Capture(capture::CaptureArguments),
    /// Give a staged tree back.
    Release(stage::ReleaseArguments),
    /// Make everything of a tree local, on a worker's machine.
    Fetch(fetch::FetchArguments),
    /// Say what the store takes and what of it staged trees hold, on a worker's machine.
    DiskUsage(disk_usage::DiskUsageArguments),
    /// Store files and directories on any server of remote execution.
    Upload(upload::UploadArguments),
    /// Write a blob or a directory of a server to the disk.
    Download(download::DownloadArguments),
    /// List a directory of a server.
    Ls(ls::LsArguments),
    /// Print a blob of a server.
    Cat(cat::CatArguments),
    /// Bring what another cache holds to a server, from an archive, a directory or a server.
    Import(Box<import::ImportArguments>),
    /// Write action results with everything they reach to an archive.
    Export(Box<export::ExportArguments>),
    /// Create actions, and look at and store their results.
    Action(action::ActionArguments),
}

/// Runs the program with these arguments; the first is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (arguments, compat_flags) = compat::split(arguments.into_iter().collect());
    match Arguments::try_parse_from(arguments) {
        Ok(Arguments { command: Command::Serve(mut arguments) }) => {
            arguments.compat_flags = compat_flags;
            serve::run(&arguments)
        }
        Ok(Arguments { command: Command::Stats(arguments) }) => stats::run(&arguments),
        Ok(Arguments { command: Command::Why(arguments) }) => why::run(&arguments),
        Ok(Arguments { command: Command::Purge(arguments) }) => purge::run(&arguments),
        Ok(Arguments { command: Command::Config(arguments) }) => config::run(&arguments),
        Ok(Arguments { command: Command::Stage(arguments) }) => stage::run(&arguments),
        Ok(Arguments { command: Command::Capture(arguments) }) => capture::run(&arguments),
        Ok(Arguments { command: Command::Release(arguments) }) => stage::release(&arguments),
        Ok(Arguments { command: Command::Fetch(arguments) }) => fetch::run(&arguments),
        Ok(Arguments { command: Command::DiskUsage(arguments) }) => disk_usage::run(&arguments),
        Ok(Arguments { command: Command::Upload(arguments) }) => upload::run(&arguments),
        Ok(Arguments { command: Command::Download(arguments) }) => download::run(&arguments),
        Ok(Arguments { command: Command::Ls(arguments) }) => ls::run(&arguments),
        Ok(Arguments { command: Command::Cat(arguments) }) => cat::run(&arguments),
        Ok(Arguments { command: Command::Import(arguments) }) => import::run(&arguments),
        Ok(Arguments { command: Command::Export(arguments) }) => export::run(&arguments),
        Ok(Arguments { command: Command::Action(arguments) }) => action::run(&arguments),
        Err(error) => {
            // Nothing is left to tell a closed terminal.
            drop(error.print());
            // --help and --version come this way too, and are no mistake.
            if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

/// Says on standard error why the program ends with this code.
fn fail(code: u8, message: &dyn std::fmt::Display) -> ExitCode {
    // Nothing is left to tell a closed terminal.
    drop(writeln!(std::io::stderr(), "{}", message.to_string().trim_end()));
    ExitCode::from(code)
}
