//! Where a subscription's migration stands, and what to type next: decided by what servers, journals and the stream say.

use serde::Serialize;

use super::sides::{OnPublisher, OnSubscriber, Sides};
use super::stage::Stage;
use crate::catalog::side::SideState;
use crate::copy::UnderWay;
use crate::cutover::{Writable, written_before};
use crate::ddl::StuckStatement;
use crate::error::{Report, hint_of, message_of};
use crate::journal::{Direction, Entry, Purpose};
use crate::observe::{SubscriptionLag, Tables};
use crate::schema::drift::Drift;
use crate::server::Side;

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
    /// A run has passed the point of no return and is not closed.
    #[serde(skip)]
    pub(super) finishing: bool,
    /// A flare waits for the copy of the subscription's tables.
    #[serde(skip)]
    pub(super) awaited: bool,
    /// The subscriber was left for dead.
    #[serde(skip)]
    pub(super) abandoned: bool,
    /// The pause is a step of a cutover or fallback, not pause_write's.
    #[serde(skip)]
    pub(super) switching: bool,
    /// The side that does not answer, though a run past its point of no return has yet to open it.
    #[serde(skip)]
    pub(super) unopened: Option<Side>,
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

/// What the other side lacks of the carried statements: those with a reason, and the first of those that wait.
pub(super) fn statements_in_words(statements: &[StuckStatement], dbname: &str) -> Vec<String> {
    const SHOWN: usize = 3;
    let (failing, waiting): (Vec<_>, Vec<_>) = statements.iter().partition(|it| it.error.is_some());
    let shown = failing.iter().chain(waiting.iter().take(SHOWN));
    let mut words: Vec<String> = shown.map(|it| it.in_words(dbname)).collect();
    if waiting.len() > SHOWN {
        words.push(format!(
            "and {} more that have not come to the other side yet",
            waiting.len() - SHOWN
        ));
    }
    words
}

/// What the journals say about it.
pub(super) struct OnRecord {
    /// A run has passed the point of no return and is not closed.
    pub(super) finishing: bool,
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
                // A later migration has left it.
                (None, _) if cleaned_up && sides.subscriber == Some(SideState::Shut) => {
                    Some(Writable::None)
                }
                (None, _) if cleaned_up => Some(Writable::Subscriber),
                (None, direction) => record.known.then(|| written_before(direction)),
            },
            direction: record.direction,
            switched: record.switched,
            reverse: record.reverse,
            abandoned: record.abandoned,
            cleaned_up,
            finishing: record.finishing,
            switching: pause.is_some_and(|it| it.purpose == Purpose::Switch),
            unopened: pause.filter(|it| it.step.is_past_return()).and_then(|it| {
                match it.direction {
                    Direction::Forward => subscriber.is_none().then_some(Side::Subscriber),
                    Direction::Back => publisher.is_none().then_some(Side::Publisher),
                }
            }),
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
            awaited: true,
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

    /// Nobody waits for the copy: what comes after it, nobody does.
    pub(super) fn left_alone(&mut self) {
        self.awaited = false;
        self.next = self.next_command();
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
        let (mut words, hint) = (message_of(report), hint_of(report));
        match hint {
            // A clean-up needs none of it.
            Some(hint) if self.stage == Stage::CutOver => words = format!("{words} ({hint})"),
            Some(hint) => self.next = format!("{hint}; then {}", self.next),
            None => {}
        }
        self.obstacle = Some(words);
    }

    /// Differences of the schemas, where something else stands in the way: the first ten, each with the statement that mends
    /// it on the side that follows.
    pub(super) fn unsaid_drift(&self) -> Vec<String> {
        const SHOWN: usize = 10;
        let Some(found) = self.drift.as_ref().filter(|_| !self.differs) else {
            return Vec::new();
        };
        let (from, to) = self.direction.sides();
        // What a carried statement is yet to make would be in its way.
        let on_the_way = self.statements.iter().any(|it| it.stops);
        let mut words: Vec<String> = found
            .iter()
            .take(SHOWN)
            .map(|it| {
                let statement = it.statement.as_ref().filter(|_| !on_the_way);
                let statement = statement.map(|sql| {
                    let sql = sql.replace('\n', "\n        ");
                    format!("\n        on the {to}: {sql};")
                });
                it.in_words(from, to) + &statement.unwrap_or_default()
            })
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

    /// The application was moved to a server that does not answer.
    pub(super) fn is_stranded(&self) -> bool {
        self.writable == Some(Writable::Subscriber) && self.roles.is_none()
    }
}
