//! Waiting for a condition, with a bound that only a failure reaches.

use std::future::Future;
use std::time::Duration;

use castellan::store::filesystem::StoreStats;
use tokio::time::Instant;

use super::{Client, TestServer};

const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks; nothing depends on it.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until a condition holds; panics with `what` when it never does.
pub(crate) async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until the store's figures are as wanted.
pub(crate) async fn stats_reach(
    server: &TestServer,
    what: &str,
    mut wanted: impl FnMut(&StoreStats) -> bool,
) {
    eventually(what, || std::future::ready(wanted(&server.store().stats()))).await;
}

/// Waits until an upload has come so far.
pub(crate) async fn committed_reaches(client: &Client, name: &str, bytes: usize) {
    let bytes = i64::try_from(bytes).unwrap();
    let reached = || async { client.query(name).await.unwrap().0 >= bytes };
    eventually("the upload comes so far", reached).await;
}
