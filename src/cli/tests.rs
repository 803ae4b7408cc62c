//! Flags: how they are read, and that every problem is found at once.

use clap::Parser as _;

use super::{Arguments, Command, serve};

fn arguments(flags: &[&str]) -> Result<Box<serve::ServeArguments>, clap::Error> {
    let all = ["castellan", "serve"].into_iter().chain(flags.iter().copied());
    let Arguments { command: Command::Serve(arguments) } = Arguments::try_parse_from(all)?;
    Ok(arguments)
}

fn problems(flags: &[&str]) -> String {
    let env = |name: &str| (name == "HOME").then(|| "/home/somebody".to_owned());
    serve::problems_of(&arguments(flags).unwrap(), &env)
}

#[test]
fn defaults_are_enough() {
    assert_eq!(problems(&[]), "");
    assert_eq!(problems(&["--max-size", "80%", "--grpc-listen", ":0"]), "");
    assert_eq!(problems(&["--http-listen", "localhost:0", "--log", "castellan=debug,warn"]), "");
}

#[test]
fn every_problem_is_listed_not_the_first() {
    let found = problems(&[
        "--max-size",
        "ten",
        "--max-blob-size=-1",
        "--grpc-listen",
        "nowhere",
        "--http-listen",
        "127.0.0.1:99999",
        "--drain-timeout",
        "soon",
        "--log",
        "a=b=c",
    ]);
    for flag in [
        "--max-size",
        "--max-blob-size",
        "--grpc-listen",
        "--http-listen",
        "--drain-timeout",
        "--log",
    ] {
        assert!(found.contains(&format!("error: {flag}: ")), "{flag} in {found}");
    }
    assert_eq!(found.lines().count(), 6, "{found}");
}

#[test]
fn values_that_could_not_work_are_refused() {
    for (flag, value) in
        [("--max-size", "64KiB"), ("--max-size", "0"), ("--max-blob-size", "0"), ("--log", " ")]
    {
        let found = problems(&[flag, value]);
        assert!(found.starts_with(&format!("error: {flag}: ")), "{flag} {value}: {found}");
    }
}

#[test]
fn without_a_home_the_directory_must_be_named() {
    let found = serve::problems_of(&arguments(&[]).unwrap(), &|_| None);
    assert!(found.starts_with("error: --dir: "), "{found}");
    let arguments = arguments(&["--dir", "/srv/castellan"]).unwrap();
    assert_eq!(serve::problems_of(&arguments, &|_| None), "");
}

#[test]
fn a_flag_beside_a_file_that_says_the_same_is_a_problem() {
    let found = problems(&["/nonexistent.json5", "--dir", "/srv/castellan", "--max-size", "1GiB"]);
    assert!(found.contains("--dir: the configuration file says this"), "{found}");
    assert!(found.contains("--max-size: the configuration file says this"), "{found}");
    assert!(found.contains("/nonexistent.json5: "), "{found}");
}

#[test]
fn unknown_flags_are_refused() {
    assert!(arguments(&["--max-sise", "1GiB"]).is_err());
    assert!(arguments(&["one.json5", "two.json5"]).is_err());
}
