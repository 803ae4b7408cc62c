//! The configuration files of `NativeLink`: JSON5 text to typed values, or every problem of the
//! text with its line and column.
//!
//! Types only: nothing here touches the file system, the environment or the network, and nothing
//! panics on any text. The caller reads the file, gives the environment as a function, and acts on
//! the result. Keys of the format that Castellan does not implement yet are told apart from
//! spelling mistakes; both are errors, so that no setting is ever silently without effect.

mod config;
mod diagnostic;
mod document;
mod excerpt;
pub mod expand;
mod path;
mod reader;
pub mod units;

pub use config::address::{AddressError, Host, SocketAddress, parse_socket_address};
pub use config::global::{DigestFunction, GlobalConfig};
pub use config::server::{HttpListener, Listener, Server};
pub use config::service::{
    AcService, ByteStreamService, CapabilitiesService, CasService, HealthService, Services,
};
pub use config::store::{EvictionPolicy, FilesystemStore, Store, StoreSpec};
pub use config::{CasConfig, parse};
pub use diagnostic::{Diagnostic, Diagnostics, Located, Place};
pub use document::MAX_FILE_BYTES;
