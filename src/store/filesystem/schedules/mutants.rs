//! Whether the schedules would notice: each bug of [`Mutant`] is put into the store, and the
//! scenario of its race must fail.
//!
//! A scenario that passes with a bug in the store is the failure here. The seeds are fixed, so a
//! bug that is found once is found always.

use super::super::mutants::{Mutant, switch_on};
use super::*;

const SEED: u64 = 20_260_101;
/// Schedules of PCT after which a bug counts as not noticed.
const MOST_PCT: usize = 50_000;
/// Random schedules, which find what takes few steps at once and the rest hardly ever.
const MOST_RANDOM: usize = 5_000;

/// How many schedules it takes until a scenario fails with a bug in the store.
fn schedules_until_noticed(
    mutant: Mutant,
    scenario: Scenario,
    scheduler: impl Scheduler + Send + 'static,
) -> Option<usize> {
    let begun: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&begun);
    // A thread of its own, for a failed schedule leaves its thread in the middle of a panic. All
    // tasks of a schedule run on it, so the bug is in this store only.
    let runner = std::thread::spawn(move || {
        switch_on(Some(mutant));
        run(scenario, scheduler, FailurePersistence::None, &counter);
    });
    runner.join().is_err().then(|| begun.load(Ordering::Relaxed))
}

fn assert_killed(mutant: Mutant, scenario: Scenario) {
    let random = RandomScheduler::new_from_seed(SEED, MOST_RANDOM);
    let random = schedules_until_noticed(mutant, scenario, random);
    let pct = PctScheduler::new_from_seed(SEED, PCT_DEPTH, MOST_PCT);
    let pct = schedules_until_noticed(mutant, scenario, pct);
    println!("{mutant:?}: noticed after {random:?} random schedules, after {pct:?} of PCT");
    assert!(random.is_some() || pct.is_some(), "{mutant:?} survives");
}

#[test]
fn i7_deleting_by_a_fixed_name_is_noticed() {
    assert_killed(Mutant::DeleteByFixedName, races::late_delete);
}

#[test]
fn i7_no_look_at_the_generation_is_noticed() {
    assert_killed(Mutant::NoGenerationCheck, races::late_delete);
    assert_killed(Mutant::NoGenerationCheck, races::purge_during_publication);
}

#[test]
fn i8_counting_after_the_insertion_is_noticed() {
    assert_killed(Mutant::CountAfterInsertion, races::evict_during_copy);
}

#[test]
fn i9_a_recheck_that_only_logs_is_noticed() {
    assert_killed(Mutant::RecheckOnlyLogs, races::evict_during_copy);
}

#[test]
fn i8_a_removal_that_forgets_the_variant_is_noticed() {
    assert_killed(Mutant::RemovalForgetsVariant, races::late_delete);
}

#[test]
fn i16_no_fence_is_noticed() {
    assert_killed(Mutant::NoEpochFence, races::purge_during_publication);
}

#[test]
fn i3_releasing_bytes_before_the_unlink_is_noticed() {
    assert_killed(Mutant::ReleaseBeforeUnlink, races::late_delete);
}

#[test]
fn i13_a_lost_wake_up_is_noticed() {
    assert_killed(Mutant::LostWakeUp, races::full_queue);
}

#[test]
fn i13_an_evictor_that_ends_before_its_work_is_noticed() {
    assert_killed(Mutant::EvictorExitsEarly, races::last_handle_dropped);
}

#[test]
fn i10_making_a_variant_twice_is_noticed() {
    assert_killed(Mutant::NoSingleFlight, races::two_first_requests);
}

#[test]
fn evicting_what_is_pinned_is_noticed() {
    assert_killed(Mutant::EvictPinned, races::pinned);
}
