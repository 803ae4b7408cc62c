//! What is left out means the same as its default.

use super::*;
use std::fmt::Write as _;

/// A document as text, with the default of every key that its objects leave out.
fn filled_in(node: &Node, kind: Option<&'static Kind>) -> String {
    let inner = |kind: Option<&'static Kind>| match kind {
        Some(Kind::List(inner) | Kind::Map(inner)) => Some(*inner),
        _ => None,
    };
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(spelling) => spelling.clone(),
        Value::Text(text) => serde_json::json!(text).to_string(),
        Value::List(nodes) => {
            let (shape, kind) = match kind {
                Some(Kind::Instances(shape) | Kind::InstancesOr(shape, _)) => (Some(*shape), None),
                kind => (None, inner(kind)),
            };
            let items = nodes.iter().map(|node| match (shape, &node.value) {
                (Some(shape), Value::Object(entries)) => {
                    object(entries, shape, Some(&INSTANCE_NAME))
                }
                _ => filled_in(node, kind),
            });
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        Value::Object(entries) => match kind {
            Some(Kind::Object(shape) | Kind::ChoiceOr(_, shape) | Kind::InstancesOr(_, shape)) => {
                object(entries, shape, None)
            }
            Some(Kind::Tagged(tag, shapes)) => {
                object(entries, tagged(entries, tag, shapes).unwrap(), None)
            }
            kind => {
                let shape = match kind {
                    Some(Kind::Instances(shape)) => Some(*shape),
                    _ => None,
                };
                let mut text = String::from("{");
                for entry in entries {
                    let value = match (shape, &entry.node.value) {
                        (Some(shape), Value::Object(entries)) => object(entries, shape, None),
                        _ => filled_in(&entry.node, inner(kind)),
                    };
                    write!(text, "{}:{value},", serde_json::json!(entry.key)).unwrap();
                }
                text + "}"
            }
        },
    }
}

fn object(entries: &[Entry], shape: &'static Shape, first: Option<&'static Field>) -> String {
    let mut text = String::from("{");
    for entry in entries {
        let mut fields = shape.all();
        let field = fields.find(|it| it.name == entry.key || it.old_name == Some(&*entry.key));
        let value = filled_in(&entry.node, field.map(|field| &field.kind));
        write!(text, "{}:{value},", serde_json::json!(entry.key)).unwrap();
    }
    for field in first.into_iter().chain(shape.fields).chain(shape.shared) {
        let is_given = |name: &str| entries.iter().any(|entry| entry.key == name);
        if [Some(field.name), field.old_name, field.unless].into_iter().flatten().any(is_given) {
            continue;
        }
        // What the process as a whole does is not said by every endpoint of it.
        let default = match field.absent {
            Absent::Is(Literal::Text(word)) => serde_json::json!(word).to_string(),
            Absent::Is(Literal::Number(number)) => number.to_string(),
            Absent::Is(Literal::Flag(flag)) => flag.to_string(),
            Absent::Empty => {
                let Kind::Object(shape) = field.kind else { panic!("{}", field.name) };
                object(&[], shape, None)
            }
            _ => continue,
        };
        write!(text, "{}:{default},", field.name).unwrap();
    }
    text + "}"
}

/// A configuration as text, without the places.
fn without_places(config: &crate::CasConfig) -> String {
    let text = format!(
        "{:?}",
        (
            &config.stores,
            &config.servers,
            &config.global,
            &config.schedulers,
            &config.workers,
            &config.experimental_origin_events
        )
    );
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("Place { file: ") {
        kept.push_str(before);
        // The path is the last field, and has its quotes escaped.
        let path = after.split_once("path: \"").unwrap().1;
        let end = (0..path.len())
            .find(|at| path[*at..].starts_with("\" }") && !path[..*at].ends_with('\\'));
        rest = &path[end.unwrap() + 3..];
    }
    kept + rest
}

#[test]
fn what_is_left_out_means_its_default() {
    static WHOLE: Kind = Kind::Object(&ROOT);
    for (path, text) in files("valid") {
        let filled = filled_in(&document(&text).root, Some(&WHOLE));
        let parse = |text: &str| match crate::parse("f", text, &env) {
            Ok(config) => without_places(&config),
            Err(problems) => panic!("{}\n{problems}\n{text}", path.display()),
        };
        let (found, expected) = (parse(&filled), parse(&text));
        let differs = found.chars().zip(expected.chars()).position(|(a, b)| a != b);
        let around = |text: &str| {
            let at = differs.unwrap_or_default();
            text.chars().skip(at.saturating_sub(150)).take(250).collect::<String>()
        };
        assert!(found == expected, "{}\n{}\n{}", path.display(), around(&found), around(&expected));
    }
}
