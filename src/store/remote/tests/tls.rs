//! Certificates, ours and theirs.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::super::ClientTls;
use super::fake::Fake;
use super::*;
use crate::store::BlobStore as _;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn secret_store(fake: &Arc<Fake>, tls: ClientTls) -> Arc<RemoteStore> {
    store_with(std::slice::from_ref(fake), |it| {
        it.endpoints = vec![Endpoint { tls: Some(tls), ..Endpoint::new("grpcs://fake0:1") }];
        it.retry.max_retries = 0;
    })
}

#[tokio::test]
async fn only_the_right_authority_is_trusted() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let (cert, key) = right.issue("fake0");
    let fake =
        Fake::start_with(Some(ServerTlsConfig::new().identity(Identity::from_pem(cert, key))));
    let data = noise(1, 500 << 10);
    let digest = fake.store(data.clone());
    let trusting =
        |it: &Authority| ClientTls { ca_pem: Some(it.pem().into()), ..Default::default() };
    let store = secret_store(&fake, trusting(&right));
    assert_eq!(read(&store, digest).await.unwrap().unwrap(), data);
    let store = secret_store(&fake, trusting(&wrong));
    let what = assert_unavailable(store.find_missing(&[Key::blob(digest)]).await);
    assert!(what.contains("certificate"), "{what}");
    // Without one of its own the system's are trusted, and none of those has signed this.
    let store = secret_store(&fake, ClientTls::default());
    assert_unavailable(store.find_missing(&[Key::blob(digest)]).await);
    assert!(fake.calls("FindMissing").is_empty());
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("fake0");
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let fake = Fake::start_with(Some(config));
    let digest = fake.store("blob");
    let anonymous = ClientTls { ca_pem: Some(authority.pem().into()), ..Default::default() };
    let (cert, key) = authority.issue("client");
    let known =
        ClientTls { cert_pem: Some(cert.into()), key_pem: Some(key.into()), ..anonymous.clone() };
    let store = secret_store(&fake, known);
    assert_eq!(read(&store, digest).await.unwrap().unwrap(), "blob");
    let store = secret_store(&fake, anonymous);
    assert_unavailable(read(&store, digest).await);
}
