//! The flags of `serve` about values that are no action results: how much room they get.

use clap::Args;
use nativelink_config::units::{MaxSize, parse_max_size, parse_size};

use super::problems::Problems;
use crate::server::ValuesSettings;
use crate::store::filesystem::{Cap, SetAside};
use crate::values::MAX_VALUE_BYTES;

const MAX_SIZE: &str = "--values-max-size";
const MAX_VALUE_SIZE: &str = "--values-max-value-size";
const DEFAULT_PERCENT: u8 = 10;
const DEFAULT_MAX_VALUE_BYTES: u64 = 1 << 30;

/// See the module documentation.
#[derive(Debug, Args)]
pub(super) struct ValuesFlags {
    /// What the values of ccache, sccache and Gradle may take of --max-size, as `5GiB` or as a
    /// part of it; 0 for no such values [default: 10%].
    #[arg(long, env = "CASTELLAN_VALUES_MAX_SIZE", value_name = "SIZE")]
    values_max_size: Option<String>,

    /// The largest such value to accept [default: 1GiB].
    #[arg(long, env = "CASTELLAN_VALUES_MAX_VALUE_SIZE", value_name = "SIZE")]
    values_max_value_size: Option<String>,
}

impl ValuesFlags {
    /// Whether anything is said of values.
    pub(super) fn are_given(&self) -> bool {
        self.given().iter().any(|(_, is_given)| *is_given)
    }

    fn given(&self) -> [(&'static str, bool); 2] {
        [
            (MAX_SIZE, self.values_max_size.is_some()),
            (MAX_VALUE_SIZE, self.values_max_value_size.is_some()),
        ]
    }

    /// What values take of a cap, and how large they may be; `None` when there are to be none.
    pub(super) fn plan(
        &self,
        cap: Option<Cap>,
        problems: &mut Problems,
    ) -> Option<(SetAside, ValuesSettings)> {
        let max_value_bytes = self.max_value_bytes(problems);
        let part = match self.values_max_size.as_deref() {
            None => SetAside::Percent(DEFAULT_PERCENT),
            Some(text) => match problems.take(MAX_SIZE, parse_max_size(text))? {
                MaxSize::Bytes(0) => return None,
                MaxSize::Bytes(bytes) => SetAside::Bytes(bytes),
                MaxSize::Percent(percent) => SetAside::Percent(percent),
            },
        };
        problems.take(MAX_SIZE, check(part, cap))?;
        Some((part, ValuesSettings { max_value_bytes: max_value_bytes? }))
    }

    fn max_value_bytes(&self, problems: &mut Problems) -> Option<u64> {
        let Some(text) = self.values_max_value_size.as_deref() else {
            return Some(DEFAULT_MAX_VALUE_BYTES);
        };
        let bytes = problems.take(MAX_VALUE_SIZE, parse_size(text))?;
        if (1..=MAX_VALUE_BYTES).contains(&bytes) {
            return Some(bytes);
        }
        problems.add(format_args!("{MAX_VALUE_SIZE}: {bytes} is not from 1 to {MAX_VALUE_BYTES}"));
        None
    }

    /// A configuration file says where stores are, and has no place for this one.
    pub(super) fn refuse_beside_file(&self, problems: &mut Problems) {
        for (flag, _) in self.given().into_iter().filter(|(_, is_given)| *is_given) {
            problems.add(format_args!("{flag}: with a configuration file there are no values"));
        }
    }
}

fn check(part: SetAside, cap: Option<Cap>) -> Result<(), String> {
    let least = SetAside::LEAST_BYTES;
    match (part, cap) {
        (SetAside::Percent(100), _) => Err("leaves nothing of --max-size".to_owned()),
        (SetAside::Bytes(bytes), _) if bytes < least => {
            Err(format!("{bytes} bytes are below the least usable, {least}; 0 turns values off"))
        }
        (SetAside::Bytes(part), Some(Cap::Bytes(all))) => {
            let rest = Cap::Bytes(all.saturating_sub(part)).check();
            rest.map(|_| ()).map_err(|problem| format!("of --max-size is left: {problem}"))
        }
        _ => Ok(()),
    }
}
