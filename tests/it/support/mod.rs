//! A real server on a free port, and clients for it.

mod blobs;
mod calls;
pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod items;
pub(crate) mod listeners;
pub(crate) mod load;
mod pressure;
mod process;
mod random;
mod raw;
mod results;
mod scrape;
mod server;
mod stacks;
pub(crate) mod wait;
pub(crate) mod worker;

pub(crate) use blobs::{Blob, directory, wire};
pub(crate) use calls::{Subject, assert_all_invalid, assert_all_present};
pub(crate) use client::Client;
pub(crate) use pressure::{hold_space, start_small, start_store, start_tight, turn_over};
pub(crate) use process::{Process, get};
pub(crate) use random::random_of;
pub(crate) use raw::{METHODS, framed, http_call, raw_call};
pub(crate) use results::{FullResult, output_file, tree};
pub(crate) use scrape::Scrape;
pub(crate) use server::{TestServer, assert_code, write_requests};
