//! Action results, and everything they name.

use bytes::Bytes;
use castellan_proto::messages::{GetActionResultRequest, UpdateActionResultRequest};
use castellan_proto::v2;
use prost::Message as _;
use tonic::Status;

use super::{Blob, METHODS, TestServer, directory, raw_call};

/// A result that names a blob in every way there is.
pub(crate) struct FullResult {
    pub(crate) action: Blob,
    pub(crate) result: v2::ActionResult,
    /// What it names and how, none of it named twice.
    pub(crate) parts: Vec<(&'static str, Blob)>,
}

/// An output file.
pub(crate) fn output_file(path: &str, blob: &Blob) -> v2::OutputFile {
    v2::OutputFile {
        path: path.to_owned(),
        digest: Some(blob.v2()),
        is_executable: true,
        ..v2::OutputFile::default()
    }
}

/// An encoded `Tree` of encoded directories, the root first.
pub(crate) fn tree(directories: &[&Blob]) -> Blob {
    let mut decoded = directories.iter().map(|it| v2::Directory::decode(&*it.data).unwrap());
    let message = v2::Tree { root: decoded.next(), children: decoded.collect() };
    Blob::new(message.encode_to_vec())
}

impl FullResult {
    /// One that shares no blob with that of another label.
    pub(crate) fn new(label: &str) -> Self {
        let text = |name: &str| Blob::new(format!("{name} of {label}"));
        let [file, stdout, stderr] = ["file", "stdout", "stderr"].map(text);
        // The directories of a tree are in its blob: they are none of its parts.
        let [shallow, deep] = ["shallow", "deep"].map(text);
        let leaf = directory(&[("deep", &deep)], &[]);
        let child = directory(&[], &[("leaf", &leaf)]);
        let root = directory(&[("shallow", &shallow)], &[("child", &child)]);
        let tree = tree(&[&root, &child, &leaf]);
        // Those of a hierarchy are blobs of their own.
        let [top_file, low_file] = ["top", "low"].map(text);
        let low = directory(&[("low", &low_file)], &[]);
        let middle = directory(&[], &[("low", &low)]);
        let top = directory(&[("top", &top_file)], &[("middle", &middle)]);
        let result = v2::ActionResult {
            output_files: vec![output_file("out/file", &file)],
            output_directories: vec![
                v2::OutputDirectory {
                    path: "out/tree".to_owned(),
                    tree_digest: Some(tree.v2()),
                    is_topologically_sorted: true,
                    ..v2::OutputDirectory::default()
                },
                v2::OutputDirectory {
                    path: "out/hierarchy".to_owned(),
                    root_directory_digest: Some(top.v2()),
                    ..v2::OutputDirectory::default()
                },
            ],
            stdout_digest: Some(stdout.v2()),
            stderr_digest: Some(stderr.v2()),
            exit_code: 3,
            ..v2::ActionResult::default()
        };
        let parts = vec![
            ("output file", file),
            ("stdout", stdout),
            ("stderr", stderr),
            ("tree", tree),
            ("file in the root of a tree", shallow),
            ("file in a child of a tree", deep),
            ("root of a hierarchy", top),
            ("middle of a hierarchy", middle),
            ("leaf of a hierarchy", low),
            ("file in the root of a hierarchy", top_file),
            ("file in the leaf of a hierarchy", low_file),
        ];
        Self { action: text("action"), result, parts }
    }

    /// The blobs it names.
    pub(crate) fn blobs(&self) -> Vec<&Blob> {
        self.parts.iter().map(|(_, blob)| blob).collect()
    }
}

impl TestServer {
    /// Stores an encoded result as it is, in the empty instance.
    pub(crate) async fn update_result(
        &self,
        action: &Blob,
        encoded: impl Into<Bytes>,
    ) -> Result<Bytes, Status> {
        let request = UpdateActionResultRequest {
            action_digest: Some(action.wire()),
            action_result: Some(encoded.into()),
            digest_function: action.digest.function.to_wire(),
            ..UpdateActionResultRequest::default()
        };
        let request = vec![request.encode_to_vec().into()];
        Ok(raw_call(&self.channel, METHODS[6], request).await?.remove(0))
    }

    /// The encoded result of an action, exactly as it came over the wire.
    pub(crate) async fn get_result(&self, action: &Blob) -> Result<Bytes, Status> {
        self.inlined_result(action, [false, false], &[]).await
    }

    /// The same, asking for stdout, stderr and some files inside it.
    pub(crate) async fn inlined_result(
        &self,
        action: &Blob,
        [inline_stdout, inline_stderr]: [bool; 2],
        files: &[&str],
    ) -> Result<Bytes, Status> {
        let request = GetActionResultRequest {
            action_digest: Some(action.wire()),
            inline_stdout,
            inline_stderr,
            inline_output_files: files.iter().map(|&it| it.to_owned()).collect(),
            digest_function: action.digest.function.to_wire(),
            ..GetActionResultRequest::default()
        };
        let request = vec![request.encode_to_vec().into()];
        Ok(raw_call(&self.channel, METHODS[5], request).await?.remove(0))
    }
}
