//! What an action made, as JSON: `capture` prints it, `action result` too, `action finish` reads
//! it.

use castellan_proto::v2;
use serde_json::{Map, Value, json};

use crate::client::{Reference, wire_digest};
use crate::digest::{Digest, DigestFunction};
use crate::trees::name::{InvalidName, Name};

/// Reads the outputs of an action into its result. What is not known is refused: a name that is
/// misspelt would lose an output.
pub(super) fn read(
    text: &[u8],
    function: DigestFunction,
    into: &mut v2::ActionResult,
) -> Result<(), String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let outputs = value.as_object().ok_or("is no JSON object")?;
    for (name, value) in outputs {
        let entries = value.as_array().ok_or_else(|| format!("{name:?} is no list"))?;
        for entry in entries {
            let wrong = |problem: String| format!("{name:?}: {entry}: {problem}");
            let fields = entry.as_object().ok_or_else(|| wrong("is no object".to_owned()))?;
            let entry = Entry { fields, function };
            match name.as_str() {
                "files" => into.output_files.push(entry.file().map_err(wrong)?),
                "symlinks" => into.output_symlinks.push(entry.symlink().map_err(wrong)?),
                "directories" => into.output_directories.push(entry.directory().map_err(wrong)?),
                _ => return Err(format!("{name:?} is none of files, symlinks, directories")),
            }
        }
    }
    Ok(())
}

/// Refuses a path that is absolute or leads up. "" is the working directory itself.
pub(super) fn check_path(path: &str) -> Result<(), InvalidName> {
    if path.is_empty() {
        return Ok(());
    }
    path.split('/').try_for_each(|name| Name::new(name).map(drop))
}

struct Entry<'v> {
    fields: &'v Map<String, Value>,
    function: DigestFunction,
}

impl Entry<'_> {
    fn only(&self, known: &[&str]) -> Result<(), String> {
        let stranger = self.fields.keys().find(|name| !known.contains(&name.as_str()));
        stranger.map_or(Ok(()), |name| Err(format!("{name:?} is none of {}", known.join(", "))))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let text = self.fields.get(name).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| format!("has no text {name:?}"))
    }

    fn path(&self) -> Result<String, String> {
        let path = self.text("path")?;
        check_path(&path).map_err(|problem| format!("\"path\": {problem}"))?;
        Ok(path)
    }

    /// `None` when it is absent or null.
    fn digest(&self, name: &str) -> Result<Option<v2::Digest>, String> {
        if self.fields.get(name).is_none_or(Value::is_null) {
            return Ok(None);
        }
        let reference = Reference::parse(&self.text(name)?, self.function);
        let reference = reference.map_err(|problem| format!("{name:?}: {problem}"))?;
        if reference.digest.function != self.function {
            return Err(format!("{name:?} is of another digest function"));
        }
        Ok(Some(wire_digest(&reference.digest)))
    }

    fn file(&self) -> Result<v2::OutputFile, String> {
        self.only(&["path", "digest", "is_executable"])?;
        let is_executable = match self.fields.get("is_executable") {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => return Err("\"is_executable\" is neither true nor false".to_owned()),
        };
        let digest = self.digest("digest")?.ok_or("has no \"digest\"")?;
        Ok(v2::OutputFile {
            path: self.path()?,
            digest: Some(digest),
            is_executable,
            ..v2::OutputFile::default()
        })
    }

    fn symlink(&self) -> Result<v2::OutputSymlink, String> {
        self.only(&["path", "target"])?;
        let (path, target) = (self.path()?, self.text("target")?);
        Ok(v2::OutputSymlink { path, target, ..v2::OutputSymlink::default() })
    }

    fn directory(&self) -> Result<v2::OutputDirectory, String> {
        self.only(&["path", "tree_digest", "root_directory_digest"])?;
        let tree_digest = self.digest("tree_digest")?.ok_or("has no \"tree_digest\"")?;
        Ok(v2::OutputDirectory {
            path: self.path()?,
            tree_digest: Some(tree_digest),
            root_directory_digest: self.digest("root_directory_digest")?,
            ..v2::OutputDirectory::default()
        })
    }
}

/// A digest of a message as the command line has it; null where there is none.
pub(super) fn digest_value(function: DigestFunction, digest: Option<&v2::Digest>) -> Value {
    let read = |digest: &v2::Digest| {
        Digest::parse(function, digest.hash.as_bytes(), digest.size_bytes).ok()
    };
    // What is no digest is shown as it is.
    digest.map_or(Value::Null, |digest| match read(digest) {
        Some(digest) => json!(digest.to_string()),
        None => json!(format!("{}/{}", digest.hash, digest.size_bytes)),
    })
}

/// What an action made, as it is read here.
#[expect(deprecated, reason = "older workers fill nothing else")]
pub(super) fn lists(function: DigestFunction, result: &v2::ActionResult) -> Value {
    let digest = |it: &Option<v2::Digest>| digest_value(function, it.as_ref());
    let files = result.output_files.iter().map(|file| {
        json!({
            "path": file.path,
            "digest": digest(&file.digest),
            "is_executable": file.is_executable,
        })
    });
    let symlinks = result.output_symlinks.iter().chain(&result.output_file_symlinks);
    let symlinks = symlinks.chain(&result.output_directory_symlinks);
    let symlinks = symlinks.map(|it| json!({ "path": it.path, "target": it.target }));
    let directories = result.output_directories.iter().map(|directory| {
        json!({
            "path": directory.path,
            "tree_digest": digest(&directory.tree_digest),
            "root_directory_digest": digest(&directory.root_directory_digest),
        })
    });
    json!({
        "files": files.collect::<Vec<Value>>(),
        "symlinks": symlinks.collect::<Vec<Value>>(),
        "directories": directories.collect::<Vec<Value>>(),
    })
}

/// The result of an action: how it ended, and what it made.
pub(super) fn object(function: DigestFunction, result: &v2::ActionResult) -> Value {
    let mut object = Map::from_iter([("exit_code".to_owned(), json!(result.exit_code))]);
    if let Value::Object(lists) = lists(function, result) {
        object.extend(lists);
    }
    for (name, digest) in
        [("stdout_digest", &result.stdout_digest), ("stderr_digest", &result.stderr_digest)]
    {
        object.insert(name.to_owned(), digest_value(function, digest.as_ref()));
    }
    for (name, raw) in [("stdout", &result.stdout_raw), ("stderr", &result.stderr_raw)] {
        if !raw.is_empty() {
            object.insert(name.to_owned(), json!(String::from_utf8_lossy(raw)));
        }
    }
    Value::Object(object)
}
