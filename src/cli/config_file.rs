//! From a `NativeLink` configuration file to the settings of a server.
//!
//! The file's own problems are found by `nativelink-config`; here are those that concern what this
//! program does with it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use nativelink_config::{
    AcService, AdvancedHttp, CasConfig, CasService, Diagnostics, DigestFunction,
    FilesystemExtension, FilesystemStore, ListenAddress, Listener, Located, Setting, StoreSpec,
};

use super::problems::Problems;
use super::served::{Served, resolve_parsed};
use super::store_flags::whole_seconds;
use crate::grpc::GrpcOptions;
use crate::server::{GrpcListener, InstanceSettings, Instances};
use crate::store::filesystem::{Cap, FilesystemOptions};

/// Larger files are no configuration.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The cap of a store whose policy has none: the format's "never evict" would fill the disk.
const UNBOUNDED_SHARE_PERCENT: u8 = 80;

/// Reads the file and says what to serve; every problem is noted with its place.
pub(super) fn plan(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<Served> {
    let config = match parse(path, env) {
        Ok(config) => config,
        Err(found) => {
            found.into_iter().for_each(|problem| problems.add(problem));
            return None;
        }
    };
    config.unsupported.iter().for_each(|diagnostic| problems.add(diagnostic));
    let mut planner = Planner { config: &config, problems, indices: HashMap::new() };
    let stores = planner.stores();
    let listeners = planner.listeners();
    planner.global();
    let warnings = config.warnings.iter().map(ToString::to_string).collect();
    // The format has no place for values: a store of them would be beside which, under which cap?
    Some(Served { stores, values: None, listeners, warnings })
}

/// Reads the file, without what this program makes of it.
pub(super) fn parse(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<CasConfig, Problems> {
    parsed(path, |name, text| nativelink_config::parse(name, text, env))
}

/// Reads what every key of the file comes to.
pub(super) fn settings(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Setting>, Problems> {
    parsed(path, |name, text| nativelink_config::parse_with_settings(name, text, env))
        .map(|(_, settings)| settings)
}

fn parsed<T>(
    path: &Path,
    parse: impl FnOnce(&str, &str) -> Result<T, Diagnostics>,
) -> Result<T, Problems> {
    let name = path.display().to_string();
    let mut problems = Problems::default();
    let Some(text) = problems.take(&name, read(path)) else { return Err(problems) };
    parse(&name, &text).map_err(|diagnostics| {
        diagnostics.iter().for_each(|diagnostic| problems.add(diagnostic));
        problems
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("larger than 16 MiB"));
    }
    Ok(text)
}

struct Planner<'c> {
    config: &'c CasConfig,
    problems: &'c mut Problems,
    /// Where each store is among the options.
    indices: HashMap<&'c str, usize>,
}

impl<'c> Planner<'c> {
    fn stores(&mut self) -> Vec<FilesystemOptions> {
        let mut roots: HashMap<&str, &str> = HashMap::new();
        let mut stores = Vec::new();
        for store in &self.config.stores {
            let StoreSpec::Filesystem(spec) = &store.spec.value else {
                // Other kinds that run in the format and not here; the rest is noted already.
                if !matches!(store.spec.value, StoreSpec::Unsupported(_)) {
                    self.problems.add(store.spec.place.problem("not supported by this version"));
                }
                continue;
            };
            if let Some(other) = roots.insert(&spec.content_path, &store.name) {
                let text = format!("store {other:?} keeps its files here already");
                self.problems.add(spec.content_path.place.problem(text));
            }
            self.indices.insert(&store.name, stores.len());
            stores.push(self.filesystem(&store.name, spec));
        }
        stores
    }

    fn filesystem(&mut self, name: &Located<String>, spec: &FilesystemStore) -> FilesystemOptions {
        if spec.extension != FilesystemExtension::default() {
            let text = "Castellan's own keys are not supported by this version; use the flags";
            self.problems.add(spec.content_path.place.problem(text));
        }
        let policy = &spec.eviction_policy;
        let cap = match policy.max_bytes {
            Some(bytes) if bytes > 0 => {
                if let Err(problem) = Cap::Bytes(bytes).check() {
                    let text = format!("eviction_policy.max_bytes {problem}");
                    self.problems.add(name.place.problem(text));
                }
                if policy.evict_bytes >= bytes {
                    let text = "eviction_policy.evict_bytes is not below max_bytes: nothing stays";
                    self.problems.add(name.place.problem(text));
                }
                Cap::Bytes(bytes)
            }
            _ => Cap::Share { percent: UNBOUNDED_SHARE_PERCENT, at_most_bytes: u64::MAX },
        };
        // 0 is no limit, and the store's own choice of how much room is kept free.
        FilesystemOptions {
            low_water_bytes: Some(policy.evict_bytes).filter(|it| *it > 0),
            max_entries: policy.max_count.filter(|it| *it > 0),
            max_age: policy.max_seconds.filter(|it| !it.is_zero()).map(whole_seconds),
            ..FilesystemOptions::new(&*spec.content_path, cap)
        }
    }

    fn listeners(&mut self) -> Vec<GrpcListener> {
        let mut listeners = Vec::new();
        for server in &self.config.servers {
            let Listener::Http(http) = &server.listener;
            if http.tls.is_some() || http.advanced_http != AdvancedHttp::default() {
                let text = "tls and advanced_http are not supported by this version";
                self.problems.add(http.socket_address.place.problem(text));
            }
            let mut options = GrpcOptions::default();
            if let Some(bytes) = http.max_decoding_message_size {
                // Never below what the announced batch size needs (reapi 24).
                let limit = &mut options.max_decoding_message_size_bytes;
                *limit = bytes.max(*limit);
            }
            let streams = &server.services.bytestream;
            let idle = streams.iter().filter_map(|it| it.persist_stream_on_disconnect_timeout);
            if let Some(longest) = idle.max().filter(|it| *it > Duration::ZERO) {
                options.parked_upload_ttl = longest;
            }
            let instances = self.instances(&server.services.cas, &server.services.ac);
            let ListenAddress::Tcp(address) = &http.socket_address.value else {
                let text = "unix sockets are not supported by this version; write HOST:PORT";
                self.problems.add(http.socket_address.place.problem(text));
                continue;
            };
            match resolve_parsed(address) {
                Ok(address) => listeners.push(GrpcListener { address, instances, options }),
                Err(text) => self.problems.add(http.socket_address.place.problem(text)),
            }
        }
        listeners
    }

    /// Pairs the blobs and the action cache of each instance.
    fn instances(&mut self, cas: &'c [CasService], ac: &'c [AcService]) -> Instances {
        let mut results: BTreeMap<&str, &AcService> =
            ac.iter().map(|service| (service.instance_name.as_str(), service)).collect();
        let mut named = HashMap::new();
        for service in cas {
            let name = service.instance_name.as_str();
            let Some(results) = results.remove(name) else {
                let text = "an instance with a cas and no ac is not supported by this version";
                self.problems.add(service.instance_name.place.problem(text));
                continue;
            };
            let index = |name: &str| self.indices.get(name).copied();
            if let (Some(cas), Some(action_cache)) =
                (index(&service.cas_store), index(&results.ac_store))
            {
                let action_cache_read_only = results.read_only;
                named.insert(
                    name.to_owned(),
                    InstanceSettings { cas, action_cache, action_cache_read_only },
                );
            }
        }
        for orphan in results.into_values() {
            let text = "an instance with an ac and no cas is not supported by this version";
            self.problems.add(orphan.instance_name.place.problem(text));
        }
        Instances::Named(named)
    }

    fn global(&mut self) {
        if self.config.global.default_digest_hash_function == DigestFunction::Blake3 {
            self.problems.add(
                "global.default_digest_hash_function: blake3 for clients that name no function \
                 is not supported by this version",
            );
        }
    }
}
