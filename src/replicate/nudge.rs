//! A row through the stream while tables are copied. Each table sync ends at a record that the publisher writes after
//! it; on an idle publisher the next one comes after some ten seconds.

use std::time::{Duration, Instant};

use super::status_table;
use crate::catalog::publications;
use crate::error::{Result, WrapErr, message_of};
use crate::server::{ActAs, Publisher, Session, params};
use crate::value::TableName;

/// How often a row is written.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// The session, the table and the row's key.
struct Writer {
    session: Session,
    table: TableName,
    identifier: String,
}

/// Who writes it; nobody where that cannot be: then the copy waits for the publisher's own records.
pub(super) struct Nudge<'a> {
    publisher: &'a Publisher,
    dbname: &'a str,
    pubname: &'a str,
    writer: Option<Writer>,
    written: Option<Instant>,
}

impl<'a> Nudge<'a> {
    pub(super) fn new(publisher: &'a Publisher, dbname: &'a str, pubname: &'a str) -> Nudge<'a> {
        let mut nudge = Nudge {
            publisher,
            dbname,
            pubname,
            writer: None,
            written: None,
        };
        nudge.begin_anew();
        nudge
    }

    /// Opens a session, also after the last one was lost.
    pub(super) fn begin_anew(&mut self) {
        self.writer = self.open().unwrap_or_else(|report| {
            log::info!(
                "write rows that keep the copy going: {}",
                message_of(&report)
            );
            None
        });
    }

    fn open(&self) -> Result<Option<Writer>> {
        let session = self.publisher.connect(ActAs::Owner, self.dbname)?;
        let published = publications::tables(&session, self.pubname)?;
        let table = status_table::table(self.publisher);
        Ok(published.contains(&table).then(|| Writer {
            session,
            table,
            identifier: self.publisher.identifier().to_string(),
        }))
    }

    /// Writes a row, unless the last one is recent.
    pub(super) fn give(&mut self) {
        let recent = self.written.is_some_and(|at| at.elapsed() < EVERY);
        let Some(writer) = &self.writer else {
            return;
        };
        if recent {
            return;
        }
        self.written = Some(Instant::now());
        if let Err(report) = write(writer) {
            log::info!("{}", message_of(&report));
            self.writer = None;
        }
    }
}

fn write(writer: &Writer) -> Result<()> {
    writer
        .session
        .execute(
            &format!(
                "INSERT INTO {} (system_identifier, uuid, created_at) VALUES ($1, $2, clock_timestamp()::text)
                 ON CONFLICT (system_identifier) DO UPDATE SET uuid = excluded.uuid, created_at = excluded.created_at",
                writer.table
            ),
            params![&writer.identifier, uuid::Uuid::new_v4().to_string()],
        )
        .map(drop)
        .wrap_err("write a row that keeps the copy going")
}
