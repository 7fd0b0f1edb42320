//! The plain SQL of pg_dump and pg_dumpall, taken apart at the same places as psql does.

use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::entry::Entry;
use super::lexer::{Backslash, Lexer, Token};
use super::redact::redact;
use super::tokens::Tokens;

/// What a piece of a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SQL with its semicolon and the line break behind it.
    Statement,
    /// A line that is blank or a comment.
    Comment,
    /// A psql command: `\restrict`, `\connect`.
    Backslash,
}

/// A piece of a dump. All pieces in order are the dump, byte by byte.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) text: Vec<u8>,
    /// The line it starts in, from 1.
    pub(crate) first_line: u64,
    /// The line its last byte but the line break is in: the one psql names in an error.
    pub(crate) last_line: u64,
    /// What pg_dump said about the object, where it did.
    pub(crate) entry: Option<Arc<Entry>>,
}

impl Item {
    /// For people: on one line, shortened, without passwords.
    pub(crate) fn summary(&self) -> String {
        const SHOWN_CHARS: usize = 120;
        let text = redact(&String::from_utf8_lossy(&self.text));
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(SHOWN_CHARS) {
            Some((cut, _)) => format!("{} ...", &line[..cut]),
            None => line,
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.kind, self.first_line, self.summary())
    }
}

/// The pieces of a dump, read one at a time.
pub(crate) struct Statements<R> {
    reader: R,
    /// What stood behind a semicolon in its line.
    rest: Vec<u8>,
    /// The line that the next byte is in.
    line: u64,
    backslash: Backslash,
    entry: Option<Arc<Entry>>,
}

impl<R: BufRead> Statements<R> {
    pub(crate) fn new(reader: R) -> Self {
        Statements {
            reader,
            rest: Vec::new(),
            line: 1,
            backslash: Backslash::Literal,
            entry: None,
        }
    }

    fn read(&mut self) -> io::Result<Option<Item>> {
        let mut text = std::mem::take(&mut self.rest);
        if text.is_empty() && self.reader.read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        let kind = match text.trim_ascii_start() {
            [] | [b'-', b'-', ..] => Kind::Comment,
            [b'\\', ..] => Kind::Backslash,
            _ => Kind::Statement,
        };
        if kind == Kind::Statement {
            self.read_statement(&mut text)?;
        }
        if kind == Kind::Comment {
            self.note_entry(&text);
        }
        let first_line = self.line;
        let breaks = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.line += breaks(&text);
        Ok(Some(Item {
            kind,
            first_line,
            last_line: first_line + breaks(text.trim_ascii_end()),
            entry: self.entry.clone(),
            text,
        }))
    }

    /// Reads on to the semicolon that ends the statement, or to the end of the dump.
    fn read_statement(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let mut lexer = Lexer::new(self.backslash);
        let mut nesting = Nesting::default();
        loop {
            match lexer.next(text) {
                Some(span) => {
                    let token = &text[span.start..span.end];
                    if token == b";" && nesting.is_outside() {
                        if !text[span.end..].trim_ascii().is_empty() {
                            self.rest = text.split_off(span.end);
                        }
                        break;
                    }
                    nesting.pass(span.token, token);
                }
                None if self.reader.read_until(b'\n', text)? == 0 => break,
                None => {}
            }
        }
        let head = Tokens::head(text, 4);
        if head.start("SET standard_conforming_strings") {
            self.backslash = if head.is(3, "off") {
                Backslash::Escape
            } else {
                Backslash::Literal
            };
        }
        Ok(())
    }

    fn note_entry(&mut self, line: &[u8]) {
        if let Some(entry) = Entry::read(line) {
            self.entry = Some(Arc::new(entry));
        } else if line.starts_with(b"-- PostgreSQL database") {
            self.entry = None;
        }
    }
}

impl<R: BufRead> Iterator for Statements<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Where a semicolon does not end the statement: in parentheses (`CREATE RULE ... DO ALSO (a; b)`) and in a
/// `BEGIN ATOMIC ... END` body, in which every `CASE` has its own `END`.
#[derive(Default)]
struct Nesting {
    parentheses: usize,
    /// The first words, to know `CREATE [OR REPLACE] FUNCTION | PROCEDURE`.
    words: usize,
    routine: bool,
    after_begin: bool,
    blocks: usize,
}

impl Nesting {
    fn is_outside(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }

    fn pass(&mut self, token: Token, text: &[u8]) {
        match token {
            Token::Space | Token::Comment => return,
            Token::ShellWord => self.word(text),
            _ => {}
        }
        match text {
            b"(" => self.parentheses += 1,
            b")" => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
        self.after_begin = token == Token::ShellWord && text.eq_ignore_ascii_case(b"begin");
    }

    fn word(&mut self, text: &[u8]) {
        let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
        self.words += 1;
        match self.words {
            1 => self.routine = is("create"),
            2..=4 if is("function") || is("procedure") => {}
            2..=3 if is("or") || is("replace") => {}
            2 => self.routine = false,
            _ => {}
        }
        if !self.routine {
            return;
        }
        match self.blocks {
            0 if self.after_begin && is("atomic") => self.blocks = 1,
            0 => {}
            _ if is("case") => self.blocks += 1,
            _ if is("end") => self.blocks -= 1,
            _ => {}
        }
    }
}

/// The statement that ends in this line, or stands in it: what psql complained about.
pub(crate) fn statement_at(reader: impl BufRead, line: u64) -> io::Result<Option<Item>> {
    Statements::new(reader)
        .find(|item| match item {
            Ok(item) => item.kind != Kind::Comment && item.last_line >= line,
            Err(_) => true,
        })
        .transpose()
        .map(|item| item.filter(|item| item.first_line <= line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEMA: &[u8] = include_bytes!("../../fixtures/dumps/schema-pg_dump-18.sql");

    fn read(text: &[u8]) -> Vec<Item> {
        Statements::new(text).map(Result::unwrap).collect()
    }

    fn statements(text: &[u8]) -> Vec<String> {
        let statements = read(text)
            .into_iter()
            .filter(|item| item.kind == Kind::Statement);
        statements
            .map(|item| String::from_utf8_lossy(&item.text).into_owned())
            .collect()
    }

    #[test]
    fn a_real_dump_is_split_where_psql_splits_it() {
        let items = read(SCHEMA);
        let whole: Vec<u8> = items.iter().flat_map(|item| item.text.clone()).collect();
        assert!(whole == SCHEMA);
        for item in items.iter().filter(|item| item.kind == Kind::Statement) {
            let text = String::from_utf8_lossy(&item.text);
            let words = [
                "CREATE ", "ALTER ", "COMMENT ", "SET ", "RESET ", "SELECT ", "GRANT ", "REVOKE ",
            ];
            assert!(words.iter().any(|word| text.starts_with(word)), "{text}");
            assert!(text.ends_with(";\n"), "{text}");
        }
        let of = |name: &str| -> Vec<&Item> {
            let named = |item: &&Item| item.entry.as_ref().is_some_and(|entry| entry.name == name);
            items
                .iter()
                .filter(named)
                .filter(|item| item.kind == Kind::Statement)
                .collect()
        };
        for name in ["stdp()", "std(integer)", "tricky(integer, text)"] {
            assert_eq!(of(name).len(), 2, "{name}: CREATE and OWNER");
        }
        assert_eq!(of("begin()").len(), 2, "a function may be named begin");
        assert_eq!(of("v2 r1").len(), 1);
        assert_eq!(
            of("TABLE customers").len(),
            6,
            "COMMENT, four grants and their session role"
        );
        assert_eq!(
            of("fake").len(),
            0,
            "a comment that looks like pg_dump's own"
        );
    }

    #[test]
    fn one_line_may_hold_several() {
        assert_eq!(
            statements(b"SELECT 1; SELECT ';' -- ; x\n ; /* ; */ SELECT 2; -- end\nSELECT 3"),
            [
                "SELECT 1;",
                " SELECT ';' -- ; x\n ;",
                " /* ; */ SELECT 2;",
                "SELECT 3"
            ]
        );
    }

    #[test]
    fn bodies_without_quotes_hold_semicolons() {
        let body = "CREATE OR REPLACE FUNCTION f(a int DEFAULT 1) RETURNS int\nBEGIN ATOMIC\n SELECT CASE WHEN true THEN CASE a WHEN 1 THEN 2 END END AS \"end\";\n DELETE FROM t;\nEND;\n";
        let rule = "CREATE RULE r AS ON INSERT TO v DO INSTEAD ( INSERT INTO a VALUES (1);\n NOTIFY x;\n);\n";
        let plain =
            "CREATE VIEW begin AS SELECT begin.atomic, CASE WHEN true THEN 1 END FROM begin;\n";
        let sql = [body, rule, plain, body].concat();
        assert_eq!(statements(sql.as_bytes()), [body, rule, plain, body]);
    }

    #[test]
    fn the_servers_string_rules_are_followed() {
        let escaping = b"SET standard_conforming_strings = off;\nSELECT '\\'; x';\nSELECT 2;\n";
        assert_eq!(statements(escaping).len(), 3);
        let standard = b"SET standard_conforming_strings = on;\nSELECT 'x\\';\nSELECT 2;\n";
        assert_eq!(statements(standard).len(), 3);
    }

    #[test]
    fn an_error_finds_its_statement() {
        let dump =
            b"SELECT 1;\n\nCREATE TABLE pf (\n a int,\n b nosuch\n);\n\\restrict x\nSELECT 2;\n";
        let at = |line| {
            statement_at(&dump[..], line)
                .unwrap()
                .map(|item| item.first_line)
        };
        assert_eq!(
            [at(1), at(6), at(4), at(7), at(8)],
            [Some(1), Some(3), Some(3), Some(7), Some(8)]
        );
        assert_eq!([at(2), at(9)], [None, None]);
    }

    #[test]
    fn debug_shows_no_password() {
        let items = read(b"ALTER ROLE a PASSWORD 'hunter2';\n");
        assert_eq!(
            format!("{items:?}"),
            "[Statement 1: ALTER ROLE a PASSWORD ***;]"
        );
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole(pieces in proptest::collection::vec(
            prop_oneof![
                Just(b"'".to_vec()), Just(b"\"".to_vec()), Just(b"$$".to_vec()), Just(b"$a$".to_vec()), Just(b";".to_vec()),
                Just(b"\n".to_vec()), Just(b"--".to_vec()), Just(b"/*".to_vec()), Just(b"*/".to_vec()), Just(b"E'".to_vec()),
                Just(b"\\".to_vec()), Just(b"(".to_vec()), Just(b")".to_vec()), Just(b" CREATE FUNCTION f BEGIN ATOMIC ".to_vec()),
                Just(b" end ".to_vec()), Just(b" case ".to_vec()), proptest::collection::vec(any::<u8>(), 0..4),
            ], 0..40,
        )) {
            let dump = pieces.concat();
            let items = read(&dump);
            let whole: Vec<u8> = items.iter().flat_map(|item| item.text.clone()).collect();
            prop_assert_eq!(&whole, &dump);
            for pair in items.windows(2) {
                prop_assert!(pair[0].last_line <= pair[1].first_line);
            }
        }

        #[test]
        fn hostile_text_never_splits(text in "[';$a\"\\\\/*\\n -]{0,30}", tag in "[a-z]{3}") {
            prop_assume!(!text.contains(&format!("${tag}$")));
            let literal = crate::value::Literal(&text);
            let name = crate::value::Ident::new(text.clone());
            for sql in [
                format!("COMMENT ON TABLE a IS {literal};\n"),
                format!("CREATE FUNCTION f() AS ${tag}${text}${tag}$;\n"),
                format!("CREATE TABLE {name} (a int);\n"),
            ] {
                let twice = [sql.as_str(), sql.as_str()].concat();
                prop_assert_eq!(statements(twice.as_bytes()), vec![sql.clone(), sql]);
            }
        }
    }
}
