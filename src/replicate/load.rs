//! Loads a script with psql as one transaction, and says which statement failed.

use std::fs::File;
use std::io::BufReader;

use crate::error::{Advise, Failure, Result, WrapErr};
use crate::schema::{psql_failure, redact, statement_at};
use crate::server::{Login, Server};
use crate::tools::{Toolbox, rewind, share};

/// Loads a script into a database of a server: all of it, or nothing.
pub(super) fn load(
    toolbox: &Toolbox,
    server: &Server,
    login: Login,
    dbname: &str,
    script: &File,
) -> Result<()> {
    let psql = toolbox.psql.on(server, login, dbname)?.args([
        "-X",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "--single-transaction",
        "-f",
        "-",
    ]);
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
    .err::<()>()
    .hint(|| {
        "mend what the server says and run the command again: the transaction was rolled back"
            .into()
    })
}
