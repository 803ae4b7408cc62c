//! `castellan action`: what a build script and the loop of a worker need to know of actions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use castellan_proto::protobuf::Duration as WireDuration;
use castellan_proto::v2;
use clap::{Args, Subcommand};
use nativelink_config::units::parse_duration;
use serde_json::{Map, Value, json};

use super::download;
use super::outputs::{self, digest_value};
use super::remote_flags::RemoteFlags;
use super::transfer::{Failure, Session, print, run as run_client};
use super::{EX_USAGE, fail};
use crate::client::{Client, NewAction, ReferenceKind, read_digest, wire_digest};
use crate::digest::Digest;

/// What `result` exits with when there is none.
const NO_RESULT: u8 = 2;
/// What it exits with when the command had failed.
const COMMAND_FAILED: u8 = 3;
/// The largest list of outputs that is read.
const MAX_OUTPUTS_BYTES: u64 = 64 << 20;

/// Flags of `action`.
#[derive(Debug, Args)]
pub(super) struct ActionArguments {
    #[command(subcommand)]
    command: ActionCommand,
}

#[derive(Debug, Subcommand)]
enum ActionCommand {
    /// Store an action and its command, and print the action's digest.
    Create(CreateArguments),
    /// Print an action and its command as JSON.
    Show(ShowArguments),
    /// Print the result of an action as JSON; exit with 2 when there is none, with 3 when the
    /// command had failed.
    Result(ResultArguments),
    /// Store the result of an action.
    Finish(FinishArguments),
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// The directory that the command runs in, as `upload` prints it.
    #[arg(long, value_name = "DIGEST")]
    input_root: String,

    /// A file or a directory that the command makes, relative to its working directory; may be
    /// given several times.
    #[arg(long = "output", value_name = "PATH")]
    outputs: Vec<String>,

    /// A variable of its environment; may be given several times.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,

    /// Where in the input root it runs.
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,

    /// How long it may run.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,

    /// Its result must not be stored for others.
    #[arg(long)]
    do_not_cache: bool,

    #[command(flatten)]
    remote: RemoteFlags,

    /// The program and what it is told.
    #[arg(last = true, required = true, value_name = "ARGV")]
    argv: Vec<String>,
}

#[derive(Debug, Args)]
struct ShowArguments {
    /// `HASH/SIZE` of the action.
    digest: String,

    #[command(flatten)]
    remote: RemoteFlags,
}

#[derive(Debug, Args)]
struct ResultArguments {
    /// `HASH/SIZE` of the action.
    digest: String,

    /// Write its outputs to this directory.
    #[arg(long, value_name = "DEST")]
    download: Option<PathBuf>,

    #[command(flatten)]
    remote: RemoteFlags,
}

#[derive(Debug, Args)]
struct FinishArguments {
    /// `HASH/SIZE` of the action.
    digest: String,

    /// What the command exited with.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    exit_code: i32,

    /// What it wrote to standard output.
    #[arg(long, value_name = "FILE")]
    stdout: Option<PathBuf>,

    /// What it wrote to standard error.
    #[arg(long, value_name = "FILE")]
    stderr: Option<PathBuf>,

    /// Its outputs, as `castellan capture --json` prints them; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Runs one of the commands.
pub(super) fn run(arguments: &ActionArguments) -> ExitCode {
    match &arguments.command {
        ActionCommand::Create(arguments) => run_create(arguments),
        ActionCommand::Show(arguments) => run_on(&arguments.remote, &arguments.digest, show),
        ActionCommand::Result(arguments) => {
            run_on(&arguments.remote, &arguments.digest, |action, session| {
                result(arguments, action, session)
            })
        }
        ActionCommand::Finish(arguments) => {
            run_on(&arguments.remote, &arguments.digest, |action, session| {
                finish(arguments, action, session)
            })
        }
    }
}

/// Does something with an action.
fn run_on<F>(
    remote: &RemoteFlags,
    digest: &str,
    work: impl FnOnce(Digest, Session) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    match remote.digest_of("DIGEST", digest, None) {
        Ok(action) => run_client(remote, |session| work(action, session)),
        Err(problem) => fail(EX_USAGE, &problem),
    }
}

fn run_create(arguments: &CreateArguments) -> ExitCode {
    let remote = &arguments.remote;
    match arguments.action() {
        Ok(action) => run_client(remote, |session| create(action, remote.json, session)),
        Err(problem) => fail(EX_USAGE, &problem),
    }
}

impl CreateArguments {
    fn action(&self) -> Result<NewAction, String> {
        let directory = Some(ReferenceKind::Directory);
        let input_root = self.remote.digest_of("--input-root", &self.input_root, directory)?;
        let variable = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("error: --env: {text:?} is not NAME=VALUE")),
        };
        let down = |flag: &str, path: &str| {
            let checked = outputs::check_path(path);
            checked.map_err(|problem| format!("error: {flag}: {path:?}: {problem}"))
        };
        self.outputs.iter().try_for_each(|path| down("--output", path))?;
        down("--workdir", &self.workdir)?;
        let timeout = self.timeout.as_deref().map(parse_duration).transpose();
        Ok(NewAction {
            arguments: self.argv.clone(),
            input_root,
            output_paths: self.outputs.clone(),
            environment: self.environment.iter().map(variable).collect::<Result<_, _>>()?,
            working_directory: self.workdir.clone(),
            timeout: timeout.map_err(|error| format!("error: --timeout: {error}"))?,
            do_not_cache: self.do_not_cache,
        })
    }
}

async fn create(action: NewAction, is_json: bool, session: Session) -> Result<(), Failure> {
    let input_root = action.input_root;
    let created = session.client.create_action(action).await?;
    if is_json {
        print(&json!({
            "action_digest": created.action.to_string(),
            "command_digest": created.command.to_string(),
            "input_root_digest": input_root.to_string(),
        }));
    } else {
        print(&created.action);
    }
    Ok(())
}

#[expect(deprecated, reason = "older clients say the platform and the outputs there alone")]
async fn show(digest: Digest, Session { client, .. }: Session) -> Result<(), Failure> {
    let function = digest.function;
    let action = client.action(digest).await?;
    let command = read_digest(function, action.command_digest.as_ref(), "the command")?;
    let v2::Command {
        arguments,
        environment_variables,
        mut output_paths,
        output_files,
        output_directories,
        working_directory,
        platform,
        ..
    } = client.command(command).await?;
    if output_paths.is_empty() {
        output_paths = [output_files, output_directories].concat();
    }
    let environment: Map<String, Value> =
        environment_variables.into_iter().map(|it| (it.name, json!(it.value))).collect();
    let properties = action.platform.or(platform).unwrap_or_default().properties;
    let properties = properties.into_iter().map(|it| json!({ "name": it.name, "value": it.value }));
    print(&json!({
        "action_digest": digest.to_string(),
        "command_digest": command.to_string(),
        "input_root_digest": digest_value(function, action.input_root_digest.as_ref()),
        "arguments": arguments,
        "environment": environment,
        "output_paths": output_paths,
        "working_directory": working_directory,
        "platform": properties.collect::<Vec<Value>>(),
        "timeout_seconds": action.timeout.as_ref().map(seconds),
        "do_not_cache": action.do_not_cache,
    }));
    Ok(())
}

fn seconds(duration: &WireDuration) -> Value {
    match duration.nanos {
        0 => json!(duration.seconds),
        nanos => json!(duration.seconds as f64 + f64::from(nanos) / 1e9),
    }
}

async fn result(
    arguments: &ResultArguments,
    action: Digest,
    Session { client, progress }: Session,
) -> Result<(), Failure> {
    let Some(result) = client.action_result(action).await? else {
        return Err(Failure::Other(NO_RESULT, format!("no result of {action}")));
    };
    let mut object = outputs::object(action.function, &result);
    if let Some(to) = &arguments.download {
        let done = client.download_outputs(&result, to, &progress).await?;
        if let Some(object) = object.as_object_mut() {
            object.insert("downloaded".to_owned(), download::object(&done));
        }
    }
    print(&object);
    match result.exit_code {
        0 => Ok(()),
        code => Err(Failure::Other(COMMAND_FAILED, format!("the command exited with {code}"))),
    }
}

async fn finish(
    arguments: &FinishArguments,
    action: Digest,
    session: Session,
) -> Result<(), Failure> {
    let Session { client, .. } = &session;
    let mut result = v2::ActionResult { exit_code: arguments.exit_code, ..Default::default() };
    let text = client.read_file(&arguments.outputs, MAX_OUTPUTS_BYTES).await?;
    outputs::read(&text, action.function, &mut result).map_err(|problem| {
        let file = arguments.outputs.display();
        Failure::Usage(format!("error: --outputs: {file}: {problem}"))
    })?;
    result.stdout_digest = stored(&session, arguments.stdout.as_deref()).await?;
    result.stderr_digest = stored(&session, arguments.stderr.as_deref()).await?;
    client.finish_action(action, &result).await?;
    if arguments.remote.json {
        print(&outputs::object(action.function, &result));
    }
    Ok(())
}

/// Stores what a command has written, where it was kept.
async fn stored(session: &Session, path: Option<&Path>) -> Result<Option<v2::Digest>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let client: &std::sync::Arc<Client> = &session.client;
    let uploaded = client.upload(path, false, &session.progress).await?;
    if uploaded.tree.is_some() {
        return Err(Failure::Failed(format!("error: {} is a directory", path.display())));
    }
    Ok(Some(wire_digest(&uploaded.digest)))
}
