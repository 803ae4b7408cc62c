//! Goal: what `config convert` prints is a file that serves the same.

use std::io::Write as _;
use std::path::Path;

use super::super::convert;
use super::planned;
use crate::cli::config_file;
use crate::cli::problems::Problems;
use crate::cli::served::Served;
use crate::cli::store_flags::StoreSettings;
use crate::server::StoreKind;

fn with_file<T>(text: &str, look: impl Fn(&Path) -> T) -> T {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    look(file.path())
}

/// The converted file, itself called FILE.
fn converted(text: &str) -> Result<String, String> {
    with_file(text, |path| {
        let name = |text: String| text.replace(path.to_str().unwrap(), "FILE");
        convert(path).map(|it| name(it.text)).map_err(|problems| name(problems.to_string()))
    })
}

fn served(text: &str) -> Served {
    with_file(text, |path| {
        let mut problems = Problems::default();
        let served = config_file::plan(path, &|_| None, &StoreSettings::default(), &mut problems);
        served.unwrap_or_else(|| panic!("{problems} in\n{text}"))
    })
}

#[test]
fn a_small_file_is_readable() {
    let expected = "\
// From FILE, a file of bazel-remote. To be served with:
//   castellan serve FILE.json5 --http-listen=0.0.0.0:8080
// FILE:4:15: storage_mode: has no effect: blobs that are found are read in either form, and new \
ones are stored uncompressed
{
  stores: [
    {
      name: \"default\",
      filesystem: {
        content_path: \"/srv/cache\",
        // Allocated blocks, as du counts them; bazel-remote counts sizes.
        eviction_policy: { max_bytes: \"100GiB\" },
      },
    },
    {
      name: \"results\",
      completeness_checking: {
        backend: { ref_store: { name: \"default\" } },
        cas_store: { ref_store: { name: \"default\" } },
      },
    },
  ],
  servers: [
    {
      listener: { http: { socket_address: \"0.0.0.0:9092\" } },
      // bazel-remote serves any instance name; here each has an entry of its own.
      services: {
        cas: [{ instance_name: \"\", cas_store: \"default\" }],
        ac: [{ instance_name: \"\", ac_store: \"results\" }],
        capabilities: [{ instance_name: \"\" }],
        bytestream: [{ instance_name: \"\", cas_store: \"default\" }],
      },
    },
  ],
}
";
    let text = "dir: /srv/cache\nmax_size: 100\nhttp_address: 0.0.0.0:8080\n\
                storage_mode: uncompressed\ngrpc_address: 0.0.0.0:9092\n";
    assert_eq!(converted(text).unwrap(), expected);
}

#[test]
fn the_converted_file_has_the_same_stores() {
    let proxy = "grpc_proxy: { url: 'grpcs://behind:9092' }\n";
    for text in [
        "dir: /srv/cache\nmax_size: 3\ngrpc_port: 82\nmax_blob_size: 7\n".to_owned(),
        "dir: '/srv/$HOME \"quoted\"'\nmax_size: 3\n".to_owned(),
        "dir: ~/cache\nmax_size: 3\n".to_owned(),
        format!("dir: /d\nmax_size: 1\ngrpc_port: 82\nnum_uploaders: 5\n{proxy}"),
        format!("dir: /d\nmax_size: 1\ngrpc_port: 82\nnum_uploaders: 0\n{proxy}"),
    ] {
        let json5 = converted(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let of_file = served(&json5);
        let as_it_is = with_file(&text, |path| {
            let flag = format!("--config_file={}", path.display());
            planned(&[&flag, "--values-max-size=0"], &[]).unwrap().0
        });
        assert_eq!(format!("{:?}", of_file.stores), format!("{:?}", as_it_is.stores), "{json5}");
        let addresses = of_file.listeners.iter().zip(&as_it_is.listeners);
        assert!(addresses.into_iter().all(|(one, other)| one.address == other.address), "{json5}");
    }
}

#[test]
fn paths_are_taken_as_they_stand() {
    for (dir, expected) in [("'/srv/$HOME'", "/srv/$HOME"), ("~x/cache", "./~x/cache")] {
        let json5 = converted(&format!("dir: {dir}\nmax_size: 1\n")).unwrap();
        let served = served(&json5);
        let StoreKind::Filesystem(options) = &served.stores[0].kind else { panic!() };
        assert_eq!(options.root, Path::new(expected), "{json5}");
    }
}

#[test]
fn what_the_format_cannot_say_is_a_problem() {
    let found = converted(
        "dir: /d\nmax_size: 1\ndisable_http_ac_validation: true\nidle_timeout: 1h\n\
         enable_ac_key_instance_mangling: true\ntls_cert_file: /c\ntls_key_file: /k\n",
    );
    let found = found.unwrap_err();
    for expected in [
        "error: FILE:3:29: disable_http_ac_validation: our format cannot say this; serve the \
         file as it is, with `castellan serve --compat=bazel-remote --config_file=FILE`",
        "error: FILE:4:15: idle_timeout: is not supported",
        "error: FILE:5:34: enable_ac_key_instance_mangling: our format cannot say",
        "error: FILE:6:16: tls_cert_file: our format cannot say this",
    ] {
        assert!(found.contains(expected), "{expected} in\n{found}");
    }
    assert_eq!(found.lines().count(), 4, "{found}");
}
