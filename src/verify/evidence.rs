//! What is known of one key, and what that proves. Pure: the argument at the head of the room is about this file.

use std::collections::HashSet;

/// A transaction id as `txid_current_snapshot()` counts it.
pub(super) type Txid = i64;

/// A row, or its absence, as one snapshot shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// None: there is no row.
    pub(super) hash: Option<i64>,
    /// Where the row stands and who wrote it: another version is another text.
    pub(super) version: Option<String>,
    /// Nobody has locked, updated or deleted this version, not even a transaction that is not seen yet.
    pub(super) untouched: bool,
}

/// The three looks of a round, in their order, with the probe between the first and the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round<L> {
    pub(super) before: L,
    pub(super) subscriber: L,
    pub(super) after: L,
    /// Of the first snapshot: every transaction below has ended, and is seen if it committed.
    pub(super) xmin: Txid,
    /// Of the last snapshot: what the subscriber had applied has an id below.
    pub(super) xmax: Txid,
}

/// What has been shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The subscriber had what the publisher had during this check.
    Equal,
    Different,
    /// Neither yet.
    Open,
}

/// What the subscriber had in an earlier round, and between what.
#[derive(Clone, Debug)]
struct Past<L> {
    before: L,
    subscriber: L,
    xmax: Txid,
}

/// All that is known of one key.
#[derive(Clone, Debug)]
pub(super) struct Evidence<L: Looked> {
    on_publisher: HashSet<L::Value>,
    past: Vec<Past<L>>,
    /// Whether the publisher's row has been another from one look to the next.
    pub(super) moves: bool,
}

/// What a look shows, and what two of them prove.
pub(super) trait Looked: Clone {
    /// What is to be equal on both sides.
    type Value: Eq + std::hash::Hash;

    fn value(&self) -> Self::Value;

    /// Two looks at the publisher around one at the subscriber, whose transactions may not all be seen in them.
    fn brackets(before: &Self, subscriber: &Self, after: &Self) -> bool;

    /// Two looks at one side, and what the other side must have had at a moment between them.
    fn persists(first: &Self, last: &Self, other: &Self) -> bool;

    /// Whether it is another version, or another set of them.
    fn moved(&self, later: &Self) -> bool;
}

impl Looked for Look {
    type Value = Option<i64>;

    fn value(&self) -> Option<i64> {
        self.hash
    }

    fn brackets(before: &Look, subscriber: &Look, after: &Look) -> bool {
        before.version.is_some()
            && before.version == after.version
            && after.untouched
            && subscriber.hash != after.hash
    }

    fn persists(first: &Look, last: &Look, other: &Look) -> bool {
        first.version.is_some() && first.version == last.version && other.hash != first.hash
    }

    fn moved(&self, later: &Look) -> bool {
        self.version != later.version
    }
}

/// Rows of one hash in a table without a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bag {
    pub(super) count: i64,
    /// Of all their versions: another set is another sum.
    pub(super) versions: Option<String>,
    /// Nobody has locked, updated or deleted any of them.
    pub(super) untouched: bool,
}

impl Looked for Bag {
    type Value = i64;

    fn value(&self) -> i64 {
        self.count
    }

    /// Unlike a row with a key, an equal row may have been added by a transaction that is not seen yet: only fewer rows on
    /// the subscriber are proof here.
    fn brackets(before: &Bag, subscriber: &Bag, after: &Bag) -> bool {
        before.versions.is_some()
            && before.versions == after.versions
            && after.untouched
            && subscriber.count < after.count
    }

    /// The rows that stayed were there all the time; others may have come and gone between. So the side that stayed must
    /// have more than the other.
    fn persists(first: &Bag, last: &Bag, other: &Bag) -> bool {
        first.versions.is_some() && first.versions == last.versions && other.count < first.count
    }

    fn moved(&self, later: &Bag) -> bool {
        self.versions != later.versions
    }
}

impl<L: Looked> Default for Evidence<L> {
    fn default() -> Self {
        Evidence {
            on_publisher: HashSet::new(),
            past: Vec::new(),
            moves: false,
        }
    }
}

impl<L: Looked> Evidence<L> {
    /// What one more round shows.
    pub(super) fn judge(&mut self, round: Round<L>) -> Verdict {
        let Round {
            before,
            subscriber,
            after,
            xmin,
            xmax,
        } = round;
        self.on_publisher.extend([before.value(), after.value()]);
        if self.on_publisher.contains(&subscriber.value()) {
            return Verdict::Equal;
        }
        let mut settled = self.past.iter().filter(|past| xmin >= past.xmax);
        let persists = |past: &Past<L>| {
            L::persists(&past.before, &before, &past.subscriber)
                || L::persists(&past.subscriber, &subscriber, &before)
        };
        let proven = L::brackets(&before, &subscriber, &after) || settled.any(persists);
        if proven {
            return Verdict::Different;
        }
        self.moves |= before.moved(&after) || self.past.iter().any(|it| it.before.moved(&before));
        self.past.push(Past {
            before,
            subscriber,
            xmax,
        });
        Verdict::Open
    }

    /// Whether some transaction has kept every round so far from proving anything.
    pub(super) fn waits_for_transactions(&self) -> bool {
        !self.moves
    }

    /// What the publisher has had.
    pub(super) fn on_publisher(&self) -> &HashSet<L::Value> {
        &self.on_publisher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hash: i64, version: &str) -> Look {
        Look {
            hash: Some(hash),
            version: Some(version.into()),
            untouched: true,
        }
    }

    fn round<L>(before: L, subscriber: L, after: L, xmin: Txid, xmax: Txid) -> Round<L> {
        Round {
            before,
            subscriber,
            after,
            xmin,
            xmax,
        }
    }

    fn judge<L: Looked>(rounds: Vec<Round<L>>) -> Vec<Verdict> {
        let mut evidence = Evidence::default();
        rounds.into_iter().map(|it| evidence.judge(it)).collect()
    }

    #[test]
    fn what_the_publisher_had_is_equal() {
        let seen = judge(vec![
            round(row(1, "a"), row(9, "x"), row(2, "b"), 10, 10),
            round(row(3, "c"), row(1, "y"), row(4, "d"), 10, 10),
        ]);
        assert_eq!(seen, [Verdict::Open, Verdict::Equal]);
        let deleted = round(row(1, "a"), Look::default(), Look::default(), 10, 10);
        assert_eq!(judge(vec![deleted]), [Verdict::Equal]);
    }

    #[test]
    fn a_version_that_nobody_touches_proves() {
        let quiet = round(row(1, "a"), row(2, "x"), row(1, "a"), 10, 10);
        assert_eq!(judge(vec![quiet]), [Verdict::Different]);
        let missing = round(row(1, "a"), Look::default(), row(1, "a"), 10, 10);
        assert_eq!(judge(vec![missing]), [Verdict::Different]);
    }

    /// A commit that waits for a synchronous standby is applied there and not yet seen here.
    #[test]
    fn a_version_that_somebody_has_touched_proves_only_when_he_is_seen() {
        let touched = Look {
            untouched: false,
            ..row(1, "a")
        };
        let waiting = || round(touched.clone(), row(2, "x"), touched.clone(), 9, 11);
        assert_eq!(judge(vec![waiting(), waiting()]), [Verdict::Open; 2]);
        let seen = round(touched.clone(), row(3, "y"), touched.clone(), 11, 12);
        assert_eq!(
            judge(vec![waiting(), seen]),
            [Verdict::Open, Verdict::Different]
        );
    }

    #[test]
    fn an_extra_row_is_proven_by_the_subscribers_version() {
        let extra = |xmin, xmax| round(Look::default(), row(5, "x"), Look::default(), xmin, xmax);
        assert_eq!(
            judge(vec![extra(10, 12), extra(11, 13)]),
            [Verdict::Open; 2]
        );
        assert_eq!(
            judge(vec![extra(10, 12), extra(12, 13)]),
            [Verdict::Open, Verdict::Different]
        );
        let replaced = round(Look::default(), row(5, "y"), Look::default(), 12, 13);
        assert_eq!(judge(vec![extra(10, 12), replaced]), [Verdict::Open; 2]);
    }

    fn bag(count: i64, versions: &str) -> Bag {
        Bag {
            count,
            versions: (count > 0).then(|| versions.into()),
            untouched: true,
        }
    }

    #[test]
    fn without_a_key_only_the_side_that_stays_and_has_more_proves() {
        let fewer = round(bag(2, "a"), bag(1, "x"), bag(2, "a"), 10, 10);
        assert_eq!(judge(vec![fewer]), [Verdict::Different]);
        // The third row may be of a transaction that is not seen here yet.
        let more = |xmin, xmax| round(bag(2, "a"), bag(3, "x"), bag(2, "a"), xmin, xmax);
        assert_eq!(
            judge(vec![more(10, 12), more(11, 12)]),
            [Verdict::Open, Verdict::Open]
        );
        assert_eq!(
            judge(vec![more(10, 12), more(12, 12)]),
            [Verdict::Open, Verdict::Different]
        );
    }
}
