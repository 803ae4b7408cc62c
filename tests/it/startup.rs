//! A start on a directory that holds many blobs: the first answer is exact, whatever came before.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use castellan::digest::Digest;

use crate::support::items::find_present;
use crate::support::{Blob, Client, Process};

const ENTRIES: u64 = 20_000;
/// What was written before, by a process whose generations are those of a first start.
const FIRST_GENERATION: u64 = 1 << 40;
/// Of these the bytes are read too: every so many.
const SAMPLE: usize = 200;

/// A blob of 100 to 199 bytes.
fn blob(seed: u64) -> Blob {
    Blob::random(seed, 100 + usize::try_from(seed % 100).unwrap())
}

fn path_of(root: &Path, seed: u64, digest: &Digest) -> PathBuf {
    let hash = digest.hash_hex();
    let (hash, generation) = (hash.as_str(), FIRST_GENERATION + seed);
    let name = format!("{}/{hash}-{}.{generation}", &hash[..2], digest.size_bytes);
    root.join("blobs/sha256").join(name)
}

/// A directory that a process has filled that was killed; the digests in it.
fn filled(root: &Path) -> Vec<Digest> {
    for shard in 0..256 {
        std::fs::create_dir_all(root.join(format!("blobs/sha256/{shard:02x}"))).unwrap();
    }
    let mut format = std::fs::File::create_new(root.join("FORMAT")).unwrap();
    format.write_all(b"castellan 1\nepoch 1\n").unwrap();
    let mut digests = Vec::new();
    for seed in 0..ENTRIES {
        let blob = blob(seed);
        let path = path_of(root, seed, &blob.digest);
        std::fs::File::create_new(path).unwrap().write_all(&blob.data).unwrap();
        digests.push(blob.digest);
    }
    digests
}

/// The first request of a process asks for everything.
async fn answers_exactly(process: &Process, digests: &[Digest], gone: &HashSet<Digest>) -> Client {
    let client = Client::connect(&process.grpc).await;
    let never = (ENTRIES..2 * ENTRIES).map(|seed| blob(seed).digest);
    let asked: Vec<Digest> = digests.iter().copied().chain(never).collect();
    let present = find_present(&client, &asked).await;
    let expected: HashSet<Digest> =
        digests.iter().copied().filter(|it| !gone.contains(it)).collect();
    let difference = present.symmetric_difference(&expected).count();
    assert_eq!(difference, 0, "{} of {} present", present.len(), expected.len());
    for seed in (0..ENTRIES).step_by(SAMPLE) {
        let blob = blob(seed);
        if expected.contains(&blob.digest) {
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
    client
}

#[tokio::test]
async fn i5_i19_a_start_answers_exactly_from_the_first_request_on() {
    let memory = Path::new("/dev/shm");
    let directory =
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.unwrap();
    let root = directory.path();
    let mut digests = filled(root);
    let mut gone = HashSet::new();
    let serve = || Process::serve(root, &["--max-size", "1GiB", "--log", "warn"]);
    for round in 0..3 {
        let process = serve();
        let client = answers_exactly(&process, &digests, &gone).await;
        for seed in 0..50 {
            let blob = Blob::random(1 << (32 + round) | seed, 1000);
            client.put(&blob).await.unwrap();
            digests.push(blob.digest);
        }
        process.kill();
        let process = serve();
        drop(answers_exactly(&process, &digests, &gone).await);
        assert_eq!(process.stop().await.code(), Some(0));
        // While nobody runs, somebody deletes.
        for seed in (round..ENTRIES).step_by(777) {
            let digest = blob(seed).digest;
            #[expect(clippy::disallowed_methods, reason = "does what somebody else would")]
            std::fs::remove_file(path_of(root, seed, &digest)).unwrap();
            gone.insert(digest);
        }
    }
    drop(answers_exactly(&serve(), &digests, &gone).await);
}
