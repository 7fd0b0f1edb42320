//! A row that travels through the stream: what was committed before it is on the subscriber once it has arrived.
//!
//! Without flare's table the subscriber's confirmed position tells the same, later.

use std::time::{Duration, Instant};

use super::pinned::{Argument, Pinned, Text};
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::server::{interrupt, params};
use crate::value::TableName;

/// How a position is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a row of this table, which is published and subscribed; the slot says how far the subscriber has come meanwhile.
    Row { table: TableName, slot_name: String },
    /// By what the subscription's slot has confirmed.
    Slot(String),
}

/// The probes of one worker.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    way: Way,
    /// The row's key.
    key: Text,
    limit: Duration,
}

/// Shared by the runs whose rows travel through a database.
const AT_WORK: (i32, i32) = (0x666c_6172, 3);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often a subscriber that is behind is asked whether it comes nearer.
const NEARER_EVERY: Duration = Duration::from_secs(5);
/// A subscriber that has not moved for so long does not follow.
const LIMIT: Duration = Duration::from_secs(120);

impl Probe {
    pub(super) fn new(way: Way, identifier: u64, worker: usize) -> Probe {
        Probe {
            way,
            key: Text::from(format!("{identifier}/verify/{worker}").as_str()),
            limit: LIMIT,
        }
    }

    /// The table that rows travel through, if they do.
    pub(super) fn table(&self) -> Option<&TableName> {
        match &self.way {
            Way::Row { table, .. } => Some(table),
            Way::Slot(_) => None,
        }
    }

    fn key(&self) -> Argument {
        Argument::One(Some(self.key.clone()))
    }

    /// Waits until everything that is committed on the publisher is on the subscriber.
    pub(super) fn pass(&self, publisher: &Pinned, subscriber: &Pinned) -> Result<()> {
        match &self.way {
            Way::Row { table, slot_name } => {
                let mark = uuid::Uuid::new_v4().to_string();
                self.write(table, publisher, &mark)?;
                self.until(publisher, slot_name, || {
                    Ok(self.read(table, subscriber)?.as_deref() == Some(&mark))
                })
            }
            Way::Slot(slot_name) => {
                let rows = publisher
                    .rows(
                        "SELECT pg_logical_emit_message(true, 'flare', '')::text",
                        vec![],
                    )
                    .wrap_err("write a message to wait for")?;
                let lsn: Option<Text> = rows.first().map(|row| row.get(0));
                let asked = "SELECT coalesce((SELECT confirmed_flush_lsn >= $1::pg_lsn
                                                FROM pg_replication_slots WHERE slot_name = $2), false)";
                self.until(publisher, slot_name, || {
                    let arguments = vec![
                        Argument::One(lsn.clone()),
                        Argument::One(Some(Text::from(slot_name.as_str()))),
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

    /// Waits as long as the subscriber comes nearer.
    fn until(
        &self,
        publisher: &Pinned,
        slot_name: &str,
        arrived: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let mut stands_since = Instant::now();
        let mut looked = stands_since;
        let mut position: Option<Text> = None;
        while !arrived()? {
            if looked.elapsed() > NEARER_EVERY {
                looked = Instant::now();
                let now = self.confirmed(publisher, slot_name)?;
                if now != position {
                    position = now;
                    stands_since = looked;
                }
            }
            if stands_since.elapsed() > self.limit {
                return Failure::new(format!(
                    "wait for the subscriber: it has not moved for {} s, and what was written has not arrived",
                    self.limit.as_secs()
                ))
                .hint("flare lag says whether the subscription follows")
                .err();
            }
            interrupt::sleep(LOOK_EVERY)?;
        }
        Ok(())
    }

    fn confirmed(&self, publisher: &Pinned, slot_name: &str) -> Result<Option<Text>> {
        let rows = publisher
            .rows(
                "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1",
                vec![Argument::One(Some(Text::from(slot_name)))],
            )
            .wrap_err("read what the subscriber has confirmed")?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    /// Takes rows away that a killed run has left, where no other is at work, and counts this session's run as one that is.
    pub(super) fn sweep(way: &Way, publisher: &Pinned) -> Result<()> {
        let Way::Row { table, .. } = way else {
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
        let Way::Row { table, .. } = &self.way else {
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
