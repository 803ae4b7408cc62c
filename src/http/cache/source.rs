//! The body of a PUT as the bytes it stands for, whatever encoding it came in, and what its sender
//! has announced of it.

use std::sync::Arc;

use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use bytes::{Bytes, BytesMut};

use super::Cache;
use super::compression::Decompressor;
use crate::http::body::Incoming;
use crate::http::status::Refusal;

/// The size of what a body stands for; that of the body itself is `Content-Length`.
const DIGEST_SIZE: HeaderName = HeaderName::from_static("x-digest-sizebytes");

/// What the header says of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// How many bytes it stands for, if that is said.
    pub(super) size_bytes: Option<u64>,
    is_zstd: bool,
}

impl Announced {
    /// Reads the header.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let is_zstd = is_zstd(headers)?;
        let length = number(headers, &CONTENT_LENGTH)?;
        let size = number(headers, &DIGEST_SIZE)?;
        if length.is_none() && size.is_none() {
            let message = "Content-Length or X-Digest-SizeBytes is required";
            return Err(Refusal::new(StatusCode::LENGTH_REQUIRED, message));
        }
        if is_zstd {
            return Ok(Self { size_bytes: size, is_zstd });
        }
        if length.is_some() && size.is_some() && length != size {
            return Err(Refusal::bad_request("X-Digest-SizeBytes contradicts Content-Length"));
        }
        Ok(Self { size_bytes: length.or(size), is_zstd })
    }
}

fn is_zstd(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let encoding = encodings.next().map_or(&b"identity"[..], HeaderValue::as_bytes);
    let is_only = encodings.next().is_none();
    if is_only && encoding.eq_ignore_ascii_case(b"zstd") {
        return Ok(true);
    }
    if is_only && encoding.eq_ignore_ascii_case(b"identity") {
        return Ok(false);
    }
    let message = "Content-Encoding must be identity or zstd";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.map(str::parse) {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(Refusal::bad_request(format!("{name} is not a number of bytes"))),
    }
}

/// The bytes that a body stands for.
pub(super) struct Source<'b> {
    incoming: &'b mut Incoming,
    decompressor: Option<Decompressor>,
}

impl<'b> Source<'b> {
    /// Those of `incoming`.
    pub(super) fn new(
        cache: &Cache,
        announced: Announced,
        incoming: &'b mut Incoming,
    ) -> Result<Self, Refusal> {
        let decompressor = if announced.is_zstd {
            let place = Arc::clone(&cache.codecs).try_acquire_owned();
            let place = place.map_err(|_| Refusal::retry_later("too many bodies are encoded"))?;
            Some(Decompressor::new(place)?)
        } else {
            None
        };
        Ok(Self { incoming, decompressor })
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(decompressor) = &mut self.decompressor else {
            return self.incoming.next().await;
        };
        loop {
            if let Some(data) = decompressor.next()? {
                return Ok(Some(data));
            }
            match self.incoming.next().await? {
                Some(input) => decompressor.feed(input),
                None => return decompressor.finish().map(|()| None),
            }
        }
    }

    /// Reads on until there are more than `limit_bytes` in `data`, or to the end; says whether
    /// that was it.
    pub(super) async fn read_into(
        &mut self,
        data: &mut BytesMut,
        limit_bytes: u64,
    ) -> Result<bool, Refusal> {
        while data.len() as u64 <= limit_bytes {
            match self.next().await? {
                Some(piece) => data.extend_from_slice(&piece),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// How many bytes the encoding itself says there are.
    pub(super) fn announced_bytes(&self) -> Option<u64> {
        self.decompressor.as_ref().and_then(Decompressor::announced_bytes)
    }
}
