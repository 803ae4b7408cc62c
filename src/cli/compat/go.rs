//! Numbers, switches and durations as Go's libraries read them.

use std::time::Duration;

const NANOSECONDS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
/// Go counts nanoseconds in 63 bits.
const MOST_NANOSECONDS: f64 = i64::MAX as f64;

/// Decimal, or with `0x`, `0o`, `0b` or a leading 0 in other bases, with underscores in between.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
        None => ("", text),
    };
    let digits = digits.to_ascii_lowercase();
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, digits.get(2..)),
        [b'0', b'o', ..] => (8, digits.get(2..)),
        [b'0', b'b', ..] => (2, digits.get(2..)),
        [b'0', _, ..] => (8, digits.get(1..)),
        _ => (10, digits.get(..)),
    };
    let digits = digits.unwrap_or_default().replace('_', "");
    // A second sign is none.
    let is_plain = digits.starts_with(|it: char| it.is_ascii_hexdigit());
    i64::from_str_radix(&format!("{sign}{digits}"), base)
        .ok()
        .filter(|_| is_plain)
        .ok_or_else(|| format!("{text:?} is not a whole number"))
}

/// `true` and `false` in some spellings.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Numbers with units, as `1h30m` or `1.5s`; `0` needs none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("{text:?} is not a duration such as 300ms, 1.5h or 2h45m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(problem());
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let is_number = |it: char| it.is_ascii_digit() || it == '.';
        let end = rest.find(|it| !is_number(it)).ok_or_else(problem)?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(is_number).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let number: f64 = number.parse().map_err(|_| problem())?;
        let unit = NANOSECONDS.iter().find(|(name, _)| *name == unit).ok_or_else(problem)?;
        nanoseconds += number * unit.1;
        rest = behind;
    }
    if nanoseconds > MOST_NANOSECONDS {
        return Err(problem());
    }
    Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| problem())
}
