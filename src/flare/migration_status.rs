//! Where a subscription's migration stands, and what to type next: decided by what servers, journals and the stream say.

use serde::Serialize;

use crate::catalog::side::{SideFacts, SideState};
use crate::copy::UnderWay;
use crate::cutover::{Writable, written_before};
use crate::ddl::StuckStatement;
use crate::error::{Report, hint_of, message_of};
use crate::journal::{Direction, Entry, Purpose};
use crate::observe::{LagStatus, SubscriptionLag, Tables};
use crate::schema::drift::Drift;
use crate::server::Side;
use crate::value::ShellWord;

/// Where one subscription's migration stands. `None` is what could not be asked.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MigrationStatus {
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
    pub(super) switched: bool,
    #[serde(skip)]
    pub(super) reverse: bool,
    #[serde(skip)]
    pub(super) cleaned_up: bool,
    /// The subscriber was left for dead.
    #[serde(skip)]
    pub(super) abandoned: bool,
    /// The pause is a step of a cutover or fallback, not pause_write's.
    #[serde(skip)]
    pub(super) switching: bool,
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
    /// How old the subscriber's state is at least: what is proven.
    pub lag_seconds: Option<f64>,
    /// How old it is at most.
    pub lag_seconds_at_most: Option<f64>,
    /// A copy by flare, or an adoption, that has not led to a subscription yet.
    pub copy: Option<UnderWay>,
    /// What `lag` says about it, once it is there; before, how far the copy has come.
    pub message: Option<String>,
    /// What the servers let the application do on each side, as they have it.
    pub sides: Sides,
    /// What stands in the way of the next cutover or fallback, of what can be seen without a lock.
    pub obstacle: Option<String>,
    /// How the schema of the database that follows differs from that of the one that is written; none where it could not
    /// be compared.
    pub drift: Option<Vec<Drift>>,
    /// The obstacle is that they differ.
    #[serde(skip)]
    pub(super) differs: bool,
    /// Carried statements that the side that follows does not have, the first with the reason.
    pub statements: Vec<StuckStatement>,
}

/// Who may write on each side, as its server has it; none where that was not asked or there is no database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sides {
    /// On the publisher of the configuration.
    pub publisher: Option<SideState>,
    /// On its subscriber.
    pub subscriber: Option<SideState>,
    /// What is not as it should be: two open sides, a side whose fence or default has a gap, a role that overrides it.
    pub warnings: Vec<String>,
}

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
    /// An `initial_copy` was cut off.
    CopyInterrupted,
    /// A clone is to become the subscriber.
    Adopting,
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
            Stage::CopyInterrupted => "the copy was INTERRUPTED",
            Stage::Adopting => "a clone is being adopted",
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

/// What the other side lacks of the carried statements: those with a reason, and the first of those that wait.
pub(super) fn statements_in_words(statements: &[StuckStatement], dbname: &str) -> Vec<String> {
    const SHOWN: usize = 3;
    let (failing, waiting): (Vec<_>, Vec<_>) = statements.iter().partition(|it| it.error.is_some());
    let shown = failing.iter().chain(waiting.iter().take(SHOWN));
    let mut words: Vec<String> = shown.map(|it| it.in_words(dbname)).collect();
    if waiting.len() > SHOWN {
        words.push(format!(
            "and {} more statements have not come to the other side yet",
            waiting.len() - SHOWN
        ));
    }
    words
}

/// What the publisher says about a database.
pub(super) struct OnPublisher {
    pub(super) publication: bool,
    /// Neither the owner nor PUBLIC may connect, as a cutover leaves it.
    pub(super) left: bool,
    pub(super) side: SideFacts,
}

/// What the journals say about it.
pub(super) struct OnRecord {
    pub(super) direction: Direction,
    /// It has been switched before.
    pub(super) switched: bool,
    pub(super) reverse: bool,
    /// The subscriber answers, and has not heard that it was abandoned.
    pub(super) abandoned: bool,
    /// The run that keeps the application out.
    pub(super) pause: Option<Entry>,
    /// Whether the journal of the server that is written was read.
    pub(super) known: bool,
    /// A copy or an adoption that has not led to a subscription yet.
    pub(super) copy: Option<UnderWay>,
}

/// What the subscriber says about it.
pub(super) struct OnSubscriber {
    pub(super) roles: bool,
    pub(super) schema: bool,
    /// None where there is no database.
    pub(super) side: Option<SideFacts>,
}

impl Sides {
    /// What both servers say, and what of it does not fit the direction; `follows` is whether the other side subscribes.
    fn of(
        publisher: Option<&SideFacts>,
        subscriber: Option<&SideFacts>,
        direction: Direction,
        follows: bool,
    ) -> Sides {
        let left = match direction {
            Direction::Forward => ("subscriber", subscriber),
            Direction::Back => ("publisher", publisher),
        };
        let mut warnings = Vec::new();
        if let ((side, Some(facts)), true) = (left, follows)
            && facts.state() != SideState::Shut
        {
            if facts.state() != SideState::Closed {
                warnings.push(format!(
                    "the {side} is NOT closed, what is written there is lost: {}",
                    facts.gaps().join("; ")
                ));
            }
            if !facts.overriding.is_empty() {
                warnings.push(format!(
                    "on the {side} the default is overridden for {}, so that clients of these roles may choose the closed side: ALTER ROLE .. RESET default_transaction_read_only",
                    facts.overriding.join(", ")
                ));
            }
        }
        Sides {
            publisher: publisher.map(SideFacts::state),
            subscriber: subscriber.map(SideFacts::state),
            warnings,
        }
    }
}

impl MigrationStatus {
    pub(super) fn of(
        lag: SubscriptionLag,
        publisher: Option<OnPublisher>,
        subscriber: Option<OnSubscriber>,
        record: OnRecord,
    ) -> MigrationStatus {
        let pause = record.pause.as_ref();
        let cleaned_up = record.pause.is_none()
            && !record.switched
            && publisher
                .as_ref()
                .is_some_and(|it| it.left && !it.publication)
            && subscriber.as_ref().is_some_and(|it| it.schema);
        let there = lag.sample.subscriber.as_ref();
        let follows = there.is_some_and(|sample| sample.subscription.is_some());
        let sides = Sides::of(
            publisher.as_ref().map(|it| &it.side),
            subscriber.as_ref().and_then(|it| it.side.as_ref()),
            record.direction,
            follows && record.pause.is_none(),
        );
        let mut standing = MigrationStatus {
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
            lag_seconds_at_most: lag.lag_seconds_at_most,
            copy: record.copy,
            message: None,
            obstacle: None,
            sides,
            drift: None,
            differs: false,
            statements: Vec::new(),
            subname: lag.subname,
            dbname: lag.dbname,
        };
        standing.stage = standing.stage(lag.status);
        standing.next = standing.next_command();
        standing.message = match &standing.copy {
            Some(copy) => Some(copy.to_string()),
            None => (standing.subscription == Some(true)).then_some(lag.message),
        };
        standing
    }

    /// Whether a cutover or a fallback could come next.
    pub(super) fn may_switch(&self) -> bool {
        matches!(
            self.stage,
            Stage::Replicating | Stage::FallenBack | Stage::CutOver
        )
    }

    /// It could not: something stands in the way.
    pub(super) fn obstructed(&mut self, report: &Report) {
        self.obstacle = Some(message_of(report));
        if let (Some(hint), false) = (hint_of(report), self.stage == Stage::CutOver) {
            self.next = format!("{hint}; then {}", self.next);
        }
    }

    /// Differences of the schemas, where something else stands in the way: the first ten.
    pub(super) fn unsaid_drift(&self) -> Vec<String> {
        const SHOWN: usize = 10;
        let Some(found) = self.drift.as_ref().filter(|_| !self.differs) else {
            return Vec::new();
        };
        let (from, to) = match self.direction {
            Direction::Forward => (Side::Publisher, Side::Subscriber),
            Direction::Back => (Side::Subscriber, Side::Publisher),
        };
        let mut words: Vec<String> = found
            .iter()
            .take(SHOWN)
            .map(|it| it.in_words(from, to))
            .collect();
        if found.len() > SHOWN {
            words.push(format!("and {} more", found.len() - SHOWN));
        }
        words
    }

    /// The stage, as a person is told it.
    pub(super) fn in_words(&self) -> &'static str {
        match (self.stage, &self.obstacle) {
            (Stage::Replicating, Some(_)) => "replicating, NOT ready to cut over",
            (Stage::FallenBack, Some(_)) => "fallen back, replicating, NOT ready to cut over again",
            (Stage::CutOver, Some(_)) => "cut over, the way back runs, NOT ready to fall back",
            (stage, _) => stage.in_words(),
        }
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
        match &self.copy {
            Some(UnderWay::Copy(copy)) if copy.at_work => return Stage::Copying,
            Some(UnderWay::Copy(_)) => return Stage::CopyInterrupted,
            Some(UnderWay::Adoption { .. }) => return Stage::Adopting,
            None => {}
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
    pub(super) fn is_stranded(&self) -> bool {
        self.writable == Some(Writable::Subscriber) && self.roles.is_none()
    }

    fn next_command(&self) -> String {
        let (subname, dbname) = (ShellWord(&self.subname), ShellWord(&self.dbname));
        match self.stage {
            Stage::CopyInterrupted | Stage::Adopting => self
                .copy
                .as_ref()
                .map_or(String::new(), |copy| copy.next_command(&self.subname)),
            Stage::Copying if self.copy.is_some() => {
                "flare status, until the copy is done".to_owned()
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> MigrationStatus {
        MigrationStatus {
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
            lag_seconds_at_most: None,
            copy: None,
            message: None,
            obstacle: None,
            sides: Sides::default(),
            drift: None,
            differs: false,
            statements: Vec::new(),
        }
    }

    #[test]
    fn the_stage_is_the_furthest_that_holds() {
        let of = |change: fn(&mut MigrationStatus)| {
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
