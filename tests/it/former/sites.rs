//! The program on directories of other servers.

use std::collections::BTreeMap;
use std::fs::symlink_metadata;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use castellan::digest::{Digest, DigestFunction};

use super::files::{Claim, blob_in, bytes_of, claim, paths};
use super::fixtures::manifest::{Expectation, Line};
use super::fixtures::site::Layout;
use super::{MANGLED_FOR, Made};
use crate::support::wait::eventually;
use crate::support::{Process, Scrape, disk, get};

const FREE_PORTS: [&str; 4] = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
const LEDGER: [&str; 5] = ["resident", "reserved", "dying", "overhead", "unread"];

/// How long the books may differ; only a mistake in them reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is in files, by their paths.
pub(super) type Files = BTreeMap<PathBuf, Option<Digest>>;

/// Directories of another server, and how the program is told of them.
pub(super) struct Site {
    pub(super) layout: Layout,
    /// `--adopt`.
    adopt: &'static str,
    /// Results that are mangled are kept apart by this instance.
    is_mangled: bool,
    /// That of the layout first, then that of the blobs that its results name.
    made: Vec<Made>,
}

impl Site {
    pub(super) fn new(layout: Layout, blobs: u64, adopt: &'static str) -> Self {
        let mut made = vec![Made::new(layout, blobs)];
        if !layout.has_blobs() {
            made.push(Made::new(Layout::Nativelink, blobs));
        }
        Self { layout, adopt, is_mangled: false, made }
    }

    /// One of bazel-remote's with `--enable_ac_key_instance_mangling`.
    pub(super) fn mangled(blobs: u64) -> Self {
        let site = Self { is_mangled: true, ..Self::new(Layout::BazelRemote, blobs, "move") };
        site.made[0].mangle_results(MANGLED_FOR);
        site
    }

    /// Whether `/ac/` over HTTP serves values of any kind.
    pub(super) fn serves_raw_values(&self) -> bool {
        self.layout == Layout::BazelRemote
    }

    pub(super) fn blobs(&self) -> u64 {
        self.made[0].blobs
    }

    /// What must be said of each key.
    pub(super) fn lines(&self) -> Vec<&Line> {
        self.made.iter().flat_map(|made| &made.lines).collect()
    }

    /// Starts the program and waits for the ready line.
    pub(super) fn start(&self) -> Process {
        let root = self.made[0].root();
        let root = root.to_str().unwrap();
        let adopt = format!("--adopt={}", self.adopt);
        let mut command = match self.layout {
            Layout::NativelinkAc => Process::command(&["serve", &self.config_file()]),
            Layout::BazelRemote => {
                let mut command = Process::command(&["serve", "--compat=bazel-remote"]);
                command.args(["--dir", root, "--max_size=4", "--disable_http_ac_validation"]);
                command.args(["--http_address=127.0.0.1:0", "--grpc_address=127.0.0.1:0"]);
                if self.is_mangled {
                    command.arg("--enable_ac_key_instance_mangling");
                }
                command
            }
            _ => Process::command(&["serve", "--dir", root, "--max-size=4GiB"]),
        };
        match self.layout {
            Layout::BazelRemote => {}
            Layout::NativelinkAc => drop(command.args(&FREE_PORTS[2..])),
            _ => drop(command.args(FREE_PORTS)),
        }
        command.arg(adopt);
        Process::spawn(command)
    }

    /// A file of `NativeLink`'s for both directories.
    fn config_file(&self) -> String {
        let [results, blobs] = &self.made[..] else { panic!("two directories") };
        let store = |name, made: &Made| {
            let path = made.root();
            format!(
                "{{ name: '{name}', filesystem: {{ content_path: {path:?}, \
                 eviction_policy: {{ max_bytes: '4gib' }} }} }}"
            )
        };
        let text = format!(
            "{{ stores: [{}, {}], servers: [{{
              listener: {{ http: {{ socket_address: '127.0.0.1:0' }} }},
              services: {{
                cas: [{{ cas_store: 'CAS' }}],
                ac: [{{ ac_store: 'AC' }}],
                bytestream: [{{ cas_store: 'CAS' }}],
                capabilities: [{{}}],
              }},
            }}] }}",
            store("CAS", blobs),
            store("AC", results)
        );
        let path = results.directory.path().join("nativelink.json5");
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What is not another server's file, nor one of Castellan's.
    pub(super) fn foreign(&self) -> Files {
        self.files(|_, _, claim| claim.is_none())
    }

    /// What is left that has the name of a value.
    fn unclaimed(&self) -> Files {
        self.files(|_, _, claim| claim.is_some())
    }

    /// The files that hold what their names say.
    pub(super) fn originals(&self) -> Files {
        self.files(|made, path, claim| match claim {
            Some(Claim::Blob(name)) => blob_in(&name, path).is_some(),
            Some(Claim::Value(hash)) => made
                .lines
                .iter()
                .any(|line| line.digest.hash == hash && line.expectation == Expectation::Good),
            None => false,
        })
    }

    /// Asserts that what was there to go back to still is, or, where nothing is kept, that
    /// everything has become the store's; and that nobody has touched what is foreign.
    pub(super) fn is_as_it_should_be(&self, foreign: &Files, originals: &Files) {
        let layout = self.layout;
        assert_eq!(&self.foreign(), foreign, "{layout:?}: foreign files");
        let left = self.unclaimed();
        if self.adopt == "link" {
            let is_lost = |path: &&PathBuf| left.get(*path) != originals.get(*path);
            let lost: Vec<_> = originals.keys().filter(is_lost).collect();
            assert!(lost.is_empty(), "{layout:?}: originals lost or changed: {lost:?}");
        } else {
            assert!(left.is_empty(), "{layout:?}: not taken over: {left:?}");
        }
    }

    fn files(&self, is_wanted: impl Fn(&Made, &Path, Option<Claim>) -> bool) -> Files {
        let mut files = BTreeMap::new();
        for made in &self.made {
            let root = made.root();
            for relative in paths(&root) {
                let path = root.join(&relative);
                if is_wanted(made, &path, claim(made.layout, &root, &relative)) {
                    let is_file = symlink_metadata(&path).unwrap().is_file();
                    let bytes = is_file.then(|| bytes_of(&path));
                    let digest = bytes.map(|it| Digest::of(DigestFunction::Sha256, &it));
                    files.insert(path, digest);
                }
            }
        }
        files
    }

    /// Waits until everything is taken over.
    pub(super) async fn walk_ends(&self, process: &Process) {
        let has_ended = || {
            let open = scrape(process).sum("castellan_store_former_directories", &[]);
            std::future::ready(open == 0)
        };
        eventually("the walk ends", has_ended).await;
    }

    /// Waits until the books say what `du` shows.
    pub(super) async fn ledger_is_du(&self, process: &Process) {
        let mut figures = (0, 0);
        let agree = || {
            figures = (ledger_bytes(process), self.disk_bytes());
            std::future::ready(figures.0 == figures.1)
        };
        let waiting = eventually("the ledger is what du shows", agree);
        let agreed = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(agreed, "{:?} {}: ledger and du are {figures:?}", self.layout, self.adopt);
    }

    fn disk_bytes(&self) -> u64 {
        self.made.iter().map(|made| disk::du(&made.root())).sum()
    }
}

fn ledger_bytes(process: &Process) -> u64 {
    let scrape = scrape(process);
    assert_eq!(scrape.sum("castellan_store_ledger_errors_total", &[]), 0);
    LEDGER.iter().map(|sum| scrape.sum(&format!("castellan_store_{sum}_bytes"), &[])).sum()
}

/// What the program counts.
pub(super) fn scrape(process: &Process) -> Scrape {
    Scrape::parse(&get(&process.http, "/metrics").1)
}
