//! Lists that were read or written lately.
//!
//! A list in here says nothing about whether it, or any chunk, is there still.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::list::List;
use crate::digest::Digest;

/// What all take at most.
const MAX_BYTES: usize = 16 << 20;
/// What one takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 256;

/// Lists by blob, bounded in bytes; the one not used for longest leaves first.
#[derive(Debug, Default)]
pub(super) struct Lists {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lists: HashMap<Digest, (Arc<List>, u64)>,
    order: BTreeMap<u64, Digest>,
    bytes: usize,
    uses: u64,
}

impl Inner {
    fn remove(&mut self, digest: &Digest) {
        if let Some((list, used)) = self.lists.remove(digest) {
            self.order.remove(&used);
            self.bytes = self.bytes.saturating_sub(cost(&list));
        }
    }

    fn insert(&mut self, list: Arc<List>) {
        self.uses += 1;
        self.bytes += cost(&list);
        self.order.insert(self.uses, list.digest);
        self.lists.insert(list.digest, (list, self.uses));
    }
}

fn cost(list: &List) -> usize {
    list.encoded().len() + OVERHEAD_BYTES
}

impl Lists {
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<List>> {
        let mut inner = self.inner.lock();
        let list = Arc::clone(&inner.lists.get(digest)?.0);
        inner.remove(digest);
        inner.insert(Arc::clone(&list));
        Some(list)
    }

    pub(super) fn insert(&self, list: &Arc<List>) {
        let mut inner = self.inner.lock();
        inner.remove(&list.digest);
        inner.insert(Arc::clone(list));
        while inner.bytes > MAX_BYTES {
            let Some((_, oldest)) = inner.order.first_key_value() else { break };
            let oldest = *oldest;
            inner.remove(&oldest);
        }
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.inner.lock().remove(digest);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.inner.lock().lists.len()
    }
}
