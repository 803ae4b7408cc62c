//! `castellan config check`: everything that `serve` would say of files, without serving them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{print, print_error, put_place};
use crate::cli::problems::{Problem, Problems};
use crate::cli::store_flags::StoreSettings;
use crate::cli::{EX_USAGE, config_file};

/// Flags of `config check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Configuration files (JSON5).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print what is found as a JSON array on standard output instead.
    #[arg(long)]
    json: bool,
}

/// Something to say of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    file: String,
    problem: Problem,
    /// Whether the file is not served because of it.
    is_error: bool,
}

/// Prints what is found; 64 if a file would not be served.
pub(super) fn run(arguments: &CheckArguments) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let found: Vec<Finding> =
        arguments.files.iter().flat_map(|path| findings(path, &env)).collect();
    if arguments.json {
        print(&format!("{:#}\n", found.iter().map(Finding::json).collect::<Value>()));
    } else {
        print_error(&text(&found));
    }
    if found.iter().any(|finding| finding.is_error) {
        ExitCode::from(EX_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// What there is to say of a file, errors first.
pub(super) fn findings(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let file = path.display().to_string();
    let mut problems = Problems::default();
    // The plan has the warnings of the file as lines, before its own; here they keep their places.
    let warnings = match config_file::parse(path, env) {
        Ok(config) => {
            let served = config_file::plan(path, env, &StoreSettings::default(), &mut problems);
            let mut warnings: Vec<Problem> = config.warnings.iter().map(Problem::from).collect();
            let others = served.into_iter().flat_map(|served| served.warnings);
            warnings.extend(others.skip(warnings.len()).map(Problem::from));
            warnings
        }
        Err(found) => {
            problems = found;
            Vec::new()
        }
    };
    let finding = |is_error| move |problem| Finding { file: file.clone(), problem, is_error };
    let errors = problems.into_iter().map(finding.clone()(true));
    errors.chain(warnings.into_iter().map(finding(false))).collect()
}

/// A line each.
pub(super) fn text(found: &[Finding]) -> String {
    found.iter().map(|finding| finding.line() + "\n").collect()
}

impl Finding {
    /// As compilers say it: place, then what kind of problem if it is none, then the problem.
    fn line(&self) -> String {
        let problem = &self.problem;
        match &problem.place {
            _ if self.is_error => problem.to_string(),
            Some(place) if place.path.is_empty() => {
                format!("{place}: warning: {}", problem.message)
            }
            Some(place) => format!("{place}: warning: {}: {}", place.path, problem.message),
            None => format!("warning: {problem}"),
        }
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("file".to_owned(), json!(self.file));
        if let Some(place) = &self.problem.place {
            put_place(&mut object, place);
            object.insert("path".to_owned(), json!(place.path));
        }
        object.insert("message".to_owned(), json!(self.problem.message));
        let severity = if self.is_error { "error" } else { "warning" };
        object.insert("severity".to_owned(), json!(severity));
        Value::Object(object)
    }
}
