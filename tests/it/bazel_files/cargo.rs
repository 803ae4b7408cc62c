//! What Cargo builds: the workspace as `cargo metadata` describes it.

use std::process::Command;

use super::starlark::{Expr, parse_expr};

/// A workspace member. Paths are relative to `dir`, which is relative to the repository and empty
/// for the root package.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) edition: String,
    pub(super) rust_version: String,
    pub(super) dir: String,
    pub(super) targets: Vec<Target>,
    pub(super) dependencies: Vec<Dependency>,
}

/// A crate that Cargo compiles.
pub(super) struct Target {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) root: String,
    /// `cargo test` builds it with its unit tests.
    pub(super) is_tested: bool,
}

/// A direct dependency.
pub(super) struct Dependency {
    pub(super) name: String,
    /// `normal`, `dev` or `build`.
    pub(super) kind: String,
    /// A workspace member's directory; nothing for a crate from the registry.
    pub(super) dir: Option<String>,
}

pub(super) fn repository() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

/// The members of this workspace, without asking the network.
pub(super) fn workspace() -> Vec<Package> {
    let output = Command::new(std::env::var("CARGO").unwrap())
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = parse_expr(&String::from_utf8(output.stdout).unwrap()).unwrap();
    metadata.get("packages").unwrap().items().iter().map(package).collect()
}

fn package(package: &Expr) -> Package {
    let manifest = relative(field(package, "manifest_path"), repository());
    let dir = manifest.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned();
    Package {
        name: field(package, "name").to_owned(),
        version: field(package, "version").to_owned(),
        edition: field(package, "edition").to_owned(),
        rust_version: field(package, "rust_version").to_owned(),
        targets: items(package, "targets").iter().map(|found| target(found, &dir)).collect(),
        dependencies: items(package, "dependencies").iter().map(dependency).collect(),
        dir,
    }
}

fn target(target: &Expr, dir: &str) -> Target {
    let kind = items(target, "kind")[0].text().unwrap();
    Target {
        kind: kind.to_owned(),
        name: field(target, "name").to_owned(),
        root: relative(&relative(field(target, "src_path"), repository()), dir),
        is_tested: target.get("test") == Some(&Expr::Name("true".to_owned())),
    }
}

fn dependency(dependency: &Expr) -> Dependency {
    let kind = dependency.get("kind").and_then(Expr::text).unwrap_or("normal");
    let path = dependency.get("path").and_then(Expr::text);
    Dependency {
        name: field(dependency, "name").to_owned(),
        kind: kind.to_owned(),
        dir: path.map(|path| relative(path, repository())),
    }
}

fn field<'a>(object: &'a Expr, name: &str) -> &'a str {
    object.get(name).and_then(Expr::text).unwrap_or_else(|| panic!("cargo gives no {name}"))
}

fn items<'a>(object: &'a Expr, name: &str) -> &'a [Expr] {
    object.get(name).unwrap_or_else(|| panic!("cargo gives no {name}")).items()
}

fn relative(path: &str, base: &str) -> String {
    path.strip_prefix(base).unwrap().trim_start_matches('/').to_owned()
}
