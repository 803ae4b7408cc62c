//! L0: days as dates of the Gregorian calendar. Pure.

/// Seconds of a day.
pub(crate) const DAY_SECONDS: i64 = 86_400;

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the day
/// that is sometimes missing is the last, and every month has its place.
pub(crate) fn date(day: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let day = day + 719_468;
    let era = day.div_euclid(ERA_DAYS);
    let day = day.rem_euclid(ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA_DAYS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}
