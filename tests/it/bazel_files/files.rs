//! What Bazel is told: the build files of the repository, parsed.

use std::fs;
use std::path::{Path, PathBuf};

use super::cargo::repository;
use super::starlark::{Call, Expr, Statement, parse_file};

/// A parsed build file.
pub(super) struct BuildFile {
    /// Relative to the repository.
    pub(super) path: String,
    pub(super) statements: Vec<Statement>,
}

impl BuildFile {
    pub(super) fn read(path: &str) -> Self {
        let source = fs::read_to_string(Path::new(repository()).join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let statements = parse_file(&source).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), statements }
    }

    /// The build file of the package in `dir`.
    pub(super) fn of_package(dir: &str) -> Self {
        Self::read(Path::new(dir).join("BUILD.bazel").to_str().unwrap())
    }

    /// The calls that are statements, including those whose result is assigned.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Expr(Expr::Call(call)) | Statement::Assign(_, Expr::Call(call)) => {
                Some(call)
            }
            _ => None,
        })
    }

    /// The targets of one rule.
    pub(super) fn rules<'a>(&'a self, rule: &'a str) -> impl Iterator<Item = &'a Call> {
        self.calls().filter(move |call| call.name() == rule)
    }
}

/// Whether the `srcs` of a target name a file, directly or by a glob.
pub(super) fn has_source(target: &Call, file: &str) -> bool {
    target.parts("srcs").iter().any(|part| match part {
        Expr::Text(name) => name == file,
        Expr::Call(glob) if glob.name() == "glob" => {
            let included = glob.positional.iter().flat_map(Expr::items);
            let excluded = glob.parts("exclude");
            matches_any(included, file) && !matches_any(excluded, file)
        }
        _ => false,
    })
}

fn matches_any<'a>(patterns: impl IntoIterator<Item = &'a Expr>, file: &str) -> bool {
    patterns.into_iter().filter_map(Expr::text).any(|pattern| matches(pattern, file))
}

/// The globs in use: a file, `dir/*.rs`, `dir/**`, `dir/**/*.rs`.
fn matches(pattern: &str, file: &str) -> bool {
    let Some((dir, name)) = pattern.split_once('*') else {
        return pattern == file;
    };
    let Some(rest) = file.strip_prefix(dir) else {
        return false;
    };
    match name {
        "*" => true,
        _ if name.starts_with("*/*") => rest.ends_with(&name[3..]),
        _ => !rest.contains('/') && rest.ends_with(name),
    }
}

/// Every Bazel file of the repository, wherever it is.
pub(super) fn all_paths() -> Vec<String> {
    let mut found = Vec::new();
    collect(Path::new(repository()), &mut found);
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Links such as bazel-out lead out of the repository.
        let is_ours = !name.starts_with('.') && name != "target" && !path.is_symlink();
        if path.is_dir() && is_ours {
            collect(&path, found);
        } else if path.is_file() && matches!(name, "MODULE.bazel" | "BUILD.bazel" | "BUILD") {
            let relative = path.strip_prefix(repository()).unwrap();
            found.push(relative.to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn globs_match_as_bazel_does() {
    for (pattern, file, is_match) in [
        ("build.rs", "build.rs", true),
        ("src/**/*.rs", "src/lib.rs", true),
        ("src/**/*.rs", "src/a/b.rs", true),
        ("src/**/*.rs", "src/a.txt", false),
        ("src/*.rs", "src/a/b.rs", false),
        ("src/*.rs", "src/a.rs", true),
        ("src/**", "src/a/b.txt", true),
        ("tests/**", "src/lib.rs", false),
    ] {
        assert_eq!(matches(pattern, file), is_match, "{pattern} {file}");
    }
}
