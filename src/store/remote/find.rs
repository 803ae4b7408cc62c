//! Which blobs an upstream lacks.

use std::collections::HashSet;
use std::sync::Arc;

use castellan_proto::messages::FindMissingBlobsRequest;
use tokio::time::Instant;
use tonic::{Response, Status};

use super::Upstream;
use super::names::{read_digest, wire_digest};
use super::pool::Line;
use crate::digest::{Digest, DigestFunction};
use crate::store::{Key, StoreError};

/// The most digests in one question: under a megabyte of them.
const DIGESTS_PER_CALL: usize = 10_000;

impl Upstream {
    /// Says for each of `digests` whether it is absent.
    pub(super) async fn find_missing(
        &self,
        digests: &[Digest],
        deadline: Instant,
    ) -> Result<Vec<bool>, StoreError> {
        let mut absent = HashSet::new();
        for function in DigestFunction::ALL {
            let asked: HashSet<Digest> =
                digests.iter().filter(|it| it.function == function).copied().collect();
            // Nobody else's empty blob has to be asked for.
            let asked: Vec<Digest> = asked.into_iter().filter(|it| !it.is_empty()).collect();
            if asked.is_empty() {
                continue;
            }
            if !self.limits(deadline).await.knows(function) {
                absent.extend(asked);
                continue;
            }
            for some in asked.chunks(DIGESTS_PER_CALL) {
                absent.extend(self.ask_missing(function, some, deadline).await?);
            }
        }
        Ok(digests.iter().map(|digest| absent.contains(digest)).collect())
    }

    /// Whether a blob is there.
    pub(super) async fn contains(
        &self,
        digest: Digest,
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        Ok(self.find_missing(&[digest], deadline).await? == [false])
    }

    /// Those of `asked` that are missing.
    async fn ask_missing(
        &self,
        function: DigestFunction,
        asked: &[Digest],
        deadline: Instant,
    ) -> Result<Vec<Digest>, StoreError> {
        let message = FindMissingBlobsRequest {
            instance_name: self.options.instance_name.clone(),
            blob_digests: asked.iter().map(wire_digest).collect(),
            digest_function: function.to_wire(),
        };
        let attempt = |line: Arc<Line>| {
            let request = self.unary(message.clone(), deadline);
            async move { line.cas().find_missing_blobs(request).await.map(Response::into_inner) }
        };
        let answer = self.call(deadline, attempt).await;
        let answer = answer.map_err(|status: Status| {
            let first = asked.first().copied().unwrap_or(Digest::empty(function));
            self.error(&Key::blob(first), &status)
        })?;
        let known: HashSet<&Digest> = asked.iter().collect();
        let missing = answer.missing_blob_digests.iter().filter_map(|wire| {
            let digest = read_digest(function, Some(wire)).filter(|it| known.contains(it));
            self.counters.strays.add(u64::from(digest.is_none()));
            digest
        });
        Ok(missing.collect())
    }
}
