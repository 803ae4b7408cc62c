//! `castellan action`: what a build script and the loop of a worker need to know of actions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use castellan_proto::v2;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::download;
use super::outputs::{self, digest_value};
use super::remote_flags::RemoteFlags;
use super::transfer::{Failure, Session, print, run as run_client};
use super::{EX_USAGE, fail};
use crate::client::{Client, NewAction, ReferenceKind, read_digest, wire_digest};
use crate::digest::Digest;

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
    /// Print the result of an action as JSON; exit with 1 when there is none.
    Result(ResultArguments),
    /// Store the result of an action.
    Finish(FinishArguments),
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// The directory that the command runs in, as `upload` prints it.
    #[arg(long, value_name = "DIGEST")]
    input_root: String,

    /// A file or a directory that the command makes; may be given several times.
    #[arg(long = "output", value_name = "PATH")]
    outputs: Vec<String>,

    /// A variable of its environment; may be given several times.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,

    /// Where in the input root it runs.
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,

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
    let CreateArguments { input_root, outputs, environment, workdir, remote, argv } = arguments;
    let directory = Some(ReferenceKind::Directory);
    let input_root = match remote.digest_of("--input-root", input_root, directory) {
        Ok(digest) => digest,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("error: --env: {text:?} is not NAME=VALUE")),
    };
    let environment: Vec<_> = match environment.iter().map(variable).collect() {
        Ok(environment) => environment,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let action = NewAction {
        arguments: argv.clone(),
        input_root,
        output_paths: outputs.clone(),
        environment,
        working_directory: workdir.clone(),
    };
    run_client(remote, |session| create(action, remote.json, session))
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

#[expect(deprecated, reason = "older clients say the platform there alone")]
async fn show(digest: Digest, Session { client, .. }: Session) -> Result<(), Failure> {
    let function = digest.function;
    let action = client.action(digest).await?;
    let command = read_digest(function, action.command_digest.as_ref(), "the command")?;
    let v2::Command {
        arguments,
        environment_variables,
        output_paths,
        working_directory,
        platform,
        ..
    } = client.command(command).await?;
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
        "timeout_seconds": action.timeout.map(|it| it.seconds),
        "do_not_cache": action.do_not_cache,
    }));
    Ok(())
}

async fn result(
    arguments: &ResultArguments,
    action: Digest,
    Session { client, progress }: Session,
) -> Result<(), Failure> {
    let Some(result) = client.action_result(action).await? else {
        return Err(Failure::Failed(format!("no result of {action}")));
    };
    let mut object = outputs::object(action.function, &result);
    if let Some(to) = &arguments.download {
        let done = client.download_outputs(&result, to, &progress).await?;
        if let Some(object) = object.as_object_mut() {
            object.insert("downloaded".to_owned(), download::object(&done));
        }
    }
    print(&object);
    Ok(())
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
