//! All checks in one pass: both servers and all databases at once, then the judgements.

use postgres::error::SqlState;

use super::answers::within;
use super::ask::Names;
use super::beforehand;
use super::beyond;
use super::family::subscription;
use super::finding::Preflight;
use super::judged::{Judged, found_or_unseen, judge, judged, with_unseen};
use super::question::Place;
use super::registry::{Before, Check, checks};
use super::view::{Moving, View};
use crate::config::Config;
use crate::error::{Report, Result};
use crate::journal::Direction;
use crate::progress::Progress;
use crate::server::{Server, Session, at_once, is_denied, is_lost, sqlstate_of};

/// What is looked at, and for which command.
pub(crate) struct Scope<'a> {
    pub(crate) config: &'a Config,
    /// In the data's direction; none where it cannot be reached, and what asks it is not looked at.
    pub(crate) publisher: Option<&'a Server>,
    pub(crate) subscriber: Option<&'a Server>,
    pub(crate) direction: Direction,
    pub(crate) dbnames: &'a [&'a str],
    /// Checks for later commands are left out.
    pub(crate) before: Before,
    /// Whether a way back is to be made.
    pub(crate) reverse: bool,
    pub(crate) schemas: Schemas,
    pub(crate) later: Later,
}

/// What becomes of a blocker of the cutover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// The command makes no cutover: what would stop one stops nothing else.
    Warns,
    /// There is time to mend it until the subscription streams.
    WarnsAtFirst,
    /// The cutover is about to begin.
    Blocks,
}

/// Whether the schemas are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schemas {
    Compare,
    /// The command compares them itself.
    Leave,
}

/// Refuses what blocks a command, says what may go wrong, and returns what was found.
pub(crate) fn clear(scope: &Scope<'_>, progress: &dyn Progress) -> Result<Preflight> {
    let found = check(scope)?;
    for warning in found.warnings() {
        progress.step(&format!("warning: {warning}"));
    }
    found.refuse()?;
    Ok(found)
}

/// Asks everything that the command is concerned with, and judges it. Reads only.
pub(crate) fn check(scope: &Scope<'_>) -> Result<Preflight> {
    let wanted: Vec<&Check> = checks()
        .filter(|check| check.before <= scope.before)
        .filter(|check| check.asks.iter().all(|it| scope.can_ask(it.on)))
        .collect();
    let moving = scope.dbnames.iter().map(|it| scope.names(it));
    let moving: Vec<Names> = moving.collect::<Result<_>>()?;
    let servers = || {
        let said = scope.servers_answer(&wanted)?;
        let both = [scope.publisher, scope.subscriber];
        Ok((
            said,
            beyond::other_migrations(scope.config, both, scope.dbnames),
        ))
    };
    let (entered, servers) = at_once(|| scope.databases_answer(&wanted, &moving), servers);
    let ([publisher, subscriber], others) = servers?;
    let mut checked = Vec::new();
    let (mut any_streams, mut unsubscribed) = (false, 0);
    for (names, [on_publisher, on_subscriber]) in moving.iter().zip(entered?) {
        let (publisher, from) = within(publisher.as_ref(), on_publisher);
        let (subscriber, to) = within(subscriber.as_ref(), on_subscriber);
        let sessions = from.zip(to);
        let declared = scope.declared(&names.dbname)?;
        let mut view = View {
            config: scope.config,
            publisher: publisher.as_ref(),
            subscriber: subscriber.as_ref(),
            moving: Some(Moving {
                dbname: &names.dbname,
                publication: declared.publication,
                pubname: &names.pubname,
                subname: Some(names.subname.as_str()).filter(|it| !it.is_empty()),
            }),
            databases: scope.dbnames.len(),
            unsubscribed: 0,
            reverse: scope.reverse,
            later: scope.later,
            before: scope.before,
            streams: false,
            subscribed: false,
        };
        (view.subscribed, view.streams) = subscription::progress(&view)?;
        any_streams |= view.streams;
        unsubscribed += usize::from(!view.subscribed);
        checked.extend(judge(&wanted, Place::Database, &view)?);
        if let (Some((from, to)), Before::Cutover) = (sessions, scope.before) {
            checked.extend(scope.compared(&view, &from, &to)?);
        }
    }
    let view = View {
        config: scope.config,
        publisher: publisher.as_ref(),
        subscriber: subscriber.as_ref(),
        moving: None,
        databases: scope.dbnames.len(),
        unsubscribed,
        reverse: scope.reverse,
        later: scope.later,
        before: scope.before,
        streams: any_streams,
        subscribed: any_streams,
    };
    checked.extend(judge(&wanted, Place::Server, &view)?);
    // The journal is another administrator's.
    let (found, unseen) = found_or_unseen(beyond::OTHER_MIGRATIONS, others, is_denied)?;
    checked.push(judged(
        (beyond::OTHER_MIGRATIONS, beyond::ALONE),
        Before::Setup,
        &view,
        found,
        unseen,
    ));
    if let (Some(_), Some(subscriber), false) = (scope.publisher, scope.subscriber, view.is_back())
    {
        let found = beyond::setting_values(&view, subscriber)?;
        checked.push(judged(
            (beyond::SETTING_VALUES, beyond::TAKEN),
            Before::Setup,
            &view,
            found,
            Vec::new(),
        ));
    }
    Ok(Preflight::of(with_unseen(checked)))
}

impl Scope<'_> {
    /// What comparing both databases has found: of one migration, or of a database that flare has not filled.
    fn compared(&self, view: &View<'_>, from: &Session, to: &Session) -> Result<Vec<Judged>> {
        let (Some(publisher), Some(subscriber)) = (self.publisher, self.subscriber) else {
            return Ok(Vec::new());
        };
        // Somebody has locked a table; nobody is waited for here.
        let is_locked =
            |report: &Report| sqlstate_of(report) == Some(&SqlState::LOCK_NOT_AVAILABLE);
        let (drift, rows) = (
            (beyond::SCHEMA_DRIFT, beyond::SAME),
            (beforehand::SUBSCRIBER_ROWS, beforehand::EMPTY),
        );
        let mut compared = Vec::new();
        let before = match (view.subscribed, beforehand::is_met(view, publisher, to)?) {
            (true, _) if self.schemas == Schemas::Leave => return Ok(compared),
            (true, _) => Before::Cutover,
            (false, true) => Before::Setup,
            (false, false) => return Ok(compared),
        };
        let found = beyond::schema_drift(view, from, to);
        if before == Before::Cutover {
            let (found, unseen) = found_or_unseen(drift.0, found, is_locked)?;
            compared.push(judged(drift, before, view, found, unseen));
            return Ok(compared);
        }
        // What a server refuses here it refuses later, too: other checks name it, such as a function that finds no table
        // when a partitioned table of a 10 is opened.
        let is_refused = |report: &Report| sqlstate_of(report).is_some() && !is_lost(report);
        let (found, unseen) = found_or_unseen(drift.0, found, is_refused)?;
        compared.push(judged(drift, before, view, found, unseen));
        let found = beforehand::rows(view, subscriber, to);
        let (found, unseen) = found_or_unseen(rows.0, found, is_refused)?;
        compared.push(judged(rows, Before::Subscription, view, found, unseen));
        Ok(compared)
    }
}
