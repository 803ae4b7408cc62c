//! From options to what they ask for, under the rules that bazel-remote has for them.

use nativelink_config::{ListenAddress, parse_listen_address};

use super::values::Values;
use crate::cli::config_file::read_file;
use crate::cli::problems::Problems;
use crate::store::filesystem::Cap;

const GIB: u64 = 1 << 30;
const UNIX: &str = "unix://";
const NONE: &str = "none";
/// Authorities, our certificate, its key.
const UPSTREAM_FILES: [&str; 3] =
    ["grpc_proxy.ca_file", "grpc_proxy.cert_file", "grpc_proxy.key_file"];

/// What bazel-remote would serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) dir: String,
    pub(super) max_bytes: u64,
    /// `None` for no limit.
    pub(super) max_blob_bytes: Option<u64>,
    /// Host and port.
    pub(super) http: String,
    /// Host and port, or the path of a socket behind `unix:`; `None` for HTTP alone.
    pub(super) grpc: Option<String>,
    /// Of HTTP and gRPC.
    pub(super) tls: Option<Certificates>,
    pub(super) upstream: Option<Upstream>,
    pub(super) keeps_raw_results: bool,
    pub(super) results_are_mangled: bool,
}

/// Files of one end of TLS; empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificates {
    pub(super) cert: String,
    pub(super) key: String,
    /// Who may have signed the certificate of the other end.
    pub(super) authorities: String,
}

/// A server behind this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) url: String,
    pub(super) tls: Certificates,
    pub(super) max_copies: u64,
    pub(super) max_queued: u64,
}

impl Settings {
    /// Reads them all; what is wrong is noted.
    pub(super) fn of(values: &mut Values, problems: &mut Problems) -> Option<Self> {
        values.judge(problems);
        check_words(values, problems);
        check_pairs(values, problems);
        let dir = values.text("dir");
        if dir.is_empty() {
            problems.add(values.problem("dir", "is required"));
        }
        let max_bytes = max_bytes(values, problems);
        let max_blob_bytes = positive(values, "max_blob_size", problems);
        positive(values, "max_proxy_blob_size", problems);
        let http = http(values, problems);
        let grpc = grpc(values, problems);
        if let (Some(http), Some(grpc)) = (&http, &grpc) {
            check_ports(values, http, grpc, problems);
        }
        note_of_tls(values);
        let upstream = upstream(values, problems);
        // Each half alone has been noted.
        let upstream = upstream.filter(|it| it.tls.cert.is_empty() == it.tls.key.is_empty());
        Some(Self {
            dir: Some(dir).filter(|dir| !dir.is_empty())?,
            max_bytes: max_bytes?,
            max_blob_bytes: max_blob_bytes.filter(|bytes| *bytes < i64::MAX as u64),
            http: http?,
            grpc,
            tls: tls(values, problems),
            upstream,
            keeps_raw_results: values.switch("disable_http_ac_validation"),
            results_are_mangled: values.switch("enable_ac_key_instance_mangling"),
        })
    }
}

fn check_words(values: &Values, problems: &mut Problems) {
    const WORDS: [(&str, &[&str]); 5] = [
        ("storage_mode", &["zstd", "uncompressed"]),
        ("zstd_implementation", &["go", "cgo"]),
        ("min_tls_version", &["1.0", "1.1", "1.2", "1.3"]),
        ("access_log_level", &["none", "all"]),
        ("log_timezone", &["UTC", "local", "none"]),
    ];
    for (name, words) in WORDS {
        let text = values.text(name);
        if !words.contains(&text.as_str()) {
            let words = words.join(", ");
            problems.add(values.problem(name, &format!("{text:?} is none of {words}")));
        }
    }
}

/// A certificate and its key go together.
fn check_pairs(values: &Values, problems: &mut Problems) {
    const PAIRS: [(&str, &str); 3] = [
        ("tls_cert_file", "tls_key_file"),
        ("grpc_proxy.cert_file", "grpc_proxy.key_file"),
        ("http_proxy.cert_file", "http_proxy.key_file"),
    ];
    for (cert, key) in PAIRS {
        for (one, other) in [(cert, key), (key, cert)] {
            if values.has(one) && !values.has(other) {
                problems.add(values.problem(one, &format!("needs {other} beside it")));
            }
        }
    }
    if values.has("tls_ca_file") && !values.has("tls_cert_file") {
        problems.add(values.problem("tls_ca_file", "needs tls_cert_file and tls_key_file"));
    }
}

fn max_bytes(values: &Values, problems: &mut Problems) -> Option<u64> {
    const NAME: &str = "max_size";
    if !values.has(NAME) {
        problems.add(values.problem(NAME, "is required, in GiB"));
        return None;
    }
    let gibibytes = u64::try_from(values.integer(NAME)).ok().filter(|number| *number > 0);
    let bytes = gibibytes.and_then(|number| number.checked_mul(GIB));
    let Some(bytes) = bytes else {
        problems.add(values.problem(NAME, "is not a number of GiB above 0"));
        return None;
    };
    match Cap::Bytes(bytes).check() {
        Ok(_) => Some(bytes),
        Err(problem) => {
            problems.add(values.problem(NAME, problem.as_str()));
            None
        }
    }
}

fn positive(values: &Values, name: &'static str, problems: &mut Problems) -> Option<u64> {
    let number = u64::try_from(values.integer(name)).ok().filter(|number| *number > 0);
    if number.is_none() {
        problems.add(values.problem(name, "is not above 0"));
    }
    number
}

fn http(values: &Values, problems: &mut Problems) -> Option<String> {
    const NAME: &str = "http_address";
    let address = values.text(NAME);
    if address.starts_with(UNIX) {
        let text = "HTTP is served on ports only; a gRPC address may be a unix:// one";
        problems.add(values.problem(NAME, text));
        return None;
    }
    if address.is_empty() {
        return joined(values, "port", problems);
    }
    checked(values, NAME, address, problems)
}

/// `None` when gRPC is off, or something is wrong with it.
fn grpc(values: &Values, problems: &mut Problems) -> Option<String> {
    const NAME: &str = "grpc_address";
    const PORT: &str = "grpc_port";
    let address = values.text(NAME);
    if address == NONE {
        return None;
    }
    if !address.is_empty() {
        return checked(values, NAME, address, problems);
    }
    // A file has no default here.
    let is_off = values.integer(PORT) == 0 || (values.is_of_file() && !values.has(PORT));
    if is_off { None } else { joined(values, PORT, problems) }
}

/// `host` and a port.
fn joined(values: &Values, port: &'static str, problems: &mut Problems) -> Option<String> {
    let host = values.text("host");
    let Ok(number) = u16::try_from(values.integer(port)) else {
        problems.add(values.problem(port, "is not a port"));
        return None;
    };
    let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let host = if is_bare_ipv6 { format!("[{host}]") } else { host };
    let name = if host.is_empty() { port } else { "host" };
    checked(values, name, format!("{host}:{number}"), problems)
}

fn checked(
    values: &Values,
    name: &'static str,
    address: String,
    problems: &mut Problems,
) -> Option<String> {
    // What is no absolute path would be read as one.
    let is_relative = address.strip_prefix(UNIX).is_some_and(|path| !path.starts_with('/'));
    if is_relative {
        problems.add(values.problem(name, "needs an absolute path, as unix:///run/cache.sock"));
        return None;
    }
    match parse_listen_address(&address) {
        Ok(_) => Some(address),
        Err(error) => {
            problems.add(values.problem(name, &error.to_string()));
            None
        }
    }
}

/// Even where their hosts differ, bazel-remote refuses one port for both.
fn check_ports(values: &Values, http: &str, grpc: &str, problems: &mut Problems) {
    let port = |address: &str| match parse_listen_address(address) {
        // Port 0 is a free one each time.
        Ok(ListenAddress::Tcp(address)) => Some(address.port).filter(|port| *port != 0),
        _ => None,
    };
    if port(http).is_some() && port(http) == port(grpc) {
        let name = if values.has("grpc_address") { "grpc_address" } else { "grpc_port" };
        problems.add(values.problem(name, "HTTP and gRPC cannot have the same port"));
    }
}

/// Halves of pairs have been noted.
fn tls(values: &Values, problems: &mut Problems) -> Option<Certificates> {
    if !(values.has("tls_cert_file") && values.has("tls_key_file")) {
        return None;
    }
    if values.text("min_tls_version") == "1.3" {
        let text = "TLS 1.2 is always spoken, too; say 1.2";
        problems.add(values.problem("min_tls_version", text));
    }
    Some(Certificates {
        cert: values.text("tls_cert_file"),
        key: values.text("tls_key_file"),
        authorities: values.text("tls_ca_file"),
    })
}

/// What those notice that have used the other server.
fn note_of_tls(values: &mut Values) {
    if !values.has("tls_cert_file") {
        return;
    }
    // One that is not the default is noted with the others.
    if values.has("min_tls_version") && values.text("min_tls_version") == "1.0" {
        let text = "TLS is 1.2 or 1.3: clients that speak no later one than 1.1 are refused";
        values.note("min_tls_version", text);
    }
    if values.has("tls_ca_file") {
        let text = "/livez, /readyz and /metrics want a certificate, too";
        values.note("tls_ca_file", text);
    }
}

fn upstream(values: &Values, problems: &mut Problems) -> Option<Upstream> {
    const URL: &str = "grpc_proxy.url";
    let url = values.text(URL);
    if url.is_empty() {
        // In a file the block alone asks for it.
        if values.is_of_file() && UPSTREAM_FILES.iter().any(|name| values.has(name)) {
            problems.add(values.problem(URL, "is required beside its certificates"));
        }
        return None;
    }
    if !url.starts_with("grpc://") && !url.starts_with("grpcs://") {
        problems.add(values.problem(URL, "is neither grpc://HOST:PORT nor grpcs://HOST:PORT"));
        return None;
    }
    let [authorities, cert, key] = UPSTREAM_FILES.map(|name| values.text(name));
    let is_secret = url.starts_with("grpcs://");
    if !is_secret && [&authorities, &cert, &key].iter().any(|path| !path.is_empty()) {
        problems.add(values.problem(URL, "needs grpcs:// for certificates to be of use"));
        return None;
    }
    let mut count = |name| {
        let number = u64::try_from(values.integer(name));
        number.map_err(|_| problems.add(values.problem(name, "is below 0"))).ok()
    };
    Some(Upstream {
        max_copies: count("num_uploaders")?,
        max_queued: count("max_queued_uploads")?.max(1),
        tls: Certificates { cert, key, authorities },
        url,
    })
}

/// Says which of the upstream's files cannot be read, each once.
pub(super) fn check_files(values: &Values, problems: &mut Problems) -> Option<()> {
    let said = UPSTREAM_FILES.iter().filter(|name| values.has(name));
    let unread = said.filter(|name| match read_file(values.text(name).as_ref()) {
        Ok(_) => false,
        Err(error) => {
            problems.add(values.problem(name, &error.to_string()));
            true
        }
    });
    (unread.count() == 0).then_some(())
}
