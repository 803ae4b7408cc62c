//! What is refused before there is a connection.

use super::super::{ClientTls, RemoteError};
use super::*;

fn connect(edit: impl FnOnce(&mut RemoteOptions)) -> Result<Arc<RemoteStore>, RemoteError> {
    let endpoints = vec![Endpoint::new("grpc://127.0.0.1:1")];
    let mut options = RemoteOptions::new("main", endpoints, RemoteKind::Cas);
    edit(&mut options);
    RemoteStore::connect(options)
}

#[tokio::test]
async fn addresses_have_a_known_scheme_or_none() {
    for address in
        ["grpc://h:1", "http://h:1", "https://h:1", "grpcs://h", "h:1", "[::1]:1", "http://h:1/"]
    {
        let outcome = connect(|it| it.endpoints = vec![Endpoint::new(address)]);
        assert!(outcome.is_ok(), "{address}: {outcome:?}");
    }
    for address in ["", "ftp://h:1", "grpc://", "grpc://h:1/path", "grpc://h:1?q", "a b", "h:x"] {
        let outcome = connect(|it| it.endpoints = vec![Endpoint::new(address)]);
        assert!(matches!(outcome, Err(RemoteError::Address { .. })), "{address}: {outcome:?}");
    }
    let outcome = connect(|it| it.endpoints.clear());
    assert!(matches!(outcome, Err(RemoteError::NoEndpoint)), "{outcome:?}");
}

#[tokio::test]
async fn certificates_come_whole() {
    let pem = || Some(b"no certificate".to_vec());
    for tls in [
        ClientTls { cert_pem: pem(), ..ClientTls::default() },
        ClientTls { key_pem: pem(), ..ClientTls::default() },
        ClientTls { cert_pem: pem(), key_pem: pem(), ..ClientTls::default() },
    ] {
        let outcome = connect(|it| it.endpoints[0].tls = Some(tls));
        assert!(matches!(outcome, Err(RemoteError::Tls { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn headers_and_instance_names_are_checked() {
    for (name, value) in [
        ("grpc-timeout", "1S"),
        ("user-agent", "me"),
        ("token-bin", "x"),
        ("a b", "x"),
        ("", "x"),
        ("x", "new\nline"),
    ] {
        let outcome = connect(|it| it.headers = vec![(name.to_owned(), value.to_owned())]);
        assert!(matches!(outcome, Err(RemoteError::Header { .. })), "{name}: {outcome:?}");
    }
    let outcome = connect(|it| it.instance_name = "a/blobs".to_owned());
    assert!(matches!(outcome, Err(RemoteError::Instance(_))), "{outcome:?}");
}
