//! Goal: valid files give exactly what they say; invalid files give every problem, at its place, in
//! words that are worth keeping stable. Method: whole files under testdata/; beside each stands the
//! text an operator sees (`corpus`), here is what the valid ones mean.

mod corpus;
mod hostile;
mod mutations;
mod others;
mod servers;
mod stores;

use super::*;
use crate::{Diagnostic, DigestFunction, FilesystemStore, Listener, StoreSpec};
use std::time::Duration;

fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/ada".to_owned()),
        "ROOT" => Some("/srv".to_owned()),
        _ => None,
    }
}

fn parse_valid(text: &str) -> CasConfig {
    parse("cas.json5", text, &env).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a file of testdata/valid/ means.
macro_rules! valid {
    ($name:literal) => {
        super::parse_valid(include_str!(concat!("../../../testdata/valid/", $name, ".json5")))
    };
}
use valid;

fn filesystem(config: &CasConfig, index: usize) -> &FilesystemStore {
    match &config.stores[index].spec.value {
        StoreSpec::Filesystem(store) => store,
        other => panic!("{other:?}"),
    }
}

/// The store with this name.
fn spec<'c>(config: &'c CasConfig, name: &str) -> &'c StoreSpec {
    let store = config.stores.iter().find(|store| store.name.value == name);
    &store.unwrap_or_else(|| panic!("no store {name}")).spec.value
}

fn assert_problems(text: &str, expected: &[&str]) {
    let problems = parse("f", text, &env).expect_err("the file has problems");
    let found: Vec<String> = problems.iter().map(Diagnostic::to_string).collect();
    let mut found_lines = found.iter();
    for line in expected {
        assert_eq!(found_lines.next().map(String::as_str), Some(*line), "all: {found:#?}");
    }
    assert_eq!(found_lines.next(), None, "unexpected");
}

#[test]
fn minimal_file_has_defaults() {
    let config = parse_valid(include_str!("../../testdata/valid/minimal.json5"));
    let store = filesystem(&config, 0);
    assert_eq!(store.content_path.value, "/var/cache/cas");
    assert_eq!(store.temp_path, None);
    assert_eq!(store.eviction_policy, crate::EvictionPolicy::default());
    assert_eq!(config.servers.len(), 1);
    let services = &config.servers[0].services;
    assert_eq!(services.cas[0].instance_name.value, "");
    assert_eq!(services.capabilities, None);
    assert_eq!(services.health, None);
    assert_eq!(config.global, GlobalConfig::default());
    assert!(config.warnings.is_empty());
}

#[test]
fn full_file_has_every_store_setting() {
    let config = parse_valid(include_str!("../../testdata/valid/full.json5"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);

    let cas = filesystem(&config, 0);
    assert_eq!(config.stores[0].name.value, "CAS_MAIN");
    assert_eq!(cas.content_path.value, "/home/ada/castellan/cas");
    assert_eq!(cas.content_path.place.to_string(), "cas.json5:7:23");
    assert_eq!(cas.content_path.place.path, "stores[0].filesystem.content_path");
    assert_eq!(cas.temp_path.as_ref().unwrap().value, "/var/cache/tmp");
    assert_eq!(cas.read_buffer_size, Some(32 * 1024));
    assert_eq!(cas.block_size, Some(4096));
    assert_eq!(cas.max_concurrent_writes, Some(16));
    assert!(cas.evict_page_cache);
    assert_eq!(cas.eviction_policy.max_bytes, Some(10_000_000_000));
    assert_eq!(cas.eviction_policy.evict_bytes, 1 << 30);
    assert_eq!(cas.eviction_policy.max_seconds, Some(Duration::from_hours(24)));
    assert_eq!(cas.eviction_policy.max_count, Some(1_000_000));

    let ac = filesystem(&config, 1);
    assert_eq!(ac.content_path.value, "/srv/ac");
    assert_eq!(ac.temp_path, None);
    assert_eq!(ac.max_concurrent_writes, None);
    assert_eq!(ac.eviction_policy.max_bytes, Some(500_000_000));
    assert_eq!(ac.eviction_policy.max_seconds, Some(Duration::from_secs(90)));

    // The format's first implementation reads this as 0, which would be forever.
    let spare = filesystem(&config, 2);
    assert_eq!(spare.eviction_policy.max_seconds, Some(Duration::from_millis(500)));
}

#[test]
fn full_file_has_every_server_setting() {
    let config = parse_valid(include_str!("../../testdata/valid/full.json5"));
    let server = &config.servers[0];
    assert_eq!(server.name, "public on /srv");
    assert_eq!(server.place.to_string(), "cas.json5:35:5");
    let Listener::Http(http) = &server.listener;
    assert_eq!(http.socket_address.to_string(), "0.0.0.0:50051");
    assert_eq!(http.max_decoding_message_size, Some(64 << 20));
    assert!(http.freebind);

    let services = &server.services;
    assert_eq!(services.cas[0].instance_name.value, "main");
    assert_eq!(services.cas[0].cas_store.value, "CAS_MAIN");
    assert_eq!(services.cas[1].instance_name.value, "");
    assert_eq!(services.ac[0].ac_store.value, "AC_MAIN");
    assert!(services.ac[0].read_only);
    assert_eq!(services.capabilities.as_ref().unwrap()[0].instance_name.value, "main");
    assert_eq!(services.bytestream[0].max_bytes_per_stream, Some(64 * 1024));
    let timeout = services.bytestream[0].persist_stream_on_disconnect_timeout;
    assert_eq!(timeout, Some(Duration::from_secs(10)));
    assert_eq!(services.bytestream[1].max_bytes_per_stream, None);
    let timeout = services.bytestream[1].persist_stream_on_disconnect_timeout;
    assert_eq!(timeout, Some(Duration::from_secs(90)));
    let health = services.health.as_ref().unwrap();
    assert_eq!((health.path.as_str(), health.timeout), ("/status", Duration::from_secs(5)));

    let Listener::Http(http) = &config.servers[1].listener;
    assert_eq!(http.socket_address.to_string(), "localhost:0");
    assert_eq!(config.servers[1].services.capabilities, Some(Vec::new()));

    assert_eq!(config.global.max_open_files, Some(24_576));
    assert_eq!(config.global.default_digest_hash_function, DigestFunction::Blake3);
    assert_eq!(config.global.default_digest_size_health_check, Some(1 << 20));
}

#[test]
fn old_forms_are_read_with_a_warning() {
    let config = parse_valid(include_str!("../../testdata/valid/old_forms.json5"));
    let services = &config.servers[0].services;
    assert_eq!(services.cas[0].instance_name.value, "main");
    assert_eq!(services.ac[1].instance_name.value, "");
    assert_eq!(services.ac[1].ac_store.place.path, "servers[0].services.ac[\"\"].ac_store");
    assert!(services.ac[1].read_only);
    assert_eq!(services.capabilities.as_ref().unwrap().len(), 1);
    assert_eq!(services.bytestream.len(), 2);
    assert_eq!(services.bytestream[0].instance_name.value, "main");
    assert_eq!(services.bytestream[1].max_bytes_per_stream, Some(1 << 20));
    let timeout = services.bytestream[1].persist_stream_on_disconnect_timeout;
    assert_eq!(timeout, Some(Duration::from_secs(45)));
}

#[test]
fn duplicate_keys_are_reported_with_the_other_problems() {
    assert_problems(
        "{\n stores: [],\n stores: [],\n servers: [],\n}",
        &[
            "f:3:2: stores: duplicate key; line 2 has it already",
            "f:4:11: servers: there has to be at least one server",
        ],
    );
}

#[test]
fn the_root_is_an_object() {
    assert_problems("[]", &["f:1:1: expected an object, found an array"]);
    assert_problems("'x'", &["f:1:1: expected an object, found \"x\""]);
    assert_problems(
        "{}",
        &["f:1:1: stores: this key is required", "f:1:1: servers: this key is required"],
    );
    assert_problems("{stores: [", &["f:1:10: this \"[\" has no matching \"]\""]);
}

#[test]
fn a_key_with_its_old_name_is_required_or_optional_alike() {
    let text = |key: &str| {
        include_str!("../../testdata/valid/old_forms.json5")
            .replace("persist_stream_on_disconnect_timeout", key)
    };
    let config = parse_valid(&text("persist_stream_on_disconnect_timeout_s"));
    let timeout = config.servers[0].services.bytestream[0].persist_stream_on_disconnect_timeout;
    assert_eq!(timeout, Some(Duration::from_secs(45)));
}

#[test]
fn switches_come_from_the_environment_too() {
    let text = |value: &str| {
        include_str!("../../testdata/valid/full.json5").replace(
            "remote_cache_compression: false",
            &format!("remote_cache_compression: {value}"),
        )
    };
    parse_valid(&text("'${COMPRESS:-false}'"));
    let config = parse_valid(&text("'${COMPRESS:-true}'"));
    assert_eq!(
        config.warnings.to_string(),
        "cas.json5:51:75: servers[0].services.capabilities[0].remote_cache_compression: this has \
         no effect: it is not announced to clients, who then do without"
    );
}
