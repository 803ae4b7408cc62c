//! Castellan: a content-addressed store and action cache for remote execution clients.
//!
//! Layers, each importing only those to its right:
//! `cli -> server -> {grpc, http} -> {instance, values, operator} -> {cas, action_cache, encoded}
//! -> store -> former -> digest`.

pub mod action_cache;
pub mod admin_socket;
mod calendar;
pub mod cas;
pub mod cli;
pub mod client;
pub mod digest;
mod encoded;
pub mod former;
pub mod grpc;
pub mod http;
pub mod instance;
mod listener;
pub mod operator;
pub mod server;
pub mod shutdown;
pub mod socket;
pub mod staging;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod trees;
pub mod values;
