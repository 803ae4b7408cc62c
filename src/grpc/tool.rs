//! Which tool a call comes from, read in place out of its request metadata.
//!
//! Every call of a build carries this header: decoding the message would take several allocations
//! for one name.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

use super::trace::REQUEST_METADATA;
use crate::encoded::wire::Fields;
use crate::telemetry::clients::TopNames;

/// With padding or without: gRPC allows both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// How much of the header is looked at, a multiple of four: the tool comes first.
const MAX_TEXT_BYTES: usize = 256;
/// `RequestMetadata.tool_details`, and `ToolDetails.tool_name` in it.
const TOOL_DETAILS: u32 = 1;
const TOOL_NAME: u32 = 1;

/// Counts the tool that a call comes from, if it says so.
pub(super) fn note(headers: &HeaderMap, tools: &TopNames) {
    let Some(header) = headers.get(REQUEST_METADATA) else { return };
    let text = header.as_bytes();
    let text = text.get(..MAX_TEXT_BYTES).unwrap_or(text);
    let mut decoded = [0; MAX_TEXT_BYTES / 4 * 3];
    let Ok(length) = BASE64.decode_slice(text, &mut decoded) else { return };
    if let Some(name) = decoded.get(..length).and_then(tool_name) {
        tools.note(name);
    }
}

/// The name of the tool in a `RequestMetadata`, or in the beginning of one.
fn tool_name(metadata: &[u8]) -> Option<&str> {
    let details = first(metadata, TOOL_DETAILS)?;
    let name = str::from_utf8(first(details, TOOL_NAME)?).ok()?;
    (!name.is_empty()).then_some(name)
}

fn first(message: &[u8], tag: u32) -> Option<&[u8]> {
    let field = Fields::new(message).map_while(Result::ok).find(|field| field.tag == tag)?;
    field.bytes().ok()
}

#[cfg(test)]
mod tests {
    use castellan_proto::v2::{RequestMetadata, ToolDetails};
    use http::HeaderValue;
    use prost::Message as _;

    use super::*;

    fn noted(header: &str) -> Vec<(String, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_METADATA, HeaderValue::from_str(header).unwrap());
        let tools = TopNames::default();
        note(&headers, &tools);
        tools.top(9)
    }

    fn metadata(tool_name: &str, action_id: String) -> Vec<u8> {
        let tool_version = "7.4.1".to_owned();
        let tool = ToolDetails { tool_name: tool_name.to_owned(), tool_version };
        let tool_details = Some(tool);
        RequestMetadata { tool_details, action_id, ..RequestMetadata::default() }.encode_to_vec()
    }

    #[test]
    fn the_tool_is_found_padded_or_not_and_in_front_of_much_else() {
        for length in 0..400 {
            let encoded = BASE64.encode(metadata("bazel", "a".repeat(length)));
            let expected = [("bazel".to_owned(), 1)];
            assert_eq!(noted(&encoded), expected);
            assert_eq!(noted(encoded.trim_end_matches('=')), expected);
        }
    }

    #[test]
    fn reapi_97_what_cannot_be_read_is_nobody() {
        let unnamed = BASE64.encode(metadata("", String::new()));
        for header in ["", "!!!", "AAAA", "CgUKBWJh", &unnamed] {
            assert_eq!(noted(header), []);
        }
    }
}
