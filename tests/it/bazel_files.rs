//! `MODULE.bazel` and the `BUILD.bazel` files parse, and name what Cargo builds.
//!
//! Method: the files are parsed and compared with `cargo metadata`; no Bazel and no registry is
//! needed. `tests/e2e/build_files.sh` loads the same files in a real Bazel, with stubs for rules.

mod cargo;
mod files;
mod starlark;

use std::collections::HashSet;

use cargo::{Dependency, Package, Target, workspace};
use files::{BuildFile, all_paths, has_source};
use starlark::{Call, Expr, Statement};

/// What Bazel defines without a `load`.
const BUILT_IN: &[&str] = &["False", "None", "True"];
const BUILT_IN_BUILD: &[&str] = &["glob", "load", "package"];
const BUILT_IN_MODULE: &[&str] =
    &["bazel_dep", "module", "register_toolchains", "use_extension", "use_repo"];

/// The rule that builds a kind of Cargo target. A benchmark has its own `main`.
fn rule_of(kind: &str) -> &str {
    match kind {
        "lib" => "rust_library",
        "proc-macro" => "rust_proc_macro",
        "bin" | "bench" | "example" => "rust_binary",
        "test" => "rust_test",
        "custom-build" => "cargo_build_script",
        other => panic!("which Bazel rule builds a {other}?"),
    }
}

/// The Bazel target that compiles a Cargo target, found by its source root.
fn target_of<'a>(file: &'a BuildFile, target: &Target) -> Option<&'a Call> {
    let (kind, root) = (rule_of(&target.kind).to_owned(), Some(target.root.as_str()));
    file.calls().find(|call| call.name() == kind && call.text("crate_root") == root)
}

/// `//dir:name` of a library, as another package's `deps` name it.
fn library_label(packages: &[Package], dir: &str) -> String {
    let package = packages.iter().find(|package| package.dir == dir).unwrap();
    let file = BuildFile::of_package(dir);
    let library = package.targets.iter().find(|target| target.kind == "lib").unwrap();
    let name = target_of(&file, library).and_then(|call| call.text("name")).unwrap().to_owned();
    format!("//{dir}:{name}")
}

/// Whether a list of labels has one, spelled out or by `all_crate_deps(kind = True)`.
fn has_crates(call: &Call, attribute: &str, kind: &str) -> bool {
    call.parts(attribute).iter().any(|part| match part {
        Expr::Call(deps) => deps.name() == "all_crate_deps" && deps.is_set(kind),
        _ => false,
    })
}

fn has_label(call: &Call, attribute: &str, label: &str) -> bool {
    call.parts(attribute).iter().any(|part| part.text() == Some(label))
}

#[test]
fn every_bazel_file_is_starlark_with_known_names() {
    let paths = all_paths();
    assert!(paths.contains(&"MODULE.bazel".to_owned()));
    for path in paths {
        let file = BuildFile::read(&path);
        let built_in = if path == "MODULE.bazel" { BUILT_IN_MODULE } else { BUILT_IN_BUILD };
        let mut known: HashSet<&str> = BUILT_IN.iter().chain(built_in).copied().collect();
        for statement in &file.statements {
            let (Statement::Expr(expr) | Statement::Assign(_, expr)) = statement;
            expr.walk(&mut |inner| {
                let Expr::Name(name) = inner else { return };
                assert!(known.contains(name.as_str()), "{path}: {name} is not defined");
            });
            match statement {
                Statement::Assign(name, _) => assert!(known.insert(name), "{path}: {name} twice"),
                Statement::Expr(Expr::Call(call)) if call.name() == "load" => {
                    known.extend(call.positional.iter().skip(1).filter_map(Expr::text));
                    known.extend(call.named.iter().map(|(name, _)| name.as_str()));
                }
                Statement::Expr(_) => {}
            }
        }
    }
}

#[test]
fn the_module_takes_its_crates_from_cargo() {
    let file = BuildFile::read("MODULE.bazel");
    let crates = file.rules("crate.from_cargo").next().unwrap();
    assert_eq!(crates.text("cargo_lockfile"), Some("//:Cargo.lock"));
    let mut given: Vec<_> = crates.parts("manifests").iter().filter_map(|m| m.text()).collect();
    let packages = workspace();
    let mut wanted: Vec<_> =
        packages.iter().map(|package| format!("//{}:Cargo.toml", package.dir)).collect();
    given.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(given, wanted);
}

#[test]
fn the_module_has_cargos_version_edition_and_compiler() {
    let file = BuildFile::read("MODULE.bazel");
    let root = workspace().into_iter().find(|package| package.dir.is_empty()).unwrap();
    let module = file.rules("module").next().unwrap();
    assert_eq!(module.text("name"), Some(root.name.as_str()));
    assert_eq!(module.text("version"), Some(root.version.as_str()));
    let toolchain = file.rules("rust.toolchain").next().unwrap();
    assert_eq!(toolchain.text("edition"), Some(root.edition.as_str()));
    for version in toolchain.parts("versions") {
        assert!(version.text().unwrap().starts_with(&root.rust_version), "{version:?}");
    }
}

#[test]
fn every_cargo_target_has_a_bazel_target() {
    for package in workspace() {
        let file = BuildFile::of_package(&package.dir);
        for target in &package.targets {
            let rule = rule_of(&target.kind);
            let missing = format!("{}: no {rule} with crate_root {:?}", file.path, target.root);
            let call = target_of(&file, target).expect(&missing);
            let at = format!("{}:{}", file.path, call.line);
            assert!(has_source(call, &target.root), "{at}: srcs lack {}", target.root);
            assert_eq!(call.text("version"), Some(package.version.as_str()), "{at}: version");
            if target.kind == "custom-build" {
                continue; // Nothing imports it.
            }
            let name = call.text("crate_name").or(call.text("name")).unwrap();
            assert_eq!(name.replace('-', "_"), target.name.replace('-', "_"), "{at}: crate name");
        }
    }
}

#[test]
fn every_unit_test_runs_in_bazel() {
    for package in workspace() {
        let file = BuildFile::of_package(&package.dir);
        for target in &package.targets {
            if !target.is_tested || !matches!(target.kind.as_str(), "lib" | "bin") {
                continue;
            }
            let name = target_of(&file, target).and_then(|call| call.text("name")).unwrap();
            let label = format!(":{name}");
            let test = file.rules("rust_test").find(|call| call.text("crate") == Some(&label));
            let test = test.unwrap_or_else(|| panic!("{}: no rust_test of {label}", file.path));
            assert!(has_crates(test, "deps", "normal_dev"), "{}:{}", file.path, test.line);
            assert!(has_crates(test, "proc_macro_deps", "proc_macro_dev"), "{label}");
        }
    }
}

/// Whether a dependency is in the `deps` of a target. Cargo does not say which crates are
/// procedural macros, and Bazel lists them apart, so both lists must be there.
fn reaches(packages: &[Package], dependency: &Dependency, call: &Call) -> bool {
    if let Some(dir) = &dependency.dir {
        return has_label(call, "deps", &library_label(packages, dir));
    }
    let (deps, macros) = match dependency.kind.as_str() {
        "normal" => ("normal", "proc_macro"),
        "dev" => ("normal_dev", "proc_macro_dev"),
        _ => ("build", "build_proc_macro"),
    };
    has_label(call, "deps", &format!("@crates//:{}", dependency.name))
        || has_crates(call, "deps", deps) && has_crates(call, "proc_macro_deps", macros)
}

fn needs(target: &Target, dependency: &str) -> bool {
    match target.kind.as_str() {
        "custom-build" => dependency == "build",
        "test" | "bench" | "example" => dependency != "build",
        _ => dependency == "normal",
    }
}

#[test]
fn every_dependency_reaches_the_targets_that_use_it() {
    let packages = workspace();
    for package in &packages {
        let file = BuildFile::of_package(&package.dir);
        for target in &package.targets {
            let call = target_of(&file, target).unwrap();
            for dependency in &package.dependencies {
                let reached =
                    !needs(target, &dependency.kind) || reaches(&packages, dependency, call);
                let (name, at) = (&dependency.name, format!("{}:{}", file.path, call.line));
                assert!(reached, "{at}: {name} does not reach the {}", target.kind);
            }
        }
    }
}

#[test]
fn a_package_is_linked_to_its_own_library_and_build_script() {
    for package in workspace() {
        let file = BuildFile::of_package(&package.dir);
        let label_of = |kind: &str| {
            let target = package.targets.iter().find(|target| target.kind == kind)?;
            Some(format!(":{}", target_of(&file, target)?.text("name")?))
        };
        for target in &package.targets {
            let own = match target.kind.as_str() {
                "custom-build" => continue,
                "lib" | "proc-macro" => label_of("custom-build"),
                _ => label_of("lib"),
            };
            let Some(own) = own else { continue };
            let call = target_of(&file, target).unwrap();
            assert!(has_label(call, "deps", &own), "{}:{} lacks {own}", file.path, call.line);
        }
    }
}

/// `(package directory, target name)` of a label in this repository, as seen from `dir`.
fn resolve<'a>(label: &'a str, dir: &'a str) -> Option<(&'a str, &'a str)> {
    match label.strip_prefix("//") {
        Some(absolute) => absolute.split_once(':'),
        None => Some((dir, label.strip_prefix(':')?)),
    }
}

#[test]
fn every_label_names_a_target() {
    for path in all_paths().iter().filter(|path| *path != "MODULE.bazel") {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let file = BuildFile::read(path);
        for call in file.calls() {
            let labels = ["deps", "proc_macro_deps", "data", "crate"].map(|name| call.parts(name));
            for label in labels.concat().into_iter().filter_map(Expr::text) {
                let Some((dir, name)) = resolve(label, dir) else {
                    continue;
                };
                let file = BuildFile::of_package(dir);
                let found = file.calls().any(|call| call.text("name") == Some(name));
                assert!(found, "{path}:{}: {label} does not exist", call.line);
            }
        }
    }
}

#[test]
fn target_names_are_unique_in_their_package() {
    for path in all_paths().iter().filter(|path| *path != "MODULE.bazel") {
        let file = BuildFile::read(path);
        let mut names = HashSet::new();
        for name in file.calls().filter_map(|call| call.text("name")) {
            assert!(names.insert(name), "{path}: {name} is defined twice");
        }
    }
}
