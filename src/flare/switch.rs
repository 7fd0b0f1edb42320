//! Moving the application to the other server, and back.

use std::time::Duration;

use super::direction::oriented;
use super::{Change, Flare};
use crate::copy;
use crate::cutover::{self, PauseRequest, SwitchReport, Terminating, Wanted};
use crate::ddl;
use crate::error::{Error, Failure, Report, Result, message_of};
use crate::journal::{Direction, Purpose, Stream};
use crate::replicate::Mode;
use crate::server::{Opened, Pair, Subscriber, is_identity_mismatch};
use crate::value::ShellWord;
use crate::verify::{self, LastVerification};

/// How the application is moved; what is not said comes from the configuration's `cutover`.
#[derive(Clone, Debug, Default)]
pub struct SwitchOptions {
    /// The pause is undone when it has taken this long; none: `cutover.max_pause`.
    pub max_pause: Option<Duration>,
    /// No way back is made.
    pub no_reverse: bool,
    /// Whether every table must have been found equal before.
    pub proven: Proven,
}

/// Whether a switch wants proof that every row is on the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proven {
    /// The report says when the rows were last compared.
    #[default]
    Said,
    /// It refuses unless `verify_data` has found every published table equal in this direction.
    Required,
}

impl Flare {
    /// Moves the application of these subscriptions' databases to the subscriber, all in one pause; all that are
    /// declared when none is named.
    ///
    /// # Errors
    /// When it could not begin. A run that began and was undone is a report with that outcome.
    pub fn cutover(
        &self,
        subnames: &[String],
        options: &SwitchOptions,
    ) -> Result<SwitchReport, Error> {
        Ok(self.switch(subnames, Direction::Forward, options)?)
    }

    /// Moves it back to the publisher, losing nothing.
    ///
    /// # Errors
    /// As [`Flare::cutover`].
    pub fn fallback(
        &self,
        subnames: &[String],
        options: &SwitchOptions,
    ) -> Result<SwitchReport, Error> {
        Ok(self.switch(subnames, Direction::Back, options)?)
    }

    /// The databases that a switch is about.
    pub fn databases_of(&self, subnames: &[String]) -> Result<Vec<String>, Error> {
        let wanted = self.wanted(subnames)?;
        Ok(wanted.into_iter().map(|it| it.dbname).collect())
    }

    /// Opens the publisher again although the subscriber, which was written since the cutover, does not answer: what had
    /// not come back is lost, and said. Or the subscriber, where a fallback is past its point of no return and the
    /// publisher died before it was opened.
    ///
    /// # Errors
    /// When both answer, or the one that does not was not switched to.
    pub fn abandon_target(&self, subnames: &[String]) -> Result<SwitchReport, Error> {
        let wanted = self.wanted(subnames)?;
        let opened = self.open().any()?;
        let (from, to, direction) = if opened.publisher.is_ok() {
            let (publisher, subscriber) = opened.publisher_first()?;
            (publisher, subscriber.err(), Direction::Forward)
        } else {
            let (subscriber, publisher) = opened.subscriber_first()?;
            (subscriber.as_publisher(), publisher.err(), Direction::Back)
        };
        let Some(dead) = to else {
            return Failure::usage("abandon the subscriber: it answers")
                .hint("flare fallback without --abandon-target loses nothing")
                .err();
        };
        let dbnames: Vec<&str> = wanted.iter().map(|it| it.dbname.as_str()).collect();
        self.begin_in(direction.flipped(), &[&from], &dbnames)?;
        let lost = cutover::abandon(&from, direction, &self.config, &wanted, &dead, &self.run)?;
        for dbname in dbnames {
            ddl::lift_barriers(&from, dbname, &self.run)?;
        }
        let request = self.request(direction.flipped(), wanted, &SwitchOptions::default());
        Ok(SwitchReport::abandoned(
            &request,
            lost,
            self.run.mode == Mode::DryRun,
        ))
    }

    /// Removes what flare has put in place for a subscription's migration, on both sides; a dry run lists it.
    ///
    /// # Errors
    /// When something could not be removed; what is gone by then is gone, and the same call goes on.
    pub fn cleanup(&self, subname: &str) -> Result<Change, Error> {
        let wanted = self.wanted(std::slice::from_ref(&subname.to_owned()))?;
        let opened = self.open().any()?;
        if let (Err(dead), Ok(subscriber)) = (&opened.publisher, &opened.subscriber) {
            return Ok(self.cleanup_alone(subscriber, dead, &opened, &wanted)?);
        }
        let pair = opened.both()?;
        let dbnames: Vec<&str> = wanted.iter().map(|it| it.dbname.as_str()).collect();
        let journals = self.settle(&pair, &dbnames)?;
        let mut change = Change::none(&self.run);
        for wanted in &wanted {
            let direction = journals.flow(&wanted.dbname).direction;
            let dbnames = [wanted.dbname.as_str()];
            self.begin_in(direction, &[&pair.publisher, &pair.subscriber], &dbnames)?;
            let disarmed = self.disarm([&*pair.publisher, &*pair.subscriber], &wanted.dbname)?;
            let publisher = Ok(pair.publisher.clone());
            let (subname, dbname) = (&wanted.subname, &wanted.dbname);
            change = change
                .and(copy::give_up(
                    &pair.subscriber,
                    &publisher,
                    dbname,
                    &self.run,
                )?)
                .and(copy::adopt::give_up(&pair.publisher, subname, &self.run)?);
            let cleaned = cutover::cleanup(&pair, &self.config, wanted, direction, &self.run)?;
            change = change.and(disarmed).and(cleaned);
        }
        Ok(change)
    }

    /// After a cutover, when the server that was left is gone.
    fn cleanup_alone(
        &self,
        subscriber: &Subscriber,
        dead: &Report,
        opened: &Opened,
        wanted: &[Wanted],
    ) -> Result<Change> {
        let journals = self.journals(opened)?;
        let mut change = Change::none(&self.run);
        for wanted in wanted {
            let dbname = wanted.dbname.as_str();
            if journals.flow(dbname).direction == Direction::Forward {
                return Failure::new(message_of(dead))
                    .hint("the application writes there: cleanup needs both servers")
                    .err();
            }
            self.begin_in(Direction::Back, &[subscriber], &[dbname])?;
            let disarmed = self.disarm([&**subscriber], dbname)?;
            let cleaned = cutover::cleanup_without_publisher(
                subscriber,
                &self.config,
                wanted,
                dead,
                &self.run,
            )?;
            change = change.and(disarmed).and(cleaned);
        }
        Ok(change)
    }

    pub(super) fn request(
        &self,
        direction: Direction,
        databases: Vec<Wanted>,
        options: &SwitchOptions,
    ) -> PauseRequest {
        let declared = &self.config.cutover;
        PauseRequest {
            purpose: Purpose::Switch,
            direction,
            databases,
            terminating: Terminating::Everyone,
            keep_users: declared.keep_users.iter().cloned().collect(),
            allowed_rep_duration: Duration::ZERO,
            max_pause: options.max_pause.unwrap_or(declared.max_pause),
            reverse: declared.reverse && !options.no_reverse,
        }
    }

    fn wanted(&self, subnames: &[String]) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (subname, declared) in self.declared(subnames)? {
            if let Some(other) = wanted.iter().find(|it| it.dbname == declared.dbname) {
                return Failure::usage(format!(
                    "switch database {:?}: subscriptions {:?} and {subname:?} both name it",
                    declared.dbname, other.subname
                ))
                .hint("name one of them")
                .err();
            }
            wanted.push(Wanted {
                dbname: declared.dbname.clone(),
                subname: subname.to_owned(),
                pubname: declared.pubname.clone(),
            });
        }
        Ok(wanted)
    }

    fn switch(
        &self,
        subnames: &[String],
        direction: Direction,
        options: &SwitchOptions,
    ) -> Result<SwitchReport> {
        let mut request = self.request(direction, self.wanted(subnames)?, options);
        let opened = self.open();
        if let (Direction::Back, Ok(_), Err(dead)) =
            (direction, &opened.publisher, &opened.subscriber)
            && !is_identity_mismatch(dead)
        {
            return Failure::new(message_of(dead))
                .hint(format!(
                    "start the subscriber again; when it is lost for good, flare fallback {} --abandon-target opens the publisher, without what had not come back",
                    subnames_or_all(subnames)
                ))
                .err();
        }
        let pair = opened.both()?;
        let dbnames: Vec<&str> = request
            .databases
            .iter()
            .map(|it| it.dbname.as_str())
            .collect();
        let journals = self.settle(&pair, &dbnames)?;
        let all = request.databases.clone();
        request
            .databases
            .retain(|it| journals.flow(&it.dbname).direction == direction);
        if request.databases.is_empty() {
            request.databases = all;
            return Ok(SwitchReport::already(&request));
        }
        let dbnames: Vec<&str> = request
            .databases
            .iter()
            .map(|it| it.dbname.as_str())
            .collect();
        let of_data = oriented(&pair, direction);
        for dbname in &dbnames {
            self.refuse_unsettled(&of_data, dbname)?;
        }
        self.follow_all(&of_data, direction, &request.databases)?;
        self.begin_in(direction, &[&pair.publisher, &pair.subscriber], &dbnames)?;
        let verified = self.last_verified(&pair, &request, options.proven)?;
        let mut report = cutover::switch(
            &oriented(&pair, direction),
            &self.config,
            &request,
            &self.run,
        )?;
        report.verified = verified;
        Ok(report)
    }

    /// When the rows of the databases were last compared; refuses where proof is required and missing.
    fn last_verified(
        &self,
        pair: &Pair,
        request: &PauseRequest,
        proven: Proven,
    ) -> Result<Vec<LastVerification>> {
        let direction = request.direction;
        let mut verified = Vec::new();
        for wanted in &request.databases {
            let stream = Stream::of(&wanted.dbname, &wanted.subname, &wanted.pubname, direction);
            let oriented = oriented(pair, direction);
            let proof = match verify::missing_proof(pair, &oriented, &stream, direction) {
                Ok(proof) => proof,
                Err(report) if proven == Proven::Required => return Err(report),
                // Nothing that was asked for depends on it.
                Err(report) => {
                    log::info!("look when rows were last compared: {report:#}");
                    continue;
                }
            };
            if proven == Proven::Required && !proof.missing.is_empty() {
                return Failure::new(format!(
                    "switch {:?}: not every table is known to be equal on both sides: {}; nothing was begun",
                    wanted.dbname,
                    verify::listed(&proof.missing)
                ))
                .hint(format!("flare verify_data {}", ShellWord(&wanted.subname)))
                .err();
            }
            verified.push(LastVerification {
                dbname: wanted.dbname.clone(),
                finished_at: proof.last,
                equal: proof.missing.is_empty(),
                missing: proof.missing,
            });
        }
        Ok(verified)
    }
}

fn subnames_or_all(subnames: &[String]) -> String {
    if subnames.is_empty() {
        "--all".to_owned()
    } else {
        subnames
            .iter()
            .map(|subname| ShellWord(subname).to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }
}
