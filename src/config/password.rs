//! Where a password comes from. It is asked for when a login needs it, and again when that login fails.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::field::Field;
use super::section::Section;
use super::source::suggestion;
use crate::error::{Error, Failure, Result, WrapErr};
use crate::value::Secret;

/// How long a command may take to print a password.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

const SOURCES: [&str; 3] = ["env", "file", "command"];

/// Where a password comes from. Its `Debug` shows neither a password nor the arguments of a command.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordSource {
    /// It stands in the configuration. Empty text: none is sent.
    Plain(Secret),
    /// An environment variable of this process.
    Env(String),
    /// A file that holds nothing else.
    File(PathBuf),
    /// A program and its arguments; its output is the password.
    Command(Vec<String>),
}

impl PasswordSource {
    /// The password itself, without the newline that ends a file or an output.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when the variable or the file is not there, `Failed` when the command fails or takes longer than 30 s.
    pub fn read(&self) -> Result<Secret, Error> {
        match self {
            PasswordSource::Plain(secret) => Ok(secret.clone()),
            PasswordSource::Env(variable) => Ok(from_env(variable)?),
            PasswordSource::File(path) => Ok(from_file(path)?),
            PasswordSource::Command(argv) => Ok(from_command(argv, COMMAND_TIMEOUT)?),
        }
    }

    /// Whether the password stands in the configuration itself.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, PasswordSource::Plain(secret) if !secret.reveal().is_empty())
    }

    /// Text, or one of `{env:}`, `{file:}`, `{command:}`. No message quotes what stands there: it may be a password.
    pub(super) fn of(field: &Field<'_>) -> Option<Self> {
        if !field.is_map() {
            return field
                .raw_text()
                .map(|text| PasswordSource::Plain(Secret::new(text)));
        }
        let keys: Vec<String> = field.named()?.into_iter().map(|(key, _)| key).collect();
        match keys.as_slice() {
            [key] if SOURCES.contains(&key.as_str()) => field.section(Self::of_section),
            [key] => {
                let meant = suggestion(key, SOURCES);
                field.problem(format!("{NOT_A_SOURCE}{meant}"));
                None
            }
            _ => {
                field.problem(NOT_A_SOURCE);
                None
            }
        }
    }

    fn of_section(section: &Section<'_>) -> Option<Self> {
        let env = section.optional("env", Field::text);
        let file = section.optional("file", Field::path);
        let command = section.optional("command", Field::argv);
        match (env?, file?, command?) {
            (Some(variable), ..) => Some(PasswordSource::Env(variable)),
            (_, Some(path), _) => Some(PasswordSource::File(path)),
            (_, _, Some(argv)) => Some(PasswordSource::Command(argv)),
            (None, None, None) => {
                section.problem("names no source of the password");
                None
            }
        }
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordSource::Plain(secret) => write!(f, "Plain({secret:?})"),
            PasswordSource::Env(variable) => write!(f, "Env({variable:?})"),
            PasswordSource::File(path) => write!(f, "File({path:?})"),
            PasswordSource::Command(argv) => write!(
                f,
                "Command({:?} ...)",
                argv.first().map_or("", String::as_str)
            ),
        }
    }
}

const NOT_A_SOURCE: &str = "a mapping here is one of {env: VARIABLE}, {file: PATH} and {command: [PROGRAM, ARGUMENT...]}; a password that begins with { needs quotes";

fn from_env(variable: &str) -> Result<Secret> {
    let refused = |why: &str| {
        Failure::usage(format!(
            "read the password from the environment variable {variable}: {why}"
        ))
        .hint(format!("export {variable} before running flare"))
    };
    match std::env::var(variable) {
        Ok(text) => checked(&text).map_err(|why| refused(why).into()),
        Err(std::env::VarError::NotPresent) => refused("it is not set").err(),
        Err(std::env::VarError::NotUnicode(_)) => refused("it is not UTF-8").err(),
    }
}

fn from_file(path: &Path) -> Result<Secret> {
    let refused =
        |why: &str| Failure::usage(format!("read the password from {}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refused(&error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8"))?;
    checked(without_newline(&text)).map_err(|why| refused(why).into())
}

fn from_command(argv: &[String], timeout: Duration) -> Result<Secret> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| Failure::usage("read the password from a command: it names no program"))?;
    // Its arguments stay out of the messages: they may be secret themselves.
    let attempt = || format!("read the password from the command {program:?}");
    let handle = duct::cmd(program, arguments)
        .stdin_null()
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .start()
        .wrap_err_with(attempt)?;
    let Some(output) = handle.wait_timeout(timeout).wrap_err_with(attempt)? else {
        // Not waited for: what the command itself started may hold the pipes open.
        handle.kill().wrap_err_with(attempt)?;
        return Failure::new(format!(
            "{}: no answer within {}",
            attempt(),
            humantime::format_duration(timeout)
        ))
        .err();
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let secret = Secret::new(without_newline(&printed));
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = secret.redact(complaint.trim());
        let separator = if complaint.is_empty() { "" } else { ": " };
        return Failure::new(format!(
            "{}: {}{separator}{complaint}",
            attempt(),
            output.status
        ))
        .err();
    }
    if std::str::from_utf8(&output.stdout).is_err() {
        return Failure::new(format!("{}: its output is not UTF-8", attempt())).err();
    }
    checked(secret.reveal()).map_err(|why| Failure::new(format!("{}: {why}", attempt())).into())
}

/// What is asked for has to be there; an empty answer is more likely a mistake than no password.
fn checked(text: &str) -> std::result::Result<Secret, &'static str> {
    match text {
        "" => Err("it is empty"),
        text if text.contains('\0') => Err("it holds a NUL character"),
        text => Ok(Secret::new(text)),
    }
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    fn shell(script: &str) -> PasswordSource {
        PasswordSource::Command(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    fn failure(source: &PasswordSource) -> (String, i32) {
        let error = source.read().unwrap_err();
        (error.message(), error.exit().code())
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b" pass word \n").unwrap();
        let source = PasswordSource::File(file.path().to_owned());
        assert_eq!(source.read().unwrap().reveal(), " pass word ");
        assert_eq!(shell("printf 'tok\\r\\n'").read().unwrap().reveal(), "tok");
        assert_eq!(shell("printf 'a\\n\\n'").read().unwrap().reveal(), "a\n");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (message, code) = failure(&PasswordSource::Env("FLARE_NO_SUCH_VARIABLE".into()));
        assert_eq!(
            message,
            "read the password from the environment variable FLARE_NO_SUCH_VARIABLE: it is not set"
        );
        assert_eq!(code, 2);
        let (message, code) = failure(&PasswordSource::File("/no/such/file".into()));
        assert!(message.starts_with("read the password from /no/such/file: "));
        assert_eq!(code, 2);
        let (message, code) = failure(&PasswordSource::Command(vec!["/no/such".into()]));
        assert!(message.starts_with("read the password from the command \"/no/such\": "));
        assert_eq!(code, 1);
    }

    #[test]
    fn a_command_that_fails_says_why_and_not_what() {
        let (message, code) = failure(&shell(
            "echo hunter2; echo no token for hunter2 >&2; exit 3",
        ));
        assert_eq!(
            message,
            "read the password from the command \"sh\": exit status: 3: no token for ***"
        );
        assert_eq!(code, 1);
        assert!(failure(&shell("true")).0.ends_with("it is empty"));
        assert!(failure(&shell("printf '\\377'")).0.ends_with("not UTF-8"));
    }

    #[test]
    fn a_command_that_hangs_is_given_up_even_with_children() {
        let argv = ["sh", "-c", "sleep 5 & wait"].map(str::to_owned);
        let start = Instant::now();
        let error = from_command(&argv, Duration::from_millis(200)).unwrap_err();
        assert!(crate::error::message_of(&error).ends_with("no answer within 200ms"));
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn debug_hides_it() {
        let shown = format!("{:?}", PasswordSource::Plain(Secret::new("hunter2")));
        assert_eq!(shown, "Plain(***)");
        let shown = format!("{:?}", shell("echo hunter2"));
        assert_eq!(shown, "Command(\"sh\" ...)");
    }
}
