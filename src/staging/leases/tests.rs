//! Leases: each of their ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Lease, Leases};
use crate::shutdown;

/// Something to hold, and how to see whether it is held.
fn thing() -> (Arc<()>, Weak<()>) {
    let thing = Arc::new(());
    let seen = Arc::downgrade(&thing);
    (thing, seen)
}

fn begin(leases: &Arc<Leases<Arc<()>>>) -> (Lease<Arc<()>>, Weak<()>) {
    let (thing, seen) = thing();
    (leases.place().unwrap().fill(thing).unwrap().unwrap(), seen)
}

#[tokio::test]
async fn a_lease_ends_with_its_holder_or_by_its_name() {
    let leases = Leases::new(9);
    let (lease, seen) = begin(&leases);
    assert_eq!(leases.count(|_| true), 1);
    drop(lease);
    assert!(seen.upgrade().is_none());
    assert_eq!(leases.count(|_| true), 0);

    let (lease, seen) = begin(&leases);
    let id = lease.id();
    assert_eq!(id.len(), 32);
    for wrong in ["", "x", &id[1..], &id.replace(|_: char| true, "0")] {
        assert!(leases.take(wrong).is_none() && leases.get(wrong).is_none(), "{wrong}");
    }
    drop(leases.get(&id).unwrap());
    drop(leases.take(&id).unwrap());
    assert!(seen.upgrade().is_none());
    lease.ended().await;
    assert!(leases.take(&id).is_none() && leases.get(&id).is_none());
    assert!(lease.end().is_none());
}

#[tokio::test]
async fn i22_leases_are_bounded() {
    let leases = Leases::new(2);
    let (first, _) = begin(&leases);
    let place = leases.place().unwrap();
    assert!(leases.place().is_none());
    drop(place);
    drop(leases.place().unwrap());
    let (_second, _) = begin(&leases);
    assert!(leases.place().is_none());
    drop(first);
    assert!(leases.place().is_some());
}

#[tokio::test(start_paused = true)]
async fn i23_a_lease_ends_with_its_time() {
    let leases = Leases::new(9);
    let running = shutdown::spawn("leases", Arc::clone(&leases).run());
    let (late, late_seen) = begin(&leases);
    let late_id = late.id();
    late.keep_until(Instant::now() + Duration::from_mins(1));
    let (early, early_seen) = begin(&leases);
    early.keep_until(Instant::now() + Duration::from_secs(10));
    let (held, held_seen) = begin(&leases);
    sleep(Duration::from_secs(9)).await;
    assert!(early_seen.upgrade().is_some());
    sleep(Duration::from_secs(2)).await;
    assert!(early_seen.upgrade().is_none());
    assert!(late_seen.upgrade().is_some());
    assert!(leases.take(&late_id).is_some());
    sleep(Duration::from_mins(10)).await;
    assert!(held_seen.upgrade().is_some());
    drop(held);
    assert!(held_seen.upgrade().is_none());
    running.abort();
}

#[tokio::test]
async fn none_is_left_after_the_end_and_none_begins() {
    let leases = Leases::new(9);
    let (lease, seen) = begin(&leases);
    let (kept, kept_seen) = begin(&leases);
    kept.keep_until(Instant::now() + Duration::from_mins(1));
    let place = leases.place().unwrap();
    leases.close();
    assert!(seen.upgrade().is_none() && kept_seen.upgrade().is_none());
    lease.ended().await;
    let (late, late_seen) = thing();
    assert!(place.fill(late).unwrap().is_none());
    assert!(late_seen.upgrade().is_none());
}
