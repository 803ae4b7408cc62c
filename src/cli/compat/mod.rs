//! `serve --compat=bazel-remote`: another server's flags, variables and YAML, each option either
//! honored or refused by name.
//!
//! Whoever says them, they end as a configuration file of ours, which is served like any other:
//! so what `config convert` prints is what is served, but for what that format cannot say.

mod command_line;
mod file;
mod go;
mod json5;
mod option;
mod options;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write as _;
use std::path::Path;

pub(super) use self::command_line::{BAZEL_REMOTE, CompatFlags, split};
use self::settings::{Certificates, Settings, check_files};
use self::values::Values;
use super::config_file;
use super::problems::Problems;
use super::served::{OverHttp, Served, resolve};
use super::store_flags::StoreSettings as StoreFlags;
use super::values_flags::ValuesFlags;
use crate::server::{Instances, StoreKind};
use crate::store::filesystem::Cap;
use crate::tls::TlsSettings;

/// What the problems of the file between are said of.
const NAME: &str = "--compat=bazel-remote";
/// What no configuration file and no flag beside it can say. HTTP has no certificates there.
const UNSAYABLE: [&str; 3] =
    ["disable_http_ac_validation", "enable_ac_key_instance_mangling", "tls_cert_file"];

/// Reads flags, variables and the file that they name, and says what to serve.
pub(super) fn plan(
    flags: &CompatFlags,
    env: &dyn Fn(&str) -> Option<String>,
    store: &StoreFlags,
    values_flags: &ValuesFlags,
    problems: &mut Problems,
) -> Option<Served> {
    let mut values = Values::of(flags, env, problems);
    let settings = Settings::of(&mut values, problems)?;
    // Only who serves needs them: a file may be converted elsewhere.
    check_files(&values, problems)?;
    let text = json5::text(&settings);
    let mut served = config_file::plan_text(NAME, &text, &|_| None, store, problems)?;
    served.warnings.splice(0..0, values.notes);
    let cap = Cap::Bytes(settings.max_bytes);
    // bazel-remote has no other values: room for them would be taken from what it has left.
    let has_values = settings.keeps_raw_results || values_flags.are_given();
    let room = if has_values { values_flags.plan(Some(cap), problems) } else { None };
    let (set_aside, of_values) = room.unzip();
    for kind in served.stores.iter_mut().map(|store| &mut store.kind) {
        if let StoreKind::Filesystem(options) = kind {
            // What the file leaves open, flags may say.
            store.apply(options);
            options.set_aside = set_aside;
        }
    }
    served.values = of_values;
    if settings.keeps_raw_results && served.values.is_none() {
        let text = "leaves no room for what is stored at /ac/ over HTTP";
        problems.add(format_args!("--values-max-size: {text}"));
    }
    serve_any_instance(&mut served);
    let instances = match settings.grpc {
        Some(_) => None,
        None => served.listeners.pop().map(|listener| listener.instances),
    };
    served.over_http = OverHttp {
        listen: problems.take("http_address", resolve(&settings.http)),
        tls: settings.tls.as_ref().map(certificates),
        instances,
        keeps_raw_results: settings.keeps_raw_results,
    };
    served.adopted_results_are_mangled = settings.results_are_mangled;
    Some(served)
}

fn certificates(files: &Certificates) -> TlsSettings {
    let Certificates { cert, key, authorities } = files;
    let client_ca_file = Some(authorities.into()).filter(|_| !authorities.is_empty());
    TlsSettings { client_ca_file, ..TlsSettings::new(cert, key) }
}

/// The format names instances; bazel-remote serves all of them.
fn serve_any_instance(served: &mut Served) {
    for listener in &mut served.listeners {
        if let Instances::Named(named) = &listener.instances {
            let one = named.values().next().copied();
            listener.instances = Instances::Any(one.unwrap_or_default());
        }
    }
}

/// What a YAML file comes to.
#[derive(Debug)]
pub(super) struct Converted {
    /// A file of ours.
    pub(super) text: String,
    /// Where HTTP is served, which that file cannot say.
    pub(super) http: String,
}

/// A YAML file as one of ours, or what of it cannot be said there.
pub(super) fn convert(path: &Path) -> Result<Converted, Problems> {
    let mut problems = Problems::default();
    let mut values = Values::of_file(path, &mut problems);
    let settings = Settings::of(&mut values, &mut problems);
    for name in UNSAYABLE {
        if values.switch(name) || !values.text(name).is_empty() {
            let text = format!(
                "our format cannot say this; serve the file as it is, with `castellan serve \
                 --compat={BAZEL_REMOTE} --config_file={}`",
                path.display()
            );
            problems.add(values.problem(name, &text));
        }
    }
    let Some(settings) = settings.filter(|_| problems.is_empty()) else { return Err(problems) };
    let mut text = format!(
        "// From {}, a file of bazel-remote. To be served with:\n\
         //   castellan serve FILE.json5 --http-listen={}\n",
        path.display().to_string().escape_debug(),
        settings.http
    );
    for note in &values.notes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "// {}", note.escape_debug());
    }
    text.push_str(&json5::text(&settings));
    Ok(Converted { text, http: settings.http })
}
