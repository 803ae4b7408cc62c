//! Which server a command works with: flags of everything that is a client.

use clap::{Args, ValueEnum};

use crate::client::{ClientOptions, Reference, ReferenceKind, ServerAddress, TreeKind};
use crate::digest::{Digest, DigestFunction};

/// Where blobs, trees and actions are.
#[derive(Debug, Args)]
pub(super) struct RemoteFlags {
    /// The server: `grpc://HOST:PORT[/INSTANCE]`, the same with `grpcs://`, or `unix:PATH`.
    #[arg(long, env = "CASTELLAN_SERVER", value_name = "URL")]
    server: String,

    /// Its instance, where the address does not say it.
    #[arg(long, env = "CASTELLAN_INSTANCE", value_name = "NAME")]
    instance: Option<String>,

    #[command(flatten)]
    digests: FunctionFlags,

    /// Metadata sent with every call, such as `authorization=Bearer TOKEN`; may be given several
    /// times.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,

    /// Show no progress.
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// Print JSON: one object a line.
    #[arg(long)]
    pub(super) json: bool,
}

/// How digests are read.
#[derive(Debug, Args)]
pub(super) struct FunctionFlags {
    /// What digests are made with, and read as where they do not say it.
    #[arg(
        long,
        env = "CASTELLAN_DIGEST_FUNCTION",
        value_name = "FUNCTION",
        default_value = "sha256"
    )]
    digest_function: FunctionFlag,
}

/// A digest function.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FunctionFlag {
    Sha256,
    Blake3,
}

/// What a blob stands for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum TypeFlag {
    /// Itself.
    Blob,
    /// A directory, as a `Directory` message.
    Directory,
    /// A directory, as a `Tree` message.
    Tree,
}

impl From<TypeFlag> for ReferenceKind {
    fn from(flag: TypeFlag) -> Self {
        match flag {
            TypeFlag::Blob => Self::Blob,
            TypeFlag::Directory => Self::Directory,
            TypeFlag::Tree => Self::Tree,
        }
    }
}

impl RemoteFlags {
    /// What is connected to.
    pub(super) fn options(&self) -> Result<ClientOptions, String> {
        let server = ServerAddress::parse(&self.server, self.instance.as_deref());
        let server = server.map_err(|problem| format!("error: --server: {problem}"))?;
        let headers =
            headers("--header", &self.headers).map_err(|problem| format!("error: {problem}"))?;
        Ok(ClientOptions { server, function: self.digests.function(), headers })
    }

    /// Reads a digest and what it stands for.
    pub(super) fn reference(&self, text: &str) -> Result<Reference, String> {
        self.digests.reference("DIGEST", text)
    }

    /// Reads the digest of a blob; it may be called a directory by `kind` as well.
    pub(super) fn digest_of(
        &self,
        what: &str,
        text: &str,
        kind: Option<ReferenceKind>,
    ) -> Result<Digest, String> {
        let reference = self.digests.reference(what, text)?;
        if reference.kind.is_some_and(|it| it != ReferenceKind::Blob && Some(it) != kind) {
            return Err(format!("error: {what}: {text:?} is the digest of something else"));
        }
        Ok(reference.digest)
    }
}

impl FunctionFlags {
    pub(super) fn function(&self) -> DigestFunction {
        match self.digest_function {
            FunctionFlag::Sha256 => DigestFunction::Sha256,
            FunctionFlag::Blake3 => DigestFunction::Blake3,
        }
    }

    fn reference(&self, what: &str, text: &str) -> Result<Reference, String> {
        Reference::parse(text, self.function())
            .map_err(|problem| format!("error: {what}: {problem}"))
    }

    /// Reads the digest of a tree, as a `Directory` message where nothing before it says what it
    /// is.
    pub(super) fn tree(&self, text: &str) -> Result<(TreeKind, Digest), String> {
        let reference = self.reference("DIGEST", text)?;
        match reference.kind.unwrap_or(ReferenceKind::Directory) {
            ReferenceKind::Directory => Ok((TreeKind::Directories, reference.digest)),
            ReferenceKind::Tree => Ok((TreeKind::Tree, reference.digest)),
            ReferenceKind::Blob => Err(format!("error: DIGEST: {text:?} is no directory")),
        }
    }
}

/// Reads what is sent with every call.
pub(super) fn headers(flag: &str, texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let header = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("{flag}: {text:?} is not NAME=VALUE")),
    };
    texts.iter().map(header).collect()
}

/// What a blob stands for: what is said with it and what is said by `--type` must agree.
pub(super) fn kind_of(
    reference: &Reference,
    flag: Option<TypeFlag>,
    default: ReferenceKind,
) -> Result<ReferenceKind, String> {
    match (reference.kind, flag.map(ReferenceKind::from)) {
        (Some(said), Some(flag)) if said != flag => {
            Err(format!("error: --type: {reference} says something else"))
        }
        (said, flag) => Ok(said.or(flag).unwrap_or(default)),
    }
}
