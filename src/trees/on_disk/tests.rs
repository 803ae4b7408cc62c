//! Directories as workers leave them, hostile ones too.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

fn folder() -> (TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open_root(place.path()).unwrap();
    (place, folder)
}

#[test]
fn what_is_made_is_found_again() {
    let (_place, folder) = folder();
    let below = folder.make_folder("below", 0o755).unwrap();
    below.create_file("file", 0o644).unwrap().write_all(b"bytes").unwrap();
    below.symlink("link", "file").unwrap();

    let mut bytes = String::new();
    let beneath = folder.open_beneath("below").unwrap();
    beneath.open_file("file").unwrap().read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, "bytes");
    assert_eq!(below.read_link("link").unwrap(), "file");
    assert_eq!(folder.open_beneath("").unwrap().list(9).unwrap().len(), 1);
    let mut listed = below.list(2).unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = listed.iter().map(|it| (it.name.to_str().unwrap(), it.kind)).collect();
    assert_eq!(names, [("file", Kind::File), ("link", Kind::Symlink)]);
    assert_eq!(below.list(1).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert!(!below.is_empty().unwrap());
    assert_eq!(below.metadata_of("file").unwrap().size_bytes, 5);
}

#[test]
fn nothing_leads_out_of_a_directory() {
    let (place, folder) = folder();
    std::fs::create_dir(place.path().join("in")).unwrap();
    std::fs::create_dir(place.path().join("out")).unwrap();
    let inside = folder.open_beneath("in").unwrap();
    inside.symlink("link", "../out").unwrap();
    for path in ["..", "../out", "/", "/tmp", "link", "link/x", "./link", "x/../../out"] {
        assert!(inside.open_beneath(path).is_err(), "{path}");
    }
    for name in ["", ".", "..", "a/b", "/", "a\0b", &"n".repeat(256)] {
        let problem = inside.make_folder(name, 0o755).unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::InvalidInput, "{name:?}");
        assert!(inside.create_file(name, 0o644).is_err(), "{name:?}");
        assert!(inside.symlink(name, "x").is_err(), "{name:?}");
        assert!(inside.remove_all(name).is_err(), "{name:?}");
        assert!(inside.rename("link", &folder, name).is_err(), "{name:?}");
    }
    assert!(inside.create_file("link", 0o644).is_err());
    assert!(inside.open_file("link").is_err());
    assert!(inside.open_folder("link").is_err());
    inside.remove_all("link").unwrap();
    assert!(place.path().join("out").exists());
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let (place, folder) = folder();
    let socket = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
    folder.make_folder("below", 0o755).unwrap();
    assert!(folder.open_file("socket").is_err());
    assert_eq!(folder.open_file("below").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(folder.metadata_of("socket").unwrap().kind, Kind::Other);
    drop(socket);
}

#[test]
fn a_read_only_tree_is_removed() {
    let (place, folder) = folder();
    let below = folder.make_folder("a", 0o755).unwrap().make_folder("b", 0o755).unwrap();
    below.create_file("file", 0o444).unwrap();
    below.symlink("link", "/").unwrap();
    for path in ["a/b", "a"] {
        let mode = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(place.path().join(path), mode).unwrap();
    }
    folder.remove_all("a").unwrap();
    assert!(folder.is_empty().unwrap());
    folder.remove_all("a").unwrap();
}

#[test]
fn a_directory_of_any_depth_is_removed() {
    let (_place, folder) = folder();
    let mut below = folder.make_folder("deep", 0o755).unwrap();
    // Taken names, and files on the way.
    below.create_file(".castellan-removed-0", 0o644).unwrap();
    for level in 0..10_000 {
        if level % 16 == 0 {
            below.create_file("file", 0o444).unwrap();
            below.make_folder("empty", 0o555).unwrap();
        }
        let mode = if level % 7 == 0 { 0o555 } else { 0o755 };
        let next = below.make_folder("d", 0o755).unwrap();
        below.set_mode(mode).unwrap();
        below = next;
    }
    drop(below);
    folder.remove_all("deep").unwrap();
    assert!(folder.is_empty().unwrap());
}

#[test]
fn a_large_directory_is_removed() {
    let (_place, folder) = folder();
    let large = folder.make_folder("large", 0o755).unwrap();
    for number in 0..5_000 {
        large.symlink(format!("link with a rather long name {number}"), "x").unwrap();
    }
    folder.remove_all("large").unwrap();
    assert!(folder.is_empty().unwrap());
}

#[test]
fn a_directory_takes_the_place_of_an_empty_one_only() {
    let (_place, folder) = folder();
    folder.make_folder("new", 0o755).unwrap().create_file("file", 0o644).unwrap();
    folder.make_folder("full", 0o755).unwrap().create_file("file", 0o644).unwrap();
    folder.make_folder("empty", 0o755).unwrap();
    folder.symlink("link", "empty").unwrap();
    for taken in ["full", "link"] {
        assert!(folder.rename("new", &folder, taken).is_err(), "{taken}");
    }
    folder.rename("new", &folder, "empty").unwrap();
    assert!(!folder.open_folder("empty").unwrap().is_empty().unwrap());
}

#[test]
fn times_and_modes_are_kept() {
    let (_place, folder) = folder();
    let mtime = ModificationTime { seconds: 1_000_000_000, nanoseconds: 5 };
    let below = folder.make_folder("below", 0o755).unwrap();
    below.set_mode(0o2775).unwrap();
    below.set_mtime(mtime).unwrap();
    let metadata = folder.metadata_of("below").unwrap();
    assert_eq!((metadata.mode, metadata.mtime), (0o2775, mtime));
    assert_eq!(metadata, below.metadata().unwrap());
    folder.symlink("link", "below").unwrap();
    folder.set_mtime_of("link", ModificationTime { seconds: 7, ..mtime }).unwrap();
    folder.set_owner_of("link", None, None).unwrap();
    assert_eq!(folder.metadata_of("link").unwrap().mtime.seconds, 7);
    assert_eq!(folder.metadata_of("below").unwrap().mtime, mtime);
}

#[test]
fn only_the_directory_that_is_meant_is_removed() {
    let (_place, folder) = folder();
    let made = folder.make_folder("tree", 0o755).unwrap();
    made.make_folder("in", 0o755).unwrap().create_file("file", 0o444).unwrap();
    let identity = made.identity().unwrap();
    assert_eq!(folder.identity_of("tree").unwrap(), Some(identity));

    folder.rename("tree", &folder, "moved").unwrap();
    assert!(!folder.remove_this("tree", &identity).unwrap(), "nothing there");
    folder.make_folder("tree", 0o755).unwrap().create_file("kept", 0o444).unwrap();
    assert!(!folder.remove_this("tree", &identity).unwrap(), "another");
    folder.symlink("link", "moved").unwrap();
    folder.create_file("file", 0o644).unwrap();
    assert!(!folder.remove_this("link", &identity).unwrap(), "a link to it");
    assert!(!folder.remove_this("file", &identity).unwrap(), "no directory");
    assert_eq!(folder.open_folder("tree").unwrap().list(9).unwrap().len(), 1);

    made.set_mode(0).unwrap();
    assert!(folder.remove_this("moved", &identity).unwrap());
    assert_eq!(folder.identity_of("moved").unwrap(), None);
}

/// A directory with something mounted on it.
struct Mounted(std::path::PathBuf);

impl Mounted {
    /// `None` where nothing can be mounted.
    fn new(at: std::path::PathBuf) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "none"]).arg(&at).status();
        status.is_ok_and(|it| it.success()).then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn what_is_mounted_in_a_directory_is_not_removed_with_it() {
    let (place, folder) = folder();
    let made = folder.make_folder("tree", 0o755).unwrap();
    made.make_folder("mount", 0o755).unwrap();
    let at = place.path().join("tree/mount");
    let Some(mounted) = Mounted::new(at.clone()) else {
        eprintln!("skipped: nothing can be mounted");
        return;
    };
    let within = Folder::open_root(&at).unwrap();
    within.create_file("of another", 0o644).unwrap();
    let identity = made.identity().unwrap();
    let error = folder.remove_this("tree", &identity).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CrossesDevices);
    assert!(folder.remove_all("tree").is_err());
    assert_eq!(within.list(9).unwrap().len(), 1);
    drop((within, mounted));
    assert!(folder.remove_this("tree", &identity).unwrap());
}

#[test]
fn a_directory_has_one_lock() {
    let (place, folder) = folder();
    assert!(folder.try_lock().unwrap() && folder.try_lock().unwrap());
    let other = Folder::open_root(place.path()).unwrap();
    assert!(!other.try_lock().unwrap());
    drop(folder);
    assert!(other.try_lock().unwrap());
}

#[test]
fn a_root_is_made_with_all_above_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("not/there");
    for _ in 0..2 {
        assert!(Folder::make_root(&path).unwrap().is_empty().unwrap());
    }
}

#[test]
fn a_writer_is_seen_until_the_last_copy_of_its_descriptor_is_closed() {
    let (_place, folder) = folder();
    let written = folder.create_file("tool", 0o600).unwrap();
    let read = folder.open_file("tool").unwrap();
    if !mark_writer(&written).unwrap() {
        return;
    }
    assert!(has_writer(&read).unwrap());
    let inherited = written.try_clone().unwrap();
    drop(written);
    assert!(has_writer(&read).unwrap(), "a child still has it");
    drop(inherited);
    assert!(!has_writer(&read).unwrap());
    assert!(!has_writer(&folder.open_file("tool").unwrap()).unwrap(), "nothing stays behind");
}
