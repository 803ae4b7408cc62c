//! A server in a process of its own, and the CPU time that process has taken.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::empty;

const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// A running server and a connection to it; killed when dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) channel: Channel,
    pub(crate) spawned: Instant,
    /// From its spawn to its ready line.
    pub(crate) ready_after: Duration,
    /// Nanoseconds on a CPU by thread. Those of threads that are gone stay.
    threads: HashMap<String, u64>,
}

impl ServerProcess {
    /// The program under test on an empty directory.
    pub(crate) async fn castellan(directory: &Path) -> Self {
        Self::with_cap(directory, "8GiB").await
    }

    /// The program under test on any directory.
    pub(crate) async fn with_cap(directory: &Path, cap: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castellan"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CASTELLAN_") {
                command.env_remove(name);
            }
        }
        let ports = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
        command.args(["serve", "--max-size", cap, "--log", "warn"]).args(ports);
        Self::start(command.arg("--dir").arg(directory)).await
    }

    /// This program as the server that does nothing.
    pub(crate) async fn empty() -> Self {
        Self::start(Command::new(std::env::current_exe().unwrap()).env(empty::MARK, "1")).await
    }

    async fn start(command: &mut Command) -> Self {
        let spawned = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready_after = spawned.elapsed();
        let address = line.split_once("grpc=").unwrap().1.split_whitespace().next().unwrap();
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect()
            .await
            .unwrap();
        Self { child, channel, spawned, ready_after, threads: HashMap::new() }
    }

    /// CPU time taken so far by all threads, user and system, to the nanosecond. The scheduler's
    /// own count: `/proc/PID/stat` counts in hundredths of a second.
    pub(crate) fn cpu_time(&mut self) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.id());
        for thread in std::fs::read_dir(tasks).unwrap().flatten() {
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let nanoseconds = text.split_whitespace().next().unwrap().parse().unwrap();
            self.threads.insert(thread.file_name().to_string_lossy().into_owned(), nanoseconds);
        }
        Duration::from_nanos(self.threads.values().sum())
    }

    /// The same in hundredths of a second, with the threads that ended before anybody looked.
    pub(crate) fn coarse_cpu_time(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // "id (name) state ...", and a name may hold anything.
        let fields = stat.rsplit_once(") ").unwrap().1.split_whitespace();
        let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap());
        TICK * ticks.sum::<u32>()
    }

    /// What it has in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
        kibibytes << 10
    }

    /// Ends it the way an operator does, and waits for the end.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
