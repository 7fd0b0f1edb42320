//! How far one table has come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::findings::RowDifference;
use super::pinned::Text;
use super::ranges::Outcome;
use super::record::{Kept, Reached};
use super::report::{TableStatus, VerifiedTable, Walk};
use super::statement::Key;
use super::table::Table;

/// How many rows that differ are named for each table.
pub(super) const EXAMPLES: u64 = 100;
/// How often a table's progress is written down.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// With more rows named, a table that is cut off begins anew.
const KEPT_KEYS: u64 = 1000;

/// How far a table has come.
pub(super) struct State {
    pub(super) walk: Walk,
    /// Chunks that are under way or waiting.
    pub(super) outstanding: usize,
    /// No more chunks will come.
    complete: bool,
    pub(super) scattered: bool,
    rows: i64,
    differences: u64,
    undecided: u64,
    examples: Vec<RowDifference>,
    pub(super) error: Option<String>,
    /// What it has come to, as a part of the table's bytes.
    pub(super) bytes_done: i64,
    /// Found in an earlier part of the run to be what it is.
    pub(super) settled: Option<TableStatus>,
    /// Where an earlier part of the run had come to.
    pub(super) begins_after: Option<Key>,
    /// Keys that it had named.
    pub(super) again: Vec<Key>,
    /// Chunks that are compared, behind one that is not: where they end, and their rows.
    ahead: BTreeMap<u64, (Option<Key>, i64)>,
    /// The chunk before which all are compared.
    next: u64,
    /// Where it begins, and the rows before it.
    reached: (Option<Key>, i64),
    /// Keys of rows that were named.
    named: Vec<Key>,
    kept_at: Option<Instant>,
}

impl State {
    pub(super) fn new(walk: Walk) -> State {
        State {
            walk,
            outstanding: 0,
            complete: false,
            scattered: false,
            rows: 0,
            differences: 0,
            undecided: 0,
            examples: Vec::new(),
            error: None,
            bytes_done: 0,
            settled: None,
            begins_after: None,
            again: Vec::new(),
            ahead: BTreeMap::new(),
            next: 0,
            reached: (None, 0),
            named: Vec::new(),
            kept_at: None,
        }
    }

    /// The same with what an earlier part of the run has found out.
    pub(super) fn going_on(mut self, table: &Table, signature: &str, kept: Option<&Kept>) -> State {
        let Some(kept) = kept else {
            return self;
        };
        if kept.found_equal(signature) {
            self.settled = kept.status;
            self.rows = kept.rows;
            self.bytes_done = table.bytes;
        } else if let (None, Walk::Ranges, Some(key)) = (kept.status, self.walk, &table.key)
            && let Some((bound, again)) = kept.goes_on(signature, key.columns.len())
        {
            self.rows = kept.rows;
            self.reached = (Some(bound.clone()), kept.rows);
            self.begins_after = Some(bound);
            self.again = again;
            self.bytes_done = self.bytes_of_rows(table);
        }
        self
    }

    /// What is to be written down, where it is time to.
    pub(super) fn due(&mut self) -> Option<Reached> {
        let through = self.complete && self.outstanding == 0;
        let old = self.kept_at.is_none_or(|it| it.elapsed() > KEEP_EVERY);
        let goes_on = self.walk == Walk::Ranges && self.differences + self.undecided <= KEPT_KEYS;
        if !(through || old && goes_on) {
            return None;
        }
        self.kept_at = Some(Instant::now());
        Some(if through {
            Reached {
                rows: self.rows,
                status: Some(self.status()),
                ..Reached::default()
            }
        } else {
            Reached {
                bound: self.reached.0.clone(),
                rows: self.reached.1,
                candidates: self.named.clone(),
                status: None,
            }
        })
    }

    /// A chunk is compared: how far all before it are.
    pub(super) fn reach(&mut self, number: u64, to: Option<Key>, rows: i64) {
        self.ahead.insert(number, (to, rows));
        while let Some((to, rows)) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.reached = (to, self.reached.1 + rows);
        }
    }

    fn status(&self) -> TableStatus {
        match (&self.error, self.differences, self.undecided) {
            (Some(_), ..) => TableStatus::Failed,
            (None, 0, 0) => TableStatus::Equal,
            (None, 0, _) => TableStatus::Undecided,
            (None, ..) => TableStatus::Different,
        }
    }

    fn falls_to_lookup_next(&self) -> bool {
        self.scattered && self.error.is_none() && self.walk == Walk::Ranges
    }

    /// Adds a chunk; the bytes that it stands for.
    pub(super) fn add(&mut self, outcome: Outcome, table: &Table) -> u64 {
        self.rows += outcome.rows;
        self.scattered |= outcome.scattered && self.walk == Walk::Ranges;
        self.differences += outcome.found.different;
        self.undecided += outcome.found.undecided;
        for found in outcome.found.rows {
            if (self.named.len() as u64) < KEPT_KEYS {
                let key = found.key.iter().map(|it| Text::from(it.value.as_str()));
                self.named.push(key.collect());
            }
            if (self.examples.len() as u64) < EXAMPLES {
                self.examples.push(found);
            }
        }
        let more = (self.bytes_of_rows(table) - self.bytes_done).max(0);
        self.bytes_done += more;
        more as u64
    }

    /// The part of the table's bytes that its rows so far stand for.
    fn bytes_of_rows(&self, table: &Table) -> i64 {
        let share = self.rows as f64 / table.reltuples.max(1.0).max(self.rows as f64);
        (share * table.bytes as f64) as i64
    }

    /// No more chunks will come; whether the table is still to be gone through by lookup, by whoever hears this.
    pub(super) fn completes(&mut self) -> bool {
        self.complete = true;
        self.falls_to_lookup()
    }

    /// One chunk less is under way.
    pub(super) fn one_less(&mut self) -> bool {
        self.outstanding -= 1;
        self.falls_to_lookup()
    }

    fn falls_to_lookup(&mut self) -> bool {
        let due = self.complete && self.outstanding == 0 && self.falls_to_lookup_next();
        if due {
            self.walk = Walk::Lookup;
        }
        due
    }

    pub(super) fn begin_lookup(&mut self) {
        self.walk = Walk::Lookup;
        self.rows = 0;
        self.differences = 0;
        self.undecided = 0;
        self.examples.clear();
    }

    /// What has come of the table; of a sample only the bytes of the rows that were compared count.
    pub(super) fn verified(self, table: &Table, sampled: bool) -> VerifiedTable {
        let bytes = if sampled {
            self.bytes_done
        } else {
            table.bytes
        };
        VerifiedTable {
            schema: table.name.schema.as_str().to_owned(),
            table: table.name.table.as_str().to_owned(),
            status: self.status(),
            rows: self.rows,
            bytes,
            walk: Some(self.walk),
            differences: self.differences,
            undecided: self.undecided,
            examples: self.examples,
            notes: table.notes.clone(),
            error: self.error,
            hint: String::new(),
        }
    }
}
