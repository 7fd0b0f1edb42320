//! Who can write where, and where each migration stands.

mod display;

use serde::Serialize;

use super::ddl::NewTables;
use super::direction::{Journals, oriented};
use super::migration_status::{MigrationStatus, OnRecord};
use super::sides::{OnPublisher, OnSubscriber, on_publisher, on_subscriber};
use super::stage::Stage;
use super::{Flare, SwitchOptions};
use crate::catalog::databases;
use crate::config::Subscription;
use crate::copy::{self, UnderWay};
use crate::cutover::{self, AtWork, Wanted, Writable};
use crate::error::{Error, Result, message_of};
use crate::journal::Direction;
use crate::observe::Trace;
use crate::replicate::{drift, watch};
use crate::schema::drift::Drift;
use crate::server::{ActAs, Opened, Pair, Publisher, Subscriber, at_once, is_identity_mismatch};

/// What is under way, and who can write.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// Where the application can write: nowhere while any database is paused; none when nobody could be asked.
    pub writable: Option<Writable>,
    /// Each subscription of the configuration.
    pub subscriptions: Vec<MigrationStatus>,
    /// Why a server could not be asked.
    pub warnings: Vec<String>,
}

/// What becomes of a run that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HalfDone {
    /// It is finished or undone.
    Settle,
    /// It is only looked at.
    Leave,
}

impl Flare {
    /// Says who can write where and how far each configured subscription is. Changes nothing, and goes on when one
    /// server is down.
    ///
    /// # Errors
    /// When the configuration declares no subscription, a server is not the declared one, or neither answers.
    pub fn status(&self) -> Result<StatusReport, Error> {
        Ok(self.report(self.declared(&[])?, HalfDone::Settle)?)
    }

    /// Where one subscription's migration stands. Changes nothing at all: what was left half-way stays as it is.
    pub(super) fn standing_of(&self, subname: &str) -> Result<Option<MigrationStatus>> {
        let subnames = [subname.to_owned()];
        let report = self.report(self.declared(&subnames)?, HalfDone::Leave)?;
        Ok(report.subscriptions.into_iter().next())
    }

    /// Where all migrations of the configuration stand. Changes nothing, as [`Flare::standing_of`].
    pub(super) fn standings(&self) -> Result<Vec<MigrationStatus>> {
        Ok(self
            .report(self.declared(&[])?, HalfDone::Leave)?
            .subscriptions)
    }

    fn report(
        &self,
        declared: Vec<(&str, &Subscription)>,
        half_done: HalfDone,
    ) -> Result<StatusReport> {
        let limits = &self.config.lag;
        let ((opened, (journals, mut sides)), forward) = at_once(
            || {
                let dbnames = declared.iter().map(|(_, it)| it.dbname.as_str());
                let opened = self.open_visiting(dbnames);
                let said = self.said(&opened, &declared);
                (opened, said)
            },
            || self.look_forward(&declared, limits, Trace::None),
        );
        let mut lag = self.look_back(forward?, &declared, limits, Trace::None, &opened)?;
        let opened = opened.any();
        let mismatch = opened.as_ref().is_err_and(is_identity_mismatch);
        // A server that has no such database still has its journal.
        if opened.is_err()
            && let Some(failure) = lag.unreachable().filter(|_| !mismatch)
        {
            return Err(failure.into());
        }
        let opened = opened?;
        let mut warnings = Vec::new();
        let pair = match (&opened.publisher, &opened.subscriber) {
            (Ok(publisher), Ok(subscriber)) => Some(Pair {
                publisher: publisher.clone(),
                subscriber: subscriber.clone(),
            }),
            _ => None,
        };
        let mut journals = journals?;
        if let (Some(pair), HalfDone::Settle) = (&pair, half_done)
            && !journals.unfinished().is_empty()
        {
            let dbnames = declared.iter().map(|(_, it)| it.dbname.as_str());
            let dbnames: Vec<&str> = dbnames.collect();
            // What is under way is said by the journal.
            let settled = self.settle_unless(AtWork::Leave, pair, &dbnames);
            let settled = kept(settled, &mut warnings);
            let journals_now;
            (journals_now, sides) = self.said(&opened, &declared);
            journals = settled.map_or(journals_now, Ok)?;
            // Of before it, a run that is finished looks like a stream that is broken.
            let forward = self.look_forward(&declared, limits, Trace::None)?;
            lag = self.look_back(forward, &declared, limits, Trace::None, &opened)?;
        }
        let publisher = kept(opened.publisher, &mut warnings);
        let subscriber = kept(opened.subscriber, &mut warnings);
        let unfinished = pair
            .as_ref()
            .map_or_else(Vec::new, |_| journals.unfinished());
        let mut standings = Vec::new();
        let declared = declared.into_iter().zip(lag.subscriptions);
        for (((subname, subscription), lag), said) in declared.zip(sides) {
            let (on_publisher, on_subscriber) = said;
            let on_publisher = kept(on_publisher, &mut warnings).flatten();
            let on_subscriber = kept(on_subscriber, &mut warnings).flatten();
            let dbname = &subscription.dbname;
            let standing = journals.flow(dbname);
            let record = OnRecord {
                finishing: unfinished
                    .iter()
                    .any(|it| it.step.is_past_return() && it.dbnames().contains(&dbname.as_str())),
                direction: standing.direction,
                switched: standing.switched.is_some(),
                reverse: standing.switched.is_some_and(|entry| entry.reverse),
                abandoned: subscriber.is_some() && journals.abandoned(dbname),
                pause: journals.shutting_out(dbname),
                known: match standing.direction {
                    Direction::Forward => on_publisher.is_some(),
                    Direction::Back => true,
                },
                copy: if lag.is_subscribed() {
                    None
                } else {
                    kept(
                        under_way(publisher.as_ref(), subscriber.as_ref(), subname, dbname),
                        &mut warnings,
                    )
                    .flatten()
                },
            };
            let mut standing = MigrationStatus::of(lag, on_publisher, on_subscriber, record);
            if standing.stage == Stage::Copying
                && standing.copy.is_none()
                && let Some(subscriber) = &subscriber
            {
                let session = subscriber.visit(dbname);
                let awaited = session.and_then(|session| watch::waiting::is_seen(&session));
                if kept(awaited, &mut warnings) == Some(false) {
                    standing.left_alone();
                }
            }
            if let Some(pair) = &pair {
                let direction = standing.direction;
                let new_tables = match half_done {
                    HalfDone::Settle => NewTables::Taken,
                    HalfDone::Leave => NewTables::Left,
                };
                let name = &standing.subname;
                let stuck = self.carried(pair, direction, name, subscription, new_tables);
                (standing.statements, _) = kept(stuck, &mut warnings).unwrap_or_default();
                if standing.stage == Stage::Broken {
                    standing.next = standing.next_command();
                }
                let gaps = self.ddl_gaps(pair, &standing);
                let gaps = kept(gaps, &mut warnings).unwrap_or_default();
                standing.sides.warnings.extend(gaps);
            }
            if let Some(pair) = &pair {
                let may_switch = standing.may_switch();
                let (half_done, in_the_way) = at_once(
                    || self.refuse_half_done(pair, dbname),
                    || {
                        if may_switch {
                            self.in_the_way(pair, &standing, subscription)
                        } else {
                            Ok(())
                        }
                    },
                );
                // A difference is among the causes where it is broken.
                if may_switch || standing.stage == Stage::Broken {
                    standing.drift = kept(self.drift(pair, &standing), &mut warnings);
                }
                if let Err(report) = half_done.and(in_the_way) {
                    standing.obstructed(&report);
                } else if may_switch && let Err(report) = self.differs(pair, &standing) {
                    standing.differs = true;
                    standing.obstructed(&report);
                } else if may_switch
                    && let Err(report) =
                        self.blocks_switch(pair, standing.direction, &standing.dbname)
                {
                    standing.obstructed(&report);
                }
            }
            standings.push(standing);
        }
        warnings.dedup();
        let asked = standings.iter().map(|it| it.writable);
        let writable = asked.reduce(|one, other| match (one, other) {
            (Some(Writable::None), _) | (_, Some(Writable::None)) => Some(Writable::None),
            (one, other) => one.and(other),
        });
        Ok(StatusReport {
            writable: writable.flatten(),
            subscriptions: standings,
            warnings,
        })
    }
}

/// What both servers say about one database; none of a server that does not answer.
type Said = (Result<Option<OnPublisher>>, Result<Option<OnSubscriber>>);

impl Flare {
    /// The journals, and what both servers say about each database.
    fn said(
        &self,
        opened: &Opened,
        declared: &[(&str, &Subscription)],
    ) -> (Result<Journals>, Vec<Said>) {
        let (publisher, subscriber) = (opened.publisher.as_ref(), opened.subscriber.as_ref());
        let (publisher, subscriber) = (publisher.ok(), subscriber.ok());
        let sides = || {
            let each = declared.iter().map(|(_, subscription)| {
                at_once(
                    || {
                        publisher
                            .map(|it| on_publisher(it, subscription))
                            .transpose()
                    },
                    || {
                        subscriber
                            .map(|it| on_subscriber(it, subscription))
                            .transpose()
                    },
                )
            });
            each.collect()
        };
        let (sides, journals) = at_once(sides, || self.journals(opened));
        (journals, sides)
    }

    /// Whether anything stands in the way of the next cutover or fallback.
    fn in_the_way(
        &self,
        pair: &Pair,
        standing: &MigrationStatus,
        declared: &Subscription,
    ) -> Result<()> {
        let wanted = Wanted {
            dbname: declared.dbname.clone(),
            subname: standing.subname.clone(),
            pubname: declared.pubname.clone(),
        };
        let request = self.request(standing.direction, vec![wanted], &SwitchOptions::default());
        let pair = oriented(pair, standing.direction);
        cutover::seen::in_the_way(&pair, &self.config, &request)
    }

    /// How the schemas differ, in the direction of the data.
    fn drift(&self, pair: &Pair, standing: &MigrationStatus) -> Result<Vec<Drift>> {
        drift::look(&oriented(pair, standing.direction), &standing.dbname)
    }

    /// Fails when the application would meet a difference.
    fn differs(&self, pair: &Pair, standing: &MigrationStatus) -> Result<()> {
        let pair = oriented(pair, standing.direction);
        let found = standing.drift.as_deref().unwrap_or_default();
        let left = self.config.left_behind(&standing.dbname);
        match drift::obstacle(&pair, &standing.dbname, found, left) {
            Some(failure) => failure.err(),
            None => Ok(()),
        }
    }
}

/// The answer, or a warning in its place.
fn kept<T>(answer: Result<T>, warnings: &mut Vec<String>) -> Option<T> {
    answer
        .map_err(|report| warnings.push(message_of(&report)))
        .ok()
}

/// A copy or an adoption on record.
fn under_way(
    publisher: Option<&Publisher>,
    subscriber: Option<&Subscriber>,
    subname: &str,
    dbname: &str,
) -> Result<Option<UnderWay>> {
    if let Some(subscriber) = subscriber
        && databases::database(subscriber.admin(), dbname)?.is_some()
    {
        let session = subscriber.connect(ActAs::Tables, dbname)?;
        let superuser = subscriber.facts().superuser;
        let copy = copy::copy_under_way(publisher, (&session, superuser), subname, dbname)?;
        if let Some(copy) = copy {
            return Ok(Some(copy));
        }
    }
    match publisher {
        Some(publisher) => copy::adoption_under_way(publisher, subname),
        None => Ok(None),
    }
}
