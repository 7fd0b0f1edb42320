//! Whether two servers hold the same rows.

use std::collections::BTreeMap;

use crate::support::sql::Row;
use crate::support::{Cluster, Pair};

/// Every ordinary table with the number of its rows and a hash of them all; flare's own left out.
pub fn contents(server: &Cluster, db: &str) -> BTreeMap<String, String> {
    contents_by(|sql| server.rows(db, sql))
}

/// The same of what answers such questions.
pub fn contents_by(mut ask: impl FnMut(&str) -> Vec<Row>) -> BTreeMap<String, String> {
    // Floats by their bits: versions print them with other digits.
    let tables = ask(
        "SELECT format('%I.%I', n.nspname, c.relname),
                (SELECT string_agg(format(CASE t.typname WHEN 'float8' THEN 'float8send(%I)' WHEN 'float4' THEN 'float4send(%I)' ELSE '%I' END, a.attname),
                                   ', ' ORDER BY a.attnum)
                   FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'
            AND n.nspname NOT IN ('information_schema', 'flare') AND c.relname !~ '^flare_' ORDER BY 1",
    );
    let hash = |row: Row| {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let (name, columns) = (
            row.next().unwrap_or_default(),
            row.next().unwrap_or_default(),
        );
        let sql = format!(
            "SET timezone = 'UTC';
             SELECT count(*) || ' ' || coalesce(sum(hashtext(row({columns})::text)::bigint), 0) FROM ONLY {name}"
        );
        let found = ask(&sql).pop().and_then(|mut row| row.remove(0));
        (name, found.unwrap_or_default())
    };
    tables.into_iter().map(hash).collect()
}

/// Both sides hold the same tables with the same rows.
#[track_caller]
pub fn rows_are_equal(pair: &Pair) {
    let db = pair.db();
    let (ours, theirs) = (
        contents(pair.publisher(), db),
        contents(pair.subscriber(), db),
    );
    assert_eq!(ours, theirs);
}

/// Nothing of the copy is left on either side but the subscription and its slot.
#[track_caller]
pub fn nothing_of_the_copy_is_left(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let slots = format!(
        "SELECT coalesce(string_agg(slot_name, ' '), '') FROM pg_replication_slots WHERE database = '{db}'"
    );
    assert_eq!(pair.publisher().value("postgres", &slots), sub);
    let holders = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{db}' AND application_name LIKE 'flare/holder%'"
    );
    assert_eq!(pair.publisher().value("postgres", &holders), "0");
    assert_eq!(
        pair.subscriber()
            .value(db, "SELECT to_regclass('flare.copy_run') IS NULL"),
        "t"
    );
}
