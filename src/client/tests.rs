//! What is said on the command line, read and refused, and what servers say.

use tonic::Status;

use super::worker::WorkerError;
use super::{InvalidServer, Reference, ReferenceKind, ServerAddress};
use crate::digest::{Digest, DigestFunction};

#[test]
fn addresses_name_a_server_and_an_instance() {
    let read = |text, instance| {
        ServerAddress::parse(text, instance)
            .map(|it| (it.endpoint().to_owned(), it.instance_name().to_owned()))
    };
    let is = |endpoint: &str, instance: &str| Ok((endpoint.to_owned(), instance.to_owned()));
    assert_eq!(read("grpc://host:1", None), is("grpc://host:1", ""));
    assert_eq!(read("grpcs://host/a/b/", None), is("grpcs://host", "a/b"));
    assert_eq!(read("grpc://host:1/", Some("main")), is("grpc://host:1", "main"));
    assert_eq!(read("grpc://host:1/main", Some("main")), is("grpc://host:1", "main"));
    assert_eq!(read("unix:/a/socket", Some("main")), is("unix:/a/socket", "main"));
    assert_eq!(read("unix:///a/socket", None), is("unix:/a/socket", ""));
    for text in ["", "host:1", "http://host", "unix", "grpc:/host"] {
        assert!(matches!(read(text, None), Err(InvalidServer::Scheme(_))), "{text}");
    }
    for text in ["unix:", "unix://", "grpc://", "grpc:///main"] {
        assert!(matches!(read(text, None), Err(InvalidServer::Nowhere(_))), "{text}");
    }
    let two = read("grpc://host/a", Some("b"));
    assert!(matches!(two, Err(InvalidServer::Instance { .. })), "{two:?}");
}

#[test]
fn references_are_read_as_they_are_printed() {
    for function in DigestFunction::ALL {
        let digest = Digest::of(function, b"blob");
        let kinds = [ReferenceKind::Blob, ReferenceKind::Directory, ReferenceKind::Tree];
        for kind in kinds.into_iter().map(Some).chain([None]) {
            let reference = Reference { kind, digest };
            for default in DigestFunction::ALL {
                let text = reference.to_string();
                let is_said = default == function || function != DigestFunction::Sha256;
                let read = Reference::parse(&text, default);
                assert_eq!(read == Ok(reference), is_said, "{text} as {default}");
            }
        }
    }
    let digest = Digest::of(DigestFunction::Sha256, b"blob").to_string();
    for text in ["", "dir:", &digest.replace('/', "-"), &format!("file:{digest}"), "a/b", "ab/1"] {
        assert!(Reference::parse(text, DigestFunction::Sha256).is_err(), "{text}");
    }
}

#[test]
fn what_a_worker_is_told_says_what_happened() {
    let refused = |status| WorkerError::from(status).to_string();
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert!(refused(Status::from_error(Box::new(broken))).contains("went away"));
    assert!(refused(Status::unimplemented("")).contains("--worker-listen"));
    // An instance that has its blobs elsewhere says so.
    let other = refused(Status::unimplemented("no files here"));
    assert_eq!(other, "Unimplemented: no files here");
    assert_eq!(refused(Status::not_found("no lease")), "NotFound: no lease");
}
