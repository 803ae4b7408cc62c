//! Goal: no password is left, and texts without one stay as they are.

use super::masked;

#[test]
fn passwords_of_urls_are_hidden() {
    for (text, expected) in [
        ("redis://ada:secret@host:6379/0", "redis://ada:***@host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://ada:se@c/r:et@host", "redis://ada:***@host"),
        ("redis://a:b@h1,redis://c:d@h2", "redis://a:***@h2"),
        ("redis://ada@host:6379", "redis://ada@host:6379"),
        ("grpc://host:50051", "grpc://host:50051"),
        ("ada:secret@host", "ada:secret@host"),
        ("", ""),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}
