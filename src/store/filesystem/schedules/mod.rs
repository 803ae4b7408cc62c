//! The store under a model checker: `cargo test --lib --features shuttle schedules`.
//!
//! Method: a scenario is a handful of callers of a real store on a directory in memory. The checker
//! runs it under thousands of schedules, half of them random, half by PCT, which finds every bug
//! that takes three ordered steps with a probability that is known. After each schedule the books,
//! the files and the answers are looked at ([`oracle`]). A schedule that never ends is a deadlock
//! and fails. `CASTELLAN_SCHEDULES` says how many schedules a scenario gets; one that failed was
//! printed and runs again with `CASTELLAN_REPLAY`.

mod mutants;
mod oracle;
mod races;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::BlobStoreExt as _;
use world::Root;

/// Schedules of one scenario when nobody says otherwise.
const SCHEDULES: usize = 50_000;
/// Ordered steps of a bug that PCT looks for.
const PCT_DEPTH: usize = 3;
/// More steps than any schedule takes that ends.
const MAX_STEPS: usize = 20_000;
/// The frames of a test build are large.
const STACK_BYTES: usize = 512 << 10;

/// What is run under the checker, in a store on this directory.
type Scenario = fn(&Root);

/// How many schedules a scenario gets.
fn schedules() -> usize {
    let wanted = std::env::var("CASTELLAN_SCHEDULES").ok();
    wanted.map_or(SCHEDULES, |text| text.parse().expect("CASTELLAN_SCHEDULES is a number"))
}

fn config(persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.failure_persistence = persistence;
    config.silence_warnings = true;
    // What a failed schedule would do while it unwinds says nothing.
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    config
}

/// Runs a scenario under one scheduler, each schedule from an empty directory on.
fn run(
    scenario: Scenario,
    scheduler: impl Scheduler + 'static,
    persistence: FailurePersistence,
    begun: &Arc<AtomicUsize>,
) {
    let root = Root::new();
    let begun = Arc::clone(begun);
    Runner::new(scheduler, config(persistence)).run(move || {
        begun.fetch_add(1, Ordering::Relaxed);
        scenario(&root);
    });
}

/// Runs a scenario under its share of schedules of either kind.
fn check(scenario: Scenario) {
    let begun = Arc::default();
    if let Ok(schedule) = std::env::var("CASTELLAN_REPLAY") {
        let replay = ReplayScheduler::new_from_encoded(&schedule);
        return run(scenario, replay, FailurePersistence::None, &begun);
    }
    let start = sync::Instant::now();
    let pct = schedules() / 2;
    let random = schedules() - pct;
    run(scenario, RandomScheduler::new(random), FailurePersistence::Print, &begun);
    let random_seconds = start.elapsed().as_secs_f64();
    run(scenario, PctScheduler::new(PCT_DEPTH, pct), FailurePersistence::Print, &begun);
    let pct_seconds = start.elapsed().as_secs_f64() - random_seconds;
    println!(
        "{random} random schedules in {random_seconds:.1} s, {pct} of PCT in {pct_seconds:.1} s"
    );
}

#[test]
fn others_may_come_between_any_two_calls_to_the_file_system() {
    const RUNS: usize = 300;
    // Not the checker's: it counts over all schedules.
    static LATE: AtomicUsize = AtomicUsize::new(0);
    let scenario: Scenario = |root| {
        let disk = Arc::new(root.disk());
        let contenders = [(); 2].map(|()| {
            let disk = Arc::clone(&disk);
            shuttle::thread::spawn(move || {
                let file = disk.create(disk::FileMode::Blob).unwrap();
                if !disk.exists("name").unwrap() && disk.link(&file, "name").is_err() {
                    LATE.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for contender in contenders {
            contender.join().unwrap();
        }
        disk.unlink("name").unwrap();
    };
    run(scenario, RandomScheduler::new(RUNS), FailurePersistence::Print, &Arc::default());
    let late = LATE.load(Ordering::Relaxed);
    assert!(late > 0 && late < RUNS, "{late} of {RUNS}");
}
