//! Actions and their results.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castellan_proto::protobuf::Duration as WireDuration;
use castellan_proto::v2;
use prost::Message;

use super::closure::Named;
use super::patience::persist;
use super::{Client, ClientError};
use crate::digest::{Digest, DigestFunction};
use crate::store::{BlobStore as _, BlobStoreExt as _, Key};

/// The largest message that is read.
pub(super) const MAX_MESSAGE_BYTES: u64 = 64 << 20;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct NewAction {
    /// The program and what it is told.
    pub arguments: Vec<String>,
    /// The directory that it runs in.
    pub input_root: Digest,
    /// What it makes, relative to its working directory.
    pub output_paths: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Where in the input root it runs; "" for the root.
    pub working_directory: String,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Whether its result is not for others.
    pub do_not_cache: bool,
}

/// An action that is on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedAction {
    /// Its digest, which results are stored under.
    pub action: Digest,
    /// The digest of its command.
    pub command: Digest,
}

impl Client {
    /// Stores an action whose input root is a directory on the server.
    pub async fn create_action(&self, action: NewAction) -> Result<CreatedAction, ClientError> {
        let input_root = action.input_root;
        self.load_directory(input_root).await?;
        // Sorted, and each once: the digest must not depend on the order of flags.
        let mut output_paths = action.output_paths;
        output_paths.sort_unstable();
        output_paths.dedup();
        let mut environment = action.environment;
        environment.sort_by(|a, b| a.0.cmp(&b.0));
        let variable = |(name, value)| v2::command::EnvironmentVariable { name, value };
        let command = v2::Command {
            arguments: action.arguments,
            environment_variables: environment.into_iter().map(variable).collect(),
            output_paths,
            working_directory: action.working_directory,
            ..v2::Command::default()
        };
        let command = self.put(Bytes::from(command.encode_to_vec())).await?;
        let message = v2::Action {
            command_digest: Some(wire_digest(&command)),
            input_root_digest: Some(wire_digest(&input_root)),
            timeout: action.timeout.map(|timeout| WireDuration {
                seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(timeout.subsec_nanos()).unwrap_or_default(),
            }),
            do_not_cache: action.do_not_cache,
            ..v2::Action::default()
        };
        let action = self.put(Bytes::from(message.encode_to_vec())).await?;
        Ok(CreatedAction { action, command })
    }

    /// Reads an action.
    pub async fn action(&self, digest: Digest) -> Result<v2::Action, ClientError> {
        self.message("action", digest).await
    }

    /// Reads a command.
    pub async fn command(&self, digest: Digest) -> Result<v2::Command, ClientError> {
        self.message("command", digest).await
    }

    async fn message<M: Message + Default>(
        &self,
        what: &str,
        digest: Digest,
    ) -> Result<M, ClientError> {
        let bytes = self.read_all(digest, MAX_MESSAGE_BYTES).await?;
        M::decode(bytes).map_err(|error| ClientError::invalid(format!("{what} {digest}"), error))
    }

    /// The result of an action; `None` when there is none.
    pub async fn action_result(
        &self,
        action: Digest,
    ) -> Result<Option<v2::ActionResult>, ClientError> {
        let Some(bytes) = self.encoded_result(action).await? else { return Ok(None) };
        decode_result(action, bytes).map(Some)
    }

    /// The same as the server has it.
    pub(super) async fn encoded_result(
        &self,
        action: Digest,
    ) -> Result<Option<Bytes>, ClientError> {
        let key = self.result_key(action);
        Ok(persist(|| self.results.get_all(&key, MAX_MESSAGE_BYTES)).await?)
    }

    /// Stores an encoded result.
    pub(super) async fn put_result(&self, action: Digest, data: Bytes) -> Result<(), ClientError> {
        let key = self.result_key(action);
        Ok(persist(|| self.results.put(&key, data.clone())).await?)
    }

    /// Where the size of an action is not known, servers are told another: those that go by the
    /// hash alone find the result all the same.
    fn result_key(&self, action: Digest) -> Key {
        let size_bytes = action.size_bytes.max(1);
        Key::action_result(self.instance, Digest { size_bytes, ..action })
    }

    /// Stores the result of an action. What it names must be on the server: nobody else is told
    /// of a result that cannot be had.
    pub async fn finish_action(
        self: &Arc<Self>,
        action: Digest,
        result: &v2::ActionResult,
    ) -> Result<(), ClientError> {
        let named = Named::of(self.function, result)?.all();
        let absent = self.absent(&named).await?;
        match absent.as_slice() {
            [] => {}
            [one] => return Err(ClientError::Absent(*one)),
            _ => return Err(ClientError::Missing(absent)),
        }
        // It may have left the server since it was begun; what is there must be one.
        match self.action(action).await {
            Err(ClientError::Absent(_)) => {}
            found => {
                let command = found?.command_digest;
                read_digest(self.function, command.as_ref(), &format!("action {action}"))?;
            }
        }
        self.put_result(action, Bytes::from(result.encode_to_vec())).await
    }
}

/// Reads the result of an action.
pub(super) fn decode_result(action: Digest, bytes: Bytes) -> Result<v2::ActionResult, ClientError> {
    v2::ActionResult::decode(bytes)
        .map_err(|error| ClientError::invalid(format!("result of {action}"), error))
}

/// A digest as messages have it.
pub fn wire_digest(digest: &Digest) -> v2::Digest {
    v2::Digest {
        hash: digest.hash_hex().as_str().to_owned(),
        size_bytes: i64::try_from(digest.size_bytes).unwrap_or(i64::MAX),
    }
}

/// A digest of a message; `what` it is of is named when it is none.
pub fn read_digest(
    function: DigestFunction,
    digest: Option<&v2::Digest>,
    what: &str,
) -> Result<Digest, ClientError> {
    let Some(digest) = digest else {
        return Err(ClientError::invalid(format!("{what:?}"), "has no digest"));
    };
    Digest::parse(function, digest.hash.as_bytes(), digest.size_bytes)
        .map_err(|error| ClientError::invalid(format!("{what:?}"), error))
}
