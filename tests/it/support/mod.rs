//! A real server on a free port, and clients for it.

mod blobs;
pub(crate) mod client;
pub(crate) mod disk;
mod process;
mod server;
pub(crate) mod wait;

pub(crate) use blobs::{Blob, directory, wire};
pub(crate) use client::Client;
pub(crate) use process::Process;
pub(crate) use server::{TestServer, assert_code};
