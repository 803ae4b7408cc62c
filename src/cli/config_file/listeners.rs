//! From the servers of a file to listeners: where they listen, how, and which instances they have.

use std::collections::{BTreeMap, BTreeSet};

use nativelink_config::{
    AdvancedHttp, CasConfig, CompressionCodec, DigestFunction as FileFunction, HttpListener,
    ListenAddress as FileAddress, Listener, Server, Services, TlsConfig,
};

use super::stores::StorePlanner;
use crate::cli::served::resolve_parsed;
use crate::digest::DigestFunction;
use crate::grpc::{GrpcOptions, Http2Options};
use crate::server::{GrpcListener, HealthPage, InstanceSettings, Instances};
use crate::socket::ListenAddress;
use crate::tls::TlsSettings;

/// The listeners of all servers; what is wrong is noted with the stores.
pub(super) fn plan<'c>(config: &'c CasConfig, stores: &mut StorePlanner<'c>) -> Vec<GrpcListener> {
    let mut listeners = Vec::new();
    note_shared_upstreams(config, stores);
    for server in &config.servers {
        let Listener::Http(http) = &server.listener;
        let instances = Instances::Named(instances(config, server, stores).into_iter().collect());
        let address = match address(&http.socket_address) {
            Ok(address) => address,
            Err(text) => {
                stores.problems.add(http.socket_address.place.problem(text));
                continue;
            }
        };
        let services = &server.services;
        listeners.push(GrpcListener {
            freebind: http.freebind,
            tls: http.tls.as_ref().map(tls),
            http2: http2(&http.advanced_http),
            health: services
                .health
                .as_ref()
                .map(|health| HealthPage { path: health.path.clone(), timeout: health.timeout }),
            admin_path: services.admin.as_ref().map(|admin| admin.path.clone()),
            options: options(config, http, services),
            ..GrpcListener::new(address, instances)
        });
    }
    listeners
}

fn address(address: &FileAddress) -> Result<ListenAddress, String> {
    match address {
        FileAddress::Tcp(address) => resolve_parsed(address).map(ListenAddress::Tcp),
        FileAddress::Unix(path) => Ok(ListenAddress::Unix(path.into())),
    }
}

fn options(config: &CasConfig, http: &HttpListener, services: &Services) -> GrpcOptions {
    let mut options = GrpcOptions::default();
    if let Some(bytes) = http.max_decoding_message_size {
        // Never below what the announced batch size needs (reapi 24).
        let limit = &mut options.max_decoding_message_size_bytes;
        *limit = bytes.max(*limit);
    }
    let streams = &services.bytestream;
    let chunks = streams.iter().filter_map(|it| it.max_bytes_per_stream).min();
    if let Some(bytes) = chunks {
        options.read_chunk_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    let idle = streams.iter().filter_map(|it| it.persist_stream_on_disconnect_timeout);
    if let Some(longest) = idle.max() {
        options.parked_upload_ttl = longest;
    }
    if let Some(compression) = &http.compression {
        let accepted = &compression.accepted_compression_algorithms;
        options.accept_gzip = accepted.contains(&CompressionCodec::Gzip);
        options.send_gzip = compression.send_compression_algorithm == CompressionCodec::Gzip;
    }
    options.default_digest_function = match config.global.default_digest_hash_function {
        FileFunction::Sha256 => DigestFunction::Sha256,
        FileFunction::Blake3 => DigestFunction::Blake3,
    };
    options
}

fn tls(tls: &TlsConfig) -> TlsSettings {
    let mut settings = TlsSettings::new(&*tls.cert_file.value, &*tls.key_file.value);
    settings.client_ca_file = tls.client_ca_file.as_ref().map(|file| file.value.clone().into());
    settings.client_crl_file = tls.client_crl_file.as_ref().map(|file| file.value.clone().into());
    settings
}

fn http2(said: &AdvancedHttp) -> Http2Options {
    fn set<T>(to: &mut T, said: Option<T>) {
        if let Some(said) = said {
            *to = said;
        }
    }
    let to_usize = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut options = Http2Options::default();
    set(&mut options.keepalive_interval, said.http2_keep_alive_interval.map(Some));
    set(&mut options.keepalive_timeout, said.http2_keep_alive_timeout);
    set(&mut options.stream_window_bytes, said.http2_initial_stream_window_size);
    set(&mut options.connection_window_bytes, said.http2_initial_connection_window_size);
    set(&mut options.adaptive_window, said.http2_adaptive_window);
    set(&mut options.max_frame_bytes, said.http2_max_frame_size);
    set(&mut options.max_streams, said.http2_max_concurrent_streams);
    set(&mut options.max_header_bytes, said.http2_max_header_list_size);
    set(&mut options.max_send_buffer_bytes, said.http2_max_send_buf_size.map(to_usize));
    let resets = said.http2_max_pending_accept_reset_streams.map(to_usize);
    set(&mut options.max_pending_resets, resets);
    options.connect_protocol = said.http2_enable_connect_protocol;
    options
}

/// The instances of a server, each with the services that it has there.
fn instances<'c>(
    config: &'c CasConfig,
    server: &'c Server,
    stores: &mut StorePlanner<'c>,
) -> BTreeMap<String, InstanceSettings> {
    let mut instances: BTreeMap<String, InstanceSettings> = BTreeMap::new();
    for service in &server.services.cas {
        let instance = instances.entry(service.instance_name.value.clone()).or_default();
        instance.cas = stores.named(&service.cas_store);
    }
    for service in &server.services.bytestream {
        let instance = instances.entry(service.instance_name.value.clone()).or_default();
        instance.bytestream = stores.named(&service.cas_store);
        if instance.cas == instance.bytestream {
            instance.bytestream = None;
        }
    }
    for service in &server.services.ac {
        let name = &service.instance_name.value;
        let instance = instances.entry(name.clone()).or_default();
        instance.action_cache = stores.named(&service.ac_store);
        instance.action_cache_read_only = service.read_only;
        if instance.cas.is_none() {
            instance.completeness = completeness(config, name, &service.ac_store, stores);
            if instance.completeness.is_none() {
                stores.notes.push(format!(
                    "the file has no blobs of the instance {name:?}: its action results are \
                     served without a check that what they name is there"
                ));
            }
        }
    }
    instances
}

/// Where the blobs are of an instance that has only action results on its listener: where another
/// listener has them, or where the store of the results says.
fn completeness<'c>(
    config: &'c CasConfig,
    instance_name: &str,
    ac_store: &str,
    stores: &mut StorePlanner<'c>,
) -> Option<usize> {
    let mut elsewhere = config.servers.iter().flat_map(|server| &server.services.cas);
    match elsewhere.find(|service| service.instance_name.value == instance_name) {
        Some(service) => stores.named(&service.cas_store),
        None => stores.completeness_of(ac_store),
    }
}

/// An upstream has one instance name: what several instances here keep there is the same there.
fn note_shared_upstreams(config: &CasConfig, stores: &mut StorePlanner<'_>) {
    let mut instances: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for service in config.servers.iter().flat_map(|server| &server.services.ac) {
        instances.entry(&service.ac_store).or_default().insert(&service.instance_name);
    }
    for (store, names) in instances {
        let spec = stores.find(store).map(|store| &store.spec);
        if names.len() > 1 && spec.is_some_and(|spec| stores.is_remote(spec)) {
            stores.notes.push(format!(
                "the instances {names:?} keep their action results in {store:?}, which is another \
                 server with one name for them: they read and replace each other's"
            ));
        }
    }
}
