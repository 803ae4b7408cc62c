//! The contract of a store: one set of behaviors, run against every kind of store.
//!
//! A store joins with a constructor in [`subjects`] and its name in the table at the end. Each
//! behavior then is a test of its own for it: `contract::filesystem::results::later_one_wins`.

mod cancellation;
mod hammer;
mod over_the_wire;
mod presence;
mod purges;
mod ranges;
mod readers;
mod results;
mod room;
mod subjects;
mod uploads;
mod values;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use castellan::store::BlobStore;
use futures_util::future::BoxFuture;

/// What a behavior wants of the store that it is tried on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// What the stores in which bytes end may hold, about. Each may come to evict, none must be
    /// much larger.
    pub(crate) cap_bytes: u64,
    /// The largest value; `None` for whatever fits.
    pub(crate) max_blob_bytes: Option<u64>,
    /// Whether what is said to be there stays for longer than a test takes.
    pub(crate) has_leases: bool,
}

impl Wanted {
    /// Nothing is evicted.
    pub(crate) const ROOMY: Self =
        Self { cap_bytes: 256 << 20, max_blob_bytes: None, has_leases: true };

    /// A few dozen values of 64 KiB, of which any may go.
    pub(crate) const SMALL: Self =
        Self { cap_bytes: 4 << 20, max_blob_bytes: None, has_leases: false };

    /// For options that say how long a lease is.
    pub(crate) fn lease(&self) -> Duration {
        if self.has_leases { Duration::from_hours(10) } else { Duration::ZERO }
    }
}

/// A figure of a store.
pub(crate) type Figure = Box<dyn Fn() -> u64 + Send + Sync>;

/// A store, and what a test may know of it.
pub(crate) struct Opened {
    /// The one under test.
    pub(crate) store: Arc<dyn BlobStore>,
    /// Those in which bytes end, to take values away behind the back of whatever stands before
    /// them; the store itself when nothing does.
    pub(crate) lowest: Vec<Arc<dyn BlobStore>>,
    /// Whether it makes room by evicting what was not used for longest.
    pub(crate) evicts: bool,
    /// Whether a reader goes on when what it reads is evicted or removed.
    pub(crate) readers_stay: bool,
    /// Bytes against the cap, with the cap; at no time more.
    pub(crate) charged: Vec<(Figure, u64)>,
    /// Bytes that uploads and readers hold; 0 when there are none.
    pub(crate) in_flight: Vec<Figure>,
    /// Directories, servers, and other things that go when the test is over.
    pub(crate) keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Opened {
    /// A store that evicts, whose bytes end in itself; everything else by the fields.
    pub(crate) fn new(store: Arc<dyn BlobStore>) -> Self {
        Self {
            lowest: vec![Arc::clone(&store)],
            store,
            evicts: true,
            readers_stay: true,
            charged: Vec::new(),
            in_flight: Vec::new(),
            keep: Vec::new(),
        }
    }

    /// A store before others, which its bytes end in.
    pub(crate) fn before(store: Arc<dyn BlobStore>, others: Vec<Opened>) -> Self {
        let mut this = Self { lowest: Vec::new(), ..Self::new(store) };
        for other in others {
            this.lowest.extend(other.lowest);
            this.charged.extend(other.charged);
            this.in_flight.extend(other.in_flight);
            this.keep.extend(other.keep);
        }
        this
    }

    /// I2, in every store that has a cap.
    #[track_caller]
    fn check_caps(&self) {
        for (charged, cap_bytes) in &self.charged {
            let bytes = charged();
            assert!(bytes <= *cap_bytes, "{bytes} bytes under a cap of {cap_bytes}");
        }
    }

    /// Waits until no upload and no reader holds anything. Work that was cut off may go on for a
    /// moment on another thread.
    async fn settle(&self) {
        for in_flight in &self.in_flight {
            let is_over = || std::future::ready(in_flight() == 0);
            crate::support::wait::eventually("nothing is in flight", is_over).await;
        }
        self.check_caps();
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.keep.len();
        let mut shown = f.debug_struct("Opened");
        shown.field("store", &self.store).field("kept", &kept).finish_non_exhaustive()
    }
}

/// Makes the store of one test.
pub(crate) type Open = fn(Wanted) -> BoxFuture<'static, Opened>;

/// One store's tests: a module for each area.
macro_rules! behaviors_of {
    ($store:ident; $($area:ident: $($behavior:ident)+;)+) => {
        mod $store {
            $(mod $area {
                use super::super::{subjects, $area};

                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behavior() {
                    $area::$behavior(|wanted| Box::pin(subjects::$store(wanted))).await;
                })+
            })+
        }
    };
}

/// Every behavior for every store.
macro_rules! contract {
    ($($store:ident)+) => {
        $(behaviors_of! { $store;
            cancellation:
                a_dropped_begin_put_gives_everything_back
                a_dropped_commit_has_published_or_has_not
                a_dropped_find_missing_hangs_nobody
                a_dropped_get_holds_nothing
                a_dropped_purge_goes_on
                a_dropped_put_has_published_or_has_not
                a_dropped_write_gives_everything_back;
            hammer:
                many_at_once_read_only_what_was_stored;
            presence:
                answers_come_in_the_order_of_the_keys
                asking_keeps_what_is_asked_for
                behind_the_back_of_the_store_nothing_is_promised
                many_keys_in_one_call
                present_is_what_can_be_read
                the_hash_alone_finds_a_blob
                what_is_removed_is_absent;
            purges:
                a_purge_takes_what_is_selected_and_nothing_else
                a_write_begun_before_a_purge_stays_invisible
                an_upload_goes_on_past_a_purge_of_something_else
                purges_of_nothing_succeed;
            ranges:
                chunks_are_no_larger_than_asked_for
                every_boundary_of_a_large_blob
                every_boundary_of_a_result
                every_boundary_of_a_small_blob
                what_can_be_compressed_reads_the_same;
            readers:
                a_reader_outlives_an_eviction
                a_reader_outlives_a_removal
                readers_of_one_value_are_apart;
            results:
                an_announced_size_is_kept_to
                an_empty_value_is_kept
                hints_about_a_size_tell_nothing_apart
                later_one_wins
                namespaces_are_apart
                values_that_stand_for_blobs_are_apart;
            room:
                a_pinned_blob_stays
                fresh_values_push_out_old_ones
                what_is_over_the_limit_evicts_nothing
                what_is_over_the_cap_evicts_nothing;
            uploads:
                a_dropped_upload_leaves_nothing
                a_present_blob_is_not_uploaded_again
                a_present_blob_is_verified_and_not_replaced
                bytes_are_visible_only_after_the_commit
                bytes_come_back_equal
                streamed_bytes_come_back_equal
                too_few_bytes_are_refused
                too_many_bytes_are_refused
                two_uploads_of_one_blob_both_succeed
                wrong_bytes_are_refused;
        })+
    };
}

contract! {
    by_size
    compression
    dedup
    dedup_before_compression
    dedup_in_one
    existence_local
    existence_remote
    filesystem
    memory
    sharded
    stack
    tiered
    tiered_behind
}

// What an upstream can be asked for; `over_the_wire` says what it cannot.
behaviors_of! { upstream;
    cancellation:
        a_dropped_begin_put_gives_everything_back
        a_dropped_commit_has_published_or_has_not
        a_dropped_find_missing_hangs_nobody
        a_dropped_get_holds_nothing
        a_dropped_put_has_published_or_has_not
        a_dropped_write_gives_everything_back;
    hammer:
        many_at_once_read_only_what_was_stored;
    presence:
        answers_come_in_the_order_of_the_keys
        asking_keeps_what_is_asked_for
        behind_the_back_of_the_store_nothing_is_promised
        many_keys_in_one_call
        present_is_what_can_be_read;
    ranges:
        chunks_are_no_larger_than_asked_for
        every_boundary_of_a_large_blob
        every_boundary_of_a_small_blob
        what_can_be_compressed_reads_the_same;
    readers:
        a_reader_outlives_an_eviction
        a_reader_outlives_a_removal
        readers_of_one_value_are_apart;
    room:
        fresh_values_push_out_old_ones
        what_is_over_the_limit_evicts_nothing
        what_is_over_the_cap_evicts_nothing;
    uploads:
        a_dropped_upload_leaves_nothing
        a_present_blob_is_verified_and_not_replaced
        bytes_are_visible_only_after_the_commit
        bytes_come_back_equal
        streamed_bytes_come_back_equal
        too_few_bytes_are_refused
        too_many_bytes_are_refused
        two_uploads_of_one_blob_both_succeed
        wrong_bytes_are_refused;
}
