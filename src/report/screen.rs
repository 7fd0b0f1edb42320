//! Results to standard output, everything else to standard error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use serde_json::{Map, Value, json};

use super::{Format, Outcome};
use crate::error::{Error, Report, Result, WrapErr};
use crate::observe::plain;
use crate::server::untested;

/// Prints what a command ended with; the exit code of the process.
pub fn success(format: Format, command: &str, outcome: Outcome) -> i32 {
    // A command that has nothing to say, such as lag --quiet, says nothing.
    if format == Format::Human && !(outcome.words.is_empty() && outcome.verdict.is_none()) {
        warn_of_untested();
    }
    let code = match &outcome.verdict {
        Some(verdict) => verdict.exit().code(),
        None => outcome.exit_code,
    };
    let written = match format {
        Format::Human | Format::Nagios => human(&outcome),
        Format::Json if outcome.silent => Ok(()),
        Format::Json => json(command, &outcome),
    };
    if let Some(verdict) = outcome
        .verdict
        .as_ref()
        .filter(|_| !outcome.verdict_in_words)
    {
        complain(&verdict.message(), verdict.hint());
    }
    match written {
        Ok(()) => code,
        // Whoever read has seen enough (`flare man | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
        Err(error) => {
            complain(
                &format!("write the result to standard output: {error}"),
                Some("the work itself is done; run the command again to see its result"),
            );
            1
        }
    }
}

/// Prints an error; the exit code of the process.
pub fn failure(format: Format, command: &str, report: Report) -> i32 {
    let error = Error::from(report);
    let (message, hint) = (error.message(), error.hint());
    if format == Format::Json {
        let mut object = json!({
            "command": command, "ok": false, "changed": false,
            "error": {"message": message, "hint": hint},
        });
        // Whoever watches reads the status alone.
        if let ("lag", Some(fields)) = (command, object.as_object_mut()) {
            fields.insert("status".into(), "unknown".into());
            fields.insert("subscriptions".into(), json!([]));
        }
        if let Some(fields) = object.as_object_mut() {
            say_untested(fields);
        }
        if let Err(error) = writeln!(io::stdout(), "{object}") {
            complain(
                &format!("write the result to standard output: {error}"),
                None,
            );
        }
    }
    if format == Format::Nagios {
        // Whoever runs a plugin reads standard output alone.
        line(&format!("FLARE UNKNOWN - {}", plain(&message))).unwrap_or_default();
    }
    if format != Format::Json {
        warn_of_untested();
    }
    complain(&message, hint);
    error.exit().code()
}

/// One line on standard output, at once: what a program at the other end of a pipe waits for.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .wrap_err("write to standard output")
}

fn warn_of_untested() {
    let mut stderr = io::stderr().lock();
    for warning in untested() {
        writeln!(stderr, "warning: {warning}").unwrap_or_default();
    }
}

fn complain(message: &str, hint: Option<&str>) {
    // Standard error may be closed; then there is nobody to tell.
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "error: {message}").unwrap_or_default();
    if let Some(hint) = hint {
        writeln!(stderr, "hint: {hint}").unwrap_or_default();
    }
}

fn human(outcome: &Outcome) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if let Some(sql) = &outcome.sql {
        io::copy(&mut BufReader::new(sql), &mut stdout)?;
    }
    if !outcome.words.is_empty() {
        writeln!(stdout, "{}", outcome.words.trim_end())?;
    }
    stdout.flush()
}

/// A field more where a server is newer than flare knows.
fn say_untested(object: &mut Map<String, Value>) {
    let untested = untested();
    if !untested.is_empty() {
        object.insert("untested".into(), untested.into());
    }
}

/// A result as the JSON object that is printed, but for SQL.
pub(crate) fn object(command: &str, outcome: &Outcome) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("command".into(), command.into());
    object.insert("ok".into(), outcome.verdict.is_none().into());
    object.insert("changed".into(), outcome.changed.into());
    object.extend(outcome.fields.clone());
    say_untested(&mut object);
    let error = outcome.verdict.as_ref();
    object.insert(
        "error".into(),
        error.map_or(
            Value::Null,
            |verdict| json!({"message": verdict.message(), "hint": verdict.hint()}),
        ),
    );
    object
}

fn json(command: &str, outcome: &Outcome) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let text = serde_json::to_string(&object(command, outcome))?;
    match &outcome.sql {
        None => writeln!(stdout, "{text}")?,
        Some(sql) => {
            stdout.write_all(text.strip_suffix('}').unwrap_or(&text).as_bytes())?;
            stdout.write_all(b",\"sql\":\"")?;
            escaped(sql, &mut stdout)?;
            stdout.write_all(b"\"}\n")?;
        }
    }
    stdout.flush()
}

/// The text of a file as the inside of a JSON string, line by line.
fn escaped(file: &File, into: &mut impl Write) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = serde_json::to_string(&String::from_utf8_lossy(&line))?;
        into.write_all(&text.as_bytes()[1..text.len() - 1])?;
        line.clear();
    }
    Ok(())
}
