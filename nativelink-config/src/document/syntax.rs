//! What is wrong with a text that is no JSON5, in words that help.

use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::tokens::Token;
use jsonc_parser::{Scanner, ScannerOptions};

/// A problem at a byte offset.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Checks what the parser does not: the nesting stays within bounds, before anything recurses, and
/// a text ends on its line. Without the latter a forgotten quote swallows the lines up to the next
/// one and the error appears far from the mistake.
pub(super) fn check_tokens(text: &str, max_nesting: usize) -> Result<(), SyntaxError> {
    let mut scanner = Scanner::new(text, &ScannerOptions::default());
    let mut nesting: usize = 0;
    // A token the scanner does not know is left for the parser to report, with what it expected.
    while let Ok(Some(token)) = scanner.scan() {
        let offset = scanner.token_start();
        match token {
            Token::OpenBrace | Token::OpenBracket => nesting += 1,
            Token::CloseBrace | Token::CloseBracket => nesting = nesting.saturating_sub(1),
            Token::String(_) => {
                let source = text.get(offset..scanner.token_end()).unwrap_or_default();
                if spans_lines(source) {
                    let message = "this text has no closing quote on its line".to_owned();
                    return Err(SyntaxError { offset, message });
                }
            }
            _ => {}
        }
        if nesting > max_nesting {
            let message = format!("arrays and objects nest deeper than {max_nesting} levels");
            return Err(SyntaxError { offset, message });
        }
    }
    Ok(())
}

/// Whether a quoted text holds a line break other than after a backslash, which JSON5 allows.
fn spans_lines(source: &str) -> bool {
    let mut characters = source.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\r' => return true,
            '\\' => {
                let escaped = characters.next();
                let breaks_line = |next: &char| escaped == Some('\r') && *next == '\n';
                characters.next_if(breaks_line);
            }
            _ => {}
        }
    }
    false
}

/// The parser's error in our words.
pub(super) fn explain(error: &ParseError, text: &str) -> String {
    use ParseErrorKind as Kind;
    let found = text.get(error.range().start..).and_then(|rest| rest.chars().next());
    let message = match error.kind() {
        Kind::UnexpectedWord | Kind::UnexpectedToken
            if found.is_some_and(|c| c.is_alphanumeric() || "/~$._*".contains(c)) =>
        {
            "unexpected word; a text needs quotes"
        }
        Kind::UnexpectedToken | Kind::UnexpectedTokenInObject => {
            return match found {
                Some(character) => format!("unexpected {character:?}"),
                None => "the file ends too early".to_owned(),
            };
        }
        Kind::ExpectedColonAfterObjectKey => "expected \":\" after the key",
        Kind::ExpectedObjectValue => "expected a value after \":\"",
        Kind::ExpectedComma => "expected \",\" before the next value",
        Kind::MultipleRootJsonValues => "expected the end of the file after the closing \"}\"",
        Kind::UnexpectedComma => "unexpected \",\"",
        Kind::UnexpectedColon => "unexpected \":\"",
        Kind::UnexpectedCloseBrace => "unexpected \"}\"",
        Kind::UnexpectedCloseBracket => "unexpected \"]\"",
        Kind::UnterminatedArray => "this \"[\" has no matching \"]\"",
        Kind::UnterminatedObject => "this \"{\" has no matching \"}\"",
        Kind::UnterminatedCommentBlock => "this \"/*\" has no matching \"*/\"",
        other => {
            let words = other.to_string();
            let mut characters = words.chars();
            return match characters.next() {
                Some(first) => format!("{}{}", first.to_lowercase(), characters.as_str()),
                None => "the text is not JSON5".to_owned(),
            };
        }
    };
    message.to_owned()
}
