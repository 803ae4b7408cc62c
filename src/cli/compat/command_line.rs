//! bazel-remote's flags on the command line of `serve`, told apart from Castellan's own.
//!
//! They are taken out before clap sees the rest, because their syntax is that of Go: one dash or
//! two, and a switch takes a value only behind `=`.

use std::ffi::OsString;
use std::vec;

use clap::CommandFactory as _;

use super::option::{Kind, Place};
use super::options;
use crate::cli::Arguments;

/// What the other server is called.
pub(in crate::cli) const BAZEL_REMOTE: &str = "bazel-remote";

/// Its flags, as text.
#[derive(Debug, Default)]
pub(in crate::cli) struct CompatFlags {
    /// Names and values, in the order that they were given in.
    pub(super) given: Vec<(&'static str, String)>,
    /// What is no flag of either program.
    pub(super) problems: Vec<String>,
}

/// Takes bazel-remote's flags out of the arguments of `serve --compat=bazel-remote`; `None` when
/// that is not what they are.
pub(in crate::cli) fn split(arguments: Vec<OsString>) -> (Vec<OsString>, Option<CompatFlags>) {
    let is_serve = arguments.get(1).is_some_and(|it| it == "serve");
    if !is_serve || !asks_for_it(&arguments) {
        return (arguments, None);
    }
    let mut rest = arguments.into_iter();
    let own: Vec<OsString> = rest.by_ref().take(2).collect();
    let mut splitter = Splitter { rest, own, flags: CompatFlags::default() };
    while let Some(argument) = splitter.rest.next() {
        splitter.take(argument);
    }
    (splitter.own, Some(splitter.flags))
}

fn asks_for_it(arguments: &[OsString]) -> bool {
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    arguments.iter().any(|it| *it == *format!("--compat={BAZEL_REMOTE}"))
        || pairs.into_iter().any(|(flag, value)| flag == "--compat" && value == BAZEL_REMOTE)
}

struct Splitter {
    rest: vec::IntoIter<OsString>,
    /// What is left for clap.
    own: Vec<OsString>,
    flags: CompatFlags,
}

impl Splitter {
    fn take(&mut self, argument: OsString) {
        let Some(text) = argument.to_str().map(str::to_owned) else {
            let text = argument.display();
            return self.flags.problems.push(format!("{text}: is not UTF-8"));
        };
        if matches!(text.as_str(), "-h" | "--help") {
            return self.own.push(argument);
        }
        let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or_default();
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if name.is_empty() {
            return self.flags.problems.push(format!("{text}: is no flag; only flags are taken"));
        }
        let option = options::named(name).filter(|it| it.place != Place::FileOnly);
        if let Some(option) = option {
            let value = match (value, option.kind) {
                (Some(value), _) => Some(value),
                (None, Kind::Switch) => Some("true".to_owned()),
                (None, _) => self.rest.next().and_then(|it| it.into_string().ok()),
            };
            match value {
                Some(value) => self.flags.given.push((option.name, value)),
                None => self.flags.problems.push(format!("{text}: needs a value")),
            }
        } else if let Some(takes_value) = own_flag(&text) {
            self.own.push(argument);
            if takes_value && value.is_none() {
                self.own.extend(self.rest.next());
            }
        } else {
            let text = format!("{text}: neither bazel-remote nor `castellan serve` has this flag");
            self.flags.problems.push(text);
        }
    }
}

/// Whether Castellan's flag of this name takes a value; `None` when it has no such flag.
fn own_flag(text: &str) -> Option<bool> {
    let name = text.strip_prefix("--")?.split('=').next()?;
    let command = Arguments::command();
    let serve = command.find_subcommand("serve")?;
    let flag = serve.get_arguments().find(|it| it.get_long() == Some(name))?;
    Some(flag.get_action().takes_values())
}
