//! I22: how many bytes of trees and directories the process holds at once, over all requests.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// The largest tree that is looked into; a result that names a larger one is never served.
pub(super) const MAX_TREE_BYTES: u64 = 256 << 20;

/// Bytes held at once. At least one tree of the largest size, or it would wait for ever.
const TOTAL_BYTES: u64 = 512 << 20;
const UNIT_BYTES: u64 = 64 << 10;
const UNITS: usize = 8192;
const _: () = assert!(UNITS as u64 * UNIT_BYTES == TOTAL_BYTES && MAX_TREE_BYTES <= TOTAL_BYTES);

/// I23: the longest wait for others to finish with their trees.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Static because an `ActionCache` is a handle that is made per request.
static HELD: Semaphore = Semaphore::const_new(UNITS);

/// Waits until a tree of `size_bytes` may be held; `None` after [`MAX_WAIT`] or for a tree over
/// [`MAX_TREE_BYTES`]. Cancel safe.
///
/// A request must hold no tree while it waits for the next, so that waiters never wait for each
/// other.
pub(super) async fn hold(size_bytes: u64) -> Option<SemaphorePermit<'static>> {
    if size_bytes > MAX_TREE_BYTES {
        return None;
    }
    let units = u32::try_from(size_bytes.div_ceil(UNIT_BYTES)).ok()?;
    if let Ok(permit) = HELD.try_acquire_many(units) {
        return Some(permit);
    }
    tokio::time::timeout(MAX_WAIT, HELD.acquire_many(units)).await.ok()?.ok()
}
