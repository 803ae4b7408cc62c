//! The files of certificates and keys: which version of each is there, and what is in it.
//!
//! The only place of `tls` that touches the file system.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Larger files hold no certificates; lists of revoked ones can be long.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Which version of a file is there. Two that are equal are the same bytes, whatever a link on the
/// way has been pointed to meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// `None` when there is no such file, or nobody may look.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {problem}")]
pub struct FileProblem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl FileProblem {
    pub(super) fn new(path: &Path, problem: &dyn fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// The certificates in a file, in their order; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    all(path, "certificate")
}

/// The lists of revoked certificates in a file; at least one.
pub(super) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileProblem> {
    all(path, "certificate revocation list")
}

/// The one private key in a file, in any of the forms that programs write.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileProblem> {
    let mut keys = all(path, "private key (PKCS #8, PKCS #1 or SEC 1)")?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (_, others) => {
            let problem = format!("has {} private keys, and only one can be used", others + 1);
            Err(FileProblem::new(path, &problem))
        }
    }
}

fn all<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, FileProblem> {
    let text = read(path).map_err(|error| FileProblem::new(path, &error))?;
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| FileProblem::new(path, &format!("is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(FileProblem::new(path, &format!("has no {what} in PEM")));
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("is larger than 16 MiB"));
    }
    Ok(bytes)
}
