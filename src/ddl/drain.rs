//! A row through the stream: when it has arrived, so has all that was committed before it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, interrupt, params};
use crate::value::TableName;

const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The way of such a row.
pub(super) struct Drain<'a> {
    /// In the database of the open side, outside of the statement's transaction.
    pub(super) writer: &'a Session,
    /// In that of the receiving side.
    pub(super) reader: &'a Session,
    /// The open side's identifier: the row's key.
    pub(super) identifier: u64,
    /// What it is written to.
    pub(super) table: TableName,
}

/// Such a row on its way.
pub(super) struct Probe {
    uuid: String,
    since: Instant,
}

impl Drain<'_> {
    /// Writes a row.
    pub(super) fn send(&self) -> Result<Probe> {
        let since = Instant::now();
        let (table, key) = (&self.table, self.identifier.to_string());
        let uuid = Uuid::new_v4().to_string();
        self.writer
            .execute(
                &format!(
                    "INSERT INTO {table} AS s (system_identifier, uuid, created_at)
                     VALUES ($1, $2, clock_timestamp()::text)
                     ON CONFLICT (system_identifier) DO UPDATE SET uuid = excluded.uuid, created_at = excluded.created_at"
                ),
                params![&key, &uuid],
            )
            .wrap_err("write the probe row")?;
        Ok(Probe { uuid, since })
    }

    /// Waits for it; how long that took since it was written.
    pub(super) fn wait(&self, probe: &Probe, limit: Duration) -> Result<Duration> {
        let (table, key) = (&self.table, self.identifier.to_string());
        let Probe { uuid, since } = probe;
        let arrived = format!(
            "SELECT EXISTS (SELECT FROM {table} WHERE system_identifier = $1 AND uuid = $2)"
        );
        loop {
            let there: bool = self
                .reader
                .value(&arrived, params![&key, uuid])
                .wrap_err("look for the probe row")?;
            if there {
                return Ok(since.elapsed());
            }
            if since.elapsed() > limit {
                return Failure::new(format!(
                    "wait until everything written before has arrived: not within {}",
                    humantime::format_duration(limit)
                ))
                .hint("flare lag says whether the subscription is stopped or behind")
                .err();
            }
            interrupt::sleep(LOOK_EVERY)?;
        }
    }
}
