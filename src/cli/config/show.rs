//! `castellan config show`: what every key of a file comes to, and where that comes from.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use nativelink_config::{Effective, Setting, Source};

use super::{check, print, print_error, put_place};
use crate::cli::problems::Problems;
use crate::cli::store_flags::StoreFlags;
use crate::cli::{EX_USAGE, config_file, fail};

/// Flags of `config show`.
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// A configuration file (JSON5).
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The flags that `serve` has beside the file.
    #[command(flatten)]
    store: StoreFlags,

    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Prints the settings of a file without mistakes; what of it does not run is said besides.
pub(super) fn run(arguments: &ShowArguments) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let mut problems = Problems::default();
    let settings = match config_file::settings(&arguments.file, &env) {
        Ok(settings) => settings,
        Err(found) => {
            found.into_iter().for_each(|problem| problems.add(problem));
            Vec::new()
        }
    };
    let text = text(&settings, arguments, &mut problems);
    if !problems.is_empty() {
        return fail(EX_USAGE, &problems);
    }
    print_error(&check::text(&check::findings(&arguments.file, &env)));
    print(&text);
    ExitCode::SUCCESS
}

/// The settings as lines, or as JSON.
pub(super) fn text(
    settings: &[Setting],
    arguments: &ShowArguments,
    problems: &mut Problems,
) -> String {
    let flags = arguments.store.read(problems).as_keys();
    let rows = settings.iter().map(|setting| {
        let key = setting.path.rsplit('.').next().unwrap_or_default();
        let said = flags.iter().find(|(_, flag_key, _)| *flag_key == key);
        // A flag says for all stores what the file leaves open.
        let said = said.filter(|_| setting.source == Source::Default);
        Row { setting, flag: said.map(|(flag, _, value)| (*flag, value)) }
    });
    if arguments.json {
        return format!("{:#}\n", rows.map(|row| row.json()).collect::<Value>());
    }
    let mut text = String::new();
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} = {}  # {}", row.setting.path, row.value(), row.source());
    }
    text
}

/// A setting, and the flag that says it for the file.
struct Row<'s> {
    setting: &'s Setting,
    flag: Option<(&'static str, &'s Effective)>,
}

impl Row<'_> {
    fn value(&self) -> &Effective {
        self.flag.map_or(&self.setting.value, |(_, value)| value)
    }

    fn source(&self) -> String {
        match (&self.setting.source, self.flag) {
            (_, Some((flag, _))) => flag.to_owned(),
            (Source::File(place), None) => place.to_string(),
            (Source::Environment(place), None) => format!("{place}, environment"),
            (Source::Default, None) => "default".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("path".to_owned(), json!(self.setting.path));
        let value = self.value();
        object.insert("value".to_owned(), json_of(value));
        if let Effective::Words(words) = value {
            // No value of the format; in words all the same.
            object.insert("words".to_owned(), json!(words));
        }
        let source = match (&self.setting.source, self.flag) {
            (_, Some((flag, _))) => {
                object.insert("flag".to_owned(), json!(flag));
                "flag"
            }
            (Source::File(place), None) => {
                put_place(&mut object, place);
                "file"
            }
            (Source::Environment(place), None) => {
                put_place(&mut object, place);
                "environment"
            }
            (Source::Default, None) => "default",
        };
        object.insert("source".to_owned(), json!(source));
        Value::Object(object)
    }
}

fn json_of(value: &Effective) -> Value {
    match value {
        Effective::Text(text) => json!(text),
        Effective::Bytes(number) | Effective::Count(number) => json!(number),
        Effective::Decimal(number) => json!(number),
        Effective::Flag(flag) => json!(flag),
        Effective::Duration(_) => json!(value.to_string()),
        Effective::Words(_) => Value::Null,
    }
}
