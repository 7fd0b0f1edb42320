//! Statements as a test writes them: text in, text out.

use std::time::Duration;

use postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

pub type Row = Vec<Option<String>>;

pub fn connect(config: &mut Config) -> Result<Client, Error> {
    config
        .application_name("flare-test")
        .connect_timeout(Duration::from_secs(10))
        .connect(NoTls)
}

/// Every row of every statement in `sql`.
pub fn rows(client: &mut Client, sql: &str) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push(
                (0..row.len())
                    .map(|at| row.get(at).map(str::to_owned))
                    .collect(),
            );
        }
    }
    Ok(rows)
}

/// An error as the server words it, which `Display` of the crate leaves out.
pub fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!(
            "{}: {} (SQLSTATE {})",
            db.severity(),
            db.message(),
            db.code().code()
        ),
        None => format!("{error:?}"),
    }
}
