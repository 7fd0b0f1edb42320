//! PostgreSQL's lexical rules, over bytes that may still grow.
//!
//! The caller hands over the same buffer again and again, longer by whole lines; a token that is open at its end
//! (a string, a dollar-quoted body, a block comment) goes on where it stopped.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Space,
    Comment,
    /// A keyword or an unquoted name.
    ShellWord,
    /// A name in double quotes.
    Quoted,
    /// A string constant, `E''` and dollar-quoted ones included.
    Text,
    Number,
    /// Any other single byte.
    Symbol,
}

/// A token and where it stands in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What a backslash means in a plain string constant: `standard_conforming_strings`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Backslash {
    #[default]
    Literal,
    Escape,
}

/// What has to come before an open token ends.
#[derive(Debug)]
enum Open {
    Quote { byte: u8, backslash: Backslash },
    Dollar { tag: Vec<u8> },
    Block { depth: usize },
}

/// Where the reading of a buffer stands.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    at: usize,
    open: Option<(Token, usize, Open)>,
    backslash: Backslash,
}

impl Lexer {
    /// A lexer at the start of a buffer.
    pub(super) fn new(backslash: Backslash) -> Self {
        Lexer {
            backslash,
            ..Lexer::default()
        }
    }

    /// The next token; `None` when the buffer ends before it does.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<Span> {
        if self.open.is_none() {
            let start = self.at;
            let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
            match begin(rest, self.backslash) {
                Begin::Whole(token, length) => {
                    self.at += length;
                    return Some(Span {
                        token,
                        start,
                        end: self.at,
                    });
                }
                Begin::Open(token, length, open) => {
                    self.at += length;
                    self.open = Some((token, start, open));
                }
            }
        }
        let (token, start, mut open) = self.open.take()?;
        match close(&mut open, bytes, self.at) {
            Some(end) => {
                self.at = end;
                Some(Span { token, start, end })
            }
            None => {
                self.at = bytes.len();
                self.open = Some((token, start, open));
                None
            }
        }
    }

    /// Whether the buffer ended inside a token.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

enum Begin {
    Whole(Token, usize),
    Open(Token, usize, Open),
}

fn begin(rest: &[u8], backslash: Backslash) -> Begin {
    let run = |of: fn(&u8) -> bool| rest.iter().take_while(|byte| of(byte)).count();
    let quote = |token, length, byte, backslash| {
        Begin::Open(token, length, Open::Quote { byte, backslash })
    };
    match rest {
        [byte, ..] if byte.is_ascii_whitespace() => {
            Begin::Whole(Token::Space, run(u8::is_ascii_whitespace))
        }
        [b'-', b'-', ..] => Begin::Whole(Token::Comment, run(|byte| *byte != b'\n')),
        [b'/', b'*', ..] => Begin::Open(Token::Comment, 2, Open::Block { depth: 1 }),
        [b'\'', ..] => quote(Token::Text, 1, b'\'', backslash),
        [b'e' | b'E', b'\'', ..] => quote(Token::Text, 2, b'\'', Backslash::Escape),
        [b'"', ..] => quote(Token::Quoted, 1, b'"', Backslash::Literal),
        [b'$', ..] => match dollar_tag(rest) {
            Some(tag) => Begin::Open(Token::Text, tag.len(), Open::Dollar { tag: tag.to_vec() }),
            None => Begin::Whole(Token::Symbol, 1),
        },
        [byte, ..] if starts_word(byte) => Begin::Whole(Token::ShellWord, run(continues_word)),
        [byte, ..] if byte.is_ascii_digit() => Begin::Whole(
            Token::Number,
            run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_')),
        ),
        _ => Begin::Whole(Token::Symbol, 1),
    }
}

/// `$$` or `$tag$` at the start of the bytes; a `$1` is none.
fn dollar_tag(rest: &[u8]) -> Option<&[u8]> {
    let length = rest[1..]
        .iter()
        .take_while(|byte| starts_word(byte) || byte.is_ascii_digit())
        .count();
    let closed = rest.get(1 + length) == Some(&b'$');
    let named = length == 0 || starts_word(&rest[1]);
    (closed && named).then(|| &rest[..length + 2])
}

fn starts_word(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || *byte == b'_' || !byte.is_ascii()
}

fn continues_word(byte: &u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || *byte == b'$'
}

/// Where the open token ends. No closing mark spans two lines, so that searching on from a line's end misses none.
fn close(open: &mut Open, bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    match open {
        Open::Quote { byte, backslash } => {
            while at < bytes.len() {
                match (bytes[at], bytes.get(at + 1)) {
                    (b'\\', _) if *backslash == Backslash::Escape => at += 2,
                    (found, Some(next)) if found == *byte && next == byte => at += 2,
                    (found, _) if found == *byte => return Some(at + 1),
                    _ => at += 1,
                }
            }
            None
        }
        Open::Dollar { tag } => loop {
            at += bytes.get(at..)?.iter().position(|byte| *byte == b'$')?;
            if bytes[at..].starts_with(tag) {
                return Some(at + tag.len());
            }
            at += 1;
        },
        Open::Block { depth } => {
            while at < bytes.len() {
                match &bytes[at..] {
                    [b'/', b'*', ..] => {
                        *depth += 1;
                        at += 2;
                    }
                    [b'*', b'/', ..] => {
                        *depth -= 1;
                        at += 2;
                        if *depth == 0 {
                            return Some(at);
                        }
                    }
                    _ => at += 1,
                }
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(Token, &str)> {
        let mut lexer = Lexer::new(Backslash::Literal);
        let mut spans = Vec::new();
        while let Some(span) = lexer.next(text.as_bytes()) {
            spans.push((span.token, &text[span.start..span.end]));
        }
        spans.retain(|(token, _)| *token != Token::Space);
        spans
    }

    #[test]
    fn strings_names_and_comments_hold_what_is_in_them() {
        use Token::*;
        assert_eq!(
            read(r#"a 'it''s; \' "q""; --" /* 'x /* ; */ */ -- ; '"#),
            [
                (ShellWord, "a"),
                (Text, r"'it''s; \'"),
                (Quoted, r#""q""; --""#),
                (Comment, "/* 'x /* ; */ */"),
                (Comment, "-- ; '"),
            ]
        );
        assert_eq!(
            read(r"E'\';' e'\\' a$b$c $1 $x$ $$ ; $X$ $x$ 1.5e3::int"),
            [
                (Text, r"E'\';'"),
                (Text, r"e'\\'"),
                (ShellWord, "a$b$c"),
                (Symbol, "$"),
                (Number, "1"),
                (Text, "$x$ $$ ; $X$ $x$"),
                (Number, "1.5e3"),
                (Symbol, ":"),
                (Symbol, ":"),
                (ShellWord, "int"),
            ]
        );
    }

    #[test]
    fn an_open_token_goes_on_in_a_longer_buffer() {
        let lines = ["$f$ a\n", "'; $g$\n", "$f$ b\n"];
        let mut lexer = Lexer::new(Backslash::Literal);
        let mut buffer = Vec::new();
        for line in &lines[..2] {
            buffer.extend_from_slice(line.as_bytes());
            assert_eq!(lexer.next(&buffer), None);
            assert!(lexer.is_open());
        }
        buffer.extend_from_slice(lines[2].as_bytes());
        assert_eq!(lexer.next(&buffer).unwrap().end, 16);
    }
}
