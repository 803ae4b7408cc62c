//! Purges: what is there goes, and what is on its way never arrives (I16).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castellan::store::{Key, PurgeScope, Selection, Upload};
use tokio::task::JoinSet;

use super::values::{
    assert_absent, assert_holds, begin, is_missing, key_of, main_namespace, other_namespace, put,
    read, result_key, stream,
};
use super::{Open, Opened, Wanted};
use crate::support::{Blob, wait};

/// A blob and two results, each in a namespace of its own.
struct Three {
    keys: [Key; 3],
    data: [Bytes; 3],
}

impl Three {
    fn new(seed: u64) -> Self {
        let blob = Blob::random(seed, 90_000);
        let name = |what: &str| format!("{what} {seed}");
        let keys = [
            key_of(&blob),
            result_key(main_namespace(), &name("main")),
            result_key(other_namespace(), &name("other")),
        ];
        Self { keys, data: [blob.data, name("main value").into(), name("other value").into()] }
    }

    fn all(&self) -> impl Iterator<Item = (&Key, &Bytes)> {
        self.keys.iter().zip(&self.data)
    }

    /// Every kind of selection with which of the three it takes.
    fn selections(&self) -> Vec<(Selection, [bool; 3])> {
        let of = |namespace| Selection::Scope(PurgeScope::Namespace(namespace));
        let older = |namespace| Selection::ResultsOlderThan { namespace, age: Duration::ZERO };
        vec![
            (Selection::Scope(PurgeScope::All), [true, true, true]),
            (of(self.keys[0].namespace), [true, false, false]),
            (of(main_namespace()), [false, true, false]),
            (older(None), [false, true, true]),
            (older(Some(other_namespace())), [false, false, true]),
            (Selection::Hash(self.keys[0].digest.hash), [true, false, false]),
            (Selection::Hash(self.keys[1].digest.hash), [false, true, false]),
        ]
    }

    async fn put(&self, opened: &Opened) {
        for (key, data) in self.all() {
            opened.store.put(key, data.clone()).await.unwrap();
        }
    }

    async fn assert_as(&self, opened: &Opened, is_gone: [bool; 3]) {
        for ((key, data), is_gone) in self.all().zip(is_gone) {
            if is_gone {
                assert_absent(&*opened.store, key).await;
            } else {
                assert_holds(&*opened.store, key, data).await;
            }
        }
    }
}

pub(super) async fn a_purge_takes_what_is_selected_and_nothing_else(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let three = Three::new(1);
    for (selection, is_gone) in three.selections() {
        three.put(&opened).await;
        three.assert_as(&opened, [false; 3]).await;
        let purged = opened.store.purge_selected(selection).await.unwrap();
        assert!(purged.removed > 0, "{selection}");
        assert!(purged.is_drained, "{selection}: nothing was under way");
        three.assert_as(&opened, is_gone).await;
        let found =
            opened.store.find_by_hash(three.keys[0].digest.function, three.keys[0].digest.hash);
        assert_eq!(found.await.unwrap().is_none(), is_gone[0]);
        // New writes work at once, whole and streamed.
        three.put(&opened).await;
        three.assert_as(&opened, [false; 3]).await;
        opened.store.purge_selected(selection).await.unwrap();
        for (key, data) in three.all() {
            stream(&*opened.store, key, data).await.unwrap();
        }
        three.assert_as(&opened, [false; 3]).await;
    }
    opened.settle().await;
}

/// An upload of each that has all its bytes, begun while none was there.
async fn uploads(opened: &Opened, three: &Three) -> Vec<Upload> {
    let mut uploads = Vec::new();
    for (key, data) in three.all() {
        let mut upload = begin(&*opened.store, key, data.len()).await;
        upload.write(data.slice(..data.len() / 2)).await.unwrap();
        uploads.push(upload);
    }
    uploads
}

pub(super) async fn a_write_begun_before_a_purge_stays_invisible(open: Open) {
    let opened = Arc::new(open(Wanted::ROOMY).await);
    for number in 0..Three::new(0).selections().len() {
        let three = Three::new(10 + number as u64);
        let (selection, is_gone) = three.selections().swap_remove(number);
        let uploads = uploads(&opened, &three).await;
        // Stored by others meanwhile; that they are gone says that the purge has begun.
        three.put(&opened).await;
        let store = Arc::clone(&opened.store);
        let mut purge = JoinSet::new();
        purge.spawn(async move { store.purge_selected(selection).await });
        for (key, _) in three.all().zip(is_gone).filter(|it| it.1).map(|it| it.0) {
            let is_gone = || async { read(&*opened.store, key).await.is_none() };
            wait::eventually("the purge begins", is_gone).await;
        }
        // One of no age yet is not older than anything.
        let may_come = matches!(selection, Selection::ResultsOlderThan { .. });
        for ((mut upload, (key, data)), is_gone) in
            uploads.into_iter().zip(three.all()).zip(is_gone)
        {
            let mut outcome = upload.write(data.slice(data.len() / 2..)).await;
            if outcome.is_ok() {
                outcome = upload.commit().await;
            }
            if is_gone && !may_come {
                assert!(outcome.is_err(), "{selection} did not stop a write of {key}");
                assert_absent(&*opened.store, key).await;
            } else {
                outcome.unwrap();
                assert_holds(&*opened.store, key, data).await;
            }
        }
        let purged = purge.join_next().await.unwrap().unwrap().unwrap();
        assert!(purged.is_drained, "{selection}");
        for ((key, _), is_gone) in three.all().zip(is_gone) {
            assert_eq!(is_missing(&*opened.store, key).await, is_gone && !may_come, "{selection}");
        }
        three.put(&opened).await;
        three.assert_as(&opened, [false; 3]).await;
    }
    opened.settle().await;
}

pub(super) async fn an_upload_goes_on_past_a_purge_of_something_else(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let (three, nothing) = (Three::new(1), Three::new(2));
    let uploads = uploads(&opened, &three).await;
    for key in nothing.keys {
        let purge = opened.store.purge_selected(Selection::Hash(key.digest.hash));
        // It may wait for writes under way that it cannot tell apart: bounded, and not by us.
        let limit = Duration::from_millis(200);
        drop(tokio::time::timeout(limit, purge).await);
    }
    for (mut upload, (key, data)) in uploads.into_iter().zip(three.all()) {
        upload.write(data.slice(data.len() / 2..)).await.unwrap();
        upload.commit().await.unwrap();
        assert_holds(&*opened.store, key, data).await;
    }
    opened.settle().await;
}

pub(super) async fn purges_of_nothing_succeed(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let three = Three::new(1);
    for (selection, _) in three.selections() {
        let purged = opened.store.purge_selected(selection).await.unwrap();
        assert_eq!((purged.removed, purged.is_drained), (0, true), "{selection}");
    }
    let blob = Blob::random(3, 1_000);
    put(&*opened.store, &blob).await;
    opened.store.purge_selected(Selection::Hash(three.keys[0].digest.hash)).await.unwrap();
    assert_holds(&*opened.store, &key_of(&blob), &blob.data).await;
    opened.settle().await;
}
