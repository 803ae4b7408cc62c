//! Goal: no bytes make the reader panic, and every problem of theirs is at a place that is in the
//! text. Method: what `fuzz/` does without an end, for a moment and always the same: every file of
//! testdata/ with bytes changed, removed, repeated and taken from other files.

use super::super::*;
use super::env;
use crate::Source;

const ROUNDS: usize = 60;

/// A small generator of numbers that look random (xorshift), the same ones every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let folders = ["valid", "invalid"].map(|folder| testdata.join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json5"))
        .map(|path| std::fs::read_to_string(path).unwrap().into_bytes())
        .collect();
    // The order of a directory is nobody's promise.
    files.sort();
    files
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    let end = (at + numbers.below(12)).min(bytes.len());
    match numbers.below(6) {
        0 => drop(bytes.drain(at..end)),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
        2 => bytes.insert(at, u8::try_from(numbers.below(256)).unwrap()),
        3 => {
            let repeated = bytes[at..end].to_vec();
            bytes.splice(at..at, repeated);
        }
        4 => {
            let from = numbers.below(other.len());
            let to = (from + numbers.below(40)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => bytes.truncate(at.max(bytes.len() / 2)),
    }
}

/// Reads the text; every place that is named has to be in it.
fn read_any(text: &str) {
    let (problems, settings) = match parse_with_settings("f", text, &env) {
        Ok((config, settings)) => {
            let mut told = config.warnings;
            told.append(config.unsupported);
            (told, settings)
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason: {text:?}");
            (problems, Vec::new())
        }
    };
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let lines: Vec<usize> = text.split(['\n', '\r']).map(|line| line.chars().count()).collect();
    let places = settings.iter().filter_map(|setting| match &setting.source {
        Source::File(place) | Source::Environment(place) => Some(place),
        Source::Default => None,
    });
    for place in problems.iter().map(|problem| &problem.place).chain(places) {
        let chars = lines.get(place.line as usize - 1);
        let is_inside =
            chars.is_some_and(|chars| (1..=chars + 1).contains(&(place.column as usize)));
        assert!(is_inside, "{place} is not in {text:?}");
    }
}

#[test]
fn mutated_bytes_of_every_file_have_an_answer_inside_the_text() {
    let corpus = corpus();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for file in &corpus {
        for _ in 0..ROUNDS {
            let mut bytes = file.clone();
            for _ in 0..=numbers.below(4) {
                let other = &corpus[numbers.below(corpus.len())];
                mutate(&mut bytes, other, &mut numbers);
            }
            read_any(&String::from_utf8_lossy(&bytes));
        }
    }
    assert!(corpus.len() * ROUNDS > 2000, "{} files", corpus.len());
}
