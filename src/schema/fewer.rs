//! Statements that travel together: each by itself costs a round trip and two changes between processes, which is more than
//! most of a dump's statements cost the server.

use std::io::{BufRead, Write};

use crate::error::Result;

use super::statement::{Item, Kind, Statements};
use super::tokens::Tokens;

/// As many go together.
const AT_ONCE: usize = 50;
/// Or as many bytes.
const BYTES: usize = 64 << 10;

/// What dumps have by thousands. Settings stay alone, since the statements beside them are read before they hold, and so do
/// functions, whose bodies psql takes apart by the words that a statement begins with.
const TOGETHER: [&str; 12] = [
    "CREATE TABLE",
    "CREATE SEQUENCE",
    "CREATE INDEX",
    "CREATE UNIQUE INDEX",
    "CREATE TYPE",
    "CREATE TRIGGER",
    "ALTER TABLE",
    "ALTER SEQUENCE",
    "ALTER TYPE",
    "COMMENT ON",
    "GRANT",
    "REVOKE",
];

/// Writes a script for psql anew: what may travel together does, by `\;` (manual: psql, "Meta-Commands"). In one transaction
/// it does what the script did; which statement has failed is not told.
pub(crate) fn together(input: impl BufRead, output: &mut impl Write) -> Result<()> {
    let mut waiting: Vec<u8> = Vec::new();
    let mut count = 0;
    for item in Statements::new(input) {
        let item = item?;
        if item.kind == Kind::Comment {
            continue;
        }
        let Some(statement) = joined(&item) else {
            send(&mut waiting, &mut count, output)?;
            output.write_all(&item.text)?;
            continue;
        };
        if count > 0 {
            waiting.extend_from_slice(b"\\;\n");
        }
        waiting.extend_from_slice(statement);
        count += 1;
        if count == AT_ONCE || waiting.len() >= BYTES {
            send(&mut waiting, &mut count, output)?;
        }
    }
    send(&mut waiting, &mut count, output)
}

/// A statement that may travel with others, without its semicolon.
fn joined(item: &Item) -> Option<&[u8]> {
    let head = Tokens::head(&item.text, 3);
    let statement = item.text.trim_ascii_end().strip_suffix(b";")?;
    let goes = item.kind == Kind::Statement && TOGETHER.iter().any(|words| head.start(words));
    goes.then_some(statement)
}

fn send(waiting: &mut Vec<u8>, count: &mut usize, output: &mut impl Write) -> Result<()> {
    if *count > 0 {
        waiting.extend_from_slice(b";\n");
        output.write_all(waiting)?;
        waiting.clear();
        *count = 0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> String {
        let mut output = Vec::new();
        together(script.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn tables_travel_together_and_settings_and_functions_alone() {
        let script = "\\restrict x\n\n--\n-- Name: a; Type: TABLE\n--\n\nSET client_encoding = 'UTF8';\nCREATE TABLE a (\n    b text DEFAULT ';'\n);\n\nALTER TABLE a OWNER TO o;\nCREATE FUNCTION f() RETURNS int\n    BEGIN ATOMIC\n SELECT 1;\nEND;\nGRANT SELECT ON TABLE a TO r;\n\\unrestrict x\nREVOKE ALL ON TABLE a FROM r;\nUPDATE run SET phase = 'rows';\n";
        assert_eq!(
            of(script),
            "\\restrict x\nSET client_encoding = 'UTF8';\nCREATE TABLE a (\n    b text DEFAULT ';'\n)\\;\nALTER TABLE a OWNER TO o;\nCREATE FUNCTION f() RETURNS int\n    BEGIN ATOMIC\n SELECT 1;\nEND;\nGRANT SELECT ON TABLE a TO r;\n\\unrestrict x\nREVOKE ALL ON TABLE a FROM r;\nUPDATE run SET phase = 'rows';\n"
        );
    }

    #[test]
    fn no_more_than_fifty_go_at_once() {
        let tables: String = (0..120)
            .map(|at| format!("CREATE TABLE t{at} ();\n"))
            .collect();
        let sent = of(&tables);
        assert_eq!(sent.matches("();").count(), 3);
        assert_eq!(sent.matches("()\\;").count(), 117);
        assert_eq!(sent.replace("\\;", ";"), tables);
    }
}
