//! Sizes, durations and size limits as people write them.
//!
//! The configuration file and the command line share this grammar, so that `10GiB` means the same
//! in both. Arithmetic is exact: no value goes through a float.

use crate::excerpt::shorten;
use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod tests;

const NANOS_PER_SECOND: u128 = 1_000_000_000;
const SECONDS_PER_DAY: u128 = 86_400;
/// More digits than this after the point cannot change a whole number of bytes or nanoseconds.
const MAX_FRACTION_DIGITS: usize = 18;

/// An upper bound on disk use: an amount, or a share of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxSize {
    /// A number of bytes.
    Bytes(u64),
    /// A share of the file system's capacity, from 1 to 100.
    Percent(u8),
}

impl fmt::Display for MaxSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What a text was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// A number of bytes.
    Size,
    /// A length of time.
    Duration,
    /// A number of bytes or a percentage.
    MaxSize,
}

impl Quantity {
    fn accepted(self) -> &'static str {
        match self {
            Self::Size => "bytes such as 100, or with a unit: 512MB, 10GiB, 1.5TB",
            Self::Duration => "a number and a unit, such as 500ms, 30m, 1h30m or 7 days",
            Self::MaxSize => "a size such as 512MB or 10GiB, or a percentage such as 80%",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size | Self::MaxSize => "size",
            Self::Duration => "duration",
        })
    }
}

/// Why a text is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitProblem {
    /// Nothing but spaces.
    #[error("it is empty")]
    Empty,
    /// A minus sign.
    #[error("it is negative")]
    Negative,
    /// No digit where a number has to start.
    #[error("it has no number where one is expected")]
    MissingNumber,
    /// A number with two points, or nothing on one side of the point.
    #[error("{0:?} is not a number")]
    MalformedNumber(String),
    /// Part of a byte.
    #[error("a byte cannot be divided")]
    FractionOfByte,
    /// A unit nobody uses for this quantity.
    #[error("the unit {0:?} is unknown")]
    UnknownUnit(String),
    /// A bare number where the unit decides the meaning.
    #[error("it has no unit")]
    MissingUnit,
    /// A percentage other than a whole number from 1 to 100.
    #[error("a percentage is a whole number from 1 to 100")]
    PercentRange,
    /// A value beyond what 64 bits hold.
    #[error("it is too large")]
    TooLarge,
}

/// A text that is not the quantity it should be: what is wrong with it and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {quantity}: {problem}; accepted is {}", .quantity.accepted())]
pub struct UnitError {
    text: String,
    quantity: Quantity,
    problem: UnitProblem,
}

impl UnitError {
    fn new(text: &str, quantity: Quantity, problem: UnitProblem) -> Self {
        Self { text: shorten(text).into_owned(), quantity, problem }
    }

    /// What the text was meant to be.
    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &UnitProblem {
        &self.problem
    }
}

/// Reads a number of bytes: `100`, `10k`, `10gb` (powers of 1000), `10 GiB` (powers of 1024),
/// `1.5TB`. Units are case-insensitive and always bytes, never bits. A fraction of a larger unit is
/// rounded down to whole bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    size(text.trim()).map_err(|problem| UnitError::new(text, Quantity::Size, problem))
}

/// Reads a length of time: `500ms`, `30m`, `1h2m3s`, `1 day`, `1.5h`. Units are case-sensitive,
/// because `m` is a minute and `M` a month (30.44 days; a year is 365.25 days). A bare number other
/// than `0` is refused: its unit would be a guess.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    duration(text.trim()).map_err(|problem| UnitError::new(text, Quantity::Duration, problem))
}

/// Reads a size limit: anything [`parse_size`] accepts, or a percentage such as `80%`.
pub fn parse_max_size(text: &str) -> Result<MaxSize, UnitError> {
    let trimmed = text.trim();
    let parsed = match trimmed.strip_suffix('%') {
        Some(percent) => parse_percent(percent.trim_end()).map(MaxSize::Percent),
        None => size(trimmed).map(MaxSize::Bytes),
    };
    parsed.map_err(|problem| UnitError::new(text, Quantity::MaxSize, problem))
}

/// A number of bytes as [`parse_size`] reads it, in the largest unit that keeps it exact.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(1 << 50, "PiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A length of time as [`parse_duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let mut text = String::new();
    for (amount, unit) in [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos % 1_000_000), "ns"),
    ] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn parse_percent(text: &str) -> Result<u8, UnitProblem> {
    if text.is_empty() {
        return Err(UnitProblem::MissingNumber);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UnitProblem::PercentRange);
    }
    match text.parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err(UnitProblem::PercentRange),
    }
}

fn size(text: &str) -> Result<u64, UnitProblem> {
    let (number, unit) = split_number(text)?;
    let unit = unit.trim_start();
    let scale =
        size_scale(unit).ok_or_else(|| UnitProblem::UnknownUnit(shorten(unit).into_owned()))?;
    if scale == 1 && number.fraction != 0 {
        return Err(UnitProblem::FractionOfByte);
    }
    u64::try_from(number.times(scale)).map_err(|_| UnitProblem::TooLarge)
}

fn size_scale(unit: &str) -> Option<u128> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u128.pow(2),
        "g" | "gb" => 1000_u128.pow(3),
        "t" | "tb" => 1000_u128.pow(4),
        "p" | "pb" => 1000_u128.pow(5),
        "e" | "eb" => 1000_u128.pow(6),
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        "pi" | "pib" => 1 << 50,
        "ei" | "eib" => 1 << 60,
        _ => return None,
    })
}

fn duration(text: &str) -> Result<Duration, UnitProblem> {
    let mut rest = text;
    let mut total: u128 = 0;
    loop {
        let (number, after_number) = split_number(rest)?;
        let after_number = after_number.trim_start();
        let unit_end =
            after_number.find(|c: char| !c.is_alphabetic()).unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(unit_end);
        if unit.is_empty() {
            return if text == "0" { Ok(Duration::ZERO) } else { Err(UnitProblem::MissingUnit) };
        }
        let scale = duration_scale(unit)
            .ok_or_else(|| UnitProblem::UnknownUnit(shorten(unit).into_owned()))?;
        // Each term is below 2^120 and the total is checked on every turn: no overflow.
        total += number.times(scale);
        if total / NANOS_PER_SECOND > u128::from(u64::MAX) {
            return Err(UnitProblem::TooLarge);
        }
        rest = after_unit.trim_start();
        if rest.is_empty() {
            break;
        }
    }
    let seconds = u64::try_from(total / NANOS_PER_SECOND).map_err(|_| UnitProblem::TooLarge)?;
    let nanos = u32::try_from(total % NANOS_PER_SECOND).map_err(|_| UnitProblem::TooLarge)?;
    Ok(Duration::new(seconds, nanos))
}

fn duration_scale(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" | "nsec" => 1,
        // The micro sign and the Greek letter are different characters that look the same.
        "us" | "usec" | "\u{b5}s" | "\u{3bc}s" => 1000,
        "ms" | "msec" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => NANOS_PER_SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * NANOS_PER_SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600 * NANOS_PER_SECOND,
        "d" | "day" | "days" => SECONDS_PER_DAY * NANOS_PER_SECOND,
        "w" | "wk" | "wks" | "week" | "weeks" => 7 * SECONDS_PER_DAY * NANOS_PER_SECOND,
        "M" | "month" | "months" => 3044 * SECONDS_PER_DAY * NANOS_PER_SECOND / 100,
        "y" | "yr" | "yrs" | "year" | "years" => 36525 * SECONDS_PER_DAY * NANOS_PER_SECOND / 100,
        _ => return None,
    })
}

/// A decimal number without rounding: `whole + fraction / divisor`.
struct Decimal {
    whole: u64,
    fraction: u64,
    divisor: u64,
}

impl Decimal {
    /// Rounds down. The largest scale is below 2^60, so that neither product leaves 128 bits.
    fn times(&self, scale: u128) -> u128 {
        u128::from(self.whole) * scale
            + u128::from(self.fraction) * scale / u128::from(self.divisor)
    }
}

fn split_number(text: &str) -> Result<(Decimal, &str), UnitProblem> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.is_empty() {
        return Err(match text.chars().next() {
            None => UnitProblem::Empty,
            Some('-') => UnitProblem::Negative,
            Some(_) => UnitProblem::MissingNumber,
        });
    }
    let malformed = || UnitProblem::MalformedNumber(shorten(number).into_owned());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(malformed());
    }
    let kept = fraction.get(..MAX_FRACTION_DIGITS).unwrap_or(fraction);
    let decimal = Decimal {
        // Only digits are left: the one way to be no number is to be too large.
        whole: whole.parse().map_err(|_| UnitProblem::TooLarge)?,
        fraction: kept.parse().map_err(|_| malformed())?,
        divisor: kept.bytes().fold(1, |divisor, _| divisor * 10),
    };
    Ok((decimal, rest))
}
