//! Whether bytes decode as an `ActionResult`, decided without decoding them.
//!
//! A result is served to every client that asks for its action, so one that no client can parse
//! must not get in. Fields this program does not know are allowed and not looked into.

use super::wire::{Fields, WireError};

/// The type of a known field.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Any integer, `bool` or enum.
    Varint,
    /// `string`.
    Text,
    /// `bytes`.
    Bytes,
    /// A message.
    Message(Schema),
}

/// The known fields of a message, by number.
type Schema = &'static [(u32, Kind)];

const DIGEST: Schema = &[(1, Kind::Text), (2, Kind::Varint)];
/// `Timestamp` and `Duration`.
const SECONDS_NANOS: Schema = &[(1, Kind::Varint), (2, Kind::Varint)];
const UINT32_VALUE: Schema = &[(1, Kind::Varint)];
const ANY: Schema = &[(1, Kind::Text), (2, Kind::Bytes)];
const NODE_PROPERTY: Schema = &[(1, Kind::Text), (2, Kind::Text)];
const NODE_PROPERTIES: Schema = &[
    (1, Kind::Message(NODE_PROPERTY)),
    (2, Kind::Message(SECONDS_NANOS)),
    (3, Kind::Message(UINT32_VALUE)),
];
const OUTPUT_FILE: Schema = &[
    (1, Kind::Text),
    (2, Kind::Message(DIGEST)),
    (4, Kind::Varint),
    (5, Kind::Bytes),
    (7, Kind::Message(NODE_PROPERTIES)),
];
const OUTPUT_DIRECTORY: Schema =
    &[(1, Kind::Text), (3, Kind::Message(DIGEST)), (4, Kind::Varint), (5, Kind::Message(DIGEST))];
const OUTPUT_SYMLINK: Schema =
    &[(1, Kind::Text), (2, Kind::Text), (4, Kind::Message(NODE_PROPERTIES))];
const EXECUTION_METADATA: Schema = &[
    (1, Kind::Text),
    (2, Kind::Message(SECONDS_NANOS)),
    (3, Kind::Message(SECONDS_NANOS)),
    (4, Kind::Message(SECONDS_NANOS)),
    (5, Kind::Message(SECONDS_NANOS)),
    (6, Kind::Message(SECONDS_NANOS)),
    (7, Kind::Message(SECONDS_NANOS)),
    (8, Kind::Message(SECONDS_NANOS)),
    (9, Kind::Message(SECONDS_NANOS)),
    (10, Kind::Message(SECONDS_NANOS)),
    (11, Kind::Message(ANY)),
    (12, Kind::Message(SECONDS_NANOS)),
];
const ACTION_RESULT: Schema = &[
    (2, Kind::Message(OUTPUT_FILE)),
    (3, Kind::Message(OUTPUT_DIRECTORY)),
    (4, Kind::Varint),
    (5, Kind::Bytes),
    (6, Kind::Message(DIGEST)),
    (7, Kind::Bytes),
    (8, Kind::Message(DIGEST)),
    (9, Kind::Message(EXECUTION_METADATA)),
    (10, Kind::Message(OUTPUT_SYMLINK)),
    (11, Kind::Message(OUTPUT_SYMLINK)),
    (12, Kind::Message(OUTPUT_SYMLINK)),
];

/// Checks that `encoded` decodes as an `ActionResult`.
pub(crate) fn check_action_result(encoded: &[u8]) -> Result<(), WireError> {
    check(encoded, ACTION_RESULT)
}

/// Recurses as deep as the schemas above are nested, whatever the message.
fn check(encoded: &[u8], schema: Schema) -> Result<(), WireError> {
    for field in Fields::new(encoded) {
        let field = field?;
        let Some((tag, kind)) = schema.iter().find(|(tag, _)| *tag == field.tag) else {
            continue;
        };
        match kind {
            Kind::Varint => {
                field.varint()?;
            }
            Kind::Bytes => {
                field.bytes()?;
            }
            Kind::Text => {
                std::str::from_utf8(field.bytes()?).map_err(|_| WireError::Text { tag: *tag })?;
            }
            Kind::Message(schema) => check(field.bytes()?, schema)?,
        }
    }
    Ok(())
}
