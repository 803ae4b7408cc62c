//! The one integration test binary: a module for each area of behavior.

#[cfg(test)]
mod action_cache;
#[cfg(test)]
mod batch_read;
#[cfg(test)]
mod batch_update;
#[cfg(test)]
mod bazel_files;
#[cfg(test)]
mod bytestream_read;
#[cfg(test)]
mod bytestream_resume;
#[cfg(test)]
mod bytestream_write;
#[cfg(test)]
mod capabilities;
#[cfg(test)]
mod cli_action;
#[cfg(test)]
mod cli_download;
#[cfg(test)]
mod cli_transfer;
#[cfg(test)]
mod cli_worker;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod config_command;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod digests;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod eviction;
#[cfg(test)]
mod find_missing;
#[cfg(test)]
mod former;
#[cfg(test)]
mod get_tree;
#[cfg(test)]
mod hammer;
#[cfg(test)]
mod http_cache;
#[cfg(test)]
mod http_connections;
#[cfg(test)]
mod http_table;
#[cfg(test)]
mod http_zstd;
#[cfg(test)]
mod import;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod listener_options;
#[cfg(test)]
mod listeners;
#[cfg(test)]
mod malformed_results;
#[cfg(test)]
mod metadata;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod metrics_pages;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod process;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod values;
#[cfg(test)]
mod why;
#[cfg(test)]
mod worker_api;
#[cfg(test)]
mod worker_leases;
