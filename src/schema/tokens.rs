//! One statement as its tokens, without blanks and comments.

use super::lexer::{Backslash, Lexer, Span, Token};

/// The tokens of a statement, beside its text.
pub(crate) struct Tokens<'a> {
    text: &'a [u8],
    spans: Vec<Span>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Tokens::some(text, usize::MAX)
    }

    /// No more than the first `limit` tokens: enough to know a statement by its head, whatever its length.
    pub(crate) fn head(text: &'a [u8], limit: usize) -> Self {
        Tokens::some(text, limit)
    }

    fn some(text: &'a [u8], limit: usize) -> Self {
        let mut lexer = Lexer::new(Backslash::Literal);
        let spans = std::iter::from_fn(|| lexer.next(text))
            .filter(|span| !matches!(span.token, Token::Space | Token::Comment))
            .take(limit)
            .collect();
        Tokens { text, spans }
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn kind(&self, index: usize) -> Option<Token> {
        self.spans.get(index).map(|span| span.token)
    }

    /// The token as written.
    pub(crate) fn raw(&self, index: usize) -> &'a [u8] {
        self.spans
            .get(index)
            .map_or(&[], |span| &self.text[span.start..span.end])
    }

    /// All tokens as written.
    pub(crate) fn raws(&self) -> Vec<&'a [u8]> {
        (0..self.len()).map(|index| self.raw(index)).collect()
    }

    /// Whether the token is this keyword or symbol.
    pub(crate) fn is(&self, index: usize, word: &str) -> bool {
        matches!(self.kind(index), Some(Token::ShellWord | Token::Symbol))
            && self.raw(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether these words stand from `index` on.
    pub(crate) fn are(&self, index: usize, words: &str) -> bool {
        words
            .split(' ')
            .enumerate()
            .all(|(offset, word)| self.is(index + offset, word))
    }

    /// Whether the statement starts with these words.
    pub(crate) fn start(&self, words: &str) -> bool {
        self.are(0, words)
    }

    /// The first place at which these words stand.
    pub(crate) fn find(&self, words: &str) -> Option<usize> {
        (0..self.len()).find(|index| self.are(*index, words))
    }

    /// The name that the token is, without its quotes.
    pub(crate) fn name(&self, index: usize) -> Option<String> {
        let raw = String::from_utf8_lossy(self.raw(index));
        match self.kind(index)? {
            Token::ShellWord => Some(raw.to_lowercase()),
            Token::Quoted => Some(raw[1..raw.len() - 1].replace("\"\"", "\"")),
            _ => None,
        }
    }

    /// The text with the token replaced.
    pub(crate) fn replaced(&self, index: usize, by: &str) -> Vec<u8> {
        let span = self.spans[index];
        [
            &self.text[..span.start],
            by.as_bytes(),
            &self.text[span.end..],
        ]
        .concat()
    }

    /// The text without the tokens from `first` up to `after`, which stays.
    pub(crate) fn without(&self, first: usize, after: usize) -> Vec<u8> {
        match (self.spans.get(first), self.spans.get(after)) {
            (Some(first), Some(after)) => {
                [&self.text[..first.start], &self.text[after.start..]].concat()
            }
            _ => self.text.to_vec(),
        }
    }

    /// The text from the start of one token to the end of another.
    pub(crate) fn between(&self, first: usize, last: usize) -> &'a [u8] {
        match (self.spans.get(first), self.spans.get(last)) {
            (Some(first), Some(last)) if first.start <= last.end => {
                &self.text[first.start..last.end]
            }
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_words() {
        let tokens = Tokens::of(
            br#"/* x */ ALTER ROLE "we""ird" -- WITH
            with LOGIN PASSWORD 'LOGIN';"#,
        );
        assert!(tokens.start("ALTER ROLE"));
        assert_eq!(tokens.name(2).unwrap(), "we\"ird");
        assert_eq!(tokens.find("WITH LOGIN"), Some(3));
        assert!(!tokens.is(6, "LOGIN"));
        assert!(
            tokens
                .replaced(4, "NOLOGIN")
                .ends_with(b"with NOLOGIN PASSWORD 'LOGIN';")
        );
    }
}
