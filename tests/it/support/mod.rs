//! A real server on a free port, and clients for it.

mod blobs;
mod process;
mod server;

pub(crate) use blobs::{Blob, directory, wire};
pub(crate) use process::Process;
pub(crate) use server::{TestServer, assert_code};
