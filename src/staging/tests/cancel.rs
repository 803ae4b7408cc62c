//! Calls that are dropped at each of their awaits.

use std::future::{Future, poll_fn};
use std::task::Poll;

use super::*;

/// Polls a future so many times at most; `None` when it had not ended by then.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_leaves_nothing() {
    let mut wanted = sample();
    let many = (0..1_500).map(|number| (format!("f{number}"), text("one")));
    wanted.insert("many".to_owned(), Item::Folder(many.collect()));
    let world = World::new().await;
    let root = TreeRoot::Directory(world.put_model(&wanted).await);
    for link_mode in [LinkMode::Auto, LinkMode::Copy] {
        let options = StageOptions { link_mode, ..StageOptions::default() };
        for times in 1.. {
            // A stager that knows no directory yet has the most awaits.
            let stager = Stager::new(world.stager.cas.clone(), Arc::clone(&world.store));
            let progress = Arc::default();
            let call = stager.stage(root, world.parent(), "target", &options, progress);
            if let Some(staged) = polled(call, times).await {
                drop(staged.unwrap());
                assert!(times > 2, "{times}");
                break;
            }
            until("something is left", || world.litter().is_empty()).await;
        }
        assert_eq!(read_back(&world.path()), wanted);
        world.parent().remove_all("target").unwrap();
    }
    // Nothing holds the files any more.
    for seed in 0..3_u8 {
        world.put(&vec![seed; 100 << 20]).await;
    }
    let digest = Digest::of(SHA256, b"the deepest");
    assert_eq!(world.store.find_missing(&[Key::blob(digest)]).await.unwrap(), [true]);
}

#[tokio::test]
async fn a_tree_that_is_in_its_place_goes_with_the_call() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    // On one thread the jobs of a call that is not polled go on, and nobody takes their outcome.
    for times in 1.. {
        let call = world.stage(root);
        let ended = polled(call, times).await;
        if ended.is_some() {
            break;
        }
        until("something is left", || world.litter().is_empty()).await;
    }
    assert_eq!(read_back(&world.path()), sample());
}
