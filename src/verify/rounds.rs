//! One round of looks: at the publisher, then a probe that has arrived, at the subscriber, and at the publisher again.

use std::collections::HashMap;
use std::time::Duration;

use postgres::Row;

use super::evidence::{Round, Txid};
use super::settle::Work;
use crate::error::Result;
use crate::server::{Side, interrupt};

/// How often a row is looked at like this.
pub(super) const ROUNDS: u32 = 10;

/// One statement's looks, each with its number, and what its snapshot has seen.
pub(super) struct Looks<L> {
    pub(super) xmin: Txid,
    pub(super) xmax: Txid,
    of: HashMap<i64, L>,
}

impl<L: Clone + Default> Looks<L> {
    /// Reads rows of the snapshot's bounds, a number, and what was seen of it; without a number nothing was.
    pub(super) fn read(rows: &[Row], look: impl Fn(&Row) -> L) -> Looks<L> {
        let mut looks = Looks {
            xmin: 0,
            xmax: 0,
            of: HashMap::new(),
        };
        for row in rows {
            (looks.xmin, looks.xmax) = (row.get(0), row.get(1));
            if let Some(number) = row.get::<_, Option<i64>>(2) {
                looks.of.insert(number, look(row));
            }
        }
        looks
    }

    pub(super) fn at(&self, number: i64) -> L {
        self.of.get(&number).cloned().unwrap_or_default()
    }
}

/// The looks of a round.
pub(super) struct Looked<L> {
    before: Looks<L>,
    subscriber: Looks<L>,
    after: Looks<L>,
}

impl<L: Clone + Default> Looked<L> {
    /// Looks three times, with the probe behind the first.
    pub(super) fn take(
        work: &Work<'_>,
        look: impl Fn(Side) -> Result<Looks<L>>,
    ) -> Result<Looked<L>> {
        let before = look(Side::Publisher)?;
        work.probe
            .pass(&work.both.publisher, &work.both.subscriber)?;
        Ok(Looked {
            before,
            subscriber: look(Side::Subscriber)?,
            after: look(Side::Publisher)?,
        })
    }

    /// What was seen of this number.
    pub(super) fn at(&self, number: i64) -> Round<L> {
        Round {
            before: self.before.at(number),
            subscriber: self.subscriber.at(number),
            after: self.after.at(number),
            xmin: self.before.xmin,
            xmax: self.after.xmax,
        }
    }
}

/// Waits before a round: longer each time, and not before the first.
pub(super) fn wait_before(round: u32) -> Result<()> {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_millis(500);
    match round.checked_sub(1) {
        None => Ok(()),
        Some(waited) => interrupt::sleep((FIRST * 2u32.pow(waited.min(10))).min(LONGEST)),
    }
}
