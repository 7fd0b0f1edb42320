//! Values arrive to the last bit, whatever is set on server, database and role.

use std::time::Duration;

use crate::support::{Cluster, Pair, matrix, wait};

/// Every kind that a setting can mangle.
const ROWS: &str = "
    CREATE TABLE exact (id int PRIMARY KEY, a float8, b float4, c float8[], t text, n text[], i interval, ts timestamptz, x xml, m money);
    INSERT INTO exact SELECT i, random() / 3 * 10 ^ (random() * 600 - 300), (random() / 7)::float4, ARRAY[random() / 3, NULL], 'é ü ß ' || i, ARRAY['null', NULL, 'x'],
        (i || ' days -1 hours')::interval, '2020-01-02 03:04:05.678901+00'::timestamptz + i * '1 day'::interval, '<a/>text', i::numeric::money FROM generate_series(1, 30000) i;
    INSERT INTO exact VALUES (0, 1.7976931348623157e308, 3.4028235e38, ARRAY[2.2250738585072014e-308, 'NaN'::float8, '-Infinity'::float8], '', '{}', '-1 days +2:03:04', '-infinity', 'a<b/>', 0)";

const STREAMED: &str = "
    INSERT INTO exact SELECT i, random() / 3, (random() / 7)::float4, ARRAY[random() / 9], 'ñ' || i, ARRAY[NULL, 'NULL'], '1 mon -3 days'::interval, now(), 'x', 7::money FROM generate_series(40001, 40100) i;
    UPDATE exact SET a = a / 3, b = b / 7, t = t || 'ö' WHERE id BETWEEN 5 AND 50";

const BITS: &str = "
    SELECT count(*) || md5(string_agg(concat_ws('|', id, float8send(a), float4send(b), array_send(c), textsend(t), array_send(n), interval_send(i), timestamptz_send(ts), xml_send(x), cash_send(m)), ',' ORDER BY id)) FROM exact";

/// On the subscriber's database, its own session's settings notwithstanding.
const READING: [&str; 5] = [
    "client_encoding = 'LATIN1'",
    "array_nulls = off",
    "xmloption = 'document'",
    "\"DateStyle\" = 'SQL, DMY'",
    "lock_timeout = '1ms'",
];

/// On the publisher's.
const WRITING: [&str; 4] = [
    "extra_float_digits = 0",
    "\"DateStyle\" = 'Postgres, DMY'",
    "\"IntervalStyle\" = 'sql_standard'",
    "statement_timeout = '15ms'",
];

/// What tells every bit, in no time that a setting limits.
const UNTOUCHED: [&str; 4] = [
    "statement_timeout=0",
    "xmloption=content",
    "extra_float_digits=3",
    "IntervalStyle=postgres",
];

fn same_bits(pair: &Pair) {
    let db = pair.db();
    wait::for_("the same rows", Duration::from_secs(30), || {
        let bits = |server: &Cluster| {
            let row = server.session_with(db, &UNTOUCHED).query_one(BITS, &[]);
            row.expect("the rows").get::<_, String>(0)
        };
        bits(pair.publisher()) == bits(pair.subscriber())
    });
}

fn set(pair: &Pair, server: &Cluster, settings: &[&str]) {
    for setting in settings {
        server.sql(
            "postgres",
            &format!("ALTER DATABASE {} SET {setting}", pair.db()),
        );
    }
}

fn settings_of_roles(pair: &Pair) -> String {
    let of = |server: &Cluster| {
        server.value(
            "postgres",
            &format!("SELECT coalesce(string_agg(setrole::regrole::text || setconfig::text, ' ' ORDER BY 1), '') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = '{}' AND setrole <> 0", pair.db()),
        )
    };
    format!("{} / {}", of(pair.publisher()), of(pair.subscriber()))
}

#[test]
fn no_setting_mangles_a_value_there_or_back() {
    for &(old, new) in matrix::sample(&[(10, 12), (11, 14), (11, 18)], &[(10, 12), (11, 18)]) {
        let pair = Pair::new(old, new);
        let (db, sub) = (pair.db(), pair.subname());
        pair.create_roles_on(pair.subscriber());
        pair.publisher().sql(db, ROWS);
        pair.configure(|config| {
            config["publications"][db]["replica_identity_full_tables"] =
                serde_yaml::Value::Sequence(vec![]);
        });
        pair.flare(&["replicate_schema", db]).ok();
        pair.flare(&["create_publication", db]).ok();
        pair.flare(&["grant_replication", db]).ok();
        set(&pair, pair.publisher(), &WRITING);
        set(&pair, pair.subscriber(), &READING);
        let before = settings_of_roles(&pair);
        pair.flare(&["create_subscription", "--use-repl-user", "--wait", sub])
            .ok();
        same_bits(&pair);
        let mut writing = pair.publisher().session_with(db, &UNTOUCHED);
        let streamed = writing.batch_execute(STREAMED);
        streamed.expect("write more rows");
        same_bits(&pair);
        assert_ne!(settings_of_roles(&pair), before);
        pair.flare(&["drop_subscription", sub]).ok();
        assert_eq!(settings_of_roles(&pair), before, "{old}-{new}");
    }
}
