//! What the cache costs: `cargo bench`, or `cargo bench -- read` for the rows that say "read".
//! `cargo bench -- startup --entries 1000000` measures nothing but starts, on so many blobs;
//! `cargo bench -- stage` nothing but input trees of workers;
//! `cargo bench -- fill --entries 1000000` only makes such a directory and leaves it.
//!
//! Method: a real server in a process of its own, so that its CPU time can be told from that of
//! the client beside it. Each round starts a server on an empty directory and runs every case
//! once; the first round only warms memory up and is thrown away. Beside it runs a server that
//! answers the same calls without doing anything: what that one costs is the floor of the
//! libraries on this machine. A row gives the median of the rounds and the least and greatest.
//!
//! `CASTELLAN_BENCH_DIR` says where the stores are made (the file system matters more than
//! anything else), `CASTELLAN_BENCH_ROUNDS` how many rounds are measured.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on stops, and prints what it finds"
)]
#![expect(clippy::future_not_send, reason = "one task drives all cases")]

mod batches;
mod data;
mod empty;
mod generate;
mod local;
mod measure;
mod process;
mod results;
mod staging;
mod startup;
mod streams;

use std::path::PathBuf;

use data::Data;
use measure::{Bench, Report};
use process::ServerProcess;

// What the server has, for the empty server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_ROUNDS: usize = 5;

/// What `cargo bench -- WORD` and the environment say.
struct Choices {
    directory: PathBuf,
    rounds: usize,
    word: String,
    entries: u64,
}

fn choices() -> Choices {
    let rounds = std::env::var("CASTELLAN_BENCH_ROUNDS").ok();
    let directory = std::env::var_os("CASTELLAN_BENCH_DIR");
    let (mut word, mut entries) = (None, startup::DEFAULT_ENTRIES);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--entries" {
            entries = arguments.next().unwrap().parse().unwrap();
        } else if !argument.starts_with('-') {
            // Cargo itself adds `--bench`.
            word = word.or(Some(argument));
        }
    }
    Choices {
        directory: directory.map_or_else(std::env::temp_dir, PathBuf::from),
        rounds: rounds.map_or(DEFAULT_ROUNDS, |text| text.parse().unwrap()),
        word: word.unwrap_or_default(),
        entries,
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if std::env::var_os(empty::MARK).is_some() {
        runtime.block_on(empty::serve());
    } else {
        let choices = choices();
        let Choices { directory, rounds, entries, word } = &choices;
        match word.as_str() {
            "stage" => runtime.block_on(staging::run(directory, *rounds)),
            "startup" => runtime.block_on(startup::run(directory, *rounds, *entries)),
            "fill" => generate::fill(directory, *entries),
            _ => runtime.block_on(measure_all(&choices)),
        }
    }
}

async fn measure_all(choices: &Choices) {
    let data = Data::new();
    let mut report = Report::new(&choices.word);
    for round in 0..=choices.rounds {
        let directory = tempfile::tempdir_in(&choices.directory).unwrap();
        let mut server = ServerProcess::castellan(directory.path()).await;
        let mut empty = ServerProcess::empty().await;
        let mut bench = Bench::new(&mut report, &mut server, &mut empty, round);
        batches::run(&mut bench, &data).await;
        streams::run(&mut bench, &data).await;
        results::run(&mut bench, &data).await;
        drop((server, empty));
        drop(directory);
        let directory = tempfile::tempdir_in(&choices.directory).unwrap();
        local::run(&mut report, round, directory.path(), &data).await;
    }
    report.print();
}
