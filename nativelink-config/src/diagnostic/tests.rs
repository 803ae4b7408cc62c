//! Goal: problems read like a compiler's, and a hopeless file does not flood the terminal.

use super::*;

fn place(line: u32, column: u32, path: &str) -> Place {
    Place { file: "cas.json5".into(), line, column, path: path.to_owned() }
}

#[test]
fn diagnostics_display_place_path_and_message() {
    let problem = place(3, 7, "stores[0].name").problem("must not be empty");
    assert_eq!(problem.to_string(), "cas.json5:3:7: stores[0].name: must not be empty");
    let problem = place(1, 1, "").problem("the file is empty");
    assert_eq!(problem.to_string(), "cas.json5:1:1: the file is empty");
}

#[test]
fn diagnostics_are_listed_in_file_order() {
    let mut all = Diagnostics::default();
    assert!(all.is_empty());
    all.push(place(2, 1, "b").problem("second"));
    all.push(place(1, 9, "a").problem("first"));
    all.sort();
    assert_eq!(all.to_string(), "cas.json5:1:9: a: first\ncas.json5:2:1: b: second");
    assert_eq!(all.iter().count(), 2);
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let mut all = Diagnostics::default();
    for _ in 0..MAX_LISTED + 5 {
        all.push(place(1, 1, "").problem("wrong"));
    }
    assert_eq!(all.len(), MAX_LISTED + 5);
    assert_eq!(all.iter().count(), MAX_LISTED);
    assert!(all.to_string().ends_with("\nand 5 more problems"));
}
