//! What is in the files. What handshakes make of it is tested on a whole server.

use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;

use super::files::{Version, certificates, private_key, revocation_lists};

/// A file with a section of each of these labels.
fn file(labels: &[&str]) -> (TempDir, std::path::PathBuf) {
    let sections =
        labels.iter().map(|it| format!("-----BEGIN {it}-----\nAAAA\n-----END {it}-----\n"));
    written(&sections.collect::<String>())
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn written(text: &str) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.pem");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn private_keys_are_read_in_every_form_and_there_is_one() {
    let (_kept, path) = file(&["CERTIFICATE", "PRIVATE KEY"]);
    assert!(matches!(private_key(&path).unwrap(), PrivateKeyDer::Pkcs8(_)));
    let (_kept, path) = file(&["RSA PRIVATE KEY"]);
    assert!(matches!(private_key(&path).unwrap(), PrivateKeyDer::Pkcs1(_)));
    let (_kept, path) = file(&["EC PARAMETERS", "EC PRIVATE KEY"]);
    assert!(matches!(private_key(&path).unwrap(), PrivateKeyDer::Sec1(_)));
    let (_kept, path) = file(&["PRIVATE KEY", "EC PRIVATE KEY"]);
    let error = private_key(&path).unwrap_err();
    assert_eq!(error.problem, "has 2 private keys, and only one can be used");
    assert_eq!(error.path, path);
    let (_kept, path) = file(&["CERTIFICATE"]);
    let error = private_key(&path).unwrap_err();
    assert_eq!(error.problem, "has no private key (PKCS #8, PKCS #1 or SEC 1) in PEM");
}

#[test]
fn chains_and_lists_keep_their_order_and_are_not_empty() {
    let (_kept, path) = file(&["CERTIFICATE", "X509 CRL", "CERTIFICATE", "X509 CRL"]);
    assert_eq!(certificates(&path).unwrap().len(), 2);
    assert_eq!(revocation_lists(&path).unwrap().len(), 2);
    let (_kept, path) = file(&["PRIVATE KEY"]);
    assert_eq!(certificates(&path).unwrap_err().problem, "has no certificate in PEM");
    let (_kept, path) = written("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    assert!(certificates(&path).unwrap_err().problem.starts_with("is no PEM: "));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "files of this test")]
fn a_version_changes_with_the_file_behind_a_link() {
    let (directory, path) = written("one");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let first = Version::of(&link).unwrap();
    assert_eq!(Version::of(&link), Some(first));
    // As long and as old as the first: the way a mounted secret is replaced.
    let other = directory.path().join("other");
    std::fs::write(&other, "two").unwrap();
    let moment = path.metadata().unwrap().modified().unwrap();
    std::fs::File::options().write(true).open(&other).unwrap().set_modified(moment).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert_ne!(Version::of(&link), Some(first));
    std::fs::remove_file(&other).unwrap();
    assert_eq!(Version::of(&link), None);
}
