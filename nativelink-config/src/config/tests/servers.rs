//! Goal: every key of a listener and a service means what it says. Method: whole files under
//! testdata/valid/.

use super::valid;
use crate::{
    AdvancedHttp, CasConfig, Chunking, CompressionCodec, HttpCompression, HttpListener,
    ListenAddress, Listener,
};
use std::time::Duration;

fn http(config: &CasConfig, index: usize) -> &HttpListener {
    let Listener::Http(http) = &config.servers[index].listener;
    http
}

#[test]
fn a_listener_has_every_key() {
    let config = valid!("listeners");
    assert_eq!(config.servers[0].name, "everything");
    let listener = http(&config, 0);
    assert_eq!(listener.socket_address.to_string(), "0.0.0.0:50051");
    assert!(listener.freebind);
    assert_eq!(listener.max_decoding_message_size, Some(16 << 20));
    let compression = HttpCompression {
        send_compression_algorithm: CompressionCodec::Gzip,
        accepted_compression_algorithms: vec![CompressionCodec::None, CompressionCodec::Gzip],
    };
    assert_eq!(listener.compression, Some(compression));
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.cert_file.value, "/home/ada/cert.pem");
    assert_eq!(tls.cert_file.place.path, "servers[0].listener.http.tls.cert_file");
    assert_eq!(tls.key_file.value, "/srv/key.pem");
    assert_eq!(tls.client_ca_file.as_ref().unwrap().value, "/etc/ca.pem");
    assert_eq!(tls.client_crl_file.as_ref().unwrap().value, "/etc/crl.pem");
    let advanced = AdvancedHttp {
        http2_keep_alive_interval: Some(Duration::from_secs(10)),
        http2_keep_alive_timeout: Some(Duration::from_secs(20)),
        http2_max_pending_accept_reset_streams: Some(20),
        http2_initial_stream_window_size: Some(65_535),
        http2_initial_connection_window_size: Some(2_147_483_647),
        http2_adaptive_window: Some(true),
        http2_max_frame_size: Some(16_384),
        http2_max_concurrent_streams: Some(100),
        http2_max_send_buf_size: Some(1 << 20),
        http2_enable_connect_protocol: true,
        http2_max_header_list_size: Some(16_384),
    };
    assert_eq!(listener.advanced_http, advanced);
}

#[test]
fn servers_listen_in_many_ways() {
    let config = valid!("listeners");
    let addresses: Vec<String> = (0..config.servers.len())
        .map(|index| http(&config, index).socket_address.to_string())
        .collect();
    assert_eq!(
        addresses,
        [
            "0.0.0.0:50051",
            "unix:/run/castellan/cas.sock",
            "unix:/run/other.sock",
            "[::1]:50052",
            "cache.internal:50052",
            ":50053",
            ":0",
            "0.0.0.0:0",
        ]
    );
    let listener = http(&config, 1);
    let path = ListenAddress::Unix("/run/castellan/cas.sock".to_owned());
    assert_eq!(listener.socket_address.value, path);
    assert_eq!(listener.compression, Some(HttpCompression::default()));
    let advanced = AdvancedHttp {
        http2_keep_alive_timeout: Some(Duration::from_secs(5)),
        http2_max_frame_size: Some(16_777_215),
        http2_adaptive_window: Some(false),
        ..AdvancedHttp::default()
    };
    assert_eq!(listener.advanced_http, advanced);
    let listener = http(&config, 5);
    assert_eq!((&listener.tls, &listener.compression), (&None, &None));
    assert_eq!(listener.advanced_http, AdvancedHttp::default());
}

#[test]
fn services_have_every_key() {
    let config = valid!("services");
    let services = &config.servers[0].services;
    let chunking = services.cas[0].experimental_chunking.as_ref().unwrap();
    assert_eq!(chunking.index_store.as_ref().unwrap().value, "INDEX");
    assert_eq!((chunking.avg_chunk_size_bytes, chunking.max_chunk_count), (1024, 10));
    let chunking = services.cas[1].experimental_chunking.as_ref().unwrap();
    assert_eq!((chunking.avg_chunk_size_bytes, chunking.max_chunk_count), (1 << 20, 50_000));
    assert!(services.ac[0].read_only && !services.ac[1].read_only);
    let capabilities = services.capabilities.as_ref().unwrap();
    assert!(capabilities[0].remote_cache_compression);
    assert!(!capabilities[1].remote_cache_compression);
    assert_eq!(services.bytestream[0].max_bytes_per_stream, Some(64 << 10));
    let health = services.health.as_ref().unwrap();
    assert_eq!((health.path.as_str(), health.timeout), ("/healthz", Duration::from_secs(10)));
    assert_eq!(services.admin.as_ref().unwrap().path, "/workers");
}

#[test]
fn services_have_the_defaults_of_the_format() {
    let config = valid!("defaults");
    assert_eq!(http(&config, 0).tls.as_ref().unwrap().client_ca_file, None);
    let services = &config.servers[0].services;
    let chunking =
        Chunking { index_store: None, avg_chunk_size_bytes: 512 << 10, max_chunk_count: 50_000 };
    assert_eq!(services.cas[0].experimental_chunking, Some(chunking));
    assert!(!services.ac[0].read_only);
    let stream = &services.bytestream[0];
    assert_eq!(stream.max_bytes_per_stream, None);
    assert_eq!(stream.persist_stream_on_disconnect_timeout, None);
    let health = services.health.as_ref().unwrap();
    assert_eq!((health.path.as_str(), health.timeout), ("/status", Duration::from_secs(5)));
    assert_eq!(services.admin.as_ref().unwrap().path, "/admin");
}

#[test]
fn parts_that_ask_for_nothing_are_accepted() {
    let config = valid!("asks_for_nothing");
    assert!(config.unsupported.is_empty());
    assert_eq!(config.servers[0].services.capabilities, Some(Vec::new()));
}
