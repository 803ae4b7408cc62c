//! Goal: JSON5 as people write it is understood, every place is right, hostile text is refused
//! without a crash. Method: small texts shown back as one line with places.

use super::*;
use std::fmt::Write as _;

fn show(text: &str) -> String {
    match read(&"f".into(), text) {
        Ok(document) => {
            let mut shown = String::new();
            show_node(&document.root, &mut shown);
            for problem in &document.problems {
                write!(shown, " !{problem}").unwrap();
            }
            shown
        }
        Err(problem) => problem.to_string(),
    }
}

fn show_node(node: &Node, shown: &mut String) {
    let Position { line, column } = node.at;
    match &node.value {
        Value::Null => shown.push_str("null"),
        Value::Bool(value) => write!(shown, "{value}").unwrap(),
        Value::Number(spelling) => write!(shown, "#{spelling}").unwrap(),
        Value::Text(text) => write!(shown, "{text:?}").unwrap(),
        Value::List(nodes) => {
            shown.push('[');
            for node in nodes {
                show_node(node, shown);
                shown.push(' ');
            }
            shown.push(']');
        }
        Value::Object(entries) => {
            shown.push('{');
            for Entry { key, at, node } in entries {
                write!(shown, "{key}@{}:{}=", at.line, at.column).unwrap();
                show_node(node, shown);
                shown.push(' ');
            }
            shown.push('}');
        }
    }
    write!(shown, "@{line}:{column}").unwrap();
}

#[test]
fn json5_spellings_are_understood() {
    for (text, expected) in [
        ("{}", "{}@1:1"),
        ("null // done", "null@1:1"),
        ("/* a\n b */ true", "true@2:7"),
        ("'single \"quoted\"'", "\"single \\\"quoted\\\"\"@1:1"),
        ("\"\\u0041\\x42\\n\\v\"", "\"AB\\n\\u{b}\"@1:1"),
        ("\"one \\\n line\"", "\"one  line\"@1:1"),
        ("\"one \\\r\n line\"", "\"one  line\"@1:1"),
        (
            "[1, +1, -1, .5, 5., 1e9, 0x10, Infinity, -Infinity, NaN,]",
            "[#1@1:2 #+1@1:5 #-1@1:9 #.5@1:13 #5.@1:17 #1e9@1:21 #0x10@1:26 #Infinity@1:32 \
          #-Infinity@1:42 #NaN@1:53 ]@1:1",
        ),
        (
            "{plain: 1, $dollar_2: 2, 'quoted key': 3, \"a\": 4,}",
            "{plain@1:2=#1@1:9 $dollar_2@1:12=#2@1:23 quoted key@1:26=#3@1:40 a@1:43=#4@1:48 }@1:1",
        ),
        (
            "{null: 1, true: 2, nullable: 3}",
            "{null@1:2=#1@1:8 true@1:11=#2@1:17 nullable@1:20=#3@1:30 }@1:1",
        ),
    ] {
        assert_eq!(show(text), expected, "{text:?}");
    }
}

#[test]
fn places_count_lines_and_characters() {
    assert_eq!(show("{\r\n  a: 1\r\n}"), "{a@2:3=#1@2:6 }@1:1");
    assert_eq!(show("{\r  a: 1}"), "{a@2:3=#1@2:6 }@1:1");
    assert_eq!(show("['\u{e9}\u{1f600}', 1]"), "[\"\u{e9}\u{1f600}\"@1:2 #1@1:8 ]@1:1");
    assert_eq!(show("\u{feff}{a: 1}"), "{a@1:2=#1@1:5 }@1:1");
    assert_eq!(show("\u{feff}{a 1}"), "f:1:4: expected \":\" after the key");
}

#[test]
fn duplicate_keys_are_problems_and_the_first_one_counts() {
    assert_eq!(
        show("{a: {b: 1,\n 'b': 2}, c: [{d: 1, d: 1}]}"),
        "{a@1:2={b@1:6=#1@1:9 }@1:5 c@2:11=[{d@2:16=#1@2:19 }@2:15 ]@2:14 }@1:1 \
         !f:2:2: a.b: duplicate key; line 1 has it already \
         !f:2:22: c[0].d: duplicate key; line 2 has it already"
    );
}

#[test]
fn syntax_errors_have_a_place_and_a_reason() {
    for (text, expected) in [
        ("", "f:1:1: the file is empty; expected an object: { stores: [...], servers: [...] }"),
        (
            "// nothing\n",
            "f:2:1: the file is empty; expected an object: { stores: [...], servers: [...] }",
        ),
        ("{a: 1 b: 2}", "f:1:6: expected \",\" before the next value"),
        ("[1 2]", "f:1:3: expected \",\" before the next value"),
        ("{a: }", "f:1:5: unexpected \"}\""),
        ("{a:", "f:1:4: expected a value after \":\""),
        ("{a", "f:1:3: expected \":\" after the key"),
        ("{a: word}", "f:1:5: unexpected word; a text needs quotes"),
        ("{a: /data}", "f:1:5: unexpected word; a text needs quotes"),
        ("{a: word, b: 1}", "f:1:5: unexpected word; a text needs quotes"),
        ("{a: 1}}", "f:1:7: expected the end of the file after the closing \"}\""),
        ("{a: [1, 2}", "f:1:10: unexpected \"}\""),
        ("\n {a: [1", "f:2:6: this \"[\" has no matching \"]\""),
        ("{a: 1", "f:1:1: this \"{\" has no matching \"}\""),
        ("{a: 1 /* }", "f:1:7: this \"/*\" has no matching \"*/\""),
        ("{a: 'b", "f:1:5: unterminated string literal"),
        ("{\n a: \"/data,\n b: \"/tmp\" }", "f:2:5: this text has no closing quote on its line"),
        ("{a: '\\\\\n'}", "f:1:5: this text has no closing quote on its line"),
        ("{a: '\\1'}", "f:1:6: invalid escape"),
        ("{a: 1,, b: 2}", "f:1:7: unexpected ','"),
        ("{a: @}", "f:1:5: unexpected '@'"),
    ] {
        assert_eq!(show(text), expected, "{text:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(show(&nested(MAX_NESTING)).starts_with("[[["));
    let message = "arrays and objects nest deeper than 100 levels";
    assert_eq!(show(&nested(MAX_NESTING + 1)), format!("f:1:101: {message}"));
    assert_eq!(show(&"[".repeat(100_000)), format!("f:1:101: {message}"));
    assert_eq!(show(&"{a:".repeat(100_000)), format!("f:1:301: {message}"));
    // Brackets in texts and comments are not nesting.
    assert_eq!(show(&format!("//{}\n'{}'", "[".repeat(200), "[".repeat(3))), "\"[[[\"@2:1");
}

#[test]
fn large_files_are_refused_and_long_lines_are_quick() {
    assert_eq!(
        show(&" ".repeat(MAX_FILE_BYTES + 1)),
        "f:1:1: the file has 1048577 bytes; a configuration has at most 1048576"
    );
    // Quadratic work over this line would take minutes.
    let line = format!("[{}]", "1,".repeat(MAX_FILE_BYTES / 2 - 1));
    let document = read(&"f".into(), &line).unwrap();
    let Value::List(nodes) = document.root.value else { panic!("a list") };
    assert_eq!(nodes.last().unwrap().at.column as usize, line.len() - 2);
}
