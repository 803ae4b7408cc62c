//! From a `NativeLink` configuration file to the settings of a server.
//!
//! The file's own problems are found by `nativelink-config`; here are those that concern what this
//! program does with it.

mod former;
mod layers;
mod listeners;
mod remote;
mod stores;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use nativelink_config::{CasConfig, Diagnostics, Setting};

use self::stores::StorePlanner;
use super::problems::Problems;
use super::served::Served;
use super::store_flags::StoreSettings as StoreFlags;

/// Larger files are no configuration.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads the file and says what to serve; every problem is noted with its place.
pub(super) fn plan(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &StoreFlags,
    problems: &mut Problems,
) -> Option<Served> {
    plan_parsed(parse(path, env), flags, problems)
}

/// The same of a text that stands in no file.
pub(super) fn plan_text(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &StoreFlags,
    problems: &mut Problems,
) -> Option<Served> {
    let parsed = nativelink_config::parse(name, text, env);
    plan_parsed(parsed.map_err(|found| listed(&found)), flags, problems)
}

fn plan_parsed(
    parsed: Result<CasConfig, Problems>,
    flags: &StoreFlags,
    problems: &mut Problems,
) -> Option<Served> {
    let config = match parsed {
        Ok(config) => config,
        Err(found) => {
            found.into_iter().for_each(|problem| problems.add(problem));
            return None;
        }
    };
    config.unsupported.iter().for_each(|diagnostic| problems.add(diagnostic));
    let mut stores = StorePlanner::new(&config, flags, problems);
    stores.plan_all();
    let listeners = listeners::plan(&config, &mut stores);
    let StorePlanner { mut stores, notes, .. } = stores;
    former::note_contents(&mut stores, &listeners);
    let warnings = config.warnings.iter().map(ToString::to_string).chain(notes).collect();
    // The format has no place for values: a store of them would be beside which, under which cap?
    Some(Served { warnings, ..Served::new(stores, listeners) })
}

/// Reads the file, without what this program makes of it.
pub(super) fn parse(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<CasConfig, Problems> {
    parsed(path, |name, text| nativelink_config::parse(name, text, env))
}

/// Reads what every key of the file comes to.
pub(super) fn settings(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Setting>, Problems> {
    parsed(path, |name, text| nativelink_config::parse_with_settings(name, text, env))
        .map(|(_, settings)| settings)
}

fn parsed<T>(
    path: &Path,
    parse: impl FnOnce(&str, &str) -> Result<T, Diagnostics>,
) -> Result<T, Problems> {
    let name = path.display().to_string();
    let mut problems = Problems::default();
    let Some(text) = problems.take(&name, read_file(path)) else { return Err(problems) };
    parse(&name, &text).map_err(|diagnostics| listed(&diagnostics))
}

fn listed(diagnostics: &Diagnostics) -> Problems {
    let mut problems = Problems::default();
    diagnostics.iter().for_each(|diagnostic| problems.add(diagnostic));
    problems
}

/// Reads a file of text, if it is not too large to be a configuration.
pub(super) fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("larger than 16 MiB"));
    }
    Ok(text)
}

/// What the machine has of memory, or the group of processes that this one is in may take.
fn memory_bytes() -> Option<u64> {
    let of_machine = || {
        let text = read_file(Path::new("/proc/meminfo")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    // Without a limit this says `max`.
    let of_group = || read_file(Path::new("/sys/fs/cgroup/memory.max")).ok()?.trim().parse().ok();
    of_machine().into_iter().chain(of_group()).min()
}
