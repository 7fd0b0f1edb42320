//! What a run of a program left behind, and assertions on it.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

/// What a run left behind. Assertions print the command and both streams when they fail.
pub struct Output {
    pub(super) command: String,
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) took: Duration,
}

impl Output {
    /// Exit code 0.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        self.code(0)
    }

    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert!(
            self.status.code() == Some(code),
            "exit code {code} was expected, not {}\n{self}",
            self.status
        );
        self
    }

    /// An exit code other than 0, and these words on standard error.
    #[track_caller]
    pub fn fails_with(&self, text: &str) -> &Self {
        assert!(
            self.status.code().is_some_and(|code| code != 0),
            "a failure was expected, not {}\n{self}",
            self.status
        );
        self.says(text)
    }

    /// These words on standard error.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} is missing from stderr\n{self}"
        );
        self
    }

    /// These words on standard output.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text),
            "{text:?} is missing from stdout\n{self}"
        );
        self
    }

    /// Standard output as the one JSON object it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str::<Value>(&self.stdout) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => panic!("stdout is not a JSON object\n{self}"),
            Err(error) => panic!("stdout is not one JSON object: {error}\n{self}"),
        }
    }

    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub fn took(&self) -> Duration {
        self.took
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", told(&self.command, &self.stdout, &self.stderr))?;
        write!(f, "--- {} after {:?}", self.status, self.took)
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A run as a failing assertion shows it.
pub fn told(command: &str, stdout: &str, stderr: &str) -> String {
    let mut text = format!("--- {command}\n");
    for (name, stream) in [("stdout", stdout), ("stderr", stderr)] {
        let end = if stream.is_empty() || stream.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        write!(text, "--- {name}\n{stream}{end}").expect("write to a string");
    }
    text
}
