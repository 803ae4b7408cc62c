//! No text makes the readers of sizes, durations, addresses and variables panic, and what they read
//! they can write and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nativelink_config::expand::{expand, expand_path};
use nativelink_config::units::{
    parse_duration, parse_max_size, parse_size, show_duration, show_size,
};
use nativelink_config::{parse_listen_address, parse_socket_address};

fuzz_target!(|text: &str| {
    if let Ok(bytes) = parse_size(text) {
        assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
    if let Ok(size) = parse_max_size(text) {
        assert_eq!(parse_max_size(&size.to_string()), Ok(size));
    }
    if let Ok(address) = parse_socket_address(text) {
        assert_eq!(parse_socket_address(&address.to_string()), Ok(address));
    }
    if let Ok(address) = parse_listen_address(text) {
        assert_eq!(parse_listen_address(&address.to_string()), Ok(address));
    }
    let environment = |name: &str| (name.len() < 5).then(|| name.repeat(100));
    for expanded in [expand(text, &environment), expand_path(text, &environment)] {
        // Not more than the bound, with the last value and the text behind it.
        let longest = (64 << 10) + text.len() + 500;
        assert!(expanded.map_or(true, |expanded| expanded.len() <= longest));
    }
});
