//! Goal: the shell's spellings, errors that name the variable, no way to blow up. Method: tables
//! over a made-up environment, then a property.

use super::*;
use proptest::prelude::*;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/home/ada/",
        "CACHE" => "/var/cache",
        "A_1" => "one",
        "EMPTY" => "",
        "DOLLAR" => "$CACHE",
        "TILDE" => "~",
        "LONG" => return Some("x".repeat(40_000)),
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn variables_are_replaced() {
    for (text, expected) in [
        ("", ""),
        ("/plain", "/plain"),
        ("$CACHE", "/var/cache"),
        ("${CACHE}", "/var/cache"),
        ("${CACHE}/cas", "/var/cache/cas"),
        ("$CACHE/cas", "/var/cache/cas"),
        ("a$A_1-b", "aone-b"),
        ("$A_1$A_1", "oneone"),
        ("${NONE:-/tmp}/x", "/tmp/x"),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${CACHE:-/tmp}", "/var/cache"),
        ("${EMPTY:-/tmp}", ""),
        ("${NONE:-$CACHE/x}", "/var/cache/x"),
        ("${NONE:-${A_1}}", "one"),
        ("${NONE:-${NO:-${CACHE}/x}-y}z", "/var/cache/x-yz"),
        ("${NONE:-${NO:-}}", ""),
        ("${CACHE:-${NO}}", "/var/cache"),
        ("${NONE:-$${CACHE}", "${CACHE"),
        ("${NONE:-{a}}", "{a}"),
        ("$EMPTY", ""),
        ("$DOLLAR", "$CACHE"),
        ("$$CACHE", "$CACHE"),
        ("5$", "5$"),
        ("$ 5", "$ 5"),
        ("$5", "$5"),
        ("a~b", "a~b"),
        ("\u{e9}$A_1\u{e9}", "\u{e9}one\u{e9}"),
    ] {
        assert_eq!(expand(text, &env).as_deref(), Ok(expected), "{text:?}");
    }
}

#[test]
fn a_leading_tilde_is_the_home_directory_in_paths() {
    for (text, expected) in [
        ("~", "/home/ada"),
        ("~/cache", "/home/ada/cache"),
        ("~/$A_1", "/home/ada/one"),
        ("/a/~", "/a/~"),
        ("$TILDE/x", "~/x"),
        ("./~x", "./~x"),
    ] {
        assert_eq!(expand_path(text, &env).as_deref(), Ok(expected), "{text:?}");
    }
    assert_eq!(expand("~/cache", &env).as_deref(), Ok("~/cache"));
    assert_eq!(expand_path("~bob/x", &env), Err(ExpandError::OtherHome));
    assert_eq!(expand_path("~", &|_: &str| None), Err(ExpandError::NoHome));
}

#[test]
fn errors_name_the_variable() {
    for (text, expected) in [
        (
            "$NONE",
            "the environment variable NONE is not set; set it, or give a default: ${NONE:-VALUE}",
        ),
        (
            "a${NONE}",
            "the environment variable NONE is not set; set it, or give a default: ${NONE:-VALUE}",
        ),
        ("${CACHE", "\"${\" is not closed by \"}\"; for a plain dollar sign write \"$$\""),
        ("${NONE:-${CACHE}", "\"${\" is not closed by \"}\"; for a plain dollar sign write \"$$\""),
        (
            "${${CACHE}}",
            "\"${CACHE}\" is not the name of a variable; accepted are ${NAME} and ${NAME:-default}",
        ),
        (
            "${NONE:-$NO}",
            "the environment variable NO is not set; set it, or give a default: ${NO:-VALUE}",
        ),
        ("${}", "\"\" is not the name of a variable; accepted are ${NAME} and ${NAME:-default}"),
        (
            "${A-B}",
            "\"A-B\" is not the name of a variable; accepted are ${NAME} and ${NAME:-default}",
        ),
        ("${1}", "\"1\" is not the name of a variable; accepted are ${NAME} and ${NAME:-default}"),
    ] {
        assert_eq!(expand(text, &env).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn repeated_variables_do_not_grow_without_bound() {
    assert_eq!(expand("$LONG$LONG", &env), Err(ExpandError::TooLong));
}

#[test]
fn defaults_nest_to_a_bound() {
    let nested = |levels: usize| "${NONE:-".repeat(levels) + "$A_1" + &"}".repeat(levels);
    assert_eq!(expand(&nested(16), &env).as_deref(), Ok("one"));
    assert_eq!(expand(&nested(17), &env), Err(ExpandError::TooDeep));
    assert_eq!(expand(&nested(10_000), &env), Err(ExpandError::TooDeep));
    assert_eq!(expand(&"${A:-".repeat(10_000), &env), Err(ExpandError::Unclosed));
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in "[~$]?([$]?[{]?[A-Z_0-9]{0,5}[:]?[-]?[}]?|\\PC){0,8}") {
        drop((expand(&text, &env), expand_path(&text, &env)));
    }

    #[test]
    fn text_without_a_dollar_sign_stays(text in "[^$]{0,40}") {
        prop_assert_eq!(expand(&text, &env), Ok(Cow::Borrowed(text.as_str())));
        let path = expand_path(&text, &env);
        match text.strip_prefix('~') {
            None => prop_assert_eq!(path, Ok(Cow::Borrowed(text.as_str()))),
            Some(below) if below.is_empty() || below.starts_with('/') => {
                prop_assert_eq!(path, Ok(Cow::Owned(format!("/home/ada{below}"))));
            }
            Some(_) => prop_assert_eq!(path, Err(ExpandError::OtherHome)),
        }
    }

    #[test]
    fn the_first_variable_that_is_set_wins(
        names in prop::collection::vec(prop::sample::select(&["NONE", "NO", "A_1", "EMPTY"]), 1..8),
        last in "[a-z/{:-]{0,6}",
    ) {
        let text = names.iter().rfold(last.clone(), |inner, name| format!("${{{name}:-{inner}}}"));
        let expected = names.iter().find_map(|name| env(name)).unwrap_or(last);
        prop_assert_eq!(expand(&text, &env), Ok(Cow::Owned(expected)));
    }
}
