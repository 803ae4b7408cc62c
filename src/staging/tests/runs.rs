//! Programs that are run as soon as they are staged, while others are started and staged.
//!
//! `CASTELLAN_TEST_RUNS` is how often.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::*;

const THREADS: u64 = 32;
/// Between them every one is staged, run and removed so often.
const RUNS: u64 = 1_280;

/// `/bin/true` with bytes of its own, so that its variant is made now.
fn programs(number: u64) -> Model {
    let data = std::fs::read("/bin/true").unwrap();
    let data = [data.as_slice(), &number.to_le_bytes()].concat();
    let file = Item::File { data: data.into(), is_executable: true };
    [("run".to_owned(), file)].into()
}

/// A private copy, as its time is chosen.
fn timed(model: &Model) -> Directory {
    let mut directory = Parts::of(model).root_directory;
    for file in &mut directory.files {
        let mtime = crate::trees::directory::ModificationTime { seconds: 1, nanoseconds: 0 };
        file.properties.mtime = Some(mtime);
    }
    directory
}

/// Whether the file system runs anything.
fn runs_programs(place: &Path) -> bool {
    let program = place.join("probe");
    // Another process writes it, or a child that is forked meanwhile might hold it open.
    let copied = Command::new("cp").arg("/bin/true").arg(&program).status().unwrap();
    assert!(copied.success());
    let run = Command::new(&program).status();
    std::fs::remove_file(&program).unwrap();
    match run {
        Ok(status) => status.success(),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => false,
        Err(error) => panic!("{error}"),
    }
}

/// Forks, as one that becomes a user does; what is spawned by the system has descriptors of others
/// for a shorter while.
fn run(program: &Path) {
    let own = Path::new("/proc/self").metadata().unwrap().uid();
    assert!(Command::new(program).uid(own).status().unwrap().success());
}

/// Stages a program as a link or as a copy, runs it if anything can be, and removes it.
fn stage_and_run(
    world: &World,
    runtime: &tokio::runtime::Runtime,
    number: u64,
    runs_programs: bool,
) {
    let model = programs(number);
    let name = format!("target {number}");
    let link_mode = if number % 4 == 1 { LinkMode::Copy } else { LinkMode::Auto };
    let staged = runtime.block_on(async {
        let mut root = world.put_model(&model).await;
        if number % 4 == 3 {
            root = world.put(&timed(&model).encode()).await;
        }
        let options = StageOptions { link_mode, ..StageOptions::default() };
        let (root, parent) = (TreeRoot::Directory(root), world.parent());
        world.stager.stage(root, parent, &name, &options, Arc::default()).await.unwrap()
    });
    assert_eq!(staged.totals().copied_files, number % 2);
    if runs_programs {
        run(&world.place.path().join(&name).join("run"));
    }
    drop(staged);
    world.parent().remove_all(&name).unwrap();
}

#[test]
fn staged_programs_are_run_at_once_while_others_are_staged() {
    let runs = std::env::var("CASTELLAN_TEST_RUNS").ok().and_then(|it| it.parse::<u64>().ok());
    let each = runs.unwrap_or(RUNS).div_ceil(THREADS);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let runs_programs = runs_programs(world.place.path());
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (world, runtime) = (&world, &runtime);
            threads.spawn(move || {
                for run in 0..each {
                    stage_and_run(world, runtime, thread * each + run, runs_programs);
                }
            });
        }
    });
    assert_eq!(world.litter(), Vec::<String>::new());
}
