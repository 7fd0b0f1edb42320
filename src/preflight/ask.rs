//! Putting questions to a server: all of them in one message, within a deadline, reading only.

use std::time::{Duration, Instant};

use postgres::SimpleQueryMessage;
use serde_json::Value;

use super::question::{Answers, Text};
use crate::error::{Result, WrapErr, message_of};
use crate::server::{Session, Timeout, is_lost};
use crate::value::Literal;

/// After this long no more single questions are asked. Of ten thousand tables a busy server tells in half of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// No answer is worth more than this to the server, and none waits in a lock queue.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '5s'; \
    SET LOCAL lock_timeout = '500ms'; SET LOCAL search_path = pg_catalog";

/// The literals that questions name.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) dbname: String,
    pub(super) pubname: String,
    pub(super) subname: String,
    pub(super) db_owner: String,
    pub(super) repl: String,
}

impl Names {
    /// The question with its marks filled; a name that looks like a mark is none.
    fn fill(&self, sql: &str) -> String {
        let marks = [
            ("{dbname}", &self.dbname),
            ("{pubname}", &self.pubname),
            ("{subname}", &self.subname),
            ("{db_owner}", &self.db_owner),
            ("{repl}", &self.repl),
        ];
        let mut filled = String::new();
        let mut rest = sql;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            match marks.iter().find(|(mark, _)| rest.starts_with(mark)) {
                Some((mark, name)) => {
                    filled.push_str(&Literal(name).to_string());
                    rest = &rest[mark.len()..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled + rest
    }
}

/// Asks everything in one round trip; where one question fails, each for itself, so that only that one has no answer.
pub(super) fn ask(
    session: &Session,
    major: i32,
    superuser: bool,
    names: &Names,
    questions: &[Text],
) -> Result<Answers> {
    let deadline = Instant::now() + DEADLINE;
    let known = questions.iter().filter(|it| it.since <= major);
    let (together, singly): (Vec<&Text>, Vec<&Text>) =
        known.partition(|it| superuser || !it.privileged);
    let mut answers = Answers::default();
    let sql = |texts: &[&Text]| {
        let filled: Vec<String> = texts.iter().map(|it| names.fill(it.sql)).collect();
        format!("{BEGIN};\n{};\nCOMMIT", filled.join(";\n"))
    };
    let mut alone = singly;
    if !together.is_empty() {
        match batch(session, sql(&together)) {
            Ok(sets) => {
                for (text, rows) in together.iter().zip(sets) {
                    answers.rows.insert(text.name, rows);
                }
            }
            Err(report) if is_lost(&report) => return Err(report),
            Err(report) => {
                log::debug!("ask one by one: {}", message_of(&report));
                roll_back(session)?;
                alone = together.into_iter().chain(alone).collect();
            }
        }
    }
    for text in alone {
        if Instant::now() >= deadline {
            answers
                .unseen
                .insert(text.name, "there was no time left".into());
            continue;
        }
        match batch(session, sql(&[text])) {
            Ok(mut sets) => {
                answers
                    .rows
                    .insert(text.name, sets.pop().unwrap_or_default());
            }
            Err(report) if is_lost(&report) => return Err(report),
            Err(report) => {
                roll_back(session)?;
                log::info!("ask {:?}: {}", text.name, message_of(&report));
                answers.unseen.insert(text.name, why(&message_of(&report)));
            }
        }
    }
    Ok(answers)
}

fn roll_back(session: &Session) -> Result<()> {
    session.batch("ROLLBACK")
}

/// The server's words alone, without where it is.
fn why(message: &str) -> String {
    let words = message
        .split_once("ERROR: ")
        .map_or(message, |(_, words)| words);
    words.lines().next().unwrap_or_default().to_owned()
}

/// The rows of each statement between BEGIN with its settings and COMMIT. Each ends by its statement_timeout.
fn batch(session: &Session, sql: String) -> Result<Vec<Vec<Value>>> {
    log::trace!("{}: {sql}", session.endpoint());
    let messages = session.run_for(Timeout::WhileServerAnswers, move |client| {
        client.simple_query(&sql)
    })?;
    let mut sets = Vec::new();
    let mut rows = Vec::new();
    let mut inside = false;
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(_) => inside = true,
            SimpleQueryMessage::Row(row) => {
                let text = row.get(0).unwrap_or("null");
                rows.push(serde_json::from_str(text).wrap_err("read an answer")?);
            }
            // Settings and BEGIN have no rows; a SELECT without a row has its description.
            SimpleQueryMessage::CommandComplete(_) if inside => {
                sets.push(std::mem::take(&mut rows));
                inside = false;
            }
            _ => {}
        }
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_literals_and_no_marks() {
        let names = Names {
            dbname: "{pubname}".into(),
            pubname: "a'b".into(),
            ..Names::default()
        };
        assert_eq!(
            names.fill("SELECT {dbname}, {pubname}, '{}'"),
            "SELECT '{pubname}', 'a''b', '{}'"
        );
    }
}
