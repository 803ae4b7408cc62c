//! The real program as a child process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// A running `castellan serve`; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) grpc: String,
    pub(crate) http: String,
}

impl Process {
    /// The program with these arguments and none of this process's settings.
    pub(crate) fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castellan"));
        command.args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CASTELLAN_") || name_text.starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts `serve` on free ports and waits for the ready line.
    pub(crate) fn serve(directory: &Path, more: &[&str]) -> Self {
        let directory = directory.to_str().unwrap();
        let ports = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
        let mut command = Self::command(&["serve", "--dir", directory]);
        command.args(ports).args(more);
        Self::spawn(command)
    }

    /// Runs a command and waits for its ready line.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        Self::spawn_logging(command)
    }

    /// The same; the log goes where the command says.
    pub(crate) fn spawn_logging(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = line.trim_end().strip_prefix("castellan ready grpc=").map(str::to_owned);
        let Some((grpc, http)) = addresses.as_deref().and_then(|it| it.split_once(" http=")) else {
            let mut errors = String::new();
            child.stderr.take().map(|mut it| it.read_to_string(&mut errors).unwrap());
            panic!("no ready line but {line:?}; {errors}");
        };
        // A full pipe would stop the server; its log is not asked for after the start.
        if let Some(mut log) = child.stderr.take() {
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        }
        Self { grpc: grpc.to_owned(), http: http.to_owned(), child }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Sends SIGTERM and waits for the end while the clients of this runtime go on: a server that
    /// drains asks each of them whether it is still there.
    pub(crate) async fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end().await
    }

    /// Waits for the end.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            std::future::ready(status.is_some())
        })
        .await;
        status.unwrap()
    }

    /// Stops every thread of it, so that what is on the disk can be looked at; it goes on when
    /// the guard is dropped.
    pub(crate) async fn pause(&self) -> Paused<'_> {
        self.signal(Signal::STOP);
        // The signal only asks: a thread stops when its system call is over.
        eventually("the process stops", || std::future::ready(self.is_stopped())).await;
        Paused(self)
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // "id (name) state ...", and a name may hold anything.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A process that stands still.
pub(crate) struct Paused<'p>(&'p Process);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `GET` of a path; the status line and the body.
pub(crate) fn get(address: &str, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    // Only a server that hangs reaches it.
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
