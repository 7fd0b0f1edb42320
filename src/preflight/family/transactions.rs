//! What is under way on the publisher: transactions that a slot waits for, work that delays a lock.

use serde::Deserialize;

use crate::preflight::finding::{Finding, Severity};
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::Literal;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "open_transactions",
        title: "no transaction has been writing for long",
        before: Before::Subscription,
        place: Place::Server,
        asks: &[WRITERS.on_publisher()],
        judge: |view| match view.publisher {
            // A slot waits for those of all databases.
            Some(publisher) if view.unsubscribed > 0 => {
                Ok(writing(&publisher.rows(&WRITERS)?, publisher.side))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "prepared_transactions",
        title: "no prepared transaction was forgotten",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[PREPARED.on_publisher()],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => {
                let mut prepared = publisher.rows(&PREPARED)?;
                prepared.retain(|it| !view.subscribed || it.database == moving.dbname);
                Ok(forgotten(&prepared, publisher.side))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "lock_queues",
        title: "nothing that the cutover's locks would wait for is under way",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[BUSY.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) if view.subscribed => Ok(busy(&publisher.rows(&BUSY)?)),
            _ => Ok(Vec::new()),
        },
    },
];

/// A transaction with an xid.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Writer {
    pid: i32,
    user: Option<String>,
    dbname: Option<String>,
    state: Option<String>,
    age_seconds: i64,
}

const WRITERS: Question<Writer> = Question::server(
    "writers",
    "SELECT jsonb_build_object('pid', pid, 'user', usename, 'dbname', datname, 'state', state,
              'age_seconds', extract(epoch FROM clock_timestamp() - xact_start)::int8)
       FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
        AND xact_start < clock_timestamp() - interval '5 seconds' ORDER BY xact_start",
);

/// A transaction that waits for COMMIT PREPARED.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Prepared {
    gid: String,
    owner: String,
    database: String,
    age_seconds: i64,
}

const PREPARED: Question<Prepared> = Question::server(
    "prepared",
    "SELECT jsonb_build_object('gid', gid, 'owner', owner, 'database', database,
              'age_seconds', extract(epoch FROM clock_timestamp() - prepared)::int8)
       FROM pg_prepared_xacts ORDER BY prepared",
);

/// An autovacuum that makes way for nobody, or a session that has waited for a table for long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Busy {
    pid: i32,
    what: String,
}

const BUSY: Question<Busy> = Question::database(
    "busy",
    "SELECT jsonb_build_object('pid', a.pid, 'what', left(a.query, 120)) FROM pg_stat_activity a
      WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
        AND (a.query LIKE 'autovacuum: %(to prevent wraparound)%' AND a.backend_type = 'autovacuum worker'
             OR a.wait_event_type = 'Lock' AND a.wait_event = 'relation' AND a.query_start < clock_timestamp() - interval '2 seconds')
      ORDER BY a.pid",
);

/// A slot waits that long for a transaction before it gives up.
const FOR_LONG_SECONDS: i64 = 60;

fn writing(writers: &[Writer], side: Side) -> Vec<Finding> {
    let Some(oldest) = writers.first() else {
        return Vec::new();
    };
    let severity = match oldest.age_seconds {
        FOR_LONG_SECONDS.. => Severity::Blocker,
        _ => Severity::Warning,
    };
    vec![
        Finding::of(
            severity,
            "transactions that write have been open for long: a replication slot waits for each of them, in whatever database it is",
        )
        .objects(writers.iter().map(|it| {
            format!(
                "pid {} (user {:?}, database {:?}, for {} s, {})",
                it.pid,
                it.user.as_deref().unwrap_or_default(),
                it.dbname.as_deref().unwrap_or_default(),
                it.age_seconds,
                it.state.as_deref().unwrap_or("?")
            )
        }))
        .fix(format!(
            "wait for its end, or SELECT pg_terminate_backend({}) on the {side}",
            oldest.pid
        )),
    ]
}

fn forgotten(prepared: &[Prepared], side: Side) -> Vec<Finding> {
    const IN_PASSING_SECONDS: i64 = 2;
    let left: Vec<&Prepared> = prepared
        .iter()
        .filter(|it| it.age_seconds >= IN_PASSING_SECONDS)
        .collect();
    match left.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker("prepared transactions are open: a replication slot waits for them, and so would a cutover")
                .objects(left.iter().map(|it| {
                    format!(
                        "{:?} (user {:?}, database {:?}, for {} s)",
                        it.gid, it.owner, it.database, it.age_seconds
                    )
                }))
                .fix(format!(
                    "COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}, in database {:?} of the {side}",
                    first.database,
                    gid = Literal(&first.gid)
                )),
        ],
    }
}

fn busy(busy: &[Busy]) -> Vec<Finding> {
    match busy.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("an autovacuum against wraparound runs, or sessions wait for tables: the cutover's own locks may come too late")
                .objects(busy.iter().map(|it| format!("pid {}: {}", it.pid, it.what)))
                .fix(format!(
                    "wait for its end; who blocks whom: SELECT pg_blocking_pids({})",
                    first.pid
                )),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_blocks_when_it_is_old() {
        let writer = |age_seconds| Writer {
            pid: 7,
            user: Some("u".into()),
            dbname: Some("d".into()),
            state: Some("idle in transaction".into()),
            age_seconds,
        };
        assert!(writing(&[], Side::Publisher).is_empty());
        assert_eq!(
            writing(&[writer(9)], Side::Publisher)[0].severity,
            Severity::Warning
        );
        let old = &writing(&[writer(90), writer(9)], Side::Publisher)[0];
        assert_eq!(old.severity, Severity::Blocker);
        assert!(
            old.fix
                .as_deref()
                .unwrap()
                .contains("pg_terminate_backend(7)")
        );
        assert_eq!(old.objects.len(), 2);
    }

    #[test]
    fn a_prepared_transaction_is_named_with_its_statement() {
        let prepared = |age_seconds| Prepared {
            gid: "it's".into(),
            owner: "u".into(),
            database: "d".into(),
            age_seconds,
        };
        assert!(forgotten(&[prepared(0)], Side::Publisher).is_empty());
        let fix = forgotten(&[prepared(60)], Side::Subscriber)[0]
            .fix
            .clone()
            .unwrap();
        assert!(fix.starts_with("COMMIT PREPARED 'it''s' or"), "{fix}");
        assert!(fix.ends_with("of the subscriber"), "{fix}");
    }
}
