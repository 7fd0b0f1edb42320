//! What only looks: connectivity, counts.

use std::fmt;

use postgres::error::SqlState;
use serde::Serialize;

use super::Flare;
use crate::error::{Advise, Error, Result, WrapErr};
use crate::preflight::connectivity::{self, Connectivity};
use crate::server::{Login, Pair, Server, Timeout, application_name, params, sqlstate_of};
use crate::value::TableName;

/// Where rows are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOn {
    /// As the original does.
    Subscriber,
    /// Side by side.
    Both,
}

/// How many rows a table has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RowCount {
    /// The database.
    pub dbname: String,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Rows on the subscriber.
    pub subscriber: i64,
    /// Rows on the publisher, when both were asked.
    pub publisher: Option<i64>,
}

impl fmt::Display for RowCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.publisher {
            None => write!(f, "{}", self.subscriber),
            Some(publisher) => write!(f, "publisher {publisher}\nsubscriber {}", self.subscriber),
        }
    }
}

impl Flare {
    /// Checks that every user of both sides can connect, and that both servers are the declared ones.
    pub fn verify_connectivity(&self) -> Result<Connectivity, Error> {
        Ok(connectivity::verify(
            &self.config,
            &application_name(&self.command),
        )?)
    }

    /// Counts the rows of a table.
    pub fn count(&self, dbname: &str, table: &TableName, on: CountOn) -> Result<RowCount, Error> {
        self.config.publication(dbname)?;
        let opened = self.open();
        let (subscriber, publisher) = match on {
            CountOn::Subscriber => (opened.subscriber()?, None),
            CountOn::Both => {
                let Pair {
                    publisher,
                    subscriber,
                } = opened.both()?;
                (subscriber, Some(publisher))
            }
        };
        let publisher = publisher
            .map(|publisher| rows_of(&publisher, dbname, table))
            .transpose()?;
        Ok(RowCount {
            dbname: dbname.to_owned(),
            schema: table.schema.as_str().to_owned(),
            table: table.table.as_str().to_owned(),
            subscriber: rows_of(&subscriber, dbname, table)?,
            publisher,
        })
    }
}

fn rows_of(server: &Server, dbname: &str, table: &TableName) -> Result<i64> {
    let session = match server.connect(Login::DbOwner, dbname) {
        // A pause shuts the owner out, and that is when both sides are compared; the administrator stays.
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => server
            .connect(Login::Superuser, dbname)
            .map_err(|_| report)?,
        connected => connected?,
    }
    .with_timeout(Timeout::WhileServerAnswers);
    session
        .value(&format!("SELECT count(*) FROM {table}"), params![])
        .wrap_err_with(|| format!("count the rows of {}", table.plain()))
        .hint(|| {
            format!(
                "it was asked for as {table}: names are exact and never folded, and the database's owner has to be allowed to read it"
            )
        })
}
