//! `ContentAddressableStorage`: presence, batches and trees.
//!
//! One bad blob never fails the others of its batch; a request over a limit fails as a whole and
//! says which limit.

use std::pin::pin;

use bytes::Bytes;
use castellan_proto::bounded::MAX_ENTRIES;
use castellan_proto::cas::content_addressable_storage_server::ContentAddressableStorage;
use castellan_proto::messages::{
    self, BatchReadBlobsRequest, BatchReadBlobsResponse, BatchReadOutcome, BatchUpdateBlob,
    BatchUpdateBlobsRequest, BatchUpdateBlobsResponse, BatchUpdateOutcome, Bounded, GetTreeRequest,
    GetTreeResponse, RawMessage,
};
use castellan_proto::rpc;
use castellan_proto::v2::compressor::Value as Compressor;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Code, Request, Response, Status};

use super::Shared;
use super::convert::{digest, digest_function};
use super::find_missing::Question;
use super::room::{Need, Room};
use super::status::{blob_not_found, invalid_field, to_rpc_status};
use super::trace::record_call;
use super::tree;
use crate::cas::Cas;
use crate::digest::DigestFunction;

/// Blobs of one batch that are stored or read at once. More would only let one batch crowd out
/// the calls beside it.
const BATCH_CONCURRENCY: usize = 8;
/// Blobs between two yields.
const TURN: usize = 64;
/// Tags, lengths and a status code around the digest and data of one outcome, and some to spare.
const OUTCOME_FRAME_BYTES: usize = 16;
/// What the texts of failures may take in a reply that is nearly full.
const REPLY_TEXT_BYTES: usize = 64 << 10;

/// The service.
#[derive(Debug)]
pub(super) struct CasService {
    shared: Shared,
}

impl CasService {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    fn check_count(&self, field: &str, count: usize) -> Result<(), Status> {
        let limit = self.shared.options.max_digests_per_request.min(MAX_ENTRIES);
        if count > limit {
            let problem = format!("{count} entries are over the limit of {limit} in one request");
            return Err(invalid_field(field, problem));
        }
        Ok(())
    }

    /// Refuses a batch whose blobs sum up to more than is announced (reapi 22, 24, 27).
    fn check_batch_size(&self, total_bytes: u64) -> Result<(), Status> {
        let limit_bytes = self.shared.options.max_batch_total_size_bytes;
        if total_bytes > limit_bytes {
            return Err(Status::invalid_argument(format!(
                "the blobs of the batch sum up to {total_bytes} bytes, over \
                 max_batch_total_size_bytes = {limit_bytes}"
            )));
        }
        Ok(())
    }

    /// Refuses a batch whose digests alone make a reply larger than its client decodes (reapi 29).
    fn check_reply_size<'a>(
        &self,
        field: &str,
        digests: impl Iterator<Item = &'a messages::Digest>,
    ) -> Result<(), Status> {
        let limit_bytes = self.shared.options.max_reply_bytes();
        let bare_bytes = digests.map(|digest| digest.encoded_len() + OUTCOME_FRAME_BYTES).sum();
        if limit_bytes.saturating_sub(REPLY_TEXT_BYTES) < bare_bytes {
            let problem = format!("the reply to so many would be over {limit_bytes} bytes");
            return Err(invalid_field(field, problem));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for CasService {
    type GetTreeStream = BoxStream<'static, Result<GetTreeResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<RawMessage>, Status> {
        let request = request.into_inner().encoded;
        let limit = self.shared.options.max_digests_per_request;
        let question = Question::read(&request, limit)?;
        record_call(question.instance_name, None);
        let instance = self.shared.instances.get(question.instance_name)?;
        let function = digest_function(&self.shared.options, question.digest_function)?;
        self.check_count("blob_digests", question.count)?;
        // Decode all, then look all up: several times faster than one by one.
        let digests = question.parse(function)?;
        let missing = instance.cas()?.find_missing(&digests).await?;
        let encoded = question.answer(&digests, &missing);
        Ok(Response::new(RawMessage { encoded }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<Bounded<BatchUpdateBlobsRequest>>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        let Bounded { message: request, excess } = request.into_inner();
        record_call(&request.instance_name, None);
        let instance = self.shared.instances.get(&request.instance_name)?;
        let cas = instance.cas()?;
        let function = digest_function(&self.shared.options, request.digest_function)?;
        self.check_count("requests", request.requests.len().saturating_add(excess))?;
        let digests = request.requests.iter().filter_map(|blob| blob.digest.as_ref());
        self.check_reply_size("requests", digests)?;
        self.check_batch_size(request.requests.iter().map(|blob| blob.data.len() as u64).sum())?;
        let outcomes = stream::iter(request.requests)
            .map(|blob| update_one(&self.shared.room, cas, function, blob))
            .buffered(BATCH_CONCURRENCY);
        let responses = collect_paced(outcomes).await;
        let mut response = BatchUpdateBlobsResponse { responses };
        if response.encoded_len() > self.shared.options.max_reply_bytes() {
            cut_texts(response.responses.iter_mut().filter_map(|one| one.status.as_mut()));
        }
        Ok(Response::new(response))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<Bounded<BatchReadBlobsRequest>>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        let Bounded { message: request, excess } = request.into_inner();
        record_call(&request.instance_name, None);
        let instance = self.shared.instances.get(&request.instance_name)?;
        let cas = instance.cas()?;
        let function = digest_function(&self.shared.options, request.digest_function)?;
        self.check_count("digests", request.digests.len().saturating_add(excess))?;
        self.check_reply_size("digests", request.digests.iter())?;
        // A negative size is refused with its blob and counts for nothing here.
        let sizes = request.digests.iter().map(|d| u64::try_from(d.size_bytes).unwrap_or(0));
        self.check_batch_size(sizes.fold(0, u64::saturating_add))?;
        let outcomes = stream::iter(request.digests)
            .map(|wire| read_one(cas, function, wire))
            .buffered(BATCH_CONCURRENCY);
        let responses = collect_paced(outcomes).await;
        let mut response = BatchReadBlobsResponse { responses };
        fit_reply(&mut response, self.shared.options.max_reply_bytes());
        Ok(Response::new(response))
    }

    async fn get_tree(
        &self,
        request: Request<GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        let pages = tree::pages(&self.shared, request.into_inner()).await?;
        Ok(Response::new(pages.boxed()))
    }
}

/// Collects the outcomes of a batch and yields now and then: blobs that are in memory would keep a
/// runtime thread from its other work until the whole batch is done.
async fn collect_paced<T>(outcomes: impl Stream<Item = T>) -> Vec<T> {
    let mut outcomes = pin!(outcomes);
    let mut collected = Vec::with_capacity(outcomes.size_hint().0);
    while let Some(outcome) = outcomes.next().await {
        collected.push(outcome);
        if collected.len().is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    collected
}

async fn update_one(
    room: &Room,
    cas: &Cas,
    function: DigestFunction,
    blob: BatchUpdateBlob,
) -> BatchUpdateOutcome {
    let outcome = store_one(room, cas, function, &blob).await;
    let status = outcome.err().as_ref().map(to_rpc_status).unwrap_or_default();
    BatchUpdateOutcome { digest: blob.digest, status: Some(status) }
}

async fn store_one(
    room: &Room,
    cas: &Cas,
    function: DigestFunction,
    blob: &BatchUpdateBlob,
) -> Result<(), Status> {
    let wire = blob.digest.as_ref().ok_or_else(|| invalid_field("digest", "is required"))?;
    let digest = digest(function, wire)?;
    if blob.compressor != i32::from(Compressor::Identity) {
        let problem = format!("{} is not announced for batches", blob.compressor);
        return Err(invalid_field("compressor", problem));
    }
    let need = Need { bytes: digest.size_bytes, replaces: None };
    let put = || cas.put(digest, blob.data.clone());
    Ok(room.with(need, || cas.is_waiting_for_room(), put).await?)
}

async fn read_one(cas: &Cas, function: DigestFunction, wire: messages::Digest) -> BatchReadOutcome {
    let (data, status) = match load_one(cas, function, &wire).await {
        Ok(data) => (data, rpc::Status::default()),
        Err(status) => (Bytes::new(), to_rpc_status(&status)),
    };
    // Identity may always be sent, whatever the client accepts besides (reapi 28).
    let compressor = Compressor::Identity.into();
    BatchReadOutcome { digest: Some(wire), data, status: Some(status), compressor }
}

async fn load_one(
    cas: &Cas,
    function: DigestFunction,
    wire: &messages::Digest,
) -> Result<Bytes, Status> {
    let digest = digest(function, wire)?;
    let data = cas.read_all(digest, digest.size_bytes).await?;
    data.ok_or_else(|| blob_not_found(digest))
}

/// Takes out the data that would make the reply larger than its client decodes.
///
/// Thousands of tiny blobs weigh more in digests than in data. A blob that is asked for again is
/// better than a reply that is lost as a whole (reapi 29).
fn fit_reply(response: &mut BatchReadBlobsResponse, limit_bytes: usize) {
    if response.encoded_len() <= limit_bytes {
        return;
    }
    cut_texts(response.responses.iter_mut().filter_map(|one| one.status.as_mut()));
    // Said once: thousands of copies would fill the reply again.
    let mut message = "the reply is full; ask for what is missing again".to_owned();
    let bare_bytes =
        |one: &BatchReadOutcome| one.encoded_len() - one.data.len() + OUTCOME_FRAME_BYTES;
    let mut total_bytes = message.len() + response.responses.iter().map(bare_bytes).sum::<usize>();
    for outcome in &mut response.responses {
        let with_data = total_bytes.saturating_add(outcome.data.len());
        if with_data <= limit_bytes || outcome.data.is_empty() {
            total_bytes = with_data;
            continue;
        }
        outcome.data = Bytes::new();
        outcome.status = Some(rpc::Status {
            code: Code::ResourceExhausted.into(),
            message: std::mem::take(&mut message),
            details: Vec::new(),
        });
    }
}

/// Takes the texts out of the failures of a reply, but for the first of them: the codes say enough,
/// and thousands of texts are more than a client decodes (reapi 29).
fn cut_texts<'a>(statuses: impl Iterator<Item = &'a mut rpc::Status>) {
    let mut rest_bytes = REPLY_TEXT_BYTES;
    for status in statuses {
        if let Some(rest) = rest_bytes.checked_sub(status.encoded_len()) {
            rest_bytes = rest;
        } else {
            status.message.clear();
            status.details.clear();
        }
    }
}
