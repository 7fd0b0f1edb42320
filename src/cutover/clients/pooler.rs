//! One database of one PgBouncer: what its console is asked, and what its answers mean.

use std::fmt;
use std::time::{Duration, Instant};

use postgres::SimpleQueryRow;

use crate::config::Pooler;
use crate::cutover::clients::pgbouncer::Reload;
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::server::{Console, ConsoleAddress, Unanswered, is_lost, sqlstate_of};
use crate::value::Ident;

/// How long a console may take to let flare in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a console may take to answer what it answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often a PAUSE that is not answered is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// For how long a pooler that cannot be reached is tried again before it is reported as still paused.
const PERSISTENCE: Duration = Duration::from_secs(5);
/// How long between two such tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// PgBouncer's answer to RESUME of a database that is not paused.
const NOT_PAUSED: &str = "is not paused";
/// Its answer to who is in `stats_users` only.
const NO_ADMIN: &str = "admin access needed";
/// Its answer to who is in neither list.
const NOT_ALLOWED: &str = "not allowed";
/// A name that no database has: whoever may RESUME is told so, and nothing happens.
const NO_DATABASE: &str = "flare asks whether it may resume";

/// A database of one pooler.
pub(in crate::cutover) struct One {
    address: ConsoleAddress,
    database: String,
    /// Its entry of `cutover.poolers`.
    key: String,
    application_name: String,
    entered: Option<Entered>,
    /// The end of the pause that it was to be told of, and could not be.
    owed: Option<Reload>,
}

/// Two connections: a PAUSE that is not done keeps its own busy.
struct Entered {
    pausing: Console,
    asking: Console,
    /// A PAUSE that is not answered.
    pause: Option<Unanswered>,
}

/// A database as SHOW DATABASES has it.
struct Listed {
    host: Option<String>,
    port: Option<u16>,
    paused: bool,
}

impl One {
    /// The entry `key` of the configuration.
    pub(in crate::cutover) fn declared(
        pooler: &Pooler,
        key: String,
        application_name: String,
    ) -> One {
        One {
            address: ConsoleAddress::of(&pooler.admin),
            database: pooler.database.clone(),
            key,
            application_name,
            entered: None,
            owed: None,
        }
    }

    /// The database, as the pooler calls it.
    pub(in crate::cutover) fn database(&self) -> &str {
        &self.database
    }

    /// Its clients may still wait.
    pub(in crate::cutover) fn is_owed(&self) -> bool {
        self.owed.is_some()
    }

    /// It is to be told of the end of a pause.
    pub(in crate::cutover) fn owe(&mut self, reload: Reload) {
        self.owed = Some(reload);
    }

    /// Somebody has paused it.
    pub(in crate::cutover) fn is_listed_as_paused(&mut self) -> Result<bool> {
        Ok(self.listed(ANSWER_WITHIN)?.paused)
    }

    /// Its clients get sessions on this server.
    pub(in crate::cutover) fn leads_to(&mut self, host: &str, port: u16) -> Result<bool> {
        let listed = self.listed(ANSWER_WITHIN)?;
        Ok(listed.host.as_deref() == Some(host) && listed.port == Some(port))
    }

    pub(in crate::cutover) fn prove(&mut self) -> Result<()> {
        let proven = self
            .entered()
            .map(drop)
            .and_then(|()| self.may_resume())
            .and_then(|()| self.listed(ANSWER_WITHIN).map(drop));
        proven.map_err(|report| self.advise(report))
    }

    fn entered(&mut self) -> Result<&mut Entered> {
        if self.entered.is_none() {
            let connect = || {
                self.address
                    .connect(&self.application_name, CONNECT_TIMEOUT)
                    .wrap_err_with(|| {
                        format!("enter the console of {self} as {:?}", self.address.user())
                    })
            };
            let (asking, pausing) = (connect()?, connect()?);
            self.entered = Some(Entered {
                asking,
                pausing,
                pause: None,
            });
        }
        match &mut self.entered {
            Some(entered) => Ok(entered),
            None => Failure::new("the console has been left").err(),
        }
    }

    fn ask(&mut self, command: &str, limit: Duration) -> Result<Vec<SimpleQueryRow>> {
        let answer = self.entered()?.asking.ask(command, limit);
        answer.wrap_err_with(|| self.to_string())
    }

    fn may_resume(&mut self) -> Result<()> {
        let resume = format!("RESUME {}", Ident::from(NO_DATABASE));
        match self.ask(&resume, ANSWER_WITHIN) {
            Err(report) if message_of(&report).contains(NO_ADMIN) => Failure::new(format!(
                "{self}: {:?} may not PAUSE and RESUME: {NO_ADMIN}",
                self.address.user()
            ))
            .err(),
            Err(report) if is_lost(&report) => Err(report),
            _ => Ok(()),
        }
    }

    fn listed(&mut self, limit: Duration) -> Result<Listed> {
        for row in self.ask("SHOW DATABASES", limit)? {
            let text = |column: &str| row.try_get(column).ok().flatten().map(str::to_owned);
            if text("name").as_deref() == Some(self.database.as_str()) {
                return Ok(Listed {
                    host: text("host"),
                    port: text("port").and_then(|port| port.parse().ok()),
                    paused: text("paused").as_deref() == Some("1"),
                });
            }
        }
        Failure::new(format!(
            "{self}: SHOW DATABASES does not list this database"
        ))
        .hint(format!(
            "correct {}.database, or name the database in [databases] of that pgbouncer.ini (an entry * is not listed)",
            self.key
        ))
        .err()
    }
}

// The pause and its end.
impl One {
    pub(in crate::cutover) fn pause(&mut self, until: Instant, limit: Duration) -> Result<()> {
        let command = format!("PAUSE {}", Ident::new(&self.database));
        let entered = self.entered()?;
        entered.pause = Some(entered.pausing.start(command));
        let soon = || until.min(Instant::now() + LOOK_EVERY);
        let mut done = self.is_paused(soon())?;
        // Once it is listed as paused, no client gets a session any more.
        while !done && Instant::now() < until && !self.listed(left(until))?.paused {
            done = self.is_paused(soon())?;
        }
        if done || self.clients_hold_sessions(left(until))? || self.is_paused(until)? {
            return Ok(());
        }
        let why = "transactions of its clients are still open";
        Err(self.late(limit, why)).hint(|| {
            "end them (SHOW CLIENTS on that console names them), or run the command again at a quieter moment".to_owned()
        })
    }

    pub(in crate::cutover) fn await_paused(
        &mut self,
        until: Instant,
        limit: Duration,
    ) -> Result<()> {
        if self.is_paused(until)? {
            return Ok(());
        }
        Err(self.late(limit, "it still holds sessions")).hint(|| {
            format!(
                "see with SHOW SERVERS on that console which server it is connected to: is it the one {}.database leads to?",
                self.key
            )
        })
    }

    /// Whether the PAUSE, if one was begun, comes to its end by then.
    fn is_paused(&mut self, until: Instant) -> Result<bool> {
        let Some(entered) = &mut self.entered else {
            return Ok(true);
        };
        let answer = match &entered.pause {
            Some(pause) => pause.within(left(until)),
            None => return Ok(true),
        };
        if let Ok(Some(_)) = answer {
            entered.pause = None;
        }
        let answer = answer.wrap_err_with(|| self.to_string())?;
        Ok(answer.is_some())
    }

    fn late(&self, limit: Duration, why: &str) -> Report {
        let limit = humantime::format_duration(limit);
        Failure::new(format!("{self}: PAUSE is not done within {limit}: {why}")).into()
    }

    /// Whether a pool with session pooling has clients that hold a session now.
    fn clients_hold_sessions(&mut self, limit: Duration) -> Result<bool> {
        let pools = self.ask("SHOW POOLS", limit)?;
        Ok(pools.iter().any(|row| {
            let text = |column: &str| row.try_get(column).ok().flatten().unwrap_or_default();
            text("database") == self.database
                && text("pool_mode") == "session"
                && text("sv_active") != "0"
        }))
    }

    pub(in crate::cutover) fn resume_persistently(&mut self, reload: Reload) -> Result<()> {
        let resumed = self.try_to_resume(reload);
        self.owed = resumed.is_err().then_some(reload);
        resumed
    }

    fn try_to_resume(&mut self, reload: Reload) -> Result<()> {
        let since = Instant::now();
        loop {
            let resumed = self.resume(reload);
            // A PAUSE that was given up is not answered any more, not even after a RESUME.
            let given_up = |entered: &Entered| entered.pause.is_some();
            if resumed.is_err() || self.entered.as_ref().is_some_and(given_up) {
                self.entered = None;
            }
            let failure = match resumed {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let answered = sqlstate_of(&failure).is_some() && !is_lost(&failure);
            if answered || since.elapsed() > PERSISTENCE {
                return Err(failure);
            }
            log::warn!("{}; trying again", message_of(&failure));
            std::thread::sleep(BETWEEN_TRIES);
        }
    }

    /// One more try at what it is owed, as soon as its console answers, and if `may` then still says so.
    pub(in crate::cutover) fn resume_late(
        &mut self,
        may: &impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let Some(reload) = self.owed else {
            return Ok(());
        };
        self.entered = None;
        self.entered()?;
        if may()? {
            self.resume(reload)?;
            log::warn!("{self} answers again: its clients go on");
        }
        self.owed = None;
        Ok(())
    }

    /// A RELOAD that is refused does not keep the clients waiting: they may be better off than it says.
    fn resume(&mut self, reload: Reload) -> Result<()> {
        let reloaded = match reload {
            Reload::Yes => self.ask("RELOAD", ANSWER_WITHIN).map(drop),
            Reload::No => Ok(()),
        };
        if matches!(&reloaded, Err(report) if is_lost(report)) {
            return reloaded;
        }
        let resume = format!("RESUME {}", Ident::new(&self.database));
        match self.ask(&resume, ANSWER_WITHIN) {
            Err(report) if !message_of(&report).contains(NOT_PAUSED) => return Err(report),
            _ => {}
        }
        // A PAUSE that a frozen pooler had not read yet may only now have come into effect.
        if self.listed(ANSWER_WITHIN)?.paused {
            Failure::new(format!("{self} is paused again")).err()
        } else {
            reloaded
        }
    }

    pub(in crate::cutover) fn by_hand(&self, reload: Reload, report: &Report) -> String {
        let reload = match reload {
            Reload::Yes => "RELOAD; ",
            Reload::No => "",
        };
        format!(
            "{}; its clients may still wait: on its console, {reload}RESUME {};",
            message_of(report),
            Ident::new(&self.database)
        )
    }

    fn advise(&self, report: Report) -> Report {
        let message = message_of(&report);
        let hint = if message.contains(NO_ADMIN) || message.contains(NOT_ALLOWED) {
            format!(
                "add {:?} to admin_users of that pgbouncer.ini and RELOAD, or correct {}.admin.user",
                self.address.user(),
                self.key
            )
        } else if sqlstate_of(&report).is_some() {
            format!(
                "compare {}.admin in the configuration with that pgbouncer.ini (auth_type, auth_file, admin_users)",
                self.key
            )
        } else {
            format!(
                "check that PgBouncer runs there, or correct {}.admin in the configuration",
                self.key
            )
        };
        Err::<(), _>(report).hint(|| hint).unwrap_err()
    }
}

impl fmt::Display for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pooler {}, database {:?}",
            self.address, self.database
        )
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
