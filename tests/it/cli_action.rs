//! `castellan action`: from an input root to a result that another machine gets.

use castellan_proto::v2;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::cli::{Cli, make_file, snapshot};
use crate::support::{Blob, TestServer, directory, output_file, tree};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_one_client_finishes_is_another_ones_hit() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    make_file(&input.join("main.c"), b"int main() { return 0; }", false);
    let root = cli.ok(&["upload", input.to_str().unwrap()]);
    let root = root.split("  ").next().unwrap();
    let create = ["action", "create", "--input-root", root, "--output", "b", "--output", "a"];
    let more = ["--env", "PATH=/bin", "--env", "A=1=2", "--", "cc", "-o", "a", "main.c"];
    let action = cli.ok(&[&create[..], &more[..]].concat());
    let action = action.trim_end();
    // The order of flags is not the action's.
    let swapped = ["action", "create", "--input-root", root, "--output", "a", "--output", "b"];
    let others = ["--env", "A=1=2", "--env", "PATH=/bin", "--", "cc", "-o", "a", "main.c"];
    assert_eq!(cli.ok(&[&swapped[..], &others[..]].concat()).trim_end(), action);
    let shown: Value = serde_json::from_str(&cli.ok(&["action", "show", action])).unwrap();
    assert_eq!(shown["arguments"], json!(["cc", "-o", "a", "main.c"]));
    assert_eq!(shown["environment"], json!({ "A": "1=2", "PATH": "/bin" }));
    assert_eq!(shown["output_paths"], json!(["a", "b"]));
    assert_eq!(format!("dir:{}", shown["input_root_digest"].as_str().unwrap()), root);

    let (code, text, errors) = cli.run(&["action", "result", action]);
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert_eq!(errors, format!("no result of {action}\n"));

    make_file(&output.join("made/a"), b"program", true);
    make_file(&output.join("tree/x/y"), b"deep", false);
    make_file(&folder.path().join("log"), b"warning: none\n", false);
    let file = cli.json(&["upload", output.join("made/a").to_str().unwrap()]);
    let tree = cli.json(&["upload", output.join("tree").to_str().unwrap()]);
    let outputs = json!({
        "files": [{ "path": "made/a", "digest": file["digest"], "is_executable": true }],
        "symlinks": [{ "path": "made/link", "target": "a" }],
        "directories": [{
            "path": "tree",
            "tree_digest": tree["tree_digest"],
            "root_directory_digest": tree["digest"],
        }],
    });
    let list = folder.path().join("outputs.json");
    make_file(&list, outputs.to_string().as_bytes(), false);
    let log = folder.path().join("log");
    let finish = ["action", "finish", action, "--exit-code", "0", "--outputs"];
    let files = [list.to_str().unwrap(), "--stderr", log.to_str().unwrap()];
    assert_eq!(cli.ok(&[&finish[..], &files[..]].concat()), "");

    let second = Cli::of(&server);
    let target = folder.path().join("target");
    let flags = ["action", "result", action, "--download", target.to_str().unwrap()];
    let result: Value = serde_json::from_str(&second.ok(&flags)).unwrap();
    assert_eq!(result["exit_code"], 0);
    for name in ["files", "symlinks", "directories"] {
        assert_eq!(result[name], outputs[name]);
    }
    assert_eq!(result["stderr_digest"], Blob::new("warning: none\n").digest.to_string());
    assert_eq!(result["stdout_digest"], Value::Null);
    std::os::unix::fs::symlink("a", output.join("made/link")).unwrap();
    assert_eq!(snapshot(&target), snapshot(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_cannot_be_had_is_not_stored() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("outputs.json");
    let action = Blob::new("no real action").digest.to_string();
    let missing = Blob::new("never stored").digest.to_string();
    let wrong = [
        ("[]", 64, "is no JSON object"),
        ("{\"file\": [{}]}", 64, "\"file\" is none of files"),
        ("{\"files\": [{\"path\": \"a\"}]}", 64, "has no \"digest\""),
        ("{\"files\": [{\"path\": \"a\", \"digest\": \"x\"}]}", 64, "HASH/SIZE"),
        ("{\"symlinks\": [{\"path\": \"../a\", \"target\": \"b\"}]}", 64, "out of it"),
        ("{\"symlinks\": [{\"path\": \"/a\", \"target\": \"b\"}]}", 64, "a name is empty"),
        ("{\"symlinks\": [{\"path\": \"a\", \"to\": \"b\"}]}", 64, "\"to\" is none of"),
        (&format!("{{\"files\": [{{\"path\": \"a\", \"digest\": \"{missing}\"}}]}}"), 1, &missing),
    ];
    for (text, expected, problem) in wrong {
        make_file(&list, text.as_bytes(), false);
        let finish = ["action", "finish", &action, "--exit-code", "0", "--outputs"];
        let (code, _, errors) = cli.run(&[&finish[..], &[list.to_str().unwrap()]].concat());
        assert_eq!(code, Some(expected), "{text}: {errors}");
        assert!(errors.contains(problem), "{text}: {errors}");
    }
    assert_eq!(cli.run(&["action", "result", &action]).0, Some(2));
    let create = ["action", "create", "--input-root", &missing, "--", "true"];
    let (code, _, errors) = cli.run(&create);
    assert_eq!(code, Some(1));
    assert_eq!(errors, format!("error: {missing} is not on the server\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_what_came_of_an_action() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("outputs.json");
    make_file(&list, b"{}", false);
    let action = Blob::new("an action that somebody else has").digest.to_string();
    assert_eq!(cli.run(&["action", "result", &action]).0, Some(2));
    assert_eq!(Cli::at("grpc://127.0.0.1:1").run(&["action", "result", &action]).0, Some(1));
    for (exit_code, expected) in [("0", 0), ("127", 3), ("-9", 3)] {
        let finish = ["action", "finish", &action, "--outputs", list.to_str().unwrap()];
        cli.ok(&[&finish[..], &["--exit-code", exit_code]].concat());
        let (code, text, errors) = cli.run(&["action", "result", &action]);
        assert_eq!(code, Some(expected), "{exit_code}: {errors}");
        let result: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(result["exit_code"].to_string(), exit_code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_that_nobody_could_run_are_not_made() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let text = Blob::new("no message at all\n");
    let root = directory(&[], &[]);
    server.put(&[&text, &root]).await;
    let (text, root) = (text.digest.to_string(), root.digest.to_string());
    let wrong: &[(&[&str], i32, &str)] = &[
        (&[&text], 1, "directory"),
        (&[&root, "--output", "../x"], 64, "--output: \"../x\""),
        (&[&root, "--output", "a/../x"], 64, "--output: \"a/../x\""),
        (&[&root, "--output", "/x"], 64, "--output: \"/x\""),
        (&[&root, "--output", "x/"], 64, "--output: \"x/\""),
        (&[&root, "--workdir", "../.."], 64, "--workdir: \"../..\""),
        (&[&root, "--workdir", "."], 64, "--workdir: \".\""),
        (&[&root, "--timeout", "soon"], 64, "--timeout: "),
    ];
    for (arguments, expected, problem) in wrong {
        let create = [&["action", "create", "--input-root"], *arguments, &["--", "true"]].concat();
        let (code, text, errors) = cli.run(&create);
        assert_eq!((code, text.as_str()), (Some(*expected), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(problem), "{arguments:?}: {errors}");
    }
    let create = ["action", "create", "--input-root", &root, "--timeout", "1500ms"];
    let action = cli.ok(&[&create[..], &["--do-not-cache", "--output", "", "--", "true"]].concat());
    let shown: Value = serde_json::from_str(&cli.ok(&["action", "show", action.trim()])).unwrap();
    assert_eq!((&shown["timeout_seconds"], &shown["do_not_cache"]), (&json!(1.5), &json!(true)));
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("outputs.json");
    make_file(&list, b"{}", false);
    let finish = ["action", "finish", &text, "--exit-code", "0", "--outputs"];
    let (code, _, errors) = cli.run(&[&finish[..], &[list.to_str().unwrap()]].concat());
    assert!(code == Some(1) && errors.contains("action"), "{errors}");
    assert_eq!(cli.run(&["action", "result", &text]).0, Some(2));
}

/// Whoever stored the result chose its paths.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_outputs_touch_nothing() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let file = Blob::new("evil");
    let hostile_tree = tree(&[&directory(&[("../evil", &file)], &[])]);
    server.put(&[&file, &hostile_tree]).await;
    let outside = v2::ActionResult {
        output_files: vec![output_file("../evil", &file)],
        ..v2::ActionResult::default()
    };
    let output = v2::OutputDirectory {
        path: "out".to_owned(),
        tree_digest: Some(hostile_tree.v2()),
        ..v2::OutputDirectory::default()
    };
    let below = v2::ActionResult { output_directories: vec![output], ..Default::default() };
    for (label, result) in [("outside", outside), ("below", below)] {
        let action = Blob::new(label);
        server.update_result(&action, result.encode_to_vec()).await.unwrap();
        let target = folder.path().join("target");
        let digest = action.digest.to_string();
        let flags = ["action", "result", &digest, "--download", target.to_str().unwrap()];
        let (code, _, errors) = cli.run(&flags);
        assert!(code == Some(1) && errors.contains("../evil"), "{label}: {errors}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{label}");
    }
}
