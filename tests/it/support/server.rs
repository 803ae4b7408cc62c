//! A server in this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castellan::grpc::GrpcOptions;
use castellan::http::HttpOptions;
use castellan::server::{
    GrpcListener, Instances, Server, ServerSettings, StoreKind, StoreSettings, ValuesSettings,
    WorkerSettings,
};
use castellan::store::filesystem::{FilesystemOptions, FilesystemStore};
use castellan::telemetry::recent_errors::RecentErrors;
use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages;
use castellan_proto::v2::capabilities_client::CapabilitiesClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Blob;
use super::stacks::Stack;

const CLIENT_MESSAGE_BYTES: usize = 64 << 20;
const CAP_BYTES: u64 = 256 << 20;
/// The largest value that is no action result.
pub(crate) const MAX_VALUE_BYTES: u64 = 3 << 20;

/// A running server with a directory of its own, which goes with it.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) channel: Channel,
    pub(crate) directory: tempfile::TempDir,
}

/// Asserts the status of a refused call.
#[track_caller]
pub(crate) fn assert_code<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code) -> Status {
    match outcome {
        Err(status) if status.code() == code => status,
        other => panic!("expected {code:?}, got {other:?}"),
    }
}

impl TestServer {
    /// A server of any instance name on the stack of stores that the environment names, each under
    /// a cap of 256 MiB.
    pub(crate) async fn start() -> Self {
        Self::start_with(CAP_BYTES, GrpcOptions::default()).await
    }

    /// The same with other bounds.
    pub(crate) async fn start_with(max_bytes: u64, options: GrpcOptions) -> Self {
        Self::start_stack(Stack::of_environment(), max_bytes, options).await
    }

    /// A server on a stack of stores with a store of every kind.
    pub(crate) async fn start_on_every_kind() -> Self {
        Self::start_stack(Stack::Every, CAP_BYTES, GrpcOptions::default()).await
    }

    async fn start_stack(stack: Stack, max_bytes: u64, options: GrpcOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (stores, instances) = stack.settings(directory.path(), max_bytes);
        Self::start_all(directory, stores, instances, options, HttpOptions::default()).await
    }

    /// The same on one store of files, for tests that look behind the server.
    pub(crate) async fn start_on_files() -> Self {
        Self::start_on_files_with(CAP_BYTES, GrpcOptions::default()).await
    }

    /// The same with other bounds.
    pub(crate) async fn start_on_files_with(max_bytes: u64, options: GrpcOptions) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), max_bytes, options).await
    }

    /// The same on a directory that is there already.
    pub(crate) async fn start_in(
        directory: tempfile::TempDir,
        max_bytes: u64,
        options: GrpcOptions,
    ) -> Self {
        let (stores, instances) = Stack::Files.settings(directory.path(), max_bytes);
        Self::start_all(directory, stores, instances, options, HttpOptions::default()).await
    }

    /// The same with other bounds of the HTTP listener.
    pub(crate) async fn start_http(http: HttpOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (stores, instances) = Stack::Files.settings(directory.path(), CAP_BYTES);
        Self::start_all(directory, stores, instances, GrpcOptions::default(), http).await
    }

    /// The same with every setting of the store and of gRPC.
    pub(crate) async fn start_settings(
        directory: tempfile::TempDir,
        store: FilesystemOptions,
        instances: Instances,
        options: GrpcOptions,
    ) -> Self {
        let name = "default".to_owned();
        let stores = vec![StoreSettings { name, kind: StoreKind::Filesystem(store) }];
        Self::start_all(directory, stores, instances, options, HttpOptions::default()).await
    }

    /// A server of these stores that workers reach. It drains for as long as it takes: what hangs
    /// at the end is found.
    pub(crate) async fn start_for_workers(
        directory: tempfile::TempDir,
        stores: Vec<StoreKind>,
        instances: Instances,
        worker: WorkerSettings,
    ) -> Self {
        let named = stores.into_iter().enumerate();
        let named = named.map(|(at, kind)| StoreSettings { name: format!("store_{at}"), kind });
        let (options, http) = (GrpcOptions::default(), HttpOptions::default());
        let mut settings = settings(named.collect(), instances, options, http);
        settings.worker = Some(worker);
        settings.drain_timeout = Duration::from_hours(1);
        Self::start_server(directory, settings).await
    }

    async fn start_all(
        directory: tempfile::TempDir,
        stores: Vec<StoreSettings>,
        instances: Instances,
        options: GrpcOptions,
        http: HttpOptions,
    ) -> Self {
        Self::start_server(directory, settings(stores, instances, options, http)).await
    }

    async fn start_server(directory: tempfile::TempDir, settings: ServerSettings) -> Self {
        let server = Server::start(settings).await.unwrap();
        let channel = connect(&server).await;
        Self { server, channel, directory }
    }

    /// The store behind it.
    pub(crate) fn store(&self) -> &Arc<FilesystemStore> {
        &self.server.stores()[0]
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        connect(&self.server).await
    }

    /// Stops it and keeps the directory.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        drop(self.channel);
        self.server.shutdown().await.unwrap();
        self.directory
    }

    pub(crate) fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
            .max_decoding_message_size(CLIENT_MESSAGE_BYTES)
            .max_encoding_message_size(CLIENT_MESSAGE_BYTES)
    }

    pub(crate) fn byte_stream(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
            .max_decoding_message_size(CLIENT_MESSAGE_BYTES)
            .max_encoding_message_size(CLIENT_MESSAGE_BYTES)
    }

    pub(crate) fn action_cache(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }

    pub(crate) fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel.clone())
    }

    /// Stores blobs, each in a batch of its own.
    pub(crate) async fn put(&self, blobs: &[&Blob]) {
        for blob in blobs {
            let response = self.write(&blob.write_name(), &blob.data).await.unwrap();
            assert_eq!(response, i64::try_from(blob.data.len()).unwrap());
        }
    }

    /// Writes under a name in messages of 256 KiB; returns the committed size.
    pub(crate) async fn write(&self, name: &str, data: &Bytes) -> Result<i64, Status> {
        let requests = write_requests(name, data, 256 << 10);
        let response = self.byte_stream().write(tokio_stream::iter(requests)).await?;
        Ok(response.into_inner().committed_size)
    }

    /// Reads a whole resource.
    pub(crate) async fn read(&self, name: &str) -> Result<Vec<u8>, Status> {
        self.read_range(name, 0, 0).await
    }

    /// Reads a part of a resource.
    pub(crate) async fn read_range(
        &self,
        name: &str,
        read_offset: i64,
        read_limit: i64,
    ) -> Result<Vec<u8>, Status> {
        let request =
            messages::ReadRequest { resource_name: name.to_owned(), read_offset, read_limit };
        let mut stream = self.byte_stream().read(request).await?.into_inner();
        let mut data = Vec::new();
        while let Some(message) = stream.message().await? {
            data.extend_from_slice(&message.data);
        }
        Ok(data)
    }

    /// The digests of `blobs` that are missing, as hashes, in the order of the answer.
    pub(crate) async fn missing(&self, blobs: &[&Blob]) -> Vec<String> {
        let request = messages::FindMissingBlobsRequest {
            blob_digests: blobs.iter().map(|blob| blob.wire()).collect(),
            digest_function: blobs.first().map_or(0, |it| it.digest.function.to_wire()),
            ..messages::FindMissingBlobsRequest::default()
        };
        let response = self.cas().find_missing_blobs(request).await.unwrap().into_inner();
        response
            .missing_blob_digests
            .into_iter()
            .map(|digest| String::from_utf8(digest.hash.to_vec()).unwrap())
            .collect()
    }
}

fn settings(
    stores: Vec<StoreSettings>,
    instances: Instances,
    options: GrpcOptions,
    http: HttpOptions,
) -> ServerSettings {
    let loopback = ([127, 0, 0, 1], 0).into();
    let sets_room_aside = |store: &StoreSettings| match &store.kind {
        StoreKind::Filesystem(options) => options.set_aside.is_some(),
        _ => false,
    };
    let has_values = stores.iter().any(sets_room_aside);
    ServerSettings {
        values: has_values.then_some(ValuesSettings { max_value_bytes: MAX_VALUE_BYTES }),
        stores,
        listeners: vec![GrpcListener { options, ..GrpcListener::new(loopback, instances) }],
        http_listen: loopback,
        http,
        http_tls: None,
        http_instances: None,
        adopted_results_are_mangled: false,
        admin: None,
        worker: None,
        drain_timeout: Duration::from_secs(10),
        recent_errors: RecentErrors::default(),
    }
}

async fn connect(server: &Server) -> Channel {
    let address = server.grpc_address().unwrap();
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// The messages of a whole upload.
pub(crate) fn write_requests(
    name: &str,
    data: &Bytes,
    chunk_bytes: usize,
) -> Vec<messages::WriteRequest> {
    let mut requests: Vec<_> = data
        .chunks(chunk_bytes)
        .scan(0, |offset, chunk| {
            let write_offset = *offset;
            *offset += i64::try_from(chunk.len()).unwrap();
            Some(messages::WriteRequest {
                write_offset,
                data: data.slice_ref(chunk),
                ..messages::WriteRequest::default()
            })
        })
        .collect();
    if requests.is_empty() {
        requests.push(messages::WriteRequest::default());
    }
    requests.first_mut().unwrap().resource_name = name.to_owned();
    requests.last_mut().unwrap().finish_write = true;
    requests
}
