//! Single files and symbolic links.

use super::*;

#[tokio::test]
async fn files_and_symlinks_come_in_the_order_asked_for() {
    let world = World::new().await;
    world.write("out/b", "b");
    world.write("out/a", "a");
    world.write("top", "");
    world.make_executable("out/b");
    world.link("out/link", "../../anywhere");
    world.link("first", "out");
    let paths = ["top", "out/link", "out/b", "gone", "out/a", "first", "out/gone/too", "out/b"];
    let captured = world.capture_files(&paths).await.unwrap();

    let file = |path: &str, data: &str, is_executable| CapturedFile {
        path: path.to_owned(),
        digest: Digest::of(SHA256, data.as_bytes()),
        is_executable,
    };
    let files = [
        file("top", "", false),
        file("out/b", "b", true),
        file("out/a", "a", false),
        file("out/b", "b", true),
    ];
    assert_eq!(captured.files, files);
    let symlinks: Vec<_> =
        captured.symlinks.iter().map(|it| (it.path.as_str(), it.target.as_str())).collect();
    assert_eq!(symlinks, [("out/link", "../../anywhere"), ("first", "out")]);
    for file in &captured.files {
        assert_eq!(world.read(file.digest).await.unwrap().len() as u64, file.digest.size_bytes);
    }
    assert_eq!(world.written().len(), 2);
    world.assert_sound().await;
}

#[tokio::test]
async fn what_is_no_file_is_refused_by_name() {
    let world = World::new().await;
    world.write("out/file", "x");
    world.link("link", "out");
    let socket = std::os::unix::net::UnixListener::bind(world.path("socket")).unwrap();
    for (path, named) in [
        ("socket", "socket"),
        ("link/file", "link"),
        ("out/file/below", "out/file"),
        ("socket/below", "socket"),
    ] {
        let error = world.capture_files(&["out/file", path]).await.unwrap_err();
        assert_eq!(invalid(error).0, named, "{path}");
    }
    drop(socket);
    assert_eq!(world.written(), [], "refused before anything is stored");
}

#[tokio::test]
async fn directories_are_left_out_of_files() {
    let world = World::new().await;
    world.write("out/file", "x");
    let captured = world.capture_files(&["out", "", "out/file"]).await.unwrap();
    let paths: Vec<_> = captured.files.iter().map(|it| it.path.as_str()).collect();
    assert_eq!((paths, captured.symlinks.len()), (vec!["out/file"], 0));
}

#[tokio::test]
async fn a_second_capture_of_files_uploads_nothing() {
    let world = World::new().await;
    world.write("large", noise(3, (5 << 20) + 1));
    world.write("small", "x");
    world.write("same", "x");
    let paths = ["large", "small", "same"];
    let first = world.capture_files(&paths).await.unwrap();
    assert_eq!(world.written().len(), 2);
    assert_eq!(world.capture_files(&paths).await.unwrap(), first);
    assert_eq!(world.written(), []);
    assert_eq!(world.read(first.files[0].digest).await.unwrap(), noise(3, (5 << 20) + 1));
}
