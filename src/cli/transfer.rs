//! Running a client: its runtime, its progress, and its end.

use std::fmt;
use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::format::{bytes, span};
use super::remote_flags::RemoteFlags;
use super::{EX_USAGE, fail};
use crate::client::{Client, ClientError, ClientOptions, Progress, Snapshot};
use crate::shutdown::{Signals, raise_descriptor_limit};
use crate::store::remote::{RemoteError, with_sources};

/// Between two drawings.
const REDRAW: Duration = Duration::from_millis(100);
/// How long work on files that was begun may take when the command ends.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// What commands fail with.
#[derive(Debug)]
pub(super) enum Failure {
    /// A flag or a file that was given is wrong.
    Usage(String),
    /// It did not work.
    Failed(String),
    /// It worked, and came to something that has an exit code of its own.
    Other(u8, String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::failed(&error)
    }
}

impl Failure {
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(format!("error: {}", with_sources(error)))
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(problem) => fail(EX_USAGE, problem),
            Self::Failed(problem) => fail(1, problem),
            Self::Other(code, outcome) => fail(*code, outcome),
        }
    }
}

/// What a command is given.
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    pub(super) progress: Arc<Progress>,
}

/// Connects and does the work of a command, with a line of progress where that is wanted.
pub(super) fn run<F>(flags: &RemoteFlags, work: impl FnOnce(Session) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    let options = match flags.options() {
        Ok(options) => options,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format_args!("error: start the runtime: {error}")),
    };
    raise_descriptor_limit();
    let outcome = runtime.block_on(work_until_signal(options, is_drawn(flags.quiet), work));
    runtime.shutdown_timeout(END_TIMEOUT);
    outcome.map_or_else(|failure| failure.exit_code(), |()| ExitCode::SUCCESS)
}

/// Whether progress is shown.
pub(super) fn is_drawn(is_quiet: bool) -> bool {
    !is_quiet && std::io::stderr().is_terminal()
}

async fn work_until_signal<F>(
    options: ClientOptions,
    is_drawn: bool,
    work: impl FnOnce(Session) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut signals = Signals::install().map_err(|error| Failure::failed(&error))?;
    let progress = Arc::new(Progress::default());
    let shown = Arc::clone(&progress);
    let working = async {
        let connecting = Client::connect(options).await;
        let client = connecting.map_err(|error| match error {
            ClientError::Options(problem) => {
                let flag = match &problem {
                    RemoteError::Header { .. } => "--header",
                    RemoteError::Instance(_) => "--instance",
                    _ => "--server",
                };
                Failure::Usage(format!("error: {flag}: {problem}"))
            }
            error => error.into(),
        })?;
        work(Session { client, progress }).await
    };
    // What was begun is given up where it is, so that half files go.
    tokio::select! {
        outcome = with_line(is_drawn, || shown.snapshot(), working) => outcome,
        () = signals.next() => Err(Failure::Failed("error: interrupted".to_owned())),
    }
}

/// Does the work and draws meanwhile.
pub(super) async fn with_line<T>(
    is_drawn: bool,
    now: impl Fn() -> Snapshot,
    work: impl Future<Output = T>,
) -> T {
    if !is_drawn {
        return work.await;
    }
    let mut line = Line { began: Instant::now(), width: 0 };
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => {
                line.clear();
                return outcome;
            }
            _ = ticks.tick() => line.draw(now()),
        }
    }
}

/// The last line of a terminal.
struct Line {
    began: Instant,
    width: usize,
}

impl Line {
    fn draw(&mut self, now: Snapshot) {
        if now.files_total == 0 {
            return;
        }
        let text = text(now, self.began.elapsed());
        let width = text.chars().count();
        // Nothing is left to tell a closed terminal.
        drop(write!(std::io::stderr(), "\r{text:<width$}", width = self.width));
        self.width = width;
    }

    fn clear(&self) {
        if self.width > 0 {
            drop(write!(std::io::stderr(), "\r{:<width$}\r", "", width = self.width));
        }
    }
}

/// Files, bytes, rate, and the time that is left.
pub(super) fn text(now: Snapshot, elapsed: Duration) -> String {
    let Snapshot { files_total, files_done, bytes_total, bytes_done, bytes_moved, .. } = now;
    let seconds = elapsed.as_secs_f64().max(0.001);
    let per_second = |amount: u64| whole(amount as f64 / seconds);
    let mut text = format!(
        "{files_done}/{files_total} files  {}/{}  {}/s",
        bytes(bytes_done),
        bytes(bytes_total),
        bytes(per_second(bytes_moved)),
    );
    let left = bytes_total.saturating_sub(bytes_done);
    if now.is_total_known && bytes_done > 0 {
        let seconds = whole(left as f64 * seconds / bytes_done as f64);
        text.push_str("  ETA ");
        text.push_str(&span(seconds));
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn whole(amount: f64) -> u64 {
    amount as u64
}

/// Prints to standard output. Whoever closed it has read enough.
pub(super) fn print(text: &dyn fmt::Display) {
    if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
        // The line of progress is drawn again below it.
        drop(write!(std::io::stderr(), "\r\x1b[K"));
    }
    drop(writeln!(std::io::stdout(), "{text}"));
}
