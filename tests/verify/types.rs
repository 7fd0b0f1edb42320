//! Values of every type, on servers whose settings spell them in every other way.

use super::{named, verify_data};
use crate::support::{Cluster, Pair, matrix};

/// A type, from which version on it can be used here, and values whose neighbours differ in as little as can be.
struct Kind {
    since: u32,
    declared: &'static str,
    values: &'static [&'static str],
}

const fn kind(since: u32, declared: &'static str, values: &'static [&'static str]) -> Kind {
    Kind {
        since,
        declared,
        values,
    }
}

const OBJECTS: &str = "
    CREATE SCHEMA ext;
    CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION cube SCHEMA ext;
    CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy');
    CREATE TYPE place AS (\"Name\" text, at float8, near float4[]);
    CREATE TYPE floatrange AS RANGE (subtype = float8);
    CREATE DOMAIN degrees AS float8; CREATE DOMAIN north AS degrees CHECK (value >= 0);
    CREATE DOMAIN short AS varchar(5); CREATE DOMAIN ints AS int[];";

const KINDS: &[Kind] = &[
    kind(10, "bool", &["t", "f"]),
    kind(10, "int2", &["-32768", "32767"]),
    kind(10, "int4", &["0", "2147483647"]),
    kind(10, "int8", &["-9223372036854775808", "1"]),
    kind(10, "oid", &["0", "4294967295"]),
    kind(10, "xid", &["3", "4294967295"]),
    kind(10, "cid", &["3", "4"]),
    kind(10, "tid", &["(0,1)", "(0,2)"]),
    kind(
        10,
        "float4",
        &[
            "1.1",
            "1.1000001",
            "NaN",
            "-Infinity",
            "0",
            "-0",
            "3.4028235e38",
        ],
    ),
    kind(
        10,
        "float8",
        &[
            "0.1",
            "0.30000000000000004",
            "0.3",
            "NaN",
            "Infinity",
            "-0",
            "0",
            "1.7976931348623157e308",
            "5e-324",
        ],
    ),
    kind(
        10,
        "numeric",
        &[
            "1.0",
            "1.00",
            "NaN",
            "0",
            "-12345678901234567890.0987654321",
        ],
    ),
    kind(10, "numeric(10,2)", &["1.00", "99999999.99"]),
    kind(10, "money", &["12.34", "-92233720368547758.08"]),
    kind(
        10,
        "text",
        &[
            "",
            " ",
            "a",
            "A",
            "ä",
            "a\u{308}",
            "NULL",
            "\\N",
            "x\ty\r\nz",
            "'\"\\",
            "{}",
        ],
    ),
    kind(10, "varchar(7)", &["", "a", "a "]),
    kind(10, "char(7)", &["", "a", "b"]),
    kind(10, "name", &["a", "Ä"]),
    kind(10, "\"char\"", &["a", "b"]),
    kind(10, "bytea", &["\\x", "\\x00", "\\x005c27", "\\xff"]),
    kind(10, "bit(3)", &["101", "100"]),
    kind(10, "varbit", &["", "0", "00"]),
    kind(10, "date", &["2000-02-29", "infinity", "0044-03-15 BC"]),
    kind(10, "time", &["23:59:59.999999", "24:00:00"]),
    kind(10, "timetz", &["12:00:00+02", "10:00:00+00"]),
    kind(
        10,
        "timestamp",
        &[
            "2001-02-03 04:05:06.789012",
            "2001-03-02 04:05:06.789012",
            "-infinity",
        ],
    ),
    kind(
        10,
        "timestamptz",
        &[
            "2001-02-03 04:05:06.789012+00",
            "2001-02-03 04:05:06.789013+00",
            "infinity",
        ],
    ),
    kind(
        10,
        "interval",
        &[
            "1 day",
            "24:00:00",
            "1 mon",
            "30 days",
            "-1 year -2 mons +3 days -04:05:06",
        ],
    ),
    kind(
        10,
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    kind(10, "json", &["{\"a\":1}", "{\"a\": 1}", "[1.0]", "null"]),
    kind(10, "jsonb", &["{\"a\": 1}", "{\"a\": 1.0}", "[]", "\"ä\""]),
    kind(10, "inet", &["10.0.0.1", "10.0.0.1/24", "::1"]),
    kind(10, "cidr", &["10.0.0.0/8", "10.0.0.0/9"]),
    kind(10, "macaddr", &["08:00:2b:01:02:03", "08:00:2b:01:02:04"]),
    kind(
        10,
        "macaddr8",
        &["08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"],
    ),
    kind(10, "point", &["(0.1,0.2)", "(0.1,0.30000000000000004)"]),
    kind(10, "line", &["{1,2,3}", "{1,2,4}"]),
    kind(10, "lseg", &["[(0,0),(1,1)]", "[(1,1),(0,0)]"]),
    kind(10, "box", &["(1,1),(0,0)", "(2,1),(0,0)"]),
    kind(10, "path", &["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    kind(
        10,
        "polygon",
        &["((0,0),(1,1),(1,0))", "((0,0),(1,1),(2,0))"],
    ),
    kind(10, "circle", &["<(0,0),1>", "<(0,0),1.0000000000000002>"]),
    kind(10, "tsvector", &["'a':1 'b':2", "'a':1A 'b':2"]),
    kind(10, "tsquery", &["'a' & 'b'", "'a' | 'b'"]),
    kind(10, "pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
    kind(10, "txid_snapshot", &["10:20:10,14", "10:20:10"]),
    kind(10, "refcursor", &["a", "b"]),
    kind(10, "regclass", &["pg_catalog.pg_class", "public.types"]),
    kind(10, "regtype", &["integer", "public.mood"]),
    kind(10, "regproc", &["pg_catalog.now", "pg_catalog.pi"]),
    kind(10, "regnamespace", &["public", "ext"]),
    kind(10, "regrole", &["postgres", "pg_monitor"]),
    kind(10, "aclitem", &["postgres=r/postgres", "=r/postgres"]),
    kind(10, "int2vector", &["1 2", "1 3"]),
    kind(10, "oidvector", &["1 2", "1 3"]),
    kind(10, "int4range", &["empty", "[1,2)", "[1,3)"]),
    kind(10, "numrange", &["[1.0,2.0]", "[1.00,2.0]", "(,2)"]),
    kind(
        10,
        "tsrange",
        &["[2001-01-01,2002-01-01)", "[2001-01-01,2002-01-01]"],
    ),
    kind(
        10,
        "tstzrange",
        &["[2001-01-01 00:00:00+00,)", "(2001-01-01 00:00:00+00,)"],
    ),
    kind(
        10,
        "daterange",
        &["[2001-01-01,2002-01-01)", "[2001-01-01,infinity)"],
    ),
    kind(
        10,
        "int4[]",
        &["{}", "{1,NULL}", "{{1},{2}}", "[2:3]={1,2}", "{1,2}"],
    ),
    kind(
        10,
        "text[]",
        &["{a}", "{NULL}", "{\"NULL\"}", "{\"\"}", "{\"a,b\"}"],
    ),
    kind(10, "float8[]", &["{0.1}", "{0.10000000000000002}"]),
    kind(
        10,
        "regclass[]",
        &["{pg_catalog.pg_class}", "{public.types}"],
    ),
    kind(
        10,
        "timestamptz[]",
        &[
            "{\"2001-02-03 04:05:06+00\"}",
            "{\"2001-02-03 04:05:07+00\"}",
        ],
    ),
    kind(10, "mood", &["sad", "very happy"]),
    kind(
        10,
        "mood[]",
        &["{sad,\"very happy\"}", "{\"very happy\",sad}"],
    ),
    kind(
        10,
        "place",
        &[
            "(,,)",
            "(\"\",,)",
            "(x,0.1,\"{1.1}\")",
            "(x,0.1,\"{1.1000001}\")",
        ],
    ),
    kind(
        10,
        "place[]",
        &[
            "{\"(x,0.1,)\",NULL}",
            "{\"(x,0.30000000000000004,)\",NULL}",
            "{}",
        ],
    ),
    kind(
        10,
        "floatrange",
        &["[0.1,0.3)", "[0.1,0.30000000000000004)", "empty"],
    ),
    kind(10, "degrees", &["0.1", "NaN", "0.10000000000000002"]),
    kind(10, "north", &["0.1", "0.2"]),
    kind(10, "short", &["a", "b"]),
    kind(10, "ints", &["{1}", "{2}"]),
    kind(11, "short[]", &["{a}", "{b}"]),
    kind(10, "ext.citext", &["a", "A"]),
    kind(10, "ext.citext[]", &["{a}", "{A}"]),
    kind(10, "ext.hstore", &["\"a\"=>\"1\"", "\"a\"=>NULL"]),
    kind(10, "ext.ltree", &["a.b", "a.c"]),
    kind(
        10,
        "ext.cube",
        &[
            "(0.1, 0.2)",
            "(0.1, 0.30000000000000004)",
            "(0),(1)",
            "(1),(0)",
        ],
    ),
    kind(12, "jsonpath", &["$.\"a\"", "$.\"b\""]),
    kind(13, "xid8", &["3", "18446744073709551615"]),
    kind(13, "pg_snapshot", &["10:20:10,14", "10:20:10"]),
    kind(14, "int4multirange", &["{}", "{[1,2),[3,4)}"]),
    kind(14, "nummultirange", &["{[1.0,2.0)}", "{[1.00,2.0)}"]),
    kind(
        14,
        "floatmultirange",
        &["{[0.1,0.3)}", "{[0.1,0.30000000000000004)}"],
    ),
    kind(17, "interval hour to second", &["1:02:03", "infinity"]),
];

/// What would spell values in another way, or show fewer of them, if sessions did not pin it.
fn hostile(pair: &Pair, server: &Cluster, other: bool) {
    let settings = [
        ("DateStyle", if other { "German, DMY" } else { "SQL, MDY" }),
        (
            "IntervalStyle",
            if other { "sql_standard" } else { "iso_8601" },
        ),
        (
            "TimeZone",
            if other {
                "Asia/Kathmandu"
            } else {
                "America/St_Johns"
            },
        ),
        ("bytea_output", "escape"),
        ("extra_float_digits", if other { "-15" } else { "0" }),
        ("quote_all_identifiers", "on"),
        ("standard_conforming_strings", "off"),
        ("array_nulls", "off"),
        ("search_path", "ext, public"),
        ("client_encoding", "LATIN1"),
        ("xmlbinary", "hex"),
        ("default_transaction_isolation", "serializable"),
        ("statement_timeout", "1ms"),
    ];
    for (name, value) in settings {
        let db = pair.db();
        server.sql(
            "postgres",
            &format!("ALTER DATABASE {db} SET {name} = '{value}'"),
        );
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn every_type_is_compared(old: u32, new: u32) {
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| kind.since <= old).collect();
    let pair = Pair::new(old, new).with_accounts(1);
    let columns: Vec<String> = kinds
        .iter()
        .enumerate()
        .map(|(at, kind)| format!("c{at} {}", kind.declared))
        .collect();
    let table = format!(
        "CREATE TABLE types (id int PRIMARY KEY, {})",
        columns.join(", ")
    );
    let most = kinds
        .iter()
        .map(|kind| kind.values.len())
        .max()
        .expect("values");
    let row = |id: usize, shift: usize| -> String {
        let values: Vec<String> = kinds
            .iter()
            .map(|kind| literal(kind.values[(id + shift) % kind.values.len()]))
            .collect();
        format!("INSERT INTO types VALUES ({id}, {});", values.join(", "))
    };
    let pair = pair.replicating_with(|pair, server| {
        server.sql(pair.db(), &format!("{OBJECTS} {table};"));
        if std::ptr::eq(server, pair.publisher()) {
            let rows: String = (0..most).map(|id| row(id, 0)).collect();
            server.sql(
                pair.db(),
                &format!("{rows} INSERT INTO types (id) VALUES (-1)"),
            );
        }
    });
    // Some by the initial copy, some by the stream; one for each column to be changed in.
    let streamed: String = (0..kinds.len()).map(|id| row(1000 + id, 1)).collect();
    pair.publisher().sql(pair.db(), &streamed);
    pair.await_caught_up();
    hostile(&pair, pair.publisher(), false);
    hostile(&pair, pair.subscriber(), true);
    let equal = verify_data(&pair, &["--table", "types"]);
    let json = equal.ok().json();
    assert_eq!(json["equal"], true, "{old}-{new}: {equal}");
    assert_eq!(json["rows_compared"], most + kinds.len() + 1);

    let mut changes = String::new();
    for (at, kind) in kinds.iter().enumerate() {
        let id = 1000 + at;
        let now = (id + 1) % kind.values.len();
        let other = literal(kind.values[(now + 1) % kind.values.len()]);
        changes += &format!("UPDATE types SET c{at} = {other} WHERE id = {id};\n");
    }
    let plain = [
        "statement_timeout=0",
        "array_nulls=on",
        "client_encoding=UTF8",
        "DateStyle=ISO",
        "IntervalStyle=postgres",
        "search_path=public",
    ];
    let mut session = pair.subscriber().session_with(pair.db(), &plain);
    let changed = session.batch_execute(&changes);
    changed.expect("change the subscriber's rows");
    let different = verify_data(&pair, &["--table", "types"]);
    let json = different.code(3).json();
    let mut expected: Vec<String> = (0..kinds.len())
        .map(|at| format!("types: different {}: c{at}", 1000 + at))
        .collect();
    expected.sort();
    assert_eq!(named(&json), expected, "{old}-{new}: {different}");
}

#[test]
fn every_type_is_compared_on_the_oldest_and_the_newest() {
    every_type_is_compared(10, 18);
    every_type_is_compared(18, 18);
}

#[test]
#[ignore = "all pairs: make soak"]
fn every_type_is_compared_on_all_pairs() {
    matrix::for_some_pairs(every_type_is_compared);
}
