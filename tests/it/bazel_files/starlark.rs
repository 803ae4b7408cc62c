//! A parser for the part of Starlark that build files are written in.
//!
//! It accepts calls, attributes, literals, lists, tuples, dicts, assignments and `+`, and nothing
//! else, so what it accepts is Starlark; `if`, `def` and comprehensions belong into a `.bzl` file.
//! JSON is the same language with three more names, so it reads `cargo metadata` as well.
//!
//! It must never evaluate anything. A Starlark crate would bring 130 crates and minutes of
//! compile time for four short files.

use std::collections::HashSet;

mod lexer;

use lexer::Token;

/// An expression, as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Text(String),
    Number(u64),
    Name(String),
    /// A list or a tuple.
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, String),
    Call(Call),
    Sum(Box<Expr>, Box<Expr>),
}

/// `callee(positional, ..., name = value, ...)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) callee: Box<Expr>,
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    pub(super) line: usize,
}

/// A statement of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Statement {
    Expr(Expr),
    Assign(String, Expr),
}

impl Expr {
    pub(super) fn text(&self) -> Option<&str> {
        if let Expr::Text(text) = self { Some(text) } else { None }
    }

    /// The elements of a list; empty for anything else.
    pub(super) fn items(&self) -> &[Expr] {
        if let Expr::List(items) = self { items } else { &[] }
    }

    /// The value of a text key of a dict.
    pub(super) fn get(&self, key: &str) -> Option<&Expr> {
        let Expr::Dict(entries) = self else {
            return None;
        };
        entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }

    /// The addends of a sum of lists, flattened into elements and calls.
    pub(super) fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Sum(left, right) => [left.parts(), right.parts()].concat(),
            Expr::List(items) => items.iter().collect(),
            other => vec![other],
        }
    }

    /// Visits this expression and everything inside it.
    pub(super) fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        visit(self);
        match self {
            Expr::Text(_) | Expr::Number(_) | Expr::Name(_) => {}
            Expr::List(items) => items.iter().for_each(|item| item.walk(visit)),
            Expr::Dict(entries) => entries.iter().for_each(|(key, value)| {
                key.walk(visit);
                value.walk(visit);
            }),
            Expr::Attribute(object, _) => object.walk(visit),
            Expr::Call(call) => {
                call.callee.walk(visit);
                call.positional.iter().for_each(|argument| argument.walk(visit));
                call.named.iter().for_each(|(_, argument)| argument.walk(visit));
            }
            Expr::Sum(left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
        }
    }
}

impl Call {
    /// The called name: `glob`, or `crate.from_cargo`.
    pub(super) fn name(&self) -> String {
        dotted(&self.callee)
    }

    pub(super) fn argument(&self, name: &str) -> Option<&Expr> {
        self.named.iter().find(|(given, _)| given == name).map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.argument(name)?.text()
    }

    pub(super) fn parts(&self, name: &str) -> Vec<&Expr> {
        self.argument(name).map(Expr::parts).unwrap_or_default()
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.argument(name) == Some(&Expr::Name("True".to_owned()))
    }
}

fn dotted(callee: &Expr) -> String {
    match callee {
        Expr::Name(name) => name.clone(),
        Expr::Attribute(object, name) => format!("{}.{name}", dotted(object)),
        _ => String::new(),
    }
}

/// Parses a whole file; an error names the line.
pub(super) fn parse_file(source: &str) -> Result<Vec<Statement>, String> {
    let mut parser = Parser::new(source)?;
    let mut statements = Vec::new();
    while parser.peek() != &Token::End {
        if parser.accept(&Token::Newline) {
            continue;
        }
        statements.push(parser.statement()?);
        if parser.peek() != &Token::End {
            parser.expect(&Token::Newline)?;
        }
    }
    Ok(statements)
}

/// Parses one expression, such as a JSON document.
pub(super) fn parse_expr(source: &str) -> Result<Expr, String> {
    let mut parser = Parser::new(source)?;
    let expr = parser.sum()?;
    parser.accept(&Token::Newline);
    parser.expect(&Token::End)?;
    Ok(expr)
}

struct Parser {
    /// Never empty: the last token is `End`, and is never passed.
    tokens: Vec<(Token, usize)>,
    at: usize,
}

impl Parser {
    fn new(source: &str) -> Result<Self, String> {
        Ok(Self { tokens: lexer::tokens(source)?, at: 0 })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn line(&self) -> usize {
        self.tokens[self.at].1
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, token: &Token) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { self.error(&format!("expected {token:?}")) }
    }

    fn error<T>(&self, problem: &str) -> Result<T, String> {
        Err(format!("line {}: {problem}, found {:?}", self.line(), self.peek()))
    }

    fn statement(&mut self) -> Result<Statement, String> {
        let expr = self.sum()?;
        if !self.accept(&Token::Sign('=')) {
            return Ok(Statement::Expr(expr));
        }
        match expr {
            Expr::Name(name) => Ok(Statement::Assign(name, self.sum()?)),
            _ => self.error("only a name can be assigned to"),
        }
    }

    fn sum(&mut self) -> Result<Expr, String> {
        let mut left = self.postfix()?;
        while self.accept(&Token::Sign('+')) {
            left = Expr::Sum(Box::new(left), Box::new(self.postfix()?));
        }
        Ok(left)
    }

    fn postfix(&mut self) -> Result<Expr, String> {
        let mut expr = self.primary()?;
        loop {
            let line = self.line();
            if self.accept(&Token::Sign('.')) {
                let Token::Name(name) = self.next() else {
                    return self.error("expected a name after a dot");
                };
                expr = Expr::Attribute(Box::new(expr), name);
            } else if self.accept(&Token::Sign('(')) {
                expr = Expr::Call(self.call(expr, line)?);
            } else {
                return Ok(expr);
            }
        }
    }

    fn call(&mut self, callee: Expr, line: usize) -> Result<Call, String> {
        let mut call = Call { callee: Box::new(callee), positional: vec![], named: vec![], line };
        let mut names = HashSet::new();
        while !self.accept(&Token::Sign(')')) {
            let value = self.sum()?;
            if self.accept(&Token::Sign('=')) {
                let Expr::Name(name) = value else {
                    return self.error("an argument's name is not a name");
                };
                if !names.insert(name.clone()) {
                    return self.error(&format!("argument {name} is given twice"));
                }
                call.named.push((name, self.sum()?));
            } else if call.named.is_empty() {
                call.positional.push(value);
            } else {
                return self.error("a positional argument after a named one");
            }
            self.separator(')')?;
        }
        Ok(call)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        match self.next() {
            Token::Text(text) => Ok(Expr::Text(text)),
            Token::Number(number) => Ok(Expr::Number(number)),
            Token::Name(name) if lexer::is_reserved(&name) => {
                self.at -= 1;
                self.error("not supported here")
            }
            Token::Name(name) => Ok(Expr::Name(name)),
            Token::Sign('[') => self.list(']'),
            Token::Sign('(') => self.list(')'),
            Token::Sign('{') => self.dict(),
            Token::End => self.error("expected an expression"),
            _ => {
                self.at -= 1;
                self.error("expected an expression")
            }
        }
    }

    fn list(&mut self, close: char) -> Result<Expr, String> {
        let mut items = Vec::new();
        while !self.accept(&Token::Sign(close)) {
            items.push(self.sum()?);
            self.separator(close)?;
        }
        Ok(Expr::List(items))
    }

    fn dict(&mut self) -> Result<Expr, String> {
        let mut entries = Vec::new();
        while !self.accept(&Token::Sign('}')) {
            let key = self.sum()?;
            self.expect(&Token::Sign(':'))?;
            entries.push((key, self.sum()?));
            self.separator('}')?;
        }
        Ok(Expr::Dict(entries))
    }

    /// A comma, or the closing sign, which stays.
    fn separator(&mut self, close: char) -> Result<(), String> {
        if self.peek() == &Token::Sign(close) { Ok(()) } else { self.expect(&Token::Sign(',')) }
    }
}

#[test]
fn build_file_statements_parse() {
    let source = "\"\"\"Doc.\"\"\"\n# note\nX = [1, 'a',]\nf(X + g(a = {\"k\": ()}),\n  b = p.q)\n";
    let statements = parse_file(source).unwrap();
    assert_eq!(statements.len(), 3);
    let Statement::Expr(Expr::Call(call)) = &statements[2] else { panic!("{statements:?}") };
    assert_eq!((call.name().as_str(), call.line), ("f", 4));
    assert_eq!(dotted(call.argument("b").unwrap()), "p.q");
}

#[test]
fn what_starlark_rejects_is_rejected() {
    for source in [
        "f(",
        "f)",
        "f(a = 1, a = 2)",
        "f(a = 1, 2)",
        "[1 2]",
        "{1}",
        "f() g()",
        "  f()",
        "'open",
        "f(1 = 2)",
        "a.1",
        "x = = 1",
        "'a' = 1",
        "f(b = class)",
        "\"\\q\"",
        "f($)",
        "01",
    ] {
        assert!(parse_file(source).is_err(), "{source}");
    }
}
