//! What another server has, by lists of digests and of actions.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::super::actions::decode_result;
use super::super::closure::{self, Named};
use super::super::origin::{Origin, OriginBlob};
use super::super::{Client, ClientError, DIGESTS_PER_QUESTION};
use super::{HttpCache, Import, Item, ItemBytes, NewResult, Reason, persist_client};
use crate::digest::Digest;

/// Actions whose results are looked into at once.
const ACTIONS: usize = 32;
/// Questions about sizes at once.
const SIZES: usize = 16;

/// What an action has come to, and everything that is reached from it.
struct Reached {
    result: NewResult,
    blobs: Vec<Digest>,
}

impl Import {
    /// Imports blobs, and results with what they reach, from a server that speaks REAPI.
    pub async fn from_server(
        self: &Arc<Self>,
        server: Arc<Client>,
        digests: Vec<Digest>,
        actions: Vec<Digest>,
    ) -> Result<(), ClientError> {
        self.listed(server, digests, actions).await
    }

    /// The same from a cache over HTTP. Of a digest there, the hash is enough.
    pub async fn from_http(
        self: &Arc<Self>,
        cache: HttpCache,
        digests: Vec<Digest>,
        actions: Vec<Digest>,
    ) -> Result<(), ClientError> {
        self.listed(Arc::new(cache), digests, actions).await
    }

    async fn listed(
        self: &Arc<Self>,
        origin: Arc<dyn Origin>,
        digests: Vec<Digest>,
        actions: Vec<Digest>,
    ) -> Result<(), ClientError> {
        let bytes = digests.iter().fold(0_u64, |sum, it| sum.saturating_add(it.size_bytes));
        self.progress.expect(digests.len() as u64, bytes);
        if actions.is_empty() {
            self.progress.expect_no_more();
        }
        for some in digests.chunks(DIGESTS_PER_QUESTION) {
            let items = self.sized(&origin, some).await?;
            self.blobs(items).await?;
        }
        for some in actions.chunks(ACTIONS) {
            self.actions(&origin, some).await?;
        }
        self.progress.expect_no_more();
        Ok(())
    }

    /// Finds the sizes that are not known.
    async fn sized(
        &self,
        origin: &Arc<dyn Origin>,
        digests: &[Digest],
    ) -> Result<Vec<Item>, ClientError> {
        let asking = digests
            .iter()
            .map(|digest| async move { (*digest, persist_client(|| origin.sized(*digest)).await) });
        let mut answers = stream::iter(asking).buffered(SIZES);
        let mut items = Vec::with_capacity(digests.len());
        while let Some((digest, sized)) = answers.next().await {
            match sized.and_then(|it| it.ok_or(ClientError::Absent(digest))) {
                Ok(digest) => items.push(there(origin, digest)),
                Err(error) => {
                    self.progress.finish_files(1);
                    self.skip(digest.to_string(), Reason::of_blob(&error), error)?;
                }
            }
        }
        Ok(items)
    }

    async fn actions(
        self: &Arc<Self>,
        origin: &Arc<dyn Origin>,
        actions: &[Digest],
    ) -> Result<(), ClientError> {
        let looking = actions.iter().map(|action| self.reached(origin, *action));
        let reached: Vec<Option<Reached>> =
            stream::iter(looking).buffered(ACTIONS).try_collect().await?;
        let mut results = Vec::new();
        let mut digests = HashSet::new();
        for reached in reached.into_iter().flatten() {
            results.push(reached.result);
            digests.extend(reached.blobs);
        }
        let digests: Vec<Digest> = digests.into_iter().collect();
        for some in digests.chunks(DIGESTS_PER_QUESTION) {
            let bytes = some.iter().fold(0_u64, |sum, it| sum.saturating_add(it.size_bytes));
            self.progress.expect(some.len() as u64, bytes);
            self.blobs(some.iter().map(|digest| there(origin, *digest)).collect()).await?;
        }
        self.results(results).await
    }

    /// The result of an action and what it reaches; `None` when it is skipped or at the target.
    async fn reached(
        &self,
        origin: &Arc<dyn Origin>,
        action: Digest,
    ) -> Result<Option<Reached>, ClientError> {
        if self.target.encoded_result(action).await?.is_some() {
            self.tally.result(action, false);
            return Ok(None);
        }
        match self.look(origin, action).await {
            Ok(reached) => Ok(Some(reached)),
            Err(ClientError::Absent(digest)) if digest == action => {
                let problem = "the action has no result".to_owned();
                self.tally.skip(action.to_string(), Reason::Absent, problem);
                Ok(None)
            }
            Err(error) => {
                self.skip(action.to_string(), Reason::of_result(&error), error)?;
                Ok(None)
            }
        }
    }

    async fn look(&self, origin: &Arc<dyn Origin>, action: Digest) -> Result<Reached, ClientError> {
        let encoded = persist_client(|| origin.result(action)).await?;
        let encoded = encoded.ok_or(ClientError::Absent(action))?;
        let result = decode_result(action, encoded.clone())?;
        let mut blobs = Named::of(action.function, &result)?.closure(origin).await?;
        blobs.extend(closure::of_action(origin, action, false).await?);
        let result = NewResult { action, encoded, name: action.to_string() };
        Ok(Reached { result, blobs })
    }
}

fn there(origin: &Arc<dyn Origin>, digest: Digest) -> Item {
    Item { digest, bytes: ItemBytes::There(OriginBlob { origin: Arc::clone(origin), digest }) }
}
