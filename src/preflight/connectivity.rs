//! Can every user of both sides log in, is each server the declared one, and does the subscriber reach the publisher?

use std::fmt;
use std::ops::Deref;
use std::thread::{Scope, ScopedJoinHandle};

use serde::Serialize;

use super::way::{self, Way};
use crate::config::{Account, Config};
use crate::error::{Error, Failure, Report, Result, hint_of, message_of};
use crate::server::{Facts, Login, Server, login_rejected, open_both, params, sqlstate_of};
use crate::value::HostPort;

/// How one user's attempt to log in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It logged in, and the server is the declared one.
    Ok,
    /// There is no such role yet; replicate_roles will create it.
    Missing,
    /// It could not log in.
    Failed,
}

/// One user of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct User {
    /// Which of the configuration's accounts.
    pub login: Login,
    /// The role.
    pub user: String,
    /// How it ended.
    pub status: Status,
    /// The TLS version in use, null in clear.
    pub tls: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One server with its users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerConnectivity {
    /// `system_identifier`, as text.
    pub system_identifier: String,
    /// The server's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `server_version`.
    pub version: String,
    /// Its users.
    pub users: Vec<User>,
}

/// What `verify_connectivity` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connectivity {
    /// The publisher.
    pub publisher: ServerConnectivity,
    /// The subscriber.
    pub subscriber: ServerConnectivity,
    /// The subscriber's way to the publisher, for each subscription of the configuration.
    pub subscriptions: Vec<Way>,
}

/// Opens both servers at once; then tries every other user of both and the subscriber's way to the publisher, at once too.
/// Nobody but the superusers logs in to a server that has not proven to be the declared one.
pub(crate) fn verify(config: &Config, application_name: &str) -> Result<Connectivity> {
    std::thread::scope(|scope| {
        let opened = open_both(config, application_name);
        let (publisher, subscriber) = match (opened.publisher, opened.subscriber) {
            (Err(one), Err(other)) => {
                return Err(one.wrap_err(format!("{}; and", message_of(&other))));
            }
            (publisher, subscriber) => (publisher?, subscriber?),
        };
        let dbnames: Vec<String> = config.publications.keys().cloned().collect();
        let on_publisher = attempts(scope, &publisher, &dbnames);
        let on_subscriber = attempts(scope, &subscriber, &dbnames);
        let ways = config.subscriptions.iter();
        let ways = ways.map(|(name, it)| way::attempt(&publisher, &subscriber, name, it));
        // While the users log in.
        let subscriptions = ways.collect();
        Ok(Connectivity {
            publisher: connectivity_of(&publisher, on_publisher)?,
            subscriber: connectivity_of(&subscriber, on_subscriber)?,
            subscriptions,
        })
    })
}

/// One user that logs in on a thread of its own.
struct Attempt<'scope> {
    login: Login,
    user: String,
    greeted: ScopedJoinHandle<'scope, Result<Facts>>,
}

/// Logs in to `postgres`, or where that is refused to one of the databases that move: the replication user need not be
/// let in to any other.
fn greet(server: &Server, login: Login, dbnames: &[String]) -> Result<Facts> {
    let refused = match server.introduce(login, "postgres") {
        Ok((_, facts)) => return Ok(facts),
        Err(report) => report,
    };
    if login == Login::Replication && sqlstate_of(&refused).is_some() {
        let mut greeted = dbnames.iter().map(|it| server.introduce(login, it));
        if let Some(Ok((_, facts))) = greeted.find(Result::is_ok) {
            return Ok(facts);
        }
    }
    Err(refused)
}

/// Begins to try the users of a server that are not its superuser.
fn attempts<'scope, S>(
    scope: &'scope Scope<'scope, '_>,
    server: &S,
    dbnames: &[String],
) -> Vec<Attempt<'scope>>
where
    S: Deref<Target = Server> + Clone + Send + 'scope,
{
    let attempt = |login, account: &Account| {
        let (server, dbnames) = (server.clone(), dbnames.to_vec());
        Attempt {
            login,
            user: account.user.clone(),
            greeted: scope.spawn(move || greet(&server, login, &dbnames)),
        }
    };
    let declared = server.declared();
    let repl = declared.repl.as_ref();
    let repl = repl.map(|account| attempt(Login::Replication, account));
    let db_owner = attempt(Login::DbOwner, &declared.db_owner);
    std::iter::once(db_owner).chain(repl).collect()
}

fn connectivity_of(server: &Server, attempts: Vec<Attempt<'_>>) -> Result<ServerConnectivity> {
    Ok(ServerConnectivity {
        system_identifier: server.identifier().to_string(),
        host: server.declared().host.clone(),
        port: server.declared().port,
        version: server.facts().version.clone(),
        users: users_of(server, attempts)?,
    })
}

fn users_of(server: &Server, attempts: Vec<Attempt<'_>>) -> Result<Vec<User>> {
    let ended = attempts.into_iter().map(|attempt| {
        let outcome = attempt.greeted.join();
        let outcome = outcome.unwrap_or_else(|_| Failure::new("its thread has ended").err());
        (attempt.login, attempt.user, outcome)
    });
    let mut ended: Vec<(Login, String, Result<Facts>)> = ended.collect();
    let refused = ended.iter().filter(|(.., outcome)| outcome.is_err());
    let refused: Vec<String> = refused.map(|(_, user, _)| user.clone()).collect();
    let missing = if refused.is_empty() {
        refused
    } else {
        missing_roles(server, refused)?
    };
    // Another flare may have made the role since it was refused.
    for (login, user, outcome) in &mut ended {
        let rejected = outcome.as_ref().is_err_and(login_rejected);
        if rejected && !missing.contains(user) {
            *outcome = server.introduce(*login, "postgres").map(|(_, facts)| facts);
        }
    }
    let mut users = vec![User {
        login: Login::Superuser,
        user: server.declared().superuser.user.clone(),
        status: Status::Ok,
        tls: server.facts().tls.clone(),
        message: None,
        hint: None,
    }];
    for (login, user, outcome) in ended {
        let is_missing = missing.contains(&user);
        users.push(user_of(login, user, is_missing, outcome));
    }
    Ok(users)
}

fn user_of(login: Login, user: String, missing: bool, outcome: Result<Facts>) -> User {
    let (status, tls, error): (Status, Option<String>, Option<Report>) = match outcome {
        Ok(facts) => (Status::Ok, facts.tls, None),
        Err(_) if missing => (Status::Missing, None, None),
        Err(report) => (Status::Failed, None, Some(report)),
    };
    User {
        login,
        user,
        status,
        tls,
        message: error.as_ref().map(message_of),
        hint: error.as_ref().and_then(hint_of).map(str::to_owned),
    }
}

fn missing_roles(server: &Server, names: Vec<String>) -> Result<Vec<String>> {
    server.admin().value(
        "SELECT array(SELECT name FROM unnest($1) name
          WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name))",
        params![names],
    )
}

impl Connectivity {
    /// The failure when a user could not log in, or the subscriber does not reach the publisher.
    pub fn verdict(&self) -> Option<Error> {
        let sides = [&self.publisher, &self.subscriber];
        let users = sides.into_iter().flat_map(|side| &side.users);
        let failed_users = users.filter(|user| user.status == Status::Failed);
        let mut failed =
            failed_users.filter_map(|user| user.message.clone().map(|m| (m, user.hint.clone())));
        let ways = self.subscriptions.iter().filter_map(|way| {
            let message = way.message.as_ref()?;
            Some((
                format!("reach the publisher from the subscriber, for subscription {:?}: {message}", way.subname),
                Some("correct host_via_subscriber, port_via_subscriber and repl_user in hosts.publisher.conn, the publisher's pg_hba.conf, and the firewall between the servers".to_owned()),
            ))
        });
        let (message, hint) = failed.next().or_else(|| ways.into_iter().next())?;
        Some(Error::from(Failure::new(message)).with_hint(hint))
    }
}

impl fmt::Display for Connectivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The system identifier for the publisher and the subscriber is OK!"
        )?;
        for (name, side, there_is_no_such) in [
            ("Publisher", &self.publisher, "missing (create it there)"),
            (
                "Subscriber",
                &self.subscriber,
                "missing (replicate_roles brings the publisher's roles)",
            ),
        ] {
            writeln!(f, "{name}: {}", side.system_identifier)?;
            writeln!(
                f,
                "  {} runs PostgreSQL {}",
                HostPort(&side.host, side.port),
                side.version
            )?;
            for user in &side.users {
                let status = match user.status {
                    Status::Ok => "ok",
                    Status::Missing => there_is_no_such,
                    Status::Failed => "FAILED",
                };
                let tls = user
                    .tls
                    .as_deref()
                    .map(|tls| format!(", {tls}"))
                    .unwrap_or_default();
                writeln!(f, "  {:?}: {status}{tls}", user.user)?;
                if let Some(message) = &user.message {
                    writeln!(f, "    {message}")?;
                }
            }
        }
        for way in &self.subscriptions {
            match (way.status, &way.message) {
                (Status::Ok, _) => writeln!(
                    f,
                    "Subscription {:?}: the subscriber reaches the publisher",
                    way.subname
                )?,
                (Status::Missing, _) => writeln!(
                    f,
                    "Subscription {:?}: not tried, its roles, databases or CONNECT privilege (grant_replication) do not exist yet",
                    way.subname
                )?,
                (Status::Failed, message) => writeln!(
                    f,
                    "Subscription {:?}: the subscriber does NOT reach the publisher: {}",
                    way.subname,
                    message.as_deref().unwrap_or_default()
                )?,
            }
        }
        Ok(())
    }
}
