//! The protobuf wire format, read in place: one field at a time, nothing built.
//!
//! Generated types cost tens of bytes of memory per two bytes of a hostile message, and they drop
//! the fields they do not know. Walking the fields costs nothing and keeps every byte.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Why bytes are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A field does not end within the message, or its key is impossible.
    #[error("a field is truncated or malformed")]
    Malformed,
    /// A known field has another type.
    #[error("field {tag} has the wrong wire type")]
    Type {
        /// The field's number.
        tag: u32,
    },
    /// A text field is not UTF-8.
    #[error("field {tag} is not UTF-8 text")]
    Text {
        /// The field's number.
        tag: u32,
    },
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// The field's number.
    pub(crate) tag: u32,
    /// Key and value, as they came.
    pub(crate) raw: &'a [u8],
    value: Value<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-width numbers and groups: no message read here has any.
    Other,
}

impl<'a> Field<'a> {
    /// The value of a `string`, `bytes` or message field.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Other => Err(WireError::Type { tag: self.tag }),
        }
    }

    /// The value of an integer, `bool` or enum field.
    pub(crate) fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            Value::Bytes(_) | Value::Other => Err(WireError::Type { tag: self.tag }),
        }
    }
}

/// The fields of an encoded message in their order; ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `encoded`.
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { rest: encoded }
    }

    fn read(&mut self) -> Result<Field<'a>, WireError> {
        let start = self.rest;
        let (tag, wire_type) = decode_key(&mut self.rest).map_err(|_| WireError::Malformed)?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(self.read_varint()?),
            WireType::LengthDelimited => {
                let length = self.read_varint()?;
                let length = usize::try_from(length).map_err(|_| WireError::Malformed)?;
                let (bytes, rest) =
                    self.rest.split_at_checked(length).ok_or(WireError::Malformed)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            _ => {
                skip_field(wire_type, tag, &mut self.rest, DecodeContext::default())
                    .map_err(|_| WireError::Malformed)?;
                Value::Other
            }
        };
        let length = start.len().saturating_sub(self.rest.len());
        let raw = start.get(..length).ok_or(WireError::Malformed)?;
        Ok(Field { tag, raw, value })
    }

    fn read_varint(&mut self) -> Result<u64, WireError> {
        decode_varint(&mut self.rest).map_err(|_| WireError::Malformed)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
