//! Cuts Starlark source into tokens. Newlines are tokens, except inside brackets.

/// What a file is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(u64),
    Sign(char),
    Newline,
    End,
}

/// Words that can never be names. Most are Starlark's; the rest it keeps from Python.
const RESERVED: &[&str] = &[
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// The tokens with their lines, ending with `End`.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, String> {
    let mut lexer = Lexer { rest: source, line: 1, depth: 0, found: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step()?;
    }
    lexer.push(Token::End);
    Ok(lexer.found)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    /// How many brackets are open.
    depth: usize,
    found: Vec<(Token, usize)>,
}

impl Lexer<'_> {
    fn push(&mut self, token: Token) {
        self.found.push((token, self.line));
    }

    fn error<T>(&self, problem: &str) -> Result<T, String> {
        Err(format!("line {}: {problem}", self.line))
    }

    fn step(&mut self) -> Result<(), String> {
        let first = self.rest.chars().next().unwrap();
        match first {
            '\n' => self.newline(),
            ' ' | '\t' => return self.blanks(),
            '#' => self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..],
            '"' | '\'' => return self.text(first),
            'a'..='z' | 'A'..='Z' | '_' => self.name(),
            '0'..='9' => return self.number(),
            '(' | ')' | '[' | ']' | '{' | '}' | ',' | '=' | '+' | '.' | ':' => {
                return self.sign(first);
            }
            other => return self.error(&format!("unexpected {other:?}")),
        }
        Ok(())
    }

    fn newline(&mut self) {
        if self.depth == 0 {
            self.push(Token::Newline);
        }
        self.line += 1;
        self.rest = &self.rest[1..];
    }

    /// Space means nothing, except before a statement: only blocks are indented.
    fn blanks(&mut self) -> Result<(), String> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        let starts_line = matches!(self.found.last(), None | Some((Token::Newline, _)));
        let is_empty = self.rest.is_empty() || self.rest.starts_with(['\n', '#']);
        if self.depth == 0 && starts_line && !is_empty {
            return self.error("indentation outside of brackets");
        }
        Ok(())
    }

    fn name(&mut self) {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.push(Token::Name(name.to_owned()));
        self.rest = rest;
    }

    fn number(&mut self) -> Result<(), String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        match digits.parse() {
            Ok(number) if digits == "0" || !digits.starts_with('0') => {
                self.push(Token::Number(number));
            }
            _ => return self.error(&format!("not a decimal number: {digits}")),
        }
        self.rest = rest;
        Ok(())
    }

    fn sign(&mut self, sign: char) -> Result<(), String> {
        match sign {
            '(' | '[' | '{' => self.depth += 1,
            ')' | ']' | '}' if self.depth == 0 => return self.error("nothing to close"),
            ')' | ']' | '}' => self.depth -= 1,
            _ => {}
        }
        self.push(Token::Sign(sign));
        self.rest = &self.rest[1..];
        Ok(())
    }

    fn text(&mut self, quote: char) -> Result<(), String> {
        let triple = quote.to_string().repeat(3);
        let is_long = self.rest.starts_with(&triple);
        let close = if is_long { triple } else { quote.to_string() };
        let mut rest = &self.rest[close.len()..];
        let mut text = String::new();
        let line = self.line;
        while !rest.starts_with(&close) {
            let Some(first) = rest.chars().next() else {
                return self.error("a string is not closed");
            };
            rest = &rest[first.len_utf8()..];
            match first {
                '\\' => rest = self.escape(rest, &mut text)?,
                '\n' if !is_long => return self.error("a string is not closed"),
                other => text.push(other),
            }
            self.line += usize::from(first == '\n');
        }
        self.rest = &rest[close.len()..];
        self.found.push((Token::Text(text), line));
        Ok(())
    }

    /// Reads what follows a backslash and returns what follows that.
    fn escape<'r>(&self, rest: &'r str, text: &mut String) -> Result<&'r str, String> {
        if let Some(rest) = rest.strip_prefix('u') {
            let code = rest.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let Some(char) = code.and_then(char::from_u32) else {
                return self.error("a bad \\u escape");
            };
            text.push(char);
            return Ok(&rest[4..]);
        }
        let first = rest.chars().next().unwrap_or('\0');
        text.push(match first {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '\\' | '"' | '\'' => first,
            other => return self.error(&format!("a bad escape: {other:?}")),
        });
        Ok(&rest[1..])
    }
}
