//! From a `grpc` store of a file to the settings of an upstream.

use std::time::Duration;

use nativelink_config::{ClientTlsConfig, GrpcEndpoint, GrpcStore, Located, StoreType};

use super::read_file;
use crate::cli::problems::Problems;
use crate::store::remote::{
    BatchingOptions, ClientTls, Endpoint, RemoteKind, RemoteOptions, RetryOptions,
};

/// Reads the certificates that the store names; what cannot be read is noted with its place.
pub(super) fn options(store: &GrpcStore, problems: &mut Problems) -> Option<RemoteOptions> {
    let endpoints: Vec<Option<Endpoint>> =
        store.endpoints.iter().map(|it| endpoint(it, problems)).collect();
    let endpoints: Option<Vec<Endpoint>> = endpoints.into_iter().collect();
    let kind = match store.store_type {
        StoreType::Cas => RemoteKind::Cas,
        StoreType::Ac => RemoteKind::ActionCache,
    };
    let mut options = RemoteOptions::new(&store.instance_name, endpoints?, kind);
    options.retry = RetryOptions {
        max_retries: u32::try_from(store.retry.max_retries).unwrap_or(u32::MAX),
        delay: store.retry.delay,
        // The format has the width of a band around the pause, this the part left to chance.
        jitter: (store.retry.jitter / 2.0).clamp(0.0, 1.0),
        retry_on: store
            .retry
            .retry_on_errors
            .as_ref()
            .map(|codes| codes.iter().map(|code| *code as i32).collect()),
    };
    options.max_concurrent_requests = at_most(store.max_concurrent_requests.unwrap_or_default());
    options.connections_per_endpoint = at_most(store.connections_per_endpoint);
    options.rpc_timeout = store.rpc_timeout.unwrap_or(Duration::ZERO);
    options.use_legacy_resource_names = store.use_legacy_resource_names;
    options.headers.clone_from(&store.headers);
    options.verify_ranges = store.verify_ranges;
    if let Some(batching) = &store.experimental_read_batching {
        options.batching = BatchingOptions {
            max_blob_bytes: batching.max_blob_size_bytes,
            max_batch_bytes: batching.max_batch_bytes,
            slots: at_most(batching.dispatch_slots),
            max_queued_bytes: batching.max_queued_bytes,
            ..BatchingOptions::default()
        };
    }
    Some(options)
}

fn endpoint(endpoint: &GrpcEndpoint, problems: &mut Problems) -> Option<Endpoint> {
    let tls = endpoint.tls_config.as_ref().map(|tls| client_tls(tls, problems));
    let read = Endpoint {
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        concurrency_limit: endpoint.concurrency_limit.map(at_most),
        connect_timeout: endpoint.connect_timeout,
        tcp_keepalive: endpoint.tcp_keepalive,
        http2_keepalive_interval: endpoint.http2_keepalive_interval,
        http2_keepalive_timeout: endpoint.http2_keepalive_timeout,
        ..Endpoint::new(&*endpoint.address.value)
    };
    if let Err(error) = read.check() {
        problems.add(endpoint.address.place.problem(error.to_string()));
        return None;
    }
    Some(read)
}

fn client_tls(tls: &ClientTlsConfig, problems: &mut Problems) -> Option<ClientTls> {
    let mut pem = |file: &Option<Located<String>>| match file {
        None => Some(None),
        Some(path) => match read_file(path.as_ref()) {
            Ok(text) => Some(Some(text.into_bytes())),
            Err(error) => {
                problems.add(path.place.problem(format!("{:?}: {error}", path.value)));
                None
            }
        },
    };
    let (ca_pem, cert_pem, key_pem) = (pem(&tls.ca_file), pem(&tls.cert_file), pem(&tls.key_file));
    Some(ClientTls { ca_pem: ca_pem?, cert_pem: cert_pem?, key_pem: key_pem? })
}

/// A number as the machine can have it.
pub(super) fn at_most(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
