//! Imports from servers: over REAPI and over HTTP.

use std::sync::Arc;

use castellan_proto::v2::ActionResult;
use prost::Message as _;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{actions, assert_all_hits, filled, import, list, number};
use crate::support::cli::{Cli, Proxy, make_file};
use crate::support::{Blob, TestServer, output_file};
use crate::tls::authority::Authority;

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
    let cases: [(&[&str], &str); 5] = [
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

/// Ends TLS before the HTTP listener of a server; its port.
#[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
async fn end_tls(server: &TestServer, authority: &Authority) -> u16 {
    let issued = authority.server();
    let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), server.server.http_address());
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_behind_tls_is_believed_to_be_whom_the_system_trusts() {
    let (from, results) = filled(&["one"]).await;
    let authority = Authority::new("authority");
    let port = end_tls(&from, &authority).await;
    let folder = tempfile::tempdir().unwrap();
    let list = list(&folder.path().join("actions"), actions(&results));
    let source = format!("https://localhost:{port}");
    for (certificate, is_trusted) in [(&authority, true), (&Authority::new("another"), false)] {
        let to = TestServer::start().await;
        let file = folder.path().join("authority.pem");
        make_file(&file, certificate.cert.as_bytes(), false);
        let mut command = Cli::of(&to).command(&["import", "--actions", &list, &source]);
        command.env("SSL_CERT_FILE", &file).env_remove("SSL_CERT_DIR");
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        assert_eq!(output.status.success(), is_trusted, "{output:?}");
        if is_trusted {
            assert_all_hits(&to, &results).await;
        } else {
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(errors.contains("certificate"), "{errors}");
        }
    }
}
