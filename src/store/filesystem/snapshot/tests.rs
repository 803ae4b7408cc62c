//! Goal: a snapshot gives back exactly what was written, or an error. Method: random snapshots,
//! every byte of a small one changed, every prefix of it, and parts put where they do not belong.

use proptest::prelude::*;

use super::reader::ShardSummary;
use super::record::{MAX_RECORD_BYTES, record_bytes};
use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::filesystem::fields::MAX_SHORT;
use crate::store::filesystem::layout::{FileName, Generation, MAX_VALUE_BYTES};
use crate::store::{Key, Kind, Namespace};

/// The seed of a record's hash decides on its shard.
fn record(kind: Kind, function: DigestFunction, seed: u64, stamp: u64) -> Record {
    let digest = Digest::of(function, &seed.to_le_bytes());
    let (key, len_bytes) = match kind {
        Kind::Blob => (Key::blob(digest), digest.size_bytes),
        Kind::ActionResult => {
            (Key::action_result(Namespace::of_instance("main"), digest), 300 + seed % 50)
        }
    };
    Record {
        file: FileName::own(key, len_bytes, Generation(seed + 1)),
        charge_bytes: 4096,
        variant_bytes: if seed.is_multiple_of(3) { 4096 } else { 0 },
        stamp,
        is_leased: seed.is_multiple_of(2),
        is_suspect: seed.is_multiple_of(5),
    }
}

fn blob(seed: u64, stamp: u64) -> Record {
    record(Kind::Blob, DigestFunction::Sha256, seed, stamp)
}

fn summary() -> Summary {
    Summary {
        clock: 1 << 50,
        timeline: vec![(5, 1_799_999_000), (9, 1_799_999_500)],
        foreign_bytes: 12_288,
    }
}

fn write(records: &[Record], summary: &Summary) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(&mut bytes).unwrap();
    for shard in Shard::all() {
        let mine = records.iter().filter(|it| Shard::of(&it.file.key) == shard);
        if mine.clone().next().is_some() {
            writer.section(shard, mine.copied()).unwrap();
            writer.shard_directory_bytes(shard, 4096).unwrap();
        }
    }
    let total_bytes = writer.finish(summary).unwrap();
    assert_eq!(total_bytes, bytes.len() as u64);
    assert!(total_bytes <= upper_bound(records.len() as u64));
    bytes
}

fn upper_bound(entries: u64) -> u64 {
    snapshot_bytes_upper_bound(entries, Shard::COUNT, Summary::MAX_TIMELINE)
}

fn part(bytes: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
    assert!(len < 1 << 16, "{len} bytes at once");
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
    let part = rest.and_then(|rest| rest.get(..len));
    part.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn parse(bytes: &[u8]) -> Result<SnapshotIndex, SnapshotError> {
    SnapshotIndex::parse(bytes.len() as u64, |offset, len| part(bytes, offset, len))
}

fn section<'a>(index: &SnapshotIndex, bytes: &'a [u8], shard: Shard) -> Option<&'a [u8]> {
    let (offset, len) = index.section_range(shard)?;
    bytes.get(usize::try_from(offset).unwrap()..)?.get(..len)
}

/// Everything that a start would read.
fn read(bytes: &[u8]) -> Result<(Summary, Vec<Record>), SnapshotError> {
    let index = parse(bytes)?;
    let mut records = Vec::new();
    for shard in Shard::all() {
        if let Some(section) = section(&index, bytes, shard) {
            index.decode_section(shard, section, &mut records)?;
        }
    }
    Ok((index.summary().clone(), records))
}

/// In the order of a snapshot.
fn in_order(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    records.sort_by_key(|it| (Shard::of(&it.file.key), it.stamp, it.file.generation));
    records
}

fn some_records() -> Vec<Record> {
    let kinds = [Kind::Blob, Kind::ActionResult];
    let classes = kinds.into_iter().flat_map(|kind| DigestFunction::ALL.map(|it| (kind, it)));
    let seeds = classes.flat_map(|class| [0, 1, 2, 3, 4].map(|seed| (class, seed)));
    seeds.map(|((kind, function), seed)| record(kind, function, seed, 90 - seed)).collect()
}

/// So many blobs of one shard.
fn neighbours(count: usize) -> (Shard, Vec<Record>) {
    let shard = Shard::of(&blob(0, 0).file.key);
    let mine = |it: &Record| Shard::of(&it.file.key) == shard;
    (shard, (0..).map(|seed| blob(seed, seed * 7 % 11)).filter(mine).take(count).collect())
}

#[test]
fn what_is_written_is_read() {
    let records = some_records();
    let bytes = write(&records, &summary());
    assert_eq!(read(&bytes).unwrap(), (summary(), in_order(&records)));
    let index = parse(&bytes).unwrap();
    let trailer = &bytes[bytes.len() - tail::TRAILER_BYTES..];
    assert_eq!(index.identity(), blake3::hash(trailer).to_hex().as_str());
    for shard in Shard::all() {
        let mine = records.iter().filter(|it| Shard::of(&it.file.key) == shard);
        let expected = (mine.clone().count() > 0).then(|| ShardSummary {
            records: u32::try_from(mine.clone().count()).unwrap(),
            charge_bytes: mine.map(Record::total_bytes).sum(),
            directory_bytes: 4096,
        });
        assert_eq!(index.shard(shard), expected);
        assert_eq!(index.section_range(shard).is_some(), expected.is_some());
    }
}

#[test]
fn an_empty_store_has_a_snapshot() {
    for summary in [Summary::default(), summary()] {
        let bytes = write(&[], &summary);
        assert_eq!(read(&bytes).unwrap(), (summary, Vec::new()));
    }
}

#[test]
fn a_directory_without_records_is_known() {
    let (first, second) = (Shard::all().next().unwrap(), Shard::all().nth(1).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(&mut bytes).unwrap();
    writer.shard_directory_bytes(second, 0).unwrap();
    writer.section(first, std::iter::empty()).unwrap();
    writer.finish(&Summary::default()).unwrap();
    let index = parse(&bytes).unwrap();
    let known = ShardSummary { records: 0, charge_bytes: 0, directory_bytes: 0 };
    assert_eq!((index.shard(first), index.shard(second)), (None, Some(known)));
    assert_eq!(index.section_range(second), None);
    assert!(index.decode_section(second, &[], &mut Vec::new()).is_err());
}

#[test]
fn records_are_small_and_room_can_be_reserved_for_them() {
    assert!(record_bytes(Kind::Blob) < 68);
    assert_eq!(record_bytes(Kind::ActionResult), MAX_RECORD_BYTES);
    assert!(upper_bound(0) < 64 << 10);
    assert_eq!(upper_bound(u64::MAX), u64::MAX);
    // With every shard and the longest timeline.
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(&mut bytes).unwrap();
    Shard::all().for_each(|shard| writer.shard_directory_bytes(shard, 4096).unwrap());
    let timeline = vec![(1, 1); Summary::MAX_TIMELINE];
    let written = writer.finish(&Summary { timeline, ..summary() }).unwrap();
    assert_eq!(written, upper_bound(0));
    assert_eq!(parse(&bytes).unwrap().summary().timeline.len(), Summary::MAX_TIMELINE);
}

#[test]
fn the_largest_values_fit_and_larger_ones_are_refused() {
    let largest = |mut it: Record| {
        it.file.generation = Generation(Generation::first_of_epoch(Generation::MAX_EPOCH).0 - 1);
        it.file.len_bytes = MAX_VALUE_BYTES;
        it.file.key.digest.size_bytes = match it.file.key.kind {
            Kind::Blob => MAX_VALUE_BYTES,
            Kind::ActionResult => 0,
        };
        Record { charge_bytes: MAX_SHORT, variant_bytes: MAX_SHORT, stamp: u64::MAX - 1, ..it }
    };
    let records: Vec<Record> = some_records().into_iter().map(largest).collect();
    let summary = Summary { clock: u64::MAX, ..summary() };
    assert_eq!(read(&write(&records, &summary)).unwrap(), (summary, in_order(&records)));

    let first = blob(1, 1);
    let other_length = FileName { len_bytes: 9, ..first.file };
    let spoiled_epoch = Generation::first_of_epoch(Generation::MAX_EPOCH);
    let mut too_long = first.file;
    too_long.len_bytes = MAX_VALUE_BYTES + 1;
    too_long.key.digest.size_bytes = MAX_VALUE_BYTES + 1;
    let mut of_somebody = first.file;
    of_somebody.key.namespace = Namespace::of_instance("main");
    for refused in [
        Record { charge_bytes: MAX_SHORT + 1, ..first },
        Record { variant_bytes: MAX_SHORT + 1, ..first },
        Record { file: too_long, ..first },
        Record { file: other_length, ..first },
        Record { file: of_somebody, ..first },
        Record { file: FileName { generation: spoiled_epoch, ..first.file }, ..first },
    ] {
        let mut writer = SnapshotWriter::new(Vec::new()).unwrap();
        let shard = Shard::of(&refused.file.key);
        let error = writer.section(shard, [refused].into_iter()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{refused:?}");
    }
}

#[test]
fn a_writer_refuses_what_could_not_be_read() {
    let (shard, records) = neighbours(2);
    let other = Shard::all().find(|it| *it < shard).unwrap();
    let writer = || SnapshotWriter::new(Vec::new()).unwrap();
    assert!(writer().section(other, records.iter().copied()).is_err(), "another shard");
    let mut late = writer();
    late.section(shard, records.iter().copied()).unwrap();
    assert!(late.section(shard, std::iter::empty()).is_err(), "twice");
    assert!(late.section(other, std::iter::empty()).is_err(), "too late");
    for clock in [0, 1, records[0].stamp, records[1].file.generation.0] {
        let mut behind = writer();
        behind.section(shard, records.iter().copied()).unwrap();
        assert!(behind.finish(&Summary { clock, ..summary() }).is_err(), "{clock}");
    }
    let timeline = vec![(0, 0); Summary::MAX_TIMELINE + 1];
    assert!(writer().finish(&Summary { timeline, ..summary() }).is_err());
}

#[test]
fn records_of_one_stamp_are_sorted_by_generation() {
    let (_, mut records) = neighbours(9);
    for record in &mut records {
        record.stamp = 77;
    }
    records.rotate_left(4);
    assert_eq!(read(&write(&records, &summary())).unwrap().1, in_order(&records));
}

#[test]
fn no_changed_byte_is_believed() {
    let bytes = write(&some_records()[2..9], &summary());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "{at}.{bit}");
        }
    }
}

#[test]
fn no_part_is_believed() {
    let bytes = write(&some_records(), &summary());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "the first {length}");
        assert!(read(&bytes[bytes.len() - length..]).is_err(), "the last {length}");
    }
    for extra in [&b"\0"[..], &bytes] {
        assert!(read(&[&bytes, extra].concat()).is_err());
    }
    // What says it has more than it gives.
    let error = SnapshotIndex::parse(bytes.len() as u64, |_, _| Ok(Vec::new())).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged(_)), "{error}");
    let failing = |_, _| Err(io::ErrorKind::PermissionDenied.into());
    let error = SnapshotIndex::parse(bytes.len() as u64, failing).unwrap_err();
    assert!(matches!(error, SnapshotError::Io(_)), "{error}");
}

#[test]
fn a_section_belongs_to_its_shard_and_its_snapshot() {
    let (shard, mut records) = neighbours(2);
    let other = Shard::all().find(|it| *it > shard && it.kind() == shard.kind()).unwrap();
    let bytes = write(&records, &summary());
    let index = parse(&bytes).unwrap();
    let mine = section(&index, &bytes, shard).unwrap();
    assert_ne!(section_checksum(shard, mine), section_checksum(other, mine));
    assert!(index.decode_section(other, mine, &mut Vec::new()).is_err());
    assert!(index.decode_section(shard, &mine[1..], &mut Vec::new()).is_err());
    assert!(index.decode_section(shard, &[mine, mine].concat(), &mut Vec::new()).is_err());
    records[0].stamp += 1;
    let later = write(&records, &summary());
    let theirs = section(&parse(&later).unwrap(), &later, shard).unwrap();
    assert!(index.decode_section(shard, theirs, &mut Vec::new()).is_err());
}

#[test]
fn another_version_is_named() {
    let mut bytes = write(&[], &summary());
    *bytes.last_mut().unwrap() = b'2';
    assert!(matches!(parse(&bytes), Err(SnapshotError::Version)));
}

/// A snapshot with right checksums around whatever is wrong.
fn forge(sections: &[u8], directory: &[(u16, u32, u64, SectionChecksum)], count: u32) -> Vec<u8> {
    let mut tail = count.to_le_bytes().to_vec();
    for (shard, records, charge_bytes, checksum) in directory {
        tail.extend_from_slice(&shard.to_le_bytes());
        tail.extend_from_slice(&records.to_le_bytes());
        tail.extend_from_slice(&charge_bytes.to_le_bytes());
        tail.extend_from_slice(&[0; 8]);
        tail.extend_from_slice(checksum);
    }
    let nothing = tail::encode(&Directory::new(), &summary());
    tail.extend_from_slice(&nothing[4..]);
    let trailer = tail::Trailer::of((MAGIC.len() + sections.len()) as u64, &tail).encode();
    [&MAGIC[..], sections, &tail, &trailer].concat()
}

type Directory = tail::Directory;

#[test]
fn a_directory_must_make_sense_even_if_its_checksum_is_right() {
    let (shard, records) = neighbours(1);
    let index = u16::try_from(shard.index()).unwrap();
    let mut encoded = Vec::new();
    records[0].encode(shard, &mut encoded).unwrap();
    let sum = section_checksum(shard, &encoded);
    let charge = records[0].total_bytes();
    let entry = (index, 1, charge, sum);
    assert_eq!(read(&forge(&encoded, &[entry], 1)).unwrap().1, records);
    let end = u16::try_from(Shard::COUNT).unwrap();
    for (why, forged) in [
        ("more shards than it has", forge(&encoded, &[entry], 2)),
        ("absurdly many shards", forge(&encoded, &[entry], u32::MAX)),
        ("fewer shards than it has", forge(&encoded, &[entry], 0)),
        ("a shard twice", forge(&encoded, &[entry, (index, 0, 0, sum)], 2)),
        ("falling shards", forge(&encoded, &[entry, (index - 1, 0, 0, sum)], 2)),
        ("no such shard", forge(&encoded, &[entry, (end, 0, 0, sum)], 2)),
        ("absurdly many records", forge(&encoded, &[(index, u32::MAX, charge, sum)], 1)),
        ("a gap", forge(&[&encoded[..], &[0]].concat(), &[entry], 1)),
        ("an overlap", forge(&encoded, &[entry, (index + 1, 1, charge, sum)], 2)),
        ("another charge", forge(&encoded, &[(index, 1, charge + 1, sum)], 1)),
    ] {
        assert!(read(&forged).is_err(), "{why}");
    }
}

#[test]
fn a_record_must_make_sense_even_if_its_checksum_is_right() {
    let (shard, records) = neighbours(2);
    let index = u16::try_from(shard.index()).unwrap();
    let charge = records.iter().map(Record::total_bytes).sum();
    let encode = |records: &[Record]| {
        let mut encoded = Vec::new();
        for record in records {
            record.encode(shard, &mut encoded).unwrap();
        }
        encoded
    };
    let forge = |encoded: &[u8]| {
        let entry = (index, 2, charge, section_checksum(shard, encoded));
        read(&forge(encoded, &[entry], 1))
    };
    let right = encode(&in_order(&records));
    assert!(forge(&right).is_ok());
    let mut falling = in_order(&records);
    falling.reverse();
    assert!(forge(&encode(&falling)).is_err(), "falling stamps");
    falling.reverse();
    falling[1].stamp = summary().clock;
    assert!(forge(&encode(&falling)).is_err(), "a stamp of the future");
    falling[1].stamp = 99;
    falling[1].file.generation = Generation(summary().clock);
    assert!(forge(&encode(&falling)).is_err(), "a generation of the future");
    let len = record_bytes(Kind::Blob);
    for (why, at, value) in [("its shard", 0, !right[0]), ("a flag", len - 1, 8), ("size", 37, 9)] {
        let mut wrong = right.clone();
        wrong[at] = value;
        assert!(forge(&wrong).is_err(), "{why}");
    }
}

prop_compose! {
    fn any_record(most: u64)(
        (is_blob, is_sha256, is_leased, is_suspect) in any::<(bool, bool, bool, bool)>(),
        hash in any::<[u8; 32]>(),
        size_bytes in any::<u64>(),
        namespace in any::<[u8; 16]>(),
        (len_bytes, charge_bytes, variant_bytes) in
            (0..=MAX_VALUE_BYTES, 0..=MAX_SHORT, 0..=MAX_SHORT),
        (generation, stamp) in (0..most, 0..most),
    ) -> Record {
        let function = if is_sha256 { DigestFunction::Sha256 } else { DigestFunction::Blake3 };
        // Few shards, so that sections have several records.
        let mut hash = hash;
        hash[0] &= 3;
        let key = if is_blob {
            Key::blob(Digest { function, hash, size_bytes: len_bytes })
        } else {
            Key::action_result(Namespace(namespace), Digest { function, hash, size_bytes })
        };
        let file = FileName::own(key, len_bytes, Generation(generation));
        Record { file, charge_bytes, variant_bytes, stamp, is_leased, is_suspect }
    }
}

const CLOCK: u64 = 1 << 60;

prop_compose! {
    fn any_summary()(
        foreign_bytes in any::<u64>(),
        timeline in prop::collection::vec(any::<(u64, u64)>(), 0..20),
    ) -> Summary {
        Summary { clock: CLOCK, timeline, foreign_bytes }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_snapshot_is_read_as_written(
        records in prop::collection::vec(any_record(CLOCK), 0..60),
        summary in any_summary(),
    ) {
        let bytes = write(&records, &summary);
        prop_assert_eq!(read(&bytes).unwrap(), (summary, in_order(&records)));
    }

    #[test]
    fn no_damage_gives_other_records(
        records in prop::collection::vec(any_record(CLOCK), 1..20),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        length in any::<prop::sample::Index>(),
    ) {
        let bytes = write(&records, &Summary { clock: CLOCK, ..Summary::default() });
        let mut damaged = bytes.clone();
        for (at, value) in places {
            damaged[at.index(bytes.len())] = value;
        }
        prop_assert!(damaged == bytes || read(&damaged).is_err());
        damaged.truncate(length.index(bytes.len()));
        prop_assert!(read(&damaged).is_err());
    }

    #[test]
    fn noise_is_no_snapshot(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        length in any::<u64>(),
    ) {
        let read_at = |_, len: usize| Ok(noise.iter().copied().cycle().take(len).collect());
        prop_assert!(SnapshotIndex::parse(length, read_at).is_err());
        prop_assert!(read(&noise).is_err());
    }
}
