//! As much of JSON schema as `json.rs` uses, for documents that keep the spelling of numbers.

use crate::document::{Node, Value};
use serde_json::Value as Json;

/// What of a document is not as a schema says.
pub(super) fn check(schema: &Json, root: &Node) -> Vec<String> {
    let mut problems = Vec::new();
    Validator { root: schema }.check(schema, root, "", &mut problems);
    problems
}

struct Validator<'s> {
    root: &'s Json,
}

impl Validator<'_> {
    fn is_valid(&self, schema: &Json, node: &Node) -> bool {
        let mut problems = Vec::new();
        self.check(schema, node, "", &mut problems);
        problems.is_empty()
    }

    fn check(&self, schema: &Json, node: &Node, path: &str, problems: &mut Vec<String>) {
        for (keyword, argument) in schema.as_object().unwrap() {
            let is_right = match keyword.as_str() {
                "$schema" | "$defs" | "description" | "default" | "deprecated" => true,
                "$ref" => {
                    let pointer = argument.as_str().unwrap().trim_start_matches('#');
                    self.check(self.root.pointer(pointer).unwrap(), node, path, problems);
                    true
                }
                "type" => match argument {
                    Json::String(name) => is_type(node, name),
                    names => names
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|it| is_type(node, it.as_str().unwrap())),
                },
                "enum" => argument.as_array().unwrap().iter().any(|word| match &node.value {
                    Value::Text(text) => word.as_str() == Some(text),
                    Value::Null => word.is_null(),
                    _ => false,
                }),
                "pattern" => match &node.value {
                    Value::Text(text) => {
                        regex_lite::Regex::new(argument.as_str().unwrap()).unwrap().is_match(text)
                    }
                    _ => true,
                },
                "minLength" => !matches!(&node.value, Value::Text(text) if text.is_empty()),
                "minimum" => match &node.value {
                    Value::Number(spelling) => {
                        spelling.parse::<f64>().map_or(true, |it| it >= argument.as_f64().unwrap())
                    }
                    _ => true,
                },
                "anyOf" => argument.as_array().unwrap().iter().any(|it| self.is_valid(it, node)),
                "oneOf" => {
                    let of = argument.as_array().unwrap();
                    of.iter().filter(|it| self.is_valid(it, node)).count() == 1
                }
                "required" => match &node.value {
                    Value::Object(entries) => argument.as_array().unwrap().iter().all(|key| {
                        entries.iter().any(|entry| Some(entry.key.as_str()) == key.as_str())
                    }),
                    _ => true,
                },
                "items" => {
                    if let Value::List(nodes) = &node.value {
                        for (index, node) in nodes.iter().enumerate() {
                            self.check(argument, node, &format!("{path}[{index}]"), problems);
                        }
                    }
                    true
                }
                "properties" | "additionalProperties" => {
                    self.check_keys(keyword, schema, node, path, problems);
                    true
                }
                other => panic!("the validator does not know {other}"),
            };
            if !is_right {
                problems.push(format!("{path}: {keyword} {argument}"));
            }
        }
    }

    fn check_keys(
        &self,
        keyword: &str,
        schema: &Json,
        node: &Node,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        let Value::Object(entries) = &node.value else { return };
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            let own = schema.pointer("/properties").and_then(|all| all.get(&entry.key));
            match (keyword, own, schema.get("additionalProperties")) {
                ("properties", Some(schema), _) | (_, None, Some(schema @ Json::Object(_))) => {
                    self.check(schema, &entry.node, &path, problems);
                }
                ("additionalProperties", None, Some(Json::Bool(false))) => {
                    problems.push(format!("{path}: unknown key"));
                }
                _ => {}
            }
        }
    }
}

fn is_type(node: &Node, name: &str) -> bool {
    match (&node.value, name) {
        (Value::Number(spelling), "integer") => !spelling.contains('.'),
        (Value::Null, "null")
        | (Value::Bool(_), "boolean")
        | (Value::Number(_), "number")
        | (Value::Text(_), "string")
        | (Value::List(_), "array")
        | (Value::Object(_), "object") => true,
        _ => false,
    }
}
