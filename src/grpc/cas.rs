//! `ContentAddressableStorage`: presence, batches and trees.
//!
//! One bad blob never fails the others of its batch; a request over a limit fails as a whole and
//! says which limit.

use bytes::Bytes;
use castellan_proto::cas::content_addressable_storage_server::ContentAddressableStorage;
use castellan_proto::messages::{
    self, BatchReadBlobsRequest, BatchReadBlobsResponse, BatchReadOutcome, BatchUpdateBlob,
    BatchUpdateBlobsRequest, BatchUpdateBlobsResponse, BatchUpdateOutcome, GetTreeRequest,
    GetTreeResponse, RawMessage,
};
use castellan_proto::rpc;
use castellan_proto::v2::compressor::Value as Compressor;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use tonic::{Code, Request, Response, Status};

use super::Shared;
use super::convert::{digest, digest_function};
use super::find_missing::Question;
use super::status::{blob_not_found, invalid_field, to_rpc_status};
use super::trace::record_call;
use super::tree;
use crate::cas::Cas;
use crate::digest::DigestFunction;

/// Blobs of one batch that are stored or read at once. More would only let one batch crowd out
/// the calls beside it.
const BATCH_CONCURRENCY: usize = 8;

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
        let limit = self.shared.options.max_digests_per_request;
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
        let function = digest_function(question.digest_function)?;
        self.check_count("blob_digests", question.count)?;
        // Decode all, then look all up: several times faster than one by one.
        let digests = question.parse(function)?;
        let missing = instance.cas.find_missing(&digests).await?;
        let encoded = question.answer(&digests, &missing);
        Ok(Response::new(RawMessage { encoded }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<BatchUpdateBlobsRequest>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        let request = request.into_inner();
        record_call(&request.instance_name, None);
        let instance = self.shared.instances.get(&request.instance_name)?;
        let function = digest_function(request.digest_function)?;
        self.check_count("requests", request.requests.len())?;
        self.check_batch_size(request.requests.iter().map(|blob| blob.data.len() as u64).sum())?;
        let responses = stream::iter(request.requests)
            .map(|blob| update_one(&instance.cas, function, blob))
            .buffered(BATCH_CONCURRENCY)
            .collect()
            .await;
        Ok(Response::new(BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<BatchReadBlobsRequest>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        let request = request.into_inner();
        record_call(&request.instance_name, None);
        let instance = self.shared.instances.get(&request.instance_name)?;
        let function = digest_function(request.digest_function)?;
        self.check_count("digests", request.digests.len())?;
        // A negative size is refused with its blob and counts for nothing here.
        let sizes = request.digests.iter().map(|d| u64::try_from(d.size_bytes).unwrap_or(0));
        self.check_batch_size(sizes.fold(0, u64::saturating_add))?;
        let responses = stream::iter(request.digests)
            .map(|wire| read_one(&instance.cas, function, wire))
            .buffered(BATCH_CONCURRENCY)
            .collect()
            .await;
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

async fn update_one(
    cas: &Cas,
    function: DigestFunction,
    blob: BatchUpdateBlob,
) -> BatchUpdateOutcome {
    let outcome = store_one(cas, function, &blob).await;
    let status = outcome.err().as_ref().map(to_rpc_status).unwrap_or_default();
    BatchUpdateOutcome { digest: blob.digest, status: Some(status) }
}

async fn store_one(
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
    Ok(cas.put(digest, blob.data.clone()).await?)
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
    // Tags, lengths and the code of a refusal, for each outcome.
    const FRAME_BYTES: usize = 12;
    if response.encoded_len() <= limit_bytes {
        return;
    }
    // Said once: thousands of copies would fill the reply again.
    let mut message = "the reply is full; ask for what is missing again".to_owned();
    let bare_bytes = |one: &BatchReadOutcome| one.encoded_len() - one.data.len() + FRAME_BYTES;
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
