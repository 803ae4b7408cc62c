//! Sockets in the file system: who may connect, what becomes of the file, and long paths.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const OPTIONS: BindOptions = BindOptions { mode: 0o600, group: None, backlog: 16, freebind: false };

async fn bind(path: &Path) -> io::Result<SocketListener> {
    SocketListener::bind(&ListenAddress::Unix(path.to_owned()), OPTIONS).await
}

async fn answers(path: &Path) -> bool {
    connect(&ListenAddress::Unix(path.to_owned())).await.is_ok()
}

#[tokio::test]
async fn only_those_of_its_mode_may_connect_and_the_file_goes_with_the_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = bind(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(answers(&path).await);
    assert_eq!(listener.address().unwrap(), ListenAddress::Unix(path.clone()));
    drop(listener);
    assert!(!path.exists() && !answers(&path).await);
}

#[tokio::test]
async fn a_socket_may_be_shared_with_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("worker.sock");
    let group = rustix::process::getgid().as_raw();
    let options = BindOptions { mode: 0o660, group: Some(group), ..OPTIONS };
    let listener = SocketListener::bind(&ListenAddress::Unix(path.clone()), options).await.unwrap();
    let found = path.metadata().unwrap();
    assert_eq!((found.gid(), found.permissions().mode() & 0o777), (group, 0o660));
    drop(listener);
}

#[tokio::test]
async fn what_a_killed_process_left_is_replaced_and_what_is_in_use_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = bind(&path).await.unwrap();
    let error = bind(&path).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(answers(&path).await, "it is still there");
    drop(listener);
    drop(File::create(&path).unwrap());
    let error = bind(&path).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(path.exists(), "it is somebody's file");
}

#[tokio::test]
async fn a_path_that_is_too_long_for_an_address_works() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("x".repeat(200));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("admin.sock");
    let listener = bind(&path).await.unwrap();
    assert!(answers(&path).await);
    drop(listener);
    assert!(!path.exists());
}

/// An address of the documentation (RFC 5737): no interface has it.
#[tokio::test]
async fn an_address_that_no_interface_has_yet_needs_freebind() {
    let address = ListenAddress::Tcp(([192, 0, 2, 1], 0).into());
    let error = SocketListener::bind(&address, OPTIONS).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let options = BindOptions { freebind: true, ..OPTIONS };
    let listener = SocketListener::bind(&address, options).await.unwrap();
    assert_ne!(listener.address().unwrap(), address, "it has a port");
    let address = ListenAddress::Tcp("[2001:db8::1]:0".parse().unwrap());
    match SocketListener::bind(&address, options).await {
        Ok(_) => {}
        // A machine without IPv6.
        Err(error) => assert_eq!(error.raw_os_error(), Some(97), "{error}"),
    }
}
