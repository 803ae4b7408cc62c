//! `Write`: takes a blob in, in pieces, from a client that may vanish and come back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castellan_proto::messages::WriteRequest;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

use super::super::room::{Need, Room};
use super::super::status::{invalid_field, retry_later};
use super::super::trace::record_call;
use super::sessions::{Resume, SessionName, Sessions, Slot};
use super::writer::Writer;
use super::{ByteStreamService, check_compressor, check_header};
use crate::cas::Cas;
use crate::digest::{Digest, WriteResource};
use crate::store::{BeginPut, StoreError};

/// How long the end of the stream may lag behind the message that announces it. A client that
/// sends more is refused; one that does not end its stream is not made to wait longer.
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(200);

/// Serves one `Write`; returns the committed size. Cancel safe: what has been received is parked.
pub(super) async fn write(
    service: &ByteStreamService,
    metadata: &MetadataMap,
    messages: Streaming<WriteRequest>,
) -> Result<u64, Status> {
    let idle_timeout = service.shared.options.upload_idle_timeout;
    let mut incoming = Incoming { messages, idle_timeout };
    let Some(first) = incoming.next(None).await? else {
        return Err(invalid_field("resource_name", "is required on the first message"));
    };
    check_header(metadata, &first.resource_name)?;
    let unnamed = service.shared.options.default_digest_function;
    let resource = WriteResource::parse(&first.resource_name, unnamed)?;
    record_call(&resource.instance_name, Some(&resource.digest));
    let instance = service.shared.instances.get(&resource.instance_name)?;
    check_compressor(resource.compressor)?;
    let call = Call {
        cas: instance.bytestream()?.uncounted(),
        sessions: Arc::clone(&service.sessions),
        room: service.shared.room.clone(),
        resource_name: first.resource_name.clone(),
        digest: resource.digest,
        session_name: Arc::new(SessionName::from(resource)),
        incoming,
    };
    call.run(first).await
}

/// One `Write` whose first message has been understood.
struct Call {
    cas: Cas,
    sessions: Arc<Sessions>,
    room: Room,
    resource_name: String,
    digest: Digest,
    session_name: Arc<SessionName>,
    incoming: Incoming,
}

impl Call {
    async fn run(mut self, first: WriteRequest) -> Result<u64, Status> {
        let offset = self.check_first(&first)?;
        if offset == 0 && first.finish_write && self.is_whole(&first.data) {
            // It arrived whole: verified and stored in one step, no session.
            self.incoming.expect_end().await?;
            return self.put(first.data).await;
        }
        match self.start(offset).await? {
            Some(writer) => self.receive(writer, offset, first).await,
            // The blob is there: nothing more is read from the client (reapi 70).
            None => Ok(self.digest.size_bytes),
        }
    }

    async fn put(&self, data: Bytes) -> Result<u64, Status> {
        self.with_room(|| self.cas.put(self.digest, data.clone())).await?;
        self.sessions.forget_parked(&self.session_name);
        Ok(self.digest.size_bytes)
    }

    async fn with_room<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let need = Need { bytes: self.digest.size_bytes, replaces: Some(&self.session_name) };
        self.room.with(need, || self.cas.is_waiting_for_room(), attempt).await
    }

    fn is_whole(&self, data: &Bytes) -> bool {
        data.len() as u64 == self.digest.size_bytes
    }

    /// Checks what no state can excuse; returns the offset.
    fn check_first(&self, first: &WriteRequest) -> Result<u64, Status> {
        let offset = u64::try_from(first.write_offset)
            .map_err(|_| invalid_field("write_offset", "is negative"))?;
        let size_bytes = self.digest.size_bytes;
        let limit_bytes = self.cas.max_blob_bytes();
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
        }
        let received_bytes = offset.saturating_add(first.data.len() as u64);
        if received_bytes > size_bytes {
            let digest = self.digest;
            let expected_bytes = size_bytes;
            return Err(StoreError::SizeMismatch { digest, expected_bytes, received_bytes }.into());
        }
        Ok(offset)
    }

    /// Finds or begins the upload; `None` when the blob is there already.
    async fn start(&self, offset: u64) -> Result<Option<Writer>, Status> {
        if offset == 0 {
            return self.start_fresh().await;
        }
        match self.sessions.resume(&self.session_name, offset).await? {
            Resume::Writer(writer) if writer.is_overtaken() => {
                writer.finish();
                Ok(None)
            }
            Resume::Writer(writer) => Ok(Some(*writer)),
            // The connection that had it may have finished it meanwhile.
            _ if self.cas.contains(self.digest).await? => Ok(None),
            Resume::NotSoFar { committed_bytes } => Err(invalid_field(
                "write_offset",
                format_args!("{offset} is beyond the {committed_bytes} bytes committed so far"),
            )),
            Resume::Busy => Err(retry_later(
                Code::Unavailable,
                "another connection is still writing this upload",
            )),
        }
    }

    /// Starts from 0. What an earlier connection left is kept until this one is past it.
    async fn start_fresh(&self) -> Result<Option<Writer>, Status> {
        let slot = self.sessions.admit(Arc::clone(&self.session_name))?;
        let begun = self.with_room(|| self.cas.begin_upload(self.digest)).await?;
        Ok(begin(slot, begun))
    }

    async fn receive(
        mut self,
        mut writer: Writer,
        offset: u64,
        first: WriteRequest,
    ) -> Result<u64, Status> {
        // Where the client is; behind `written_bytes` while it repeats what is here already.
        let mut position = offset;
        let mut message = first;
        loop {
            self.check_message(&message, position)?;
            if writer.is_overtaken() {
                writer.finish();
                return Ok(self.digest.size_bytes);
            }
            let finish_write = message.finish_write;
            let received_bytes = message.data.len() as u64;
            let fresh = skip_overlap(message.data, writer.written_bytes().saturating_sub(position));
            if !fresh.is_empty() {
                writer.write(fresh).await?;
            }
            position = position.saturating_add(received_bytes);
            if finish_write {
                return self.finish(writer, position).await;
            }
            match self.incoming.next(writer.slot()).await? {
                Some(next) => message = next,
                // Half-closed without `finish_write`: it can be continued (reapi 66).
                None => return Ok(writer.written_bytes()),
            }
        }
    }

    async fn finish(mut self, writer: Writer, position: u64) -> Result<u64, Status> {
        self.incoming.expect_end().await?;
        // A continued upload may know more than this client has repeated of it.
        if position < writer.written_bytes() {
            return Err(StoreError::SizeMismatch {
                digest: self.digest,
                expected_bytes: self.digest.size_bytes,
                received_bytes: position,
            }
            .into());
        }
        writer.commit().await?;
        Ok(self.digest.size_bytes)
    }

    fn check_message(&self, message: &WriteRequest, position: u64) -> Result<(), Status> {
        if !message.resource_name.is_empty() && message.resource_name != self.resource_name {
            return Err(invalid_field("resource_name", "differs from that of the first message"));
        }
        if u64::try_from(message.write_offset) != Ok(position) {
            return Err(invalid_field(
                "write_offset",
                format_args!("is {}, the next byte is {position}", message.write_offset),
            ));
        }
        Ok(())
    }
}

fn begin(slot: Slot, begun: BeginPut) -> Option<Writer> {
    match begun {
        BeginPut::AlreadyPresent => {
            slot.finish();
            None
        }
        BeginPut::Upload(upload) => Some(Writer::new(slot, upload)),
    }
}

/// What is left of `data` behind the first `known_bytes`.
fn skip_overlap(mut data: Bytes, known_bytes: u64) -> Bytes {
    let known = usize::try_from(known_bytes).unwrap_or(usize::MAX);
    data.split_off(known.min(data.len()))
}

/// The messages of one `Write`, each awaited for a bounded time.
struct Incoming {
    messages: Streaming<WriteRequest>,
    idle_timeout: Duration,
}

enum Event {
    Message(Result<Option<WriteRequest>, Status>),
    Idle,
    Yield,
}

impl Incoming {
    /// The next message; `None` when the client has half-closed.
    async fn next(&mut self, slot: Option<&Slot>) -> Result<Option<WriteRequest>, Status> {
        let yield_requested = async {
            match slot {
                Some(slot) => slot.yield_requested().await,
                None => std::future::pending().await,
            }
        };
        // The arms in this order: a client that never pauses must yield too, and the timer is not
        // even registered while messages are at hand.
        let event = tokio::select! {
            biased;
            () = yield_requested => Event::Yield,
            message = self.messages.message() => Event::Message(message),
            () = tokio::time::sleep(self.idle_timeout) => Event::Idle,
        };
        match event {
            Event::Message(message) => message,
            Event::Idle => Err(Status::deadline_exceeded(format!(
                "no message came for {} s",
                self.idle_timeout.as_secs()
            ))),
            Event::Yield => {
                Err(Status::aborted("the upload was asked to give way; ask where to go on"))
            }
        }
    }

    /// Makes sure that nothing follows the message that was the last (reapi 65).
    ///
    /// The client has sent everything by now: that it vanishes, or keeps its side open, changes
    /// nothing.
    async fn expect_end(&mut self) -> Result<(), Status> {
        match tokio::time::timeout(HALF_CLOSE_GRACE, self.messages.message()).await {
            Ok(Ok(Some(_))) => {
                Err(Status::invalid_argument("a message follows the one with finish_write"))
            }
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
        }
    }
}
