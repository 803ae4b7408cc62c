//! What may be stored as a result (reapi 84).
//!
//! Only what the message itself shows: neither the action nor the outputs need to exist, because
//! clients of the HTTP cache never upload the one and may upload the others later.

use super::{ActionCacheError, MAX_RESULT_BYTES};
use crate::digest::{DigestFunction, shorten};
use crate::encoded::schema;
use crate::encoded::view::{OutputDirectory, OutputFile, OutputSymlink, RawDigest, Streams, tag};
use crate::encoded::wire::{Field, Fields, WireError};

const RESULT: &str = "action_result";

/// How often each repeated field has occurred, to name the one that is wrong.
#[derive(Default)]
struct Counts {
    files: usize,
    directories: usize,
    file_symlinks: usize,
    directory_symlinks: usize,
    symlinks: usize,
}

/// Checks the result `encoded`, whose digests must be of `function`.
pub(super) fn validate(function: DigestFunction, encoded: &[u8]) -> Result<(), ActionCacheError> {
    if encoded.len() as u64 > MAX_RESULT_BYTES {
        let length = encoded.len();
        return Err(invalid(
            RESULT.to_owned(),
            format!("has {length} bytes encoded, the limit is {MAX_RESULT_BYTES}"),
        ));
    }
    schema::check_action_result(encoded).map_err(undecodable)?;
    let mut streams = Streams::default();
    let mut counts = Counts::default();
    for field in Fields::new(encoded) {
        let field = field.map_err(undecodable)?;
        streams.merge(&field).map_err(undecodable)?;
        check_output(function, &field, &mut counts)?;
    }
    for (name, stream) in [("stdout", streams.stdout), ("stderr", streams.stderr)] {
        if let Some(digest) = stream.digest {
            check_digest(function, digest, || format!("{RESULT}.{name}_digest"))?;
        }
    }
    Ok(())
}

fn check_output(
    function: DigestFunction,
    field: &Field<'_>,
    counts: &mut Counts,
) -> Result<(), ActionCacheError> {
    match field.tag {
        tag::OUTPUT_FILES => {
            let at = next(&mut counts.files);
            let name = move || format!("{RESULT}.output_files[{at}]");
            check_file(function, field.bytes().map_err(undecodable)?, name)
        }
        tag::OUTPUT_DIRECTORIES => {
            let at = next(&mut counts.directories);
            let name = move || format!("{RESULT}.output_directories[{at}]");
            check_directory(function, field.bytes().map_err(undecodable)?, name)
        }
        tag::OUTPUT_FILE_SYMLINKS => {
            check_symlink(field, "output_file_symlinks", next(&mut counts.file_symlinks))
        }
        tag::OUTPUT_DIRECTORY_SYMLINKS => {
            check_symlink(field, "output_directory_symlinks", next(&mut counts.directory_symlinks))
        }
        tag::OUTPUT_SYMLINKS => check_symlink(field, "output_symlinks", next(&mut counts.symlinks)),
        _ => Ok(()),
    }
}

fn check_file(
    function: DigestFunction,
    encoded: &[u8],
    name: impl Fn() -> String,
) -> Result<(), ActionCacheError> {
    let file = OutputFile::decode(encoded).map_err(undecodable)?;
    check_path(file.path, || format!("{}.path", name()))?;
    let field = || format!("{}.digest", name());
    let digest = file.digest.ok_or_else(|| invalid(field(), "is missing".to_owned()))?;
    check_digest(function, digest, field)
}

fn check_directory(
    function: DigestFunction,
    encoded: &[u8],
    name: impl Fn() -> String,
) -> Result<(), ActionCacheError> {
    let directory = OutputDirectory::decode(encoded).map_err(undecodable)?;
    // The empty path is the working directory itself.
    if !directory.path.is_empty() {
        check_path(directory.path, || format!("{}.path", name()))?;
    }
    let tree_field = || format!("{}.tree_digest", name());
    if let Some(root) = directory.root_directory_digest {
        check_digest(function, root, || format!("{}.root_directory_digest", name()))?;
    } else if directory.tree_digest.is_none() {
        let problem = "is missing, and so is root_directory_digest";
        return Err(invalid(tree_field(), problem.to_owned()));
    }
    match directory.tree_digest {
        Some(tree) => check_digest(function, tree, tree_field),
        None => Ok(()),
    }
}

fn check_symlink(field: &Field<'_>, list: &str, at: usize) -> Result<(), ActionCacheError> {
    let symlink = field.bytes().and_then(OutputSymlink::decode).map_err(undecodable)?;
    check_path(symlink.path, || format!("{RESULT}.{list}[{at}].path"))?;
    let problem = if symlink.target.is_empty() {
        "is empty"
    } else if symlink.target.contains(&0) {
        "contains a NUL"
    } else {
        // Anything else is a legal target, absolute ones and `..` included.
        return Ok(());
    };
    Err(invalid(format!("{RESULT}.{list}[{at}].target"), problem.to_owned()))
}

fn check_digest(
    function: DigestFunction,
    digest: RawDigest<'_>,
    field: impl Fn() -> String,
) -> Result<(), ActionCacheError> {
    match digest.parse(function) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(field(), error.to_string())),
    }
}

/// A path is relative to the working directory of the command.
///
/// It may begin with `..`: recc runs compilers whose output lies beside the working directory, and
/// sends such paths. Behind a name `..` is only a second spelling of another path, or a trap.
fn check_path(path: &[u8], field: impl Fn() -> String) -> Result<(), ActionCacheError> {
    let Some(problem) = path_problem(path) else {
        return Ok(());
    };
    let path = shorten(&String::from_utf8_lossy(path));
    Err(invalid(field(), format!("{path:?} {problem}")))
}

fn path_problem(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.starts_with(b"/") {
        return Some("is absolute; it must be relative to the working directory");
    }
    if path.contains(&0) {
        return Some("contains a NUL");
    }
    let mut named = false;
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" => return Some("has an empty segment"),
            b".." if named => return Some("has a .. behind another segment"),
            b"." | b".." => {}
            _ => named = true,
        }
    }
    (!named).then_some("has no name in it")
}

fn next(count: &mut usize) -> usize {
    let at = *count;
    *count += 1;
    at
}

fn invalid(field: String, problem: String) -> ActionCacheError {
    ActionCacheError::Invalid { field, problem }
}

fn undecodable(error: WireError) -> ActionCacheError {
    invalid(RESULT.to_owned(), format!("is not an encoded ActionResult: {error}"))
}
