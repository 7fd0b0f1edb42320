//! The error of the library's public functions.

use std::fmt;

use postgres::error::SqlState;

use super::{Exit, Failure};

/// What kind of failure it is: what a program may decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or the configuration is wrong; nothing was tried.
    Usage,
    /// A server is not the one that the configuration declares; nothing was changed.
    WrongServer,
    /// A server could not be reached, refused the login, ended the session, or did not answer in time.
    Connection,
    /// A server answered with an error: [`Error::sqlstate`] has its code.
    Server,
    /// It was looked at, and the answer is no.
    Refused,
    /// A signal ended it; what was in flight is undone.
    Interrupted,
    /// Anything else.
    Failed,
}

/// Why something could not be done.
///
/// `Display` says what was attempted, [`source`](std::error::Error::source) why it failed, link by link;
/// [`Error::message`] (and `{:#}`) is all of it in one line, as the program prints it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    sqlstate: Option<SqlState>,
    hint: Option<String>,
    exit: Exit,
    link: Link,
}

/// One link of the chain, in words. The values behind it stay inside: other crates' errors are no part of the interface.
struct Link {
    words: String,
    source: Option<Box<Link>>,
}

impl Link {
    fn of(words: impl DoubleEndedIterator<Item = String>) -> Link {
        let mut words = words.filter(|words| !words.is_empty()).rev();
        let root = Link {
            words: words.next().unwrap_or_default(),
            source: None,
        };
        words.fold(root, |link, words| Link {
            words,
            source: Some(Box::new(link)),
        })
    }
}

impl Error {
    /// Which kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's code, when a server answered (manual: "PostgreSQL Error Codes").
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_ref().map(SqlState::code)
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&str> {
        self.known_hint().or(match self.0.kind {
            ErrorKind::Connection => Some(
                "check that the server runs and can be reached, then run the command again: it finishes what is half done, or undoes it",
            ),
            ErrorKind::Server => Some("mend what the server says, and run the command again"),
            _ => None,
        })
    }

    /// The whole chain in one line: what was attempted, where, and what the server answered.
    pub fn message(&self) -> String {
        format!("{self:#}")
    }

    /// Of a chain of messages, the first of which says what was attempted.
    pub(crate) fn of_chain(
        kind: ErrorKind,
        words: impl DoubleEndedIterator<Item = String>,
    ) -> Error {
        Error(Box::new(Inner {
            kind,
            sqlstate: None,
            hint: None,
            exit: Exit::Failed,
            link: Link::of(words),
        }))
    }

    pub(crate) fn with_sqlstate(mut self, sqlstate: Option<SqlState>) -> Error {
        self.0.sqlstate = sqlstate;
        self
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Error {
        self.0.hint = hint;
        self
    }

    pub(crate) fn with_exit(mut self, exit: Exit) -> Error {
        self.0.exit = exit;
        self
    }

    /// The hint of whoever failed; none where only the kind says what to do.
    pub(super) fn known_hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The server's code as the client library has it.
    pub(crate) fn sql_state(&self) -> Option<&SqlState> {
        self.0.sqlstate.as_ref()
    }

    /// How the program exits after it.
    pub(crate) fn exit(&self) -> Exit {
        self.0.exit
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match &self.source {
            Some(source) if f.alternate() => write!(f, ": {source:#}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&format!("{self:#}"), f)
    }
}

impl std::error::Error for Link {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|link| link as _)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.link.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind())
            .field("message", &self.0.link)
            .field("sqlstate", &self.sqlstate())
            .field("hint", &self.hint())
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.link)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::of_chain(failure.kind(), [failure.message].into_iter())
            .with_hint(failure.hint)
            .with_exit(failure.exit)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn it_says_what_was_attempted_and_its_sources_why() {
        let words = ["create database \"a\"", "", "ERROR: no", "really"].map(str::to_owned);
        let error = Error::of_chain(ErrorKind::Server, words.into_iter())
            .with_sqlstate(Some(SqlState::INSUFFICIENT_PRIVILEGE));
        assert_eq!(error.to_string(), "create database \"a\"");
        assert_eq!(error.message(), "create database \"a\": ERROR: no: really");
        let why = error.source().expect("why");
        assert_eq!(why.to_string(), "ERROR: no");
        assert_eq!(why.source().expect("the root").to_string(), "really");
        assert_eq!(error.sqlstate(), Some("42501"));
        assert!(error.hint().expect("a hint").contains("mend"));
        let shown = format!("{error:?}");
        assert!(
            shown.contains("42501") && shown.contains("really"),
            "{shown}"
        );
    }

    #[test]
    fn a_failures_kind_is_known_by_how_the_program_exits() {
        let usage = Error::from(Failure::usage("find database \"a\"").hint("declare it"));
        assert_eq!(usage.kind(), ErrorKind::Usage);
        assert_eq!(usage.hint(), Some("declare it"));
        assert_eq!(usage.exit(), Exit::Usage);
        assert_eq!(Error::from(Failure::no("no")).kind(), ErrorKind::Refused);
        assert_eq!(Error::from(Failure::new("no")).hint(), None);
    }
}
