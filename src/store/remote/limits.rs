//! What an upstream says it takes, asked when it is first needed.
//!
//! An upstream that does not say is believed to take what is usual; nothing waits long for it.

use std::sync::Arc;
use std::time::Duration;

use castellan_proto::v2::{GetCapabilitiesRequest, ServerCapabilities};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::Upstream;
use super::options::RemoteOptions;
use super::pool::Line;
use crate::digest::DigestFunction;

/// The longest wait for the answer; less where an operation has less time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an upstream takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The sum of the blobs of a batch.
    pub(super) max_batch_bytes: u64,
    /// The largest blob.
    pub(super) max_blob_bytes: u64,
    /// Whether it stores action results.
    pub(super) stores_results: bool,
    functions: [bool; DigestFunction::ALL.len()],
}

impl Limits {
    fn usual(options: &RemoteOptions) -> Self {
        Self {
            max_batch_bytes: options.batching.max_batch_bytes,
            max_blob_bytes: u64::MAX,
            stores_results: true,
            functions: [true; DigestFunction::ALL.len()],
        }
    }

    fn announced(options: &RemoteOptions, capabilities: ServerCapabilities) -> Self {
        let usual = Self::usual(options);
        let Some(cache) = capabilities.cache_capabilities else { return usual };
        let limit = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        let announces = |it: DigestFunction| cache.digest_functions.contains(&it.to_wire());
        let functions = DigestFunction::ALL.map(announces);
        Self {
            max_batch_bytes: limit(cache.max_batch_total_size_bytes)
                .map_or(usual.max_batch_bytes, |bytes| bytes.min(usual.max_batch_bytes)),
            max_blob_bytes: limit(cache.max_cas_blob_size_bytes).unwrap_or(u64::MAX),
            stores_results: cache
                .action_cache_update_capabilities
                .is_none_or(|updates| updates.update_enabled),
            functions: if functions.contains(&true) { functions } else { usual.functions },
        }
    }

    /// Whether it knows a digest function.
    pub(super) fn knows(&self, function: DigestFunction) -> bool {
        let mut known = DigestFunction::ALL.into_iter().zip(self.functions);
        known.any(|(it, is_known)| is_known && it == function)
    }
}

/// What is known so far.
#[derive(Debug)]
pub(super) struct KnownLimits {
    latest: Mutex<Latest>,
    /// Held while the upstream is asked: one asks, the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    limits: Limits,
    /// After which recovery the upstream was asked.
    asked: Option<u64>,
}

impl KnownLimits {
    pub(super) fn new(options: &RemoteOptions) -> Self {
        let latest = Latest { limits: Limits::usual(options), asked: None };
        Self { latest: Mutex::new(latest), asking: tokio::sync::Mutex::default() }
    }

    /// The last that was said, old or not.
    pub(super) fn latest(&self) -> Limits {
        self.latest.lock().limits
    }

    fn fresh(&self, recoveries: u64) -> Option<Limits> {
        let latest = *self.latest.lock();
        (latest.asked == Some(recoveries)).then_some(latest.limits)
    }
}

impl Upstream {
    /// What the upstream takes. Asks it once after each recovery, within a quarter of the time
    /// that is left. Cancel safe.
    pub(super) async fn limits(&self, deadline: Instant) -> Limits {
        let recoveries = self.pool.recoveries();
        if let Some(limits) = self.known_limits.fresh(recoveries) {
            return limits;
        }
        let now = Instant::now();
        let until = now + (deadline.saturating_duration_since(now) / 4).min(PATIENCE);
        let Ok(_asking) = timeout_at(until, self.known_limits.asking.lock()).await else {
            return self.known_limits.latest();
        };
        if let Some(limits) = self.known_limits.fresh(recoveries) {
            return limits;
        }
        let answer = self.ask_limits(until).await;
        let mut latest = self.known_limits.latest.lock();
        if let Some(limits) = answer {
            latest.limits = limits;
        }
        latest.asked = Some(recoveries);
        latest.limits
    }

    async fn ask_limits(&self, deadline: Instant) -> Option<Limits> {
        let ask = |line: Arc<Line>| {
            let instance_name = self.options.instance_name.clone();
            let request = self.unary(GetCapabilitiesRequest { instance_name }, deadline);
            async move { line.capabilities().get_capabilities(request).await }
        };
        let line = self.line(deadline).await.ok()?;
        match self.attempt(&line, deadline, ask).await {
            Ok(answer) => Some(Limits::announced(&self.options, answer.into_inner())),
            Err(status) => {
                tracing::debug!(upstream = self.name, %status, "capabilities not known");
                None
            }
        }
    }
}
