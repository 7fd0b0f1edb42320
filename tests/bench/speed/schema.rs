//! A schema of many tables beside `pg_dump | psql`.

use crate::client;
use crate::connect::ms;
use crate::rounds::{Goal, compare};
use crate::support::Pair;
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;

const TABLES: u32 = 2000;

pub fn measure(old: u32, new: u32) {
    let pair = Pair::alone(old, new);
    pair.create_roles_on(pair.subscriber());
    // A key, an index, a foreign key, a default and a check each.
    for from in (1..=TABLES).step_by(500) {
        let fill = format!(
            "DO $$ BEGIN
               FOR i IN {from}..{} LOOP
                 EXECUTE format('CREATE TABLE t%s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint, name text NOT NULL DEFAULT %L, at timestamptz DEFAULT now(), CHECK (length(name) < 100))', i, 'n');
                 EXECUTE format('CREATE INDEX ON t%s (name)', i);
                 EXECUTE format('ALTER TABLE t%s ADD FOREIGN KEY (parent) REFERENCES t%s', i, greatest(i - 1, 1));
                 EXECUTE format('ALTER TABLE t%s OWNER TO {}', i);
               END LOOP;
             END $$",
            from + 499,
            pair.names().owner
        );
        pair.publisher().sql(pair.db(), &fill);
    }
    let compared = compare(
        5,
        || {
            drop_database(&pair);
            ms(pair.flare(&["replicate_schema", pair.db()]).ok().took())
        },
        || {
            drop_database(&pair);
            dump_and_load(&pair)
        },
    );
    let what = format!("flare replicate_schema, {TABLES} tables, beside pg_dump | psql");
    compared.report(&what, "ms", Goal::AtMost(1.1));
}

fn drop_database(pair: &Pair) {
    let drop = format!("DROP DATABASE IF EXISTS {}", pair.db());
    pair.subscriber().sql("postgres", &drop);
}

/// What one would type: the database, then all of its schema or nothing.
fn dump_and_load(pair: &Pair) -> f64 {
    let script = r#"set -e
"$PSQL" -X -q -c "CREATE DATABASE $DB OWNER $OWNER TEMPLATE template0" "$TO dbname=postgres"
"$PG_DUMP" --schema-only "$FROM dbname=$DB" |
    "$PSQL" -X -q -v ON_ERROR_STOP=1 --single-transaction "$TO dbname=$DB" > /dev/null"#;
    let [from, to] = [pair.publisher(), pair.subscriber()].map(|server| {
        let port = server.port();
        format!("host={} port={port} user={}", server.host(), server.admin())
    });
    // 18 writes what 17 and older do not know.
    let script = match pair.subscriber().version() {
        18.. => script.to_owned(),
        _ => script.replace(" |\n", " | sed '/^SET transaction_timeout/d' |\n"),
    };
    let output = Invocation::of("sh", &["-c", &script])
        .env("PATH", "/usr/bin:/bin")
        .env("PSQL", client("psql"))
        .env("PG_DUMP", client("pg_dump"))
        .env("FROM", from)
        .env("TO", to)
        .env("DB", pair.db())
        .env("OWNER", &pair.names().owner)
        .env("PGPASSWORD", Passwords::ADMIN)
        .run();
    ms(output.ok().took())
}
