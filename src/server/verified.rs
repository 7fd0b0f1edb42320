//! Servers that have proven to be the declared ones.

use std::fmt;
use std::sync::Arc;

use postgres::error::SqlState;
use serde::Serialize;

use super::address::{Address, addresses_of};
use super::connect::{LockWait, Target, unseen_by};
use super::credentials::{Credentials, Login};
use super::facts::Facts;
use super::refusal::login_rejected;
use super::session::{SHORT, Session};
use super::untested;
use super::visit::Visits;
use super::{Endpoint, sqlstate_of};
use crate::config::{Account, Config, Host};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::value::{HostPort, Secret};

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where the data comes from.
    Publisher,
    /// Where the data goes.
    Subscriber,
}

impl Side {
    /// The other of the two.
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Publisher => Side::Subscriber,
            Side::Subscriber => Side::Publisher,
        }
    }

    /// What the configuration declares of it.
    pub(crate) fn host(self, config: &Config) -> &Host {
        match self {
            Side::Publisher => &config.publisher,
            Side::Subscriber => &config.subscriber,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Publisher => "publisher",
            Side::Subscriber => "subscriber",
        })
    }
}

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
    pub(super) visits: Visits,
}

impl Server {
    /// Looks the host up, connects to its `postgres` database and checks its identity.
    pub(crate) fn open(side: Side, declared: &Host, application_name: &str) -> Result<Server> {
        let superuser = Credentials::of(&declared.superuser);
        let (target, admin, facts) = reach(
            side,
            declared,
            &superuser,
            "postgres",
            application_name,
            LockWait::Unlimited,
        )?;
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
            visits: Visits::default(),
        })
    }

    /// The administrator's session in one database, and the address it is at, before anything is known of the server.
    pub(super) fn enter(
        side: Side,
        declared: &Host,
        dbname: &str,
        application_name: &str,
    ) -> Result<(Address, Session)> {
        let credentials = Credentials::of(&declared.superuser);
        let wait = LockWait::Unlimited;
        let (target, session, _) =
            reach(side, declared, &credentials, dbname, application_name, wait)?;
        Ok((target.address, session))
    }

    /// One session in one database, which checks the identity itself and waits for no lock for long: for whoever looks often
    /// or in haste.
    pub(crate) fn look_in(
        side: Side,
        declared: &Host,
        account: &Account,
        dbname: &str,
        application_name: &str,
    ) -> Result<(Session, Facts)> {
        let credentials = Credentials::of(account);
        match reach(
            side,
            declared,
            &credentials,
            dbname,
            application_name,
            LockWait::Brief,
        ) {
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

    /// The setting by which event triggers do not see a session of this account, where it may set it.
    pub(crate) fn unseen_as(&self, login: Login) -> Option<&'static str> {
        let may = login == Login::Superuser && self.facts.superuser;
        may.then(|| unseen_by(self.major()))
    }

    /// A connection that has shown itself to be one to this server.
    pub(super) fn open_target(
        &self,
        target: &Target,
        credentials: &Credentials,
    ) -> Result<(Session, Facts)> {
        open_verified(target, credentials, self.side, self.identifier)
    }

    /// Whether the server still answers a new connection.
    pub(crate) fn sign_of_life(&self) -> Result<()> {
        let target = self.target.clone();
        let target = match self.unseen_as(Login::Superuser) {
            Some(_) => target.unseen(self.major()),
            None => target,
        };
        target.answers(&self.superuser.password()?)
    }

    /// A standby has its primary's identifier, and takes no writes.
    pub(crate) fn refuse_standby(&self) -> Result<()> {
        if !self.facts.in_recovery {
            Ok(())
        } else {
            Failure::new(format!(
                "use the {}: it is a standby (in recovery) and takes no writes",
                self.target.endpoint
            ))
            .hint(format!(
                "give hosts.{}.conn the address of its primary",
                self.side
            ))
            .err()
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
        self.facts.major()
    }

    /// The major version as it is: pg_dump reads no server that is newer than itself.
    pub(crate) fn release(&self) -> i32 {
        self.facts.release()
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
    lock_wait: LockWait,
) -> Result<(Target, Session, Facts)> {
    let mut failures = Vec::new();
    for address in addresses_of(side, declared)? {
        let endpoint = Endpoint {
            side: side.to_string(),
            host: declared.host.clone(),
            port: declared.port,
            dbname: dbname.to_owned(),
            user: credentials.user().to_owned(),
        };
        let target = Target::new(endpoint, address, declared, application_name).waiting(lock_wait);
        let first = target.clone().read_only_at_first();
        let opened = open_verified(&first, credentials, side, declared.system_identifier);
        match opened.or_else(|report| unseen_after(report, &target, credentials, declared, side)) {
            Ok((session, facts)) => return Ok((target, session, facts)),
            Err(report) => failures.push(report),
        }
    }
    // Another server at one address is worse than no answer at another: no command goes on without this server then.
    let mismatch = failures.iter().position(is_identity_mismatch).unwrap_or(0);
    Err(failures.swap_remove(mismatch))
}

/// A login trigger that writes or raises ends the first login, whose version and rights are not known before. A superuser
/// comes in unseen by it; whoever may not do that logs in as any other session.
fn unseen_after(
    report: Report,
    target: &Target,
    credentials: &Credentials,
    declared: &Host,
    side: Side,
) -> Result<(Session, Facts)> {
    let other = sqlstate_of(&report).is_none_or(|state| {
        login_rejected(&report)
            || [
                SqlState::INVALID_CATALOG_NAME,
                SqlState::TOO_MANY_CONNECTIONS,
            ]
            .contains(state)
    });
    if other {
        return Err(report);
    }
    let open =
        |target: &Target| open_verified(target, credentials, side, declared.system_identifier);
    open(&target.clone().unseen(17)).or_else(|_| open(target))
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
    let session = Session::adopt(client, target.acting(), tls, Box::new(sign_of_life))
        .with_pulse(&target.pulse);
    let (found, facts) = Facts::ask(&session).wrap_err("check the identity")?;
    if found != identifier.to_string() {
        return Err(identity_mismatch(
            side,
            identifier,
            &found,
            &target.endpoint,
        ));
    }
    facts.refuse_pooler(&target.endpoint)?;
    facts.refuse_unknown_version(&target.endpoint, &target.allow_untested)?;
    untested::meet(side, &facts);
    session.is_of_major(facts.major());
    Ok((session, facts))
}

fn identity_mismatch(side: Side, declared: u64, found: &str, endpoint: &Endpoint) -> Report {
    let mismatch = IdentityMismatch(format!(
        "check the identity of the {endpoint}: its system_identifier is {found}, the configuration declares {declared}; nothing was changed"
    ));
    Err::<(), _>(mismatch)
        .hint(|| {
            format!(
                "{} is not the declared {side}: correct hosts.{side}.conn (host, port or system_identifier), then run flare verify_connectivity",
                HostPort(&endpoint.host, endpoint.port)
            )
        })
        .unwrap_err()
}

impl Target {
    /// Whether the server still answers a new connection; used while something long runs on it.
    fn answers(&self, password: &Secret) -> Result<()> {
        let credentials = Credentials::known(&self.endpoint.user, password.clone());
        let (client, tls) = self.connect(&credentials)?;
        let session = Session::adopt(client, self.endpoint.clone(), tls, Box::new(|| Ok(())));
        session
            .run_for(SHORT, |client| client.batch_execute("SELECT 1"))
            .wrap_err("wait for a server that no longer answers")
    }
}

/// A server answered, but it is not the declared one.
#[derive(Debug)]
struct IdentityMismatch(String);

impl fmt::Display for IdentityMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IdentityMismatch {}

/// Whether a server answered that is not the declared one.
pub(crate) fn is_identity_mismatch(report: &Report) -> bool {
    report.downcast_ref::<IdentityMismatch>().is_some()
}
