//! Captures that are dropped wherever they wait.
//!
//! Method: each is polled until it has waited k times and dropped then, for k = 0, 1, 2, ... until
//! one completes. Every one has other bytes to store.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Barrier;
use std::task::Poll;

use super::*;

/// More than a capture of a few files ever waits.
const MAX_WAITS: usize = 10_000;

/// Drops a future where it waits after having waited so often; what it gave if it has ended.
async fn drop_after<F: Future>(waits: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut waited = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

/// Waits until no job is at work, for all places are taken by the jobs of this, and until the store
/// has taken over what it is about to.
async fn idle(world: &World) {
    let stager = &world.stager;
    let everybody = Arc::new(Barrier::new(stager.capture_jobs.width()));
    let jobs = (0..stager.capture_jobs.width()).map(|_| {
        let everybody = Arc::clone(&everybody);
        stager.capture_jobs.run(move || {
            everybody.wait();
        })
    });
    futures_util::future::try_join_all(jobs).await.unwrap();
    while world.files.stats().writes > 0 {
        tokio::task::yield_now().await;
    }
}

async fn drop_everywhere(give_up_files: bool) {
    let world = World::new().await;
    for waits in 0..MAX_WAITS {
        let out = format!("out{waits}");
        world.write(&format!("{out}/large"), noise(waits as u64, (2 << 20) + 5));
        world.write(&format!("{out}/small"), format!("small {waits}"));
        world.write(&format!("{out}/in/it/another"), format!("another {waits}"));
        let paths = strings(&[&out]);
        let stager = &world.stager;
        let capture = stager.capture_directories(SHA256, &world.base, &paths, give_up_files);
        let dropped = drop_after(waits, capture).await;
        world.assert_sound().await;
        if let Some(captured) = dropped {
            let root = captured.unwrap().remove(0).root_directory_digest;
            assert_eq!(stored(&world, root).await.len(), 5);
            return;
        }
        // All of it is still there and can be captured again, or all of it was stored and the one
        // that the store could take over is gone.
        idle(&world).await;
        let files = files_below(&world.path(&out)).len() as u64;
        assert!(files == 3 || (give_up_files && files == 2), "{files} files after {waits}");
        let captured = world.capture(&[&out]).await.unwrap().remove(0);
        assert_eq!(captured.files, files, "after {waits}");
        std::fs::remove_dir_all(world.path(&out)).unwrap();
    }
    panic!("it never ends");
}

#[tokio::test]
async fn a_capture_that_is_dropped_leaves_no_reservation() {
    drop_everywhere(false).await;
}

#[tokio::test]
async fn a_capture_of_files_that_are_given_up_can_be_dropped() {
    drop_everywhere(true).await;
}
