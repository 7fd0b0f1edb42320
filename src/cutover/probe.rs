//! A row that travels through the stream: when it has arrived, so has all that was committed before it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::cutover::deadline::Deadline;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::server::{Session, interrupt, params};
use crate::value::TableName;

const WRITE: &str = "
    INSERT INTO TABLE (system_identifier, uuid, created_at)
    VALUES ($1, $2, clock_timestamp()::text)
    ON CONFLICT (system_identifier) DO UPDATE SET uuid = excluded.uuid, created_at = excluded.created_at
    RETURNING uuid";

const ARRIVED: &str = "
    SELECT EXISTS (SELECT FROM TABLE WHERE system_identifier = $1 AND uuid = $2)";

const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The two ends of a probe.
pub(crate) struct Probe<'a> {
    /// In the database of *from*.
    pub(crate) writer: &'a Session,
    /// In that of *to*.
    pub(crate) reader: &'a Session,
    /// The identifier of *from*: the row's key.
    pub(crate) identifier: u64,
    /// What it is written to.
    pub(crate) table: TableName,
}

/// A probe row on its way.
pub(crate) struct Row {
    uuid: String,
}

impl Probe<'_> {
    /// Writes a row and waits until it has arrived; how long that took.
    pub(crate) fn send(&self, deadline: &Deadline) -> Result<Duration> {
        let since = Instant::now();
        let row = self.write()?;
        self.arrive(&row, deadline)?;
        Ok(since.elapsed())
    }

    fn on_table(&self, sql: &str) -> String {
        sql.replace("TABLE", &self.table.to_string())
    }

    /// Writes a row.
    pub(crate) fn write(&self) -> Result<Row> {
        let uuid = Uuid::new_v4().to_string();
        let uuid: String = self
            .writer
            .value(
                &self.on_table(WRITE),
                params![self.identifier.to_string(), uuid],
            )
            .wrap_err("write the probe row")?;
        Ok(Row { uuid })
    }

    /// Waits until it has arrived.
    pub(crate) fn arrive(&self, row: &Row, deadline: &Deadline) -> Result<()> {
        let look = self.on_table(ARRIVED);
        loop {
            let arrived: bool = self
                .reader
                .value(&look, params![self.identifier.to_string(), &row.uuid])
                .wrap_err("look for the probe row")?;
            if arrived {
                return Ok(());
            }
            deadline.check().wrap_err("wait for the probe row")?;
            interrupt::sleep(LOOK_EVERY)?;
        }
    }
}

/// A probe this quick, beside what the line to both servers takes, means that apply keeps up (a large commit just before
/// costs some 300 ms).
const QUICK: Duration = Duration::from_millis(25);
/// For how long flare waits, before the pause, for apply to keep up.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(30);

/// Sends probes before the pause until one is quick: lag is waited for here, never in the pause.
pub(crate) fn catch_up(
    probe: &Probe<'_>,
    round_trip: Duration,
    max_pause: Duration,
) -> Result<Duration> {
    let deadline = Deadline::after(CATCH_UP);
    let mut quickest = CATCH_UP;
    loop {
        let took = match probe.send(&deadline) {
            Err(report) if deadline.check().is_err() => return Err(report).hint(behind),
            sent => sent?,
        };
        quickest = quickest.min(took);
        if quickest <= QUICK + round_trip {
            return Ok(quickest);
        }
        if deadline.check().is_err() {
            // What counts in the end is that it fits into the pause with room to spare.
            return if quickest <= max_pause / 4 {
                Ok(quickest)
            } else {
                Err(Failure::new(format!(
                    "the quickest probe took {} ms",
                    quickest.as_millis()
                )))
                .hint(behind)
            };
        }
        interrupt::sleep(Duration::from_millis(20))?;
    }
}

fn behind() -> String {
    "see flare monitor: apply is stopped or behind; nothing was paused".into()
}
