//! The file `FORMAT` of a running store: read at the start, rewritten when what it says changes.

use std::io;

use super::disk::{Disk, MountIdentity};
use super::format::{self, Format};
use super::index::Fences;
use super::layout::Generation;
use super::own_room::OwnRoom;
use super::shared::Parts;
use super::sync::Mutex;

/// Its name.
pub(super) const FORMAT_NAME: &str = "FORMAT";

/// What is written in it, and what it takes.
#[derive(Debug)]
pub(super) struct StateFile {
    /// Held while the file is written, so that what is written last is the last.
    current: Mutex<Written>,
    identity: MountIdentity,
}

#[derive(Debug)]
struct Written {
    format: Format,
    charged_bytes: u64,
}

impl StateFile {
    /// The file of a store that has just written it.
    pub(super) fn new(format: Format, identity: MountIdentity, charged_bytes: u64) -> Self {
        Self { current: Mutex::new(Written { format, charged_bytes }), identity }
    }

    /// Changes the file, durably, fences included. Blocking.
    pub(super) fn update(&self, parts: &Parts, change: impl FnOnce(&mut Format)) -> io::Result<()> {
        let mut current = self.current.lock();
        let mut format = current.format.clone();
        parts.index.lock(|index| write_fences(index.fences(), &mut format));
        change(&mut format);
        let text = format.to_string();
        let room = OwnRoom::make(parts, parts.blocks.charge_of(text.len() as u64));
        parts.disk.write_own(FORMAT_NAME, &text)?;
        current.format = format;
        let charged_bytes = parts.disk.allocated_at(FORMAT_NAME)?;
        let before = std::mem::replace(&mut current.charged_bytes, charged_bytes);
        match room {
            Some(mut room) => room.settle(charged_bytes, before),
            None => parts.update(|index| index.change_overhead(charged_bytes, before)),
        }
        Ok(())
    }

    /// Says which mount in which boot what is durable now was written on.
    pub(super) fn stamp_identity(&self, format: &mut Format) {
        stamp(&self.identity, format);
    }
}

/// See [`StateFile::stamp_identity`].
pub(super) fn stamp(identity: &MountIdentity, format: &mut Format) {
    format.boot = (!identity.boot.is_empty()).then(|| identity.boot.clone());
    format.mount = (identity.mount != 0).then_some(identity.mount);
}

fn write_fences(fences: &Fences, format: &mut Format) {
    format.purged_all = (fences.all > 0).then_some(Generation(fences.all));
    format.purged = fences.namespaces.iter().map(|(it, at)| (*it, Generation(*at))).collect();
    format.purged.sort_unstable_by_key(|(_, at)| *at);
}

/// The fences that a former process wrote down.
pub(super) fn read_fences(format: &Format) -> Fences {
    Fences {
        all: format.purged_all.map_or(0, |fence| fence.0),
        namespaces: format.purged.iter().map(|(it, at)| (*it, at.0)).collect(),
    }
}

/// Reads the file, and whether its checksum holds; a fresh one where there is none.
pub(super) fn read(disk: &Disk) -> io::Result<(Format, bool)> {
    let Some(text) = disk.read_own(FORMAT_NAME)? else { return Ok((Format::default(), false)) };
    let format = Format::parse(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok((format, format::is_whole(&text)))
}
