//! The JSON schema (draft 2020-12) with which editors complete and check a file.

use super::{Absent, Field, INSTANCE_NAME, Kind, Literal, ROOT, Shape};
use serde_json::{Map, Value, json};

const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE][iI]?)?[bB]?\s*$|\$";
const COUNT: &str = r"^\s*\+?(0[xX][0-9a-fA-F]+|[0-9]+)\s*$|\$";
const DECIMAL: &str = r"^\s*\+?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?\s*$|\$";
const FLAG: &str = r"^\s*(true|false)\s*$|\$";
/// One number with its unit; there may be several.
const SPAN: &str = concat!(
    r"[0-9]+(\.[0-9]+)?\s*(ns|nsec|us|usec|[\u00b5\u03bc]s|ms|msec|s|secs?|seconds?|m|mins?|",
    r"minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?)\s*",
);

/// The JSON schema of configuration files.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = object(&ROOT, None, &mut definitions);
    if let Value::Object(members) = &mut root {
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        members.shift_insert(0, "$schema".to_owned(), json!(dialect));
        definitions.sort_keys();
        members.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

/// An object with the keys of a shape, and with another one in front.
fn object(
    shape: &'static Shape,
    first: Option<&'static Field>,
    definitions: &mut Map<String, Value>,
) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in first.into_iter().chain(shape.all()) {
        let is_kind = shape.kinds.iter().any(|kind| kind.name == field.name);
        let is_needed = matches!(field.absent, Absent::Mistake);
        if is_needed {
            required.push(json!(field.name));
        }
        let of_value = value(&field.kind, !is_needed && !is_kind, definitions);
        if let Some(old_name) = field.old_name {
            let mut old = of_value.clone();
            insert(&mut old, "description", json!(format!("Old; write {}.", field.name)));
            insert(&mut old, "deprecated", json!(true));
            properties.insert(old_name.to_owned(), old);
        }
        properties.insert(field.name.to_owned(), described(field, is_kind, of_value));
    }
    let mut schema = json!({
        "type": "object",
        "description": shape.about,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        insert(&mut schema, "required", Value::Array(required));
    }
    if !shape.kinds.is_empty() {
        let kinds = shape.kinds.iter().map(|kind| json!({ "required": [kind.name] }));
        insert(&mut schema, "oneOf", kinds.collect());
    }
    schema
}

/// Adds what a key means to what it takes.
fn described(field: &Field, is_kind: bool, mut schema: Value) -> Value {
    let mut text = field.about.to_owned();
    let default = match field.absent {
        Absent::Is(literal) | Absent::Usually(literal) => Some(match literal {
            Literal::Text(word) => json!(word),
            Literal::Number(number) => json!(number),
            Literal::Flag(flag) => json!(flag),
        }),
        Absent::Words(words) if !is_kind && !field.is_old => {
            text.extend([" Default: ", words, "."]);
            None
        }
        _ => None,
    };
    if let Some(default) = default {
        insert(&mut schema, "default", default);
    }
    if field.is_own {
        text.push_str(" A key of Castellan that NativeLink does not have.");
    }
    insert(&mut schema, "description", json!(text));
    if field.is_old {
        insert(&mut schema, "deprecated", json!(true));
    }
    schema
}

/// What a key takes; `null` is the same as leaving it out.
fn value(kind: &'static Kind, or_null: bool, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = match kind {
        Kind::Name | Kind::Text => json!({ "type": ["string"] }),
        Kind::Path => json!({ "type": ["string"], "minLength": 1 }),
        Kind::Size => number_or("integer", SIZE),
        Kind::Count => number_or("integer", COUNT),
        Kind::Decimal => number_or("number", DECIMAL),
        Kind::Seconds => number_or("integer", &format!(r"^\s*(0|({SPAN})+)\s*$|\$")),
        Kind::DecimalSeconds => number_or("number", &format!(r"^\s*(0|({SPAN})+)\s*$|\$")),
        Kind::Milliseconds => number_or("integer", &format!(r"^\s*([0-9]+|({SPAN})+)\s*$|\$")),
        Kind::SecondsOrNever => {
            let mut schema = number_or("integer", &format!(r"^\s*(-1|0|({SPAN})+)\s*$|\$"));
            insert(&mut schema, "minimum", json!(-1));
            schema
        }
        Kind::Flag => json!({ "type": ["boolean", "string"], "pattern": FLAG }),
        Kind::Word => json!({ "type": ["integer", "string"] }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::List(inner) => {
            json!({ "type": ["array"], "items": value(inner, false, definitions) })
        }
        Kind::Map(inner) => json!({
            "type": ["object"],
            "additionalProperties": value(inner, false, definitions),
        }),
        // On its own, so that validators say what is wrong inside.
        Kind::Object(shape) if !or_null => reference(shape, None, definitions),
        Kind::Object(shape) => json!({ "anyOf": [reference(shape, None, definitions)] }),
        Kind::Instances(shape) => {
            let map = reference(shape, None, definitions);
            let map = json!({ "type": "object", "additionalProperties": map });
            json!({ "anyOf": [instances(shape, definitions), map] })
        }
        Kind::InstancesOr(shape, old) => {
            json!({ "anyOf": [instances(shape, definitions), reference(old, None, definitions)] })
        }
        Kind::Tagged(_, shapes) => {
            let shapes = shapes.iter().map(|(_, shape)| reference(shape, None, definitions));
            json!({ "anyOf": shapes.collect::<Vec<_>>() })
        }
        Kind::ChoiceOr(words, shape) => {
            json!({ "anyOf": [{ "enum": words }, reference(shape, None, definitions)] })
        }
    };
    if or_null {
        allow_null(&mut schema);
    }
    schema
}

fn number_or(number: &str, pattern: &str) -> Value {
    json!({ "type": [number, "string"], "minimum": 0, "pattern": pattern })
}

fn instances(shape: &'static Shape, definitions: &mut Map<String, Value>) -> Value {
    json!({ "type": "array", "items": reference(shape, Some(&INSTANCE_NAME), definitions) })
}

fn allow_null(schema: &mut Value) {
    for (member, null) in
        [("type", json!("null")), ("enum", Value::Null), ("anyOf", json!({ "type": "null" }))]
    {
        if let Some(Value::Array(choices)) = schema.get_mut(member) {
            choices.push(null);
        }
    }
}

/// Refers to the definition of a shape, which is made when it is first needed.
fn reference(
    shape: &'static Shape,
    first: Option<&'static Field>,
    definitions: &mut Map<String, Value>,
) -> Value {
    let name = match first {
        Some(_) => format!("{}_of_instance", shape.name),
        None => shape.name.to_owned(),
    };
    if !definitions.contains_key(&name) {
        // Stores are inside stores: the name is taken before the inside is looked at.
        definitions.insert(name.clone(), Value::Null);
        let definition = object(shape, first, definitions);
        definitions.insert(name.clone(), definition);
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn insert(schema: &mut Value, member: &str, value: Value) {
    if let Value::Object(members) = schema {
        members.insert(member.to_owned(), value);
    }
}
