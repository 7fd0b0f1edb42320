//! Loads a script with psql as one transaction, and says which statement failed.

use std::fs::File;
use std::io::BufReader;

use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::schema::{psql_failure, redact, statement_at, together};
use crate::server::{Login, Server};
use crate::tools::{Toolbox, WRITING, rewind, share, written};

/// How a script is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transactions {
    /// All of it, or nothing.
    One,
    /// Each statement by itself, where one transaction would hold more locks than the server has room for.
    Each,
}

/// How psql ends when a statement of a script has failed; after a lost connection it is 2.
const FAILED: i32 = 3;

/// Loads a script into a database of a server: all of it, or nothing.
pub(super) fn load(
    toolbox: &Toolbox,
    server: &Server,
    login: Login,
    dbname: &str,
    script: &File,
) -> Result<()> {
    load_in(
        toolbox,
        server,
        login,
        dbname,
        script,
        (Transactions::One, ""),
    )
}

/// The same in one or many transactions, after `first`, a statement of its own.
pub(super) fn load_in(
    toolbox: &Toolbox,
    server: &Server,
    login: Login,
    dbname: &str,
    script: &File,
    (transactions, first): (Transactions, &str),
) -> Result<()> {
    let psql =
        toolbox
            .psql
            .on(server, login, dbname)?
            .args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1"]);
    let psql = match transactions {
        Transactions::One => psql.args(["--single-transaction"]),
        Transactions::Each => psql,
    };
    let psql = match first {
        "" => psql,
        first => psql.args(["-c", first]),
    };
    let psql = psql.args(["-f", "-"]);
    if transactions == Transactions::One {
        let mut whole = share(script)?;
        rewind(&mut whole)?;
        let (fewer, ()) =
            written(|output| together(BufReader::new(whole), output).wrap_err(WRITING))?;
        let (status, stderr) = psql.feed(fewer)?;
        if status.code() != Some(FAILED) {
            return psql.check(status, &redact(&stderr));
        }
        // All of it is rolled back: statement by statement it fails again, and psql says at which.
    }
    let input = share(script)?;
    let (status, stderr) = psql.feed(input)?;
    if status.success() {
        return Ok(());
    }
    let Some(failed) = psql_failure(&stderr) else {
        return psql.check(status, &redact(&stderr));
    };
    let mut again = share(script)?;
    rewind(&mut again)?;
    let statement = statement_at(BufReader::new(again), failed.line)
        .wrap_err("read the temporary file")?
        .map(|item| {
            let entry = item.entry.as_ref();
            let object = entry.map(|entry| format!("{entry}: "));
            format!("{}{}: ", object.unwrap_or_default(), item.summary())
        });
    let message = failed.message.lines().map(str::trim).collect::<Vec<_>>();
    Failure::new(format!(
        "run a statement on the {}: {}{}",
        server
            .target()
            .with(server.credentials(login)?.user(), dbname)
            .endpoint,
        statement.unwrap_or_default(),
        message.join(" | ")
    ))
    .err::<(), Report>()
    .hint(|| {
        "mend what the server says and run the command again: the transaction was rolled back"
            .into()
    })
}
