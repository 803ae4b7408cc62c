//! The socket of the operator: who may connect, what becomes of its file, and long paths.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

async fn bind(path: &Path) -> io::Result<AdminListener> {
    AdminListener::bind(&AdminAddress::Unix(path.to_owned())).await
}

async fn answers(path: &Path) -> bool {
    connect(&AdminAddress::Unix(path.to_owned())).await.is_ok()
}

#[tokio::test]
async fn only_its_user_may_connect_and_the_file_goes_with_the_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = bind(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(answers(&path).await);
    assert_eq!(listener.address().unwrap(), AdminAddress::Unix(path.clone()));
    drop(listener);
    assert!(!path.exists() && !answers(&path).await);
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
