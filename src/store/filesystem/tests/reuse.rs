//! What the store says of other sizes.

use super::*;

const MAX_BYTES: u64 = 1 << 20;

/// Blobs of 16 KiB in few shards, so that directories do not take what the blobs should.
fn blobs(count: usize) -> Vec<(Key, Bytes)> {
    let in_few_shards = |it: &(Key, Bytes)| it.0.digest.hash[0] < 8;
    (0..).map(|seed| blob(seed, 16 << 10)).filter(in_few_shards).take(count).collect()
}

#[tokio::test]
async fn a_loop_over_more_than_the_store_holds_would_fit_one_twice_as_large() {
    let dir = scratch();
    let store = open(dir.path(), MAX_BYTES).await;
    let blobs = blobs(96);
    put_all(&store, &blobs).await;
    assert_eq!(store.predicted_hit_ratios(), None, "of nothing nothing is said");
    for (key, data) in blobs.iter().cycle().take(1_000) {
        // The store holds two thirds of the loop: each is gone before its turn comes again.
        assert_eq!(store.find_missing(&[*key]).await.unwrap(), [true]);
        store.put(key, data.clone()).await.unwrap();
    }
    let predicted = store.predicted_hit_ratios().unwrap();
    assert_eq!(predicted, [(0.25, 0.0), (0.5, 0.0), (1.0, 0.0), (2.0, 1.0), (4.0, 1.0)]);
    check(&store);
}

#[tokio::test]
async fn a_loop_over_a_third_of_the_store_would_fit_one_half_as_large() {
    let dir = scratch();
    let store = open(dir.path(), MAX_BYTES).await;
    let blobs = blobs(20);
    for (key, data) in &blobs {
        let mut upload = begin(&store, key, data.len() as u64).await;
        upload.write(data.clone()).await.unwrap();
        upload.commit().await.unwrap();
    }
    for _ in 0..60 {
        for (key, data) in &blobs {
            assert_eq!(read(&store, key).await.as_ref(), Some(data));
        }
    }
    // What nobody stores is a miss at any size.
    for number in 0..400 {
        assert_eq!(read(&store, &result_key(&format!("{number}"))).await, None);
    }
    let predicted = store.predicted_hit_ratios().unwrap();
    assert_eq!(predicted, [(0.25, 0.0), (0.5, 0.75), (1.0, 0.75), (2.0, 0.75), (4.0, 0.75)]);
}
