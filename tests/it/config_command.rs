//! `castellan config`: exit codes, and what goes to which stream.

use std::path::Path;

use serde_json::Value;

use crate::support::Process;

const GOOD: &str = "{
  stores: [
    { name: 'A', filesystem: { content_path: '/srv/a' } },
    { name: 'B', filesystem: { content_path: '/srv/b' } },
  ],
  servers: [{
    listener: { http: { socket_address: '127.0.0.1:0' } },
    services: { cas: [{ cas_store: 'A' }], ac: [{ ac_store: 'B' }] },
  }],
}
";

/// Runs `config` with these arguments: the exit code, the output, the errors.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Process::command(&["config"]).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::io::Write::write_all(&mut std::fs::File::create_new(&path).unwrap(), text.as_bytes())
        .unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_says_by_its_exit_code_whether_a_file_would_be_served() {
    let directory = tempfile::tempdir().unwrap();
    let good = write(directory.path(), "good.json5", GOOD);
    let bad = write(directory.path(), "bad.json5", &GOOD.replace("'A' }]", "'C' }]"));
    assert_eq!(run(&["check", &good]), (Some(0), String::new(), String::new()));
    let (code, output, errors) = run(&["check", &good, &bad]);
    assert_eq!((code, output.as_str()), (Some(64), ""));
    let expected =
        "bad.json5:8:36: servers[0].services.cas[0].cas_store: there is no store named \"C\"";
    assert!(errors.contains(expected), "{errors}");

    let (code, output, errors) = run(&["check", "--json", &bad]);
    let found: Vec<Value> = serde_json::from_str(&output).unwrap();
    assert_eq!((code, errors.as_str(), found.len()), (Some(64), "", 1));
    assert_eq!((&found[0]["file"], &found[0]["line"]), (&bad.as_str().into(), &8.into()));
    assert_eq!(run(&["check", "--json", &good]), (Some(0), "[]\n".to_owned(), String::new()));
    assert_eq!(run(&["check"]).0, Some(64), "no file");
}

#[test]
fn show_needs_a_file_without_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let good = write(directory.path(), "good.json5", GOOD);
    let (code, output, errors) = run(&["show", &good]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(output.starts_with("stores[0].name = \"A\"  # "), "{output}");
    let bad = write(directory.path(), "bad.json5", &GOOD.replace("name", "nam"));
    let (code, output, errors) = run(&["show", &bad]);
    assert_eq!((code, output.as_str()), (Some(64), ""));
    assert!(errors.contains("bad.json5:3:7: stores[0].nam: unknown key"), "{errors}");
}

#[test]
fn schema_is_json() {
    let (code, output, _) = run(&["schema"]);
    let schema: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(schema["properties"]["stores"]["items"]["$ref"], "#/$defs/store");
}
