//! Goal: numbers, switches and durations are read as Go reads them.

use std::time::Duration;

use super::super::go::{duration, integer, switch};

#[test]
fn integers_have_bases_and_underscores() {
    for (text, number) in [
        ("0", 0),
        ("42", 42),
        ("-1", -1),
        ("+7", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(integer(text), Ok(number), "{text}");
    }
    for text in
        ["", "-", "1.0", "1e3", "ten", "0x", "--1", "+-1", "0x-1", " 1", "9223372036854775808"]
    {
        assert!(integer(text).is_err(), "{text}");
    }
}

#[test]
fn switches_have_few_spellings() {
    assert_eq!((switch("T"), switch("FALSE"), switch("0")), (Ok(true), Ok(false), Ok(false)));
    for text in ["yes", "tRUE", "", "2"] {
        assert!(switch(text).is_err(), "{text}");
    }
}

#[test]
fn durations_have_units() {
    for (text, milliseconds) in [
        ("0", 0),
        ("0s", 0),
        ("300ms", 300),
        ("1.5s", 1500),
        ("1h2m3s", 3_723_000),
        ("+1m", 60_000),
        (".5s", 500),
        ("2000us", 2),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
    }
    for text in ["", "5", "-1s", "s", "1 s", "1d", "1s5", ".s", "1..5s", "9999999999h"] {
        assert!(duration(text).is_err(), "{text}");
    }
}
