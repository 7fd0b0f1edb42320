//! Takes samples: keeps a session on each side, and opens it again when it was lost.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use super::sample::Sample;
use crate::config::Config;
use crate::error::{Failure, Report, Result, message_of};
use crate::server::{Login, Param, Patience, Server, Session, Side, is_stranger, params};

/// How long a sample may take; on a frozen server it comes without that side.
const PATIENCE: Patience = Patience::For(Duration::from_secs(3));

const CONNECTIONS: &str = "
    'connections', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.count DESC, c.usename), '[]')
                      FROM (SELECT usename, count(*), count(*) FILTER (WHERE state = 'active') AS active
                              FROM pg_stat_activity
                             WHERE datname = current_database() AND pid <> pg_backend_pid()
                             GROUP BY usename) c)";

fn publisher_sql() -> String {
    format!(
        "SELECT jsonb_build_object(
            'current_wal_lsn', pg_current_wal_lsn(),
            'max_slot_wal_keep_size', current_setting('max_slot_wal_keep_size', true),
            'slots', (SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.slot_name), '[]')
                        FROM pg_replication_slots s WHERE s.database = current_database()),
            'walsenders', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.pid), '[]')
                             FROM pg_stat_replication r
                            WHERE r.pid IN (SELECT active_pid FROM pg_replication_slots
                                             WHERE database = current_database())),
            {CONNECTIONS})"
    )
}

/// Without superuser only some columns of `pg_subscription` can be read, `oid` among them from 12 on.
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
    format!(
        "WITH own AS (SELECT v.* FROM pg_stat_subscription v WHERE {mine}),
              rel AS (SELECT r.srrelid::regclass::text AS \"table\", r.srsubstate::text AS srsubstate,
                             pg_total_relation_size(r.srrelid) AS bytes
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
                          FROM (SELECT * FROM rel WHERE srsubstate <> 'r'
                                 ORDER BY bytes DESC NULLS LAST LIMIT 100) n),
            'errors', {errors},
            {CONNECTIONS})"
    )
}

/// Samples one subscription of one database.
pub struct Sampler {
    dbname: String,
    subname: String,
    publisher: Watched,
    subscriber: Watched,
}

/// One side: what it has to be, its session when there is one, and what that is asked.
struct Watched {
    side: Side,
    config: Arc<Config>,
    application_name: String,
    dbname: String,
    session: Option<Session>,
    sql: String,
}

impl Sampler {
    /// Opens both servers. One that cannot be reached is tried again with every sample; a wrong one is an error, as is
    /// reaching neither.
    pub(crate) fn open(
        config: &Arc<Config>,
        application_name: &str,
        dbname: &str,
        subname: &str,
    ) -> Result<Sampler> {
        let watched = |side| Watched {
            side,
            config: config.clone(),
            application_name: application_name.to_owned(),
            dbname: dbname.to_owned(),
            session: None,
            sql: String::new(),
        };
        let mut sampler = Sampler {
            dbname: dbname.to_owned(),
            subname: subname.to_owned(),
            publisher: watched(Side::Publisher),
            subscriber: watched(Side::Subscriber),
        };
        let opened = sampler.on_both(Watched::open, Watched::open);
        match opened {
            (Err(one), Err(other)) => Err(match is_stranger(&other) {
                true => other,
                false => one.wrap_err(format!("{}; and", message_of(&other))),
            }),
            (Err(report), _) | (_, Err(report)) if is_stranger(&report) => Err(report),
            _ => Ok(sampler),
        }
    }

    /// One sample. What a side does not answer is in the sample as that side's error.
    pub fn sample(&mut self) -> Sample {
        let subname = self.subname.clone();
        let (publisher, subscriber) = self.on_both(
            |publisher| publisher.ask(params![]),
            move |subscriber| subscriber.ask(params![subname]),
        );
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let words = |report: Report| message_of(&report);
        Sample::of(
            time,
            &self.dbname,
            &self.subname,
            publisher.map_err(words),
            subscriber.map_err(words),
        )
    }

    fn on_both<P, S: Send>(
        &mut self,
        publisher: impl FnOnce(&mut Watched) -> Result<P>,
        subscriber: impl FnOnce(&mut Watched) -> Result<S> + Send,
    ) -> (Result<P>, Result<S>) {
        std::thread::scope(|scope| {
            let side = &mut self.subscriber;
            let asked = scope.spawn(move || subscriber(side));
            let publisher = publisher(&mut self.publisher);
            let subscriber = asked
                .join()
                .unwrap_or_else(|_| Failure::new("sample: a thread has ended").err());
            (publisher, subscriber)
        })
    }
}

impl Watched {
    /// Opens the server, checks its identity, and finds out how to ask it.
    fn open(&mut self) -> Result<()> {
        let declared = match self.side {
            Side::Publisher => &self.config.publisher,
            Side::Subscriber => &self.config.subscriber,
        };
        let server = Server::open(self.side, declared, &self.application_name)?;
        let session = server
            .connect(Login::Superuser, &self.dbname)?
            .with_patience(PATIENCE);
        self.sql = match self.side {
            Side::Publisher => publisher_sql(),
            Side::Subscriber => {
                let readable = session.value(
                    "SELECT has_column_privilege('pg_subscription', 'oid', 'SELECT')",
                    params![],
                )?;
                subscriber_sql(server.major(), readable)
            }
        };
        self.session = Some(session);
        Ok(())
    }

    /// Asks, opening the server first where there is no session; after an error the session is given up.
    fn ask<T: DeserializeOwned>(&mut self, params: Vec<Param>) -> Result<T> {
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
