//! Where the operator reaches a running server: the address of the admin API, listening on it and
//! connecting to it.
//!
//! Decides who may connect; `socket` does the rest. Knows nothing of what is said over it.

use std::io;

use crate::socket::{self, BindOptions, SocketListener};
pub use crate::socket::{ListenAddress as AdminAddress, SocketStream as AdminStream};

const OPTIONS: BindOptions = BindOptions {
    // The user that the server runs as, and root. Who reaches a port may purge, whoever it is.
    mode: 0o600,
    group: None,
    // Operators are few.
    backlog: 16,
    freebind: false,
};

/// A listener; the file of its socket goes with it.
#[derive(Debug)]
pub struct AdminListener {
    listener: SocketListener,
}

impl AdminListener {
    /// Listens. A socket that a killed process has left is replaced, one that somebody answers on
    /// is not.
    pub async fn bind(address: &AdminAddress) -> io::Result<Self> {
        Ok(Self { listener: SocketListener::bind(address, OPTIONS).await? })
    }

    /// Where it really listens.
    pub fn address(&self) -> io::Result<AdminAddress> {
        self.listener.address()
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<AdminStream> {
        self.listener.accept().await
    }
}

/// Connects to a running server. Cancel safe.
pub async fn connect(address: &AdminAddress) -> io::Result<AdminStream> {
    socket::connect(address).await
}
