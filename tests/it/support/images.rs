//! A file system in a file, whose power can be cut.
//!
//! The cut is `FS_IOC_SHUTDOWN`: from that moment on nothing reaches the disk, every write fails,
//! and what the next mount finds is what the journal and earlier writes to the disk make of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE_BYTES: u64 = 300 << 20;

/// What the image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

/// What the log of the file system still gets when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Everything that is in memory of it: names and inodes without their data.
    LogFlushed,
    /// Nothing.
    LogLost,
}

/// An image on a loop device; both go when it is dropped.
pub(crate) struct Image {
    /// In memory where that is possible: a sync is then cheap.
    folder: tempfile::TempDir,
    device: String,
    is_mounted: bool,
}

impl Image {
    /// A fresh one, not mounted; what is missing for one, where something is.
    pub(crate) fn make(kind: FileSystem) -> Result<Self, String> {
        let make = match kind {
            FileSystem::Ext4 => ["mkfs.ext4", "-q", "-F", "-b", "4096"].as_slice(),
            FileSystem::Xfs => &["mkfs.xfs", "-q", "-f"],
        };
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".to_owned());
        }
        for (program, flag) in
            [(make[0], "-V"), ("xfs_io", "-V"), ("losetup", "-V"), ("mount", "-V")]
        {
            run(program, [flag])?;
        }
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.map_err(|error| error.to_string())?;
        std::fs::create_dir(folder.path().join("mount")).unwrap();
        let path = folder.path().join("image");
        std::fs::File::create_new(&path).unwrap().set_len(IMAGE_BYTES).unwrap();
        run(make[0], make[1..].iter().map(OsStr::new).chain([path.as_os_str()]))?;
        let flags = ["--find", "--show"].map(OsStr::new).into_iter();
        let device = run("losetup", flags.chain([path.as_os_str()]))?.trim_end().to_owned();
        let mut image = Self { folder, device, is_mounted: false };
        image.try_mount()?;
        image.unmount();
        Ok(image)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn try_mount(&mut self) -> Result<(), String> {
        run("mount", [OsStr::new(&self.device), self.path().as_os_str()])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Mounts it, which recovers what the log says.
    pub(crate) fn mount(&mut self) {
        self.try_mount().unwrap();
    }

    /// Unmounts it; nobody may use it any more.
    pub(crate) fn unmount(&mut self) {
        run("umount", [self.path()]).unwrap();
        self.is_mounted = false;
    }

    /// Nothing that is not on the disk yet gets there any more.
    pub(crate) fn cut_power(&self, cut: Cut) {
        self.xfs_io(match cut {
            Cut::LogFlushed => "shutdown -f",
            Cut::LogLost => "shutdown",
        });
    }

    /// Everything that is in memory gets to the disk, as it does by itself at any moment.
    pub(crate) fn sync(&self) {
        self.xfs_io("syncfs");
    }

    fn xfs_io(&self, command: &str) {
        let flags = ["-x", "-c", command].map(OsStr::new).into_iter();
        run("xfs_io", flags.chain([self.path().as_os_str()])).unwrap();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily: a failed test may leave the server on it for another moment.
        if self.is_mounted {
            drop(run("umount", ["-l".as_ref(), self.path().as_os_str()]));
        }
        drop(run("losetup", ["-d", &self.device]));
    }
}

/// Runs a program; what it printed, or why it failed.
fn run<I, S>(program: &str, arguments: I) -> Result<String, String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{program}: {}: {}", output.status, errors.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
