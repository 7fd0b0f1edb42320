//! The replay: what the ledger says, held against what a server has.

use std::fmt;
use std::path::PathBuf;

use postgres::fallible_iterator::FallibleIterator;
use serde::Serialize;

use super::dsn::Dsn;
use super::history::{History, Text};
use super::ledger::Table;
use crate::error::{Advise, Error, Failure, Result, WrapErr};
use crate::server::{SqlError, application_name, connect_unverified};
use crate::value::counted;

/// How many differences are named.
pub(super) const EXAMPLES: usize = 20;

/// A row that is not as the ledger says, or a place where the ledger is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Example {
    /// `lost`, `extra` or `wrong`; `missing` or `doubled` of the ledger's lines.
    pub kind: &'static str,
    /// The table, or `ledger`.
    pub table: &'static str,
    /// The row, or the line.
    pub id: String,
}

/// What the replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Replay {
    /// Acknowledged rows that are not there.
    pub lost: u64,
    /// Rows that should not be there: deleted ones, and those that the ledger knows nothing of.
    pub extra: u64,
    /// Rows with another value than the acknowledged one.
    pub wrong: u64,
    /// Rows that were compared: those of the ledger, and those of the server.
    pub checked: u64,
    /// Operations of the ledger whose outcome is unknown: either is accepted.
    pub unknown: u64,
    /// Lines of the ledger that were cut off when the generator was killed.
    pub torn: u64,
    /// Lines that are missing in the ledger: what its clients did is numbered.
    pub missing: u64,
    /// Lines that are there twice.
    pub doubled: u64,
    /// Some of the rows that differ, and of the lines.
    pub examples: Vec<Example>,
}

/// Replays ledgers against a server. Several ledgers are those of generators that wrote to the same tables.
///
/// # Errors
/// When a ledger or the server cannot be read. Differences are no error: [`Replay::verdict`].
pub fn verify(ledgers: &[PathBuf], dsn: &str) -> Result<Replay, Error> {
    let dsn = Dsn::read(dsn)?;
    let mut sql = connect_unverified(dsn.reveal(), &application_name("verify_attack"))
        .wrap_err_with(|| format!("connect to {}", dsn.shown))
        .hint(|| "correct --dsn".into())?;
    let mut history = History::read(ledgers)?;
    let mut replay = Replay {
        unknown: history.unknown,
        torn: history.torn,
        missing: history.missing,
        doubled: history.doubled,
        examples: std::mem::take(&mut history.flaws),
        ..Replay::default()
    };
    let mut transaction = sql
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .map_err(SqlError::from)
        .wrap_err("begin to read")?;
    for table in [Table::Items, Table::Sessions] {
        let attempt = || format!("read the rows of {} at {}", table.name(), dsn.shown);
        let text = format!(
            "SELECT id, {} FROM public.{}",
            table.as_text(),
            table.name()
        );
        let none: [&str; 0] = [];
        let mut rows = transaction
            .query_raw(&text, none)
            .map_err(SqlError::from)
            .wrap_err_with(attempt)?;
        while let Some(row) = rows.next().map_err(SqlError::from).wrap_err_with(attempt)? {
            replay.found(&mut history, table, row.get(0), row.get(1));
        }
    }
    replay.missing(history);
    Ok(replay)
}

impl Replay {
    /// A row that the server has.
    fn found(&mut self, history: &mut History, table: Table, id: &str, value: &str) {
        self.checked += 1;
        let kind = match history.rows.remove(&(table, Text::of(id))) {
            None => "extra",
            Some(state) if state.may_be(Some(&Text::of(value))) => return,
            Some(state) if state.known.is_none() && state.maybe.is_empty() => "extra",
            Some(_) => "wrong",
        };
        self.differs(kind, table, id.to_owned());
    }

    /// The rows that the server does not have.
    fn missing(&mut self, history: History) {
        for ((table, id), state) in history.rows {
            self.checked += 1;
            if !state.may_be(None) {
                self.differs("lost", table, id.to_string());
            }
        }
    }

    fn differs(&mut self, kind: &'static str, table: Table, id: String) {
        match kind {
            "lost" => self.lost += 1,
            "extra" => self.extra += 1,
            _ => self.wrong += 1,
        }
        if self.rows_that_differ() <= EXAMPLES as u64 {
            self.examples.push(Example {
                kind,
                table: table.name(),
                id,
            });
        }
    }

    /// The failure when something differs.
    pub fn verdict(&self) -> Option<Error> {
        let Replay {
            lost, extra, wrong, ..
        } = self;
        let rows = || {
            Failure::no(format!(
                "verify the attack: {} lost, {} that should not be there, {} with another value", counted(lost, "row"), counted(extra, "row"), counted(wrong, "row")
            ))
            .hint("look at the examples; a subscriber that has not caught up lacks rows too (flare lag)")
        };
        let lines = || {
            Failure::no(format!(
                "verify the attack: of the ledger {} missing, {} there twice; the rows agree with the others",
                counted(self.missing, "line"), self.doubled
            ))
            .hint("verify with the ledger as attack wrote it")
        };
        match (self.rows_that_differ(), self.missing + self.doubled) {
            (0, 0) => None,
            (0, _) => Some(lines().into()),
            (_, _) => Some(rows().into()),
        }
    }

    fn rows_that_differ(&self) -> u64 {
        self.lost + self.extra + self.wrong
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} checked: {} lost, {} that should not be there, {} with another value ({} of unknown outcome)",
            counted(self.checked, "row"),
            self.lost,
            self.extra,
            self.wrong,
            counted(self.unknown, "operation")
        )?;
        if self.torn > 0 {
            writeln!(f, "of the ledger {} cut off", counted(self.torn, "line"))?;
        }
        if self.missing + self.doubled > 0 {
            writeln!(
                f,
                "of the ledger {} missing, {} there twice",
                counted(self.missing, "line"),
                self.doubled
            )?;
        }
        for Example { kind, table, id } in &self.examples {
            writeln!(f, "  {kind}: {table} {id:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Entry, Op, Outcome};
    use super::*;

    /// What the replay of these entries finds in these rows: lost, extra, wrong.
    fn replayed(entries: &[Entry], rows: &[(&str, &str)]) -> (u64, u64, u64) {
        let mut history = History::default();
        let (existing, happened): (Vec<Entry>, Vec<Entry>) = entries
            .iter()
            .cloned()
            .partition(|entry| entry.op == Op::Existing);
        existing
            .into_iter()
            .for_each(|entry| history.existed(entry));
        happened
            .into_iter()
            .for_each(|entry| history.happened(entry));
        let mut replay = Replay::default();
        for (id, value) in rows {
            replay.found(&mut history, Table::Items, id, value);
        }
        replay.missing(history);
        (replay.lost, replay.extra, replay.wrong)
    }

    #[test]
    fn what_was_acknowledged_has_to_be_there_as_it_was_last() {
        use Outcome::Acknowledged as Ack;
        let uuid = "6f2b1c9e-0c1f-4f0e-9a3e-2f6b5a7d8c90";
        let history = [
            Entry::item(Op::Insert, uuid, Some("1"), Ack),
            Entry::item(Op::Update, uuid, Some("2"), Ack),
            Entry::item(Op::Insert, "b", Some("1"), Ack),
            Entry::item(Op::Delete, "b", None, Ack),
            Entry::item(Op::Insert, "c", Some("1"), Ack),
        ];
        assert_eq!(replayed(&history, &[(uuid, "2"), ("c", "1")]), (0, 0, 0));
        assert_eq!(replayed(&history, &[(uuid, "1"), ("b", "1")]), (1, 1, 1));
        assert_eq!(
            replayed(&history, &[(uuid, "2"), ("c", "1"), ("stray", "x")]),
            (0, 1, 0)
        );
    }

    #[test]
    fn unknown_outcomes_may_have_happened_or_not() {
        use Outcome::{Acknowledged as Ack, Unknown};
        let history = [
            Entry::item(Op::Insert, "a", Some("1"), Unknown),
            Entry::item(Op::Insert, "b", Some("1"), Ack),
            Entry::item(Op::Update, "b", Some("2"), Unknown),
            Entry::item(Op::Insert, "c", Some("1"), Ack),
            Entry::item(Op::Delete, "c", None, Unknown),
        ];
        for rows in [
            &[("a", "1"), ("b", "1"), ("c", "1")][..],
            &[("b", "2")],
            &[("a", "1"), ("b", "2")],
        ] {
            assert_eq!(replayed(&history, rows), (0, 0, 0), "{rows:?}");
        }
        assert_eq!(replayed(&history, &[("a", "9")]), (1, 0, 1));
    }

    #[test]
    fn rows_that_were_there_before_have_to_stay_and_the_heartbeat_moves() {
        let history = [
            Entry::item(Op::Existing, "old", Some("1"), Outcome::Existing),
            Entry::item(Op::Heartbeat, "flare", Some("0"), Outcome::Unknown),
        ];
        assert_eq!(replayed(&history, &[("old", "1")]), (0, 0, 0));
        assert_eq!(
            replayed(&history, &[("old", "2"), ("flare", "9")]),
            (0, 0, 1)
        );
        let beaten = Entry::item(Op::Heartbeat, "flare", Some("5"), Outcome::Existing);
        assert_eq!(replayed(&[beaten], &[]), (1, 0, 0));
    }

    #[test]
    fn a_ledger_that_is_not_whole_proves_nothing() {
        let replay = Replay {
            doubled: 1,
            ..Replay::default()
        };
        assert_eq!(
            replay.verdict().map(|failure| failure.exit().code()),
            Some(3)
        );
    }
}
