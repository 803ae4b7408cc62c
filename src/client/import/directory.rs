//! The directory of another cache, or of this one when it does not run.

use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::super::{Client, ClientError, DIGESTS_PER_QUESTION};
use super::walk::{Entry, Layout, Walk};
use super::{Import, Item, ItemBytes, NewResult, Reason};
use crate::digest::Digest;
use crate::store::Namespace;
use crate::trees::on_disk::Folder;

/// Names that wait to be asked for.
const QUEUED: usize = 4096;
/// Questions, and what follows of them, at once.
const QUESTIONS: usize = 2;
/// Results that are read before they are stored.
const RESULTS: usize = 64;
/// Actions that are remembered.
const MAX_ACTIONS: usize = 10_000_000;

/// What is not said by the directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryOptions {
    /// Whether a directory of `NativeLink` has action results and no blobs.
    pub holds_results: bool,
    /// Of which instance of a Castellan results are taken.
    pub instance_name: String,
    /// The instance whose results a bazel-remote keeps apart from those of others, if it does: in
    /// its own directory, or in that of a Castellan that has taken it over.
    pub mangled_for: Option<String>,
}

impl Client {
    async fn walk(&self, path: &Path, options: &DirectoryOptions) -> Result<Walk, ClientError> {
        let path = path.to_owned();
        let function = self.function;
        let namespace = Namespace::of_instance(&options.instance_name);
        let holds_results = options.holds_results;
        let mangled_for = options.mangled_for.clone();
        let open = move || {
            let failed = |error| ClientError::file("open", &path, error);
            let root = Folder::open_root(&path).map_err(failed)?;
            let layout = Layout::of(&root).map_err(failed)?.ok_or_else(|| {
                let problem = "is no directory of Castellan, NativeLink or bazel-remote";
                ClientError::unfit(&path, problem)
            })?;
            let root = Arc::new(root);
            Ok(Walk { root, layout, function, namespace, holds_results, mangled_for })
        };
        self.jobs.run(open).await
    }

    /// The actions of which a directory has results.
    pub async fn actions_of_directory(
        &self,
        path: &Path,
        options: &DirectoryOptions,
    ) -> Result<Vec<Digest>, ClientError> {
        let walk = self.walk(path, options).await?;
        let path = path.to_owned();
        let list = move || {
            let mut actions = Vec::new();
            let walked = walk.results(|entry| {
                if let Entry::Result(action, _) = entry {
                    if actions.len() == MAX_ACTIONS {
                        return Err(std::io::Error::other("has too many results"));
                    }
                    actions.push(action);
                }
                Ok(())
            });
            walked.map_err(|error| ClientError::file("list", path, error))?;
            Ok(actions)
        };
        self.jobs.run(list).await
    }
}

impl Import {
    /// Imports a directory: of Castellan, `NativeLink` or bazel-remote, as what is in it says.
    pub async fn directory(
        self: &Arc<Self>,
        path: &Path,
        options: &DirectoryOptions,
    ) -> Result<(), ClientError> {
        let walk = Arc::new(self.target.walk(path, options).await?);
        self.count(&walk, path).await?;
        let (names, queue) = mpsc::channel(QUEUED);
        let blobs = Arc::clone(&walk);
        let walking = self.walking(path, move || blobs.blobs(|it| hand_on(&names, it)));
        tokio::try_join!(walking, self.take_blobs(queue))?;
        let (names, queue) = mpsc::channel(QUEUED);
        let walking = self.walking(path, move || walk.results(|it| hand_on(&names, it)));
        tokio::try_join!(walking, self.take_results(queue))?;
        Ok(())
    }

    async fn walking(
        &self,
        path: &Path,
        walk: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), ClientError> {
        let path = path.to_owned();
        let job = move || match walk() {
            // Whoever takes what is found has failed, and says so.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            walked => walked.map_err(|error| ClientError::file("list", path, error)),
        };
        self.target.jobs.run(job).await
    }

    /// Goes through the names beforehand, so that it is known how long it takes.
    async fn count(self: &Arc<Self>, walk: &Arc<Walk>, path: &Path) -> Result<(), ClientError> {
        let (import, walk) = (Arc::clone(self), Arc::clone(walk));
        let counting = self.walking(path, move || {
            walk.blobs(|entry| {
                if let Entry::Blob(digest, _) = entry {
                    import.progress.expect(1, digest.size_bytes);
                }
                Ok(())
            })
        });
        counting.await?;
        self.progress.expect_no_more();
        Ok(())
    }

    async fn take_blobs(self: &Arc<Self>, queue: mpsc::Receiver<Entry>) -> Result<(), ClientError> {
        let batches = batches(queue, DIGESTS_PER_QUESTION).map(|batch| {
            let import = Arc::clone(self);
            async move {
                let mut items = Vec::with_capacity(batch.len());
                for entry in batch {
                    match entry {
                        Entry::Blob(digest, place) => {
                            items.push(Item { digest, bytes: ItemBytes::File(place) });
                        }
                        other => import.not_taken(other),
                    }
                }
                import.blobs(items).await
            }
        });
        batches.buffer_unordered(QUESTIONS).try_collect().await
    }

    async fn take_results(
        self: &Arc<Self>,
        queue: mpsc::Receiver<Entry>,
    ) -> Result<(), ClientError> {
        let mut batches = std::pin::pin!(batches(queue, RESULTS));
        while let Some(batch) = batches.next().await {
            let mut results = Vec::new();
            for entry in batch {
                match entry {
                    Entry::Result(action, place) => {
                        let name = place.path();
                        match self.target.jobs.run(move || place.read_result()).await {
                            Ok(encoded) => results.push(NewResult { action, encoded, name }),
                            Err(error) => self.skip(name, Reason::of_result(&error), error)?,
                        }
                    }
                    other => self.not_taken(other),
                }
            }
            self.results(results).await?;
        }
        Ok(())
    }

    fn not_taken(&self, entry: Entry) {
        match entry {
            Entry::Other(name, problem) => {
                self.tally.skip(name, Reason::BadName, problem.to_owned());
            }
            Entry::Foreign => self.tally.foreign_result(),
            Entry::Blob(..) | Entry::Result(..) => {}
        }
    }
}

fn hand_on(to: &mpsc::Sender<Entry>, entry: Entry) -> std::io::Result<()> {
    to.blocking_send(entry).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
}

/// What comes, some of it at a time.
fn batches(queue: mpsc::Receiver<Entry>, limit: usize) -> impl stream::Stream<Item = Vec<Entry>> {
    stream::unfold(queue, move |mut queue| async move {
        let mut batch = Vec::new();
        let count = queue.recv_many(&mut batch, limit).await;
        (count > 0).then_some((batch, queue))
    })
}
