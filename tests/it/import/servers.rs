//! Imports from servers: over REAPI and over HTTP.

use castellan_proto::v2::ActionResult;
use prost::Message as _;

use super::{actions, assert_all_hits, filled, import, list, number};
use crate::support::cli::{Cli, Proxy, make_file};
use crate::support::{Blob, TestServer, output_file};

fn grpc(server: &TestServer) -> String {
    format!("grpc://{}", server.server.grpc_address().unwrap())
}

fn http(server: &TestServer) -> String {
    format!("http://{}", server.server.http_address())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_from_another_server_with_everything_they_reach() {
    let (from, results) = filled(&["one", "two"]).await;
    let folder = tempfile::tempdir().unwrap();
    let list = list(&folder.path().join("actions"), actions(&results));
    for source in [grpc(&from), http(&from)] {
        let to = TestServer::start().await;
        let done = import(&to, &["--actions", &list, &source], 0);
        assert_eq!((number(&done, "taken_blobs"), number(&done, "taken_results")), (22, 2));
        assert_all_hits(&to, &results).await;
        // A second time nothing is asked for but whether it is there.
        let done = import(&to, &["--actions", &list, &source], 0);
        assert_eq!((number(&done, "taken_blobs"), number(&done, "present_results")), (0, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_come_from_another_server_by_their_digests() {
    let from = TestServer::start().await;
    let blobs = [Blob::new("small"), Blob::random(1, 3 << 20), Blob::random(2, 6 << 20)];
    let nowhere = Blob::new("nowhere");
    from.put(&blobs.iter().collect::<Vec<_>>()).await;
    let folder = tempfile::tempdir().unwrap();
    let list = list(&folder.path().join("digests"), blobs.iter().chain([&nowhere]));
    for source in [grpc(&from), http(&from)] {
        let to = TestServer::start().await;
        let done = import(&to, &["--digests", &list, &source], 1);
        assert_eq!((number(&done, "taken_blobs"), &done["skipped"]["absent"]), (3, &1.into()));
        for blob in &blobs {
            assert_eq!(to.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_a_hash_is_enough() {
    let (from, results) = filled(&["one"]).await;
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (digests, names) = (folder.path().join("digests"), folder.path().join("actions"));
    let extra = Blob::random(1, 100_000);
    let empty = Blob::new("");
    from.put(&[&extra]).await;
    let nowhere = Blob::new("nowhere").digest_hash();
    let text = [extra.digest_hash(), nowhere, empty.digest_hash()].join("\n");
    make_file(&digests, text.as_bytes(), false);
    make_file(&names, results[0].action.digest_hash().as_bytes(), false);
    let [digests, names] = [&digests, &names].map(|it| it.to_str().unwrap());
    let done = import(&to, &["--digests", digests, "--actions", names, &http(&from)], 1);
    assert_eq!((number(&done, "taken_blobs"), &done["skipped"]["absent"]), (12, &1.into()));
    assert_eq!(to.read(&extra.read_name()).await.unwrap(), extra.data);
    assert_all_hits(&to, &results).await;
    // REAPI names nothing without its size.
    let (code, _, errors) = Cli::of(&to).run(&["import", "--digests", digests, &grpc(&from)]);
    assert!(code == Some(1) && errors.contains("line 1"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_without_a_whole_result_is_skipped() {
    let (from, results) = filled(&["one"]).await;
    let folder = tempfile::tempdir().unwrap();
    let nothing = Blob::new("no result");
    let list = list(&folder.path().join("actions"), actions(&results).chain([&nothing]));
    for source in [grpc(&from), http(&from)] {
        let to = TestServer::start().await;
        let done = import(&to, &["--actions", &list, &source], 1);
        assert_eq!((number(&done, "taken_results"), &done["skipped"]["absent"]), (1, &1.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_from_a_server_goes_on_after_its_connection_broke() {
    let from = TestServer::start().await;
    let large = Blob::random(1, 9 << 20);
    from.put(&[&large]).await;
    let action = Blob::new("action");
    let result =
        ActionResult { output_files: vec![output_file("o", &large)], ..Default::default() };
    from.update_result(&action, result.encode_to_vec()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let list = list(&folder.path().join("actions"), [&action]);
    let to = TestServer::start().await;
    let proxy = Proxy::start(&from, &[], &[1 << 20, 4 << 20]).await;
    import(&to, &["--actions", &list, &proxy.address()], 0);
    assert!(proxy.cut_connections() >= 1, "nothing broke");
    assert_eq!(to.read(&large.read_name()).await.unwrap(), large.data);
    assert_eq!(to.get_result(&action).await.unwrap(), result.encode_to_vec());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_that_cannot_be_used_are_refused_by_name() {
    let to = TestServer::start().await;
    let cases: [(&[&str], &str); 6] = [
        (&["--digests", "-", "https://host/"], "https is not supported"),
        (&["--digests", "-", "http://"], "is not http://HOST"),
        (&["--digests", "-", "http://user@host/"], "is not http://HOST"),
        (&["grpc://127.0.0.1:1"], "--digests or --actions"),
        (&["--digests", "-", "archive.tar"], "are for servers"),
        (&["--digests", "-", "--source-header", "x", "http://host"], "--source-header"),
    ];
    for (arguments, problem) in cases {
        let (code, _, errors) = Cli::of(&to).run(&[&["import"], arguments].concat());
        assert!(code == Some(64) && errors.contains(problem), "{arguments:?}: {errors}");
    }
    let (code, _, errors) = Cli::of(&to).run(&["import", "--digests", "-", "grpc://127.0.0.1:1"]);
    assert!(code == Some(1) && errors.contains("SOURCE"), "{errors}");
}
