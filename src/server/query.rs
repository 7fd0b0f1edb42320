//! What a session is asked: statements, with their rows as the catalog's own types.

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::Json;
use postgres::{Row, SimpleQueryMessage};
use serde::de::DeserializeOwned;

use super::session::{Session, SimpleRow};
use super::{Param, SqlError};
use crate::error::{Failure, Result, WrapErr};

impl Session {
    /// The rows of a statement, in one round trip.
    pub(crate) fn rows(&self, sql: &str, params: Vec<Param>) -> Result<Vec<Row>> {
        let sql = sql.to_owned();
        log::trace!("{}: {sql}", self.endpoint());
        self.run(move |client| client.query_typed(&sql, &typed(&params)))
    }

    /// Runs a statement; the number of rows it touched.
    pub(crate) fn execute(&self, sql: &str, params: Vec<Param>) -> Result<u64> {
        let sql = sql.to_owned();
        log::trace!("{}: {sql}", self.endpoint());
        self.run(move |client| {
            let mut rows = client.query_typed_raw(&sql, typed(&params))?;
            while rows.next()?.is_some() {}
            Ok(rows.rows_affected().unwrap_or(0))
        })
    }

    /// The first column of every row, each a JSON value that serde reads: `SELECT to_jsonb(s) FROM pg_... s`.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        sql: &str,
        params: Vec<Param>,
    ) -> Result<Vec<T>> {
        let rows = self.rows(sql, params)?;
        // Without a tree of its values in between, which takes ten times the memory of the text.
        let values = rows.into_iter().map(|row| {
            let value: Json<T> = row
                .try_get(0)
                .map_err(SqlError::from)
                .wrap_err("read a row of the catalog")?;
            Ok(value.0)
        });
        values
            .collect::<Result<Vec<T>>>()
            .map_err(|report| self.context(report))
    }

    /// The first such value, if there is a row.
    pub(crate) fn first<T: DeserializeOwned>(
        &self,
        sql: &str,
        params: Vec<Param>,
    ) -> Result<Option<T>> {
        Ok(self.list(sql, params)?.into_iter().next())
    }

    /// The only column of the only row.
    pub(crate) fn value<T>(&self, sql: &str, params: Vec<Param>) -> Result<T>
    where
        T: for<'a> postgres::types::FromSql<'a>,
    {
        let rows = self.rows(sql, params)?;
        let row = rows
            .first()
            .ok_or_else(|| self.context(Failure::new("no row came back").into()))?;
        row.try_get(0)
            .map_err(|error| self.context(SqlError::from(error).into()))
    }

    /// The rows of several statements without parameters, in one round trip; values come as text.
    pub(crate) fn simple(&self, sql: &str) -> Result<Vec<SimpleRow>> {
        let sql = sql.to_owned();
        log::trace!("{}: {sql}", self.endpoint());
        let messages = self.run(move |client| client.simple_query(&sql))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Several statements without parameters, in one round trip and, unless they say otherwise, one transaction.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        let sql = sql.to_owned();
        log::trace!("{}: {sql}", self.endpoint());
        self.run(move |client| client.batch_execute(&sql))
    }

    /// As [`Session::batch`], for statements that carry a password: never logged.
    pub(crate) fn batch_secret(&self, sql: crate::value::Secret) -> Result<()> {
        self.run(move |client| client.batch_execute(sql.reveal()))
    }
}

impl Session {
    /// Runs work between BEGIN and COMMIT; what fails is rolled back, where the session is not lost.
    pub(crate) fn transaction<T>(&self, work: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        self.batch("BEGIN")?;
        match work(self) {
            Ok(done) => self.batch("COMMIT").map(|()| done),
            Err(report) if super::is_lost(&report) => Err(report),
            Err(report) => self.batch("ROLLBACK").and(Err(report)),
        }
    }
}

/// Parameters as the driver takes them: each value with its type.
fn typed(params: &[Param]) -> Vec<(&(dyn postgres::types::ToSql + Sync), postgres::types::Type)> {
    params
        .iter()
        .map(|(value, kind)| {
            (
                &**value as &(dyn postgres::types::ToSql + Sync),
                kind.clone(),
            )
        })
        .collect()
}
