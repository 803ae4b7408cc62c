//! Goal: the schema says of every key what the readers do. Method: every file of testdata/valid is
//! read with notes; each object of it has to have the keys of its shape and no other, each value
//! has to be read as the schema says, and no key of the schema may be in none of the files. What is
//! left out has to mean the same as its default. The JSON schema is used on the same files.

mod defaults;
mod validator;

use super::json::schema;
use super::settings::{Setting, Source, default_value, tagged};
use super::*;
use crate::document::{self, Document, Entry, Node, Value};
use crate::reader::Trace;
use crate::reader::trace::{Effective, Scalar};
use crate::units::{parse_duration, parse_size};
use crate::{Diagnostics, parse_with_settings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/ada".to_owned()),
        "ROOT" => Some("/srv".to_owned()),
        _ => None,
    }
}

/// Name and text of each file of a folder of testdata/.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json5"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn document(text: &str) -> Document {
    document::read(&"f".into(), text).unwrap()
}

/// Reads a file with notes.
fn traced(text: &str) -> (Node, Trace) {
    let Document { root, problems } = document(text);
    let mut reader = crate::reader::Reader::new("f".into(), &env, problems);
    reader.trace();
    crate::config::read(&mut reader, &root).unwrap();
    (root, reader.take_trace())
}

/// What is not as the schema says, and what was seen of it.
#[derive(Default)]
struct Comparison {
    problems: Vec<String>,
    /// Shape and key.
    seen: BTreeSet<(&'static str, &'static str)>,
}

impl Comparison {
    fn object(
        &mut self,
        node: &Node,
        shape: &'static Shape,
        first: &[&'static str],
        trace: &Trace,
    ) {
        let Value::Object(entries) = &node.value else { panic!("{}: {node:?}", shape.name) };
        let known: BTreeSet<&str> = trace.objects[&node.at].iter().copied().collect();
        let mut expected: BTreeSet<&str> = first.iter().copied().collect();
        expected.extend(shape.all().map(|field| field.name));
        expected.extend(shape.all().filter_map(|field| field.old_name));
        if known != expected {
            let missing: Vec<_> = known.difference(&expected).collect();
            let extra: Vec<_> = expected.difference(&known).collect();
            let name = shape.name;
            self.problems
                .push(format!("{name}: schema has not {missing:?}, readers not {extra:?}"));
        }
        for entry in entries.iter().filter(|entry| !matches!(entry.node.value, Value::Null)) {
            for field in shape.all() {
                if entry.key == field.name || Some(entry.key.as_str()) == field.old_name {
                    let is_shared = shape.shared.iter().any(|it| it.name == field.name);
                    self.seen.insert((if is_shared { "" } else { shape.name }, field.name));
                    self.value(
                        &entry.node,
                        &field.kind,
                        &format!("{}.{}", shape.name, field.name),
                        trace,
                    );
                }
            }
        }
    }

    fn value(&mut self, node: &Node, kind: &'static Kind, name: &str, trace: &Trace) {
        let instance = &["instance_name"];
        match (kind, &node.value) {
            (Kind::List(inner), Value::List(nodes)) => {
                for node in nodes {
                    self.value(node, inner, name, trace);
                }
            }
            (Kind::Map(inner), Value::Object(entries)) => {
                for entry in entries {
                    self.value(&entry.node, inner, name, trace);
                }
            }
            (Kind::Instances(shape) | Kind::InstancesOr(shape, _), Value::List(nodes)) => {
                for node in nodes {
                    self.object(node, shape, instance, trace);
                }
            }
            (Kind::Instances(shape), Value::Object(entries)) => {
                for entry in entries {
                    self.object(&entry.node, shape, &[], trace);
                }
            }
            (
                Kind::Object(shape) | Kind::ChoiceOr(_, shape) | Kind::InstancesOr(_, shape),
                Value::Object(_),
            ) => self.object(node, shape, &[], trace),
            (Kind::Tagged(tag, shapes), Value::Object(entries)) => {
                self.object(node, tagged(entries, tag, shapes).unwrap(), &[], trace);
            }
            _ => self.scalar(node, kind, name, trace),
        }
    }

    fn scalar(&mut self, node: &Node, kind: &Kind, name: &str, trace: &Trace) {
        let found = trace.values.get(&node.at).map(|given| &given.scalar);
        let is_same = match (kind, found) {
            // Which of several providers it is, is known from the value.
            (Kind::Choice([one]), Some(Scalar::Choice(words))) => words.contains(one),
            (Kind::Choice(expected) | Kind::ChoiceOr(expected, _), Some(Scalar::Choice(words))) => {
                words == expected
            }
            (Kind::Name, Some(Scalar::Name))
            | (Kind::Text, Some(Scalar::Text))
            | (Kind::Path, Some(Scalar::Path))
            | (Kind::Size, Some(Scalar::Size))
            | (Kind::Seconds, Some(Scalar::Seconds))
            | (Kind::DecimalSeconds, Some(Scalar::DecimalSeconds))
            | (Kind::Milliseconds, Some(Scalar::Milliseconds))
            | (Kind::SecondsOrNever, Some(Scalar::SecondsOrNever))
            | (Kind::Count, Some(Scalar::Count))
            | (Kind::Decimal, Some(Scalar::Decimal))
            | (Kind::Flag, Some(Scalar::Flag))
            | (Kind::Word, Some(Scalar::Word)) => true,
            _ => false,
        };
        if !is_same {
            self.problems.push(format!("{name}: schema has {kind:?}, readers {found:?}"));
        }
    }
}

/// Every shape that the root leads to, by its name.
fn shapes() -> BTreeMap<&'static str, &'static Shape> {
    fn of_kind(kind: &'static Kind, found: &mut BTreeMap<&'static str, &'static Shape>) {
        match kind {
            Kind::List(inner) | Kind::Map(inner) => of_kind(inner, found),
            Kind::Object(shape) | Kind::Instances(shape) | Kind::ChoiceOr(_, shape) => {
                of_shape(shape, found);
            }
            Kind::InstancesOr(shape, old) => {
                of_shape(shape, found);
                of_shape(old, found);
            }
            Kind::Tagged(_, shapes) => shapes.iter().for_each(|(_, shape)| of_shape(shape, found)),
            _ => {}
        }
    }
    fn of_shape(shape: &'static Shape, found: &mut BTreeMap<&'static str, &'static Shape>) {
        match found.insert(shape.name, shape) {
            Some(other) => assert!(std::ptr::eq(other, shape), "two shapes {}", shape.name),
            None => shape.all().for_each(|field| of_kind(&field.kind, found)),
        }
    }
    let mut found = BTreeMap::new();
    of_shape(&ROOT, &mut found);
    found
}

#[test]
fn schema_and_readers_have_the_same_keys_of_the_same_kinds() {
    let mut comparison = Comparison::default();
    for (_, text) in files("valid") {
        let (root, trace) = traced(&text);
        comparison.object(&root, &ROOT, &[], &trace);
    }
    comparison.problems.sort();
    comparison.problems.dedup();
    assert!(comparison.problems.is_empty(), "{:#?}", comparison.problems);
    let unseen: Vec<_> = shapes()
        .values()
        .flat_map(|shape| {
            let own = shape.fields.iter().chain(shape.kinds);
            let shared = shape.shared.iter().map(|field| ("", field.name));
            own.map(|field| (shape.name, field.name)).chain(shared)
        })
        .filter(|key| !comparison.seen.contains(key))
        // A store inside another one is read as one with a name is.
        .filter(|(shape, _)| *shape != "backend" && *shape != "inner_scheduler")
        .collect();
    assert!(unseen.is_empty(), "in no file of testdata/valid: {unseen:#?}");
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for shape in shapes().values() {
        for field in shape.all() {
            let (Absent::Is(literal) | Absent::Usually(literal)) = field.absent else { continue };
            let value = default_value(&field.kind, literal);
            let is_right = match field.kind {
                Kind::Size => matches!(value, Effective::Bytes(_)),
                Kind::Seconds
                | Kind::Milliseconds
                | Kind::SecondsOrNever
                | Kind::DecimalSeconds => matches!(value, Effective::Duration(_)),
                Kind::Count | Kind::Decimal => matches!(value, Effective::Count(_)),
                Kind::Flag => matches!(value, Effective::Flag(_)),
                Kind::Choice(words) | Kind::ChoiceOr(words, _) => {
                    matches!(&value, Effective::Text(word) if words.contains(&word.as_str()))
                }
                _ => matches!(value, Effective::Text(_)),
            };
            assert!(is_right, "{}.{}: {value:?}", shape.name, field.name);
        }
    }
}

#[test]
fn valid_files_have_the_structure_of_the_json_schema() {
    let schema = schema();
    for (path, text) in files("valid") {
        let problems = validator::check(&schema, &document(&text).root);
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
    }
}

#[test]
fn mistakes_in_the_structure_are_found_by_the_json_schema() {
    let schema = schema();
    let mut found = 0;
    for (path, text) in files("invalid") {
        let Ok(Document { root, .. }) = document::read(&"f".into(), &text) else { continue };
        let problems = crate::parse("f", &text, &env).unwrap_err();
        let is_structural = |message: &str| {
            ["unknown key", "expected a", "is not one of", "this key is required"]
                .iter()
                .any(|words| message.starts_with(words) || message.contains(" is not one of "))
        };
        if problems.iter().any(|problem| is_structural(&problem.message)) {
            found += 1;
            let noticed = !validator::check(&schema, &root).is_empty();
            assert!(noticed, "{} has the structure of the schema", path.display());
        }
    }
    assert!(found >= 5, "{found}");
}

#[test]
fn patterns_accept_what_the_readers_accept() {
    let schema = schema();
    let pattern = |pointer: &str| {
        let pattern = schema.pointer(pointer).and_then(serde_json::Value::as_str);
        regex_lite::Regex::new(pattern.unwrap_or_else(|| panic!("{pointer}"))).unwrap()
    };
    let size = pattern("/$defs/eviction_policy/properties/max_bytes/pattern");
    let time = pattern("/$defs/eviction_policy/properties/max_seconds/pattern");
    for text in [
        "100",
        "10k",
        "10gb",
        "10 GiB",
        "1.5TB",
        " 7 ",
        "1b",
        "",
        "x",
        "10 GiBs",
        "-1",
        "1,5k",
        "5 m",
        "1h30m",
        "1 h",
        "500ms",
        "7 days",
        "1.5h",
        "0",
        "90",
        "1d 2h",
        "3 \u{b5}s",
        "1 fortnight",
        "1H",
        "2M",
        "m",
        "1h 30",
        "0s",
    ] {
        assert_eq!(size.is_match(text), parse_size(text).is_ok(), "size {text:?}");
        assert_eq!(time.is_match(text), parse_duration(text).is_ok(), "duration {text:?}");
    }
    assert!(size.is_match("${SIZE:-1GiB}") && time.is_match("$AGE"));
}

fn settings(text: &str) -> Vec<Setting> {
    parse_with_settings("f", text, &env).unwrap_or_else(|problems| panic!("{problems}")).1
}

fn setting<'s>(settings: &'s [Setting], path: &str) -> &'s Setting {
    let found = settings.iter().find(|setting| setting.path == path);
    found.unwrap_or_else(|| panic!("{path} is not in {settings:#?}"))
}

#[test]
fn settings_say_where_each_value_comes_from() {
    let settings = settings(
        "{\n stores: [{ name: 'A', filesystem: {\n  content_path: '$ROOT/cas',\n  eviction_policy: \
         { max_bytes: '10 GiB' },\n  lease_s: '90s' } }],\n servers: [{ listener: { http: { \
         socket_address: ':1' } }, services: { cas: [{ cas_store: 'A' }] } }] }",
    );
    let shown = |path: &str| {
        let setting = setting(&settings, path);
        let source = match &setting.source {
            Source::File(place) => place.to_string(),
            Source::Environment(place) => format!("{place} env"),
            Source::Default => "default".to_owned(),
        };
        format!("{} {source}", setting.value)
    };
    assert_eq!(shown("stores[0].name"), "\"A\" f:2:19");
    assert_eq!(shown("stores[0].filesystem.content_path"), "\"/srv/cas\" f:3:17 env");
    assert_eq!(shown("stores[0].filesystem.eviction_policy.max_bytes"), "10GiB f:4:33");
    assert_eq!(shown("stores[0].filesystem.eviction_policy.max_count"), "0 default");
    assert_eq!(shown("stores[0].filesystem.lease_s"), "1m30s f:5:12");
    assert_eq!(shown("stores[0].filesystem.durability"), "\"async\" default");
    assert_eq!(shown("global.default_digest_hash_function"), "\"sha256\" default");
    assert_eq!(shown("servers[0].services.cas[0].instance_name"), "\"\" default");
    assert_eq!(shown("servers[0].services.ac"), "none default");
    assert_eq!(shown("schedulers"), "none default");
    let paths: BTreeSet<&str> = settings.iter().map(|setting| setting.path.as_str()).collect();
    assert_eq!(paths.len(), settings.len(), "each key once");
}

#[test]
fn settings_of_valid_files_have_every_value_of_the_file() {
    fn scalars(node: &Node) -> usize {
        match &node.value {
            Value::Null => 0,
            Value::List(nodes) if !nodes.is_empty() => nodes.iter().map(scalars).sum(),
            Value::Object(entries) => entries.iter().map(|entry| scalars(&entry.node)).sum(),
            _ => 1,
        }
    }
    for (path, text) in files("valid") {
        let empty_maps = text.matches("{}").count();
        let given = settings(&text).iter().filter(|it| it.source != Source::Default).count();
        let expected = scalars(&document(&text).root);
        assert!((expected..=expected + empty_maps).contains(&given), "{} {given}", path.display());
    }
}

#[test]
fn secrets_are_in_no_setting_and_no_message() {
    for (path, text) in files("valid") {
        let text = text.replace("\"secret\"", "\"hunter2\"").replace(":secret@", ":hunter2@");
        for setting in settings(&text) {
            let shown = setting.value.to_string();
            let is_masked = !shown.contains("hunter2") && !shown.contains("sig=x");
            assert!(is_masked, "{}: {setting:?}", path.display());
        }
    }
    for (_, text) in files("invalid") {
        let problems: Diagnostics = crate::parse("f", &text, &env).unwrap_err();
        assert!(!problems.to_string().contains(":secret@"), "{problems}");
    }
}
