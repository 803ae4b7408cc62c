//! Goal: no text whatsoever makes the reader panic, run away or refuse without a reason. Method:
//! arbitrary text, JSON5-like text and mutated valid files; sizes at the limits.

use super::super::*;
use super::env;
use proptest::prelude::*;
use proptest::test_runner::Config;

const VALID: &[&str] = &[
    include_str!("../../../testdata/valid/minimal.json5"),
    include_str!("../../../testdata/valid/full.json5"),
    include_str!("../../../testdata/valid/old_forms.json5"),
    include_str!("../../../testdata/valid/every_store.json5"),
    include_str!("../../../testdata/valid/own_keys.json5"),
    include_str!("../../../testdata/valid/nested.json5"),
    include_str!("../../../testdata/valid/listeners.json5"),
    include_str!("../../../testdata/valid/services.json5"),
    include_str!("../../../testdata/valid/unsupported.json5"),
];

/// Pieces that mean something to the reader, so that random text gets past the first key.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "stores",
    "servers",
    "services",
    "listener",
    "http",
    "filesystem",
    "content_path",
    "name",
    "instance_name",
    "cas",
    "ac",
    "cas_store",
    "bytestream",
    "cas_stores",
    "memory",
    "fast_slow",
    "ref_store",
    "backend",
    "'CAS'",
    "unix:/x",
    "write_behind",
    "null",
    "true",
    "'x'",
    "\"$HOME\"",
    "'~'",
    "'${A:-b}'",
    "5",
    "-1",
    "0x",
    "1e",
    ".",
    "'",
    "\"",
    "\\",
    "\n",
    "//",
    "/*",
    "*/",
    "\u{feff}",
    "\u{2028}",
    "\u{e9}",
    "\0",
    "'10GiB'",
    "'1h'",
    "$",
];

/// Reads the text; a refusal has a reason and a place inside the text.
fn read_any(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = parse("f", text, &env) {
        prop_assert!(!problems.is_empty(), "refused without a reason: {text:?}");
        let lines = text.split(['\n', '\r']).count();
        for problem in &problems {
            prop_assert!(problem.place.line as usize <= lines, "{problem}");
            prop_assert!(problem.place.column >= 1, "{problem}");
            prop_assert!(!problem.to_string().contains('\n'), "{problem}");
        }
    }
    Ok(())
}

fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn arbitrary_text_has_an_answer(text in any::<String>()) {
        read_any(&text)?;
    }

    #[test]
    fn json5_like_text_has_an_answer(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60),
    ) {
        read_any(&pieces.concat())?;
        read_any(&pieces.join(" "))?;
    }

    #[test]
    fn mutated_files_have_an_answer(
        file in prop::sample::select(VALID),
        mutations in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..4, prop::sample::select(PIECES)),
            1..4,
        ),
    ) {
        let mut characters: Vec<char> = file.chars().collect();
        for (index, removed, inserted) in mutations {
            let start = index.index(characters.len());
            let end = (start + removed).min(characters.len());
            characters.splice(start..end, inserted.chars());
        }
        read_any(&characters.iter().collect::<String>())?;
    }

    #[test]
    fn files_with_other_values_have_an_answer(
        file in prop::sample::select(VALID),
        value in prop::sample::select(PIECES),
        word in any::<prop::sample::Index>(),
    ) {
        // Exchanging whole words keeps the syntax right more often than single characters do.
        let words: Vec<&str> = file.split(' ').collect();
        let chosen = word.index(words.len());
        let text: Vec<&str> = words
            .iter()
            .enumerate()
            .map(|(index, word)| if index == chosen { value } else { *word })
            .collect();
        read_any(&text.join(" "))?;
    }

    #[test]
    fn files_cut_short_have_an_answer(
        file in prop::sample::select(VALID),
        end in any::<prop::sample::Index>(),
    ) {
        let characters: Vec<char> = file.chars().collect();
        let kept: String = characters.iter().take(end.index(characters.len())).collect();
        read_any(&kept)?;
    }
}

#[test]
fn deep_nesting_fits_a_small_stack() {
    let read = || {
        for text in ["[".repeat(100_000), "{a:".repeat(100_000), "[".repeat(99), "{a:[".repeat(49)]
        {
            parse("f", &text, &env).unwrap_err();
        }
        let nested = format!("{}{}", "{a:[".repeat(49), "]}".repeat(49));
        parse("f", &nested, &env).unwrap_err();
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(read).unwrap();
    thread.join().unwrap();
}

#[test]
fn deeply_nested_stores_fit_a_small_stack() {
    let read = || {
        for open in ["verify: { backend: { ", "fast_slow: { fast: { noop: {} }, slow: { "] {
            let store = format!("{}noop: {{}}{}", open.repeat(47), " } }".repeat(47));
            let text = format!(
                "{{ stores: [{{ name: 'A', {store} }}], servers: [{{ listener: \
                 {{ http: {{ socket_address: ':1' }} }}, services: {{}} }}] }}"
            );
            let config = parse("f", &text, &env).unwrap();
            assert_eq!(config.clone(), config);
        }
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(read).unwrap();
    thread.join().unwrap();
}

#[test]
fn deeply_nested_schedulers_fit_a_small_stack() {
    let read = || {
        for open in [
            "property_modifier: { modifications: [], scheduler: { ",
            "cache_lookup: { ac_store: 'A', scheduler: { ",
            "historical_resource: { hints_file: '/h', scheduler: { ",
        ] {
            let scheduler = format!("{}simple: {{}}{}", open.repeat(47), " } }".repeat(47));
            let text = format!(
                "{{ stores: [{{ name: 'A', noop: {{}} }}], schedulers: [{{ name: 'S', \
                 {scheduler} }}], servers: [{{ listener: {{ http: {{ socket_address: ':1' }} }}, \
                 services: {{}} }}] }}"
            );
            let (config, settings) = parse_with_settings("f", &text, &env).unwrap();
            assert_eq!(config.schedulers.len(), 1);
            assert!(settings.iter().any(|it| it.path.ends_with("simple.max_job_retries")));
        }
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(read).unwrap();
    thread.join().unwrap();
}

#[test]
fn thousands_of_stores_that_lead_to_each_other_are_checked_in_time() {
    let count = 8000;
    let next = |index: usize| (index + 1) % count;
    let kinds: [&dyn Fn(usize) -> String; 3] = [
        &|index| format!("ref_store: {{ name: '{}' }}", next(index)),
        &|index| format!("verify: {{ backend: {{ ref_store: {{ name: '{}' }} }} }}", next(index)),
        // Both ways lead on: a walk along every path would never end.
        &|index| {
            let fork = next(index).max(1);
            format!(
                "fast_slow: {{ fast: {{ ref_store: {{ name: '{fork}' }} }}, \
                 slow: {{ ref_store: {{ name: '{fork}' }} }} }}"
            )
        },
    ];
    for kind in kinds {
        let stores: Vec<String> =
            (0..count).map(|index| format!("{{ name: '{index}', {} }}", kind(index))).collect();
        let stores = stores.join(",\n");
        let ac: Vec<String> = (0..200)
            .map(|index| format!("{{ instance_name: '{index}', ac_store: '0' }}"))
            .collect();
        let ac = ac.join(",");
        let text = format!(
            "{{ stores: [{stores}], servers: [{{ listener: {{ http: {{ socket_address: ':1' }} }}, \
             services: {{ ac: [{ac}] }} }}] }}"
        );
        let problems = parse("f", &text, &env).unwrap_err();
        assert!(problems.len() <= 2, "{problems}");
        assert!(problems.to_string().len() < 500, "{problems}");
    }
}

#[test]
fn thousands_of_problems_are_bounded_in_number_and_length() {
    let long = "x".repeat(500_000);
    let keys: Vec<String> = (0..40_000).map(|index| format!("k{index}:1")).collect();
    let keys = keys.join(",");
    let nested = format!("{{{}:", "x".repeat(60)).repeat(90);
    for text in [
        format!("{{{keys}}}"),
        format!("{{servers: [{{services: {{cas: {{{long}: {{{keys}}}}}}}}}]}}"),
        format!("{{stores: [{}]}}", "{name: 'A', noop: {}},".repeat(40_000)),
        format!("{{stores: [{}]}}", "{name: 'A', redis_store: {}},".repeat(30_000)),
        format!("{{stores: [{}]}}", "{filesystem: {content_path: '/a'}},".repeat(25_000)),
        format!("{{stores: [{{filesystem: {{content_path: '{}'}}}}]}}", "/a".repeat(500_000)),
        format!("{{servers: [{{services: {{ac: [{}]}}}}]}}", "{ac_store: 'B'},".repeat(40_000)),
        format!("{nested}{{{}}}{}", "a:1,".repeat(200_000), "}".repeat(90)),
        format!("{{stores: [{{name: '{long}'}}], servers: '{long}'}}"),
    ] {
        let problems = parse("f", &text, &env).unwrap_err();
        let shown = problems.to_string();
        assert!(shown.len() < 6_000_000, "{} bytes", shown.len());
    }
}
