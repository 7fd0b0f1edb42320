//! The console of a program that speaks the protocol but is no server: PgBouncer's. It takes simple queries only.
//!
//! As with a [`Session`](super::Session), the connection lives on a thread that may be abandoned: a frozen pooler, or
//! one whose PAUSE does not come to its end, holds nobody up.

use std::fmt;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow};

use super::connect::{connect_within, keep_alive};
use super::credentials::Credentials;
use super::pulse::Pulse;
use super::refusal::login_rejected;
use super::session::TimedOut;
use super::{SqlError, interrupt, tls};
use crate::config::{PoolerAdmin, SslMode, Tls};
use crate::error::{Failure, Report, Result, WrapErr};
use crate::value::HostPort;

type Answer = std::result::Result<Vec<SimpleQueryMessage>, postgres::Error>;

/// Where a console is and who may enter.
#[derive(Debug)]
pub(crate) struct ConsoleAddress {
    host: String,
    port: u16,
    dbname: String,
    credentials: Credentials,
}

/// One connection to a console. It closes when dropped, unless a command of it is still unanswered.
pub(crate) struct Console {
    jobs: Sender<(String, Sender<Answer>)>,
}

/// A command whose answer is not there yet.
pub(crate) struct Unanswered {
    command: String,
    answer: Receiver<Answer>,
}

impl ConsoleAddress {
    pub(crate) fn of(admin: &PoolerAdmin) -> ConsoleAddress {
        ConsoleAddress {
            host: admin.host.clone(),
            port: admin.port,
            dbname: admin.dbname.clone(),
            credentials: Credentials::of(&crate::config::Account {
                user: admin.user.clone(),
                password: admin.password.clone(),
            }),
        }
    }

    /// The account's name.
    pub(crate) fn user(&self) -> &str {
        self.credentials.user()
    }

    /// Connects, encrypted where the other side agrees to it, and waits no longer than this for it.
    pub(crate) fn connect(&self, application_name: &str, timeout: Duration) -> Result<Console> {
        let attempt = self.attempt(application_name, timeout);
        let rejected = matches!(&attempt, Err(report) if login_rejected(report));
        if rejected && self.credentials.expired() {
            self.attempt(application_name, timeout)
        } else {
            attempt
        }
    }

    fn attempt(&self, application_name: &str, timeout: Duration) -> Result<Console> {
        let tls = Tls {
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
        };
        let mut config = Config::new();
        if self.host.starts_with('/') {
            config.host_path(&self.host)
        } else {
            config.host(&self.host)
        };
        config
            .port(self.port)
            .user(self.user())
            .dbname(&self.dbname)
            .application_name(application_name)
            .ssl_mode(tls::negotiation(tls.sslmode))
            .connect_timeout(timeout)
            .password(self.credentials.password()?.reveal());
        keep_alive(&mut config);
        let client = connect_within(config, tls::connector(&tls)?, timeout, &Pulse::default())?;
        Ok(Console::adopt(client))
    }
}

impl fmt::Display for ConsoleAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HostPort(&self.host, self.port).fmt(f)
    }
}

impl Console {
    fn adopt(mut client: Client) -> Console {
        let (jobs, inbox) = unbounded::<(String, Sender<Answer>)>();
        std::thread::spawn(move || {
            for (command, reply) in inbox {
                // The asker may have given up: then nobody listens, and that is all right.
                reply
                    .send(client.simple_query(&command))
                    .unwrap_or_default();
            }
        });
        Console { jobs }
    }

    /// Sends a command without waiting for its answer.
    pub(crate) fn start(&self, command: impl Into<String>) -> Unanswered {
        let command = command.into();
        log::debug!("console: {command}");
        let (reply, answer) = bounded(1);
        // A console that has ended drops the reply, which its asker sees.
        self.jobs.send((command.clone(), reply)).unwrap_or_default();
        Unanswered { command, answer }
    }

    /// Sends a command and waits this long for its rows.
    pub(crate) fn ask(&self, command: &str, limit: Duration) -> Result<Vec<SimpleQueryRow>> {
        let unanswered = self.start(command);
        match unanswered.within(limit)? {
            Some(rows) => Ok(rows),
            None => Err(Report::from(TimedOut(Some(limit))).wrap_err(unanswered.command)),
        }
    }
}

impl Unanswered {
    /// The rows, when the answer comes within this time.
    pub(crate) fn within(&self, limit: Duration) -> Result<Option<Vec<SimpleQueryRow>>> {
        let outcome = select! {
            recv(self.answer) -> outcome => outcome,
            recv(interrupt::channel()) -> _ => return Err(interrupt::interrupted()),
            default(limit) => return Ok(None),
        };
        let answer: Result<Vec<SimpleQueryMessage>> = match outcome {
            Ok(answer) => answer.map_err(|error| SqlError::from(error).into()),
            Err(_) => Failure::new("the connection has ended").err(),
        };
        let messages = answer.wrap_err_with(|| self.command.clone())?;
        Ok(Some(
            messages
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                })
                .collect(),
        ))
    }
}
