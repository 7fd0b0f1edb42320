//! Opening a connection, bounded in time, with settings that neither role nor database can have set otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};
use postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::credentials::Credentials;
use super::pulse::{Pulse, silent};
use super::refusal::{advise, login_rejected};
use super::session::TimedOut;
use super::{Endpoint, SqlError, interrupt, tls};
use crate::config::{Host, Tls};
use crate::error::{Advise, Failure, Report, Result, WrapErr};

/// What flare calls itself in `pg_stat_activity`.
pub(crate) fn application_name(command: &str) -> String {
    format!("flare/{command}")
}

/// Settings that are the session's own, known to every version from 10 on. A role or database may have set them so
/// that a copy is killed half-way, a commit is not durable, or a name means something else.
const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("synchronous_commit", "on"),
    ("role", "none"),
    ("search_path", "pg_catalog"),
    ("default_transaction_isolation", "read\\ committed"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_read_only", "off"),
    ("client_min_messages", "warning"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("row_security", "off"),
    // Off, a backslash in a constant would begin an escape.
    ("standard_conforming_strings", "on"),
    // On, a statement that may fail would end the session.
    ("exit_on_error", "off"),
    // Definitions are compared and read as text.
    ("quote_all_identifiers", "off"),
    ("bytea_output", "hex"),
    ("array_nulls", "on"),
    ("xmloption", "content"),
    // A table of flare's own would have oids, on 10 and 11.
    ("default_with_oids", "off"),
    // A worker of a statement is a session that a pause would end, and the statement with it.
    ("max_parallel_workers_per_gather", "0"),
    // Blocks of PL/pgSQL would fail for what is only unusual.
    ("plpgsql.extra_errors", "none"),
];

/// The same as `options` of a connection.
pub(crate) fn session_options() -> String {
    let options = SESSION_SETTINGS
        .iter()
        .map(|(name, value)| format!("-c {name}={value}"));
    options.collect::<Vec<String>>().join(" ")
}

/// How long a session's statements wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockWait {
    /// Until it is there, or the statement sets another limit.
    Unlimited,
    /// For whoever only looks: half a second.
    Brief,
}

impl LockWait {
    fn setting(self) -> &'static str {
        match self {
            LockWait::Unlimited => "0",
            LockWait::Brief => "500ms",
        }
    }
}

/// What a connection needs beyond the account.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: Address,
    pub(crate) tls: Tls,
    pub(crate) timeout: Duration,
    pub(crate) application_name: String,
    /// Newer versions than flare knows that the server may have.
    pub(super) allow_untested: Vec<i32>,
    /// Event triggers of the user do not see what the session does, logging in included.
    unseen: Option<&'static str>,
    /// Nothing is written before the session has said who it is: what a login trigger would write fails.
    read_only_at_first: bool,
    /// Whom it acts as, where that is not who logs in.
    role: Option<String>,
    lock_wait: LockWait,
    pub(super) pulse: Arc<Pulse>,
}

impl Target {
    pub(crate) fn new(
        endpoint: Endpoint,
        address: Address,
        declared: &Host,
        application_name: &str,
    ) -> Target {
        Target {
            endpoint,
            address,
            tls: declared.tls.clone(),
            timeout: declared.connect_timeout,
            application_name: application_name.to_owned(),
            allow_untested: declared.allow_untested.clone(),
            unseen: None,
            read_only_at_first: false,
            role: None,
            lock_wait: LockWait::Unlimited,
            pulse: Arc::default(),
        }
    }

    /// The same for a session of a superuser, which can keep out of the sight of event triggers.
    pub(crate) fn unseen(mut self, major: i32) -> Target {
        self.unseen = Some(unseen_by(major));
        self
    }

    /// The same for a session that may write only once the server has said what it is.
    pub(super) fn read_only_at_first(mut self) -> Target {
        self.read_only_at_first = true;
        self
    }

    /// The same for a session that waits for locks in this way.
    pub(super) fn waiting(mut self, lock_wait: LockWait) -> Target {
        self.lock_wait = lock_wait;
        self
    }

    /// The same for a session that acts as a role.
    pub(crate) fn acting_as(mut self, role: &str) -> Target {
        self.role = Some(role.to_owned());
        self
    }

    /// Where the session is, and as whom.
    pub(crate) fn acting(&self) -> Endpoint {
        let mut endpoint = self.endpoint.clone();
        endpoint.user = self.role.clone().unwrap_or(endpoint.user);
        endpoint
    }

    /// The same server, another database or user.
    pub(crate) fn with(&self, user: &str, dbname: &str) -> Target {
        let mut target = self.clone();
        target.endpoint.user = user.to_owned();
        target.endpoint.dbname = dbname.to_owned();
        target
    }

    /// The address to give other programs, so that they go to the one that was verified.
    pub(crate) fn hostaddr(&self) -> Option<std::net::IpAddr> {
        match &self.address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    fn settings(&self) -> Config {
        let mut config = Config::new();
        match &self.address {
            Address::Tcp(address) => {
                config.host(&self.endpoint.host).hostaddr(*address);
            }
            Address::Unix(directory) => {
                config.host_path(directory);
            }
        }
        let mut options = vec![session_options()];
        options.push(format!("-c lock_timeout={}", self.lock_wait.setting()));
        options.extend(self.unseen.map(|unseen| format!("-c {unseen}")));
        if self.read_only_at_first {
            options.push("-c default_transaction_read_only=on".to_owned());
        }
        options.extend(
            self.role
                .as_ref()
                .map(|role| format!("-c role={}", in_options(role))),
        );
        config
            .port(self.endpoint.port)
            .user(&self.endpoint.user)
            .dbname(&self.endpoint.dbname)
            .application_name(&self.application_name)
            .options(&options.join(" "))
            .ssl_mode(tls::negotiation(self.tls.sslmode))
            .connect_timeout(self.timeout);
        keep_alive(&mut config);
        config
    }

    /// Connects, waiting no longer than the connect timeout, whether the host is dead, silent or frozen.
    pub(crate) fn connect(&self, credentials: &Credentials) -> Result<(Client, MakeRustlsConnect)> {
        let attempt = self.attempt(credentials);
        let rejected = matches!(&attempt, Err(report) if login_rejected(report));
        let outcome = if rejected && credentials.expired() {
            self.attempt(credentials)
        } else {
            attempt
        };
        outcome
            .wrap_err_with(|| format!("connect to the {}", self.endpoint))
            .map_err(|report| advise(report, &self.endpoint))
    }

    fn attempt(&self, credentials: &Credentials) -> Result<(Client, MakeRustlsConnect)> {
        let tls = tls::connector(&self.tls)?;
        let mut config = self.settings();
        config.password(credentials.password()?.reveal());
        let client = connect_within(config, tls.clone(), self.timeout, &self.pulse)?;
        Ok((client, tls))
    }
}

/// The setting by which a superuser's session is not seen by event triggers: all of them from 17 on, before that those that
/// are not ALWAYS or REPLICA.
pub(super) fn unseen_by(major: i32) -> &'static str {
    match major {
        17.. => "event_triggers=off",
        _ => "session_replication_role=replica",
    }
}

/// A value in the options of a connection, which blanks end.
fn in_options(value: &str) -> String {
    let escaped = value.chars().flat_map(|c| {
        let escape = (c.is_whitespace() || c == '\\').then_some('\\');
        escape.into_iter().chain([c])
    });
    escaped.collect()
}

pub(super) fn keep_alive(config: &mut Config) {
    config
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(2))
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(3);
}

/// Connects on a thread that is left behind when the server does not finish the handshake in time.
pub(super) fn connect_within(
    config: Config,
    tls: MakeRustlsConnect,
    timeout: Duration,
    pulse: &Pulse,
) -> Result<Client> {
    spare_files()?;
    let since = Instant::now();
    let silence = pulse.silence();
    let (reply, answer) = bounded(1);
    let abandoned = Arc::new(AtomicBool::new(false));
    let given_up = abandoned.clone();
    std::thread::spawn(move || {
        let connected = config.connect(tls);
        if !given_up.load(Ordering::SeqCst) {
            reply.send(connected).unwrap_or_default();
        }
    });
    select! {
        recv(answer) -> connected => match connected {
            Ok(connected) => Ok(connected.map_err(SqlError::from)?),
            Err(_) => Failure::new("the connecting thread has ended").err(),
        },
        recv(interrupt::channel()) -> _ => {
            abandoned.store(true, Ordering::SeqCst);
            Err(interrupt::interrupted())
        }
        recv(silence) -> _ => {
            abandoned.store(true, Ordering::SeqCst);
            Err(silent(since).into())
        }
        default(timeout) => {
            abandoned.store(true, Ordering::SeqCst);
            Err(TimedOut(Some(timeout)).into())
        }
    }
}

/// The driver ends its thread where no file can be opened for a session: that is known, and said, beforehand.
fn spare_files() -> Result<()> {
    const OF_A_SESSION: usize = 8;
    let files = (0..OF_A_SESSION).map(|_| std::fs::File::open("/dev/null"));
    files
        .collect::<std::io::Result<Vec<_>>>()
        .map(drop)
        .wrap_err("open what a session needs of files")
        .hint(|| {
            "raise the limit of open files (ulimit -n), or name fewer databases at once".to_owned()
        })
}

/// Connects by a connection string, to a server that no configuration declares (`attack`, `init_config`).
pub(crate) fn connect_unverified(dsn: &str, application_name: &str) -> Result<Client> {
    let mut config: Config = dsn.parse().map_err(|error: postgres::Error| {
        Report::from(Failure::usage(format!(
            "read the connection string: {}",
            SqlError::from(error)
        )))
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Failure::usage("read the connection string: it names no host").err();
    }
    config.application_name(application_name);
    // As libpq does.
    if let (None, Ok(password)) = (config.get_password(), std::env::var("PGPASSWORD")) {
        config.password(password);
    }
    keep_alive(&mut config);
    let tls = Tls {
        sslmode: crate::config::SslMode::Prefer,
        sslrootcert: None,
        sslcert: None,
        sslkey: None,
    };
    let timeout = *config
        .get_connect_timeout()
        .unwrap_or(&Duration::from_secs(5));
    config.connect_timeout(timeout);
    connect_within(config, tls::connector(&tls)?, timeout, &Pulse::default())
}
