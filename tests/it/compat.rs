//! `serve --compat=bazel-remote`: what its users have behind them works here, and values of any
//! kind at `/ac/` are apart from action results.

use std::path::Path;
use std::process::Command;

use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::messages::GetActionResultRequest;
use prost::Message as _;
use tonic::{Code, Status};

use crate::support::http::{Http, Reply};
use crate::support::{Blob, Client, FullResult, Process, assert_code, disk};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PORTS: [&str; 2] = ["--http_address=127.0.0.1:0", "--grpc_address=127.0.0.1:0"];

/// `serve` with bazel-remote's flags.
fn command(directory: &Path, more: &[&str]) -> Command {
    let mut command = Process::command(&["serve", "--compat=bazel-remote", "--max_size", "1"]);
    command.arg("-dir").arg(directory).args(more);
    command
}

fn start(directory: &Path, more: &[&str]) -> Process {
    let mut command = command(directory, &PORTS);
    command.args(more);
    Process::spawn(command)
}

async fn call(process: &Process, method: &str, path: &str, body: &[u8]) -> Reply {
    let mut http = Http::to(process.http.parse().unwrap()).await;
    http.call(method, path, &[], body).await
}

async fn result_over_grpc(process: &Process, action: &Blob) -> Result<Vec<u8>, Status> {
    let client = Client::connect(&process.grpc).await;
    let request = GetActionResultRequest {
        action_digest: Some(action.wire()),
        ..GetActionResultRequest::default()
    };
    let reply = ActionCacheClient::new(client.channel()).get_action_result(request).await?;
    Ok(reply.into_inner().encode_to_vec())
}

#[tokio::test]
async fn a_cache_of_bazel_remotes_flags_serves_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(directory.path(), &["--admin-listen=off"]);
    let blob = Blob::new("of both");
    let path = format!("/any/instance/cas/{}", blob.digest.hash_hex().as_str());
    assert_eq!(call(&process, "PUT", &path, &blob.data).await.status, 200);
    let client = Client::connect(&process.grpc).await;
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    // No result, and validated.
    let path = format!("/ac/{HASH}");
    assert_eq!(call(&process, "PUT", &path, b"\xff\xff").await.status, 400);
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn values_of_any_kind_are_kept_at_ac_without_validation() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(directory.path(), &["--disable_http_ac_validation"]);
    let path = format!("/ac/{HASH}");
    assert_eq!(call(&process, "GET", &path, b"").await.status, 404);
    assert_eq!(call(&process, "HEAD", &path, b"").await.status, 404);
    assert_eq!(call(&process, "PUT", &path, b"\xff\xff").await.status, 200);
    for path in [path.clone(), format!("/of/any/instance{path}")] {
        let reply = call(&process, "GET", &path, b"").await;
        assert_eq!((reply.status, reply.body.as_slice()), (200, b"\xff\xff".as_slice()), "{path}");
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        let reply = call(&process, "HEAD", &path, b"").await;
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("2")), "{path}");
    }
    let large = Blob::random(1, 3_000_000).data;
    assert_eq!(call(&process, "PUT", &path, &large).await.status, 200, "the later one wins");
    assert_eq!(call(&process, "DELETE", &path, b"").await.status, 405);
    // Blobs are what they hash to all the same.
    assert_eq!(call(&process, "PUT", &format!("/cas/{HASH}"), b"x").await.status, 400);
    assert_eq!(call(&process, "GET", "/ac/0123", b"").await.status, 400);
    assert_eq!(process.stop().await.code(), Some(0));

    // Adopted values lie where these do: under the hash itself.
    let values = disk::files(&directory.path().join("values/actions"));
    let names = values.iter().map(|path| path.file_name().unwrap().to_str().unwrap());
    assert_eq!(names.filter(|name| name.starts_with(&format!("{HASH}-"))).count(), 1);
    let process = start(directory.path(), &["--disable_http_ac_validation"]);
    assert_eq!(call(&process, "GET", &path, b"").await.body, large);
}

#[tokio::test]
async fn values_at_ac_and_action_results_do_not_see_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(directory.path(), &["--disable_http_ac_validation"]);
    let full = FullResult::new("raw");
    for blob in full.blobs() {
        let path = format!("/cas/{}", blob.digest.hash_hex().as_str());
        assert_eq!(call(&process, "PUT", &path, &blob.data).await.status, 200);
    }
    // Even one that would be a complete result.
    let path = format!("/ac/{}", full.action.digest.hash_hex().as_str());
    let encoded = full.result.encode_to_vec();
    assert_eq!(call(&process, "PUT", &path, &encoded).await.status, 200);
    assert_code(result_over_grpc(&process, &full.action).await, Code::NotFound);
    assert_eq!(call(&process, "GET", &path, b"").await.body, encoded);
    assert_eq!(process.stop().await.code(), Some(0));
    // With validation it is no value that is asked for.
    let process = start(directory.path(), &[]);
    assert_eq!(call(&process, "GET", &path, b"").await.status, 404);
}

#[tokio::test]
async fn without_grpc_http_is_served_alone() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--http_address=127.0.0.1:0", "--grpc_address", "none"];
    let process = Process::spawn(command(directory.path(), &flags));
    assert_eq!(process.grpc, "");
    let blob = Blob::new("alone");
    let path = format!("/cas/{}", blob.digest.hash_hex().as_str());
    assert_eq!(call(&process, "PUT", &path, &blob.data).await.status, 200);
    assert_eq!(call(&process, "GET", &path, b"").await.body, blob.data);
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn what_a_server_behind_has_is_there() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let behind = start(directories[0].path(), &[]);
    let url = format!("--grpc_proxy.url=grpc://{}", behind.grpc);
    let process = start(directories[1].path(), &[&url]);
    let blob = Blob::new("behind");
    let client = Client::connect(&behind.grpc).await;
    client.put(&blob).await.unwrap();
    let client = Client::connect(&process.grpc).await;
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    // Nobody says the size of an action over HTTP, so nobody is asked for its result.
    let path = format!("/ac/{HASH}");
    assert_eq!(call(&process, "GET", &path, b"").await.status, 404);
    assert_eq!(call(&process, "PUT", &path, b"").await.status, 200);
    assert_eq!(call(&process, "GET", &path, b"").await.status, 200);
}

#[test]
fn everything_that_is_refused_is_said_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    let flags = ["--htpasswd_file=/p", "--s3.bucket=b", "--s3.region=r", "--prot=80"];
    let output = command(&root, &flags).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(64), 4), "{errors}");
    assert!(!root.exists());
}

#[tokio::test]
async fn a_converted_file_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = directory.path().join(name);
        let mut file = std::fs::File::create_new(&path).unwrap();
        std::io::Write::write_all(&mut file, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let convert = |path: &str| Process::command(&["config", "convert", path]).output().unwrap();
    let root = directory.path().join("cache");
    let yaml = format!("dir: {}\nmax_size: 1\ngrpc_address: 127.0.0.1:0\n", root.display());
    let yaml = write("bazel-remote.yml", yaml.as_bytes());
    let output = convert(&yaml);
    let errors = str::from_utf8(&output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(0), 1), "{errors}");
    assert!(errors.ends_with("--http-listen=:8080\n"), "{errors}");
    let json5 = write("castellan.json5", &output.stdout);
    let process = Process::spawn(Process::command(&["serve", &json5, "--http-listen=127.0.0.1:0"]));
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::new("converted");
    client.put(&blob).await.unwrap();
    assert_eq!(disk::blob_files(&root).len(), 1);

    let output = convert(&write("refused.yml", b"max_size: 1\nldap: {url: u}\n"));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0));
    assert!(errors.contains("refused.yml:2:13: ldap.url: is not supported"), "{errors}");
}
