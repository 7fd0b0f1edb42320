//! Servers that have proven to be the declared ones. Publisher and subscriber are roles, made once per run.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use postgres::error::SqlState;
use serde::Serialize;

use super::address::addresses_of;
use super::connect::Target;
use super::credentials::Credentials;
use super::session::{SHORT, Session};
use super::{Endpoint, is_denied, params, sqlstate_of};
use crate::config::{Config, Host};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::value::Ident;

/// The versions flare knows (`server_version_num` / 10000).
const KNOWN_MAJORS: std::ops::RangeInclusive<i32> = 10..=18;

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where the data comes from.
    Publisher,
    /// Where the data goes.
    Subscriber,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Publisher => "publisher",
            Side::Subscriber => "subscriber",
        })
    }
}

/// Which of a host's accounts logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// `superuser`: an administrator, on RDS the master user.
    Superuser,
    /// `db_owner`.
    DbOwner,
    /// `repl_user`.
    Replication,
}

impl Login {
    /// The database's owner when a flag says so, else the superuser.
    pub(crate) fn owner_if(owner: bool) -> Login {
        match owner {
            true => Login::DbOwner,
            false => Login::Superuser,
        }
    }
}

/// What a server says of itself when a session opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `server_version_num`, such as 150018.
    pub(crate) version_num: i32,
    /// `server_version`, as people write it.
    pub(crate) version: String,
    /// Whether the role of this session is a superuser.
    pub(crate) superuser: bool,
    pub(crate) in_recovery: bool,
    /// The TLS version in use, none in clear.
    pub(crate) tls: Option<String>,
    /// This session's process.
    pub(crate) pid: i32,
    /// When that process started, as text: with the pid it names the session for good.
    pub(crate) backend_start: String,
}

/// Identity and version, and the settings that only some versions have, in one round trip. The function behind
/// pg_stat_activity and pg_stat_ssl: the views cost a new session more than all the rest.
const INTRODUCE: &str = "
    SELECT (SELECT system_identifier::text FROM pg_control_system()),
           current_setting('server_version_num')::int,
           current_setting('server_version'),
           current_setting('is_superuser') = 'on',
           pg_is_in_recovery(),
           sslversion,
           pid,
           backend_start::text,
           CASE WHEN current_setting('idle_session_timeout', true) IS NOT NULL
                THEN set_config('idle_session_timeout', '0', false) END,
           CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
                THEN set_config('transaction_timeout', '0', false) END
      FROM pg_stat_get_activity(pg_backend_pid())";

/// A server that is the declared one. Every session it opens proves that again before it does anything else.
pub(crate) struct Server {
    side: Side,
    identifier: u64,
    target: Target,
    declared: Host,
    superuser: Credentials,
    db_owner: Credentials,
    repl: Option<Credentials>,
    facts: Facts,
    admin: Session,
}

impl Server {
    /// Looks the host up, connects to its `postgres` database and checks its identity.
    pub(crate) fn open(side: Side, declared: &Host, application_name: &str) -> Result<Server> {
        let superuser = Credentials::of(&declared.superuser);
        let (target, admin, facts) =
            reach(side, declared, &superuser, "postgres", application_name)?;
        Ok(Server {
            side,
            identifier: declared.system_identifier,
            target,
            declared: declared.clone(),
            superuser,
            db_owner: Credentials::of(&declared.db_owner),
            repl: declared.repl.as_ref().map(Credentials::of),
            facts,
            admin,
        })
    }

    /// One session in one database, which checks the identity itself: for whoever looks often or in haste.
    pub(crate) fn look_in(
        side: Side,
        declared: &Host,
        dbname: &str,
        application_name: &str,
    ) -> Result<(Session, Facts)> {
        let superuser = Credentials::of(&declared.superuser);
        match reach(side, declared, &superuser, dbname, application_name) {
            Ok((_, session, facts)) => Ok((session, facts)),
            // A server without that database has not said yet who it is.
            Err(report) if sqlstate_of(&report) == Some(&SqlState::INVALID_CATALOG_NAME) => {
                Server::open(side, declared, application_name).and(Err(report))
            }
            Err(report) => Err(report),
        }
    }

    /// The session in `postgres` that proved the server.
    pub(crate) fn admin(&self) -> &Session {
        &self.admin
    }

    /// A session of one of the declared accounts in a database.
    pub(crate) fn connect(&self, login: Login, dbname: &str) -> Result<Session> {
        Ok(self.introduce(login, dbname)?.0)
    }

    /// A session of who may lock, write and change the database's tables: the administrator where it is a superuser, else
    /// the owner, also through a door that flare has shut, which the owner can open for itself for a moment.
    pub(crate) fn enter(&self, dbname: &str) -> Result<Session> {
        let login = Login::owner_if(!self.facts.superuser);
        match self.connect(login, dbname) {
            Err(report) if login == Login::DbOwner && is_denied(&report) => {
                let owner = Ident::new(&self.declared.db_owner.user);
                let database = Ident::from(dbname);
                let door = self.connect(login, "postgres")?;
                door.batch(&format!("GRANT CONNECT ON DATABASE {database} TO {owner}"))?;
                let entered = self.connect(login, dbname);
                door.batch(&format!(
                    "REVOKE CONNECT ON DATABASE {database} FROM {owner}"
                ))?;
                entered
            }
            entered => entered,
        }
    }

    /// A session that acts as the database's owner, also through a door that flare has shut.
    pub(crate) fn enter_as_owner(&self, dbname: &str) -> Result<Session> {
        match self.connect(Login::DbOwner, dbname) {
            Err(report) if is_denied(&report) => {
                let session = self.enter(dbname)?;
                let owner = Ident::new(&self.declared.db_owner.user);
                session.batch(&format!("SET ROLE {owner}"))?;
                Ok(session)
            }
            entered => entered,
        }
    }

    /// The same as [`Server::connect`], with what the server says of it.
    pub(crate) fn introduce(&self, login: Login, dbname: &str) -> Result<(Session, Facts)> {
        let credentials = self.credentials(login)?;
        let target = self.target.with(credentials.user(), dbname);
        open_verified(&target, credentials, self.side, self.identifier)
    }

    /// Whether the server still answers a new connection.
    pub(crate) fn sign_of_life(&self) -> Result<()> {
        self.target.answers(&self.superuser.password()?)
    }

    /// A standby has its primary's identifier, and takes no writes.
    pub(crate) fn refuse_standby(&self) -> Result<()> {
        match self.facts.in_recovery {
            false => Ok(()),
            true => Failure::new(format!(
                "use the {}: it is a standby (in recovery) and takes no writes",
                self.target.endpoint
            ))
            .hint(format!(
                "give hosts.{}.conn the address of its primary",
                self.side
            ))
            .err(),
        }
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn identifier(&self) -> u64 {
        self.identifier
    }

    /// What the server said when it was opened.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The major version: 10 to 18.
    pub(crate) fn major(&self) -> i32 {
        self.facts.version_num / 10_000
    }

    /// The host as the configuration declares it.
    pub(crate) fn declared(&self) -> &Host {
        &self.declared
    }

    /// The address, port, TLS and timeout of the session that was verified: where other programs are sent.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The account of a login; an error for a `repl_user` that is not configured.
    pub(crate) fn credentials(&self, login: Login) -> Result<&Credentials> {
        match login {
            Login::Superuser => Ok(&self.superuser),
            Login::DbOwner => Ok(&self.db_owner),
            Login::Replication => self.repl.as_ref().ok_or_else(|| {
                Failure::usage(format!(
                    "use the replication user of the {}: it is not configured",
                    self.side
                ))
                .hint(format!(
                    "set hosts.{}.conn.repl_user and repl_user_password",
                    self.side
                ))
                .into()
            }),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.target.endpoint)
    }
}

/// The first address that answers as the declared server.
fn reach(
    side: Side,
    declared: &Host,
    credentials: &Credentials,
    dbname: &str,
    application_name: &str,
) -> Result<(Target, Session, Facts)> {
    let mut failures = Vec::new();
    for address in addresses_of(side, declared)? {
        let target = Target {
            endpoint: Endpoint {
                side: side.to_string(),
                host: declared.host.clone(),
                port: declared.port,
                dbname: dbname.to_owned(),
                user: credentials.user().to_owned(),
            },
            address,
            tls: declared.tls.clone(),
            timeout: declared.connect_timeout,
            application_name: application_name.to_owned(),
        };
        match open_verified(&target, credentials, side, declared.system_identifier) {
            Ok((session, facts)) => return Ok((target, session, facts)),
            Err(report) => failures.push(report),
        }
    }
    // A stranger at one address is worse than no answer at another: no command goes on without this server then.
    let told = failures.iter().position(is_stranger).unwrap_or(0);
    Err(failures.swap_remove(told))
}

fn open_verified(
    target: &Target,
    credentials: &Credentials,
    side: Side,
    identifier: u64,
) -> Result<(Session, Facts)> {
    let (client, tls) = target.connect(credentials)?;
    let again = Arc::new((target.clone(), credentials.password()?));
    let sign_of_life = move || {
        let (target, password) = &*again;
        target.answers(password)
    };
    let session = Session::adopt(client, target.endpoint.clone(), tls, Box::new(sign_of_life));
    let (found, facts) = introduce(&session).wrap_err("check the identity")?;
    if found != identifier.to_string() {
        return Err(stranger(side, identifier, &found, &target.endpoint));
    }
    refuse_unknown_version(&facts, &target.endpoint)?;
    Ok((session, facts))
}

/// Older servers have no logical replication of their own; of newer ones flare knows nothing yet.
fn refuse_unknown_version(facts: &Facts, endpoint: &Endpoint) -> Result<()> {
    match KNOWN_MAJORS.contains(&(facts.version_num / 10_000)) {
        true => Ok(()),
        false => Failure::new(format!(
            "use the {endpoint}: it runs PostgreSQL {}, and flare knows {} to {}",
            facts.version,
            KNOWN_MAJORS.start(),
            KNOWN_MAJORS.end()
        ))
        .hint("use a flare that knows this version, or a server that this flare knows")
        .err(),
    }
}

fn introduce(session: &Session) -> Result<(String, Facts)> {
    let rows = session.rows(INTRODUCE, params![])?;
    let row = rows
        .first()
        .ok_or_else(|| Failure::new("the server said nothing of itself"))?;
    let facts = Facts {
        version_num: row.get(1),
        version: row.get(2),
        superuser: row.get(3),
        in_recovery: row.get(4),
        tls: row.get(5),
        pid: row.get(6),
        backend_start: row.get::<_, Option<String>>(7).unwrap_or_default(),
    };
    Ok((row.get(0), facts))
}

fn stranger(side: Side, declared: u64, found: &str, endpoint: &Endpoint) -> Report {
    let stranger = Stranger(format!(
        "check the identity of the {endpoint}: its system_identifier is {found}, the configuration declares {declared}; nothing was changed"
    ));
    Err::<(), _>(stranger)
        .hint(|| {
            format!(
                "{}:{} is not the declared {side}: correct hosts.{side}.conn (host, port or system_identifier), then run flare verify_connectivity",
                endpoint.host, endpoint.port
            )
        })
        .unwrap_err()
}

impl Target {
    /// Whether the server still answers a new connection; used while something long runs on it.
    fn answers(&self, password: &crate::value::Secret) -> Result<()> {
        let credentials = Credentials::known(&self.endpoint.user, password.clone());
        let (client, tls) = self.connect(&credentials)?;
        let session = Session::adopt(client, self.endpoint.clone(), tls, Box::new(|| Ok(())));
        session
            .run_for(SHORT, |client| client.batch_execute("SELECT 1"))
            .wrap_err("wait for a server that no longer answers")
    }
}

/// The server whose changes are replicated.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(Arc<Server>);

/// The server that replicates them.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber(Arc<Server>);

impl Publisher {
    /// The same server as the one that data flows to.
    pub(crate) fn as_subscriber(&self) -> Subscriber {
        Subscriber(self.0.clone())
    }

    /// A server that the journal says is the publisher.
    pub(crate) fn from_journal(server: Server) -> Publisher {
        Publisher(Arc::new(server))
    }
}

impl Deref for Publisher {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl Deref for Subscriber {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

/// Both servers, proven.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) publisher: Publisher,
    pub(crate) subscriber: Subscriber,
}

impl Pair {
    /// The same two servers for data that flows the other way.
    pub(crate) fn reversed(&self) -> Pair {
        Pair {
            publisher: Publisher(self.subscriber.0.clone()),
            subscriber: self.publisher.as_subscriber(),
        }
    }
}

/// What came of opening both; each for itself, since some commands can do with one.
pub(crate) struct Opened {
    pub(crate) publisher: Result<Publisher>,
    pub(crate) subscriber: Result<Subscriber>,
}

/// Opens both servers at once.
pub(crate) fn open_both(config: &Config, application_name: &str) -> Opened {
    std::thread::scope(|scope| {
        let subscriber = scope.spawn(|| {
            Server::open(Side::Subscriber, &config.subscriber, application_name)
                .map(|server| Subscriber(Arc::new(server)))
        });
        let publisher = Server::open(Side::Publisher, &config.publisher, application_name)
            .map(Publisher::from_journal);
        let subscriber = subscriber
            .join()
            .unwrap_or_else(|_| Failure::new("open the subscriber: its thread has ended").err());
        Opened {
            publisher,
            subscriber,
        }
    })
}

impl Opened {
    /// Both, or the first error.
    pub(crate) fn both(self) -> Result<Pair> {
        match (self.publisher, self.subscriber) {
            (Ok(publisher), Ok(subscriber)) => Ok(Pair {
                publisher,
                subscriber,
            }),
            // A stranger is worse than a server that does not answer.
            (Err(one), Err(other)) if is_stranger(&other) && !is_stranger(&one) => Err(other),
            (Err(one), _) => Err(one),
            (_, Err(other)) => Err(other),
        }
    }

    /// At least one of them; the wrong server on either side is an error.
    pub(crate) fn any(self) -> Result<Opened> {
        let errors = [
            self.publisher.as_ref().err(),
            self.subscriber.as_ref().err(),
        ];
        let strange = errors.iter().flatten().any(|report| is_stranger(report));
        match strange || errors.iter().all(Option::is_some) {
            true => self.both().map(|pair| Opened {
                publisher: Ok(pair.publisher),
                subscriber: Ok(pair.subscriber),
            }),
            false => Ok(self),
        }
    }

    /// The subscriber, and the publisher or why it cannot be reached; the wrong server on either side is an error.
    pub(crate) fn subscriber_first(self) -> Result<(Subscriber, Result<Publisher>)> {
        match (self.publisher, self.subscriber) {
            (Err(stranger), _) if is_stranger(&stranger) => Err(stranger),
            (publisher, subscriber) => Ok((subscriber?, publisher)),
        }
    }

    /// The publisher, and the subscriber or why it cannot be reached; the wrong server on either side is an error.
    pub(crate) fn publisher_first(self) -> Result<(Publisher, Result<Subscriber>)> {
        match (self.publisher, self.subscriber) {
            (_, Err(stranger)) if is_stranger(&stranger) => Err(stranger),
            (publisher, subscriber) => Ok((publisher?, subscriber)),
        }
    }

    /// The publisher; a subscriber that cannot be reached is only a warning, one that is the wrong server is not.
    pub(crate) fn publisher(self) -> Result<Publisher> {
        match &self.subscriber {
            Err(report) if is_stranger(report) => return self.both().map(|pair| pair.publisher),
            Err(report) => log::warn!("{}", crate::error::message_of(report)),
            Ok(_) => {}
        }
        self.publisher
    }

    /// The subscriber; a publisher that cannot be reached is only a warning, one that is the wrong server is not.
    pub(crate) fn subscriber(self) -> Result<Subscriber> {
        match &self.publisher {
            Err(report) if is_stranger(report) => return self.both().map(|pair| pair.subscriber),
            Err(report) => log::warn!("{}", crate::error::message_of(report)),
            Ok(_) => {}
        }
        self.subscriber
    }
}

/// A server answered, but it is not the declared one.
#[derive(Debug)]
struct Stranger(String);

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stranger {}

/// Whether a server answered that is not the declared one.
pub(crate) fn is_stranger(report: &Report) -> bool {
    report.downcast_ref::<Stranger>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_not_known_are_refused_by_name() {
        let endpoint = Endpoint {
            side: "publisher".into(),
            host: "old.example".into(),
            port: 5432,
            dbname: "postgres".into(),
            user: "adm".into(),
        };
        let of = |version_num: i32, version: &str| Facts {
            version_num,
            version: version.into(),
            superuser: true,
            in_recovery: false,
            tls: None,
            pid: 1,
            backend_start: String::new(),
        };
        for (known, words) in [(100_023, "10.23"), (180_004, "18.4")] {
            assert!(refuse_unknown_version(&of(known, words), &endpoint).is_ok());
        }
        for (unknown, words) in [(90_624, "9.6.24"), (190_000, "19beta1")] {
            let report = refuse_unknown_version(&of(unknown, words), &endpoint).unwrap_err();
            let message = report.to_string();
            assert!(
                message.contains(words) && message.contains("old.example:5432"),
                "{message}"
            );
        }
    }
}
