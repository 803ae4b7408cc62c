//! Goal: parts that do not run are read as completely as the others. Method: whole files under
//! testdata/valid/, of which every value is looked at once.

use super::{spec, valid};
use crate::{
    AllocationStrategy, AzureContainer, CasConfig, CloudProvider, CloudStore, EnvironmentSource,
    GcsBucket, Interval, LocalWorker, PropertyModification, PropertyType, RedisMode,
    SchedulerBackend, SchedulerSpec, StoreSpec, UnsupportedStore, UploadStrategy, Worker,
    WorkerProperty,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn unsupported<'c>(config: &'c CasConfig, name: &str) -> &'c UnsupportedStore {
    match spec(config, name) {
        StoreSpec::Unsupported(store) => store,
        other => panic!("{other:?}"),
    }
}

fn cloud<'c>(config: &'c CasConfig, name: &str) -> &'c CloudStore {
    match unsupported(config, name) {
        UnsupportedStore::Cloud(store) => store,
        other => panic!("{other:?}"),
    }
}

fn scheduler<'c>(config: &'c CasConfig, name: &str) -> &'c SchedulerSpec {
    &config.schedulers.iter().find(|scheduler| scheduler.name.as_str() == name).unwrap().spec
}

fn worker(config: &CasConfig, index: usize) -> &LocalWorker {
    let Worker::Local(worker) = &config.workers[index];
    worker
}

#[test]
fn redis_stores_have_every_setting() {
    let config = valid!("redis");
    let UnsupportedStore::Redis(store) = unsupported(&config, "ALL") else { panic!() };
    assert_eq!(store.addresses[1], "redis://other:6379/");
    assert_eq!(store.mode, RedisMode::Cluster);
    assert_eq!(store.command_timeout, 5 * SECOND);
    assert_eq!(store.connection_timeout, SECOND);
    assert_eq!(store.health_check_timeout, 2 * SECOND);
    assert_eq!((store.read_chunk_size, store.connection_pool_size), (128 << 10, 5));
    assert_eq!(store.key_prefix, "cas:");
    assert_eq!(store.key_ttl, Some(Duration::from_hours(7 * 24)));
    assert_eq!((store.max_chunk_uploads_per_update, store.scan_count), (11, 12));
    assert_eq!((store.max_client_permits, store.max_count_per_cursor), (13, 14));
    assert_eq!(store.retry.delay, SECOND / 10);
    assert_eq!(store.experimental_pub_sub_channel.as_deref(), Some("events"));

    let UnsupportedStore::Redis(store) = unsupported(&config, "OLD") else { panic!() };
    assert_eq!(store.mode, RedisMode::Standard);
    assert_eq!((store.command_timeout, store.connection_timeout), (20 * SECOND, 3 * SECOND));
    assert_eq!((store.read_chunk_size, store.key_ttl), (64 << 10, None));
}

#[test]
fn cloud_stores_have_every_setting() {
    let config = valid!("clouds");
    let aws = cloud(&config, "AWS");
    let (region, bucket) = ("eu-central-1".to_owned(), "cache".to_owned());
    assert_eq!(aws.provider, CloudProvider::Aws { region, bucket: bucket.clone() });
    assert_eq!(aws.objects.key_prefix.as_deref(), Some("cas/"));
    assert_eq!(aws.objects.consider_expired_after, Some(Duration::from_hours(7 * 24)));
    assert_eq!(aws.objects.max_retry_buffer_per_request, 20 << 20);
    assert_eq!(aws.objects.multipart_max_concurrent_uploads, 11);
    assert!(aws.objects.insecure_allow_http && aws.objects.disable_http2);

    let gcs = cloud(&config, "GCS");
    let expected = GcsBucket {
        bucket,
        resumable_chunk_size: 4 << 20,
        authentication_required: true,
        connection_timeout: 5 * SECOND,
        read_timeout: 6 * SECOND,
    };
    assert_eq!(gcs.provider, CloudProvider::Gcs(expected));
    assert_eq!(gcs.objects.max_retry_buffer_per_request, 5 << 20);

    let CloudProvider::Azure(AzureContainer { account_name, sas_url, .. }) =
        &cloud(&config, "SIGNED").provider
    else {
        panic!()
    };
    assert_eq!((account_name.as_str(), sas_url.is_some()), ("", true));
    let CloudProvider::Oci { keys, .. } = &cloud(&config, "OCI").provider else { panic!() };
    assert_eq!(keys.secret_access_key.as_deref(), Some("secret"));
    let UnsupportedStore::OntapExistenceCache(cache) = unsupported(&config, "INDEXED") else {
        panic!()
    };
    assert_eq!(cache.index_path.value, "/home/ada/index");
    assert_eq!(cache.sync_interval, Duration::from_hours(1));
    assert_eq!(cache.bucket.vserver_name, "vs1");
}

#[test]
fn stores_in_mongo_have_every_setting() {
    let config = valid!("mongo");
    let UnsupportedStore::Mongo(store) = unsupported(&config, "ALL") else { panic!() };
    assert_eq!(store.database, "castellan");
    assert_eq!((store.connection_timeout, store.command_timeout), (SECOND, 2 * SECOND));
    assert_eq!(store.write_concern_w.as_deref(), Some("1"));
    assert_eq!(store.write_concern_timeout, Some(SECOND / 2));
    assert_eq!(store.max_requests, Some(7));
    let StoreSpec::FastSlow(behind) = spec(&config, "BEHIND") else { panic!() };
    let StoreSpec::Unsupported(slow) = &behind.slow.value else { panic!() };
    let UnsupportedStore::Mongo(store) = &**slow else { panic!() };
    assert_eq!((store.database.as_str(), store.cas_collection.as_str()), ("nativelink", "cas"));
    assert_eq!(store.write_concern_w.as_deref(), Some("majority"));
}

#[test]
fn schedulers_have_every_setting() {
    let config = valid!("schedulers");
    let SchedulerSpec::Simple(simple) = scheduler(&config, "SIMPLE") else { panic!() };
    assert_eq!(simple.supported_platform_properties[2], ("zone".into(), PropertyType::Priority));
    assert_eq!(simple.retain_completed_for, 120 * SECOND);
    assert_eq!((simple.client_action_timeout, simple.worker_timeout), (90 * SECOND, 7 * SECOND));
    assert_eq!(simple.max_action_executing_timeout, Some(Duration::from_hours(1)));
    assert_eq!((simple.unacknowledged_kill_timeout, simple.max_job_retries), (61 * SECOND, 4));
    assert_eq!(simple.allocation_strategy, AllocationStrategy::MostRecentlyUsed);
    let SchedulerBackend::Redis { redis_store } = &simple.experimental_backend else { panic!() };
    assert_eq!(redis_store.value, "STATE");
    assert_eq!(simple.worker_match_logging_interval, Interval::Never);
    assert_eq!(simple.fallback_match_interval, Duration::ZERO);

    let SchedulerSpec::Grpc(remote) = scheduler(&config, "REMOTE") else { panic!() };
    assert_eq!(remote.endpoint.address.value, "grpcs://scheduler:443");
    assert_eq!((remote.max_concurrent_requests, remote.connections_per_endpoint), (Some(10), 2));

    let SchedulerSpec::CacheLookup(lookup) = scheduler(&config, "LAYERS") else { panic!() };
    assert_eq!(lookup.ac_store.value, "DISK");
    let SchedulerSpec::PropertyModifier(modifier) = &*lookup.scheduler else { panic!() };
    assert_eq!(modifier.modifications.len(), 4);
    assert_eq!(modifier.modifications[1], PropertyModification::Remove("b".to_owned()));
    let SchedulerSpec::HistoricalResource(sized) = &*modifier.scheduler else { panic!() };
    assert_eq!(sized.hints_file.value, "/home/ada/hints.json");
    assert_eq!((sized.refresh_interval, &*sized.cpu_property_name), (60 * SECOND, "cpu"));
    assert!(matches!(&*sized.scheduler, SchedulerSpec::Simple(_)));
    let api = config.servers[0].services.others.worker_api.as_ref().unwrap();
    assert!(api.disable_kill_revoked_operations);
    assert_eq!(api.kill_revoked_operations_interval, 9 * SECOND);
}

#[test]
fn workers_have_every_setting() {
    let config = valid!("workers");
    let all = worker(&config, 0);
    assert_eq!(all.name, "worker on /srv");
    assert_eq!(all.worker_api_endpoint.uri.value, "grpcs://scheduler:50061");
    assert_eq!(all.worker_api_endpoint.timeout, SECOND * 5 / 2);
    assert!(all.worker_api_endpoint.tls_config.as_ref().unwrap().use_native_roots);
    assert_eq!(all.max_action_timeout, Duration::from_hours(1));
    assert_eq!((all.max_upload_timeout, all.max_cleanup_wait), (100 * SECOND, 10 * SECOND));
    assert_eq!(all.max_cleanup_backoff, SECOND / 4);
    assert_eq!(all.max_inflight_tasks, Some(8));
    assert_eq!(all.entrypoint, "/srv/run.sh");
    let results = &all.upload_action_result;
    assert_eq!(results.upload_ac_results_strategy, UploadStrategy::Everything);
    assert_eq!(results.historical_results_store.as_ref().unwrap().value, "DISK");
    let values = WorkerProperty::Values(vec!["linux".to_owned(), "/srv".to_owned()]);
    assert_eq!(all.platform_properties[1], ("os".to_owned(), values));
    let sources: Vec<&EnvironmentSource> =
        all.additional_environment.iter().map(|(_, source)| source).collect();
    assert_eq!(*sources[1], EnvironmentSource::Value("b/srv".to_owned()));
    assert_eq!(*sources[4], EnvironmentSource::ActionDirectory);
    let cache = all.directory_cache.as_ref().unwrap();
    assert_eq!((cache.max_entries, cache.max_size_bytes), (10, Some(1 << 30)));
    assert_eq!(all.use_namespaces, Some(false));

    let old = worker(&config, 1);
    assert_eq!((old.max_action_timeout, old.max_upload_timeout), (60 * SECOND, 70 * SECOND));
    assert_eq!(old.max_cleanup_backoff, SECOND / 50);
    assert_eq!(old.directory_cache.as_ref().unwrap().max_size_bytes, None);
}

#[test]
fn services_around_the_cache_have_every_setting() {
    let config = valid!("other_services");
    let services = &config.servers[0].services.others;
    assert_eq!(services.execution[0].instance_name.value, "main");
    assert_eq!(services.execution[0].scheduler.value, "MAIN");
    assert!(services.fetch[0].read_only && !services.push[0].read_only);
    assert_eq!(services.experimental_bep.as_ref().unwrap().store.value, "DISK");
    let old = &config.servers[1].services.others;
    assert_eq!(old.push[1].instance_name.value, "");
    let header = config.servers[0].experimental_identity_header.as_ref().unwrap();
    assert_eq!((header.header_name.as_str(), header.required), ("x-user", false));
    let header = config.servers[1].experimental_identity_header.as_ref().unwrap();
    assert_eq!((header.header_name.as_str(), header.required), ("x-identity", true));
    assert_eq!(config.experimental_origin_events.unwrap().max_event_queue_size, 5);
}
