//! What a command leaves out: the first few on standard error, all of them in a file.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::format::printable;
use super::transfer::Failure;
use crate::client::{OnSkip, Skipped};
use crate::trees::on_disk::{File, Folder};

/// How many are said where no file lists them.
const SHOWN: u64 = 20;

/// Where it is said what was skipped.
#[derive(Clone)]
pub(super) struct Skips(Arc<Mutex<State>>);

struct State {
    file: Option<BufWriter<File>>,
    count: u64,
    failed: Option<std::io::Error>,
}

impl Skips {
    /// Begins a list in a file, which replaces one that is there.
    pub(super) fn new(file: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| {
            create(path).map(BufWriter::new).map_err(|error| {
                Failure::Failed(format!("error: --report: {}: {error}", path.display()))
            })
        };
        let file = file.map(open).transpose()?;
        Ok(Self(Arc::new(Mutex::new(State { file, count: 0, failed: None }))))
    }

    /// Who is told of each.
    pub(super) fn listener(&self) -> OnSkip {
        let state = Arc::clone(&self.0);
        Box::new(move |skipped| state.lock().add(skipped))
    }

    /// How many there were, when all of them are written down.
    pub(super) fn finish(&self) -> Result<u64, Failure> {
        let state = &mut *self.0.lock();
        let flushed = state.file.as_mut().map_or(Ok(()), Write::flush);
        match state.failed.take().map_or(flushed, Err) {
            Ok(()) => Ok(state.count),
            Err(error) => Err(Failure::Failed(format!("error: --report: {error}"))),
        }
    }
}

impl State {
    fn add(&mut self, skipped: &Skipped) {
        let Skipped { name, reason, problem } = skipped;
        self.count += 1;
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ = write!(line, "{reason}\t{}\t{}", printable(name), printable(problem));
        if let Some(file) = &mut self.file {
            if let Err(error) = writeln!(file, "{line}") {
                self.failed.get_or_insert(error);
            }
            return;
        }
        // Nothing is left to tell a closed terminal.
        let mut errors = std::io::stderr();
        if self.count <= SHOWN {
            drop(writeln!(errors, "skipped: {}", line.replace('\t', ": ")));
        } else if self.count == SHOWN + 1 {
            drop(writeln!(errors, "skipped: more; --report FILE lists all"));
        }
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = Folder::open_root(parent.unwrap_or(Path::new(".")))?;
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    // One that is not there need not go, and what cannot go is in the way below.
    drop(folder.remove_file(name));
    folder.create_file(name, 0o666)
}
