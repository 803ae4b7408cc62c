//! Goal: near names are found and far ones are not; numbers are read in every spelling of JSON5.

use super::*;
use crate::document;
use crate::expand::Environment;

const NAMES: &[&str] = &["filesystem", "memory", "max_bytes", "max_count", "cas", "ac"];

fn read<T>(
    text: &str,
    read: impl FnOnce(&mut Reader<'static>, &Node) -> Option<T>,
) -> Result<T, String> {
    let file: Arc<str> = "f".into();
    let document = document::read(&file, text).map_err(|problem| problem.to_string())?;
    let env: &'static Environment<'static> = &|name| (name == "N").then(|| "12".to_owned());
    let mut reader = Reader::new(file, env, document.problems);
    let value = read(&mut reader, &document.root);
    value.ok_or_else(|| reader.take_findings().problems.to_string())
}

#[test]
fn near_names_are_suggested() {
    for (given, expected) in [
        ("filesytem", Some("filesystem")),
        ("FileSystem", Some("filesystem")),
        ("file-system", Some("filesystem")),
        ("maxBytes", Some("max_bytes")),
        ("max_cuont", Some("max_count")),
        ("csa", Some("cas")),
        ("redis", None),
        ("", None),
        ("x", None),
    ] {
        assert_eq!(nearest(given, NAMES), expected, "{given:?}");
    }
    assert_eq!(nearest(&"filesystem".repeat(1000), NAMES), None);
}

#[test]
fn whole_numbers_have_many_spellings() {
    for (text, expected) in [
        ("0", 0),
        ("+7", 7),
        ("0x10", 16),
        ("+0XfF", 255),
        ("18446744073709551615", u64::MAX),
        ("'5'", 5),
        ("' 5 '", 5),
        ("'${N}'", 12),
        ("'$N$N'", 1212),
    ] {
        assert_eq!(read(text, Reader::count), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("-1", "f:1:1: \"-1\" is negative; expected a whole number from 0"),
        ("-0", "f:1:1: \"-0\" is negative; expected a whole number from 0"),
        ("1.0", "f:1:1: \"1.0\" is not a whole number"),
        (".5", "f:1:1: \".5\" is not a whole number"),
        ("1e3", "f:1:1: \"1e3\" is not a whole number"),
        ("Infinity", "f:1:1: \"Infinity\" is not a whole number"),
        ("NaN", "f:1:1: \"NaN\" is not a whole number"),
        ("18446744073709551616", "f:1:1: \"18446744073709551616\" is too large"),
        ("''", "f:1:1: \"\" is not a whole number"),
        ("'+-5'", "f:1:1: \"+-5\" is not a whole number"),
        ("true", "f:1:1: expected a whole number, found true"),
        ("null", "f:1:1: expected a whole number, found null"),
    ] {
        assert_eq!(read(text, Reader::count), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn switches_are_words_or_texts() {
    assert_eq!(read("true", Reader::flag), Ok(true));
    assert_eq!(read("'false'", Reader::flag), Ok(false));
    assert_eq!(read("'${X:-true}'", Reader::flag), Ok(true));
    let problem = "f:1:1: expected true or false, found \"TRUE\"";
    assert_eq!(read("'TRUE'", Reader::flag), Err(problem.to_owned()));
}

#[test]
fn paths_are_never_empty_and_have_no_nul() {
    assert_eq!(read("'/a/${N}'", Reader::file_path), Ok("/a/12".to_owned()));
    for (text, expected) in [
        ("''", "f:1:1: a path must not be empty"),
        ("'${X:-}'", "f:1:1: a path must not be empty"),
        ("'a\\0b'", "f:1:1: a path must not contain a NUL character"),
        ("'~/x'", "f:1:1: \"~\" needs the environment variable HOME, which is not set"),
        ("5", "f:1:1: expected a path, found 5"),
    ] {
        assert_eq!(read(text, Reader::file_path), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn long_texts_are_shortened_in_messages() {
    let problem = read(&format!("'{}'", "x".repeat(10_000)), Reader::count).unwrap_err();
    assert!(problem.len() < 120, "{problem}");
}
