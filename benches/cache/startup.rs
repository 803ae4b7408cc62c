//! What a start on a full directory costs: `cargo bench -- startup --entries 1000000`.
//!
//! Each start is timed from the spawn to the ready line; then the first question is asked, about
//! as many blobs that are there as are not, and must be answered exactly; then the server is
//! watched until it does nothing any more. What the directory's entries take in memory is what
//! the server takes more than one on an empty directory.

use std::path::Path;
use std::time::Duration;

use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::FindMissingBlobsRequest;
use tokio::time::Instant;

use super::process::ServerProcess;
use super::{data, generate};

pub(crate) const DEFAULT_ENTRIES: u64 = 1_000_000;
/// Digests of each kind in the first question.
const ASKED: u32 = 1000;
/// Room for a block, and the directories, of each entry.
const CAP_BYTES_PER_ENTRY: u64 = 8 << 10;
/// Between two looks at what the server does.
const PAUSE: Duration = Duration::from_millis(10);
/// So many looks at a server that does nothing, and it has nothing left to do.
const QUIET_LOOKS: u32 = 20;
/// CPU time between two looks that is nothing.
const QUIET: Duration = Duration::from_micros(500);

/// Starts after a kill and after a stop, as often as there are rounds.
pub(crate) async fn run(directory: &Path, rounds: usize, entries: u64) {
    let cap = (entries * CAP_BYTES_PER_ENTRY).max(1 << 30).to_string();
    let empty = tempfile::tempdir_in(directory).unwrap();
    let mut server = ServerProcess::with_cap(empty.path(), &cap).await;
    quiet(&mut server).await;
    let empty_bytes = server.resident_bytes();
    drop(server);

    let full = tempfile::tempdir_in(directory).unwrap();
    let start = Instant::now();
    generate::fill(full.path(), entries);
    println!("{entries} entries, made in {} s", start.elapsed().as_secs());
    // Nobody vouches for what a generator has made: the first server hashes it all.
    let start = Instant::now();
    let mut server = ServerProcess::with_cap(full.path(), &cap).await;
    quiet(&mut server).await;
    server.stop();
    println!("hashed in {} s", start.elapsed().as_secs());
    println!("an empty server takes {} KiB", empty_bytes >> 10);
    println!();
    let columns = "ready, ms | first answer, ms | quiet after, ms | CPU, ms";
    println!("| start after | {columns} | bytes an entry | end, ms |");
    println!("|---|---|---|---|---|---|---|");
    let mut former = "nothing";
    for _ in 0..rounds {
        for (end, is_stop) in [("kill", false), ("stop", true)] {
            let mut server = ServerProcess::with_cap(full.path(), &cap).await;
            let row = measure(&mut server, entries, empty_bytes).await;
            let start = Instant::now();
            if is_stop {
                server.stop();
            } else {
                drop(server);
            }
            println!("| {former} | {row} | {:.0} |", milliseconds(start.elapsed()));
            former = end;
        }
    }
}

async fn measure(server: &mut ServerProcess, entries: u64, empty_bytes: u64) -> String {
    let answer = first_answer(server, entries).await;
    let quiet_after = quiet(server).await;
    let bytes = server.resident_bytes().saturating_sub(empty_bytes);
    format!(
        "{:.0} | {:.2} | {:.0} | {:.0} | {:.1}",
        milliseconds(server.ready_after),
        milliseconds(answer),
        milliseconds(quiet_after),
        milliseconds(server.coarse_cpu_time()),
        bytes as f64 / entries as f64,
    )
}

/// How long the first question takes. Numbers from `entries` on are those of nothing.
async fn first_answer(server: &ServerProcess, entries: u64) -> Duration {
    let there = (0..u64::from(ASKED)).map(|part| entries * part / u64::from(ASKED));
    let missing: Vec<_> = (entries..entries + u64::from(ASKED)).map(generate::digest).collect();
    let asked = there.map(generate::digest).chain(missing.iter().copied());
    let request = FindMissingBlobsRequest {
        blob_digests: asked.map(|digest| data::wire(&digest)).collect(),
        ..FindMissingBlobsRequest::default()
    };
    let mut client = ContentAddressableStorageClient::new(server.channel.clone());
    let start = Instant::now();
    let reply = client.find_missing_blobs(request).await.unwrap().into_inner();
    let time = start.elapsed();
    let missing: Vec<_> = missing.iter().map(data::wire).collect();
    assert_eq!(reply.missing_blob_digests, missing, "the first answer is exact");
    time
}

/// Waits until the server has nothing left to do; since when, counted from its spawn.
async fn quiet(server: &mut ServerProcess) -> Duration {
    let spawned = server.spawned;
    let (mut since, mut looks, mut before) = (spawned.elapsed(), 0, server.cpu_time());
    while looks < QUIET_LOOKS {
        tokio::time::sleep(PAUSE).await;
        let now = server.cpu_time();
        looks += 1;
        if now.saturating_sub(before) > QUIET {
            (since, looks) = (spawned.elapsed(), 0);
        }
        before = now;
    }
    since
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
