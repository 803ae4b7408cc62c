//! Whatever another server has left is served from the first request on, before, while and after
//! it is taken over, and nothing that lies; with `--adopt=link` the other server loses nothing.

use super::asking::Asker;
use super::fixtures::manifest::{Expectation, Kind};
use super::fixtures::site::Layout;
use super::sites::{Site, scrape};
use super::{MANGLED_FOR, blobs};
use crate::support::Process;

/// Two clients who ask for everything, each from its end.
async fn everything_is_right(process: &Process, site: &Site) {
    let forward = site.lines();
    let backward: Vec<_> = forward.iter().rev().copied().collect();
    let one = Asker::new(process, site, "").await;
    let mut other = Asker::new(process, site, "").await;
    other.asks_first = false;
    tokio::join!(one.ask(&forward, site.blobs()), other.ask(&backward, site.blobs()));
}

async fn is_served(layout: Layout, adopt: &'static str) {
    let site = Site::new(layout, blobs(), adopt);
    let (foreign, originals) = (site.foreign(), site.originals());
    let process = site.start();
    everything_is_right(&process, &site).await;
    site.walk_ends(&process).await;
    everything_is_right(&process, &site).await;
    site.ledger_is_du(&process).await;
    assert!(scrape(&process).sum("castellan_store_former_taken_over_total", &[]) >= blobs());
    assert_eq!(process.stop().await.code(), Some(0));
    site.is_as_it_should_be(&foreign, &originals);
    let process = site.start();
    everything_is_right(&process, &site).await;
    site.walk_ends(&process).await;
    site.ledger_is_du(&process).await;
    assert_eq!(process.stop().await.code(), Some(0));
    site.is_as_it_should_be(&foreign, &originals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nativelinks_blobs_are_served() {
    is_served(Layout::Nativelink, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_nativelinks_blobs_are_served() {
    is_served(Layout::NativelinkFlat, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nativelinks_results_are_served() {
    is_served(Layout::NativelinkAc, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bazel_remotes_casblobs_results_and_raw_values_are_served() {
    is_served(Layout::BazelRemote, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bazel_remotes_uncompressed_blobs_are_served() {
    is_served(Layout::BazelRemoteV1, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nativelink_can_be_gone_back_to() {
    is_served(Layout::Nativelink, "link").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_nativelink_can_be_gone_back_to() {
    is_served(Layout::NativelinkFlat, "link").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nativelinks_results_can_be_gone_back_to() {
    is_served(Layout::NativelinkAc, "link").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bazel_remote_can_be_gone_back_to() {
    is_served(Layout::BazelRemote, "link").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uncompressed_bazel_remote_can_be_gone_back_to() {
    is_served(Layout::BazelRemoteV1, "link").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mangled_results_are_served_to_their_instance_only() {
    let site = Site::mangled(300);
    let process = site.start();
    let own = Asker::new(&process, &site, MANGLED_FOR).await;
    let other = Asker::new(&process, &site, "another").await;
    let results: Vec<_> =
        site.lines().into_iter().filter(|line| line.kind == Kind::Result).collect();
    for _ in ["while they are taken over", "then"] {
        own.ask(&results, site.blobs()).await;
        for line in results.iter().filter(|line| line.expectation == Expectation::Good) {
            assert!(other.result(&line.digest).await.is_err(), "{line}");
        }
        site.walk_ends(&process).await;
    }
}
