//! Archives of strangers: nothing of them is believed, and nothing of them is waited for.

use std::path::Path;
use std::sync::Arc;

use castellan::client::{
    Client, ClientError, ClientOptions, Import, ImportOptions, Imported, Progress, ServerAddress,
};
use castellan::digest::DigestFunction;
use prost::Message as _;
use tar::{Builder, EntryType, Header};

use super::{import, number};
use crate::support::cli::{Cli, make_file};
use crate::support::{Blob, FullResult, TestServer, output_file, random_of};

const MAGIC: &str = "castellan-archive/1";

/// An archive that is put together member by member.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new())).member(MAGIC, b"")
    }

    fn member(self, name: &str, data: &[u8]) -> Self {
        self.raw(name.as_bytes(), EntryType::Regular, data.len() as u64, data)
    }

    /// A member whose header says whatever it likes.
    fn raw(mut self, name: &[u8], kind: EntryType, size_bytes: u64, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size_bytes);
        header.set_mode(0o777);
        if kind == EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn blob(self, blob: &Blob) -> Self {
        self.member(&blob_name(blob), &blob.data)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn blob_name(blob: &Blob) -> String {
    format!("blobs/sha256/{}-{}", blob.digest_hash(), blob.digest.size_bytes)
}

fn action_name(action: &Blob) -> String {
    format!("actions/sha256/{}-{}", action.digest_hash(), action.digest.size_bytes)
}

/// Imports bytes; what is printed and what is said of each thing that is skipped.
#[track_caller]
fn import_bytes(server: &TestServer, bytes: &[u8], code: i32) -> (serde_json::Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let (archive, report) = (folder.path().join("archive"), folder.path().join("report"));
    make_file(&archive, bytes, false);
    let flags = ["--report", report.to_str().unwrap(), archive.to_str().unwrap()];
    let done = import(server, &flags, code);
    (done, std::fs::read_to_string(report).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_no_export_writes_are_skipped_by_name() {
    let server = TestServer::start().await;
    let (good, late) = (Blob::new("good"), Blob::new("behind all of them"));
    let name = blob_name(&good);
    let upper = format!("blobs/sha256/{}-4", good.digest_hash().to_uppercase());
    let bad_names = [
        "../../etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
        format!("/{name}"),
        format!("./{name}"),
        format!("blobs/../{name}"),
        format!("{name}/"),
        format!("{name}.exec"),
        name.replace("-4", "-04"),
        name.replace("-4", "--4"),
        name.replace("-4", "-99999999999999999999"),
        name.replace("sha256", "md5"),
        upper,
        "blobs/sha256".to_owned(),
        "castellan-archive/1".to_owned(),
        "\u{1b}[2J".to_owned(),
    ];
    let mut archive = Archive::new().blob(&good);
    for name in &bad_names {
        archive = archive.member(name, &good.data);
    }
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Char,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ];
    for kind in kinds {
        archive = archive.raw(name.as_bytes(), kind, 4, b"evil");
    }
    let bytes = archive.blob(&late).blob(&good).bytes();
    let (done, report) = import_bytes(&server, &bytes, 1);
    assert_eq!(done["skipped"]["bad_name"], bad_names.len() + kinds.len(), "{report}");
    assert_eq!(report.lines().count(), bad_names.len() + kinds.len(), "{report}");
    assert!(!report.contains('\u{1b}'), "{report:?}");
    assert!(server.missing(&[&good, &late]).await.is_empty());
    assert_eq!(server.read(&good.read_name()).await.unwrap(), good.data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_of_nothing_but_odd_members_is_not_read_to_its_end() {
    let server = TestServer::start().await;
    let (good, late) = (Blob::new("good"), Blob::new("behind all of them"));
    let odd = (0..10_001).fold(Archive::new().blob(&good), |it, _| it.member("odd", b""));
    let (done, report) = import_bytes(&server, &odd.blob(&late).bytes(), 1);
    assert_eq!((&done["skipped"]["bad_name"], report.lines().count()), (&10_001.into(), 10_001));
    assert_eq!(server.missing(&[&good, &late]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_their_digests_are_not_stored() {
    let server = TestServer::start().await;
    let good = Blob::new("good");
    let mut archive = Archive::new();
    let mut bad = Vec::new();
    // One that is asked for with others, one that is sent whole, one that is sent in parts.
    for (seed, size) in [(1, 10), (2, 3 << 20), (3, 5 << 20)] {
        let blob = Blob::random(seed, size);
        archive = archive.member(&blob_name(&blob), &Blob::random(seed + 9, size).data);
        bad.push(blob);
        let longer = Blob::random(seed + 20, size);
        archive = archive.member(&blob_name(&longer), &Blob::random(seed + 20, size + 1).data);
        bad.push(longer);
    }
    // A right one under the same name comes later.
    archive = archive.blob(&bad[0]).blob(&good);
    let (done, report) = import_bytes(&server, &archive.bytes(), 1);
    assert_eq!(done["skipped"]["wrong_hash"], 3, "{report}");
    assert_eq!(done["skipped"]["wrong_size"], 3, "{report}");
    assert_eq!(server.missing(&bad.iter().collect::<Vec<_>>()).await.len(), 5);
    assert!(server.missing(&[&bad[0], &good]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_cannot_be_had_are_not_stored() {
    let server = TestServer::start().await;
    let [lacking, garbage, outside, undigested, large] =
        ["lacking", "garbage", "outside", "undigested", "large"].map(|it| Blob::new(it.to_owned()));
    let full = FullResult::new("lacks its last blob");
    let mut archive = Archive::new();
    for blob in &full.blobs()[1..] {
        archive = archive.blob(blob);
    }
    let good = Blob::new("good");
    let result_of =
        |file| castellan_proto::v2::ActionResult { output_files: vec![file], ..Default::default() };
    let leads_out = result_of(output_file("../out", &good)).encode_to_vec();
    let mut file = output_file("out", &good);
    file.digest = None;
    let archive = archive
        .blob(&good)
        .member(&action_name(&lacking), &full.result.encode_to_vec())
        .member(&action_name(&garbage), b"\xff\xff\xff")
        .member(&action_name(&outside), &leads_out)
        .member(&action_name(&undigested), &result_of(file).encode_to_vec())
        .member(&action_name(&large), &vec![0; 5 << 20]);
    let (done, report) = import_bytes(&server, &archive.bytes(), 1);
    assert_eq!(done["skipped"]["incomplete_result"], 1, "{report}");
    assert_eq!(done["skipped"]["invalid_result"], 3, "{report}");
    assert_eq!(done["skipped"]["too_large"], 1, "{report}");
    assert_eq!(number(&done, "taken_results"), 0);
    for action in [&lacking, &garbage, &outside, &undigested, &large] {
        assert!(server.get_result(action).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_lies_about_its_length_ends_at_once() {
    let server = TestServer::start().await;
    let good = Blob::new("good");
    let huge = 1 << 62;
    let hash = Blob::new("huge").digest_hash();
    let name = format!("blobs/sha256/{hash}-{huge}");
    let names = [name, format!("actions/sha256/{hash}-5"), "no name".to_owned()];
    for name in names {
        let archive = Archive::new().blob(&good);
        let archive = archive.raw(name.as_bytes(), EntryType::Regular, huge, b"few");
        let (done, report) = import_bytes(&server, &archive.bytes(), 1);
        assert_eq!(number(&done, "taken_blobs") + number(&done, "present_blobs"), 1, "{report}");
    }
    assert!(server.missing(&[&good]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_archive_is_refused() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut damaged = Archive::new().blob(&Blob::new("good")).bytes();
    damaged[512 + 20] ^= 1;
    let stranger = Builder::new(Vec::new());
    let other = Archive(stranger).member("castellan-archive/2", b"").bytes();
    let foreign = Archive(Builder::new(Vec::new())).member("README", b"hello").bytes();
    let cases: [(&str, &[u8]); 6] = [
        ("is no archive that", b""),
        ("is no archive that", b"short"),
        ("is no archive that", &Blob::random(1, 5000).data),
        ("is no archive that", &foreign),
        ("a version that this program does not know", &other),
        ("a header is none or damaged", &damaged),
    ];
    for (problem, bytes) in cases {
        let path = folder.path().join("archive");
        make_file(&path, bytes, false);
        let (code, _, errors) = Cli::of(&server).run(&["import", path.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains(problem), "{problem}: {errors}");
    }
    let (code, _, errors) = Cli::of(&server).run(&["import", "/nowhere/at/all"]);
    assert!(code == Some(1) && errors.contains("/nowhere/at/all"), "{errors}");
}

async fn import_here(client: &Arc<Client>, archive: &Path) -> (Imported, Result<(), ClientError>) {
    let options = ImportOptions { jobs: 4, bytes_per_second: None, is_dry_run: false };
    let progress = Arc::new(Progress::default());
    let import = Import::new(Arc::clone(client), progress, options, Box::new(|_| {}));
    let outcome = import.archive(archive).await;
    (import.imported(), outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_in_an_archive_is_noticed_or_does_not_matter() {
    let full = FullResult::new("changed");
    let mut archive = Archive::new();
    for blob in full.blobs() {
        archive = archive.blob(blob);
    }
    let encoded = full.result.encode_to_vec();
    let whole = archive.member(&action_name(&full.action), &encoded).bytes();
    let server = TestServer::start().await;
    let address = format!("grpc://{}", server.server.grpc_address().unwrap());
    let client = Client::connect(ClientOptions {
        server: ServerAddress::parse(&address, None).unwrap(),
        function: DigestFunction::Sha256,
        headers: Vec::new(),
    });
    let client = client.await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let mut random = random_of("changed archives");
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => drop(bytes.drain(at..(at + random.usize(..2000)).min(whole.len()))),
            _ => bytes[at..].fill(random.u8(..)),
        }
        make_file(&path, &bytes, false);
        let (imported, outcome) = import_here(&client, &path).await;
        // No more comes of it than was in it.
        let blobs = imported.taken_blobs + imported.present_blobs;
        assert!(blobs <= full.parts.len() as u64, "{imported:?} {outcome:?}");
        for blob in full.blobs() {
            if let Ok(found) = server.read(&blob.read_name()).await {
                assert_eq!(found, blob.data);
            }
        }
        if let Ok(found) = server.get_result(&full.action).await {
            // The bytes of a result have no hash that they could be compared with.
            castellan_proto::v2::ActionResult::decode(&*found).unwrap();
        }
    }
    make_file(&path, &whole, false);
    assert_eq!(import_here(&client, &path).await.0.skipped_count(), 0);
}
