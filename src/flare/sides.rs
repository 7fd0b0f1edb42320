//! What each server says about a migration's database, and who may write there.

use postgres::error::SqlState;
use serde::Serialize;

use crate::catalog::publications;
use crate::catalog::side::{self, Replicated, SideFacts, SideState};
use crate::config::Subscription;
use crate::error::Result;
use crate::journal::Direction;
use crate::replicate::closed;
use crate::server::{Publisher, Server, Session, Subscriber, params, sqlstate_of};

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

impl Sides {
    /// What both servers say, and what of it does not fit the direction; `follows` is whether the other side subscribes.
    pub(super) fn of(
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
                    "the {side} is NOT closed, what is written there is lost: {} (flare status --repair closes it)",
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

/// What the publisher says about a database.
pub(super) struct OnPublisher {
    pub(super) publication: bool,
    /// Neither the owner nor PUBLIC may connect, as a cutover leaves it.
    pub(super) left: bool,
    pub(super) side: SideFacts,
}

/// What the subscriber says about it.
pub(super) struct OnSubscriber {
    pub(super) roles: bool,
    pub(super) schema: bool,
    /// None where there is no database.
    pub(super) side: Option<SideFacts>,
}

/// Asks the publisher.
pub(super) fn on_publisher(
    publisher: &Publisher,
    subscription: &Subscription,
) -> Result<OnPublisher> {
    let dbname = &subscription.dbname;
    let session = publisher.visit(dbname)?;
    let pubname = subscription.pubname.as_str();
    let side = side_of(
        (publisher, &session),
        dbname,
        Replicated::Published(pubname),
    )?;
    let publication = side.replicated > 0 || publications::find(&session, pubname)?.is_some();
    Ok(OnPublisher {
        publication,
        left: !side.connectable,
        side,
    })
}

/// Who may write there. The role that flare itself has exempt from the default is no surprise.
pub(super) fn side_of(
    (server, session): (&Server, &Session),
    dbname: &str,
    replicated: Replicated<'_>,
) -> Result<SideFacts> {
    let owner = &server.declared().db_owner.user;
    let mut facts = side::facts(session, replicated, owner)?;
    let closed = closed::on_record(facts.record.as_deref(), dbname)?;
    let exempt = closed.map(|it| it.exempt).unwrap_or_default();
    facts
        .overriding
        .retain(|role| !exempt.iter().any(|it| it.role == *role));
    Ok(facts)
}

/// Asks the subscriber.
pub(super) fn on_subscriber(
    subscriber: &Subscriber,
    subscription: &Subscription,
) -> Result<OnSubscriber> {
    let dbname = &subscription.dbname;
    let session = match subscriber.visit(dbname) {
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INVALID_CATALOG_NAME) => {
            return Ok(OnSubscriber {
                roles: subscriber.admin().value(
                    "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
                    params![subscriber.declared().db_owner.user.as_str()],
                )?,
                schema: false,
                side: None,
            });
        }
        session => session?,
    };
    let side = side_of((subscriber, &session), dbname, Replicated::Any)?;
    let schema = side.replicated > 0 || session.value(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND n.nspname !~ '^pg_'
                               AND n.nspname <> 'information_schema' AND c.relname <> 'flare_replication_status')",
        params![],
    )?;
    Ok(OnSubscriber {
        roles: side.has_owner,
        schema,
        side: Some(side),
    })
}
