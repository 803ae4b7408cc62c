//! No text makes the reader of configuration files panic, and what it says of one is at a place in
//! it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nativelink_config::{Place, Source, parse_with_settings};

fn environment(name: &str) -> Option<String> {
    (name.len() < 5).then(|| name.repeat(3))
}

fuzz_target!(|text: &str| {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let lines: Vec<usize> = body.split(['\n', '\r']).map(|line| line.chars().count()).collect();
    let check = |place: &Place| {
        let chars = lines.get(place.line as usize - 1).expect("the line is in the text");
        let column = place.column as usize;
        assert!((1..=chars + 1).contains(&column), "{place} in {text:?}");
    };
    match parse_with_settings("f", text, &environment) {
        Ok((config, settings)) => {
            config.warnings.iter().chain(&config.unsupported).for_each(|it| check(&it.place));
            for setting in settings {
                if let Source::File(place) | Source::Environment(place) = &setting.source {
                    check(place);
                }
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|problem| check(&problem.place));
        }
    }
});
