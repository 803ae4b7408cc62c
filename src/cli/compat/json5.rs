//! What bazel-remote would serve, as a configuration file of ours.

use std::fmt;

use serde_json::Value;

use super::settings::{Certificates, Settings, Upstream};

/// The store of the directory.
const FILES: &str = "default";
const BLOBS: &str = "blobs";
const RESULTS: &str = "results";

/// The file, without a comment before it. Without gRPC its listener is one that this machine
/// alone reaches: the format needs one.
pub(super) fn text(settings: &Settings) -> String {
    let mut lines = Lines::default();
    lines.put(0, "{");
    lines.put(2, "stores: [");
    put_files(&mut lines, settings);
    let blobs = match &settings.upstream {
        None => {
            put_results(&mut lines);
            FILES
        }
        Some(upstream) => {
            put_upstream(&mut lines, upstream);
            BLOBS
        }
    };
    lines.put(2, "],");
    lines.put(2, "servers: [");
    put_server(&mut lines, settings, blobs);
    lines.put(2, "],");
    lines.put(0, "}");
    lines.0
}

fn put_files(lines: &mut Lines, settings: &Settings) {
    let Settings { dir, max_bytes, max_blob_bytes, .. } = settings;
    // A home directory is none of bazel-remote's.
    let dir = if dir.starts_with('~') { format!("./{dir}") } else { dir.clone() };
    lines.open(FILES, "filesystem");
    lines.put(8, format_args!("content_path: {},", quoted(&dir)));
    lines.put(8, "// Allocated blocks, as du counts them; bazel-remote counts sizes.");
    lines.put(8, format_args!("eviction_policy: {{ max_bytes: \"{}GiB\" }},", max_bytes >> 30));
    if let Some(bytes) = max_blob_bytes {
        lines.put(8, format_args!("max_blob_bytes: {bytes},"));
    }
    lines.close();
}

/// The format wants another store for results. This one is the same by another name, which is how
/// bazel-remote has it.
fn put_results(lines: &mut Lines) {
    lines.open(RESULTS, "completeness_checking");
    for key in ["backend", "cas_store"] {
        lines.put(8, format_args!("{key}: {{ ref_store: {{ name: {FILES:?} }} }},"));
    }
    lines.close();
}

fn put_upstream(lines: &mut Lines, upstream: &Upstream) {
    let (far_blobs, far_results) = ("upstream-blobs", "upstream-results");
    // An address with grpcs:// alone trusts whom the system trusts.
    let tls = tls_table("tls_config", "ca_file", &upstream.tls);
    let endpoint = format!("{{ address: {}{tls} }}", quoted(&upstream.url));
    for (name, kind) in [(far_blobs, "cas"), (far_results, "ac")] {
        lines.open(name, "grpc");
        lines.put(8, format_args!("store_type: {kind:?},"));
        lines.put(8, format_args!("endpoints: [{endpoint}],"));
        lines.close();
    }
    let Upstream { max_copies, max_queued, .. } = upstream;
    let behind = match max_copies {
        0 => "slow_direction: \"get\"".to_owned(),
        _ => format!(
            "write_behind: {{ max_items: {max_queued}, max_concurrent_copies: {max_copies} }}"
        ),
    };
    for (name, slow) in [(BLOBS, far_blobs), (RESULTS, far_results)] {
        lines.open(name, "fast_slow");
        lines.put(8, format_args!("fast: {{ ref_store: {{ name: {FILES:?} }} }},"));
        lines.put(8, format_args!("slow: {{ ref_store: {{ name: {slow:?} }} }},"));
        lines.put(8, format_args!("{behind},"));
        lines.close();
    }
}

/// A key behind others with those of the files that there are; without any, nothing.
fn tls_table(key: &str, authorities: &str, files: &Certificates) -> String {
    let files =
        [("cert_file", &files.cert), ("key_file", &files.key), (authorities, &files.authorities)];
    let said = files.iter().filter(|(_, path)| !path.is_empty());
    let said: Vec<String> = said.map(|(key, path)| format!("{key}: {}", quoted(path))).collect();
    if said.is_empty() { String::new() } else { format!(", {key}: {{ {} }}", said.join(", ")) }
}

fn put_server(lines: &mut Lines, settings: &Settings, blobs: &str) {
    lines.put(4, "{");
    if settings.grpc.is_none() {
        lines.put(6, "// gRPC was off: the port is a free one that only this machine reaches.");
    }
    let address = quoted(settings.grpc.as_deref().unwrap_or("127.0.0.1:0"));
    let tls = match &settings.tls {
        None => String::new(),
        Some(files) => tls_table("tls", "client_ca_file", files),
    };
    lines.put(6, format_args!("listener: {{ http: {{ socket_address: {address}{tls} }} }},"));
    lines.put(6, "// bazel-remote serves any instance name; here each has an entry of its own.");
    lines.put(6, "services: {");
    for (service, store) in [
        ("cas", format!(", cas_store: {blobs:?}")),
        ("ac", format!(", ac_store: {RESULTS:?}")),
        ("capabilities", String::new()),
        ("bytestream", format!(", cas_store: {blobs:?}")),
    ] {
        lines.put(8, format_args!("{service}: [{{ instance_name: \"\"{store} }}],"));
    }
    lines.put(6, "},");
    lines.put(4, "},");
}

/// Text as the format reads it: a dollar sign would begin the name of a variable.
fn quoted(text: &str) -> String {
    Value::from(text.replace('$', "$$")).to_string()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, indent: usize, line: impl fmt::Display) {
        self.0.extend(std::iter::repeat_n(' ', indent));
        self.0.push_str(&line.to_string());
        self.0.push('\n');
    }

    /// Begins a store.
    fn open(&mut self, name: &str, kind: &str) {
        self.put(4, "{");
        self.put(6, format_args!("name: {name:?},"));
        self.put(6, format_args!("{kind}: {{"));
    }

    fn close(&mut self) {
        self.put(6, "},");
        self.put(4, "},");
    }
}
