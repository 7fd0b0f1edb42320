//! Can every user of both sides log in, is each server the declared one, and does the subscriber reach the publisher?

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

use postgres::error::SqlState;
use serde::Serialize;

use crate::config::{Config, Subscription};
use crate::error::{Failure, Report, Result, hint_of, message_of};
use crate::server::{
    Login, Publisher, Server, Session, Side, conninfo_for_subscriber, params,
    silence_statement_log, sqlstate_of,
};
use crate::value::{Ident, Literal, Secret};

/// How one user's attempt to log in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// The subscriber's own way to the publisher, for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WayBack {
    /// The subscription.
    pub subname: String,
    /// Whether the subscriber reached the publisher, or could not be asked yet.
    pub status: Status,
    /// What went wrong.
    pub message: Option<String>,
}

/// What `verify_connectivity` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connectivity {
    /// The publisher.
    pub publisher: ServerConnectivity,
    /// The subscriber.
    pub subscriber: ServerConnectivity,
    /// The subscriber's way to the publisher, for each subscription of the configuration.
    pub subscriptions: Vec<WayBack>,
}

/// Opens both servers at once and tries every user; nobody but the superuser logs in to a server that has not proven
/// to be the declared one.
pub(crate) fn verify(config: &Config, application_name: &str) -> Result<Connectivity> {
    let open = |side, declared| Server::open(side, declared, application_name);
    std::thread::scope(|scope| {
        // As the configuration has them, whatever a journal says.
        let publisher = || open(Side::Publisher, &config.publisher).map(Publisher::from_journal);
        let publisher = scope.spawn(move || begin(scope, publisher()?));
        let subscriber = open(Side::Subscriber, &config.subscriber).map(Box::new);
        let subscriber = subscriber.and_then(|server| begin(scope, server));
        let (publisher, subscriber) = match (joined(publisher), subscriber) {
            (Err(one), Err(other)) => {
                return Err(one.wrap_err(format!("{}; and", message_of(&other))));
            }
            (publisher, subscriber) => (publisher?, subscriber?),
        };
        let ways = config.subscriptions.iter().map(|(subname, subscription)| {
            let servers = (&*publisher.server, &**subscriber.server);
            way(servers, subname, subscription)
        });
        let ways = ways.collect();
        Ok(Connectivity {
            publisher: publisher.end()?,
            subscriber: subscriber.end()?,
            subscriptions: ways,
        })
    })
}

/// A server that is the declared one, while its users are tried.
struct Begun<'scope, S> {
    server: Arc<S>,
    users: ScopedJoinHandle<'scope, Result<Vec<User>>>,
}

/// Begins to try a server's users; the other server is not waited for.
fn begin<'scope, S>(scope: &'scope Scope<'scope, '_>, server: S) -> Result<Begun<'scope, S>>
where
    S: Deref<Target = Server> + Send + Sync + 'scope,
{
    let server = Arc::new(server);
    let tried = server.clone();
    let users = scope.spawn(move || users_of(&tried));
    Ok(Begun { server, users })
}

impl<S: Deref<Target = Server>> Begun<'_, S> {
    fn end(self) -> Result<ServerConnectivity> {
        let users = joined(self.users)?;
        Ok(connectivity_of(&self.server, users))
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Failure::new("try the users: a thread has ended").err())
}

fn connectivity_of(server: &Server, users: Vec<User>) -> ServerConnectivity {
    ServerConnectivity {
        system_identifier: server.identifier().to_string(),
        host: server.declared().host.clone(),
        port: server.declared().port,
        version: server.facts().version.clone(),
        users,
    }
}

fn users_of(server: &Server) -> Result<Vec<User>> {
    let declared = server.declared();
    let mut accounts = vec![(Login::DbOwner, declared.db_owner.user.clone())];
    accounts.extend(
        declared
            .repl
            .as_ref()
            .map(|repl| (Login::Replication, repl.user.clone())),
    );
    let tried: Vec<(Login, String, Result<Option<String>>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = accounts
            .into_iter()
            .map(|(login, user)| (login, user, scope.spawn(move || log_in(server, login))))
            .collect();
        threads
            .into_iter()
            .map(|(login, user, thread)| {
                let outcome = thread.join();
                (
                    login,
                    user,
                    outcome.unwrap_or_else(|_| Failure::new("its thread has ended").err()),
                )
            })
            .collect()
    });
    let refused = tried.iter().filter(|(.., outcome)| outcome.is_err());
    let refused: Vec<String> = refused.map(|(_, user, _)| user.clone()).collect();
    let missing = match refused.is_empty() {
        true => refused,
        false => missing_roles(server, refused)?,
    };
    let mut users = vec![User {
        login: Login::Superuser,
        user: declared.superuser.user.clone(),
        status: Status::Ok,
        tls: server.facts().tls.clone(),
        message: None,
        hint: None,
    }];
    for (login, user, outcome) in tried {
        let is_missing = missing.contains(&user);
        users.push(user_of(login, user, is_missing, outcome));
    }
    Ok(users)
}

/// Logs in; the TLS version in use.
fn log_in(server: &Server, login: Login) -> Result<Option<String>> {
    Ok(server.introduce(login, "postgres")?.1.tls)
}

fn user_of(login: Login, user: String, missing: bool, outcome: Result<Option<String>>) -> User {
    let (status, tls, error): (Status, Option<String>, Option<Report>) = match outcome {
        Ok(tls) => (Status::Ok, tls, None),
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

/// In a session of its own: the first one may be in the middle of trying a subscription.
fn missing_roles(server: &Server, names: Vec<String>) -> Result<Vec<String>> {
    server.connect(Login::Superuser, "postgres")?.value(
        "SELECT array(SELECT name FROM unnest($1) name
          WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name))",
        params![names],
    )
}

/// Tries the subscription's own connection in a transaction that is rolled back, so that nothing is left.
fn way(servers: (&Publisher, &Server), subname: &str, subscription: &Subscription) -> WayBack {
    let (status, message) = match try_way(servers, subname, &subscription.dbname) {
        Ok(status) => (status, None),
        Err(report) => (Status::Failed, Some(message_of(&report))),
    };
    WayBack {
        subname: subname.to_owned(),
        status,
        message,
    }
}

fn try_way(
    (publisher, subscriber): (&Publisher, &Server),
    subname: &str,
    dbname: &str,
) -> Result<Status> {
    if !has_database(publisher, dbname)? {
        return Ok(Status::Missing);
    }
    let login = match publisher.declared().repl {
        Some(_) => Login::Replication,
        None => Login::Superuser,
    };
    // grant_replication lets it in.
    if login == Login::Replication && !may_connect(publisher, login, dbname)? {
        return Ok(Status::Missing);
    }
    let conninfo = conninfo_for_subscriber(publisher, login, dbname)?;
    // Any database will do for trying, but only a superuser has CREATE in every one.
    let own;
    let session = match !subscriber.facts().superuser && has_database(subscriber, dbname)? {
        true => {
            own = subscriber.connect(Login::Superuser, dbname)?;
            &own
        }
        false => subscriber.admin(),
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
    session.batch("BEGIN")?;
    let tried = silence_statement_log(session)
        .and_then(|()| quieten(session, subscriber))
        .and_then(|()| session.batch_secret(Secret::new(statement)));
    session.batch("ROLLBACK")?;
    match tried {
        Ok(()) => Ok(Status::Ok),
        // The roles are not replicated yet, or this version lets only a superuser do it: nothing was learnt.
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            log::info!("try the subscriber's way to the publisher: {report:#}");
            Ok(Status::Missing)
        }
        Err(report) => Err(report),
    }
}

/// Keeps the warning that there is no such publication (15+) out of the server's log, where the role may.
fn quieten(session: &Session, subscriber: &Server) -> Result<()> {
    match subscriber.facts().superuser {
        true => session.batch("SET LOCAL log_min_messages = error"),
        false => Ok(()),
    }
}

/// A role that does not exist is tried all the same: the server has the words for it.
fn may_connect(server: &Server, login: Login, dbname: &str) -> Result<bool> {
    server.admin().value(
        "SELECT coalesce((SELECT has_database_privilege(r.oid, d.oid, 'CONNECT')
                            FROM pg_roles r, pg_database d WHERE r.rolname = $1 AND d.datname = $2), true)",
        params![server.credentials(login)?.user(), dbname],
    )
}

fn has_database(server: &Server, dbname: &str) -> Result<bool> {
    server.admin().value(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
        params![dbname],
    )
}

impl Connectivity {
    /// The failure when a user could not log in, or the subscriber does not reach the publisher.
    pub fn verdict(&self) -> Option<Failure> {
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
        let failure = Failure::new(message);
        Some(match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        })
    }
}

impl fmt::Display for Connectivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The system identifier for the publisher and the subscriber is OK!"
        )?;
        for (name, side) in [
            ("Publisher", &self.publisher),
            ("Subscriber", &self.subscriber),
        ] {
            writeln!(f, "{name}: {}", side.system_identifier)?;
            writeln!(
                f,
                "  {}:{} runs PostgreSQL {}",
                side.host, side.port, side.version
            )?;
            for user in &side.users {
                let status = match user.status {
                    Status::Ok => "ok",
                    Status::Missing => {
                        "missing (replicate_roles creates roles of the publisher on the subscriber)"
                    }
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
