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
pub(super) struct Nudge {
    writer: Option<Writer>,
    written: Option<Instant>,
}

impl Nudge {
    pub(super) fn new(publisher: &Publisher, dbname: &str, pubname: &str) -> Nudge {
        let open = || -> Result<Option<(Session, TableName)>> {
            let session = publisher.connect(ActAs::Owner, dbname)?;
            let published = publications::tables(&session, pubname)?;
            let table = status_table::table(publisher);
            Ok(published.contains(&table).then_some((session, table)))
        };
        let found = open().unwrap_or_else(|report| {
            log::info!(
                "write rows that keep the copy going: {}",
                message_of(&report)
            );
            None
        });
        Nudge {
            writer: found.map(|(session, table)| Writer {
                session,
                table,
                identifier: publisher.identifier().to_string(),
            }),
            written: None,
        }
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
