//! What an input tree costs a worker: `cargo bench --bench cache -- stage`.
//!
//! A tree of 10,000 files in 800 directories, as one of Bazel's sandboxes, is staged again and
//! again beside `cp -al` of the same tree, which makes the same directories and links, and `cp -a`,
//! which copies. Cold: nothing of its messages is in memory. Warm: it was staged before. Changed:
//! one file in a hundred is another one than before. What is removed afterwards is not timed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use castellan::cas::Cas;
use castellan::digest::{Digest, DigestFunction};
use castellan::staging::{LinkMode, Progress, StageOptions, StagedTree, Stager, TreeRoot};
use castellan::store::filesystem::{Cap, Cleanup, FilesystemOptions, FilesystemStore};
use castellan::store::{BlobStore, Key};
use castellan::trees::on_disk::Folder;
use castellan_proto::v2;
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

const DIRECTORIES: u64 = 800;
const FILES: u64 = 10_000;
const FILE_BYTES: usize = 6000;
/// One file in so many can be run.
const EXECUTABLE: u64 = 20;
/// One file in so many is another one in a changed tree.
const CHANGED: u64 = 100;

/// A store and the trees in it.
struct Scene {
    store: Arc<FilesystemStore>,
    cas: Cas,
    root: Folder,
    path: std::path::PathBuf,
}

impl Scene {
    async fn put(&self, data: Vec<u8>) -> v2::Digest {
        let digest = Digest::of(DigestFunction::Sha256, &data);
        self.store.put(&Key::blob(digest), data.into()).await.unwrap();
        let (hash, size_bytes) = (const_hex::encode(digest.hash), digest.size_bytes as i64);
        v2::Digest { hash, size_bytes }
    }

    /// A tree; those of two versions differ in one file of [`CHANGED`].
    async fn tree(&self, version: u64) -> Digest {
        let mut children = Vec::new();
        for directory in 0..DIRECTORIES {
            let mut message = v2::Directory::default();
            for file in (0..FILES).filter(|it| it % DIRECTORIES == directory) {
                let seed = if file % CHANGED == 0 { file + version * FILES } else { file };
                let mut data = vec![0; FILE_BYTES + (seed % 100) as usize];
                fastrand::Rng::with_seed(seed).fill(&mut data);
                let digest = Some(self.put(data).await);
                let is_executable = file % EXECUTABLE == 1;
                let name = format!("file-{file:05}.h");
                message.files.push(v2::FileNode {
                    name,
                    digest,
                    is_executable,
                    ..Default::default()
                });
            }
            let digest = Some(self.put(message.encode_to_vec()).await);
            let name = format!("directory-{directory:03}");
            children.push(v2::DirectoryNode { name, digest });
        }
        let root = v2::Directory { directories: children, ..Default::default() };
        let root = root.encode_to_vec();
        let digest = Digest::of(DigestFunction::Sha256, &root);
        self.put(root).await;
        digest
    }

    async fn stage(&self, stager: &Arc<Stager>, tree: Digest, mode: LinkMode) -> StagedTree {
        let options = StageOptions { link_mode: mode, ..StageOptions::default() };
        let parent = self.root.try_clone().unwrap();
        let progress = Arc::<Progress>::default();
        let root = TreeRoot::Directory(tree);
        stager.stage(root, parent, "staged", &options, progress).await.unwrap()
    }

    fn stager(&self) -> Arc<Stager> {
        Stager::new(self.cas.clone(), Arc::clone(&self.store))
    }

    fn remove(&self, name: &str) {
        self.root.remove_all(name).unwrap();
    }

    /// Wall and CPU time of one stage.
    async fn measure(&self, stager: &Arc<Stager>, tree: Digest, mode: LinkMode) -> Sample {
        let (before, start) = (cpu_time(), Instant::now());
        let whole = self.stage(stager, tree, mode).await;
        let sample = Sample { wall: start.elapsed(), cpu: cpu_time().saturating_sub(before) };
        assert_eq!(whole.totals().files, FILES);
        drop(whole);
        self.remove("staged");
        sample
    }

    /// The same of a `cp`.
    fn copy(&self, flags: &str) -> Sample {
        let (before, start) = (children_time(), Instant::now());
        let mut command = Command::new("cp");
        let status = command.arg(flags).args(["plain", "copied"]).current_dir(&self.path).status();
        assert!(status.unwrap().success());
        let sample = Sample { wall: start.elapsed(), cpu: children_time().saturating_sub(before) };
        self.remove("copied");
        sample
    }
}

#[derive(Clone, Copy)]
struct Sample {
    wall: Duration,
    cpu: Duration,
}

/// Prints the table.
pub(crate) async fn run(directory: &Path, rounds: usize) {
    let directory = tempfile::tempdir_in(directory).unwrap();
    let path = directory.path().join("work");
    std::fs::create_dir(&path).unwrap();
    let options = FilesystemOptions::new(directory.path().join("store"), Cap::Bytes(4 << 30));
    let store = FilesystemStore::open(options).await.unwrap();
    let cas = Cas::new(Arc::clone(&store) as Arc<dyn BlobStore>);
    let scene = Scene { store, cas, root: Folder::open_root(&path).unwrap(), path };
    let tree = scene.tree(0).await;
    let (first, mut rows) = {
        let stager = scene.stager();
        let first = scene.measure(&stager, tree, LinkMode::Auto).await;
        drop(scene.stage(&stager, tree, LinkMode::HardLink).await);
        scene.root.rename("staged", &scene.root, "plain").unwrap();
        (first, [(); 6].map(|()| Vec::new()))
    };
    for round in 1..=rounds as u64 + 1 {
        let changed = scene.tree(round).await;
        let stager = scene.stager();
        let samples = [
            scene.copy("-al"),
            scene.measure(&stager, tree, LinkMode::Auto).await,
            scene.measure(&stager, tree, LinkMode::Auto).await,
            scene.measure(&stager, changed, LinkMode::Auto).await,
            scene.copy("-a"),
            scene.measure(&stager, tree, LinkMode::Copy).await,
        ];
        // The first warms memory up.
        if round > 1 {
            samples.into_iter().zip(&mut rows).for_each(|(sample, row)| row.push(sample));
        }
    }
    print(first, &rows);
    scene.store.shutdown(Cleanup::Keep).await.unwrap();
}

fn print(first: Sample, rows: &[Vec<Sample>]) {
    const NAMES: [&str; 6] = ["`cp -al`", "cold", "warm", "1 % changed", "`cp -a`", "copies"];
    let median = |row: &[Sample], of: fn(&Sample) -> Duration| {
        let mut all: Vec<Duration> = row.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64() * 1000.0
    };
    println!("| {FILES} files in {DIRECTORIES} directories | wall, ms | of `cp -al` | CPU, ms |");
    println!("|---|---|---|---|");
    let least = median(&rows[0], |it| it.wall);
    let line = |name: &str, wall: f64, cpu: f64| {
        println!("| {name} | {wall:.0} | {:.2} | {cpu:.0} |", wall / least);
    };
    let milliseconds = |it: Duration| it.as_secs_f64() * 1000.0;
    line("first, makes executable variants", milliseconds(first.wall), milliseconds(first.cpu));
    for (name, row) in NAMES.iter().zip(rows) {
        line(name, median(row, |it| it.wall), median(row, |it| it.cpu));
    }
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// What ended children took; in ticks of ten milliseconds, as the kernel has it here.
fn children_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in parentheses, may have spaces; `cutime` and `cstime` are the 14th and 15th
    // fields behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [13, 14].map(|at| fields[at].parse::<u64>().unwrap()).iter().sum();
    Duration::from_millis(ticks * 10)
}
