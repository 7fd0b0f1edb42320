//! What an application has written, held against a server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::client::{Acknowledged, Ledger, State};
use super::{Side, Table};
use crate::support::{Cluster, wait};

const SHOWN: usize = 10;

/// A stretch of time in which one side acknowledged writes.
struct Epoch {
    side: Side,
    first: Instant,
    last: Instant,
    /// Smallest and largest number drawn from each sequence.
    drawn: HashMap<Table, (i64, i64)>,
}

/// The change from one side to the other, as all clients together saw it.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    pub from: Side,
    pub to: Side,
    /// From the last acknowledgement there to the first here.
    pub gap: Duration,
}

/// What the clients of an application know when they have stopped.
pub struct Written {
    db: String,
    first: i32,
    ledgers: Vec<Ledger>,
    /// In the order of their answers.
    acknowledged: Vec<Acknowledged>,
}

impl Written {
    pub(super) fn new(db: String, first: i32, ledgers: Vec<Ledger>) -> Self {
        let mut acknowledged: Vec<Acknowledged> = ledgers
            .iter()
            .flat_map(|ledger| ledger.acknowledged.iter().copied())
            .collect();
        acknowledged.sort_by_key(|write| write.answered);
        Self {
            db,
            first,
            ledgers,
            acknowledged,
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Writes that were sent and never answered.
    pub fn unknown(&self) -> usize {
        self.ledgers.iter().map(|ledger| ledger.unknown).sum()
    }

    /// What each client was told that was no acknowledgement, failed connections included.
    pub fn errors_of_each(&self) -> Vec<usize> {
        let errors = self.ledgers.iter().map(|ledger| {
            let refused: usize = ledger.refused.values().map(|(count, _)| count).sum();
            ledger.unknown + ledger.turned_away + refused
        });
        errors.collect()
    }

    /// Every write was acknowledged, and every session was to be had.
    #[track_caller]
    pub fn assert_no_error(&self) -> &Self {
        let errors = self.errors_of_each();
        let words: Vec<&str> = self
            .ledgers
            .iter()
            .map(|it| it.last_refusal.as_str())
            .collect();
        assert!(
            errors.iter().all(|errors| *errors == 0),
            "{errors:?}: {words:?}"
        );
        self
    }

    /// Every acknowledged write is on this server, and nothing that was never tried.
    #[track_caller]
    pub fn verify(&self, server: &Cluster) -> &Self {
        let wrong = self.differences(server);
        assert!(
            wrong.is_empty(),
            "{} of {} rows differ on {server:?}, of {} acknowledged writes:\n{}",
            wrong.len(),
            self.ledgers.iter().map(|of| of.rows.len()).sum::<usize>(),
            self.acknowledged(),
            wrong[..wrong.len().min(SHOWN)].join("\n")
        );
        self
    }

    /// The same of a server that receives the writes by replication, as soon as it has them.
    #[track_caller]
    pub fn verify_arrives(&self, server: &Cluster) -> &Self {
        let limit = Duration::from_secs(30);
        wait::until(limit, || self.differences(server).is_empty());
        self.verify(server)
    }

    fn differences(&self, server: &Cluster) -> Vec<String> {
        let mut wrong = Vec::new();
        for (client, ledger) in (self.first..).zip(&self.ledgers) {
            let mut found: HashMap<(Table, i64), i64> = HashMap::new();
            for table in Table::ALL {
                let all = format!(
                    "SELECT counter, {} FROM {} WHERE client = {client}",
                    table.value(),
                    table.name()
                );
                for row in server.rows(&self.db, &all) {
                    let [counter, value] = [0, 1].map(|at| number(row[at].as_deref()));
                    if found.insert((table, counter), value).is_some() {
                        let name = table.name();
                        wrong.push(format!("{name} ({client}, {counter}): there twice"));
                    }
                }
            }
            for (key @ (table, counter), allowed) in &ledger.rows {
                let is = found.remove(key);
                let fits = allowed.iter().any(|state| match state {
                    State::Absent => is.is_none(),
                    State::Any => is.is_some(),
                    State::Value(value) => is == Some(*value),
                });
                if !fits {
                    wrong.push(format!(
                        "{} ({client}, {counter}): {is:?}, where {allowed:?} was acknowledged",
                        table.name()
                    ));
                }
            }
            for ((table, counter), value) in found {
                let name = table.name();
                wrong.push(format!(
                    "{name} ({client}, {counter}): {value}, never written"
                ));
            }
        }
        wrong
    }

    /// The sides that acknowledged, in turn, are these: a write that was sent to one side after the other had
    /// acknowledged another would need a change more. And no sequence went back at a change.
    #[track_caller]
    pub fn assert_sides(&self, sides: &[Side]) -> &Self {
        let epochs = self.epochs();
        let seen: Vec<Side> = epochs.iter().map(|epoch| epoch.side).collect();
        assert_eq!(seen, sides, "the sides that acknowledged writes, in turn");
        for table in [Table::Serials, Table::Identities] {
            let drawn = epochs.iter().filter_map(|epoch| epoch.drawn.get(&table));
            let drawn: Vec<_> = drawn.collect();
            assert!(
                drawn.windows(2).all(|pair| pair[0].1 < pair[1].0),
                "the numbers of {}, by side in turn, overlap: {drawn:?}",
                table.name()
            );
        }
        self
    }

    /// No server has answered a statement with an error: sessions were ended, doors were shut, and that is all.
    #[track_caller]
    pub fn assert_never_refused(&self) -> &Self {
        let refused: Vec<_> = self.ledgers.iter().flat_map(|of| &of.refused).collect();
        assert!(refused.is_empty(), "{refused:#?}");
        self
    }

    /// The changes of sides, with what they cost.
    pub fn switches(&self) -> Vec<Switch> {
        let epochs = self.epochs();
        let switches = epochs.windows(2).map(|pair| Switch {
            from: pair[0].side,
            to: pair[1].side,
            gap: pair[1].first.saturating_duration_since(pair[0].last),
        });
        switches.collect()
    }

    /// The longest time without any client's acknowledgement.
    pub fn longest_gap(&self) -> Duration {
        let times = self.acknowledged.windows(2);
        let gaps = times.map(|pair| pair[1].answered - pair[0].answered);
        gaps.max().unwrap_or_default()
    }

    /// As few as explain every acknowledgement: a write counts at some time between its sending and its answer.
    fn epochs(&self) -> Vec<Epoch> {
        let mut epochs = Vec::new();
        let mut left = self.acknowledged.clone();
        while let Some(first) = left.first() {
            let side = first.side;
            // Over at the latest when the other side answers.
            let over = left.iter().find(|write| write.side != side);
            let over = over.map(|write| write.answered);
            let (these, later): (Vec<_>, Vec<_>) = left.iter().partition(|write| {
                write.side == side && over.is_none_or(|over| write.sent <= over)
            });
            epochs.push(Epoch::of(side, &these));
            left = later;
        }
        epochs
    }
}

impl Epoch {
    fn of(side: Side, writes: &[Acknowledged]) -> Self {
        let mut drawn: HashMap<Table, (i64, i64)> = HashMap::new();
        for (table, number) in writes.iter().filter_map(|write| write.drawn) {
            let range = drawn.entry(table).or_insert((number, number));
            *range = (range.0.min(number), range.1.max(number));
        }
        Self {
            side,
            first: writes[0].answered,
            last: writes[writes.len() - 1].answered,
            drawn,
        }
    }
}

fn number(text: Option<&str>) -> i64 {
    let number = text.and_then(|text| text.parse().ok());
    number.expect("a number in every column")
}
