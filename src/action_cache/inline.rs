//! Adds the bytes of small outputs to a result on request (reapi 82).
//!
//! Inlining is a courtesy: whatever stands in its way, the result goes out with its digests, which
//! are kept in any case. Every byte of the result that is not framing of a grown file is copied as
//! it is, so that fields this program does not know survive.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::InlineRequest;
use crate::cas::Cas;
use crate::digest::{Digest, DigestFunction};
use crate::encoded::view::{OutputFile, Stream, Streams, tag};
use crate::encoded::wire::{Fields, WireError};

/// The largest blob that is inlined.
const MAX_INLINE_BYTES: u64 = 1 << 20;

/// The largest result that inlining makes. Clients refuse messages over 4 MiB.
const MAX_MESSAGE_BYTES: u64 = (4 << 20) - (512 << 10);

/// Files between two yields.
const TURN: usize = 64;

/// Upper bound of what keys and lengths add for one blob.
const FRAMING_BYTES: u64 = 16;

/// What shall be added: digests first, the bytes once they are read.
#[derive(Debug)]
struct Additions<T> {
    stdout: Option<T>,
    stderr: Option<T>,
    /// With their positions in `output_files`, ascending.
    files: Vec<(usize, T)>,
}

/// The result `encoded`, its digests of `function`, with what `request` asks for. Cancel safe.
pub(super) async fn inline(
    cas: &Cas,
    function: DigestFunction,
    encoded: Bytes,
    request: &InlineRequest,
) -> Bytes {
    if !request.stdout && !request.stderr && request.output_files.is_empty() {
        return encoded;
    }
    let Ok(wanted) = plan(function, &encoded, request) else {
        return encoded;
    };
    let additions = fetch(cas, wanted).await;
    rewrite(&encoded, &additions).map_or(encoded, BytesMut::freeze)
}

/// Chooses what fits: the streams first, then files in the order of the result.
fn plan(
    function: DigestFunction,
    encoded: &[u8],
    request: &InlineRequest,
) -> Result<Additions<Digest>, WireError> {
    let paths: HashSet<&[u8]> = request.output_files.iter().map(String::as_bytes).collect();
    let mut streams = Streams::default();
    let mut files = Vec::new();
    let mut position = 0;
    for field in Fields::new(encoded) {
        let field = field?;
        streams.merge(&field)?;
        if field.tag == tag::OUTPUT_FILES {
            let file = OutputFile::decode(field.bytes()?)?;
            if file.contents.is_empty() && paths.contains(file.path) {
                let digest = file.digest.and_then(|digest| digest.parse(function).ok());
                files.extend(digest.map(|digest| (position, digest)));
            }
            position += 1;
        }
    }
    let mut budget = MAX_MESSAGE_BYTES.saturating_sub(encoded.len() as u64);
    let mut stream = |asked: bool, stream: Stream<'_>| {
        let digest = stream.digest.filter(|_| asked && stream.raw.is_empty());
        let digest = digest.and_then(|digest| digest.parse(function).ok());
        digest.filter(|digest| spend(&mut budget, digest))
    };
    let stdout = stream(request.stdout, streams.stdout);
    let stderr = stream(request.stderr, streams.stderr);
    files.retain(|(_, digest)| spend(&mut budget, digest));
    Ok(Additions { stdout, stderr, files })
}

/// Takes what `digest` needs from the budget, if it is worth inlining and fits.
fn spend(budget: &mut u64, digest: &Digest) -> bool {
    if digest.is_empty() || digest.size_bytes > MAX_INLINE_BYTES {
        return false;
    }
    match budget.checked_sub(digest.size_bytes + FRAMING_BYTES) {
        Some(rest) => *budget = rest,
        None => return false,
    }
    true
}

async fn fetch(cas: &Cas, wanted: Additions<Digest>) -> Additions<Bytes> {
    let mut files = Vec::with_capacity(wanted.files.len());
    for (index, (position, digest)) in wanted.files.into_iter().enumerate() {
        if index % TURN == TURN - 1 {
            // Files in memory would keep a runtime thread from its other work.
            tokio::task::yield_now().await;
        }
        if let Some(data) = read(cas, digest).await {
            files.push((position, data));
        }
    }
    let stdout = match wanted.stdout {
        Some(digest) => read(cas, digest).await,
        None => None,
    };
    let stderr = match wanted.stderr {
        Some(digest) => read(cas, digest).await,
        None => None,
    };
    Additions { stdout, stderr, files }
}

async fn read(cas: &Cas, digest: Digest) -> Option<Bytes> {
    match cas.read_all(digest, digest.size_bytes).await {
        Ok(data) => data,
        Err(error) => {
            tracing::debug!(%digest, %error, "blob not inlined");
            None
        }
    }
}

/// `None` when there is nothing to add.
fn rewrite(encoded: &[u8], additions: &Additions<Bytes>) -> Option<BytesMut> {
    let Additions { stdout, stderr, files } = additions;
    if stdout.is_none() && stderr.is_none() && files.is_empty() {
        return None;
    }
    let mut out = BytesMut::new();
    if files.is_empty() {
        out.put_slice(encoded);
    } else {
        copy_with_contents(encoded, files, &mut out).ok()?;
    }
    // A message followed by a field is the message with that field: no need to find its place.
    for (tag, data) in [(tag::STDOUT_RAW, stdout), (tag::STDERR_RAW, stderr)] {
        if let Some(data) = data {
            put_bytes(&mut out, tag, data);
        }
    }
    Some(out)
}

fn copy_with_contents(
    encoded: &[u8],
    files: &[(usize, Bytes)],
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let mut files = files.iter().peekable();
    let mut position = 0;
    for field in Fields::new(encoded) {
        let field = field?;
        let mut contents = None;
        if field.tag == tag::OUTPUT_FILES {
            contents = files.next_if(|(at, _)| *at == position);
            position += 1;
        }
        let Some((_, contents)) = contents else {
            out.put_slice(field.raw);
            continue;
        };
        let file = field.bytes()?;
        let length = contents.len() as u64;
        let added = 1 + encoded_len_varint(length) as u64 + length;
        encode_key(tag::OUTPUT_FILES, WireType::LengthDelimited, out);
        encode_varint(file.len() as u64 + added, out);
        out.put_slice(file);
        put_bytes(out, tag::OUTPUT_FILE_CONTENTS, contents);
    }
    Ok(())
}

fn put_bytes(out: &mut BytesMut, tag: u32, data: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(data.len() as u64, out);
    out.put_slice(data);
}
