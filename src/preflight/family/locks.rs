//! Room in the lock tables: for the load of a schema, and for the tables that a cutover locks.

use serde::Deserialize;

use super::capacity::{SETTINGS, Settings};
use crate::error::Result;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::View;
use crate::server::Side;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "locks",
    title: "the lock tables have room for every table",
    before: Before::Setup,
    place: Place::Database,
    asks: &[SETTINGS.on_both(), RELATIONS.on_both()],
    judge: |view| locks(view),
}];

/// Relations that a load creates, and tables that a cutover locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Relations {
    all: i64,
    tables: i64,
}

const RELATIONS: Question<Relations> = Question::database(
    "relations",
    "SELECT jsonb_build_object('all', count(*), 'tables', count(*) FILTER (WHERE relkind IN ('r', 'p')))
       FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'",
);

fn locks(view: &View<'_>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let Some(publisher) = view.publisher else {
        return Ok(found);
    };
    let here = publisher.first(&RELATIONS)?.unwrap_or_default();
    // Locking, and the fence's triggers, take one for each table.
    found.extend(too_many(
        (publisher.side, publisher.major),
        &Settings::of(publisher)?,
        here.tables,
        "lock all tables",
    ));
    if let Some(subscriber) = view.subscriber {
        let there = subscriber.first(&RELATIONS)?.unwrap_or_default();
        let settings = Settings::of(subscriber)?;
        let side = (subscriber.side, subscriber.major);
        let locking = too_many(side, &settings, here.tables, "lock all tables");
        if there.tables > 0 || locking.is_some() {
            found.extend(locking);
        } else {
            let loading = too_many(
                side,
                &settings,
                here.all,
                "load the schema in one transaction",
            );
            found.extend(loading.map(|it| may_load(it, subscriber.superuser)));
        }
    }
    Ok(found)
}

/// The fast copy of a superuser, which is `prepare`'s own way, loads what is too much for one transaction in many.
fn may_load(found: Finding, superuser: bool) -> Finding {
    if !superuser {
        return found;
    }
    Finding {
        severity: Severity::Warning,
        message: format!(
            "{}: initial_copy loads it in many (prepare does so by default), replicate_schema and prepare --copy native cannot",
            found.message
        ),
        ..found
    }
}

/// The size of the lock table: `max_locks_per_transaction` for each process there can be (manual: "Lock Management").
/// What shared memory has to spare lets it grow: to 1.65 to 1.71 times that on 10, 14 and 18 with their defaults.
fn too_many(
    (side, major): (Side, i32),
    settings: &Settings,
    needed: i64,
    what: &str,
) -> Option<Finding> {
    let each = settings.number("max_locks_per_transaction")?;
    let autovacuum = match settings.number("autovacuum_worker_slots") {
        Some(_) => "autovacuum_worker_slots",
        None => "autovacuum_max_workers",
    };
    // Until 11 walsenders are counted among the connections.
    let walsenders = if major >= 12 { "max_wal_senders" } else { "" };
    let processes: i64 = [
        "max_connections",
        "max_prepared_transactions",
        "max_worker_processes",
        autovacuum,
        walsenders,
    ]
    .iter()
    .filter_map(|name| settings.number(name))
    .sum();
    let room = each * (processes + 1);
    let severity = match needed * 10 {
        over if over > room * 17 => Severity::Blocker,
        over if over > room * 15 => Severity::Warning,
        _ => return None,
    };
    let found = Finding::of(
        severity,
        format!(
            "max_locks_per_transaction of the {side} is {each}, which makes room for {room} locks and some more, and {needed} are needed to {what}"
        ),
    );
    Some(found.fix(format!(
        "ALTER SYSTEM SET max_locks_per_transaction = {} on the {side}, and restart it",
        needed / (processes + 1) + 1
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_thousand_tables_do_not_fit_into_the_default() {
        let settings = Settings::from(&[
            ("max_locks_per_transaction", "64"),
            ("max_connections", "100"),
            ("max_prepared_transactions", "0"),
            ("autovacuum_max_workers", "3"),
            ("max_worker_processes", "8"),
            ("max_wal_senders", "10"),
        ]);
        let of = |needed| too_many((Side::Subscriber, 14), &settings, needed, "load");
        // 12,880 were counted on a 14.
        assert!(of(11_500).is_none());
        assert_eq!(of(12_500).unwrap().severity, Severity::Warning);
        let found = of(20_000).unwrap();
        assert_eq!(found.severity, Severity::Blocker);
        assert!(found.message.contains("room for 7808 locks"), "{found:?}");
        assert!(found.fix.unwrap().contains("= 164 on the subscriber"));
        let severity = |superuser| may_load(of(20_000).unwrap(), superuser).severity;
        assert_eq!(severity(false), Severity::Blocker);
        assert_eq!(severity(true), Severity::Warning);
    }
}
