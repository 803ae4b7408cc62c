//! `GetTree`: a tree in pages, root first, breadth first, each distinct directory once.
//!
//! The order depends on the stored bytes alone, so a page token needs no state here: it names the
//! last directory sent, and the walk is done again up to it (reapi 30-34). Never recursive: the
//! shape of a tree is a client's choice.

use std::collections::{HashSet, VecDeque};
use std::fmt::Display;

use bytes::Bytes;
use castellan_proto::messages::{GetTreeRequest, GetTreeResponse};
use futures_util::stream::{self, Stream};
use tonic::Status;

use super::Shared;
use super::convert::{digest_function, required_digest};
use super::options::{CLIENT_MESSAGE_BYTES, GrpcOptions};
use super::status::{blob_not_found, invalid_field};
use super::trace::record_call;
use crate::cas::Cas;
use crate::digest::{Digest, DigestFunction};
use crate::encoded::view::{DirectoryNodes, Node, RawDigest};
use crate::store::StoreError;

/// The bytes of directories that one page collects; a client needs far less than its 4 MiB at a
/// time.
const PAGE_BYTES: usize = 1 << 20;
/// The largest directory: it must fit one message beside its token.
const MAX_DIRECTORY_BYTES: u64 = CLIENT_MESSAGE_BYTES - (64 << 10);
/// Directories between two yields.
const TURN: usize = 64;
/// Bytes of a token's check value.
const CHECK_BYTES: usize = 8;

/// Starts to send a tree. Cancel safe.
pub(super) async fn pages(
    shared: &Shared,
    request: GetTreeRequest,
) -> Result<impl Stream<Item = Result<GetTreeResponse, Status>> + use<>, Status> {
    let instance = shared.instances.get(&request.instance_name)?;
    let function = digest_function(&shared.options, request.digest_function)?;
    let root = required_digest("root_digest", function, request.root_digest.as_ref())?;
    record_call(&request.instance_name, Some(&root));
    let page_size = match usize::try_from(request.page_size) {
        Ok(0) => usize::MAX,
        Ok(page_size) => page_size,
        Err(_) => return Err(invalid_field("page_size", "is negative")),
    };
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(PageToken::parse(token, root)?),
    };
    let mut walk = Walk::new(instance.cas()?.uncounted(), root, Budget::of(&shared.options));
    let first = match after {
        None => walk.next().await?,
        Some(last_sent) => walk.next_after(last_sent).await?,
    };
    let pager = Pager { walk, pending: first, page_size };
    Ok(stream::try_unfold(pager, |mut pager| async move {
        let page = pager.next_page().await?;
        Ok(page.map(|page| (page, pager)))
    }))
}

/// Cuts a walk into pages, one directory ahead, so that the last page is known to be the last.
#[derive(Debug)]
struct Pager {
    walk: Walk,
    pending: Option<Found>,
    page_size: usize,
}

impl Pager {
    async fn next_page(&mut self) -> Result<Option<GetTreeResponse>, Status> {
        let Some(first) = self.pending.take() else {
            return Ok(None);
        };
        let mut last = first.digest;
        let mut page_bytes = first.encoded.len();
        let mut directories = vec![first.encoded];
        while let Some(next) = self.walk.next().await? {
            page_bytes = page_bytes.saturating_add(next.encoded.len());
            if directories.len() >= self.page_size || page_bytes > PAGE_BYTES {
                self.pending = Some(next);
                break;
            }
            last = next.digest;
            directories.push(next.encoded);
        }
        let next_page_token = match self.pending {
            Some(_) => PageToken::after(last).encode(self.walk.root),
            None => String::new(),
        };
        Ok(Some(GetTreeResponse { directories, next_page_token }))
    }
}

/// What is left of the limits on one tree.
#[derive(Debug)]
struct Budget {
    directories: usize,
    max_bytes: u64,
    bytes_left: u64,
    depth: u32,
}

impl Budget {
    fn of(options: &GrpcOptions) -> Self {
        Self {
            directories: options.max_tree_directories,
            max_bytes: options.max_tree_bytes,
            bytes_left: options.max_tree_bytes,
            depth: options.max_tree_depth,
        }
    }

    /// Pays for one directory.
    fn spend(&mut self, size_bytes: u64) -> Result<(), Status> {
        let left = self.bytes_left.checked_sub(size_bytes);
        self.bytes_left = left.ok_or_else(|| too_large("bytes", self.max_bytes))?;
        Ok(())
    }
}

fn too_large(what: &str, limit: impl Display) -> Status {
    invalid_field("root_digest", format_args!("the tree has more than {limit} {what}, the limit"))
}

/// A directory of the tree that is present.
#[derive(Debug)]
struct Found {
    digest: Digest,
    encoded: Bytes,
}

/// A breadth-first walk over the distinct directories that are present.
#[derive(Debug)]
struct Walk {
    cas: Cas,
    root: Digest,
    queue: VecDeque<(Digest, u32)>,
    /// Every digest that was ever queued: shared subtrees are visited once, cycles end.
    seen: HashSet<Digest>,
    budget: Budget,
    /// Directories looked for.
    steps: usize,
}

impl Walk {
    fn new(cas: Cas, root: Digest, budget: Budget) -> Self {
        let queue = VecDeque::from([(root, 1)]);
        Self { cas, root, queue, seen: HashSet::from([root]), budget, steps: 0 }
    }

    /// The next directory; a missing one is left out, with what only it leads to.
    async fn next(&mut self) -> Result<Option<Found>, Status> {
        while let Some((digest, depth)) = self.queue.pop_front() {
            self.steps += 1;
            // Directories in memory would keep a runtime thread from its other work.
            if self.steps.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
            if let Some(encoded) = self.load(digest).await? {
                self.enqueue_children(digest, depth, &encoded)?;
                return Ok(Some(Found { digest, encoded }));
            }
            if digest == self.root {
                return Err(blob_not_found(digest));
            }
        }
        Ok(None)
    }

    /// The first directory behind the one that a token names.
    async fn next_after(&mut self, last_sent: PageToken) -> Result<Option<Found>, Status> {
        while let Some(found) = self.next().await? {
            if PageToken::after(found.digest) == last_sent {
                return self.next().await;
            }
        }
        // The directory or the way to it has gone since the token was made.
        Err(Status::aborted("page_token: the tree has lost directories since; start again"))
    }

    /// Reads a directory; `None` when it is absent, and only what is present is paid for.
    async fn load(&mut self, digest: Digest) -> Result<Option<Bytes>, Status> {
        if digest.size_bytes > MAX_DIRECTORY_BYTES {
            if digest != self.root && !self.cas.contains(digest).await? {
                return Ok(None);
            }
            return Err(self.no_directory(digest, "is larger than a Directory can be"));
        }
        match self.cas.read_all(digest, digest.size_bytes).await {
            Ok(Some(encoded)) => {
                self.budget.spend(digest.size_bytes)?;
                Ok(Some(encoded))
            }
            Ok(None) => Ok(None),
            // What is found corrupt has been removed: absent from now on.
            Err(StoreError::Corrupt { .. }) if digest != self.root => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn enqueue_children(
        &mut self,
        parent: Digest,
        depth: u32,
        encoded: &Bytes,
    ) -> Result<(), Status> {
        let children = children(parent.function, encoded)
            .map_err(|problem| self.no_directory(parent, problem))?;
        if !children.is_empty() && depth >= self.budget.depth {
            return Err(too_large("levels", self.budget.depth));
        }
        for child in children {
            if self.seen.insert(child) {
                self.queue.push_back((child, depth + 1));
            }
        }
        if self.seen.len() > self.budget.directories {
            return Err(too_large("directories", self.budget.directories));
        }
        Ok(())
    }

    /// The root is the client's choice; a child is named by a blob that was stored as a directory.
    fn no_directory(&self, digest: Digest, problem: &str) -> Status {
        if digest == self.root {
            return invalid_field("root_digest", format_args!("blob {digest} {problem}"));
        }
        Status::failed_precondition(format!("blob {digest}, named as a directory, {problem}"))
    }
}

/// The directories that an encoded `Directory` names, in its order.
fn children(function: DigestFunction, encoded: &[u8]) -> Result<Vec<Digest>, &'static str> {
    let mut digests = Vec::new();
    for node in DirectoryNodes::new(encoded) {
        match node.map_err(|_| "is not an encoded Directory")? {
            // Few byte strings that are no Directory decode, and fewer name a digest for each file.
            Node::File(file) if file == RawDigest::default() => {
                return Err("has a file without a digest");
            }
            Node::Directory(child) => {
                let child = child.parse(function);
                digests.push(child.map_err(|_| "has a malformed directory digest")?);
            }
            Node::File(_) | Node::Other => {}
        }
    }
    Ok(digests)
}

/// The directory after which a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PageToken {
    hash: [u8; crate::digest::HASH_BYTES],
    size_bytes: u64,
}

impl PageToken {
    const ENCODED_BYTES: usize = CHECK_BYTES + crate::digest::HASH_BYTES + 8;

    fn after(digest: Digest) -> Self {
        Self { hash: digest.hash, size_bytes: digest.size_bytes }
    }

    /// Reads a token that was made for this very root.
    fn parse(token: &str, root: Digest) -> Result<Self, Status> {
        let invalid =
            || invalid_field("page_token", "is not one this server made for this root_digest");
        let mut bytes = [0; Self::ENCODED_BYTES];
        const_hex::decode_to_slice(token, &mut bytes).map_err(|_| invalid())?;
        let (check, rest) = bytes.split_first_chunk::<CHECK_BYTES>().ok_or_else(invalid)?;
        let (hash, size) = rest.split_first_chunk().ok_or_else(invalid)?;
        let size = size.first_chunk().ok_or_else(invalid)?;
        let parsed = Self { hash: *hash, size_bytes: u64::from_be_bytes(*size) };
        if *check != parsed.check(root) {
            return Err(invalid());
        }
        Ok(parsed)
    }

    fn encode(&self, root: Digest) -> String {
        let mut bytes = Vec::with_capacity(Self::ENCODED_BYTES);
        bytes.extend_from_slice(&self.check(root));
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&self.size_bytes.to_be_bytes());
        const_hex::encode(bytes)
    }

    /// Ties a token to its root, so that one of another tree is refused, not misread.
    fn check(&self, root: Digest) -> [u8; CHECK_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"castellan GetTree page token 1\0");
        hasher.update(root.to_string().as_bytes());
        hasher.update(&self.hash);
        hasher.update(&self.size_bytes.to_be_bytes());
        let mut check = [0; CHECK_BYTES];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}
