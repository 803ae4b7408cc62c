//! What other servers leave in their directories: the names of their files and what is in them.
//!
//! Pure: no async, no walk, no clock; files are read through [`ReadAt`]. Nothing here is believed
//! by anybody: a name is a claim, and the bytes are hashed by whoever takes them over.
//!
//! `NativeLink`, in its `content_path`:
//!
//! ```text
//! d/<hash>-<size>      the bytes of a blob, or of an action result in a store of those
//! <hash>-<size>        the same, of older versions
//! s/<key>              values under other keys
//! ```
//!
//! The name does not tell a blob from a result, nor one digest function from another: the store
//! that the directory was configured for does. The digest in a result's name is its action's, size
//! and all: the size says nothing of the file.
//!
//! bazel-remote, in its `--dir`, where `<aa>` is the first byte of the hash:
//!
//! ```text
//! cas.v2/<aa>/<hash>-<size>-<random>     a blob as a casblob
//! cas.v2/<aa>/<hash>-<random>.v1         the bytes of a blob
//! ac.v2/<aa>/<hash>-<random>             an action result, under the hash of its action or what
//!                                        mangled_action_hash makes of it
//! raw.v2/<aa>/<hash>-<random>            a value that nobody has looked into
//! ```
//!
//! It writes a file under its final name, so one that a crash has cut off looks like any other.
//! The empty blob is never stored.

mod casblob;
mod names;
#[cfg(test)]
pub(crate) mod tests;

pub use casblob::{Casblob, CasblobError, ReadAt};
pub use names::{
    ACTION_RESULT_DIR, BLOB_DIR, FormerEncoding, FormerName, NATIVELINK_BLOB_DIR,
    NATIVELINK_STRING_DIR, RAW_DIR, bazel_remote_cas, bazel_remote_result, mangled_action_hash,
    nativelink,
};
