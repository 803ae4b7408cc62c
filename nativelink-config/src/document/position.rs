//! Byte offsets to lines and columns.

/// A line and a column in characters, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: u32,
    /// The column.
    pub(crate) column: u32,
}

/// Walks a text once, so that finding the positions of all its values is linear work even where the
/// whole file is one line.
pub(super) struct Cursor<'t> {
    rest: std::iter::Peekable<std::str::CharIndices<'t>>,
    position: Position,
}

impl<'t> Cursor<'t> {
    /// Starts at the first character.
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text.char_indices().peekable(), position: Position { line: 1, column: 1 } }
    }

    /// The position of an offset that is not before the one asked for last.
    pub(super) fn position(&mut self, offset: usize) -> Position {
        while let Some((_, character)) = self.rest.next_if(|(index, _)| *index < offset) {
            let before_newline = self.rest.peek().is_some_and(|(_, next)| *next == '\n');
            if character == '\n' || (character == '\r' && !before_newline) {
                self.position.line = self.position.line.saturating_add(1);
                self.position.column = 1;
            } else if character != '\u{feff}' {
                self.position.column = self.position.column.saturating_add(1);
            }
        }
        self.position
    }
}

/// The position of one offset.
pub(super) fn locate(text: &str, offset: usize) -> Position {
    Cursor::new(text).position(offset)
}
