//! The program as a client: its commands, the files that they read and write, and connections that
//! break.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::worker::Worker;
use super::{Process, TestServer};

/// The program with a server that it works with.
pub(crate) struct Cli {
    server: String,
    worker: Option<String>,
}

impl Cli {
    pub(crate) fn of(server: &TestServer) -> Self {
        Self::at(&format!("grpc://{}", server.server.grpc_address().unwrap()))
    }

    pub(crate) fn at(server: &str) -> Self {
        Self { server: server.to_owned(), worker: None }
    }

    /// On the machine of a server that workers reach.
    pub(crate) fn of_worker(worker: &Worker) -> Self {
        let socket = worker.server.directory.path().join("worker.sock");
        let address = format!("unix:{}", socket.display());
        Self { worker: Some(address), ..Self::of(&worker.server) }
    }

    /// A command that is not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Process::command(arguments);
        command.env("CASTELLAN_SERVER", &self.server);
        if let Some(worker) = &self.worker {
            command.env("CASTELLAN_WORKER", worker);
        }
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        // The server is in this process and needs the other threads of the runtime.
        tokio::task::block_in_place(|| command.output().unwrap())
    }

    /// The exit code, the output, the errors.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.output(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The output of a command that must work and say nothing else.
    #[track_caller]
    pub(crate) fn bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
        output.stdout
    }

    /// The same as text.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.bytes(arguments)).unwrap()
    }

    /// The one object that a command prints with `--json`.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [&arguments[..1], &["--json"], &arguments[1..]].concat();
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Its bytes, and whether it can be run.
    File(Vec<u8>, bool),
    /// Where it leads.
    Symlink(String),
    Folder,
}

/// Everything below a path, or the file itself under "".
pub(crate) fn snapshot(path: &Path) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    let mut open = vec![(path.to_owned(), String::new())];
    while let Some((path, name)) = open.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let entry = if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                let below = entry.file_name().into_string().unwrap();
                let below = if name.is_empty() { below } else { format!("{name}/{below}") };
                open.push((entry.path(), below));
            }
            Entry::Folder
        } else if metadata.is_symlink() {
            Entry::Symlink(std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
        } else {
            let mut data = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut data).unwrap();
            Entry::File(data, metadata.mode() & 0o100 != 0)
        };
        found.insert(name, entry);
    }
    found
}

/// Makes a file, or another one of it.
pub(crate) fn make_file(path: &Path, data: &[u8], is_executable: bool) {
    let parent = path.parent().unwrap();
    std::fs::create_dir_all(parent).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(data).unwrap();
    let mode = if is_executable { 0o755 } else { 0o644 };
    file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A way to a server whose connections break: the first ones after so many bytes, the others not.
pub(crate) struct Proxy {
    address: String,
    cut: Arc<AtomicUsize>,
}

impl Proxy {
    /// `up` has what passes to the server on the first connections, `down` what passes from it.
    #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
    pub(crate) async fn start(server: &TestServer, up: &[usize], down: &[usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("grpc://{}", listener.local_addr().unwrap());
        let to = server.server.grpc_address().unwrap();
        let cut = Arc::new(AtomicUsize::new(0));
        let (up, down, count) = (up.to_vec(), down.to_vec(), Arc::clone(&cut));
        tokio::spawn(async move {
            for number in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(to).await.unwrap();
                let limit = |of: &[usize]| of.get(number).copied().unwrap_or(usize::MAX);
                let (up, down) = (limit(&up), limit(&down));
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let is_cut = tokio::select! {
                        is_cut = pass(from_client, to_server, up) => is_cut,
                        is_cut = pass(from_server, to_client, down) => is_cut,
                    };
                    count.fetch_add(usize::from(is_cut), Ordering::SeqCst);
                });
            }
        });
        Self { address, cut }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Connections that it has cut.
    pub(crate) fn cut_connections(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }
}

/// Passes on what comes until one end closes, or so many bytes have; true for the latter.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut left: usize) -> bool {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => length.min(left),
        };
        if to.write_all(&buffer[..length]).await.is_err() {
            return false;
        }
        left -= length;
    }
    true
}
