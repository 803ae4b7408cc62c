//! `castellan serve`: flags, environment and configuration file become the settings of a server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nativelink_config::units::{MaxSize, parse_duration, parse_max_size, parse_size};
use tokio::runtime::Runtime;

use super::admin_client::parse_address;
use super::compat::{self, BAZEL_REMOTE, CompatFlags};
use super::config_file;
use super::problems::Problems;
use super::served::{Served, resolve};
use super::store_flags::{self, StoreFlags};
use super::values_flags::ValuesFlags;
use super::worker_flags::{self, WorkerFlags};
use super::{EX_USAGE, fail};
use crate::admin_socket::AdminAddress;
use crate::http::HttpOptions;
use crate::server::{
    GrpcListener, InstanceSettings, Instances, Server, ServerSettings, StoreKind, StoreSettings,
};
use crate::shutdown::{Signals, raise_descriptor_limit};
use crate::store::filesystem::{ADMIN_SOCKET, Cap, FilesystemOptions};
use crate::telemetry;
use crate::telemetry::otlp::{ExporterBuildError, Otlp, OtlpSettings};
use crate::telemetry::recent_errors::RecentErrors;

const DEFAULT_GRPC_LISTEN: &str = "127.0.0.1:50051";
const DEFAULT_HTTP_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_MAX_BYTES: u64 = 10 << 30;
/// What the one store is called that needs no name.
const DEFAULT_STORE: &str = "default";
const DEFAULT_SHARE_PERCENT: u8 = 80;
const DEFAULT_DRAIN_TIMEOUT: &str = "30s";

/// Flags of `serve`. Kept as text, so that all that is wrong with them is said at once.
#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    #[expect(clippy::doc_markdown, reason = "help text, not documentation")]
    /// A NativeLink configuration file (JSON5). Without one, any instance name is served from one
    /// store.
    #[arg(env = "CASTELLAN_CONFIG", value_name = "CONFIG.json5")]
    config: Option<PathBuf>,

    /// Take the flags, the environment and the YAML file of another server in place of
    /// --dir, --max-size, --max-blob-size and the addresses; the other flags stay. Each of its
    /// options is honored or refused by name: see docs/bazel-remote-flags.md.
    #[arg(long, value_name = "SERVER", value_parser = [BAZEL_REMOTE])]
    compat: Option<String>,

    /// The flags of that server, which are taken out before the others are read.
    #[arg(skip)]
    pub(super) compat_flags: Option<CompatFlags>,

    /// Where to keep the data [default: castellan in the user's cache folder].
    #[arg(long, env = "CASTELLAN_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The most disk to take, as `10GiB` or as a part of what is free or held already, as `80%`
    /// [default: 10GiB, or 80% where that is less].
    #[arg(long, env = "CASTELLAN_MAX_SIZE", value_name = "SIZE")]
    max_size: Option<String>,

    /// The largest blob to accept [default: what fits].
    #[arg(long, env = "CASTELLAN_MAX_BLOB_SIZE", value_name = "SIZE")]
    max_blob_size: Option<String>,

    #[command(flatten)]
    values: ValuesFlags,

    #[command(flatten)]
    store: StoreFlags,

    /// Where to listen for gRPC; port 0 picks a free one [default: 127.0.0.1:50051].
    #[arg(long, env = "CASTELLAN_GRPC_LISTEN", value_name = "ADDRESS")]
    grpc_listen: Option<String>,

    /// Where to listen for HTTP: the cache, values, the page, probes; port 0 picks a free one
    /// [default: 127.0.0.1:8080].
    #[arg(long, env = "CASTELLAN_HTTP_LISTEN", value_name = "ADDRESS")]
    http_listen: Option<String>,

    /// Where to listen for the operator (`castellan stats`, `why`, `purge`), as `unix:PATH` or
    /// `HOST:PORT`; `off` for nowhere [default: admin.sock in the first store's directory].
    #[arg(long, env = "CASTELLAN_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<String>,

    #[command(flatten)]
    worker: WorkerFlags,

    /// The longest wait for running requests after SIGTERM.
    #[arg(
        long,
        env = "CASTELLAN_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = DEFAULT_DRAIN_TIMEOUT
    )]
    drain_timeout: String,

    /// Where to push spans of requests and metrics, as `http://localhost:4317`: a collector that
    /// speaks OTLP over gRPC.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    otlp_endpoint: String,

    /// What to log to standard error, as `info` or `castellan=debug,warn`.
    #[arg(long, env = "CASTELLAN_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Everything `serve` needs, checked.
struct Plan {
    settings: ServerSettings,
    filter: tracing_subscriber::EnvFilter,
    otlp: Option<OtlpSettings>,
    warnings: Vec<String>,
}

/// Runs the server until a signal ends it.
pub(super) fn run(arguments: &ServeArguments) -> ExitCode {
    let mut plan = match plan(arguments, &|name| std::env::var(name).ok()) {
        Ok(plan) => plan,
        Err(problems) => return fail(EX_USAGE, &problems),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format_args!("error: start the runtime: {error}")),
    };
    let mut otlp = match plan.otlp.map(|settings| connect(&runtime, settings)).transpose() {
        Ok(otlp) => otlp,
        Err(error) => return fail(1, &format_args!("error: --otlp-endpoint: {error}")),
    };
    plan.settings.recent_errors = telemetry::init(plan.filter, otlp.as_ref());
    plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    raise_descriptor_limit();
    let outcome = runtime.block_on(serve(plan.settings, otlp.as_mut()));
    if let Some(otlp) = otlp {
        otlp.shutdown(&runtime);
    }
    // Requests that outlived the drain hold nothing that a kill could not take too.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format_args!("error: {error}")),
    }
}

fn connect(runtime: &Runtime, settings: OtlpSettings) -> Result<Otlp, ExporterBuildError> {
    let _entered = runtime.enter();
    Otlp::connect(settings)
}

async fn serve(
    settings: ServerSettings,
    otlp: Option<&mut Otlp>,
) -> Result<(), crate::server::ServerError> {
    // Before the ready line: a signal that follows it at once must drain, not kill.
    let mut signals = Signals::install().map_err(crate::server::ServerError::Signals)?;
    let server = tokio::select! {
        started = Server::start(settings) => started?,
        () = signals.next() => return Ok(()),
    };
    if let Some(otlp) = otlp {
        let exposition = Arc::clone(server.exposition());
        otlp.export_metrics(move || exposition.collect());
    }
    // Whoever started the server may not read its output; it serves all the same.
    drop(writeln!(std::io::stdout(), "{}", server.ready_line()));
    drop(std::io::stdout().flush());
    signals.next().await;
    tracing::info!("draining");
    tokio::select! {
        outcome = server.shutdown() => outcome,
        () = signals.next() => {
            tracing::warn!("second signal, not waiting for running requests");
            Ok(())
        }
    }
}

/// Checks everything before anything is opened; finds all problems, not the first.
fn plan(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let filter = problems.take("--log", telemetry::parse_filter(&arguments.log));
    if arguments.log.trim().is_empty() {
        problems.add("--log: is empty; say `off` to log nothing");
    }
    let http_listen = arguments.http_listen.as_deref().unwrap_or(DEFAULT_HTTP_LISTEN);
    let http_listen = problems.take("--http-listen", resolve(http_listen));
    let drain_timeout = problems.take("--drain-timeout", parse_duration(&arguments.drain_timeout));
    let admin = problems.take("--admin-listen", admin_listen(arguments.admin_listen.as_deref()));
    let otlp = problems.take("--otlp-endpoint", OtlpSettings::read(&arguments.otlp_endpoint, env));
    let worker = arguments.worker.read(&mut problems);
    let store_settings = arguments.store.read(&mut problems);
    let served = match (&arguments.compat_flags, &arguments.config) {
        (Some(flags), _) => {
            refuse_flags_beside_compat(arguments, &mut problems);
            compat::plan(flags, env, &store_settings, &arguments.values, &mut problems)
        }
        (None, None) => plan_default(arguments, env, &store_settings, &mut problems),
        (None, Some(path)) => {
            refuse_flags_beside_file(arguments, &mut problems);
            config_file::plan(path, env, &store_settings, &mut problems)
        }
    };
    if let (Some(worker), Some(served)) = (&worker, &served) {
        worker_flags::refuse_in_store(worker, &served.stores, &mut problems);
    }
    match (served, filter, http_listen, admin, drain_timeout, otlp) {
        (
            Some(served),
            Some(filter),
            Some(http_listen),
            Some(admin),
            Some(drain_timeout),
            Some(otlp),
        ) if problems.is_empty() => {
            let Served { stores, values, listeners, warnings, over_http, .. } = served;
            let http = HttpOptions {
                keeps_raw_results: over_http.keeps_raw_results,
                raw_results_are_mangled: served.adopted_results_are_mangled,
                ..HttpOptions::default()
            };
            let admin = match admin {
                AdminListen::Default => stores.iter().find_map(admin_in),
                AdminListen::Off => None,
                AdminListen::At(address) => Some(address),
            };
            let settings = ServerSettings {
                stores,
                values,
                listeners,
                http_listen: over_http.listen.unwrap_or(http_listen),
                http_tls: over_http.tls,
                http_instances: over_http.instances,
                http,
                adopted_results_are_mangled: served.adopted_results_are_mangled,
                admin,
                worker,
                drain_timeout,
                recent_errors: RecentErrors::default(),
            };
            Ok(Plan { settings, filter, otlp, warnings })
        }
        _ => Err(problems),
    }
}

/// Where to listen for the operator.
enum AdminListen {
    /// In the first store.
    Default,
    Off,
    At(AdminAddress),
}

fn admin_listen(text: Option<&str>) -> Result<AdminListen, String> {
    match text.map(str::trim) {
        None => Ok(AdminListen::Default),
        Some("off") => Ok(AdminListen::Off),
        Some(text) => parse_address(text).map(AdminListen::At),
    }
}

/// The operator's socket in the directory of a store that has one.
fn admin_in(store: &StoreSettings) -> Option<AdminAddress> {
    match &store.kind {
        StoreKind::Filesystem(options) => Some(AdminAddress::Unix(options.root.join(ADMIN_SOCKET))),
        _ => None,
    }
}

/// Two places that say where the data is would leave open which one counts.
fn refuse_flags_beside_file(arguments: &ServeArguments, problems: &mut Problems) {
    let own = [
        ("--dir", arguments.dir.is_some()),
        ("--max-size", arguments.max_size.is_some()),
        ("--max-blob-size", arguments.max_blob_size.is_some()),
        ("--grpc-listen", arguments.grpc_listen.is_some()),
    ];
    for (flag, is_given) in own.into_iter().chain(arguments.store.in_file()) {
        if is_given {
            problems
                .add(format_args!("{flag}: the configuration file says this; drop one of them"));
        }
    }
    arguments.values.refuse_beside_file(problems);
}

/// The other server's options say these things, and say them otherwise.
fn refuse_flags_beside_compat(arguments: &ServeArguments, problems: &mut Problems) {
    let own = [
        // Flags of these two names are not ours there, so these come from the environment.
        ("CASTELLAN_CONFIG", "--config_file", arguments.config.is_some()),
        ("CASTELLAN_DIR", "BAZEL_REMOTE_DIR", arguments.dir.is_some()),
        ("--max-size or CASTELLAN_MAX_SIZE", "--max_size", arguments.max_size.is_some()),
        (
            "--max-blob-size or CASTELLAN_MAX_BLOB_SIZE",
            "--max_blob_size",
            arguments.max_blob_size.is_some(),
        ),
        (
            "--grpc-listen or CASTELLAN_GRPC_LISTEN",
            "--grpc_address",
            arguments.grpc_listen.is_some(),
        ),
        (
            "--http-listen or CASTELLAN_HTTP_LISTEN",
            "--http_address",
            arguments.http_listen.is_some(),
        ),
    ];
    for (ours, theirs, _) in own.into_iter().filter(|(.., is_given)| *is_given) {
        let text = format!("with --compat={BAZEL_REMOTE} this is said by {theirs}");
        problems.add(format_args!("{ours}: {text}"));
    }
}

/// One store and any instance name: what `serve` does without a configuration file.
fn plan_default(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &store_flags::StoreSettings,
    problems: &mut Problems,
) -> Option<Served> {
    let cap = match &arguments.max_size {
        None => {
            Some(Cap::Share { percent: DEFAULT_SHARE_PERCENT, at_most_bytes: DEFAULT_MAX_BYTES })
        }
        Some(text) => problems
            .take("--max-size", parse_max_size(text))
            .map(cap_of)
            .and_then(|cap| problems.take("--max-size", cap.check())),
    };
    let max_blob_bytes = arguments
        .max_blob_size
        .as_deref()
        .and_then(|text| problems.take("--max-blob-size", parse_size(text)));
    if max_blob_bytes == Some(0) {
        problems.add("--max-blob-size: 0 would accept no blob");
    }
    let root = problems.take("--dir", arguments.dir.clone().map_or_else(|| default_root(env), Ok));
    let listen = arguments.grpc_listen.as_deref().unwrap_or(DEFAULT_GRPC_LISTEN);
    let address = problems.take("--grpc-listen", resolve(listen));
    let (set_aside, values) = arguments.values.plan(cap, problems).unzip();
    let options = FilesystemOptions::new(root?, cap?);
    let mut store = FilesystemOptions { set_aside, max_blob_bytes, ..options };
    flags.apply(&mut store);
    let store =
        StoreSettings { name: DEFAULT_STORE.to_owned(), kind: StoreKind::Filesystem(store) };
    let listener = GrpcListener::new(address?, Instances::Any(InstanceSettings::new(0, 0)));
    Some(Served { values, ..Served::new(vec![store], vec![listener]) })
}

fn cap_of(size: MaxSize) -> Cap {
    match size {
        MaxSize::Bytes(bytes) => Cap::Bytes(bytes),
        MaxSize::Percent(percent) => Cap::Share { percent, at_most_bytes: u64::MAX },
    }
}

/// `castellan` in the user's cache folder, as the XDG base directory specification has it.
pub(super) fn default_root(env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, &'static str> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("castellan"))
        .ok_or("neither XDG_CACHE_HOME nor HOME is an absolute path; say where to keep the data")
}

/// What `serve` would print about these flags; empty when it would start.
#[cfg(test)]
pub(super) fn problems_of(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
) -> String {
    plan(arguments, env).map_or_else(|problems| problems.to_string(), |_| String::new())
}

/// What `serve` would start, and what it would warn of; or its problems.
#[cfg(test)]
pub(super) fn settings_of(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(ServerSettings, Vec<String>), String> {
    let planned = plan(arguments, env).map_err(|problems| problems.to_string());
    planned.map(|plan| (plan.settings, plan.warnings))
}

/// The stores that `serve` would open.
#[cfg(test)]
pub(super) fn stores_of(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
) -> Vec<StoreSettings> {
    plan(arguments, env).unwrap_or_else(|problems| panic!("{problems}")).settings.stores
}

/// What `serve` would say of values.
#[cfg(test)]
pub(super) fn values_of(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<crate::server::ValuesSettings> {
    plan(arguments, env).unwrap_or_else(|problems| panic!("{problems}")).settings.values
}

/// What `serve` would serve to workers.
#[cfg(test)]
pub(super) fn worker_of(
    arguments: &ServeArguments,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<crate::server::WorkerSettings> {
    plan(arguments, env).unwrap_or_else(|problems| panic!("{problems}")).settings.worker
}
