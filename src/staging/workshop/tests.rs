//! Unfinished trees: where they are, and what becomes of them.

use super::*;
use crate::staging::site::{Grounds, Site};

fn names(root: &Folder) -> Vec<String> {
    let listed = root.open_folder(WORKSHOP).unwrap().list(99).unwrap();
    let mut names: Vec<_> = listed.into_iter().map(|it| it.name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits for a sweep that goes on beside the test.
async fn until(mut is_so: impl FnMut() -> bool + Send) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), waiting).await.unwrap();
}

#[test]
fn what_another_works_in_is_not_removed_though_its_lock_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let root = Folder::open_root(place.path()).unwrap();
    // Without a sweep of its own.
    let workshop = Workshop::take(root.try_clone().unwrap()).unwrap();
    let made = workshop.all.make_folder("other", 0o755).unwrap();
    assert!(lock(&made));
    assert!(!sweep_one(&workshop.all, OsStr::new("other")).unwrap());
    drop(made);
    assert!(sweep_one(&workshop.all, OsStr::new("other")).unwrap());
    assert_eq!(names(&root), [workshop.name.as_str()]);
}

#[tokio::test]
async fn a_workshop_that_was_removed_is_given_up() {
    let (_place, root, grounds) = grounds().await;
    let workshop = Arc::clone(grounds.workshop.as_ref().unwrap());
    assert!(workshop.leads_to(&root));
    root.remove_all(WORKSHOP).unwrap();
    drop(Site::begin(grounds, "tree", 0o755).unwrap());
    assert!(!workshop.leads_to(&root));
}

#[tokio::test]
async fn what_killed_processes_have_left_is_removed_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let root = Folder::open_root(place.path()).unwrap();
    let living = Workshop::open(&root).await.unwrap();
    living.own.make_folder("tree", 0o755).unwrap();
    let killed = living.all.make_folder("killed", 0o755).unwrap();
    killed.make_folder("tree", 0o755).unwrap().create_file("file", 0o444).unwrap();
    drop(killed);

    let next = Workshop::open(&root).await.unwrap();
    let mut both = vec![living.name.clone(), next.name.clone()];
    both.sort();
    until(|| names(&root) == both).await;
    assert!(!living.own.is_empty().unwrap());

    drop(living);
    assert_eq!(names(&root), [next.name.as_str()]);
    drop(next);
    assert!(root.is_empty().unwrap());
}

/// A worker root, a workshop in it, and grounds for a tree in the root.
async fn grounds() -> (tempfile::TempDir, Folder, Grounds) {
    let place = tempfile::tempdir().unwrap();
    let root = Folder::open_root(place.path()).unwrap();
    let workshop = Some(Workshop::open(&root).await.unwrap());
    let grounds = Grounds { parent: root.try_clone().unwrap(), workshop };
    (place, root, grounds)
}

#[tokio::test]
async fn a_tree_moves_from_the_workshop_to_its_place_whatever_its_mode() {
    for mode in [0o755, 0o555, 0] {
        let (place, root, grounds) = grounds().await;
        let (site, made) = Site::begin(grounds, "tree", 0o755).unwrap();
        made.create_file("file", 0o444).unwrap();
        assert!(!place.path().join("tree").exists());
        assert_eq!(root.list(9).unwrap().len(), 1, "the workshop");
        made.set_mode(mode).unwrap();
        site.put_in_place().unwrap();
        site.keep();
        drop(site);
        assert_eq!(root.metadata_of("tree").unwrap().mode, mode);
        assert_eq!(root.list(9).unwrap().len(), 1, "the tree");
        root.remove_all("tree").unwrap();
    }
}

#[tokio::test]
async fn a_tree_that_goes_takes_nothing_with_it_that_has_its_name() {
    let (_place, root, grounds) = grounds().await;
    let (site, _) = Site::begin(grounds, "tree", 0o755).unwrap();
    site.put_in_place().unwrap();
    root.rename("tree", &root, "moved").unwrap();
    root.make_folder("tree", 0o755).unwrap();
    drop(site);
    assert_eq!(root.list(9).unwrap().len(), 2, "both");
}

#[tokio::test]
async fn without_its_workshop_a_tree_is_made_beside_its_place() {
    let (_place, root, grounds) = grounds().await;
    root.remove_all(WORKSHOP).unwrap();
    let (site, _) = Site::begin(grounds, "tree", 0o755).unwrap();
    assert_eq!(root.list(9).unwrap().len(), 1);
    site.put_in_place().unwrap();
    site.keep();
    assert!(root.identity_of("tree").unwrap().is_some());
}
