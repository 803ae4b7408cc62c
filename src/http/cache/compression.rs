//! zstd, a piece at a time, in bounded memory: no step gives more than one chunk, and no frame
//! may ask for a window of more than 8 MiB, which is what every decoder must allow (RFC 8878).

use std::io;

use axum::http::StatusCode;
use bytes::{Buf as _, Bytes};
use tokio::sync::OwnedSemaphorePermit;
use zstd::stream::raw::{
    CParameter, DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer,
};

use crate::http::body::CHUNK_BYTES;
use crate::http::status::Refusal;

const WINDOW_LOG: u32 = 23;
/// Faster than a network; higher levels would make every answer wait.
const LEVEL: i32 = 1;
/// The longest head of a frame.
const FRAME_HEAD_BYTES: usize = 18;

/// Takes frames apart.
pub(super) struct Decompressor {
    decoder: Decoder<'static>,
    input: Bytes,
    head: Vec<u8>,
    is_mid_frame: bool,
    /// Whether the last step has filled its chunk: there may be more of the same input.
    has_more: bool,
    _place: OwnedSemaphorePermit,
}

impl Decompressor {
    /// One that has read nothing.
    pub(super) fn new(place: OwnedSemaphorePermit) -> Result<Self, Refusal> {
        let mut decoder = Decoder::new().map_err(|error| no_codec(&error))?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .map_err(|error| no_codec(&error))?;
        Ok(Self {
            decoder,
            input: Bytes::new(),
            head: Vec::new(),
            is_mid_frame: false,
            has_more: false,
            _place: place,
        })
    }

    /// Takes the next piece of input, when the former one is used up.
    pub(super) fn feed(&mut self, input: Bytes) {
        let wanted = FRAME_HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend(input.iter().take(wanted));
        self.input = input;
    }

    /// The next chunk; `None` when the input is used up.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        while self.has_more || !self.input.is_empty() {
            let mut output = Vec::with_capacity(CHUNK_BYTES);
            let mut from = InBuffer::around(&self.input);
            let mut to = OutBuffer::around(&mut output);
            let hint = self.decoder.run(&mut from, &mut to).map_err(|error| garbage(&error))?;
            let used = from.pos();
            self.input.advance(used);
            self.is_mid_frame = hint != 0;
            self.has_more = self.is_mid_frame && output.len() == output.capacity();
            if !output.is_empty() {
                return Ok(Some(output.into()));
            }
            if used == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Checks that the input has ended with a frame.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        if self.is_mid_frame {
            return Err(Refusal::bad_request("the last zstd frame is cut off"));
        }
        Ok(())
    }

    /// How long the first frame says that it is.
    pub(super) fn announced_bytes(&self) -> Option<u64> {
        zstd::zstd_safe::get_frame_content_size(&self.head).ok().flatten()
    }
}

fn garbage(error: &io::Error) -> Refusal {
    Refusal::bad_request(format!("the body is no zstd of a window of up to 8 MiB: {error}"))
}

fn no_codec(error: &io::Error) -> Refusal {
    tracing::error!(%error, "zstd has not started");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "zstd has not started")
}

/// Makes one frame.
pub(super) struct Compressor {
    encoder: Encoder<'static>,
    _place: OwnedSemaphorePermit,
}

impl Compressor {
    /// For a blob of this size.
    pub(super) fn new(size_bytes: u64, place: OwnedSemaphorePermit) -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_pledged_src_size(Some(size_bytes))?;
        encoder.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { encoder, _place: place })
    }

    /// What a chunk adds to the frame; often nothing.
    pub(super) fn push(&mut self, chunk: &[u8]) -> io::Result<Bytes> {
        let mut compressed = Vec::with_capacity(CHUNK_BYTES);
        let mut from = InBuffer::around(chunk);
        while from.pos() < chunk.len() {
            compressed.reserve(CHUNK_BYTES);
            let written = compressed.len();
            self.encoder.run(&mut from, &mut OutBuffer::around_pos(&mut compressed, written))?;
        }
        Ok(compressed.into())
    }

    /// The end of the frame.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        let mut compressed = Vec::new();
        loop {
            compressed.reserve(CHUNK_BYTES);
            let written = compressed.len();
            let mut to = OutBuffer::around_pos(&mut compressed, written);
            if self.encoder.finish(&mut to, true)? == 0 {
                return Ok(compressed.into());
            }
        }
    }
}
