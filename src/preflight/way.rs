//! Does the subscriber reach the publisher?

use postgres::error::SqlState;
use serde::Serialize;

use super::connectivity::Status;
use crate::config::Subscription;
use crate::error::{Advise, Report, Result, message_of};
use crate::server::{
    Login, Publisher, Server, Session, Subscriber, conninfo_for_subscriber, params, silencing,
    sqlstate_of,
};
use crate::value::{Ident, Literal, Secret};

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
    let (status, message) = match reach(publisher, subscriber, subname, &declared.dbname) {
        Ok(Reached::Yes) => (Status::Ok, None),
        // The roles are not replicated yet, or this version lets only a superuser do it: nothing was learnt.
        Ok(Reached::NotYet | Reached::Denied(_)) => (Status::Missing, None),
        Err(report) => (Status::Failed, Some(message_of(&report))),
    };
    Way {
        subname: subname.to_owned(),
        status,
        message,
    }
}

/// Tries it for the way back, before anything is built: `publisher` and `subscriber` have each other's parts then.
pub(crate) fn clear(
    publisher: &Publisher,
    subscriber: &Subscriber,
    subname: &str,
    dbname: &str,
) -> Result<()> {
    match reach(publisher, subscriber, subname, dbname)? {
        // From 16 on the database's owner may be let, where the administrator is not.
        Reached::Denied(report) if subscriber.major() < 16 => {
            let user = &subscriber.declared().superuser.user;
            let side = subscriber.side();
            Err(report).hint(|| {
                format!(
                    "{user:?} may not create subscriptions on the {side}: ALTER ROLE {} SUPERUSER; on Amazon RDS log in as the master user or GRANT rds_superuser TO it; or go without a way back (--no-reverse)",
                    Ident::new(user)
                )
            })
        }
        _ => Ok(()),
    }
}

/// What came of trying.
enum Reached {
    Yes,
    /// What it needs is not there yet.
    NotYet,
    /// The role may create no subscription.
    Denied(Report),
}

fn reach(
    publisher: &Publisher,
    subscriber: &Subscriber,
    subname: &str,
    dbname: &str,
) -> Result<Reached> {
    let login = match publisher.declared().repl {
        Some(_) => Login::Replication,
        None => Login::Superuser,
    };
    if !lets_in(publisher, login, dbname)? {
        return Ok(Reached::NotYet);
    }
    let conninfo = conninfo_for_subscriber(publisher, subscriber, login, dbname)?;
    // Any database will do for trying, but only a superuser has CREATE in every one.
    let own;
    let session = if !subscriber.facts().superuser && has_database(subscriber, dbname)? {
        own = subscriber.connect(Login::Superuser, dbname)?;
        &own
    } else {
        subscriber.admin()
    };
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
    session.batch(&format!("BEGIN;\n{silencing}{quiet}"))
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
