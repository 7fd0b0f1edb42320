//! What psql says when a statement of a script fails.

use super::redact::redact;

/// The error of a script that psql read with `-f -` and `ON_ERROR_STOP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PsqlFailure {
    /// The line of its input in which the statement ended: for [`statement_at`](super::statement_at).
    pub(crate) line: u64,
    /// The server's message with its detail and hint, without passwords.
    pub(crate) message: String,
}

/// Finds the error in what psql wrote to stderr. `None` when no statement failed, but a connection, say.
pub(crate) fn psql_failure(stderr: &str) -> Option<PsqlFailure> {
    let lines: Vec<&str> = stderr.lines().collect();
    let failed = |index: &usize| {
        place(lines[*index]).is_some_and(|(_, said)| {
            let severities = ["ERROR:", "FATAL:", "PANIC:", "error:"];
            severities.iter().any(|word| said.starts_with(word))
        })
    };
    // A server may speak another language; psql stops at the first error, so it is the last that has a place.
    let placed = |index: &usize| place(lines[*index]).is_some();
    let first = (0..lines.len())
        .find(failed)
        .or_else(|| (0..lines.len()).rev().find(placed))?;
    let (line, said) = place(lines[first])?;
    let more = lines[first + 1..]
        .iter()
        .take_while(|line| place(line).is_none());
    let mut message = vec![said];
    for line in more {
        if !(cut_excerpt(line) || (line.trim() == "^" && message.len() == 1)) {
            message.push(line)
        }
    }
    Some(PsqlFailure {
        line,
        message: redact(message.join("\n").trim_end()),
    })
}

/// psql's excerpt, cut at its left: it may start in the middle of a password hash, which nothing would recognise.
fn cut_excerpt(line: &str) -> bool {
    let excerpt = line
        .strip_prefix("LINE ")
        .and_then(|rest| rest.split_once(": "));
    excerpt.is_some_and(|(_, text)| text.starts_with("..."))
}

/// The line number and the rest of `psql:<stdin>:12: ERROR:  ...`.
fn place(line: &str) -> Option<(u64, &str)> {
    let (_, rest) = line.strip_prefix("psql")?.split_once("<stdin>:")?;
    let (number, said) = rest.split_once(": ")?;
    Some((number.parse().ok()?, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_statement_and_its_message() {
        let detail = "psql:<stdin>:1: WARNING:  w\npsql:<stdin>:3: ERROR:  null value\nDETAIL:  Failing row.\npsql:<stdin>:4: error: invalid command \\restrictx\n";
        assert_eq!(
            psql_failure(detail),
            Some(PsqlFailure {
                line: 3,
                message: "ERROR:  null value\nDETAIL:  Failing row.".into()
            })
        );
        let excerpt = "psql:<stdin>:6: ERROR:  type \"nosuch\" does not exist\nLINE 3:  b nosuch\n           ^\n";
        let failure = psql_failure(excerpt).unwrap();
        assert_eq!(failure.line, 6);
        assert!(failure.message.ends_with("LINE 3:  b nosuch\n           ^"));
        let command = psql_failure("psql:<stdin>:1: error: invalid command \\restrict").unwrap();
        assert_eq!(
            (command.line, command.message.as_str()),
            (1, "error: invalid command \\restrict")
        );
        let foreign = psql_failure("psql:<stdin>:9: FEHLER:  Typ existiert nicht").unwrap();
        assert_eq!(foreign.line, 9);
    }

    #[test]
    fn passwords_do_not_get_into_the_message() {
        let whole = "psql:<stdin>:2: ERROR:  no\nLINE 1: CREATE ROLE x PASSWORD 'hunter' NOSUCH;\n              ^\n";
        assert!(!psql_failure(whole).unwrap().message.contains("hunter"));
        let cut = "psql:<stdin>:2: ERROR:  no\nLINE 1: ...qykxORD6hbC7=:MWrRq' NOSUCH;\n              ^\nHINT:  h\n";
        assert_eq!(psql_failure(cut).unwrap().message, "ERROR:  no\nHINT:  h");
    }

    #[test]
    fn no_place_no_failure() {
        assert_eq!(psql_failure(""), None);
        let refused = "psql: error: connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n";
        assert_eq!(psql_failure(refused), None);
    }
}
