//! Goal: what an operator is told about each file of testdata/ is exactly what stands beside it.
//! Method: `invalid/NAME.txt` has the problems of `invalid/NAME.json5`; `valid/NAME.txt` has the
//! warnings of `valid/NAME.json5` and what it asks for that does not run, and is not there if there
//! is neither. Every file of the folders is read.

use super::super::*;
use super::env;
use std::path::{Path, PathBuf};

/// The files of a folder of testdata/, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json5"))
        .collect();
    files.sort();
    files
}

/// What an operator is told: `Err` if the file is refused.
fn told(text: &str) -> Result<String, String> {
    let config = parse("f", text, &env).map_err(|problems| problems.to_string())?;
    let warnings = config.warnings.iter().map(|warning| format!("warning: {warning}"));
    let unsupported = config.unsupported.iter().map(|part| format!("unsupported: {part}"));
    Ok(warnings.chain(unsupported).collect::<Vec<_>>().join("\n"))
}

fn assert_beside(path: &Path, found: &str) {
    let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
    assert_eq!(found.trim_end(), expected.trim_end(), "{}\n{found}", path.display());
}

#[test]
fn every_invalid_file_is_refused_with_the_text_beside_it() {
    for path in files("invalid") {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = told(&text).expect_err(&path.display().to_string());
        assert_beside(&path, &found);
    }
}

#[test]
fn every_valid_file_is_read_with_the_text_beside_it() {
    for path in files("valid") {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = told(&text).unwrap_or_else(|problems| panic!("{}\n{problems}", path.display()));
        assert_beside(&path, &found);
    }
}
