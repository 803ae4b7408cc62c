//! Numbers, spans and tables for people.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// The two largest units of a length of time.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}min {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}min", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Bytes in the largest unit that leaves a whole number.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be printed as 1024 is one of the next unit.
    for next in units {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A part of one, in percent.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// How text is set off, where it can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    is_colored: bool,
}

impl Style {
    /// For standard output: colors on a terminal that has some, unless the user wants none.
    pub(super) fn of_output() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_colored = std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb;
        Self { is_colored }
    }

    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { is_colored: false };

    /// A heading.
    pub(super) fn bold(self, text: &str) -> String {
        self.wrapped(text, "1")
    }

    /// What must be noticed.
    pub(super) fn red(self, text: &str) -> String {
        self.wrapped(text, "31")
    }

    /// What is good.
    pub(super) fn green(self, text: &str) -> String {
        self.wrapped(text, "32")
    }

    fn wrapped(self, text: &str, code: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text from outside, without what a terminal would take for an order.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

/// Rows of cells: the first column to the left, the others to the right.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends its lines, indented.
    pub(super) fn put(&self, text: &mut String) {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = String::from(" ");
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a string cannot fail.
                let _ = match at {
                    0 => write!(line, " {cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}
