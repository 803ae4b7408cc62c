//! The rules of the house that a compiler does not check.
//!
//! Method: reads the sources of the repository as text. A rule that stands in the way of clearer
//! code is changed here, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_LINE_CHARS: usize = 100;

/// The layers: a module may import only from those named beside it. `main` may import anything.
const LAYERS: &[(&str, &[&str])] = &[
    ("digest", &[]),
    ("former", &["digest"]),
    ("calendar", &[]),
    ("shutdown", &[]),
    ("telemetry", &["shutdown"]),
    ("socket", &[]),
    ("tls", &["telemetry"]),
    ("listener", &["socket"]),
    ("admin_socket", &["socket"]),
    ("store", &["digest", "former", "shutdown"]),
    ("cas", &["digest", "store", "telemetry"]),
    ("values", &["digest", "store"]),
    ("trees", &["cas", "digest", "store"]),
    ("staging", &["cas", "digest", "shutdown", "store", "trees"]),
    ("client", &["digest", "former", "shutdown", "store", "trees"]),
    ("encoded", &["digest"]),
    ("action_cache", &["cas", "digest", "encoded", "former", "store", "telemetry"]),
    ("instance", &["action_cache", "cas", "digest", "store", "telemetry"]),
    (
        "grpc",
        &[
            "action_cache",
            "cas",
            "digest",
            "encoded",
            "instance",
            "shutdown",
            "staging",
            "store",
            "telemetry",
            "trees",
        ],
    ),
    ("operator", &["calendar", "digest", "shutdown", "store", "telemetry"]),
    (
        "http",
        &[
            "action_cache",
            "admin_socket",
            "calendar",
            "cas",
            "digest",
            "encoded",
            "former",
            "instance",
            "operator",
            "shutdown",
            "store",
            "telemetry",
            "values",
        ],
    ),
    (
        "server",
        &[
            "admin_socket",
            "cas",
            "digest",
            "grpc",
            "http",
            "instance",
            "listener",
            "operator",
            "shutdown",
            "socket",
            "staging",
            "store",
            "telemetry",
            "tls",
            "trees",
            "values",
        ],
    ),
    (
        "cli",
        &[
            "admin_socket",
            "client",
            "digest",
            "grpc",
            "http",
            "operator",
            "server",
            "shutdown",
            "socket",
            "store",
            "telemetry",
            "tls",
            "trees",
            "values",
        ],
    ),
];

/// Crates and standard modules that belong to some places only.
const CONFINED: &[(&str, &[&str])] = &[
    ("tonic::", &["src/client/", "src/grpc/", "src/store/remote/", "src/telemetry/otlp/"]),
    ("opentelemetry", &["src/telemetry/otlp/", "src/telemetry/spans.rs"]),
    ("tonic_health::", &["src/grpc/"]),
    ("axum::", &["src/http/", "src/server.rs", "src/grpc/trace.rs"]),
    ("bazel_remote_apis", &["proto/src/lib.rs"]),
    ("nativelink_config::", &["src/cli/"]),
    ("saphyr_parser::", &["src/cli/compat/file.rs"]),
    (
        "rustix::fs",
        &["src/store/filesystem/disk/", "src/store/filesystem/deletions.rs", "src/trees/on_disk/"],
    ),
    (
        "rustix::io",
        &[
            "src/grpc/status.rs",
            "src/http/status.rs",
            "src/store/filesystem/disk/",
            "src/store/filesystem/deletions.rs",
            "src/trees/on_disk/",
        ],
    ),
    // The configuration file and certificates are the other files that are read, and what the
    // kernel says; sockets have a mode, are replaced and go.
    (
        "std::fs",
        &[
            "src/store/filesystem/disk/",
            "src/cli/config_file.rs",
            "src/telemetry/metrics/process.rs",
            "src/socket.rs",
            "src/tls/files.rs",
            "src/trees/on_disk/",
        ],
    ),
    // The model checker takes over what the store's threads share.
    ("shuttle::", &["src/store/filesystem/sync.rs"]),
    ("tar::", &["src/client/archive/"]),
    ("tokio::fs", &[]),
    ("reqwest", &[]),
];

/// Words that say that something is unfinished or has no name.
const BANNED: &[&str] = &["FIXME", "XXX", "HACK", "utils", "helpers", "dbg!(", "todo!("];

/// The invariants; each is cited where the code upholds it and tested by name.
const INVARIANTS: &[&str] = &[
    "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15",
    "I16", "I17", "I18", "I19", "I20", "I21", "I22", "I23",
];

struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let path = &self.path;
        let is_in_folder = path.contains("/tests/") || path.contains("/schedules/");
        path.starts_with("tests/") || is_in_folder || path.ends_with("tests.rs")
    }

    /// The text without a trailing `mod tests { ... }`.
    fn production(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["src", "proto", "nativelink-config", "tests", "benches", "examples", "fuzz"] {
        collect(&repository().join(folder), "rs", &mut sources);
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

fn collect(folder: &Path, extension: &str, into: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, extension, into);
            }
        } else if path.extension().is_some_and(|it| it == extension) {
            let relative = path.strip_prefix(repository()).unwrap();
            into.push(Source {
                path: relative.display().to_string(),
                text: std::fs::read_to_string(&path).unwrap(),
            });
        }
    }
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut problems = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > MAX_FILE_LINES {
            problems.push(format!("{}: {lines} lines", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            if line.chars().count() > MAX_LINE_CHARS {
                problems.push(format!("{}:{}: long line", source.path, number + 1));
            }
        }
        for (name, length) in functions(&source.text) {
            if length > MAX_FUNCTION_LINES {
                problems.push(format!("{}: fn {name} has {length} lines", source.path));
            }
        }
    }
    assert_none(&problems);
}

/// The functions of a formatted file: from `fn` to the brace at the same indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let is_function = ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn "]
            .iter()
            .any(|it| code.starts_with(it))
            || (code.starts_with("pub(") && code.contains(") fn ") | code.contains("async fn "));
        if !is_function || code.ends_with(';') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[start..].iter().position(|it| *it == close) {
            let name = code.split("fn ").nth(1).unwrap_or_default();
            let name = name.split(['(', '<']).next().unwrap_or_default();
            found.push((name.to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is_for_in_ascii() {
    let mut problems = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            problems.push(format!("{}: no //! at the top", source.path));
        }
        if !source.text.is_ascii() {
            problems.push(format!("{}: not ASCII", source.path));
        }
        for word in BANNED {
            if source.path != "tests/it/tidy.rs" && source.text.contains(word) {
                problems.push(format!("{}: {word}", source.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn layers_import_downwards_only() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut problems = Vec::new();
    for source in sources() {
        let Some(inside) = source.path.strip_prefix("src/") else { continue };
        let layer = inside.split(['/', '.']).next().unwrap();
        if matches!(layer, "main" | "lib") || source.is_test() {
            continue;
        }
        let Some(below) = allowed.get(layer) else {
            problems.push(format!("{}: {layer} is in no layer", source.path));
            continue;
        };
        for (used, _) in LAYERS {
            let path = format!("crate::{used}");
            let mut uses = source.production().match_indices(&path);
            let imports = uses.any(|(at, _)| {
                let behind = source.production()[at + path.len()..].chars().next();
                behind.is_none_or(|it| !it.is_alphanumeric() && it != '_')
            });
            if imports && *used != layer && !below.contains(used) {
                problems.push(format!("{}: {layer} may not import {used}", source.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn what_belongs_to_one_place_stays_there() {
    let mut problems = Vec::new();
    for source in sources() {
        if source.is_test() || source.path.starts_with("benches/") {
            continue;
        }
        let code = source.production().lines().filter(|it| !it.trim_start().starts_with("//"));
        let code: String = code.collect::<Vec<_>>().join("\n");
        for (name, places) in CONFINED {
            let is_home = places.iter().any(|place| source.path.starts_with(place));
            if code.contains(name) && !is_home && source.path.starts_with("src/") {
                problems.push(format!("{}: {name} belongs to {places:?}", source.path));
            }
        }
    }
    assert_none(&problems);
}

/// What decides in the memory store.
const PURE_OF_MEMORY: &[&str] = &["index.rs", "order.rs", "room.rs", "writers.rs"];

#[test]
fn the_index_and_the_digests_are_pure() {
    let mut problems = Vec::new();
    for source in sources() {
        let is_pure = source.path.starts_with("src/digest/")
            || source.path.starts_with("src/former/")
            || source.path.starts_with("src/store/filesystem/index/")
            || source.path == "src/store/filesystem/layout.rs"
            || source.path.starts_with("src/store/reuse")
            || PURE_OF_MEMORY.iter().any(|file| source.path == format!("src/store/memory/{file}"));
        if !is_pure || source.is_test() {
            continue;
        }
        for impure in
            ["async fn", ".await", "tokio", "std::fs", "Instant", "SystemTime", "tracing::"]
        {
            if source.production().contains(impure) {
                problems.push(format!("{}: {impure}", source.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_invariant_is_cited_and_tested() {
    let sources = sources();
    let mut problems = Vec::new();
    for invariant in INVARIANTS {
        let number = invariant.trim_start_matches('I');
        let mentions = |text: &str| {
            text.match_indices(invariant).any(|(at, _)| {
                let next = text[at + invariant.len()..].chars().next();
                !next.is_some_and(|it| it.is_ascii_digit())
            })
        };
        let is_cited = sources.iter().any(|it| !it.is_test() && mentions(it.production()));
        let is_tested = sources.iter().any(|it| {
            it.text.contains(&format!("fn i{number}_"))
                || it.text.lines().any(|line| {
                    line.trim_start().trim_start_matches("async ").starts_with("fn i")
                        && line.contains(&format!("_i{number}_"))
                })
        });
        if !is_cited {
            problems.push(format!("{invariant} is cited nowhere"));
        }
        if !is_tested {
            problems.push(format!("{invariant} has no test named after it"));
        }
    }
    assert_none(&problems);
}

#[test]
fn every_page_of_the_documentation_is_linked() {
    let mut pages = Vec::new();
    collect(&repository().join("docs"), "md", &mut pages);
    let mut linking: String = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
        .iter()
        .map(|name| std::fs::read_to_string(repository().join(name)).unwrap())
        .collect();
    for page in &pages {
        linking.push_str(&page.text);
    }
    let problems: Vec<_> = pages
        .iter()
        .filter(|page| {
            let name = page.path.rsplit('/').next().unwrap();
            !linking.contains(&page.path) && !linking.contains(&format!("({name})"))
        })
        .map(|page| format!("{}: linked from nowhere", page.path))
        .collect();
    assert_none(&problems);
}

/// Others read the format too: whoever does must not build a server for it.
#[test]
fn the_crate_of_the_configuration_stays_small() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let lock = read("Cargo.lock");
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|line| quoted(line.strip_prefix("name = ")?)).unwrap();
        let list = package.split_once("dependencies = [").unwrap_or_default().1;
        let list = list.lines().map_while(|line| if line == "]" { None } else { Some(line) });
        // Where there are several versions, the version stands behind the name.
        let names = list.filter_map(quoted);
        let names = names.filter_map(|it| it.split(' ').next().map(str::to_owned));
        needs.entry(name).or_default().extend(names);
    }
    let manifest = read("nativelink-config/Cargo.toml");
    let own = manifest.split_once("[dependencies]\n").unwrap().1;
    let mut wanted: Vec<String> = own
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ']).next().filter(|name| !name.is_empty()))
        .map(str::to_owned)
        .collect();
    let mut found = BTreeSet::from(["nativelink-config".to_owned()]);
    while let Some(name) = wanted.pop() {
        if found.insert(name.clone()) {
            wanted.extend(needs[&name].iter().cloned());
        }
    }
    assert!((5..=60).contains(&found.len()), "{} crates: {found:?}", found.len());
    for heavy in ["tokio", "tonic", "hyper", "clap"] {
        assert!(!found.contains(heavy), "{found:?}");
    }
}

#[test]
fn deployment_examples_parse() {
    let mut examples = Vec::new();
    collect(&repository().join("deployment"), "json5", &mut examples);
    assert!(!examples.is_empty());
    for example in examples {
        let parsed = nativelink_config::parse(&example.path, &example.text, &|_| None);
        assert!(parsed.is_ok(), "{parsed:?}");
    }
}
