//! What may be the name of an entry.

use std::ffi::OsStr;
use std::fmt;

/// The longest name that file systems take, in bytes.
const MAX_BYTES: usize = 255;

/// The name of an entry: one component of a path, which leads nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Why a text is the name of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is empty.
    #[error("a name is empty")]
    Empty,
    /// It is `.` or `..`.
    #[error("a name leads to the directory itself or out of it")]
    Dots,
    /// It has a `/`.
    #[error("a name has a separator in it")]
    Separator,
    /// It has a NUL.
    #[error("a name has a NUL in it")]
    Nul,
    /// No file system takes it.
    #[error("a name has more than {MAX_BYTES} bytes")]
    TooLong,
}

impl Name {
    /// Takes `text` if it is one component of a path.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        Self::check(text.as_bytes())?;
        Ok(Self(text.into()))
    }

    /// Refuses what is not one component of a path.
    pub(super) fn check(name: &[u8]) -> Result<(), InvalidName> {
        match name {
            [] => return Err(InvalidName::Empty),
            b"." | b".." => return Err(InvalidName::Dots),
            name if name.len() > MAX_BYTES => return Err(InvalidName::TooLong),
            _ => {}
        }
        match name.iter().find(|byte| matches!(byte, b'/' | 0)) {
            None => Ok(()),
            Some(0) => Err(InvalidName::Nul),
            Some(_) => Err(InvalidName::Separator),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&*self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
