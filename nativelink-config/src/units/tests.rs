//! Goal: every accepted spelling has one exact value, every refused one says why. Method: tables,
//! then properties over generated numbers.

use super::*;
use proptest::prelude::*;

const KIB: u64 = 1024;

#[test]
fn quantities_are_shown_in_large_units() {
    for (bytes, text) in [(0, "0"), (1023, "1023"), (10 * KIB, "10KiB"), (3 << 30, "3GiB")] {
        assert_eq!(show_size(bytes), text);
    }
    for (millis, text) in [(0, "0s"), (90_000, "1m30s"), (500, "500ms"), (86_400_000, "1d")] {
        assert_eq!(show_duration(Duration::from_millis(millis)), text);
    }
}

#[test]
fn sizes_are_read_exactly() {
    let table: &[(&str, u64)] = &[
        ("0", 0),
        ("100", 100),
        (" 100 ", 100),
        ("100b", 100),
        ("100 B", 100),
        ("10k", 10_000),
        ("10K", 10_000),
        ("10kb", 10_000),
        ("10KiB", 10 * KIB),
        ("10ki", 10 * KIB),
        ("10mb", 10_000_000),
        ("10MiB", 10 * KIB * KIB),
        ("10gb", 10_000_000_000),
        ("10Gb", 10_000_000_000),
        ("10GB", 10_000_000_000),
        ("10gib", 10 * KIB * KIB * KIB),
        ("10GiB", 10 * KIB * KIB * KIB),
        ("10 GiB", 10 * KIB * KIB * KIB),
        ("10\tGIB", 10 * KIB * KIB * KIB),
        ("1.5TB", 1_500_000_000_000),
        ("1.50 tb", 1_500_000_000_000),
        ("1.0", 1),
        ("0.5KiB", 512),
        ("0.1KiB", 102),
        ("1.0001kb", 1000),
        ("1.000000000000000000999EB", 1_000_000_000_000_000_000),
        ("2pb", 2_000_000_000_000_000),
        ("2PiB", 2 << 50),
        ("15EiB", 15 << 60),
        ("18446744073709551615", u64::MAX),
        ("18.446744073709551615EB", u64::MAX),
    ];
    for (text, bytes) in table {
        assert_eq!(parse_size(text), Ok(*bytes), "{text:?}");
    }
}

#[test]
fn refused_sizes_say_what_is_wrong() {
    let table: &[(&str, UnitProblem)] = &[
        ("", UnitProblem::Empty),
        ("  ", UnitProblem::Empty),
        ("-1", UnitProblem::Negative),
        ("+1", UnitProblem::MissingNumber),
        ("GiB", UnitProblem::MissingNumber),
        ("many", UnitProblem::MissingNumber),
        ("1.5", UnitProblem::FractionOfByte),
        ("0.5b", UnitProblem::FractionOfByte),
        ("1.", UnitProblem::MalformedNumber("1.".into())),
        (".5GiB", UnitProblem::MalformedNumber(".5".into())),
        ("1.2.3GiB", UnitProblem::MalformedNumber("1.2.3".into())),
        ("10 foos", UnitProblem::UnknownUnit("foos".into())),
        ("10GiB!", UnitProblem::UnknownUnit("GiB!".into())),
        ("10GiB 5", UnitProblem::UnknownUnit("GiB 5".into())),
        ("1e9", UnitProblem::UnknownUnit("e9".into())),
        ("1,000", UnitProblem::UnknownUnit(",000".into())),
        ("80%", UnitProblem::UnknownUnit("%".into())),
        ("18446744073709551616", UnitProblem::TooLarge),
        ("99999999999999999999999999999", UnitProblem::TooLarge),
        ("16EiB", UnitProblem::TooLarge),
        ("18446744073709551615EiB", UnitProblem::TooLarge),
    ];
    for (text, problem) in table {
        assert_eq!(parse_size(text).unwrap_err().problem(), problem, "{text:?}");
    }
}

#[test]
fn durations_are_read_exactly() {
    let table: &[(&str, Duration)] = &[
        ("0", Duration::ZERO),
        ("0s", Duration::ZERO),
        ("500ms", Duration::from_millis(500)),
        ("30m", Duration::from_mins(30)),
        ("1h2m3s", Duration::from_secs(3723)),
        ("1h 2m 3s", Duration::from_secs(3723)),
        ("3s 1h", Duration::from_secs(3603)),
        ("1 day", Duration::from_hours(24)),
        ("7 days", Duration::from_hours(168)),
        ("1w", Duration::from_hours(168)),
        ("1M", Duration::from_secs(2_630_016)),
        ("2 months", Duration::from_secs(5_260_032)),
        ("1year", Duration::from_hours(8766)),
        ("1.5h", Duration::from_mins(90)),
        ("4.2s", Duration::from_millis(4200)),
        ("2hrs5mins6secs", Duration::from_secs(7506)),
        ("5us", Duration::from_micros(5)),
        ("5\u{b5}s", Duration::from_micros(5)),
        ("5 nsec", Duration::from_nanos(5)),
        ("0.5ns", Duration::ZERO),
        ("18446744073709551615s", Duration::from_secs(u64::MAX)),
    ];
    for (text, duration) in table {
        assert_eq!(parse_duration(text), Ok(*duration), "{text:?}");
    }
}

#[test]
fn refused_durations_say_what_is_wrong() {
    let table: &[(&str, UnitProblem)] = &[
        ("", UnitProblem::Empty),
        ("90", UnitProblem::MissingUnit),
        ("1h 30", UnitProblem::MissingUnit),
        ("-5s", UnitProblem::Negative),
        ("h", UnitProblem::MissingNumber),
        ("1h and 5m", UnitProblem::MissingNumber),
        ("5 parsecs", UnitProblem::UnknownUnit("parsecs".into())),
        ("5 S", UnitProblem::UnknownUnit("S".into())),
        ("1..5h", UnitProblem::MalformedNumber("1..5".into())),
        ("18446744073709551616s", UnitProblem::TooLarge),
        ("18446744073709551615s1s", UnitProblem::TooLarge),
        ("18446744073709551615y", UnitProblem::TooLarge),
    ];
    for (text, problem) in table {
        assert_eq!(parse_duration(text).unwrap_err().problem(), problem, "{text:?}");
    }
}

#[test]
fn limits_are_sizes_or_percentages() {
    assert_eq!(parse_max_size("10GiB"), Ok(MaxSize::Bytes(10 << 30)));
    assert_eq!(parse_max_size("80%"), Ok(MaxSize::Percent(80)));
    assert_eq!(parse_max_size(" 1 % "), Ok(MaxSize::Percent(1)));
    assert_eq!(parse_max_size("100%"), Ok(MaxSize::Percent(100)));
    for text in ["0%", "101%", "256%", "1.5%", "-1%", "a%"] {
        let error = parse_max_size(text).unwrap_err();
        assert_eq!(error.problem(), &UnitProblem::PercentRange, "{text:?}");
    }
    assert_eq!(parse_max_size("%").unwrap_err().problem(), &UnitProblem::MissingNumber);
    assert_eq!(MaxSize::Percent(80).to_string(), "80%");
    assert_eq!(MaxSize::Bytes(5).to_string(), "5");
}

#[test]
fn messages_say_what_is_wrong_and_what_is_accepted() {
    assert_eq!(
        parse_size("10 foos").unwrap_err().to_string(),
        "\"10 foos\" is not a size: the unit \"foos\" is unknown; accepted is bytes such as 100, \
         or with a unit: 512MB, 10GiB, 1.5TB"
    );
    assert_eq!(
        parse_duration("90").unwrap_err().to_string(),
        "\"90\" is not a duration: it has no unit; accepted is a number and a unit, such as 500ms, \
         30m, 1h30m or 7 days"
    );
    assert_eq!(
        parse_max_size("0%").unwrap_err().to_string(),
        "\"0%\" is not a size: a percentage is a whole number from 1 to 100; accepted is a size \
         such as 512MB or 10GiB, or a percentage such as 80%"
    );
}

#[test]
fn long_texts_are_quoted_in_part() {
    let message = parse_size(&"x".repeat(100_000)).unwrap_err().to_string();
    assert!(message.len() < 250, "{message}");
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,40}") {
        drop((parse_size(&text), parse_duration(&text), parse_max_size(&text)));
    }

    #[test]
    fn number_like_text_has_an_answer(text in "[0-9.]{0,45} ?[a-zA-Z%\u{b5}]{0,4}") {
        drop((parse_size(&text), parse_duration(&text), parse_max_size(&text)));
    }

    #[test]
    fn whole_sizes_scale(number in any::<u64>(), exponent in 0_u32..=6) {
        let unit = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][exponent as usize];
        let expected = number.checked_mul(1 << (10 * exponent));
        prop_assert_eq!(parse_size(&format!("{number}{unit}")).ok(), expected);
        prop_assert_eq!(parse_size(&format!("{number} {}", unit.to_lowercase())).ok(), expected);
    }

    #[test]
    fn durations_add_up(hours in 0_u64..1_000_000, minutes in 0_u64..60, millis in 0_u64..60_000) {
        let expected = Duration::from_millis((hours * 60 + minutes) * 60_000 + millis);
        prop_assert_eq!(parse_duration(&format!("{hours}h{minutes}m {millis}ms")), Ok(expected));
    }

    #[test]
    fn sizes_survive_being_written_as_fractions(bytes in any::<u64>(), exponent in 1_u32..=6) {
        let unit = ["kB", "MB", "GB", "TB", "PB", "EB"][exponent as usize - 1];
        let scale = 1000_u64.pow(exponent);
        let digits = 3 * exponent as usize;
        let text = format!("{}.{:0digits$}{unit}", bytes / scale, bytes % scale);
        prop_assert_eq!(parse_size(&text), Ok(bytes));
    }

    #[test]
    fn limits_survive_being_shown(limit in prop_oneof![
        any::<u64>().prop_map(MaxSize::Bytes),
        (1_u8..=100).prop_map(MaxSize::Percent),
    ]) {
        prop_assert_eq!(parse_max_size(&limit.to_string()), Ok(limit));
    }

    #[test]
    fn sizes_and_durations_survive_being_shown(
        bytes in any::<u64>(),
        shift in 0_u32..64,
        seconds in any::<u64>(),
        nanos in 0_u32..1_000_000_000,
    ) {
        let bytes = bytes >> shift << (shift / 2);
        prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        let duration = Duration::new(seconds >> shift, nanos);
        prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }

    #[test]
    fn durations_survive_being_written_out(seconds in any::<u64>(), nanos in 0_u32..1_000_000_000) {
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let (millis, micros) = (nanos / 1_000_000, nanos / 1000 % 1000);
        let text = format!(
            "{days}d {hours}h{minutes}min {}s{millis}ms {micros}us {}ns",
            seconds % 60,
            nanos % 1000
        );
        prop_assert_eq!(parse_duration(&text), Ok(Duration::new(seconds, nanos)));
    }

    #[test]
    fn sums_of_terms_overflow_into_an_error(
        terms in prop::collection::vec(
            ("[0-9]{1,25}", prop::sample::select(&["y", "w", "s", "ns"])),
            1..6,
        ),
    ) {
        let terms: Vec<String> =
            terms.iter().map(|(number, unit)| format!("{number}{unit}")).collect();
        let parsed = parse_duration(&terms.join(" "));
        prop_assert!(parsed.is_ok() || parsed.unwrap_err().problem() == &UnitProblem::TooLarge);
    }
}
