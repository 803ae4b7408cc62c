//! `castellan config`: what is wrong with a configuration file, what it comes to, and its schema.

mod check;
mod convert;
mod show;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use nativelink_config::Place;

/// Flags of `config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong with configuration files; exit with 64 if anything is.
    Check(check::CheckArguments),
    /// Say what every key of a configuration file comes to, and why.
    Show(Box<show::ShowArguments>),
    /// Print bazel-remote's YAML file as a configuration file; exit with 64 if that cannot say it.
    Convert(convert::ConvertArguments),
    /// Print the JSON schema of configuration files, for editors.
    Schema,
}

/// Runs a subcommand.
pub(super) fn run(arguments: &ConfigArguments) -> ExitCode {
    match &arguments.command {
        ConfigCommand::Check(arguments) => check::run(arguments),
        ConfigCommand::Show(arguments) => show::run(arguments),
        ConfigCommand::Convert(arguments) => convert::run(arguments),
        ConfigCommand::Schema => {
            print(&format!("{:#}\n", nativelink_config::schema()));
            ExitCode::SUCCESS
        }
    }
}

fn print(text: &str) {
    // Whoever closed the output has read enough.
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn print_error(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Adds where something stands in a file.
fn put_place(object: &mut Map<String, Value>, place: &Place) {
    object.insert("file".to_owned(), json!(&*place.file));
    object.insert("line".to_owned(), json!(place.line));
    object.insert("column".to_owned(), json!(place.column));
}
