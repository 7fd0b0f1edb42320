//! The sessions of a statement: one that runs it on each side, and two that see whether everything has arrived.

use std::time::{Duration, Instant};

use super::carried::{leaves_unvalidated, validate};
use super::drain::{Drain, Probe};
use crate::catalog::subscriptions;
use crate::catalog::tables::listed;
use crate::config::Config;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::journal::{Direction, RUN_LOCK, Stream};
use crate::replicate::status_table;
use crate::server::{ActAs, Login, Pair, Server, Session, Timeout, interrupt, is_lost, params};
use crate::value::{Ident, Literal, ShellWord, TableName};

/// How long each try may hold writers up while it waits for its locks.
const OPEN_LOCK_TIMEOUT: Duration = Duration::from_millis(250);
/// On the receiving side only apply waits.
const RECEIVING_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long apply may take to catch up before anything is locked, and how quick a row must be then.
const CATCH_UP: Duration = Duration::from_secs(30);
const QUICK: Duration = Duration::from_millis(300);
/// A row is on the other side in less, unless something stops apply.
const KEEPS_UP: Duration = Duration::from_secs(2);
/// How long the session of a command that has ended may outlive it.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// How long tables may still be copied.
const COPIED_WITHIN: Duration = Duration::from_secs(60);

/// A database on both sides, `pair` with the open side as its publisher.
pub(crate) struct Sides<'a> {
    pub(super) pair: &'a Pair,
    pub(super) config: &'a Config,
    pub(super) stream: Stream,
    pub(super) direction: Direction,
    /// Runs statements on the open side.
    pub(super) open: Session,
    /// Runs statements on the receiving side.
    pub(super) receiving: Session,
    writer: Session,
    pub(super) reader: Session,
    /// The administrator's own, where the others act as the tables' owner.
    records: Option<(Session, Session)>,
}

impl<'a> Sides<'a> {
    /// Opens the sessions, and keeps other commands away from the database.
    pub(crate) fn enter(
        pair: &'a Pair,
        config: &'a Config,
        stream: Stream,
        direction: Direction,
    ) -> Result<Sides<'a>> {
        lock_out_others(pair, &stream.dbname)?;
        let dbname = stream.dbname.clone();
        let enter = |server: &Server| -> Result<Session> {
            let session = server.connect(ActAs::Tables, &dbname)?;
            session.set_timeout(Timeout::WhileServerAnswers);
            Ok(session)
        };
        let (open, receiving) = (enter(&pair.publisher)?, enter(&pair.subscriber)?);
        // What fires on a statement of the user's fires on one that flare brings. What it writes on the open side comes
        // with the stream: written on the receiving side too it would meet the fence, or the same row.
        seen(&pair.publisher, &open)?;
        if !event_triggers_write(&receiving)? {
            seen(&pair.subscriber, &receiving)?;
        }
        let superusers = pair.publisher.facts().superuser && pair.subscriber.facts().superuser;
        let records = if superusers {
            None
        } else {
            Some((
                pair.publisher.connect(Login::Superuser, &dbname)?,
                pair.subscriber.connect(Login::Superuser, &dbname)?,
            ))
        };
        Ok(Sides {
            records,
            open,
            receiving,
            writer: pair.publisher.connect(ActAs::Tables, &dbname)?,
            reader: pair.subscriber.connect(ActAs::Tables, &dbname)?,
            pair,
            config,
            stream,
            direction,
        })
    }

    pub(super) fn dbname(&self) -> &str {
        &self.stream.dbname
    }

    /// The role that runs statements unless another is named, on each side.
    pub(super) fn owner(&self) -> &str {
        &self.pair.publisher.declared().db_owner.user
    }

    /// Has both sessions act as the role, with what its own sessions would have set.
    pub(super) fn act_as(&self, role: &str) -> Result<()> {
        let search_path = self.search_path_of(role)?;
        let receiving = if role == self.owner() {
            &self.pair.subscriber.declared().db_owner.user
        } else {
            role
        };
        let sides = [
            (&self.open, role, OPEN_LOCK_TIMEOUT),
            (&self.receiving, receiving, RECEIVING_LOCK_TIMEOUT),
        ];
        for (session, role, lock_timeout) in sides {
            let acting = if session.endpoint().user == role {
                "RESET ROLE".to_owned()
            } else {
                format!("SET ROLE {}", Ident::new(role))
            };
            // Statements that flare brings to both sides itself are not carried.
            session
                .batch(&format!(
                    "{acting}; SET search_path = {search_path}; SET row_security = on; SET flare.carry = off; SET lock_timeout = {}",
                    lock_timeout.as_millis()
                ))
                .wrap_err_with(|| format!("act as {role:?}"))
                .hint(|| "--role names a role that the administrator, or db_owner, may act as on both sides".into())?;
        }
        Ok(())
    }

    /// Sets a session's settings, which came before the statement in its file. How long it waits for locks, and that it is
    /// not carried, are flare's: a file that begins as pg_dump's do would have everybody queue behind it.
    pub(super) fn settle_in(&self, session: &Session, settings: &[String]) -> Result<()> {
        for setting in settings {
            session
                .batch(setting)
                .wrap_err_with(|| format!("run {setting}"))?;
        }
        if settings.is_empty() {
            return Ok(());
        }
        let lock_timeout = if std::ptr::eq(session, &self.open) {
            OPEN_LOCK_TIMEOUT
        } else {
            RECEIVING_LOCK_TIMEOUT
        };
        session.batch(&format!(
            "SET lock_timeout = {}; SET flare.carry = off",
            lock_timeout.as_millis()
        ))
    }

    /// What `search_path` the role's own sessions begin with in the database, quoted for SET.
    fn search_path_of(&self, role: &str) -> Result<String> {
        let path: String = self
            .writer
            .value(
                "SELECT coalesce((
                    SELECT substr(c, strpos(c, '=') + 1) FROM pg_db_role_setting s, unnest(s.setconfig) c
                     WHERE c LIKE 'search\\_path=%'
                       AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                       AND s.setrole IN (0, coalesce((SELECT oid FROM pg_roles WHERE rolname = $1), 0))
                     ORDER BY s.setrole <> 0 AND s.setdatabase <> 0 DESC, s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
                     LIMIT 1),
                    (SELECT boot_val FROM pg_settings WHERE name = 'search_path'))",
                params![role],
            )
            .wrap_err_with(|| format!("read the search_path of {role:?}"))?;
        Ok(if path.is_empty() {
            "''".to_owned()
        } else {
            path
        })
    }

    /// On the open side, outside of the statement's transaction.
    pub(super) fn reader_of_open(&self) -> &Session {
        &self.writer
    }

    /// A row through the stream.
    pub(super) fn drain(&self, limit: Duration) -> Result<Duration> {
        self.arrived(self.probe()?, limit)
    }

    /// Writes a row on the open side.
    pub(super) fn probe(&self) -> Result<Probe> {
        self.way().send()
    }

    /// Waits until the row is on the receiving side.
    pub(super) fn arrived(&self, probe: Probe, limit: Duration) -> Result<Duration> {
        self.way().wait(&probe, limit)
    }

    fn way(&self) -> Drain<'_> {
        Drain {
            writer: &self.writer,
            reader: &self.reader,
            identifier: self.pair.publisher.identifier(),
            table: status_table::table(&self.pair.publisher),
        }
    }

    /// Whether nothing stops apply.
    pub(super) fn keeps_up(&self) -> Result<bool> {
        match self.drain(KEEPS_UP) {
            Err(report) if is_lost(&report) => Err(report),
            drained => Ok(drained.is_ok()),
        }
    }

    /// Who may read and write `flare.ddl`, on the open side and on the receiving one.
    pub(super) fn records(&self) -> (&Session, &Session) {
        match &self.records {
            Some((open, receiving)) => (open, receiving),
            None => (&self.writer, &self.reader),
        }
    }

    /// Waits, with nothing locked, until a row is quick.
    pub(super) fn catch_up(&self) -> Result<()> {
        let since = Instant::now();
        while self.drain(CATCH_UP)? > QUICK {
            if since.elapsed() > CATCH_UP {
                return Failure::new(format!(
                    "wait for apply to keep up: a row still takes more than {}",
                    humantime::format_duration(QUICK)
                ))
                .hint("see flare monitor, and run the command again when the lag is gone")
                .err();
            }
        }
        Ok(())
    }

    /// Waits until no table is being copied, before a switch or a statement: a change of one would wait for the whole copy, with everybody behind it.
    pub(crate) fn copied(&self) -> Result<()> {
        let since = Instant::now();
        loop {
            let relations = subscriptions::relations(&self.reader, &self.stream.subname)?;
            let unready: Vec<TableName> = relations
                .into_iter()
                .filter(|relation| relation.srsubstate != 'r')
                .map(|relation| relation.name)
                .collect();
            if unready.is_empty() {
                return Ok(());
            }
            if since.elapsed() > COPIED_WITHIN {
                return Failure::new(format!(
                    "{} are still being copied: the statement would wait for that, and the application behind it",
                    listed(&unready)
                ))
                .hint("run the command again when flare status says that every table replicates")
                .err();
            }
            interrupt::sleep(Duration::from_millis(100))?;
        }
    }

    /// Validates foreign keys that had to wait for copied rows, once no table is being copied; whether none is left.
    pub(crate) fn validate(&self) -> Result<bool> {
        let (_, records) = self.records();
        if !leaves_unvalidated(records)? {
            return Ok(true);
        }
        let relations = subscriptions::relations(&self.reader, &self.stream.subname)?;
        if relations.iter().any(|it| it.srsubstate != 'r') {
            return Ok(false);
        }
        // A TRUNCATE that they stood in the way of has passed.
        if !self.keeps_up()? {
            return Ok(false);
        }
        records.set_timeout(Timeout::WhileServerAnswers);
        validate(records)?;
        Ok(!leaves_unvalidated(records)?)
    }

    /// Refuses where nothing streams: then there is only one side.
    pub(super) fn streaming(&self) -> Result<()> {
        let Stream {
            dbname, subname, ..
        } = &self.stream;
        let found = subscriptions::find(&self.reader, subname)?;
        if found.is_some_and(|it| it.subenabled) {
            return Ok(());
        }
        Failure::new(format!(
            "bring a statement to both sides of {dbname:?}: subscription {subname:?} is not there, or disabled"
        ))
        .hint(match self.direction {
            Direction::Forward => {
                "before a migration is prepared, statements are the publisher's alone; flare status says where it stands"
            }
            Direction::Back => {
                "nothing leads back, so the subscriber alone counts: run the statement there, as always"
            }
        })
        .err()
    }

    /// How the configuration's commands name it.
    pub(super) fn again(&self) -> String {
        format!("flare ddl {}", ShellWord(self.dbname()))
    }
}

/// Has a superuser's session fire triggers as any other.
fn seen(server: &Server, session: &Session) -> Result<()> {
    match (server.facts().superuser, server.major()) {
        (false, _) => Ok(()),
        (true, 17..) => session.batch("SET event_triggers = on"),
        (true, _) => session.batch("SET session_replication_role = origin"),
    }
}

/// Whether an event trigger of the user's writes rows when a statement runs, as far as its function's text tells.
fn event_triggers_write(session: &Session) -> Result<bool> {
    session
        .value(
            r"SELECT EXISTS (
                SELECT FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE e.evtenabled <> 'D' AND e.evtevent <> 'login' AND n.nspname <> 'flare'
                   AND p.prosrc ~* '\m(insert\s+into|delete\s+from|merge\s+into|truncate)\M|\mupdate\M.*\mset\M')",
            params![],
        )
        .wrap_err("read the event triggers of the receiving side")
}

/// One command at a time for a database, cutovers among them; it ends with the command's sessions.
fn lock_out_others(pair: &Pair, dbname: &str) -> Result<()> {
    let mut servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    servers.sort_by_key(|server| server.identifier());
    for server in servers {
        let since = Instant::now();
        let taken = loop {
            let taken: bool = server.admin().value(
                "SELECT pg_try_advisory_lock($1, hashtext($2))",
                params![RUN_LOCK, dbname],
            )?;
            if taken || since.elapsed() > ENDS_WITHIN {
                break taken;
            }
            interrupt::sleep(Duration::from_millis(50))?;
        };
        if !taken {
            return Failure::new(format!(
                "another flare is at work on {dbname:?} (it holds the advisory lock {RUN_LOCK} of {} on the {})",
                Literal(dbname),
                server.side()
            ))
            .hint("wait until it has ended, and run the command again")
            .err();
        }
    }
    Ok(())
}
