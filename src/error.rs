//! What a failure carries beside its words: what to do next, and how the program exits.
//!
//! Inside, errors travel as [`Report`]; the public functions return an [`Error`], made from it where it leaves. A message
//! is a bare verb phrase and its cause (`create publication "p": ERROR: ...`); a hint says what to do next. Both are
//! printed in one place, by `report`.

mod typed;

use std::fmt;

pub use eyre::{Report, Result, WrapErr};

pub use typed::{Error, ErrorKind};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it could not be done.
    Failed,
    /// 2: the command line or the configuration is wrong; nothing was tried.
    Usage,
    /// 3: it was looked at, and the answer is no.
    No,
    /// 128 + the number of the signal that ended it.
    Signal(i32),
    /// The exit code of a program that was run for the user.
    Code(i32),
}

impl Exit {
    /// The exit code of the process.
    pub fn code(self) -> i32 {
        match self {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::No => 3,
            Exit::Signal(number) => 128 + number,
            Exit::Code(code) => code,
        }
    }
}

/// A failure that flare itself found, with what to do next.
#[derive(Clone, Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    /// It could not be done (exit code 1).
    pub fn new(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            hint: None,
            exit: Exit::Failed,
        }
    }

    /// The command line or the configuration is wrong (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Failure {
            exit: Exit::Usage,
            ..Failure::new(message)
        }
    }

    /// The answer is no (exit code 3).
    pub fn no(message: impl Into<String>) -> Self {
        Failure {
            exit: Exit::No,
            ..Failure::new(message)
        }
    }

    /// What to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the program is to exit.
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The failure as the error of any result.
    pub fn err<T, E: From<Failure>>(self) -> Result<T, E> {
        Err(self.into())
    }

    fn kind(&self) -> ErrorKind {
        match self.exit {
            Exit::Usage => ErrorKind::Usage,
            Exit::No => ErrorKind::Refused,
            Exit::Signal(_) => ErrorKind::Interrupted,
            Exit::Failed | Exit::Code(_) => ErrorKind::Failed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A link in the chain of an error that has no words of its own: it only says what to do next.
#[derive(Debug)]
struct Advice(String);

impl fmt::Display for Advice {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Adds the next step to an error that came from elsewhere.
pub trait Advise<T> {
    /// What to do next, unless a hint is there already.
    fn hint(self, hint: impl FnOnce() -> String) -> Result<T>;

    /// What to do next, before the hint that is there already.
    fn hint_first(self, hint: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Report>> Advise<T> for std::result::Result<T, E> {
    fn hint(self, hint: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let report = error.into();
            match hint_of(&report) {
                Some(_) => report,
                None => report.wrap_err(Advice(hint())),
            }
        })
    }

    fn hint_first(self, hint: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let report = error.into();
            let both = match hint_of(&report) {
                Some(later) => format!("{}; {later}", hint()),
                None => hint(),
            };
            report.wrap_err(Advice(both))
        })
    }
}

/// The whole chain of an error in one line.
pub fn message_of(report: &Report) -> String {
    let links: Vec<String> = report
        .chain()
        .map(ToString::to_string)
        .filter(|link| !link.is_empty())
        .collect();
    links.join(": ")
}

/// What to do next, if the error knows.
pub fn hint_of(report: &Report) -> Option<&str> {
    let advice = report
        .downcast_ref::<Advice>()
        .map(|advice| advice.0.as_str());
    let failure = || report.downcast_ref::<Failure>()?.hint.as_deref();
    let error = || report.downcast_ref::<Error>()?.known_hint();
    advice.or_else(failure).or_else(error)
}

/// How the program exits after this error.
pub fn exit_of(report: &Report) -> Exit {
    let failure = report.downcast_ref::<Failure>().map(|it| it.exit);
    let error = || report.downcast_ref::<Error>().map(Error::exit);
    failure.or_else(error).unwrap_or(Exit::Failed)
}

/// Which kind of failure it is, as far as it was flare that found it.
pub fn kind_of(report: &Report) -> Option<ErrorKind> {
    let failure = report.downcast_ref::<Failure>().map(Failure::kind);
    failure.or_else(|| report.downcast_ref::<Error>().map(Error::kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_message_hint_and_exit_code() {
        let failed: Result<()> = Failure::no("2 rows differ").hint("look at them").err();
        let report = failed.wrap_err("verify table \"a\"").unwrap_err();
        assert_eq!(message_of(&report), "verify table \"a\": 2 rows differ");
        assert_eq!(hint_of(&report), Some("look at them"));
        assert_eq!(exit_of(&report).code(), 3);
    }

    #[test]
    fn advice_is_silent_in_the_message_and_yields_to_an_earlier_hint() {
        let failed: std::io::Result<()> = Err(std::io::Error::other("no"));
        let report = failed
            .hint(|| "first".into())
            .hint(|| "second".into())
            .wrap_err("open")
            .unwrap_err();
        assert_eq!(message_of(&report), "open: no");
        assert_eq!(hint_of(&report), Some("first"));
        assert_eq!(exit_of(&report), Exit::Failed);
        let report = Err::<(), _>(report).hint_first(|| "before".into());
        let report = report.unwrap_err();
        assert_eq!(message_of(&report), "open: no");
        assert_eq!(hint_of(&report), Some("before; first"));
    }
}
