//! What a filesystem store is made with.

use std::path::PathBuf;
use std::time::Duration;

use super::index::LeasePolicy;
use super::sync_rounds::Durability;
use crate::digest::DigestFunction;
use crate::store::Namespace;

/// Below this a store cannot hold its fixed directories and a few small values.
const MIN_CAP_BYTES: u64 = 128 << 10;

/// How much a store may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// So many bytes of allocated blocks.
    Bytes(u64),
    /// A part of what the store could take: the free space and what it holds already.
    Share {
        /// The part, from 1 to 100.
        percent: u8,
        /// Not more than this, in bytes.
        at_most_bytes: u64,
    },
}

impl Cap {
    /// Refuses a number of bytes that no store can work with.
    pub fn check(self) -> Result<Self, String> {
        match self {
            Self::Bytes(bytes) if bytes < MIN_CAP_BYTES => {
                Err(format!("{bytes} bytes are below the least usable, {MIN_CAP_BYTES}"))
            }
            cap => Ok(cap),
        }
    }

    /// Whether it is one that nobody has thought of: a share with a bound.
    pub(super) fn is_guess(self) -> bool {
        matches!(self, Self::Share { at_most_bytes, .. } if at_most_bytes < u64::MAX)
    }

    pub(super) fn resolve(self, available_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share { percent, at_most_bytes } => {
                (available_bytes / 100).saturating_mul(u64::from(percent)).min(at_most_bytes)
            }
        }
    }
}

/// What a store leaves of its cap to a second one, in [`VALUES_DIR`](super::VALUES_DIR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// So many bytes.
    Bytes(u64),
    /// A part of the cap, from 1 to 99; nothing when that is too little to be of use.
    Percent(u8),
}

impl SetAside {
    /// The least that is of use: in less, directories take a large part.
    pub const LEAST_BYTES: u64 = 16 << 20;

    pub(super) fn of(self, cap_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let part = (cap_bytes / 100).saturating_mul(u64::from(percent));
                if part < Self::LEAST_BYTES { 0 } else { part }
            }
        }
    }
}

/// When bytes are hashed on the way out. Action results always are; what a power cut may have
/// torn is before anything is said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyOnRead {
    /// At the first read in the life of a process, unless this process wrote them.
    #[default]
    First,
    /// At every read.
    Always,
    /// Only by the scrub.
    Never,
}

/// What becomes of the files that another server has left in the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adopt {
    /// They are foreign files: left alone and charged.
    Off,
    /// They become the store's, under its names.
    #[default]
    Move,
    /// They become the store's and keep their names as long as they are in the store, so that the
    /// other server can be gone back to.
    Link,
}

/// What the files of another server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormerContents {
    /// Blobs, and action results where their place says so.
    Blobs,
    /// Action results.
    ActionResults,
    /// Both: what only its place tells from the other.
    Both,
    /// Values of a namespace, in a directory beside the root.
    Values(Namespace),
    /// Nothing that this store could serve.
    Nothing,
}

/// What to do with the files of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerOptions {
    /// Whether they are taken over.
    pub adopt: Adopt,
    /// What they hold.
    pub contents: FormerContents,
    /// The function of the hashes that they are named after.
    pub function: DigestFunction,
}

impl Default for FormerOptions {
    fn default() -> Self {
        let function = DigestFunction::Sha256;
        Self { adopt: Adopt::default(), contents: FormerContents::Blobs, function }
    }
}

/// What a filesystem store is made with.
#[derive(Clone, Debug)]
pub struct FilesystemOptions {
    /// The directory; made if missing.
    pub root: PathBuf,
    /// The hard cap: what `du` shows of `root` never exceeds it.
    pub cap: Cap,
    /// What of the cap is left to the store in [`VALUES_DIR`](super::VALUES_DIR), so that both
    /// together keep to it.
    pub set_aside: Option<SetAside>,
    /// The largest value in bytes; `None` allows whatever fits under the cap.
    pub max_blob_bytes: Option<u64>,
    /// Room that the evictor keeps free, so that few writes have to evict; `None` takes a
    /// hundredth of the cap, at most 256 MiB.
    pub low_water_bytes: Option<u64>,
    /// Free space that is left to others on the same disk, in bytes.
    pub min_free_bytes: u64,
    /// The most entries; `None` for as many as fit.
    pub max_entries: Option<u64>,
    /// The longest time without a use; `None` for as long as there is room.
    pub max_age: Option<Duration>,
    /// How long a value stays for sure after a client was told that it is there (I21); zero for
    /// no promises.
    pub lease: Duration,
    /// What becomes of a write when such promises hold what it needs.
    pub lease_policy: LeasePolicy,
    /// The longest wait of an upload for room.
    pub reserve_timeout: Duration,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// With [`Durability::Async`] what a power cut takes at most; how often it is written down what
    /// is on the disk.
    pub sync_interval: Duration,
    /// How long a round of [`Durability::Group`] gathers writes.
    pub group_interval: Duration,
    /// When bytes are hashed on the way out.
    pub verify_on_read: VerifyOnRead,
    /// How fast the scrub reads; 0 for no scrub.
    pub scrub_bytes_per_second: u64,
    /// How often the order of use is written down, which a crash would lose.
    pub snapshot_interval: Duration,
    /// What becomes of what another server has left in the directory.
    pub former: FormerOptions,
}

impl FilesystemOptions {
    /// The defaults for a directory and a cap.
    pub fn new(root: impl Into<PathBuf>, cap: Cap) -> Self {
        Self {
            root: root.into(),
            cap,
            set_aside: None,
            max_blob_bytes: None,
            low_water_bytes: None,
            min_free_bytes: 0,
            max_entries: None,
            max_age: None,
            lease: Duration::from_mins(30),
            lease_policy: LeasePolicy::default(),
            reserve_timeout: Duration::from_secs(30),
            durability: Durability::default(),
            sync_interval: Duration::from_secs(30),
            group_interval: Duration::from_millis(5),
            verify_on_read: VerifyOnRead::default(),
            scrub_bytes_per_second: 8 << 20,
            snapshot_interval: Duration::from_mins(5),
            former: FormerOptions::default(),
        }
    }

    /// What is looked at while the store runs.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            min_free_bytes: self.min_free_bytes,
            has_entry_limit: self.max_entries.is_some(),
            reserve_timeout: self.reserve_timeout,
            durability: self.durability,
            sync_interval: self.sync_interval,
            group_interval: self.group_interval,
            verify_on_read: self.verify_on_read,
            scrub_bytes_per_second: self.scrub_bytes_per_second,
            snapshot_interval: self.snapshot_interval,
        }
    }
}

/// See the fields of the same names of [`FilesystemOptions`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) min_free_bytes: u64,
    /// Whether there is [`FilesystemOptions::max_entries`].
    pub(super) has_entry_limit: bool,
    pub(super) reserve_timeout: Duration,
    pub(super) durability: Durability,
    pub(super) sync_interval: Duration,
    pub(super) group_interval: Duration,
    pub(super) verify_on_read: VerifyOnRead,
    pub(super) scrub_bytes_per_second: u64,
    pub(super) snapshot_interval: Duration,
}
