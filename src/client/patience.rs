//! How long a server that goes away is waited for.

use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;

use crate::store::StoreError;

/// The pauses before further attempts, in milliseconds; then it is over.
const PAUSES_MS: [u64; 8] = [100, 250, 500, 1000, 2000, 4000, 5000, 5000];

/// What is left of it. What goes on is waited for anew.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: usize,
}

impl Patience {
    /// There was progress.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits before another attempt, or gives the error back that ends it.
    pub(super) async fn pause(&mut self, error: StoreError) -> Result<(), StoreError> {
        let pause = match &error {
            // The same write, begun anew, works.
            StoreError::Unavailable { .. } | StoreError::Purged => PAUSES_MS.get(self.failures),
            _ => None,
        };
        let Some(pause) = pause else { return Err(error) };
        self.failures += 1;
        sleep(Duration::from_millis(*pause)).await;
        Ok(())
    }
}

/// Does something until it is done or it cannot help to try it again.
pub(super) async fn persist<T, F>(work: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut patience = Patience::default();
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(error) => patience.pause(error).await?,
        }
    }
}
