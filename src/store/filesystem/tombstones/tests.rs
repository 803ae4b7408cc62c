//! Goal: the log and its file keep the last removals and never invent one. Method: every bit of a
//! file changed, every prefix of it, and random pushes, writes and restarts.

use proptest::prelude::*;

use super::*;

fn digest(seed: u64) -> Digest {
    Digest::of(DigestFunction::Blake3, &seed.to_le_bytes())
}

fn tombstone(seed: u64) -> Tombstone {
    Tombstone {
        key: Key::blob(digest(seed)),
        generation: Generation(seed),
        removed_at: 1_800_000_000 + seed,
        reason: Reason::Evicted,
        unused_seconds: Some(3_600),
        age_seconds: None,
    }
}

/// What a disk does with the unwritten records.
fn write_out(log: &mut Tombstones, file: &mut Vec<u8>, max: usize) -> usize {
    let records = log.take_unwritten(max);
    for (offset, record) in &records {
        let at = usize::try_from(*offset).unwrap();
        file.resize(file.len().max(at + RECORD_BYTES), 0);
        file[at..at + RECORD_BYTES].copy_from_slice(record);
    }
    records.len()
}

fn seeds(log: &Tombstones, below: u64) -> Vec<u64> {
    (0..below).filter(|seed| !log.find(&digest(*seed)).is_empty()).collect()
}

fn scan(bytes: &[u8], digest: &Digest) -> Vec<Tombstone> {
    super::scan(bytes, |it| it.is_of(digest)).0
}

#[test]
fn a_removal_is_found_with_everything_that_was_noted() {
    let digest = digest(7);
    let action = Key::action_result(Namespace::of_instance("main"), digest);
    let mut log = Tombstones::new(100);
    let mut noted = Vec::new();
    for (at, reason) in Reason::ALL.into_iter().enumerate() {
        let key = if at % 2 == 0 { Key::blob(digest) } else { action };
        let seconds = u32::try_from(at).unwrap();
        noted.push(Tombstone {
            key,
            reason,
            removed_at: MAX_SHORT - at as u64,
            unused_seconds: (at != 3).then_some(seconds),
            age_seconds: (at != 5).then_some(u32::MAX - 1 - seconds),
            ..tombstone(7)
        });
    }
    for it in &noted {
        log.push(&tombstone(8));
        log.push(it);
    }
    noted.reverse();
    assert_eq!(log.find(&digest), noted);
    let mut file = Vec::new();
    assert_eq!(write_out(&mut log, &mut file, usize::MAX), 14);
    assert_eq!(scan(&file, &digest), noted);
    let other = Digest { size_bytes: 9, ..digest };
    let results = noted.iter().filter(|it| it.key.kind == Kind::ActionResult);
    let results: Vec<Tombstone> = results.copied().collect();
    assert_eq!((log.find(&other), scan(&file, &other)), (results.clone(), results));
    let other = Digest { function: DigestFunction::Sha256, ..digest };
    assert_eq!((log.find(&other), scan(&file, &other)), (Vec::new(), Vec::new()));
}

#[test]
fn numbers_out_of_range_become_the_largest() {
    let mut log = Tombstones::new(1);
    let it = Tombstone {
        removed_at: u64::MAX,
        unused_seconds: Some(u32::MAX),
        age_seconds: Some(u32::MAX),
        ..tombstone(1)
    };
    log.push(&it);
    let found = log.find(&digest(1));
    let most = Some(u32::MAX - 1);
    assert_eq!(
        found,
        [Tombstone { removed_at: MAX_SHORT, unused_seconds: most, age_seconds: most, ..it }]
    );
}

#[test]
fn the_ring_keeps_the_last_and_its_file_does_too() {
    let mut log = Tombstones::new(5);
    let mut file = Vec::new();
    for seed in 0..13 {
        log.push(&tombstone(seed));
        write_out(&mut log, &mut file, usize::MAX);
        assert!(file.len() <= 5 * RECORD_BYTES);
    }
    assert_eq!(seeds(&log, 20), [8, 9, 10, 11, 12]);
    let mut again = Tombstones::recover(&file, 5);
    assert_eq!(seeds(&again, 20), [8, 9, 10, 11, 12]);
    assert_eq!(again.take_unwritten(usize::MAX), []);
    again.push(&tombstone(13));
    let expected_offset = 13 % 5 * RECORD_BYTES as u64;
    assert_eq!(again.take_unwritten(usize::MAX)[0].0, expected_offset);
    assert_eq!(seeds(&again, 20), [9, 10, 11, 12, 13]);
}

#[test]
fn unwritten_records_come_oldest_first_and_once() {
    let mut log = Tombstones::new(4);
    (0..3).for_each(|seed| log.push(&tombstone(seed)));
    let offsets = |taken: Vec<(u64, Encoded)>| -> Vec<u64> {
        taken.into_iter().map(|(offset, _)| offset / RECORD_BYTES as u64).collect()
    };
    assert_eq!(offsets(log.take_unwritten(2)), [0, 1]);
    (3..9).for_each(|seed| log.push(&tombstone(seed)));
    // 2 to 4 were pushed out before they could be written.
    assert_eq!(offsets(log.take_unwritten(3)), [1, 2, 3]);
    assert_eq!(offsets(log.take_unwritten(3)), [0]);
    assert_eq!(offsets(log.take_unwritten(3)), [] as [u64; 0]);
}

#[test]
fn a_log_without_capacity_keeps_nothing() {
    let mut log = Tombstones::new(0);
    log.push(&tombstone(1));
    assert_eq!((log.find(&digest(1)), log.take_unwritten(9)), (Vec::new(), Vec::new()));
    let mut full = Tombstones::new(3);
    full.push(&tombstone(1));
    let mut file = Vec::new();
    write_out(&mut full, &mut file, 9);
    let mut log = Tombstones::recover(&file, 0);
    log.push(&tombstone(1));
    assert_eq!((log.find(&digest(1)), log.take_unwritten(9)), (Vec::new(), Vec::new()));
}

#[test]
fn a_file_of_another_capacity_is_laid_out_anew() {
    for (before, after, kept) in [(4, 7, 6..10), (7, 4, 6..10), (7, 5, 5..10)] {
        let mut log = Tombstones::new(before);
        let mut file = Vec::new();
        (0..10).for_each(|seed| log.push(&tombstone(seed)));
        write_out(&mut log, &mut file, usize::MAX);
        let mut log = Tombstones::recover(&file, after);
        let kept: Vec<u64> = kept.collect();
        assert_eq!(seeds(&log, 20), kept);
        write_out(&mut log, &mut file, usize::MAX);
        assert!(kept.iter().all(|seed| scan(&file, &digest(*seed)).len() == 1));
        let mut log = Tombstones::recover(&file, after);
        assert_eq!(seeds(&log, 20), kept);
        assert_eq!(log.take_unwritten(usize::MAX), [], "{before} to {after}");
    }
}

#[test]
fn no_changed_byte_is_believed() {
    let mut log = Tombstones::new(3);
    (0..3).for_each(|seed| log.push(&tombstone(seed)));
    let mut file = Vec::new();
    write_out(&mut log, &mut file, usize::MAX);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let lost = (at / RECORD_BYTES) as u64;
            let kept: Vec<u64> = (0..3).filter(|seed| *seed != lost).collect();
            assert_eq!(seeds(&Tombstones::recover(&damaged, 3), 9), kept, "{at}.{bit}");
            assert_eq!(scan(&damaged, &digest(lost)), []);
        }
    }
    for length in 0..file.len() {
        let kept: Vec<u64> = (0..(length / RECORD_BYTES) as u64).collect();
        assert_eq!(seeds(&Tombstones::recover(&file[..length], 3), 9), kept);
    }
}

#[test]
fn a_sequence_that_no_log_reaches_is_damage() {
    let file = [encode(u64::MAX, &tombstone(1)), encode(4, &tombstone(2))].concat();
    let mut log = Tombstones::recover(&file, 9);
    log.push(&tombstone(3));
    assert_eq!(seeds(&log, 9), [2, 3]);
    let file = encode(MAX_SEQUENCE, &tombstone(1));
    let mut log = Tombstones::recover(&file, 9);
    log.push(&tombstone(2));
    assert_eq!(seeds(&log, 9), [1, 2]);
}

#[test]
fn a_log_takes_a_small_part_of_the_cap() {
    for cap_bytes in [0, 1, 128 << 10, (1 << 20) - 1] {
        assert_eq!(capacity_for(cap_bytes), 0, "{cap_bytes}");
    }
    for shift in 20..64 {
        let capacity = capacity_for(1 << shift);
        let blocks = (capacity * RECORD_BYTES).div_ceil(4096) as u64;
        assert!(capacity > 0 && blocks * 4096 <= (1 << shift) / 256, "2^{shift}");
    }
    assert_eq!((capacity_for(2 << 30), capacity_for(u64::MAX)), (65_536, 65_536));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_happens_the_file_is_the_end_of_the_log(
        capacity in 1_usize..9,
        steps in prop::collection::vec((0_u8..8, 0_usize..4), 0..60),
    ) {
        let (mut log, mut file, mut pushed) = (Tombstones::new(capacity), Vec::new(), 0);
        for (step, max) in steps {
            match step {
                0 => {
                    write_out(&mut log, &mut file, usize::MAX);
                    log = Tombstones::recover(&file, capacity);
                }
                1 => drop(write_out(&mut log, &mut file, max)),
                _ => {
                    log.push(&tombstone(pushed));
                    pushed += 1;
                }
            }
            let first = pushed.saturating_sub(capacity as u64);
            prop_assert_eq!(seeds(&log, pushed), (first..pushed).collect::<Vec<_>>());
            prop_assert!(file.len() <= capacity * RECORD_BYTES);
        }
    }

    #[test]
    fn noise_holds_no_removals(noise in any::<Vec<u8>>(), capacity in 0_usize..9) {
        let log = Tombstones::recover(&noise.repeat(20), capacity);
        prop_assert!(log.records.is_empty());
    }
}
