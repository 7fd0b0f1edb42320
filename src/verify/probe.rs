//! A row that travels through the stream: what was committed before it is on the subscriber once it has arrived.
//!
//! Without flare's table the subscriber's confirmed position tells the same, later.

use std::time::Duration;

use super::following::Following;
use super::pinned::{Argument, Pinned, Text};
use crate::error::{Advise, Result, WrapErr};
use crate::server::{interrupt, params};
use crate::value::TableName;

/// How a position is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a row of this table, which is published and subscribed.
    Row(TableName),
    /// By what the subscription's slot has confirmed.
    Slot,
}

/// The probes of one worker.
#[derive(Clone)]
pub(super) struct Probe<'a> {
    way: &'a Way,
    /// The row's key.
    key: Text,
    following: Following<'a>,
}

/// Shared by the runs whose rows travel through a database.
const AT_WORK: (i32, i32) = (0x666c_6172, 3);
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl<'a> Probe<'a> {
    /// `name` is nobody else's: two runs at once each await rows of their own.
    pub(super) fn new(way: &'a Way, name: &str, following: Following<'a>) -> Probe<'a> {
        Probe {
            way,
            key: Text::from(name),
            following,
        }
    }

    /// The table that rows travel through, if they do.
    pub(super) fn table(&self) -> Option<&TableName> {
        match self.way {
            Way::Row(table) => Some(table),
            Way::Slot => None,
        }
    }

    fn key(&self) -> Argument {
        Argument::One(Some(self.key.clone()))
    }

    /// Waits until everything that is committed on the publisher is on the subscriber.
    pub(super) fn pass(&self, publisher: &Pinned, subscriber: &Pinned) -> Result<()> {
        match self.way {
            Way::Row(table) => {
                let mark = uuid::Uuid::new_v4().to_string();
                self.write(table, publisher, &mark)?;
                self.until((publisher, subscriber), || {
                    Ok(self.read(table, subscriber)?.as_deref() == Some(&mark))
                })
            }
            Way::Slot => {
                let rows = publisher
                    .rows(
                        "SELECT pg_logical_emit_message(true, 'flare', '')::text",
                        vec![],
                    )
                    .wrap_err("write a message to wait for")?;
                let lsn: Option<Text> = rows.first().map(|row| row.get(0));
                let asked = "SELECT coalesce((SELECT confirmed_flush_lsn >= $1::pg_lsn
                                                FROM pg_replication_slots WHERE slot_name = $2), false)";
                self.until((publisher, subscriber), || {
                    let arguments = vec![
                        Argument::One(lsn.clone()),
                        Argument::One(Some(Text::from(self.following.slot_name))),
                    ];
                    let rows = publisher.rows(asked, arguments)?;
                    Ok(rows.first().is_some_and(|row| row.get(0)))
                })
            }
        }
    }

    /// Writes the row.
    pub(super) fn write(&self, table: &TableName, publisher: &Pinned, mark: &str) -> Result<()> {
        let sql = format!(
            "INSERT INTO {table} (system_identifier, uuid, created_at) VALUES ($1, $2, clock_timestamp()::text)
             ON CONFLICT (system_identifier) DO UPDATE SET uuid = excluded.uuid, created_at = excluded.created_at"
        );
        let mark = Argument::One(Some(Text::from(mark)));
        publisher
            .rows(&sql, vec![self.key(), mark])
            .map(drop)
            .wrap_err("write a row to wait for")
    }

    /// What the row says on the subscriber.
    fn read(&self, table: &TableName, subscriber: &Pinned) -> Result<Option<String>> {
        let sql = format!("SELECT uuid FROM {table} WHERE system_identifier = $1");
        let rows = subscriber.rows(&sql, vec![self.key()])?;
        Ok(rows.first().map(|row| row.get::<_, Text>(0).shown()))
    }

    /// Waits as long as the subscriber follows.
    fn until(
        &self,
        (publisher, subscriber): (&Pinned, &Pinned),
        arrived: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let mut wait = self.following.wait();
        while !arrived()? {
            wait.look(publisher, subscriber, &arrived)?;
            interrupt::sleep(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Takes rows away that a killed run has left, where no other is at work, and counts this session's run as one that is.
    pub(super) fn sweep(way: &Way, publisher: &Pinned) -> Result<()> {
        let Way::Row(table) = way else {
            return Ok(());
        };
        let (class, object) = AT_WORK;
        let session = publisher.session();
        let alone: bool = session.value(
            "SELECT pg_try_advisory_lock($1, $2)",
            params![class, object],
        )?;
        if alone {
            session.batch(&format!(
                "DELETE FROM {table} WHERE system_identifier LIKE '%/verify/%'; SELECT pg_advisory_unlock({class}, {object})"
            ))?;
        }
        session.batch(&format!(
            "SELECT pg_advisory_lock_shared({class}, {object})"
        ))
    }

    /// The key and the table, for statements that read the row beside another.
    pub(super) fn joined(&self) -> Option<(&TableName, Argument)> {
        Some((self.table()?, self.key()))
    }

    /// Takes the row away.
    pub(super) fn remove(&self, publisher: &Pinned) -> Result<()> {
        let Way::Row(table) = self.way else {
            return Ok(());
        };
        let _shield = interrupt::Shield::raise();
        publisher
            .rows(
                &format!("DELETE FROM {table} WHERE system_identifier = $1"),
                vec![self.key()],
            )
            .map(drop)
            .wrap_err("take the row to wait for away")
            .hint(|| format!("DELETE FROM {table} WHERE system_identifier LIKE '%/verify/%'"))
    }
}
