//! Samples as the text that Prometheus reads, version 0.0.4.

use std::fmt::{self, Write};

use super::model::{Distribution, Family, Kind, Point, Samples, Value};

/// What the text is called in a `content-type` header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of all samples.
pub fn encode(samples: &Samples) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut text, samples);
    text
}

fn write_all(text: &mut String, samples: &Samples) -> fmt::Result {
    for group in samples.groups() {
        let family = group.family;
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        writeln!(text, "# HELP {} {help}\n# TYPE {} {kind}", family.name, family.name)?;
        for point in &group.points {
            match &point.value {
                Value::Integer(number) => write_line(text, family, "", point, None, number)?,
                Value::Real(number) => write_line(text, family, "", point, None, &Real(*number))?,
                Value::Distribution(values) => write_distribution(text, family, point, values)?,
            }
        }
    }
    Ok(())
}

/// A histogram counts upwards: each line has all that is not above its bound.
fn write_distribution(
    text: &mut String,
    family: &Family,
    point: &Point,
    values: &Distribution,
) -> fmt::Result {
    let mut count = 0;
    let bounds = values.bounds.iter().copied().chain([f64::INFINITY]);
    for (bound, in_range) in bounds.zip(&values.counts) {
        count += in_range;
        write_line(text, family, "_bucket", point, Some(Real(bound)), &count)?;
    }
    write_line(text, family, "_sum", point, None, &Real(values.sum))?;
    write_line(text, family, "_count", point, None, &count)
}

fn write_line(
    text: &mut String,
    family: &Family,
    suffix: &str,
    point: &Point,
    bound: Option<Real>,
    value: &dyn fmt::Display,
) -> fmt::Result {
    write!(text, "{}{suffix}", family.name)?;
    let mut separator = '{';
    for (name, value) in family.labels.iter().zip(&point.labels) {
        write!(text, "{separator}{name}=\"{}\"", Escaped(value))?;
        separator = ',';
    }
    if let Some(bound) = bound {
        write!(text, "{separator}le=\"{bound}\"")?;
        separator = ',';
    }
    let close = if separator == '{' { "" } else { "}" };
    writeln!(text, "{close} {value}")
}

/// A number with the format's own spelling of infinity.
#[derive(Clone, Copy)]
struct Real(f64);

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { write!(f, "{}", self.0) }
    }
}

/// The value of a label between its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}
