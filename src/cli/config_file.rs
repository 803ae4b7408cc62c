//! From a `NativeLink` configuration file to the settings of a server.
//!
//! The file's own problems are found by `nativelink-config`; here are those that concern what this
//! program does with it.

mod stores;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use nativelink_config::{
    AcService, CasConfig, CasService, DigestFunction, ListenAddress, Listener,
};

use self::stores::StorePlanner;
use super::problems::Problems;
use super::served::{Served, resolve_parsed};
use super::store_flags::StoreSettings as StoreFlags;
use crate::grpc::GrpcOptions;
use crate::server::{GrpcListener, InstanceSettings, Instances};

/// Larger files are no configuration.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads the file and says what to serve; every problem is noted with its place.
pub(super) fn plan(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &StoreFlags,
    problems: &mut Problems,
) -> Option<Served> {
    let name = path.display().to_string();
    let text = problems.take(&name, read(path))?;
    let config = match nativelink_config::parse(&name, &text, env) {
        Ok(config) => config,
        Err(diagnostics) => {
            diagnostics.iter().for_each(|diagnostic| problems.add(diagnostic));
            return None;
        }
    };
    config.unsupported.iter().for_each(|diagnostic| problems.add(diagnostic));
    let mut stores = StorePlanner::new(&config, flags, problems);
    stores.plan_all();
    let mut planner = Planner { config: &config, stores };
    let listeners = planner.listeners();
    planner.global();
    let Planner { stores: StorePlanner { stores, notes, .. }, .. } = planner;
    let warnings = config.warnings.iter().map(ToString::to_string).chain(notes).collect();
    // The format has no place for values: a store of them would be beside which, under which cap?
    Some(Served { stores, values: None, listeners, warnings })
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
    stores: StorePlanner<'c>,
}

impl<'c> Planner<'c> {
    fn listeners(&mut self) -> Vec<GrpcListener> {
        let mut listeners = Vec::new();
        for server in &self.config.servers {
            let Listener::Http(http) = &server.listener;
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
                self.stores.problems.add(http.socket_address.place.problem(text));
                continue;
            };
            match resolve_parsed(address) {
                Ok(address) => listeners.push(GrpcListener { address, instances, options }),
                Err(text) => self.stores.problems.add(http.socket_address.place.problem(text)),
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
                self.stores.problems.add(service.instance_name.place.problem(text));
                continue;
            };
            let cas = self.stores.named(&service.cas_store);
            let action_cache = self.stores.named(&results.ac_store);
            if let (Some(cas), Some(action_cache)) = (cas, action_cache) {
                let action_cache_read_only = results.read_only;
                named.insert(
                    name.to_owned(),
                    InstanceSettings { cas, action_cache, action_cache_read_only },
                );
            }
        }
        for orphan in results.into_values() {
            let text = "an instance with an ac and no cas is not supported by this version";
            self.stores.problems.add(orphan.instance_name.place.problem(text));
        }
        Instances::Named(named)
    }

    fn global(&mut self) {
        if self.config.global.default_digest_hash_function == DigestFunction::Blake3 {
            self.stores.problems.add(
                "global.default_digest_hash_function: blake3 for clients that name no function \
                 is not supported by this version",
            );
        }
    }
}
