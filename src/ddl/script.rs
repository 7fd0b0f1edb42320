//! What is to be run: one statement, or a file of them.

use std::io::BufReader;

use super::kind::{Kind, kind_of};
use crate::error::{Failure, Result, WrapErr};
use crate::schema::{Kind as Piece, Statements, redact};

/// A statement with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Without its semicolon.
    pub(super) text: String,
    /// The line of the file it begins in.
    pub(super) line: u64,
}

impl Item {
    /// For people.
    pub(super) fn shown(&self) -> String {
        shown(&self.text)
    }

    /// For programs: on one line, without passwords.
    pub(super) fn on_one_line(&self) -> String {
        on_one_line(&self.text)
    }
}

fn on_one_line(text: &str) -> String {
    redact(text)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// A statement for people: on one line, without passwords, and its beginning where it is long.
pub(crate) fn shown(text: &str) -> String {
    shortened(&on_one_line(text))
}

/// The beginning of a long statement, with its length.
pub(super) fn shortened(line: &str) -> String {
    const SHOWN: usize = 500;
    match line.char_indices().nth(SHOWN) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}... ({} characters)", &line[..end], line.chars().count()),
    }
}

/// Statements, and the file they stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub(super) file: Option<String>,
    pub(super) items: Vec<Item>,
}

impl Script {
    /// One statement.
    ///
    /// # Errors
    /// Exit code 2 when it is none, or more than one.
    pub fn statement(text: &str) -> Result<Script> {
        let items = split(text)?;
        match items.len() {
            1 => Ok(Script { file: None, items }),
            0 => Failure::usage("read the statement: there is none")
                .hint("flare ddl DB 'ALTER TABLE ...'")
                .err(),
            many => Failure::usage(format!("read the statement: these are {many}"))
                .hint("run one at a time, or put them in a file: flare ddl DB --file FILE")
                .err(),
        }
    }

    /// The statements of a file; `name` is what it is known by when it is run again.
    ///
    /// # Errors
    /// Exit code 2 when there is none in it, or a psql command.
    pub fn file(name: &str, text: &str) -> Result<Script> {
        let items = split(text)?;
        if items.is_empty() {
            return Failure::usage(format!("read {name}: there is no statement in it")).err();
        }
        Ok(Script {
            file: Some(name.to_owned()),
            items,
        })
    }

    /// Every statement is looked at before any is run.
    pub(super) fn check(&self, majors: (i32, i32)) -> Result<()> {
        for (place, item) in self.items.iter().enumerate() {
            let Kind::Refused(why) = kind_of(&item.text, majors) else {
                continue;
            };
            return Failure::usage(format!(
                "{}: {}; nothing was run",
                self.place(place, item),
                item.shown()
            ))
            .hint(why)
            .err();
        }
        Ok(())
    }

    /// Where a statement stands, for people.
    pub(super) fn place(&self, place: usize, item: &Item) -> String {
        match &self.file {
            None => "run the statement".to_owned(),
            Some(file) => format!(
                "run {file}, line {}, statement {} of {}",
                item.line,
                place + 1,
                self.items.len()
            ),
        }
    }
}

fn split(text: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for piece in Statements::new(BufReader::new(text.as_bytes())) {
        let piece = piece.wrap_err("read the statements")?;
        match piece.kind {
            Piece::Comment => continue,
            Piece::Backslash => {
                return Failure::usage(format!("read line {}: a psql command", piece.first_line))
                    .hint("only SQL goes to both sides")
                    .err();
            }
            Piece::Statement => {}
        }
        let text = String::from_utf8_lossy(&piece.text);
        let text = text.trim().trim_end_matches(';').trim_end();
        if !crate::schema::Tokens::head(text.as_bytes(), 1)
            .raws()
            .is_empty()
        {
            items.push(Item {
                text: text.to_owned(),
                line: piece.first_line,
            });
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_statement_is_shortened_between_characters() {
        let short = "CREATE TABLE a (b text DEFAULT 'ü')";
        assert_eq!(shown(short), short);
        let long = format!("SELECT\n'{}'", "ü€𝄞".repeat(400_000));
        let shown = shown(&long);
        assert!(shown.starts_with("SELECT 'ü€𝄞"), "{shown}");
        assert!(shown.ends_with("... (1200009 characters)"), "{shown}");
        assert_eq!(
            shown.chars().count(),
            500 + "... (1200009 characters)".len()
        );
    }

    #[test]
    fn a_file_is_taken_apart_and_one_statement_is_one() {
        let script = Script::file(
            "f.sql",
            "-- up\nCREATE TABLE a (b text DEFAULT ';');\n\nDROP TABLE x; DROP TABLE y;\n/* end */\n",
        )
        .unwrap();
        let lines: Vec<(u64, &str)> = script
            .items
            .iter()
            .map(|item| (item.line, item.text.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                (2, "CREATE TABLE a (b text DEFAULT ';')"),
                (4, "DROP TABLE x"),
                (4, "DROP TABLE y")
            ]
        );
        assert!(Script::statement("DROP TABLE a; DROP TABLE b").is_err());
        assert!(Script::statement("  -- nothing").is_err());
        assert!(Script::file("f", "\\connect x\n").is_err());
        let script = Script::statement("DROP TABLE a;").unwrap();
        assert_eq!(script.items[0].text, "DROP TABLE a");
        script.check((14, 15)).unwrap();
        assert!(
            Script::statement("COMMIT")
                .unwrap()
                .check((14, 15))
                .is_err()
        );
    }
}
