//! What is stored is what is there.

use super::*;

/// A bit of everything.
fn fill(world: &World) {
    world.write("out/a", "a");
    world.write("out/a.b", "a");
    world.write("out/a-b", "another");
    world.write("out/empty", "");
    world.write("out/tool", "#!/bin/sh\n");
    world.make_executable("out/tool");
    world.write("out/large", noise(1, (3 << 20) + 7));
    world.write("out/\u{e4}/\u{1f980} name with blanks", "unicode");
    world.write("out/one/two/three/deep", "deep");
    world.write("out/twin1/same/file", "same");
    world.write("out/twin2/same/file", "same");
    std::fs::create_dir_all(world.path("out/nothing/here")).unwrap();
    world.link("out/link", "one/two");
    world.link("out/dangling", "nowhere/at/all");
    world.link("out/absolute", "/etc/passwd");
    world.link("out/one/up", "../../../..");
}

#[tokio::test]
async fn a_tree_with_everything_is_stored_as_it_is() {
    for function in DigestFunction::ALL {
        let world = World::new().await;
        fill(&world);
        let paths = strings(&["out"]);
        let captured = world.stager.capture_directories(function, &world.base, &paths, false);
        let [captured] = <[_; 1]>::try_from(captured.await.unwrap()).unwrap();

        let mut expected = BTreeMap::new();
        on_disk(&world.path("out"), "", &mut expected);
        assert_eq!(stored(&world, captured.root_directory_digest).await, expected);
        let sizes = expected.values().filter_map(|entry| match entry {
            Entry::File(data, _) => Some(data.len() as u64),
            _ => None,
        });
        assert_eq!((captured.path.as_str(), captured.files), ("out", 10));
        assert_eq!(captured.bytes, sizes.sum::<u64>());
        world.assert_sound().await;
    }
}

#[tokio::test]
async fn a_tree_has_each_directory_once_by_levels() {
    let world = World::new().await;
    fill(&world);
    let captured = world.capture(&["out"]).await.unwrap().remove(0);
    let tree: v2::Tree = world.message(captured.tree_digest).await;
    let root = tree.root.unwrap();
    assert_eq!(
        Digest::of(SHA256, &root.encode_to_vec()),
        captured.root_directory_digest,
        "the root of the tree is the root"
    );
    // From the root on, each directory where it is met first.
    let by_digest: BTreeMap<Digest, &v2::Directory> =
        tree.children.iter().map(|it| (Digest::of(SHA256, &it.encode_to_vec()), it)).collect();
    assert_eq!(by_digest.len(), tree.children.len(), "each once");
    let mut order = Vec::new();
    let mut level = vec![&root];
    while !level.is_empty() {
        let mut next = Vec::new();
        for node in level.iter().flat_map(|it| &it.directories) {
            let digest = digest_of(node.digest.as_ref(), SHA256);
            if !order.contains(&digest) {
                order.push(digest);
                next.push(by_digest[&digest]);
            }
        }
        level = next;
    }
    let children = tree.children.iter().map(|it| Digest::of(SHA256, &it.encode_to_vec()));
    assert_eq!(children.collect::<Vec<_>>(), order);
}

#[tokio::test]
async fn names_are_sorted_by_their_bytes() {
    let world = World::new().await;
    let names = ["b", "a", "a.b", "a-b", "Z", "\u{e4}", "\u{1f980}", "\u{ff5e}", "aa"];
    for name in names {
        world.write(&format!("out/{name}"), name);
        world.write(&format!("out/{name}.d/file"), name);
        world.link(&format!("out/{name}.l"), name);
    }
    let captured = world.capture(&["out"]).await.unwrap().remove(0);
    let root: v2::Directory = world.message(captured.root_directory_digest).await;
    let files: Vec<_> = root.files.iter().map(|it| it.name.as_bytes()).collect();
    let directories: Vec<_> = root.directories.iter().map(|it| it.name.as_bytes()).collect();
    let symlinks: Vec<_> = root.symlinks.iter().map(|it| it.name.as_bytes()).collect();
    for listed in [files, directories, symlinks] {
        assert_eq!(listed.len(), names.len());
        assert!(listed.is_sorted(), "{listed:?}");
    }
}

#[tokio::test]
async fn a_second_capture_uploads_nothing() {
    let world = World::new().await;
    fill(&world);
    let first = world.capture(&["out"]).await.unwrap();
    let written = world.written();
    let distinct: std::collections::HashSet<_> = written.iter().collect();
    assert_eq!(distinct.len(), written.len(), "each once");
    assert!(!written.iter().any(Digest::is_empty), "what is empty is always there");
    assert_eq!(world.capture(&["out"]).await.unwrap(), first);
    assert_eq!(world.written(), []);

    world.write("out/one/two/three/deep", "other");
    world.capture(&["out"]).await.unwrap();
    assert_eq!(world.written().len(), 6, "a file, four directories and the tree");
}

#[tokio::test]
async fn a_directory_without_anything_has_a_tree() {
    let world = World::new().await;
    std::fs::create_dir(world.path("out")).unwrap();
    let captured = world.capture(&["out"]).await.unwrap().remove(0);
    assert_eq!(captured.root_directory_digest, Digest::empty(SHA256));
    let expected = v2::Tree { root: Some(v2::Directory::default()), children: Vec::new() };
    let encoded = world.read(captured.tree_digest).await.unwrap();
    assert_eq!(encoded, expected.encode_to_vec());
}

#[tokio::test]
async fn directories_come_in_the_order_asked_for_without_those_that_are_absent() {
    let world = World::new().await;
    world.write("b/inside/file", "1");
    world.write("b/inside/further/file", "2");
    world.write("a/file", "3");
    let paths =
        ["b/inside", "gone", "a", "b", "b/gone", "a/gone/too", "b/inside/further", "b/inside"];
    let captured = world.capture(&paths).await.unwrap();
    let found: Vec<_> = captured.iter().map(|it| (it.path.as_str(), it.files)).collect();
    let expected = [("b/inside", 2), ("a", 1), ("b", 2), ("b/inside/further", 1), ("b/inside", 2)];
    assert_eq!(found, expected);
    for captured in &captured {
        let alone = world.capture(&[&captured.path]).await.unwrap();
        assert_eq!(alone, std::slice::from_ref(captured));
    }
    let all = world.capture(&[""]).await.unwrap().remove(0);
    let mut expected = BTreeMap::new();
    on_disk(&world.path(""), "", &mut expected);
    assert_eq!(stored(&world, all.root_directory_digest).await, expected);
    let with_all = world.capture(&["", "a", "gone"]).await.unwrap();
    assert_eq!(with_all.len(), 2);
    assert_eq!(with_all[0], all);
    assert_eq!(world.capture(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn many_files_in_many_directories_are_all_stored() {
    let world = World::new().await;
    for number in 0..1500 {
        world.write(&format!("out/{}/{number}", number % 37), format!("file {number}"));
    }
    let captured = world.capture(&["out"]).await.unwrap().remove(0);
    assert_eq!(captured.files, 1500);
    let mut expected = BTreeMap::new();
    on_disk(&world.path("out"), "", &mut expected);
    assert_eq!(stored(&world, captured.root_directory_digest).await, expected);
}
