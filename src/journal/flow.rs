//! What the journals of both servers say together: which way the data of a database flows, and what is unfinished.

use super::{Direction, Entry, Step};

/// How the data of a database flows, as both servers have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flow {
    /// Which way the data flows now.
    pub(crate) direction: Direction,
    /// The newest run that switched, as the server that is written now has it, or the other one.
    pub(crate) switched: Option<Entry>,
}

/// The rows of one run.
struct Rows<'a> {
    from: Option<&'a Entry>,
    to: Option<&'a Entry>,
}

impl Rows<'_> {
    fn any(&self) -> Option<&Entry> {
        self.from.or(self.to)
    }

    /// Whether *to* has been opened: it says so itself, or *from* has heard of it.
    fn has_switched(&self) -> bool {
        let beyond = |entry: &&Entry| matches!(entry.step, Step::Switched | Step::Closed);
        self.to.filter(beyond).is_some() || self.from.filter(beyond).is_some()
    }
}

fn runs<'a>(publisher: &'a [Entry], subscriber: &'a [Entry]) -> Vec<Rows<'a>> {
    let mut runs: Vec<Rows<'a>> = Vec::new();
    for (entries, forward_from) in [(publisher, true), (subscriber, false)] {
        for entry in entries {
            let is_from = (entry.direction == Direction::Forward) == forward_from;
            let found = runs
                .iter()
                .position(|rows| rows.any().is_some_and(|it| it.run == entry.run));
            let at = found.unwrap_or_else(|| {
                runs.push(Rows {
                    from: None,
                    to: None,
                });
                runs.len() - 1
            });
            if is_from {
                runs[at].from = Some(entry)
            } else {
                runs[at].to = Some(entry)
            }
        }
    }
    runs.sort_by_key(|rows| std::cmp::Reverse(rows.any().map(|it| it.generation)));
    runs
}

/// Where a database stands, by the journals of the configuration's publisher and subscriber.
pub(crate) fn flow_of(dbname: &str, publisher: &[Entry], subscriber: &[Entry]) -> Flow {
    let runs = runs(publisher, subscriber);
    let of_database = |rows: &&Rows<'_>| rows.any().is_some_and(|it| it.member(dbname).is_some());
    let switched = runs
        .iter()
        .filter(of_database)
        .find(|rows| rows.has_switched());
    let switched = switched.and_then(|rows| rows.to.or(rows.from)).cloned();
    Flow {
        direction: switched
            .as_ref()
            .map_or(Direction::Forward, |entry| entry.direction.flipped()),
        switched,
    }
}

/// Runs that are neither undone nor closed, oldest first, each as its *from* has it.
pub(crate) fn unfinished_of(publisher: &[Entry], subscriber: &[Entry]) -> Vec<Entry> {
    let runs = runs(publisher, subscriber);
    let from = runs.iter().rev().filter_map(|rows| rows.from);
    from.filter(|entry| Step::UNFINISHED.contains(&entry.step))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Member, Purpose};
    use super::*;
    use crate::catalog::privileges::DatabasePrivileges;

    fn entry(number: u128, direction: Direction, step: Step) -> Entry {
        Entry {
            run: uuid::Uuid::from_u128(number),
            generation: i64::try_from(number).unwrap(),
            command: "cutover".into(),
            purpose: Purpose::Switch,
            direction,
            reverse: true,
            step,
            databases: vec![Member {
                dbname: "d".into(),
                subname: "s".into(),
                pubname: "p".into(),
                privileges: DatabasePrivileges {
                    dbname: "d".into(),
                    owner: "o".into(),
                    written: None,
                    entries: vec![],
                },
                keep: vec![],
                default_before: None,
                had_publication: false,
                mark: None,
            }],
            backends: vec![],
            holder: "h:1".into(),
            max_pause_ms: 1000,
            started_at: String::new(),
            changed_at: String::new(),
            silent_seconds: 0.0,
        }
    }

    use Direction::{Back, Forward};

    fn direction(publisher: &[Entry], subscriber: &[Entry]) -> Direction {
        flow_of("d", publisher, subscriber).direction
    }

    #[test]
    fn the_newest_run_that_opened_its_target_decides() {
        assert_eq!(direction(&[], &[]), Forward);
        let there = |from, to| (vec![entry(1, Forward, from)], vec![entry(1, Forward, to)]);
        let (from, to) = there(Step::Switching, Step::Preparing);
        assert_eq!(direction(&from, &to), Forward);
        let (from, to) = there(Step::Switching, Step::Switched);
        assert_eq!(direction(&from, &to), Back);
        assert_eq!(direction(&from, &[]), Forward);
        assert_eq!(direction(&[], &to), Back);
        let (mut from, mut to) = there(Step::Closed, Step::Closed);
        assert_eq!(direction(&from, &[]), Back);
        from.push(entry(2, Back, Step::Preparing));
        to.push(entry(2, Back, Step::Paused));
        assert_eq!(direction(&from, &to), Back);
        (from[1].step, to[1].step) = (Step::Switched, Step::Switching);
        assert_eq!(direction(&from, &to), Forward);
        assert_eq!(flow_of("other", &from, &to).direction, Forward);
    }

    #[test]
    fn what_is_unfinished_is_said_by_where_it_came_from() {
        let publisher = [
            entry(1, Forward, Step::Closed),
            entry(2, Back, Step::Preparing),
            entry(3, Forward, Step::Paused),
        ];
        let subscriber = [
            entry(1, Forward, Step::Switched),
            entry(2, Back, Step::Undone),
            entry(3, Forward, Step::Preparing),
        ];
        let found = unfinished_of(&publisher, &subscriber);
        let generations: Vec<i64> = found.iter().map(|it| it.generation).collect();
        assert_eq!(generations, [3]);
    }
}
