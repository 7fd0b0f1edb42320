//! Who can write where, where each migration stands, and what to type next.

use std::fmt;

use serde::Serialize;

use super::Flare;
use crate::catalog::{databases, publications};
use crate::config::Subscription;
use crate::cutover::{AtWork, Writable, written_before};
use crate::error::{Result, message_of};
use crate::journal::{Direction, Entry, Purpose};
use crate::observe::{LagStatus, SubscriptionLag, Tables, Trace};
use crate::server::{Login, Pair, Publisher, Subscriber, is_stranger, params};
use crate::value::Word;

/// What is under way, and who can write.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// Where the application can write: nowhere while any database is paused; none when nobody could be asked.
    pub writable: Option<Writable>,
    /// Each subscription of the configuration.
    pub subscriptions: Vec<Standing>,
    /// Servers that do not answer.
    pub warnings: Vec<String>,
}

/// Where one subscription's migration stands. `None` is what could not be asked.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The subscription.
    pub subname: String,
    /// Its database.
    pub dbname: String,
    /// How far it has come.
    pub stage: Stage,
    /// The next command to type.
    pub next: String,
    /// Where the application can write.
    pub writable: Option<Writable>,
    /// Which way the data flows.
    pub direction: Direction,
    #[serde(skip)]
    switched: bool,
    #[serde(skip)]
    reverse: bool,
    #[serde(skip)]
    cleaned_up: bool,
    /// The subscriber was left for dead.
    #[serde(skip)]
    abandoned: bool,
    /// The pause is a step of a cutover or fallback, not pause_write's.
    #[serde(skip)]
    switching: bool,
    /// Since when writes are paused.
    pub paused_since: Option<String>,
    /// The host and process that paused them.
    pub paused_by: Option<String>,
    /// Whether the database's owner is a role of the subscriber.
    pub roles: Option<bool>,
    /// Whether the database is on the subscriber, with tables.
    pub schema: Option<bool>,
    /// Whether the publication is there.
    pub publication: Option<bool>,
    /// Whether the subscription is there.
    pub subscription: Option<bool>,
    /// How many of its tables are ready.
    pub tables: Option<Tables>,
    /// Write-ahead log that the subscriber has not confirmed.
    pub lag_bytes: Option<u64>,
    /// How old the subscriber's state is.
    pub lag_seconds: Option<f64>,
    /// What `lag` says about it, once it is there.
    pub message: Option<String>,
}

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A server does not answer.
    Unknown,
    /// Nothing is on the subscriber yet.
    NotBegun,
    /// The roles are there.
    Roles,
    /// The schema is there.
    Schema,
    /// The publication is there.
    Publication,
    /// Tables are being copied.
    Copying,
    /// Every table follows.
    Replicating,
    /// The subscription will not go on by itself.
    Broken,
    /// Writes are paused.
    Paused,
    /// The application writes on the subscriber, and the publisher follows.
    CutOver,
    /// The application was moved to the subscriber; whether the way back runs is unknown, a server does not answer.
    CutOverUnseen,
    /// The application writes on the subscriber, and nothing leads back.
    OneWay,
    /// It was cut over, and writes on the publisher again; the subscriber follows.
    FallenBack,
    /// The migration is over: nothing of flare is left.
    CleanedUp,
}

impl Stage {
    fn in_words(self) -> &'static str {
        match self {
            Stage::Unknown => "unknown, a server does not answer",
            Stage::NotBegun => "not begun",
            Stage::Roles => "roles are replicated",
            Stage::Schema => "the schema is replicated",
            Stage::Publication => "the publication is there",
            Stage::Copying => "tables are being copied",
            Stage::Replicating => "replicating, ready to cut over",
            Stage::Broken => "BROKEN",
            Stage::Paused => "writes are paused",
            Stage::CutOver => "cut over, the way back runs",
            Stage::CutOverUnseen => "cut over, a server does not answer",
            Stage::OneWay => "cut over, nothing leads back",
            Stage::FallenBack => "fallen back, replicating, ready to cut over again",
            Stage::CleanedUp => "cut over and cleaned up",
        }
    }
}

/// What the publisher says about a database.
struct OnPublisher {
    publication: bool,
    /// Neither the owner nor PUBLIC may connect, as a cutover leaves it.
    left: bool,
}

/// What the journals say about it.
struct OnRecord {
    direction: Direction,
    /// It has been switched before.
    switched: bool,
    reverse: bool,
    /// The subscriber answers, and has not heard that it was abandoned.
    abandoned: bool,
    /// The run that keeps the application out.
    pause: Option<Entry>,
    /// Whether the journal of the server that is written was read.
    known: bool,
}

/// What the subscriber says about it.
struct OnSubscriber {
    roles: bool,
    schema: bool,
}

impl Flare {
    /// Says who can write where and how far each configured subscription is. Changes nothing, and goes on when one
    /// server is down.
    ///
    /// # Errors
    /// When the configuration declares no subscription, a server is not the declared one, or neither answers.
    pub fn status(&self) -> Result<StatusReport> {
        let declared = self.declared(&[])?;
        let opened = self.open();
        let lag = self.look(&declared, &self.config.lag, Trace::None, Some(&opened))?;
        let opened = opened.any();
        let stranger = opened.as_ref().is_err_and(is_stranger);
        if let Some(failure) = lag.unreachable().filter(|_| !stranger) {
            return failure.err();
        }
        let opened = opened?;
        let mut warnings = Vec::new();
        if let (Ok(publisher), Ok(subscriber)) = (&opened.publisher, &opened.subscriber) {
            let pair = Pair {
                publisher: publisher.clone(),
                subscriber: subscriber.clone(),
            };
            let dbnames: Vec<&str> = declared.iter().map(|(_, it)| it.dbname.as_str()).collect();
            // What is under way is said by the journal.
            let settled = self.settle_unless(AtWork::Leave, &pair, &dbnames);
            kept(settled, &mut warnings);
        }
        let journals = self.journals(&opened)?;
        let publisher = kept(opened.publisher, &mut warnings);
        let subscriber = kept(opened.subscriber, &mut warnings);
        let mut standings = Vec::new();
        for ((_, subscription), lag) in declared.into_iter().zip(lag.subscriptions) {
            let on_publisher = publisher
                .as_ref()
                .and_then(|it| kept(on_publisher(it, subscription), &mut warnings));
            let on_subscriber = subscriber
                .as_ref()
                .and_then(|it| kept(on_subscriber(it, &subscription.dbname), &mut warnings));
            let dbname = &subscription.dbname;
            let standing = journals.standing(dbname);
            let record = OnRecord {
                direction: standing.direction,
                switched: standing.switched.is_some(),
                reverse: standing.switched.is_some_and(|entry| entry.reverse),
                abandoned: subscriber.is_some() && journals.abandoned(dbname),
                pause: journals.shutting_out(dbname),
                known: match standing.direction {
                    Direction::Forward => publisher.is_some(),
                    Direction::Back => true,
                },
            };
            standings.push(Standing::of(lag, on_publisher, on_subscriber, record));
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

/// The answer, or a warning in its place.
fn kept<T>(answer: Result<T>, warnings: &mut Vec<String>) -> Option<T> {
    answer
        .map_err(|report| warnings.push(message_of(&report)))
        .ok()
}

fn on_publisher(publisher: &Publisher, subscription: &Subscription) -> Result<OnPublisher> {
    let dbname = &subscription.dbname;
    let session = publisher.connect(Login::Superuser, dbname)?;
    let left = session.value(
        "SELECT NOT EXISTS (SELECT FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                             WHERE d.datname = $1 AND a.privilege_type = 'CONNECT' AND a.grantee IN (0, d.datdba))",
        params![dbname],
    )?;
    Ok(OnPublisher {
        publication: publications::find(&session, &subscription.pubname)?.is_some(),
        left,
    })
}

fn on_subscriber(subscriber: &Subscriber, dbname: &str) -> Result<OnSubscriber> {
    let admin = subscriber.admin();
    let roles = admin.value(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
        params![subscriber.declared().db_owner.user.as_str()],
    )?;
    let schema = databases::dbnames(admin)?.contains(dbname)
        && subscriber.connect(Login::Superuser, dbname)?.value(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND n.nspname !~ '^pg_'
                               AND n.nspname <> 'information_schema' AND c.relname <> 'flare_replication_status')",
            params![],
        )?;
    Ok(OnSubscriber { roles, schema })
}

impl Standing {
    fn of(
        lag: SubscriptionLag,
        publisher: Option<OnPublisher>,
        subscriber: Option<OnSubscriber>,
        record: OnRecord,
    ) -> Standing {
        let pause = record.pause.as_ref();
        let cleaned_up = record.pause.is_none()
            && !record.switched
            && publisher
                .as_ref()
                .is_some_and(|it| it.left && !it.publication)
            && subscriber.as_ref().is_some_and(|it| it.schema);
        let there = lag.sample.subscriber.as_ref();
        let mut standing = Standing {
            stage: Stage::Unknown,
            next: String::new(),
            writable: match (pause, record.direction) {
                (Some(_), _) => Some(Writable::None),
                (None, _) if cleaned_up => Some(Writable::Subscriber),
                (None, direction) => record.known.then(|| written_before(direction)),
            },
            direction: record.direction,
            switched: record.switched,
            reverse: record.reverse,
            abandoned: record.abandoned,
            cleaned_up,
            switching: pause.is_some_and(|it| it.purpose == Purpose::Switch),
            paused_since: pause.map(|it| it.changed_at.clone()),
            paused_by: pause.map(|it| it.holder.clone()),
            roles: subscriber.as_ref().map(|it| it.roles),
            schema: subscriber.as_ref().map(|it| it.schema),
            publication: publisher.as_ref().map(|it| it.publication),
            // Where the database is missing, so is what is in it.
            subscription: match (there, &subscriber) {
                (Some(sample), _) => Some(sample.subscription.is_some()),
                (None, Some(it)) if !it.schema => Some(false),
                (None, _) => None,
            },
            tables: lag.tables,
            lag_bytes: lag.lag_bytes,
            lag_seconds: lag.lag_seconds,
            message: None,
            subname: lag.subname,
            dbname: lag.dbname,
        };
        standing.stage = standing.stage(lag.status);
        standing.next = standing.next_command();
        standing.message = (standing.subscription == Some(true)).then_some(lag.message);
        standing
    }

    fn stage(&self, lag: LagStatus) -> Stage {
        match (self.writable, self.direction) {
            (Some(Writable::None), _) => return Stage::Paused,
            _ if self.cleaned_up => return Stage::CleanedUp,
            (_, Direction::Back) if !self.reverse => return Stage::OneWay,
            (_, Direction::Back) if lag == LagStatus::Critical => return Stage::Broken,
            (_, Direction::Back) if lag == LagStatus::Unknown => return Stage::CutOverUnseen,
            (_, Direction::Back) => return Stage::CutOver,
            (_, Direction::Forward) => {}
        }
        let (Some(roles), Some(schema), Some(publication), Some(subscription)) =
            (self.roles, self.schema, self.publication, self.subscription)
        else {
            return Stage::Unknown;
        };
        let copied = self.tables.is_some_and(|it| it.ready == it.total);
        match (subscription, lag) {
            (true, LagStatus::Critical) => Stage::Broken,
            (true, _) if copied && self.switched => Stage::FallenBack,
            (true, _) if copied => Stage::Replicating,
            (true, _) => Stage::Copying,
            (false, _) if !roles => Stage::NotBegun,
            (false, _) if !schema => Stage::Roles,
            (false, _) if !publication => Stage::Schema,
            (false, _) => Stage::Publication,
        }
    }

    /// The application was moved to a server that does not answer.
    fn is_stranded(&self) -> bool {
        self.writable == Some(Writable::Subscriber) && self.roles.is_none()
    }

    fn next_command(&self) -> String {
        let (subname, dbname) = (Word(&self.subname), Word(&self.dbname));
        match self.stage {
            Stage::Unknown => "flare verify_connectivity".to_owned(),
            Stage::NotBegun | Stage::Roles | Stage::Schema | Stage::Publication => {
                match self.abandoned && self.schema == Some(true) {
                    true => format!(
                        "keep clients away from {:?} on the subscriber, drop it there, then flare prepare {subname}",
                        self.dbname
                    ),
                    false => format!("flare prepare {subname}"),
                }
            }
            Stage::Copying => format!("flare monitor {dbname} {subname}"),
            Stage::Replicating | Stage::FallenBack => format!("flare cutover {subname}"),
            Stage::CutOver => {
                format!(
                    "flare cleanup {subname} when all is well, flare fallback {subname} when not"
                )
            }
            _ if self.is_stranded() => format!(
                "start the subscriber again; when it is lost for good, flare fallback {subname} --abandon-target"
            ),
            Stage::CutOverUnseen => "flare verify_connectivity".to_owned(),
            Stage::OneWay => format!("flare cleanup {subname}"),
            Stage::CleanedUp => "nothing is left to do".to_owned(),
            Stage::Broken => format!("flare lag {subname}"),
            Stage::Paused if self.switching => {
                "flare status, which finishes or undoes the run when it has stopped and both servers answer".to_owned()
            }
            Stage::Paused => format!("flare resume_write {dbname}"),
        }
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<&str> = Vec::new();
        for standing in &self.subscriptions {
            let dbname = standing.dbname.as_str();
            if said.contains(&dbname) {
                continue;
            }
            said.push(dbname);
            match standing.writable {
                Some(Writable::None) if standing.switching => writeln!(
                    f,
                    "Nobody but superusers can write to {dbname:?}: in the pause of a cutover or fallback since {}, by {}.",
                    standing.paused_since.as_deref().unwrap_or("?"),
                    standing.paused_by.as_deref().unwrap_or("?"),
                )?,
                Some(Writable::None) => writeln!(
                    f,
                    "Nobody but superusers can write to {dbname:?}: paused since {} by {}, until `flare resume_write {}`.",
                    standing.paused_since.as_deref().unwrap_or("?"),
                    standing.paused_by.as_deref().unwrap_or("?"),
                    Word(dbname),
                )?,
                Some(Writable::Publisher)
                    if standing.abandoned && standing.schema == Some(true) =>
                {
                    writeln!(
                        f,
                        "The application can write to {dbname:?} on the publisher, AND STILL on the subscriber, which was abandoned: what is written there is lost."
                    )?;
                }
                Some(Writable::Publisher) => writeln!(
                    f,
                    "The application can write to {dbname:?} on the publisher."
                )?,
                Some(Writable::Subscriber) if standing.is_stranded() => writeln!(
                    f,
                    "The application can write to {dbname:?} on the subscriber alone, which does not answer."
                )?,
                Some(Writable::Subscriber) => writeln!(
                    f,
                    "The application can write to {dbname:?} on the subscriber."
                )?,
                None => writeln!(
                    f,
                    "Who can write to {dbname:?} is unknown: the publisher does not answer."
                )?,
            }
        }
        for standing in &self.subscriptions {
            writeln!(f, "{}: {}", standing.subname, standing.stage.in_words())?;
            if let Some(message) = &standing.message {
                writeln!(f, "    {message}")?;
            }
            writeln!(f, "    next: {}", standing.next)?;
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            subname: "sub".into(),
            dbname: "shop".into(),
            stage: Stage::Unknown,
            next: String::new(),
            writable: Some(Writable::Publisher),
            direction: Direction::Forward,
            switched: false,
            reverse: false,
            cleaned_up: false,
            abandoned: false,
            switching: false,
            paused_since: None,
            paused_by: None,
            roles: Some(true),
            schema: Some(true),
            publication: Some(true),
            subscription: Some(true),
            tables: Some(Tables { total: 2, ready: 2 }),
            lag_bytes: None,
            lag_seconds: None,
            message: None,
        }
    }

    #[test]
    fn the_stage_is_the_furthest_that_holds() {
        let of = |change: fn(&mut Standing)| {
            let mut standing = standing();
            change(&mut standing);
            standing.stage(LagStatus::Ok)
        };
        assert_eq!(of(|_| ()), Stage::Replicating);
        assert_eq!(standing().stage(LagStatus::Critical), Stage::Broken);
        assert_eq!(
            of(|it| it.tables = Some(Tables { total: 2, ready: 1 })),
            Stage::Copying
        );
        assert_eq!(of(|it| it.subscription = Some(false)), Stage::Publication);
        let without = |publication, schema, roles| {
            let mut standing = standing();
            standing.subscription = Some(false);
            (standing.publication, standing.schema, standing.roles) =
                (Some(publication), Some(schema), Some(roles));
            standing.stage(LagStatus::Critical)
        };
        assert_eq!(without(false, true, true), Stage::Schema);
        assert_eq!(without(false, false, true), Stage::Roles);
        assert_eq!(without(false, false, false), Stage::NotBegun);
        assert_eq!(of(|it| it.roles = None), Stage::Unknown);
        assert_eq!(of(|it| it.writable = Some(Writable::None)), Stage::Paused);
        assert_eq!(of(|it| it.switched = true), Stage::FallenBack);
        assert_eq!(of(|it| it.direction = Direction::Back), Stage::OneWay);
        let back = of(|it| (it.direction, it.reverse) = (Direction::Back, true));
        assert_eq!(back, Stage::CutOver);
        let mut unseen = standing();
        (unseen.direction, unseen.reverse) = (Direction::Back, true);
        (unseen.writable, unseen.roles) = (Some(Writable::Subscriber), None);
        unseen.stage = unseen.stage(LagStatus::Unknown);
        assert_eq!(unseen.stage, Stage::CutOverUnseen);
        assert!(unseen.next_command().contains("--abandon-target"));
        assert_eq!(of(|it| it.cleaned_up = true), Stage::CleanedUp);
    }
}
