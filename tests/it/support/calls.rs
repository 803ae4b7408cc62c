//! One call of each method about one blob, so that a rule can be tested on all of them.
//!
//! `Ok(true)` is success, `Ok(false)` means that the blob or result is absent, and the status of a
//! blob in a batch counts as that of its call.

use bytes::Bytes;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest, Digest,
    FindMissingBlobsRequest, GetActionResultRequest, GetTreeRequest, QueryWriteStatusRequest,
    UpdateActionResultRequest,
};
use castellan_proto::rpc;
use castellan_proto::v2::GetCapabilitiesRequest;
use tonic::{Code, Status};

use super::{Blob, TestServer};

/// What became of the call of a method.
pub(crate) type Outcome = (&'static str, Result<bool, Status>);

/// What calls are about. The digest is what is sent, right or wrong.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) instance_name: String,
    /// For the requests that have a field for it.
    pub(crate) digest_function: i32,
    /// For resource names: nothing, or a function and a slash.
    pub(crate) segment: &'static str,
    pub(crate) hash: String,
    pub(crate) size_bytes: i64,
    /// What is uploaded.
    pub(crate) data: Bytes,
}

impl Subject {
    /// The right way to talk about `blob`, in the empty instance.
    pub(crate) fn of(blob: &Blob) -> Self {
        Self {
            instance_name: String::new(),
            digest_function: blob.digest.function.to_wire(),
            segment: blob.digest.function.path_segment().map_or("", |_| "blake3/"),
            hash: blob.digest.hash_hex().as_str().to_owned(),
            size_bytes: i64::try_from(blob.digest.size_bytes).unwrap(),
            data: blob.data.clone(),
        }
    }

    /// The same in another instance.
    pub(crate) fn in_instance(blob: &Blob, instance_name: &str) -> Self {
        Self { instance_name: instance_name.to_owned(), ..Self::of(blob) }
    }

    fn digest(&self) -> Digest {
        Digest { hash: Bytes::from(self.hash.clone()), size_bytes: self.size_bytes }
    }

    fn prefix(&self) -> String {
        if self.instance_name.is_empty() {
            return String::new();
        }
        format!("{}/", self.instance_name)
    }

    fn blob_part(&self) -> String {
        format!("blobs/{}{}/{}", self.segment, self.hash, self.size_bytes)
    }

    fn upload_name(&self) -> String {
        format!("{}uploads/{}/{}", self.prefix(), uuid::Uuid::new_v4(), self.blob_part())
    }

    /// The three methods that write.
    pub(crate) async fn write_calls(&self, server: &TestServer) -> Vec<Outcome> {
        vec![
            ("BatchUpdateBlobs", self.batch_update(server).await),
            ("Write", server.write(&self.upload_name(), &self.data).await.map(|_| true)),
            ("UpdateActionResult", self.update_action_result(server).await),
        ]
    }

    /// The six methods that read.
    pub(crate) async fn read_calls(&self, server: &TestServer) -> Vec<Outcome> {
        let name = format!("{}{}", self.prefix(), self.blob_part());
        let read = server.read(&name).await.map(|data| {
            assert_eq!(data, self.data);
            true
        });
        vec![
            ("FindMissingBlobs", self.find_missing(server).await),
            ("BatchReadBlobs", self.batch_read(server).await),
            ("GetTree", absent(self.get_tree(server).await)),
            ("Read", absent(read)),
            ("QueryWriteStatus", self.query(server).await),
            ("GetActionResult", absent(self.get_action_result(server).await)),
        ]
    }

    /// All nine methods about a blob, the writing ones first.
    pub(crate) async fn calls(&self, server: &TestServer) -> Vec<Outcome> {
        let mut outcomes = self.write_calls(server).await;
        outcomes.extend(self.read_calls(server).await);
        outcomes
    }

    /// The tenth, which is about an instance only.
    pub(crate) async fn capabilities(&self, server: &TestServer) -> Outcome {
        let request = GetCapabilitiesRequest { instance_name: self.instance_name.clone() };
        let reply = server.capabilities().get_capabilities(request).await;
        ("GetCapabilities", reply.map(|_| true))
    }

    async fn find_missing(&self, server: &TestServer) -> Result<bool, Status> {
        let request = FindMissingBlobsRequest {
            instance_name: self.instance_name.clone(),
            blob_digests: vec![self.digest()],
            digest_function: self.digest_function,
        };
        let reply = server.cas().find_missing_blobs(request).await?.into_inner();
        Ok(reply.missing_blob_digests.is_empty())
    }

    async fn batch_update(&self, server: &TestServer) -> Result<bool, Status> {
        let digest = Some(self.digest());
        let blob = BatchUpdateBlob { digest, data: self.data.clone(), compressor: 0 };
        let request = BatchUpdateBlobsRequest {
            instance_name: self.instance_name.clone(),
            requests: vec![blob],
            digest_function: self.digest_function,
        };
        let reply = server.cas().batch_update_blobs(request).await?.into_inner();
        of_blob(reply.responses[0].status.as_ref())
    }

    async fn batch_read(&self, server: &TestServer) -> Result<bool, Status> {
        let request = BatchReadBlobsRequest {
            instance_name: self.instance_name.clone(),
            digests: vec![self.digest()],
            acceptable_compressors: Vec::new(),
            digest_function: self.digest_function,
        };
        let reply = server.cas().batch_read_blobs(request).await?.into_inner();
        let is_present = of_blob(reply.responses[0].status.as_ref())?;
        assert_eq!(reply.responses[0].data, if is_present { &self.data[..] } else { &[] });
        Ok(is_present)
    }
}

impl Subject {
    async fn get_tree(&self, server: &TestServer) -> Result<bool, Status> {
        let request = GetTreeRequest {
            instance_name: self.instance_name.clone(),
            root_digest: Some(self.digest()),
            digest_function: self.digest_function,
            ..GetTreeRequest::default()
        };
        let mut pages = server.cas().get_tree(request).await?.into_inner();
        let page = pages.message().await?.unwrap();
        assert_eq!(page.directories[0], self.data);
        Ok(true)
    }

    async fn query(&self, server: &TestServer) -> Result<bool, Status> {
        let request = QueryWriteStatusRequest { resource_name: self.upload_name() };
        Ok(server.byte_stream().query_write_status(request).await?.into_inner().complete)
    }

    async fn get_action_result(&self, server: &TestServer) -> Result<bool, Status> {
        let request = GetActionResultRequest {
            instance_name: self.instance_name.clone(),
            action_digest: Some(self.digest()),
            digest_function: self.digest_function,
            ..GetActionResultRequest::default()
        };
        server.action_cache().get_action_result(request).await.map(|_| true)
    }

    async fn update_action_result(&self, server: &TestServer) -> Result<bool, Status> {
        let request = UpdateActionResultRequest {
            instance_name: self.instance_name.clone(),
            action_digest: Some(self.digest()),
            action_result: Some(Bytes::new()),
            digest_function: self.digest_function,
        };
        server.action_cache().update_action_result(request).await.map(|_| true)
    }
}

fn absent(outcome: Result<bool, Status>) -> Result<bool, Status> {
    match outcome {
        Err(status) if status.code() == Code::NotFound => Ok(false),
        other => other,
    }
}

fn of_blob(status: Option<&rpc::Status>) -> Result<bool, Status> {
    let status = status.unwrap();
    match Code::from_i32(status.code) {
        Code::Ok => Ok(true),
        code => absent(Err(Status::new(code, &status.message))),
    }
}

/// Asserts that every call ended well, and found or stored what it is about.
#[track_caller]
pub(crate) fn assert_all_present(outcomes: &[Outcome]) {
    for (method, outcome) in outcomes {
        assert!(matches!(outcome, Ok(true)), "{method}: {outcome:?}");
    }
}

/// Asserts that every call was refused as the client's mistake.
#[track_caller]
pub(crate) fn assert_all_invalid(outcomes: &[Outcome], subject: &impl std::fmt::Debug) {
    for (method, outcome) in outcomes {
        let code = outcome.as_ref().map_err(Status::code);
        assert_eq!(code, Err(Code::InvalidArgument), "{method}: {outcome:?} for {subject:?}");
    }
}
