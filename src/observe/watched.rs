//! One side of a subscription: its session when there is one, and what that is asked.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::{Failure, Result, message_of};
use crate::journal::Direction;
use crate::server::{Facts, Opened, Param, Server, Session, Side, Timeout, params};

/// How long an answer may take; on a frozen server it never comes.
const PATIENCE: Timeout = Timeout::For(Duration::from_secs(3));

fn connections_in(dbname: &str) -> String {
    format!(
        "'connections', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.count DESC, c.usename), '[]')
                      FROM (SELECT usename, count(*), count(*) FILTER (WHERE state = 'active') AS active
                              FROM pg_stat_activity
                             WHERE datname = {dbname} AND pid <> pg_backend_pid()
                             GROUP BY usename) c)"
    )
}

/// $1: the database. Asked in `postgres`, one session does for all databases.
fn publisher_sql() -> String {
    format!(
        "SELECT jsonb_build_object(
            'time', clock_timestamp(),
            'current_wal_lsn', pg_current_wal_lsn(),
            'max_slot_wal_keep_size', current_setting('max_slot_wal_keep_size', true),
            'slots', (SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.slot_name), '[]')
                        FROM pg_replication_slots s WHERE s.database = $1),
            'walsenders', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.pid), '[]')
                             FROM pg_stat_replication r
                            WHERE r.pid IN (SELECT active_pid FROM pg_replication_slots
                                             WHERE database = $1)),
            'lsn_history', {},
            {})",
        super::lsn_history::ACCESS,
        connections_in("$1")
    )
}

/// $1: the subscription. Without superuser only some columns of `pg_subscription` can be read, `oid` among them from
/// 14 on.
fn subscriber_sql(major: i32, oid_is_readable: bool) -> String {
    let mine = match oid_is_readable {
        true => "v.subid IN (SELECT u.oid FROM pg_subscription u
                              WHERE u.subname = $1
                                AND u.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))",
        false => "v.subname = $1",
    };
    let errors = match major >= 15 {
        true => {
            "(SELECT to_jsonb(e) FROM pg_stat_subscription_stats e WHERE e.subid = (SELECT min(subid) FROM own))"
        }
        false => "NULL",
    };
    let connections = connections_in("current_database()");
    format!(
        "WITH own AS (SELECT v.* FROM pg_stat_subscription v WHERE {mine}),
              rel AS (SELECT r.srrelid, r.srsubstate::text AS srsubstate
                        FROM pg_subscription_rel r WHERE r.srsubid IN (SELECT subid FROM own))
         SELECT jsonb_build_object(
            'subscription', (SELECT jsonb_build_object('subname', u.subname, 'subenabled', u.subenabled,
                                       'subslotname', u.subslotname, 'subpublications', to_jsonb(u.subpublications))
                               FROM pg_subscription u
                              WHERE u.subname = $1
                                AND u.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
            'workers', (SELECT coalesce(jsonb_agg(to_jsonb(o) || jsonb_build_object('table', o.relid::regclass::text)
                                        ORDER BY o.relid NULLS FIRST, o.pid), '[]')
                          FROM own o WHERE o.pid IS NOT NULL),
            'table_states', (SELECT coalesce(jsonb_object_agg(t.srsubstate, t.count), '{{}}')
                               FROM (SELECT srsubstate, count(*) FROM rel GROUP BY srsubstate) t),
            'unready', (SELECT coalesce(jsonb_agg(to_jsonb(n) ORDER BY n.bytes DESC NULLS LAST), '[]')
                          FROM (SELECT r.srrelid::regclass::text AS \"table\", r.srsubstate,
                                       pg_total_relation_size(r.srrelid) AS bytes
                                  FROM rel r WHERE r.srsubstate <> 'r'
                                 ORDER BY bytes DESC NULLS LAST LIMIT 100) n),
            'errors', {errors},
            {connections})"
    )
}

/// What a server does for the subscription.
#[derive(Clone, Copy)]
enum Role {
    Sends,
    Receives,
}

/// Which servers of the configuration the data comes from and goes to.
pub(super) fn sides(direction: Direction) -> (Side, Side) {
    match direction {
        Direction::Forward => (Side::Publisher, Side::Subscriber),
        Direction::Back => (Side::Subscriber, Side::Publisher),
    }
}

/// What came of opening the servers that did not answer a moment ago: they are not asked again.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    publisher: Option<String>,
    subscriber: Option<String>,
}

impl Silent {
    /// Those of the two.
    pub(crate) fn of(opened: &Opened) -> Silent {
        Silent {
            publisher: opened.publisher.as_ref().err().map(message_of),
            subscriber: opened.subscriber.as_ref().err().map(message_of),
        }
    }

    fn about(&self, side: Side) -> Option<String> {
        match side {
            Side::Publisher => self.publisher.clone(),
            Side::Subscriber => self.subscriber.clone(),
        }
    }
}

/// One side: what it has to be, its session when there is one, and what that is asked.
pub(super) struct Watched {
    role: Role,
    side: Side,
    config: Arc<Config>,
    application_name: String,
    dbname: String,
    silent: Option<String>,
    session: Option<Session>,
    sql: String,
}

impl Watched {
    /// Where the data comes from, for all its databases.
    pub(super) fn publisher(
        config: &Arc<Config>,
        application_name: &str,
        direction: Direction,
    ) -> Watched {
        let (from, _) = sides(direction);
        Watched::new(Role::Sends, from, config, application_name, "postgres")
    }

    /// A database of where it goes.
    pub(super) fn subscriber(
        config: &Arc<Config>,
        application_name: &str,
        direction: Direction,
        dbname: &str,
    ) -> Watched {
        let (_, to) = sides(direction);
        Watched::new(Role::Receives, to, config, application_name, dbname)
    }

    fn new(
        role: Role,
        side: Side,
        config: &Arc<Config>,
        application_name: &str,
        dbname: &str,
    ) -> Watched {
        Watched {
            role,
            side,
            config: config.clone(),
            application_name: application_name.to_owned(),
            dbname: dbname.to_owned(),
            silent: None,
            session: None,
            sql: String::new(),
        }
    }

    /// The same side, not to be asked if it is one of those.
    pub(super) fn unless(mut self, silent: &Silent) -> Watched {
        self.silent = silent.about(self.side);
        self
    }

    /// A session of its own in a database of this side.
    pub(super) fn enter(&self, dbname: &str) -> Result<(Session, Facts)> {
        if let Some(why) = &self.silent {
            return Failure::new(why).err();
        }
        let declared = match self.side {
            Side::Publisher => &self.config.publisher,
            Side::Subscriber => &self.config.subscriber,
        };
        let (session, facts) =
            Server::look_in(self.side, declared, dbname, &self.application_name)?;
        Ok((session.with_timeout(PATIENCE), facts))
    }

    /// Opens the session, and finds out how to ask it.
    pub(super) fn open(&mut self) -> Result<()> {
        let (session, facts) = self.enter(&self.dbname)?;
        let major = facts.version_num / 10_000;
        self.sql = match self.role {
            Role::Sends => publisher_sql(),
            Role::Receives => {
                let readable = facts.superuser
                    || major >= 14
                    || session.value(
                        "SELECT has_column_privilege('pg_subscription', 'oid', 'SELECT')",
                        params![],
                    )?;
                subscriber_sql(major, readable)
            }
        };
        self.session = Some(session);
        Ok(())
    }

    /// The session, while there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Asks, opening the session first where there is none; after an error it is given up.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, params: Vec<Param>) -> Result<T> {
        if self.session.is_none() {
            self.open()?;
        }
        let answer = match &self.session {
            Some(session) => session.first(&self.sql, params),
            None => Ok(None),
        };
        match answer {
            Ok(Some(sample)) => Ok(sample),
            Ok(None) => Failure::new("sample: the server said nothing").err(),
            Err(report) => {
                self.session = None;
                Err(report)
            }
        }
    }
}
