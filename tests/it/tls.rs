//! TLS: who is let in, files that change, and handshakes that do not end.

pub(crate) mod authority;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use castellan::server::{
    GrpcListener, HealthPage, InstanceSettings, Instances, Server, ServerError,
};
use castellan::socket::ListenAddress;
use castellan::telemetry::metrics::{Samples, Value};
use castellan::tls::TlsSettings;
use castellan_proto::v2::CacheCapabilities;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use self::authority::{Authority, Issued};
use crate::support::Process;
use crate::support::listeners::{capabilities, on_free_port, start_listeners};
use crate::support::wait::eventually;

/// Files of certificates, and the server that uses them.
struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a file in one step, as those who renew certificates should.
    #[expect(clippy::disallowed_methods, reason = "files of this test")]
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let begun = self.path("begun");
        std::fs::write(&begun, text).unwrap();
        let path = self.path(name);
        std::fs::rename(begun, &path).unwrap();
        path
    }

    /// The server's certificate and key, and settings for them that look often.
    fn settings(&self, issued: &Issued) -> TlsSettings {
        let files = (self.put("cert.pem", &issued.cert), self.put("key.pem", &issued.key));
        let reload_interval = Duration::from_millis(20);
        TlsSettings { reload_interval, ..TlsSettings::new(files.0, files.1) }
    }

    async fn try_start(&self, tls: TlsSettings) -> Result<Server, ServerError> {
        let listener = GrpcListener { tls: Some(tls), ..any() };
        start_listeners(self.directory.path(), 1, vec![listener]).await
    }

    async fn start(&self, tls: TlsSettings) -> Server {
        self.try_start(tls).await.unwrap()
    }
}

fn any() -> GrpcListener {
    on_free_port(Instances::Any(InstanceSettings::new(0, 0)))
}

/// Who a client trusts, and who it says that it is.
#[derive(Clone, Debug, Default)]
struct Client {
    tls: ClientTlsConfig,
}

impl Client {
    fn trusting(authority: &Authority) -> Self {
        let certificate = Certificate::from_pem(&authority.cert);
        Self { tls: ClientTlsConfig::new().ca_certificate(certificate).domain_name("localhost") }
    }

    fn with(self, issued: &Issued) -> Self {
        Self { tls: self.tls.identity(Identity::from_pem(&issued.cert, &issued.key)) }
    }

    async fn connect(&self, server: &Server) -> Result<Channel, tonic::transport::Error> {
        let address = format!("https://{}", server.grpc_address().unwrap());
        let endpoint = Channel::from_shared(address).unwrap().tls_config(self.tls.clone())?;
        endpoint.connect().await
    }

    /// A call on a connection of its own; who is not let in may hear of it only now.
    async fn call(&self, server: &Server) -> Result<CacheCapabilities, String> {
        let channel = self.connect(server).await.map_err(|error| format!("{error:?}"))?;
        capabilities(&channel, "").await.map_err(|status| format!("{status:?}"))
    }

    async fn is_served(&self, server: &Server) -> bool {
        self.call(server).await.is_ok()
    }
}

/// A counter of TLS.
fn count(server: &Server, family: &str, result: &str) -> u64 {
    let samples: Samples = server.exposition().collect();
    let group = samples.groups().iter().find(|it| it.family.name == family).unwrap();
    let point = group.points.iter().find(|it| it.labels == [result]).unwrap();
    match point.value {
        Value::Integer(count) => count,
        _ => panic!("{point:?}"),
    }
}

const HANDSHAKES: &str = "castellan_tls_handshakes_total";
const RELOADS: &str = "castellan_tls_reloads_total";

fn address(server: &Server) -> SocketAddr {
    server.grpc_address().unwrap()
}

#[tokio::test]
async fn who_knows_the_authority_is_served_and_nobody_else() {
    let fixture = Fixture::new();
    let (known, other) = (Authority::new("known"), Authority::new("other"));
    let server = fixture.start(fixture.settings(&known.server())).await;
    Client::trusting(&known).call(&server).await.unwrap();
    assert!(!Client::trusting(&other).is_served(&server).await);
    // Without encryption, over either version of HTTP.
    let plain = Channel::from_shared(format!("http://{}", address(&server))).unwrap();
    match plain.connect().await {
        Err(_) => {}
        Ok(channel) => assert!(capabilities(&channel, "").await.is_err()),
    }
    let mut socket = TcpStream::connect(address(&server)).await.unwrap();
    socket.write_all(b"GET /status HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    drop(socket.read_to_end(&mut said).await);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    Client::trusting(&known).call(&server).await.unwrap();
    assert!(count(&server, HANDSHAKES, "done") >= 2);
    assert!(count(&server, HANDSHAKES, "failed") >= 2);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn with_an_authority_of_clients_only_its_certificates_are_let_in() {
    let fixture = Fixture::new();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let settings = TlsSettings {
        client_ca_file: Some(fixture.put("clients.pem", &clients.cert)),
        ..fixture.settings(&servers.server())
    };
    let server = fixture.start(settings).await;
    let anonymous = Client::trusting(&servers);
    anonymous.clone().with(&clients.client(7)).call(&server).await.unwrap();
    assert!(!anonymous.is_served(&server).await, "no certificate");
    let foreign = Authority::new("clients");
    assert!(!anonymous.clone().with(&foreign.client(7)).is_served(&server).await);
    let of_server = anonymous.with(&clients.server());
    assert!(!of_server.is_served(&server).await, "a certificate for servers only");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_as_soon_as_the_list_says_so() {
    let fixture = Fixture::new();
    let authority = Authority::new("all");
    let settings = TlsSettings {
        client_ca_file: Some(fixture.put("clients.pem", &authority.cert)),
        client_crl_file: Some(fixture.put("revoked.pem", &authority.revoking(&[3]))),
        ..fixture.settings(&authority.server())
    };
    let server = fixture.start(settings).await;
    let client = |serial| Client::trusting(&authority).with(&authority.client(serial));
    assert!(client(4).is_served(&server).await);
    assert!(!client(3).is_served(&server).await);
    fixture.put("revoked.pem", &authority.revoking(&[3, 4]));
    let four = client(4);
    eventually("the new list is read", || async { !four.is_served(&server).await }).await;
    assert!(client(5).is_served(&server).await);
    // Without the list of their authority nobody can say that they are not revoked.
    fixture.put("revoked.pem", &Authority::new("another").revoking(&[]));
    let five = client(5);
    eventually("the list of another", || async { !five.is_served(&server).await }).await;
}

#[tokio::test]
async fn new_files_are_used_for_new_connections_and_bad_ones_never() {
    let fixture = Fixture::new();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = fixture.start(fixture.settings(&old.server())).await;
    let of_old = Client::trusting(&old).connect(&server).await.unwrap();
    capabilities(&of_old, "").await.unwrap();

    // One after the other: between the two they do not belong together.
    let renewed = new.server();
    fixture.put("cert.pem", &renewed.cert);
    let failed = || std::future::ready(count(&server, RELOADS, "failed") == 1);
    eventually("half of a change is noticed", failed).await;
    Client::trusting(&old).call(&server).await.unwrap();
    fixture.put("key.pem", &renewed.key);
    let client = Client::trusting(&new);
    eventually("the new certificate", || client.is_served(&server)).await;
    assert!(!Client::trusting(&old).is_served(&server).await);
    capabilities(&of_old, "").await.expect("the old connection stays");

    let bad: [&dyn Fn(); 3] = [
        &|| drop(fixture.put("cert.pem", "garbage")),
        &|| drop(fixture.put("cert.pem", "")),
        &|| remove(&fixture.path("cert.pem")),
    ];
    for (done, make_bad) in bad.iter().enumerate() {
        make_bad();
        let failures = done as u64 + 2;
        let failed = || std::future::ready(count(&server, RELOADS, "failed") == failures);
        eventually("a bad file is noticed", failed).await;
        client.call(&server).await.unwrap();
    }
    assert_eq!(count(&server, RELOADS, "done"), 1);
    fixture.settings(&old.server());
    eventually("a good one again", || async { Client::trusting(&old).is_served(&server).await })
        .await;
    server.shutdown().await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// Makes a file bad.
type Spoil<'s> = &'s dyn Fn(&Fixture, &mut TlsSettings);

/// Nothing is opened: neither the store's directory nor a port.
#[tokio::test]
async fn bad_files_at_the_start_are_named() {
    let authority = Authority::new("all");
    let issued = authority.server();
    let cases: [(&str, Spoil<'_>, &str); 6] = [
        ("cert.pem", &|it, _| drop(it.put("cert.pem", &issued.key)), "has no certificate in PEM"),
        ("key.pem", &|it, _| drop(it.put("key.pem", "garbage")), "has no private key"),
        ("key.pem", &|it, _| remove(&it.path("key.pem")), "No such file"),
        ("cert.pem", &|it, _| drop(it.put("key.pem", &authority.server().key)), "key"),
        ("ca.pem", &|it, tls| tls.client_ca_file = Some(it.path("ca.pem")), "No such file"),
        (
            "crl.pem",
            &|it, tls| {
                let list = it.put("crl.pem", &authority.revoking(&[]));
                tls.client_crl_file = Some(list);
            },
            "authorities of clients",
        ),
    ];
    for (file, spoil, why) in cases {
        let fixture = Fixture::new();
        let mut settings = fixture.settings(&issued);
        spoil(&fixture, &mut settings);
        let error = fixture.try_start(settings).await.unwrap_err();
        assert!(matches!(error, ServerError::Tls { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(why), "{text}");
        assert!(!fixture.path("store-0").exists());
    }
}

/// They hold up neither each other nor those who speak.
#[tokio::test]
async fn i23_handshakes_that_stall_are_cut_off_and_hold_up_nobody() {
    const STALLED: usize = 200;
    let fixture = Fixture::new();
    let authority = Authority::new("all");
    let settings = TlsSettings {
        handshake_timeout: Duration::from_secs(3),
        ..fixture.settings(&authority.server())
    };
    let server = fixture.start(settings).await;
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        let mut socket = TcpStream::connect(address(&server)).await.unwrap();
        if number % 2 == 1 {
            // The beginning of a greeting that goes on for 512 bytes.
            socket.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
        }
        stalled.push(socket);
    }
    let channel = Client::trusting(&authority).connect(&server).await.unwrap();
    capabilities(&channel, "").await.unwrap();
    for mut socket in stalled {
        let mut said = Vec::new();
        drop(socket.read_to_end(&mut said).await);
    }
    assert_eq!(count(&server, HANDSHAKES, "timeout"), STALLED as u64);
    assert_eq!(count(&server, HANDSHAKES, "done"), 1);
    capabilities(&channel, "").await.unwrap();
    server.shutdown().await.unwrap();
}

/// Speaks HTTP/1.1 behind TLS, having offered nothing else; says what it got.
async fn ask_over_http1(address: ListenAddress, authority: &Authority) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let socket = TcpStream::connect(address.to_string()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), socket).await?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[tokio::test]
async fn http_with_certificates_is_served_over_tls_only() {
    let fixture = Fixture::new();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    fixture.settings(&servers.server());
    fixture.put("clients.pem", &clients.cert);
    let flag = |name: &str, file: &str| format!("--{name}={}", fixture.path(file).display());
    let pair = [flag("tls_cert_file", "cert.pem"), flag("tls_key_file", "key.pem")];
    let start = |more: &[String]| {
        let mut command = Process::command(&["serve", "--compat=bazel-remote", "--max_size=1"]);
        let ports = ["--http_address=127.0.0.1:0", "--grpc_address=127.0.0.1:0"];
        command.args(ports).arg(flag("dir", "cache")).args(&pair).args(more);
        Process::spawn(command)
    };
    let process = start(&[]);
    let http: SocketAddr = process.http.parse().unwrap();
    let mut silent = TcpStream::connect(http).await.unwrap();
    let reply = ask_over_http1(http.into(), &servers).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(ask_over_http1(http.into(), &clients).await.is_err(), "an authority of others");
    let mut plain = TcpStream::connect(http).await.unwrap();
    plain.write_all(b"GET /status HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    drop(plain.read_to_end(&mut said).await);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    // Who never says anything does not keep the server from its end.
    assert_eq!(process.stop().await.code(), Some(0));
    drop(silent.read_to_end(&mut said).await);

    let process = start(&[flag("tls_ca_file", "clients.pem")]);
    let http: SocketAddr = process.http.parse().unwrap();
    assert!(ask_over_http1(http.into(), &servers).await.is_err(), "no certificate");
}

#[tokio::test]
async fn pages_are_served_over_http_1_where_there_are_any() {
    let fixture = Fixture::new();
    let authority = Authority::new("all");
    let tls = Some(fixture.settings(&authority.server()));
    let page = HealthPage { path: "/status".to_owned(), timeout: Duration::from_secs(5) };
    let listeners = vec![
        GrpcListener { tls: tls.clone(), health: Some(page), ..any() },
        GrpcListener { tls, ..any() },
    ];
    let server = start_listeners(fixture.directory.path(), 1, listeners).await.unwrap();
    let [with, without] = server.grpc_addresses().cloned().collect::<Vec<_>>().try_into().unwrap();
    let reply = ask_over_http1(with, &authority).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    ask_over_http1(without, &authority).await.unwrap_err();
    // gRPC beside it.
    Client::trusting(&authority).call(&server).await.unwrap();
}

/// A handshake under way does not hold up the end of the server.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_handshake() {
    let fixture = Fixture::new();
    let authority = Authority::new("all");
    let settings = TlsSettings {
        handshake_timeout: Duration::from_hours(1),
        ..fixture.settings(&authority.server())
    };
    let server = fixture.start(settings).await;
    let mut socket = TcpStream::connect(address(&server)).await.unwrap();
    // Accepted in the order they came: the one before it has its task.
    Client::trusting(&authority).call(&server).await.unwrap();
    server.shutdown().await.unwrap();
    let mut said = Vec::new();
    drop(socket.read_to_end(&mut said).await);
}
