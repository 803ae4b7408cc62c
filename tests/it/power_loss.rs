//! The machine loses its power at random moments, with writers and readers at work: what the
//! server says afterwards is true, and what it promised to keep is there.
//!
//! `CASTELLAN_POWER_CYCLES` says how many cuts there are in all (200), spread over two file
//! systems and three durability classes. Skips, with the reason printed, where no image of a file
//! system can be made and mounted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::images::{Cut, FileSystem, Image};
use crate::support::items::Mix;
use crate::support::load::{Answers, Book};
use crate::support::wait::eventually;
use crate::support::{Client, Process, disk, get, random_of};

const DEFAULT_CYCLES: usize = 200;
/// File systems times durability classes.
const TESTS: usize = 6;
/// Acknowledged writes before a cut, at most.
const WRITES: usize = 60;
const CAP: u64 = 160 << 20;
/// After so many bytes a new image is begun, long before anything must be evicted.
const BYTES_PER_IMAGE: u64 = CAP / 3;
/// What older cycles have left is read in samples.
const SAMPLE: u8 = 16;

fn cycles() -> usize {
    let cycles = std::env::var("CASTELLAN_POWER_CYCLES").ok();
    cycles.map_or(DEFAULT_CYCLES, |it| it.parse().unwrap()).div_ceil(TESTS)
}

fn serve(root: &Path, class: &str) -> Process {
    // Short enough for some rounds of syncs between two cuts.
    let classes = ["--durability", class, "--sync-interval", "50ms"];
    Process::serve(root, &[&["--max-size", "160MiB", "--log", "warn"], &classes[..]].concat())
}

/// What happened in the cycles of one test.
#[derive(Debug, Default)]
struct Summary {
    cuts: usize,
    sent: usize,
    /// Acknowledged and not lost before, after each cut.
    expected: usize,
    /// Of these, what was gone.
    lost: usize,
    /// Present and unreadable.
    lies: usize,
}

/// One image after the other until all cycles are done.
async fn cut_again_and_again(kind: FileSystem, class: &str) {
    let mut random = random_of(&format!("{kind:?}, {class}"));
    let mut summary = Summary::default();
    while summary.cuts < cycles() {
        let count = cycles() - summary.cuts;
        let mut image = match Image::make(kind) {
            Ok(image) => image,
            Err(reason) => return println!("skipped: {kind:?}, {class}: {reason}"),
        };
        one_image(&mut image, class, count, &mut random, &mut summary).await;
    }
    println!("{kind:?}, {class}: {summary:?}");
}

async fn one_image(
    image: &mut Image,
    class: &str,
    count: usize,
    random: &mut fastrand::Rng,
    summary: &mut Summary,
) {
    let root = image.path().join("store");
    let mut book = Book::new(random.u64(..1 << 31), Mix { small: 60, medium: 20, large: 1 });
    image.mount();
    let mut process = serve(&root, class);
    for cycle in 0..count {
        let cut = if cycle % 2 == 0 { Cut::LogFlushed } else { Cut::LogLost };
        let before = book.seeds().next_back().unwrap_or(0);
        process = end_without_a_cut(process, &root, class, &mut book, random).await;
        let address = process.grpc.clone();
        let (writes, is_synced) = (random.usize(0..WRITES), random.bool());
        book.load(&address, writes, async || {
            if is_synced {
                image.sync();
            }
            image.cut_power(cut);
        })
        .await;
        // Nothing can be written any more; that is no reason to be gone.
        assert_eq!(get(&process.http, "/livez").0, "HTTP/1.1 200 OK");
        process.kill();
        image.unmount();
        image.mount();
        let found = disk::files(&root);
        process = serve(&root, class);
        summary.cuts += 1;
        let is_last = cycle + 1 == count || book.bytes > BYTES_PER_IMAGE;
        let is_read = |seed| is_last || seed > before || random_sample(seed, cycle);
        let answers = what_is_left(&process, &root, &book, is_read).await;
        keeps_its_promise(class, &mut book, &answers, &found, summary);
        if is_last {
            break;
        }
    }
    assert!(book.bytes < CAP / 4 * 3, "something may have been evicted: {} bytes", book.bytes);
    summary.sent += book.seeds().count();
    drop(process);
    image.unmount();
}

/// Now and then there is another end before the cut: what it leaves has not reached the disk, and
/// the next process is not to take it for safe.
async fn end_without_a_cut(
    process: Process,
    root: &Path,
    class: &str,
    book: &mut Book,
    random: &mut fastrand::Rng,
) -> Process {
    let address = process.grpc.clone();
    match random.u8(..4) {
        0 => book.load(&address, random.usize(1..WRITES), async || process.kill()).await,
        1 => assert_eq!(process.stop().await.code(), Some(0)),
        _ => return process,
    }
    serve(root, class)
}

/// A part of the older items, another one in each cycle.
fn random_sample(seed: u64, cycle: usize) -> bool {
    let cycle = cycle as u64;
    fastrand::Rng::with_seed(seed ^ (cycle << 48)).u8(..SAMPLE) == 0
}

async fn what_is_left(
    process: &Process,
    root: &Path,
    book: &Book,
    is_read: impl Fn(u64) -> bool + Send + Sync,
) -> Answers {
    let client = Client::connect(&process.grpc).await;
    let answers = book.ask(&client, is_read).await;
    assert!(disk::du(root) <= CAP, "{} bytes on the disk", disk::du(root));
    assert!(answers.lies.is_empty(), "present and unreadable: {answers:?}");
    // What nobody vouches for any more goes too.
    let agree = || std::future::ready(book.files(root) == answers.present && !unfinished(root));
    eventually("what has a file is what is present", agree).await;
    answers
}

/// Whether a file of the store's own is being replaced, as in every sync interval.
fn unfinished(root: &Path) -> bool {
    disk::files(root).iter().any(|path| path.extension().is_some_and(|it| it == "new"))
}

fn keeps_its_promise(
    class: &str,
    book: &mut Book,
    answers: &Answers,
    found: &[PathBuf],
    summary: &mut Summary,
) {
    let there: BTreeSet<u64> = answers.present.difference(&answers.lies).copied().collect();
    let lost: Vec<u64> = book.acknowledged.difference(&there).copied().collect();
    if class != "async" && !lost.is_empty() {
        for seed in &lost {
            let item = book.item(*seed);
            let hash = item.digest.hash_hex();
            let files = found.iter().filter(|it| it.to_string_lossy().contains(hash.as_str()));
            let files: Vec<_> = files.map(|it| (it, it.metadata().map(|it| it.len()))).collect();
            println!("{seed}: {:?}, {} bytes: {files:?}", item.digest, item.value.len());
        }
        panic!("{class}: acknowledged and lost: {lost:?}");
    }
    summary.expected += book.acknowledged.len();
    summary.lost += lost.len();
    summary.lies += answers.lies.len();
    // What is lost is lost: only what is there now can be lost again.
    for seed in lost {
        book.acknowledged.remove(&seed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_power_loss_on_ext4_async() {
    cut_again_and_again(FileSystem::Ext4, "async").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_power_loss_on_ext4_group() {
    cut_again_and_again(FileSystem::Ext4, "group").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_power_loss_on_ext4_fsync() {
    cut_again_and_again(FileSystem::Ext4, "fsync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_power_loss_on_xfs_async() {
    cut_again_and_again(FileSystem::Xfs, "async").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_power_loss_on_xfs_group() {
    cut_again_and_again(FileSystem::Xfs, "group").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_power_loss_on_xfs_fsync() {
    cut_again_and_again(FileSystem::Xfs, "fsync").await;
}
