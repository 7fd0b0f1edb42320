//! Does the subscriber reach the publisher?

use postgres::error::SqlState;
use serde::Serialize;

use super::connectivity::Status;
use crate::config::Subscription;
use crate::error::{Failure, Report, Result, message_of};
use crate::server::{
    ActAs, Login, Publisher, Server, Session, Subscriber, conninfo_for_subscriber, params,
    silencing, sqlstate_of,
};
use crate::value::{HostPort, Ident, Literal, Secret};

/// The subscriber's own way to the publisher, for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Way {
    /// The subscription.
    pub subname: String,
    /// Whether the subscriber reached the publisher, or could not be asked yet.
    pub status: Status,
    /// What went wrong.
    pub message: Option<String>,
}

/// Tries a subscription's own connection in a transaction that is rolled back, so that nothing is left.
pub(super) fn attempt(
    publisher: &Publisher,
    subscriber: &Subscriber,
    subname: &str,
    declared: &Subscription,
) -> Way {
    let (status, message) = match look(publisher, subscriber, subname, &declared.dbname) {
        Ok(Some(Reached::Yes)) => (Status::Ok, None),
        // The roles are not replicated yet, or this version lets only a superuser do it: nothing was learnt.
        Ok(None | Some(Reached::Denied(_))) => (Status::Missing, None),
        Err(report) => (Status::Failed, Some(message_of(&report))),
    };
    Way {
        subname: subname.to_owned(),
        status,
        message,
    }
}

/// None where what it needs is not there yet.
fn look(
    publisher: &Publisher,
    subscriber: &Subscriber,
    subname: &str,
    dbname: &str,
) -> Result<Option<Reached>> {
    if !lets_in(publisher, login_of(publisher), dbname)? {
        return Ok(None);
    }
    // Any database will do for trying, but only a superuser has CREATE in every one.
    let own;
    let session = if !subscriber.facts().superuser && has_database(subscriber, dbname)? {
        own = subscriber.connect(Login::Superuser, dbname)?;
        &own
    } else {
        subscriber.admin()
    };
    reach(publisher, subscriber, session, subname, dbname).map(Some)
}

/// Who creates a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creating {
    pub(crate) login: Login,
    /// Whether it is granted something for that first: being denied means nothing then.
    pub(crate) is_granted: bool,
}

/// Tries it for the way back, before anything is built: `publisher` and `subscriber` have each other's parts then. Denied is
/// who is to create it; the hint is the caller's.
pub(crate) fn clear(
    publisher: &Publisher,
    subscriber: &Subscriber,
    creating: Creating,
    subname: &str,
    dbname: &str,
) -> Result<()> {
    if !lets_in(publisher, login_of(publisher), dbname)? {
        return Ok(());
    }
    let session = subscriber.connect(ActAs::EvenShutOut(creating.login), dbname)?;
    match reach(publisher, subscriber, &session, subname, dbname)? {
        Reached::Denied(report) if !creating.is_granted => Err(report),
        _ => Ok(()),
    }
}

/// What came of trying.
enum Reached {
    Yes,
    /// The role may create no subscription.
    Denied(Report),
}

fn login_of(publisher: &Publisher) -> Login {
    match publisher.declared().repl {
        Some(_) => Login::Replication,
        None => Login::Superuser,
    }
}

/// How long the other server may take to answer the one that connects to it, which itself would wait for ever.
const ANSWERS_WITHIN: &str = "10s";

fn reach(
    publisher: &Publisher,
    subscriber: &Subscriber,
    session: &Session,
    subname: &str,
    dbname: &str,
) -> Result<Reached> {
    let conninfo = conninfo_for_subscriber(publisher, subscriber, login_of(publisher), dbname)?;
    // A publication that is not there has no tables, and so none is missed in this database.
    let statement = format!(
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (create_slot = false, enabled = false, copy_data = false)",
        Ident::new(format!(
            "{}_flare_try",
            subname.chars().take(40).collect::<String>()
        )),
        Literal(conninfo.reveal().reveal()),
        Ident::from("flare_try")
    );
    let tried = begin_quietly(session, subscriber)
        .and_then(|()| session.batch_secret(Secret::new(statement)));
    session.batch("ROLLBACK")?;
    match tried {
        Ok(()) => Ok(Reached::Yes),
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            log::info!("try the subscriber's way to the publisher: {report:#}");
            Ok(Reached::Denied(report))
        }
        Err(report) if sqlstate_of(&report) == Some(&SqlState::QUERY_CANCELED) => {
            let via = &publisher.declared().via;
            Failure::no(format!(
                "{} has not answered the {} within {ANSWERS_WITHIN}",
                HostPort(&via.host, via.port),
                subscriber.side()
            ))
            .err()
        }
        Err(report) => Err(report),
    }
}

/// Begins a transaction that keeps two things out of the server's log, where the role may: the statement with the
/// password, and the warning that there is no such publication (15+).
fn begin_quietly(session: &Session, subscriber: &Server) -> Result<()> {
    let silencing = silencing(session, subscriber.major())?;
    let quiet = if subscriber.facts().superuser {
        "SET LOCAL log_min_messages = error"
    } else {
        ""
    };
    session.batch(&format!(
        "BEGIN;\n{silencing}{quiet};\nSET LOCAL statement_timeout = '{ANSWERS_WITHIN}'"
    ))
}

/// Whether the database is there and lets the account in, which grant_replication sees to. A role that does not exist
/// is tried all the same: the server has the words for it.
fn lets_in(publisher: &Publisher, login: Login, dbname: &str) -> Result<bool> {
    publisher.admin().value(
        "SELECT coalesce((SELECT coalesce(has_database_privilege(to_regrole(quote_ident($1))::oid, oid, 'CONNECT'), true)
                            FROM pg_database WHERE datname = $2), false)",
        params![publisher.credentials(login)?.user(), dbname],
    )
}

fn has_database(server: &Server, dbname: &str) -> Result<bool> {
    server.admin().value(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
        params![dbname],
    )
}
