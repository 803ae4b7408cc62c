//! Lists of digests: as text, and as what Bazel writes down about its calls.

use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use castellan_proto::v2;
use prost::Message;

use super::actions::read_digest;
use super::reference::Reference;
use super::{Client, ClientError, upload};
use crate::digest::{Digest, DigestFunction, parse_hash};

/// The largest list, and the largest message of a log.
const MAX_BYTES: u64 = 1 << 30;
const MAX_ENTRY_BYTES: u64 = 64 << 20;

/// The name of a call, and what was said in it: of Bazel's `LogEntry` what is needed here.
#[derive(Clone, PartialEq, Message)]
struct LogEntry {
    #[prost(message, optional, tag = "2")]
    status: Option<LogStatus>,
    #[prost(string, tag = "3")]
    method_name: String,
    #[prost(message, optional, tag = "4")]
    details: Option<LogDetails>,
}

#[derive(Clone, PartialEq, Message)]
struct LogStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct LogDetails {
    #[prost(message, optional, tag = "8")]
    get_action_result: Option<LogCall>,
    #[prost(message, optional, tag = "13")]
    update_action_result: Option<LogCall>,
}

#[derive(Clone, PartialEq, Message)]
struct LogCall {
    #[prost(message, optional, tag = "1")]
    request: Option<LogRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct LogRequest {
    #[prost(message, optional, tag = "2")]
    action_digest: Option<v2::Digest>,
}

impl Client {
    /// Reads a list of digests, one `HASH/SIZE` a line; `-` is standard input. Blank lines and
    /// what is behind a `#` are left out. Where `takes_hashes`, a hash alone has size 0.
    pub async fn read_list(
        self: &Arc<Self>,
        path: &Path,
        takes_hashes: bool,
    ) -> Result<Vec<Digest>, ClientError> {
        let text = self.read_file(path, MAX_BYTES).await?;
        let (path, function) = (path.to_owned(), self.function);
        let job = move || {
            let text = std::str::from_utf8(&text);
            let text = text.map_err(|_| ClientError::unfit(&path, "is no text"))?;
            parse(text, function, takes_hashes)
                .map_err(|problem| ClientError::unfit(&path, problem))
        };
        self.jobs.run(job).await
    }

    /// The actions whose results a Bazel was given or has stored, from the log that its
    /// `--experimental_remote_grpc_log` makes.
    pub async fn read_grpc_log(self: &Arc<Self>, path: &Path) -> Result<Vec<Digest>, ClientError> {
        let (path, function) = (path.to_owned(), self.function);
        let job = move || {
            let mut log = BufReader::new(upload::open_file(&path)?);
            let failed = |error| ClientError::file("read", &path, error);
            let mut actions = BTreeSet::new();
            while let Some(entry) = next_entry(&mut log).map_err(failed)? {
                let entry = LogEntry::decode(&*entry);
                let entry = entry.map_err(|error| ClientError::unfit(&path, error))?;
                if let Some(digest) = stored_or_found(entry) {
                    actions.insert(read_digest(function, Some(&digest), "action of the log")?);
                }
            }
            Ok(actions.into_iter().collect())
        };
        self.jobs.run(job).await
    }
}

/// Reads the lines of a list.
pub(super) fn parse(
    text: &str,
    function: DigestFunction,
    takes_hashes: bool,
) -> Result<Vec<Digest>, String> {
    let mut digests = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let digest = match parse_hash(function, line.as_bytes()) {
            Ok(hash) if takes_hashes => Digest { function, hash, size_bytes: 0 },
            _ => {
                let read = Reference::parse(line, function);
                read.map_err(|problem| format!("line {}: {problem}", number + 1))?.digest
            }
        };
        digests.push(digest);
    }
    Ok(digests)
}

/// The next message, which has its length before it; `None` at the end.
fn next_entry(log: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let Some(length) = next_length(log)? else { return Ok(None) };
    if length > MAX_ENTRY_BYTES {
        return Err(std::io::Error::other("a message is too long: this is no such log"));
    }
    let mut entry = Vec::new();
    log.take(length).read_to_end(&mut entry)?;
    if (entry.len() as u64) < length {
        // Bazel was stopped while it wrote; what is before is whole.
        return Ok(None);
    }
    Ok(Some(entry))
}

fn next_length(log: &mut impl Read) -> std::io::Result<Option<u64>> {
    let mut length = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let mut byte = [0];
        if log.read(&mut byte)? == 0 {
            return Ok(None);
        }
        let [byte] = byte;
        length |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(Some(length));
        }
    }
    Err(std::io::Error::other("a length is none: this is no such log"))
}

/// What a call was about, if it shows that there is a result.
fn stored_or_found(entry: LogEntry) -> Option<v2::Digest> {
    if entry.status.is_some_and(|it| it.code != 0) {
        return None;
    }
    let details = entry.details?;
    let call = match entry.method_name.rsplit('/').next()? {
        "GetActionResult" => details.get_action_result,
        "UpdateActionResult" => details.update_action_result,
        _ => None,
    };
    call?.request?.action_digest
}
