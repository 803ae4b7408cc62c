//! Kills while everything is taken over.
//!
//! `CASTELLAN_KILLS` says how many there are in all (16).

use super::asking::Asker;
use super::fixtures::manifest::Line;
use super::fixtures::site::Layout;
use super::sites::Site;
use crate::support::{Process, random_of};

const DEFAULT_KILLS: usize = 16;
/// Of one directory.
const MAX_KILLS: usize = 4;
/// Calls that are answered before a kill, at most.
const MAX_CALLS: usize = 12;
const BLOBS: u64 = 400;

/// Each site with each way to adopt.
const WAYS: [(Layout, &str); 6] = [
    (Layout::Nativelink, "move"),
    (Layout::BazelRemote, "move"),
    (Layout::NativelinkAc, "link"),
    (Layout::BazelRemoteV1, "link"),
    (Layout::NativelinkFlat, "move"),
    (Layout::BazelRemote, "link"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_random_kills_in_the_walk_lose_nothing() {
    let kills = std::env::var("CASTELLAN_KILLS").ok();
    let kills = kills.map_or(DEFAULT_KILLS, |it| it.parse().unwrap());
    let mut random = random_of("kills in the walk");
    let mut killed = 0;
    for (layout, adopt) in WAYS.into_iter().cycle() {
        let site = Site::new(layout, BLOBS, adopt);
        let (foreign, originals) = (site.foreign(), site.originals());
        for _ in 0..MAX_KILLS.min(kills - killed) {
            let mut lines = site.lines();
            random.shuffle(&mut lines);
            let process = site.start();
            let calls = random.usize(..MAX_CALLS);
            ask_some(&process, &site, &lines, calls).await;
            process.kill();
            killed += 1;
        }
        let process = site.start();
        let lines = site.lines();
        Asker::new(&process, &site, "").await.ask(&lines, site.blobs()).await;
        site.walk_ends(&process).await;
        site.ledger_is_du(&process).await;
        Asker::new(&process, &site, "").await.ask(&lines, site.blobs()).await;
        site.ledger_is_du(&process).await;
        assert_eq!(process.stop().await.code(), Some(0));
        site.is_as_it_should_be(&foreign, &originals);
        if killed == kills {
            break;
        }
    }
    println!("{killed} kills in the walk");
}

async fn ask_some(process: &Process, site: &Site, lines: &[&Line], calls: usize) {
    let asker = Asker::new(process, site, "").await;
    for some in lines.chunks(3).take(calls) {
        asker.ask(some, site.blobs()).await;
    }
}
