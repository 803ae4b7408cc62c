//! Goal: what is asked for is added where it fits, and nothing else changes.

use super::*;

const MIB: usize = 1 << 20;

fn ask(stdout: bool, stderr: bool, output_files: &[&str]) -> InlineRequest {
    let output_files = output_files.iter().map(|path| (*path).to_owned()).collect();
    InlineRequest { stdout, stderr, output_files }
}

async fn get(fixture: &Fixture, inline: &InlineRequest) -> v2::ActionResult {
    v2::ActionResult::decode(fixture.get(inline).await.unwrap()).unwrap()
}

/// Two files and both streams, nothing inlined.
fn plain_result(fixture: &Fixture) -> v2::ActionResult {
    v2::ActionResult {
        output_files: vec![
            output_file("a", fixture.blob("content of a")),
            output_file("b", fixture.blob("content of b")),
        ],
        exit_code: 3,
        stdout_digest: Some(fixture.blob("standard output")),
        stderr_digest: Some(fixture.blob("standard error")),
        ..Default::default()
    }
}

#[tokio::test]
async fn reapi_82_exactly_what_is_asked_for_is_inlined() {
    let fixture = Fixture::new();
    let result = plain_result(&fixture);
    fixture.update(&result).await;
    let cases = [
        ask(false, false, &[]),
        ask(true, false, &[]),
        ask(false, true, &[]),
        ask(false, false, &["b"]),
        ask(true, true, &["b", "a", "a"]),
        ask(false, false, &["A", "./a", "a/", "", "c"]),
    ];
    for inline in cases {
        let mut expected = result.clone();
        if inline.stdout {
            expected.stdout_raw = b"standard output".to_vec();
        }
        if inline.stderr {
            expected.stderr_raw = b"standard error".to_vec();
        }
        for file in &mut expected.output_files {
            if inline.output_files.contains(&file.path) {
                file.contents = format!("content of {}", file.path).into_bytes();
            }
        }
        assert_eq!(get(&fixture, &inline).await, expected, "{inline:?}");
    }
}

#[tokio::test]
async fn unknown_fields_survive_inlining_at_every_level() {
    let fixture = Fixture::new();
    let unknown = b"\xc2\x3e\x03new";
    let unknown_group = b"\xcb\x3e\x08\x07\xcc\x3e";
    let mut file = output_file("a", fixture.blob("content of a")).encode_to_vec();
    file.splice(0..0, unknown_group.iter().copied());
    file.extend_from_slice(unknown);
    let frame = |file: &[u8]| [&[0x12, u8::try_from(file.len()).unwrap()], file].concat();
    let plain = v2::ActionResult {
        stdout_digest: Some(fixture.blob("standard output")),
        ..Default::default()
    };
    let tail = [&unknown[..], &plain.encode_to_vec(), &unknown_group[..]].concat();
    let encoded = [&unknown[..], &frame(&file), &tail].concat();
    fixture.cache.update(fixture.action, encoded.into()).await.unwrap();

    let served = fixture.get(&ask(true, false, &["a"])).await.unwrap();
    let grown = frame(&[&file[..], b"\x2a\x0ccontent of a"].concat());
    let stdout = b"\x2a\x0fstandard output";
    assert_eq!(served, [&unknown[..], &grown, &tail, &stdout[..]].concat());
}

#[tokio::test]
async fn reapi_83_what_came_inlined_is_left_alone() {
    let fixture = Fixture::new();
    let mut result = plain_result(&fixture);
    result.stdout_raw = b"another output".to_vec();
    result.output_files[0].contents = b"another content".to_vec();
    fixture.update(&result).await;
    assert_eq!(get(&fixture, &ask(false, false, &[])).await, result);
    assert_eq!(get(&fixture, &ask(true, false, &["a"])).await, result);
}

#[tokio::test]
async fn large_blobs_stay_digests() {
    let fixture = Fixture::new();
    let mut result = plain_result(&fixture);
    result.output_files[0].digest = Some(fixture.blob(vec![1; MIB + 1]));
    result.output_files[1].digest = Some(fixture.blob(vec![2; MIB]));
    result.stdout_digest = Some(fixture.blob(vec![3; 10 * MIB]));
    fixture.update(&result).await;
    let served = get(&fixture, &ask(true, true, &["a", "b"])).await;
    result.output_files[1].contents = vec![2; MIB];
    result.stderr_raw = b"standard error".to_vec();
    assert!(served == result);
}

#[tokio::test]
async fn whole_message_stays_under_the_limit() {
    let fixture = Fixture::new();
    let mut result = plain_result(&fixture);
    result.output_files.clear();
    let mut paths = Vec::new();
    for at in 0..8_u8 {
        paths.push(format!("file {at}"));
        // One byte short of the limit, so that framing counts too.
        let file = fixture.blob(vec![at; MIB - 1]);
        result.output_files.push(output_file(&paths[usize::from(at)], file));
    }
    fixture.update(&result).await;
    let inline = InlineRequest { stdout: true, stderr: true, output_files: paths };
    let encoded = fixture.get(&inline).await.unwrap();
    assert!(encoded.len() <= 4 * MIB - MIB / 2);
    let served = v2::ActionResult::decode(encoded).unwrap();
    let inlined = served.output_files.iter().filter(|file| !file.contents.is_empty());
    assert_eq!(inlined.count(), 3);
    assert_eq!(served.stderr_raw, b"standard error");
    assert!(served.output_files.iter().all(|file| file.digest.is_some()));
}

#[tokio::test]
async fn unreadable_blobs_stay_digests() {
    let fixture = Fixture::new();
    let mut result = plain_result(&fixture);
    fixture.update(&result).await;
    let broken = fixture.key(result.output_files[0].digest.as_ref().unwrap());
    fixture.store.corrupt.lock().insert(broken);
    let served = get(&fixture, &ask(false, false, &["a", "b"])).await;
    result.output_files[1].contents = b"content of b".to_vec();
    assert_eq!(served, result);
}

#[tokio::test]
async fn nothing_to_inline_changes_nothing() {
    let fixture = Fixture::new();
    let empty = fixture.digest(b"");
    let result = v2::ActionResult {
        output_files: vec![output_file("a", empty.clone())],
        stdout_digest: Some(empty),
        ..Default::default()
    };
    fixture.update(&result).await;
    let served = fixture.get(&ask(true, true, &["a"])).await.unwrap();
    assert_eq!(served, result.encode_to_vec());
}

#[tokio::test]
async fn i23_inlining_many_files_gives_the_thread_back() {
    let fixture = Fixture::new();
    let paths: Vec<String> = (0..1000).map(|number| format!("out/{number}")).collect();
    let files = paths.iter().map(|path| output_file(path, fixture.blob(path.clone()))).collect();
    fixture.update(&v2::ActionResult { output_files: files, ..Default::default() }).await;
    let inline = InlineRequest { output_files: paths, ..InlineRequest::default() };
    let mut turns = 0;
    let mut call = std::pin::pin!(get(&fixture, &inline));
    let result = std::future::poll_fn(|context| {
        turns += 1;
        call.as_mut().poll(context)
    })
    .await;
    assert!(result.output_files.iter().all(|file| file.contents == file.path.as_bytes()));
    assert!(turns > 1000 / 64, "{turns}");
}
