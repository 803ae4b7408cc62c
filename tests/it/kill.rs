//! The program under SIGKILL at random moments, with writers and readers at work.
//!
//! `CASTELLAN_KILLS` says how many kills there are on the directory that is always full (40).

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::items::Mix;
use crate::support::load::Book;
use crate::support::wait::eventually;
use crate::support::{Client, Process, disk, random_of};

const DEFAULT_KILLS: usize = 40;
/// Acknowledged writes before a kill, at most.
const WRITES: usize = 80;
const CAP: u64 = 24 << 20;
/// What is said to be there stays until it has been read, and no longer than the next kill.
const FLAGS: [&str; 6] = ["--max-size", "24MiB", "--lease", "1min", "--log", "warn"];

fn kills() -> usize {
    let kills = std::env::var("CASTELLAN_KILLS").ok();
    kills.map_or(DEFAULT_KILLS, |it| it.parse().unwrap())
}

/// What the directory of a running server takes, by name and without.
async fn disk_bytes(process: &Process, root: &Path) -> u64 {
    let _paused = process.pause().await;
    disk::du(root) + disk::nameless_bytes(process.id(), root)
}

/// Waits until what is said to be there is what has a file.
async fn agrees_with_the_files(book: &Book, client: &Client, root: &Path) {
    let agree = || async { book.files(root) == book.ask(client, |_| false).await.present };
    eventually("what is present has a file, and the other way round", agree).await;
}

/// The store is always full, so that every kill is in the middle of evictions too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i19_i20_random_kills_of_a_full_store() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut random = random_of("a full store");
    let mut book = Book::new(random.u64(..1 << 31), Mix { small: 45, medium: 30, large: 5 });
    let mut process = Process::serve(root, &FLAGS);
    let mut gone_early = 0;
    for _ in 0..kills() {
        let address = process.grpc.clone();
        book.load(&address, random.usize(1..WRITES), async || process.kill()).await;
        process = Process::serve(root, &FLAGS);
        let client = Client::connect(&process.grpc).await;
        // Leases hold at most 80 % of the cap: what is over that its start may still evict.
        let first = book.ask(&client, |_| true).await;
        let promised = book.charge_bytes(&first.present);
        let is_over = promised > CAP / 10 * 8;
        assert!(is_over || first.lies.is_empty(), "present and unreadable: {first:?}");
        let kept: BTreeSet<u64> = first.present.difference(&first.lies).copied().collect();
        let kept = book.charge_bytes(&kept);
        assert!(!is_over || kept > CAP / 10 * 7, "{kept} of {promised} bytes kept");
        gone_early += first.lies.len();
        agrees_with_the_files(&book, &client, root).await;
        let answers = book.ask(&client, |_| true).await;
        assert_eq!(answers.lies.len(), 0, "present and unreadable: {answers:?}");
        assert!(answers.present.is_subset(&first.present), "what was missing came back");
        let bytes = disk_bytes(&process, root).await;
        assert!(bytes <= CAP, "{bytes} bytes on the disk");
    }
    let is_full = book.bytes > 2 * CAP;
    assert!(is_full || kills() < DEFAULT_KILLS, "the store was never full: {} bytes", book.bytes);
    println!(
        "a full store: {} kills, {} sent, {} acknowledged, {gone_early} evicted by starts",
        kills(),
        book.seeds().count(),
        book.acknowledged.len()
    );
}

/// Nothing is evicted: every acknowledged blob and result is there from the first request on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_i20_random_kills_lose_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut random = random_of("a store with room");
    let mut book = Book::new(random.u64(..1 << 31), Mix { small: 55, medium: 18, large: 2 });
    let mut process = Process::serve(root, &["--max-size", "4GiB", "--log", "warn"]);
    for round in 0..kills() / 2 {
        let address = process.grpc.clone();
        book.load(&address, random.usize(1..WRITES), async || process.kill()).await;
        process = Process::serve(root, &["--max-size", "4GiB", "--log", "warn"]);
        let client = Client::connect(&process.grpc).await;
        let answers = book.ask(&client, |_| true).await;
        assert_eq!(answers.lies.len(), 0, "present and unreadable: {answers:?}");
        let lost: Vec<_> = book.acknowledged.difference(&answers.present).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
        assert_eq!(book.files(root), answers.present, "files and answers");
    }
    println!(
        "a store with room: {} kills, {} sent, {} acknowledged, {} bytes",
        kills() / 2,
        book.seeds().count(),
        book.acknowledged.len(),
        book.bytes
    );
}
