//! What is in the directory of a cache, by the names of its files.
//!
//! Blocking. Nothing but names is looked at, and no link is followed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use super::file::{Form, Place};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::former::{
    ACTION_RESULT_DIR, BLOB_DIR, FormerEncoding, FormerName, NATIVELINK_BLOB_DIR,
    NATIVELINK_STRING_DIR, bazel_remote_cas, bazel_remote_result, mangled_action_hash, nativelink,
};
use crate::store::filesystem::offline::{MARKS, ValueFolder};
use crate::store::{Key, Kind as ValueKind, Namespace};
use crate::trees::on_disk::{Folder, Kind, Listed};

/// Who has made a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// This program.
    Castellan,
    /// `NativeLink`: one directory for blobs, one for results, and nothing in them says which.
    NativeLink,
    /// bazel-remote.
    BazelRemote,
}

/// A folder of the directory, and what its files are.
#[derive(Clone, Debug)]
pub(super) struct Part {
    path: String,
    kind: PartKind,
}

#[derive(Clone, Copy, Debug)]
enum PartKind {
    Own(ValueFolder),
    /// What this program has taken over from another, in the same folders as its own results.
    Adopted(ValueFolder),
    NativeLink,
    Blobs(u8),
    Results(u8),
}

/// A file that has a name as such a directory has it.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A blob.
    Blob(Digest, Place),
    /// The result of an action; its size is 0 where nothing says it.
    Result(Digest, Place),
    /// The result of an action of another instance.
    Foreign,
    /// Something else, and why it is not taken.
    Other(String, &'static str),
}

/// What is looked for, and where.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) root: Arc<Folder>,
    pub(super) layout: Layout,
    /// What digests are made with, where nothing says it.
    pub(super) function: DigestFunction,
    /// Of which instance results are taken.
    pub(super) namespace: Namespace,
    /// Whether it is a directory of results, where nothing says it.
    pub(super) holds_results: bool,
    /// The instance whose results a bazel-remote keeps apart, where it does.
    pub(super) mangled_for: Option<String>,
}

/// Actions that are there, by what the files of their results are named after.
#[derive(Debug, Default)]
struct Actions {
    by_name: HashMap<[u8; HASH_BYTES], Digest>,
    /// Whether a name that is not among them says nothing.
    are_needed: bool,
}

/// The largest blob that is taken for an action: they have few fields.
const MAX_ACTION_BYTES: u64 = 16 << 10;
/// Names of results that are remembered.
const MAX_ACTIONS: usize = 10_000_000;

impl Layout {
    /// Recognises a directory by what is in it.
    pub(super) fn of(root: &Folder) -> io::Result<Option<Self>> {
        let has = |name: &str| root.metadata_of(name).is_ok();
        if MARKS.into_iter().all(has) {
            return Ok(Some(Self::Castellan));
        }
        if has(BLOB_DIR) || has(ACTION_RESULT_DIR) {
            return Ok(Some(Self::BazelRemote));
        }
        if has(NATIVELINK_BLOB_DIR) {
            return Ok(Some(Self::NativeLink));
        }
        let mut is_flat = false;
        let found = root.visit(|entry| {
            is_flat = entry.name.to_str().and_then(nativelink).is_some();
            if is_flat { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        });
        if is_flat { Ok(Some(Self::NativeLink)) } else { found.map(|()| None) }
    }

    fn parts(self) -> Vec<Part> {
        let own = |folder: ValueFolder| Part { path: folder.path(), kind: PartKind::Own(folder) };
        let bucket = |top: &str, byte: u8, kind| Part { path: format!("{top}/{byte:02x}"), kind };
        match self {
            Self::Castellan => {
                // An instance asks for what was taken over when it has no result of its own.
                let adopted = |folder: ValueFolder| Part {
                    path: folder.path(),
                    kind: PartKind::Adopted(folder),
                };
                let of_results = |it: &ValueFolder| it.kind() == ValueKind::ActionResult;
                let adopted = ValueFolder::all().filter(of_results).map(adopted);
                ValueFolder::all().map(own).chain(adopted).collect()
            }
            Self::NativeLink => [NATIVELINK_BLOB_DIR, ""]
                .map(|path| Part { path: path.to_owned(), kind: PartKind::NativeLink })
                .into(),
            Self::BazelRemote => {
                let blobs = (0..=u8::MAX).map(|it| bucket(BLOB_DIR, it, PartKind::Blobs(it)));
                let results =
                    (0..=u8::MAX).map(|it| bucket(ACTION_RESULT_DIR, it, PartKind::Results(it)));
                blobs.chain(results).collect()
            }
        }
    }
}

impl Part {
    fn holds_results(&self, walk: &Walk) -> bool {
        match self.kind {
            PartKind::Own(folder) => folder.kind() == ValueKind::ActionResult,
            PartKind::NativeLink => walk.holds_results,
            PartKind::Blobs(_) => false,
            PartKind::Results(_) | PartKind::Adopted(_) => true,
        }
    }

    /// Whether another server has named what is in it, and may have kept instances apart.
    fn may_be_mangled(&self) -> bool {
        matches!(self.kind, PartKind::Results(_) | PartKind::Adopted(_))
    }

    /// Whether the blob of an action whose result is in `results` would be here.
    fn has_actions_of(&self, results: &Self) -> bool {
        match (self.kind, results.kind) {
            (PartKind::Own(own), PartKind::Own(of) | PartKind::Adopted(of)) => {
                let is_alike = |it: ValueFolder| (it.function(), it.first_byte());
                own.kind() == ValueKind::Blob && is_alike(own) == is_alike(of)
            }
            (PartKind::Blobs(own), PartKind::Results(of)) => own == of,
            _ => false,
        }
    }
}

impl Walk {
    /// Goes through the files of blobs, until `each` fails.
    pub(super) fn blobs(&self, mut each: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        let parts = self.layout.parts();
        for part in parts.iter().filter(|it| !it.holds_results(self)) {
            self.part(part, &Actions::default(), &mut each)?;
        }
        Ok(())
    }

    /// Goes through the files of action results.
    pub(super) fn results(&self, mut each: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        let parts = self.layout.parts();
        let mangled = match &self.mangled_for {
            Some(instance) => Some(self.mangled(&parts, instance)?),
            None => None,
        };
        for part in parts.iter().filter(|it| it.holds_results(self)) {
            if let Some(actions) = mangled.as_ref().filter(|_| part.may_be_mangled()) {
                self.part(part, actions, &mut each)?;
                continue;
            }
            // The name of a result has no more than the hash of its action: the action has the
            // size, if it is there too.
            let mut actions = Actions::default();
            for beside in parts.iter().filter(|it| it.has_actions_of(part)) {
                self.part(beside, &Actions::default(), &mut |entry| {
                    if let Entry::Blob(digest, _) = entry {
                        actions.by_name.insert(digest.hash, digest);
                    }
                    Ok(())
                })?;
            }
            self.part(part, &actions, &mut each)?;
        }
        Ok(())
    }

    /// What an instance makes of every hash that may be an action's, as far as a result is named
    /// so: there is no way back from it.
    fn mangled(&self, parts: &[Part], instance: &str) -> io::Result<Actions> {
        let mut names = HashSet::new();
        for part in parts.iter().filter(|it| it.may_be_mangled()) {
            self.part(part, &Actions::default(), &mut |entry| {
                let Entry::Result(result, _) = entry else { return Ok(()) };
                if names.len() == MAX_ACTIONS {
                    return Err(io::Error::other("has too many results to find their actions"));
                }
                names.insert(result.hash);
                Ok(())
            })?;
        }
        let mut actions = Actions { are_needed: true, ..Actions::default() };
        let has_blobs = |it: &&Part| !names.is_empty() && !it.holds_results(self);
        for part in parts.iter().filter(has_blobs) {
            self.part(part, &Actions::default(), &mut |entry| {
                let Entry::Blob(digest, _) = entry else { return Ok(()) };
                if digest.size_bytes > MAX_ACTION_BYTES {
                    return Ok(());
                }
                let name = mangled_action_hash(&digest.hash, instance);
                if names.contains(&name) {
                    actions.by_name.insert(name, digest);
                }
                Ok(())
            })?;
        }
        Ok(actions)
    }

    fn part(
        &self,
        part: &Part,
        actions: &Actions,
        each: &mut impl FnMut(Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(folder) = self.root.find_beneath(&part.path)? else { return Ok(()) };
        let folder = Arc::new(folder);
        folder.visit(|listed| match self.entry(part, &folder, &listed, actions) {
            Some(entry) => each(entry),
            None => Ok(()),
        })
    }

    /// What a file is by its name; `None` for what belongs there and is nothing to take.
    fn entry(
        &self,
        part: &Part,
        folder: &Arc<Folder>,
        listed: &Listed,
        actions: &Actions,
    ) -> Option<Entry> {
        let place = |form| Place::new(folder, &part.path, &listed.name, form);
        let other = |problem| {
            let path = place(Form::Plain).path();
            Some(Entry::Other(path, problem))
        };
        if let PartKind::Adopted(folder) = part.kind {
            // The folder has been gone through once, and nothing else is said twice.
            let value = listed.name.to_str().and_then(|name| folder.value(name));
            value.filter(|(key, _)| is_adopted(key))?;
        }
        if part.path.is_empty() && is_top(&listed.name) {
            return None;
        }
        if listed.kind != Kind::File {
            return other("is no file");
        }
        let named = listed.name.to_str().and_then(|name| self.named(part, folder, name, actions));
        match named {
            Some(Named::Blob(digest, form)) => Some(Entry::Blob(digest, place(form))),
            Some(Named::Result(digest, form)) => Some(Entry::Result(digest, place(form))),
            Some(Named::Foreign) => Some(Entry::Foreign),
            Some(Named::Nothing) => None,
            None => other("has a name that says nothing"),
        }
    }

    fn named(&self, part: &Part, folder: &Folder, name: &str, actions: &Actions) -> Option<Named> {
        let action = |function, hash| {
            let known = actions.by_name.get(&hash).copied();
            known.unwrap_or(Digest { function, hash, size_bytes: 0 })
        };
        match part.kind {
            PartKind::Own(own) => {
                let Some((key, is_former)) = own.value(name) else {
                    return is_variant(own, name).then_some(Named::Nothing);
                };
                Some(match key.kind {
                    ValueKind::Blob if is_former => Named::Blob(key.digest, Form::Casblob),
                    ValueKind::Blob => Named::Blob(key.digest, Form::Plain),
                    ValueKind::ActionResult if is_adopted(&key) => Named::Nothing,
                    ValueKind::ActionResult if key.namespace != self.namespace => Named::Foreign,
                    ValueKind::ActionResult => {
                        Named::Result(action(own.function(), key.digest.hash), Form::Sealed(key))
                    }
                })
            }
            PartKind::Adopted(own) => {
                let (key, is_former) = own.value(name)?;
                let hash = key.digest.hash;
                if actions.are_needed && !actions.by_name.contains_key(&hash) {
                    return Some(Named::Foreign);
                }
                let form = if is_former { Form::Plain } else { Form::Sealed(key) };
                Some(Named::Result(action(own.function(), hash), form))
            }
            PartKind::NativeLink => {
                let FormerName { hash, size_bytes, .. } = nativelink(name)?;
                let size_bytes = size_bytes.unwrap_or_default();
                if self.holds_results {
                    let action = Digest { function: self.function, hash, size_bytes };
                    return Some(Named::Result(action, Form::Plain));
                }
                Some(Named::Blob(Digest::new(self.function, hash, size_bytes).ok()?, Form::Plain))
            }
            PartKind::Blobs(byte) => {
                let FormerName { hash, size_bytes, encoding } = bazel_remote_cas(byte, name)?;
                let form = match encoding {
                    FormerEncoding::Identity => Form::Plain,
                    FormerEncoding::Casblob => Form::Casblob,
                };
                let size_bytes = match size_bytes {
                    Some(size_bytes) => size_bytes,
                    None => folder.metadata_of(name).ok()?.size_bytes,
                };
                Some(Named::Blob(Digest::new(DigestFunction::Sha256, hash, size_bytes).ok()?, form))
            }
            PartKind::Results(byte) => {
                let hash = bazel_remote_result(byte, name)?;
                if actions.are_needed && !actions.by_name.contains_key(&hash) {
                    return Some(Named::Foreign);
                }
                Some(Named::Result(action(DigestFunction::Sha256, hash), Form::Plain))
            }
        }
    }
}

/// What a name says.
enum Named {
    Blob(Digest, Form),
    Result(Digest, Form),
    Foreign,
    Nothing,
}

/// Whether a result was taken over from another server.
fn is_adopted(key: &Key) -> bool {
    key.namespace == Namespace::ADOPTED
}

/// An executable variant is a copy of the blob beside it.
fn is_variant(folder: ValueFolder, name: &str) -> bool {
    name.strip_suffix(".exec").is_some_and(|name| folder.value(name).is_some())
}

/// What `NativeLink` has beside the files of its older versions.
fn is_top(name: &OsStr) -> bool {
    [NATIVELINK_BLOB_DIR, NATIVELINK_STRING_DIR].iter().any(|it| name == *it)
}
