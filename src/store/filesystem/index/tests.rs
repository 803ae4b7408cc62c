//! Single behaviors of the index.

use super::room::MAX_FAILURES_IN_A_ROW;
use super::*;
use crate::digest::Digest;
use crate::store::Namespace;
use crate::store::filesystem::snapshot::Record;
use crate::store::filesystem::tombstones::Reason;
use crate::store::waiters::Ticket;

const BLOCK: u64 = 4096;

fn file(content: u8, generation: u64) -> FileName {
    let digest = Digest::of(crate::digest::DigestFunction::Sha256, &[content]);
    FileName::own(Key::blob(digest), 1, Generation(generation))
}

fn result_file(generation: u64) -> FileName {
    let digest = Digest::of(crate::digest::DigestFunction::Sha256, b"action");
    let key = Key::action_result(Namespace::of_instance("main"), digest);
    FileName::own(key, 10, Generation(generation))
}

fn limits(blocks: u64) -> Limits {
    Limits {
        max_bytes: blocks * BLOCK,
        low_water_bytes: 0,
        max_entries: None,
        max_age_seconds: None,
        lease_seconds: 0,
        lease_policy: LeasePolicy::default(),
    }
}

fn index(blocks: u64) -> Index<u32> {
    Index::new(limits(blocks), 1000)
}

fn claim(index: &mut Index<u32>, bytes: u64) -> Claim {
    match index.reserve(bytes, 32, 0) {
        Reserve::Granted(claim) => claim,
        other => panic!("expected room, got {other:?}"),
    }
}

fn insert(index: &mut Index<u32>, file: FileName) {
    let claim = claim(index, BLOCK);
    assert_eq!(index.publish(file, claim, BLOCK), Publish::Inserted);
    index.check();
}

fn touch(index: &mut Index<u32>, key: &Key) -> bool {
    index.look_up(key, Use::Touch).is_some()
}

fn remove(index: &mut Index<u32>, file: &FileName) -> Option<Victim> {
    index.remove(file, Reason::Evicted)
}

fn record(file: FileName) -> Record {
    let stamp = file.generation.0;
    let (charge_bytes, variant_bytes) = (BLOCK, 0);
    Record { file, charge_bytes, variant_bytes, stamp, is_leased: false, is_suspect: false }
}

fn queued(reserve: Reserve) -> (Ticket, Vec<Victim>) {
    match reserve {
        Reserve::Queued(ticket, victims) => (ticket, victims),
        other => panic!("expected a place in the queue, got {other:?}"),
    }
}

#[test]
fn i1_i2_a_reservation_becomes_resident_and_the_excess_is_free_again() {
    let mut index = index(4);
    let claim = claim(&mut index, 3 * BLOCK);
    assert_eq!(index.publish(file(1, 1), claim, BLOCK), Publish::Inserted);
    let books = index.ledger();
    assert_eq!((books.resident_bytes, books.reserved_bytes), (BLOCK, 0));
    index.check();
}

#[test]
fn i14_for_a_write_no_more_leaves_than_it_needs_while_there_is_too_much() {
    let mut index = index(10);
    (1..=8).for_each(|content| insert(&mut index, file(content, content.into())));
    index.begin_former();
    index.measure_former(8 * BLOCK);
    let (_, victims) = queued(index.reserve(BLOCK, 32, 7));
    assert_eq!(victims.iter().map(|it| it.file).collect::<Vec<_>>(), [file(1, 1)]);
    for victim in victims {
        index.bury(victim);
    }
    assert_eq!(index.grant().len(), 1);
    assert_eq!(index.evict_to_low_water(32), []);
}

#[test]
fn i2_what_was_there_over_the_limit_does_not_come_back_once_it_has_gone() {
    let mut index = index(10);
    (1..=8).for_each(|content| insert(&mut index, file(content, content.into())));
    index.begin_former();
    index.measure_former(8 * BLOCK);
    assert!(index.ledger().resident_bytes + index.ledger().unread_bytes == 16 * BLOCK);
    for content in 1..=7 {
        let victim = index.remove(&file(content, content.into()), Reason::Purged).unwrap();
        index.bury(victim);
    }
    let _fits = claim(&mut index, BLOCK);
    queued(index.reserve(BLOCK, 32, 7));
}

#[test]
fn i2_a_save_that_does_not_fit_waits_until_the_victim_is_buried() {
    let mut index = index(2);
    insert(&mut index, file(1, 1));
    insert(&mut index, file(2, 2));
    let (_, victims) = queued(index.reserve(BLOCK, 32, 7));
    assert_eq!(victims.iter().map(|it| it.file).collect::<Vec<_>>(), [file(1, 1)]);
    assert!(index.grant().is_empty(), "dying bytes are not free yet");
    index.check();
    for victim in victims {
        index.bury(victim);
    }
    let grants = index.grant();
    assert_eq!(grants.iter().map(|it| it.waker).collect::<Vec<_>>(), [7]);
    index.check();
}

#[test]
fn i13_what_pins_keep_is_told_from_what_ends_soon() {
    let mut index = index(10);
    (1..=6).for_each(|content| insert(&mut index, file(content, content.into())));
    for content in 1..=6 {
        let pinning = index.pin_ready(&file(content, content.into()).key, false);
        assert!(matches!(pinning, Pinning::Pinned(_)));
    }
    let _writing = claim(&mut index, 3 * BLOCK);
    queued(index.reserve(2 * BLOCK, 32, 7));
    assert!(!index.is_kept_by_pins(2 * BLOCK), "once the write has ended it fits");
    assert!(!index.is_kept_by_pins(4 * BLOCK));
    assert!(index.is_kept_by_pins(5 * BLOCK));
}

#[test]
fn i7_a_late_removal_does_not_touch_a_newer_generation() {
    let mut index = index(4);
    insert(&mut index, file(1, 1));
    let old = remove(&mut index, &file(1, 1)).unwrap();
    insert(&mut index, file(1, 2));
    assert_eq!(remove(&mut index, &file(1, 1)), None);
    index.bury(old);
    assert!(index.peek(&file(1, 2).key).is_some());
    index.check();
}

#[test]
fn i12_a_burst_is_capped_and_the_rest_keeps_its_order() {
    let mut index = index(64);
    for content in 0..64 {
        insert(&mut index, file(content, u64::from(content)));
    }
    let (_, victims) = queued(index.reserve(64 * BLOCK, 32, 0));
    let taken: Vec<_> = victims.iter().map(|it| it.file.generation.0).collect();
    assert_eq!(taken, (0..32).collect::<Vec<_>>());
    let rest: Vec<_> = index.evict_to_low_water(64).into_iter().collect();
    let order: Vec<_> = rest.iter().map(|it| it.file.generation.0).collect();
    assert_eq!(order, (32..64).collect::<Vec<_>>());
    for victim in victims.into_iter().chain(rest) {
        index.bury(victim);
    }
    assert_eq!(index.grant().len(), 1);
    index.check();
}

#[test]
fn i14_a_touch_moves_to_the_young_end() {
    let mut index = index(3);
    for content in 0..3 {
        insert(&mut index, file(content, u64::from(content)));
    }
    assert!(touch(&mut index, &file(0, 0).key));
    let (_, victims) = queued(index.reserve(BLOCK, 32, 0));
    assert_eq!(victims.first().map(|it| it.file), Some(file(1, 1)));
}

#[test]
fn the_queue_is_served_in_order_and_a_small_save_passes_nobody() {
    let mut index = index(4);
    let _claim = claim(&mut index, 3 * BLOCK);
    let (first, _) = queued(index.reserve(4 * BLOCK, 32, 1));
    let (_, _) = queued(index.reserve(BLOCK, 32, 2));
    assert!(index.grant().is_empty());
    assert!(index.cancel(first));
    let woken: Vec<_> = index.grant().into_iter().map(|it| it.waker).collect();
    assert_eq!(woken, [2]);
    assert!(!index.cancel(first));
    index.check();
}

#[test]
fn a_value_over_the_cap_is_refused_and_evicts_nothing() {
    let mut index = index(2);
    insert(&mut index, file(1, 1));
    assert!(matches!(index.reserve(3 * BLOCK, 32, 0), Reserve::Never));
    assert_eq!(index.len(), 1);
}

#[test]
fn i1_bytes_that_a_reader_holds_stay_charged_after_the_unlink() {
    let mut index = index(2);
    insert(&mut index, file(1, 1));
    let found = index.open(&file(1, 1).key, Use::Touch).unwrap();
    let victim = remove(&mut index, &file(1, 1)).unwrap();
    index.bury(victim);
    assert_eq!(index.ledger().dying_bytes, BLOCK);
    index.check();
    index.close_reader(&found);
    assert_eq!(index.ledger().dying_bytes, 0);
    assert_eq!(index.pending(), (0, 0, 0));
    index.check();
}

#[test]
fn an_action_result_is_replaced_and_the_earlier_one_is_a_victim() {
    let mut index = index(4);
    insert(&mut index, result_file(1));
    let claim = claim(&mut index, BLOCK);
    let outcome = index.publish(result_file(2), claim, BLOCK);
    assert!(matches!(outcome, Publish::Replaced(ref victim) if victim.file == result_file(1)));
    assert_eq!(index.peek(&result_file(2).key).unwrap().file, result_file(2));
    index.check();
}

#[test]
fn i5_a_second_upload_of_a_blob_loses_and_its_file_is_the_victim() {
    let mut index = index(4);
    insert(&mut index, file(1, 1));
    let claim = claim(&mut index, BLOCK);
    let outcome = index.publish(file(1, 2), claim, BLOCK);
    let Publish::Lost(victim) = outcome else { panic!("{outcome:?}") };
    assert_eq!(victim.file, file(1, 2));
    index.check();
    index.bury(victim);
    assert_eq!(index.peek(&file(1, 1).key).unwrap().file, file(1, 1));
    index.check();
}

#[test]
fn i19_of_two_generations_the_newest_is_adopted_in_either_order() {
    for order in [[1, 2], [2, 1]] {
        let mut index = index(4);
        index.begin_loading(UnreadShards::AtMost(2 * BLOCK), 2);
        let records = order.map(|it| record(file(1, it)));
        let victims = index.load_shard(Shard::of(&file(1, 1).key), &records, 0, 0);
        assert_eq!(victims.iter().map(|it| it.file.generation.0).collect::<Vec<_>>(), [1]);
        assert_eq!(index.peek(&file(1, 2).key).unwrap().file, file(1, 2));
        index.check();
    }
}

#[test]
fn i4_closing_twice_is_counted_not_wrapped() {
    let mut index = index(2);
    insert(&mut index, file(1, 1));
    let found = index.open(&file(1, 1).key, Use::Touch).unwrap();
    let victim = remove(&mut index, &file(1, 1)).unwrap();
    index.bury(victim);
    index.close_reader(&found);
    index.close_reader(&found);
    let books = index.ledger();
    assert_eq!((books.dying_bytes, books.ledger_errors), (0, 1));
}

#[test]
fn nothing_more_is_evicted_where_nothing_can_be_unlinked() {
    let mut index = index(200);
    for content in 0..200 {
        insert(&mut index, file(content, u64::from(content)));
    }
    let (_, mut stuck) = queued(index.reserve(100 * BLOCK, 32, 0));
    while stuck.len() < MAX_FAILURES_IN_A_ROW {
        stuck.extend(index.evict_to_low_water(MAX_FAILURES_IN_A_ROW - stuck.len()));
    }
    for victim in &mut stuck {
        index.stick(victim);
    }
    assert!(index.evict_to_low_water(64).is_empty());
    assert_eq!(index.len(), 200 - MAX_FAILURES_IN_A_ROW);
    // One success says that it works again.
    index.bury(stuck.pop().unwrap());
    assert_eq!(index.evict_to_low_water(64).len(), 64);
}

#[test]
fn where_the_disk_has_little_the_room_kept_free_does_not_take_all_of_it() {
    // A hundredth of the cap is more than the disk allows.
    let kept = Limits { low_water_bytes: 100 * BLOCK, ..limits(10_000) };
    let mut index: Index<u32> = Index::new(kept, 1000);
    index.set_limit(50 * BLOCK);
    for content in 0..40 {
        insert(&mut index, file(content, u64::from(content)));
    }
    assert!(!index.wants_eviction());
    assert!(index.evict_to_low_water(64).is_empty(), "what was just stored stays");
}
