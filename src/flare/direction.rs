//! Which way the data flows: read in the journals of both servers before a command works, and what was left half-way is
//! finished or undone first.

use super::Flare;
use crate::cutover::{self, AtWork};
use crate::error::{Advise, Failure, Result};
use crate::journal::{self, Direction, Entry, Flow, Step};
use crate::replicate::Mode;
use crate::server::{Opened, Pair, Server, at_once};

/// The journals of both servers, as far as they can be read.
pub(super) struct Journals {
    publisher: Vec<Entry>,
    subscriber: Vec<Entry>,
}

impl Journals {
    /// How the data of a database flows.
    pub(super) fn flow(&self, dbname: &str) -> Flow {
        journal::flow_of(dbname, &self.publisher, &self.subscriber)
    }

    /// The run that keeps the application of a database out: paused, held, or past the point of no return and not open
    /// yet.
    pub(super) fn shutting_out(&self, dbname: &str) -> Option<Entry> {
        let unfinished = self.unfinished();
        let held = self.publisher.iter().filter(|it| it.step == Step::Held);
        let shut = |entry: &&Entry| {
            matches!(entry.step, Step::Paused | Step::Held | Step::Switching)
                && entry.member(dbname).is_some()
        };
        let all: Vec<&Entry> = held.chain(&unfinished).collect();
        all.into_iter().find(shut).cloned()
    }

    /// Whether the application went back without the subscriber, which has not heard of it: it is as open as it was.
    pub(super) fn abandoned(&self, dbname: &str) -> bool {
        let heard = |run| self.subscriber.iter().any(|it| it.run == run);
        let switched = self.flow(dbname).switched;
        switched.is_some_and(|it| it.direction == Direction::Back && !it.reverse && !heard(it.run))
    }

    /// Runs that are neither undone nor finished, oldest first.
    pub(super) fn unfinished(&self) -> Vec<Entry> {
        journal::unfinished_of(&self.publisher, &self.subscriber)
    }
}

impl Flare {
    /// Reads the journals of those servers that answer.
    pub(super) fn journals(&self, opened: &Opened) -> Result<Journals> {
        let read = |server: Option<&Server>| match server {
            Some(server) => journal::entries(server.admin(), &self.config),
            None => Ok(Vec::new()),
        };
        let publisher: Option<&Server> = opened.publisher.as_ref().ok().map(|it| &**it);
        let subscriber: Option<&Server> = opened.subscriber.as_ref().ok().map(|it| &**it);
        let (publisher, subscriber) = at_once(|| read(publisher), || read(subscriber));
        Ok(Journals {
            publisher: publisher?,
            subscriber: subscriber?,
        })
    }

    /// Finishes or undoes what earlier runs have left; both servers are needed for that. Another flare that is at work on
    /// one of these databases is waited for a little; what it does with others is left to it.
    pub(super) fn settle(&self, pair: &Pair, dbnames: &[&str]) -> Result<Journals> {
        self.settle_unless(AtWork::Wait, pair, dbnames)
    }

    /// The same, with another flare that is at work on them waited for or left alone.
    pub(super) fn settle_unless(
        &self,
        at_work: AtWork,
        pair: &Pair,
        dbnames: &[&str],
    ) -> Result<Journals> {
        let opened = Opened::from(pair.clone());
        let journals = self.journals(&opened)?;
        let unfinished = journals.unfinished();
        if unfinished.is_empty() {
            return Ok(journals);
        }
        for entry in &unfinished {
            let concerned = dbnames.iter().any(|dbname| entry.member(dbname).is_some());
            if self.run.mode == Mode::DryRun {
                if !concerned {
                    continue;
                }
                return Failure::new(format!(
                    "an earlier run ({} of {} by {}, begun {}) has stopped at {:?}",
                    entry.command,
                    entry.dbnames().join(", "),
                    entry.holder,
                    entry.started_at,
                    entry.step.as_str()
                ))
                .hint("flare status finishes or undoes it; then run the command again")
                .err();
            }
            let outcome = cutover::settle(
                &oriented(pair, entry.direction),
                &self.config,
                entry,
                if concerned { at_work } else { AtWork::Leave },
                &self.run,
            );
            if let Some(words) = cutover::in_words(entry, &outcome) {
                self.run.progress.step(&words);
            }
            if !concerned {
                continue;
            }
            outcome.hint(|| {
                "wait for the other flare, or see flare status; nothing was begun here".into()
            })?;
        }
        self.journals(&opened)
    }

    /// Refuses a command that sets up the way forward once the data flows back.
    pub(super) fn forward_only(&self, journals: &Journals, dbnames: &[&str]) -> Result<()> {
        for dbname in dbnames {
            if journals.flow(dbname).direction == Direction::Back {
                return Failure::new(format!(
                    "{} {dbname:?}: it has been cut over, the application writes on the subscriber and the data flows back",
                    self.command
                ))
                .hint("flare fallback leads back; flare cleanup ends the migration; flare status says where it stands")
                .err();
            }
        }
        Ok(())
    }

    /// What both journals say, for a command that needs one server and can do without the other.
    pub(super) fn check_forward(&self, opened: &Opened, dbnames: &[&str]) -> Result<()> {
        let journals = match (&opened.publisher, &opened.subscriber) {
            (Ok(publisher), Ok(subscriber)) => {
                let pair = Pair {
                    publisher: publisher.clone(),
                    subscriber: subscriber.clone(),
                };
                self.settle(&pair, dbnames)?
            }
            _ => self.journals(opened)?,
        };
        self.forward_only(&journals, dbnames)
    }
}

/// The pair with the server that the data comes from as its publisher.
pub(super) fn oriented(pair: &Pair, direction: Direction) -> Pair {
    match direction {
        Direction::Forward => pair.clone(),
        Direction::Back => pair.reversed(),
    }
}
