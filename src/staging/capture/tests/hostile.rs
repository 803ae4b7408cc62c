//! Workers that do not mean well, or not now.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::*;

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused() {
    let world = World::new().await;
    world.write("out/file", "x");
    let long = "n".repeat(256);
    let deep = vec!["d"; 513].join("/");
    let deeper = vec!["d"; 100_000].join("/");
    for path in [
        "..",
        ".",
        "/",
        "/out",
        "out/",
        "out//file",
        "out/.",
        "out/..",
        "./out",
        "../work/out",
        "out/../..",
        "out\0",
        "//",
        &long,
        &deep,
        &deeper,
    ] {
        let error = world.capture(&["out", path]).await.unwrap_err();
        let (named, _) = invalid(error);
        assert!(named == path || (named.len() < 1100 && path.ends_with(&named[3..])), "{named}");
        invalid(world.capture_files(&[path]).await.unwrap_err());
    }
    assert_eq!(world.written(), []);
}

#[tokio::test]
async fn a_path_through_a_symlink_is_refused_by_name() {
    let world = World::new().await;
    world.write("secret/file", "x");
    std::fs::create_dir(world.path("a")).unwrap();
    world.link("link", "secret");
    world.link("a/link", world.path("secret"));
    for (path, named) in [
        ("link", "link"),
        ("a/link", "a/link"),
        ("link/gone", "link"),
        ("a/link/below", "a/link"),
        ("secret/file", "secret/file"),
        ("secret/file/below", "secret/file"),
    ] {
        assert_eq!(world.refusal(path).await.0, named);
    }
    // The same inside of what is captured as well.
    for path in ["a/link", "a/link/below", "secret/file", "secret/file/below"] {
        let named = path.trim_end_matches("/below");
        let error = world.capture(&["", path]).await.unwrap_err();
        assert_eq!(invalid(error).0, named);
    }
    assert_eq!(world.written(), []);
}

#[tokio::test]
async fn what_no_tree_can_hold_is_refused_by_name() {
    let world = World::new().await;
    world.write("good/file", "x");
    for folder in ["socket", "fifo", "name", "target"] {
        std::fs::create_dir_all(world.path(folder).join("in")).unwrap();
    }
    let socket = std::os::unix::net::UnixListener::bind(world.path("socket/in/it")).unwrap();
    let fifo = world.path("fifo/in/it");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let strange = OsStr::from_bytes(b"\xff\xfe");
    std::fs::write(world.path("name/in").join(strange), "x").unwrap();
    world.link("target/in/it", strange);
    for (path, named, why) in [
        ("socket", "socket/in/it", "socket"),
        ("fifo", "fifo/in/it", "pipe"),
        ("fifo/in/it", "fifo/in/it", "pipe"),
        ("name", "name/in/\u{fffd}\u{fffd}", "UTF-8"),
        ("target", "target/in/it", "UTF-8"),
    ] {
        let error = world.capture(&["good", path]).await.unwrap_err();
        let (refused, problem) = invalid(error);
        assert_eq!(refused, named);
        assert!(problem.contains(why), "{problem}");
    }
    drop(socket);
    assert_eq!(world.written(), [], "refused before anything is stored");
}

#[tokio::test]
async fn a_chain_of_directories_has_an_end() {
    let world = World::new().await;
    let mut folder = world.base.try_clone().unwrap();
    for _ in 0..512 {
        folder = folder.make_folder("d", 0o755).unwrap();
    }
    let name = "x".repeat(255);
    folder.create_file(&name, 0o644).unwrap();
    let captured = world.capture(&["d"]).await.unwrap().remove(0);
    assert_eq!(captured.files, 1);
    let tree: v2::Tree = world.message(captured.tree_digest).await;
    assert_eq!(tree.children.len(), 511);

    folder.make_folder("d", 0o755).unwrap();
    let (path, problem) = world.refusal("d").await;
    assert!(path.ends_with("d/d") && problem.contains("512"), "{path}: {problem}");
}

#[tokio::test]
async fn a_file_that_no_store_takes_is_refused_by_name() {
    let world = World::new().await;
    world.write("out/file", "x");
    let huge = std::fs::File::create(world.path("out/huge")).unwrap();
    huge.set_len(1 << 42).unwrap();
    let (path, problem) = world.refusal("out").await;
    assert!(path == "out/huge" && problem.contains("4398046511104"), "{problem}");
    assert_eq!(world.written(), []);
}

/// What may happen to a file of some size after it was hashed.
type Mischief = fn(&Path);

fn grow(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
}

fn shrink(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn rewrite(path: &Path) {
    let len = std::fs::metadata(path).unwrap().len();
    std::fs::write(path, noise(99, usize::try_from(len).unwrap())).unwrap();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn replace_by_symlink(path: &Path) {
    remove(path);
    std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
}

fn replace_by_folder(path: &Path) {
    remove(path);
    std::fs::create_dir(path).unwrap();
}

fn swap_parent(path: &Path) {
    let parent = path.parent().unwrap();
    let aside = parent.with_extension("aside");
    std::fs::rename(parent, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, parent).unwrap();
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_hashed_is_named_and_not_stored() {
    let mischief: [(Mischief, &str); 7] = [
        (grow, "out/sub/file"),
        (shrink, "out/sub/file"),
        (rewrite, "out/sub/file"),
        (remove, "out/sub/file"),
        (replace_by_symlink, "out/sub/file"),
        (replace_by_folder, "out/sub/file"),
        (swap_parent, "out/sub"),
    ];
    for size in [1000, (1 << 20) + 1, 3 << 20] {
        for (number, (mischief, named)) in mischief.into_iter().enumerate() {
            let world = World::new().await;
            let data = noise(number as u64, size);
            world.write("out/sub/file", &data);
            let path = world.path("out/sub/file");
            world.plan(move || mischief(&path));
            let (path, problem) = world.refusal("out").await;
            assert_eq!((path.as_str(), problem.contains("changed")), (named, true), "{number}");
            assert_eq!(world.read(Digest::of(SHA256, &data)).await, None);
            world.assert_sound().await;
        }
    }
}

#[tokio::test]
async fn a_file_that_grows_as_fast_as_it_is_read_ends_the_capture() {
    let world = World::new().await;
    world.write("out/file", noise(1, 1 << 20));
    let path = world.path("out/file");
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    let writer = std::thread::spawn(move || {
        while !seen.load(std::sync::atomic::Ordering::Relaxed) {
            grow(&path);
        }
    });
    // It may have been whole at one moment; what is stored then is what it was.
    if let Err(error) = world.capture(&["out"]).await {
        assert_eq!(invalid(error).0, "out/file");
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    world.assert_sound().await;
}

#[tokio::test]
async fn directories_that_are_swapped_for_symlinks_all_the_time_lead_nowhere() {
    let world = World::new().await;
    world.write("secret/file", "a secret");
    world.write("out/sub/file", "x");
    let (sub, aside) = (world.path("out/sub"), world.path("aside"));
    let secret = world.path("secret");
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    let worker = std::thread::spawn(move || {
        while !seen.load(std::sync::atomic::Ordering::Relaxed) {
            std::fs::rename(&sub, &aside).unwrap();
            std::os::unix::fs::symlink(&secret, &sub).unwrap();
            std::fs::remove_file(&sub).unwrap();
            std::fs::rename(&aside, &sub).unwrap();
        }
    });
    for _ in 0..200 {
        if let Err(error) = world.capture(&["out"]).await {
            assert!(invalid(error).0.starts_with("out"));
        }
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    worker.join().unwrap();
    assert_eq!(world.read(Digest::of(SHA256, b"a secret")).await, None);
    world.assert_sound().await;
}
