//! `castellan import`: what another place holds is brought to a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use nativelink_config::units::parse_size;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::format::{bytes, span};
use super::problems::Problems;
use super::remote_flags::{RemoteFlags, headers};
use super::skips::Skips;
use super::transfer::{Failure, Session, print, run as run_client};
use super::{EX_USAGE, fail};
use crate::client::{
    Client, ClientOptions, DirectoryOptions, HttpCache, Import, ImportOptions, Imported,
    ServerAddress,
};

/// Flags of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// An archive of `export` or `-`; the directory of a Castellan, a `NativeLink` or a
    /// bazel-remote; a server as `grpc://HOST:PORT[/INSTANCE]`; a cache as
    /// `http://HOST[:PORT][/PREFIX]`; the last two also with TLS, `grpcs://` and `https://`.
    source: String,

    #[command(flatten)]
    lists: ListFlags,

    /// SOURCE is the directory in which a `NativeLink` keeps action results.
    #[arg(long)]
    action_results: bool,

    /// The instance of SOURCE, where it has any [default: that of the server].
    #[arg(long, value_name = "NAME")]
    source_instance: Option<String>,

    /// Metadata sent with every call to SOURCE; may be given several times.
    #[arg(long = "source-header", value_name = "NAME=VALUE")]
    source_headers: Vec<String>,

    /// Send no more than this in a second, as `50MiB`.
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,

    /// Blobs that are sent at once.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,

    /// Send nothing; say what would be.
    #[arg(long)]
    dry_run: bool,

    /// Write a line for each thing that is skipped to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// What is taken from a server.
#[derive(Debug, Args)]
struct ListFlags {
    /// A list of blobs, one `HASH/SIZE` a line, over HTTP also `HASH`; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    digests: Option<PathBuf>,

    /// A list of actions, whose results are taken with everything they reach.
    #[arg(long, value_name = "FILE")]
    actions: Option<PathBuf>,
}

/// Where it comes from.
enum Source {
    Archive(PathBuf),
    Directory(PathBuf, DirectoryOptions),
    Server(ClientOptions),
    Http(HttpCache),
}

/// Imports, and says what came of it.
pub(super) fn run(arguments: &ImportArguments) -> ExitCode {
    let mut problems = Problems::default();
    let rate = arguments.rate.as_deref();
    let rate = rate.and_then(|text| problems.take("--rate", parse_size(text)));
    if rate == Some(0) {
        problems.add("--rate: nothing would ever be sent");
    }
    let source = match arguments.source() {
        Ok(source) => Some(source),
        Err(problem) => {
            problems.add(problem);
            None
        }
    };
    let Some(source) = source.filter(|_| problems.is_empty()) else {
        return fail(EX_USAGE, &problems);
    };
    let options = ImportOptions {
        jobs: arguments.jobs.into(),
        bytes_per_second: rate,
        is_dry_run: arguments.dry_run,
    };
    run_client(&arguments.remote, |session| import(arguments, source, options, session))
}

impl ImportArguments {
    fn source(&self) -> Result<Source, String> {
        let text = self.source.as_str();
        let is_server = ["grpc://", "grpcs://", "unix:"].iter().any(|it| text.starts_with(it));
        let is_http = ["http://", "https://"].iter().any(|it| text.starts_with(it));
        let has_lists = self.lists.digests.is_some() || self.lists.actions.is_some();
        if is_server || is_http {
            if !has_lists {
                return Err("--digests or --actions: a server must be told what is wanted".into());
            }
        } else if has_lists {
            return Err("--digests and --actions are for servers: of a file all is taken".into());
        }
        let headers = headers("--source-header", &self.source_headers)?;
        let problem = |error: &dyn std::fmt::Display| format!("SOURCE: {error}");
        if is_http {
            return HttpCache::parse(text, &headers).map(Source::Http).map_err(|it| problem(&it));
        }
        // The flags of the server are refused with the others.
        let target = self.remote.options().map_err(|it| it.replacen("error: ", "", 1))?;
        let function = target.function;
        if is_server {
            let server = ServerAddress::parse(text, self.source_instance.as_deref());
            let server = server.map_err(|it| problem(&it))?;
            return Ok(Source::Server(ClientOptions { server, function, headers }));
        }
        let path = PathBuf::from(text);
        if text == "-" || !path.is_dir() {
            return Ok(Source::Archive(path));
        }
        let target = target.server.instance_name().to_owned();
        let instance_name = self.source_instance.clone().unwrap_or(target);
        let (holds_results, mangled_for) = (self.action_results, self.source_instance.clone());
        let options = DirectoryOptions { holds_results, instance_name, mangled_for };
        Ok(Source::Directory(path, options))
    }
}

async fn import(
    arguments: &ImportArguments,
    source: Source,
    options: ImportOptions,
    session: Session,
) -> Result<(), Failure> {
    let Session { client, progress } = session;
    let skips = Skips::new(arguments.report.as_deref())?;
    let began = Instant::now();
    let import = Import::new(Arc::clone(&client), progress, options, skips.listener());
    let outcome = take(&import, arguments, source, &client).await;
    // What came of one that failed is of interest, too: the next goes on there.
    let (imported, seconds) = (import.imported(), began.elapsed().as_secs());
    if arguments.remote.json {
        print(&object(&imported, options.is_dry_run, seconds));
    } else {
        print(&text(&imported, options.is_dry_run, seconds));
    }
    let skipped = skips.finish();
    outcome?;
    match skipped? {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("error: {count} skipped"))),
    }
}

async fn take(
    import: &Arc<Import>,
    arguments: &ImportArguments,
    source: Source,
    client: &Arc<Client>,
) -> Result<(), Failure> {
    let takes_hashes = matches!(source, Source::Http(_));
    let list = |file: Option<&Path>| {
        let file = file.map(Path::to_owned);
        async move {
            match file {
                Some(file) => client.read_list(&file, takes_hashes).await,
                None => Ok(Vec::new()),
            }
        }
    };
    let digests = list(arguments.lists.digests.as_deref()).await?;
    let actions = list(arguments.lists.actions.as_deref()).await?;
    match source {
        Source::Archive(path) => import.archive(&path).await?,
        Source::Directory(path, options) => import.directory(&path, &options).await?,
        Source::Http(cache) => import.from_http(cache, digests, actions).await?,
        Source::Server(options) => {
            let connecting = Client::connect(options).await;
            let server = connecting.map_err(|error| match Failure::from(error) {
                Failure::Failed(problem) => {
                    Failure::Failed(problem.replacen("error: ", "error: SOURCE: ", 1))
                }
                other => other,
            })?;
            import.from_server(server, digests, actions).await?;
        }
    }
    Ok(())
}

fn object(imported: &Imported, is_dry_run: bool, seconds: u64) -> Value {
    let skipped = imported.skipped.iter();
    let skipped: Map<String, Value> =
        skipped.map(|(reason, count)| (reason.name().replace(' ', "_"), json!(count))).collect();
    json!({
        "is_dry_run": is_dry_run,
        "taken_blobs": imported.taken_blobs,
        "taken_bytes": imported.taken_bytes,
        "taken_results": imported.taken_results,
        "results_without_size": imported.results_without_size,
        "present_blobs": imported.present_blobs,
        "present_bytes": imported.present_bytes,
        "present_results": imported.present_results,
        "foreign_results": imported.foreign_results,
        "skipped": skipped,
        "seconds": seconds,
    })
}

fn text(imported: &Imported, is_dry_run: bool, seconds: u64) -> String {
    let line = |what: &str, blobs: u64, size: u64, results: &dyn std::fmt::Display| {
        format!("{what}: {blobs} blobs, {}, {results} results", bytes(size))
    };
    let it = imported;
    // What results name is looked for when it would be there.
    let (taken, most) = if is_dry_run { ("would take", "at most ") } else { ("taken", "") };
    let results = format_args!("{most}{}", it.taken_results);
    let mut lines = vec![
        line(taken, it.taken_blobs, it.taken_bytes, &results),
        line("there already", it.present_blobs, it.present_bytes, &it.present_results),
    ];
    if it.results_without_size > 0 {
        let count = it.results_without_size;
        lines.push(format!(
            "without a size: {count} of these results, which only Castellan finds by hash alone"
        ));
    }
    if it.foreign_results > 0 {
        lines.push(format!("left: {} results of other instances", it.foreign_results));
    }
    if !it.skipped.is_empty() {
        let reasons: Vec<String> =
            it.skipped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        lines.push(format!("skipped: {}", reasons.join(", ")));
    }
    lines.push(format!("in {}", span(seconds)));
    lines.join("\n")
}
