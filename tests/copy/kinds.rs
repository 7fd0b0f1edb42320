//! Every kind of table, copied by `initial_copy` between the oldest and the newest versions.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::same;
use crate::support::{Pair, clients, matrix};

/// What is awkward to copy: names, types that binary cannot carry, columns that are gone or computed, tables above others.
const KINDS: &str = r#"
CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN dom AS int CHECK (value > 0); CREATE TYPE comp AS (x int, m mood);
CREATE TABLE "Quoted a""b'c; --" ("Weird ""col" int PRIMARY KEY, "select" text, m mood, ms mood[], c comp, d dom, da int[], b bytea,
    n numeric, f float8, f4 float4, iv interval, j jsonb, ts timestamptz, r int4range, ip inet, u uuid, x xml, rc regclass, mo money);
INSERT INTO "Quoted a""b'c; --" VALUES (1, E'x\\y\t\n\\.', 'a', '{a,b}', '(1,b)', 5, '{5,6}', '\x00ff', 'NaN', 0.1::float8 + 0.2::float8, 1.1, '1 mon 2 days',
    '{"a":1}', 'infinity', '[1,5)', '10.0.0.1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<a/>', 'mood_holder', '12.34'),
    (2, NULL, NULL, NULL, NULL, NULL, '{}', '', '1e-30', '-0', '-0', NULL, 'null', '-infinity', 'empty', NULL, NULL, NULL, NULL, NULL);
CREATE TABLE ida (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text); INSERT INTO ida (v) SELECT 'v' || g FROM generate_series(1, 100) g;
CREATE TABLE ser (id bigserial PRIMARY KEY, v int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO ser (v) SELECT g FROM generate_series(1, 77) g;
CREATE TABLE drp (a int, b int, c int, d text); INSERT INTO drp SELECT g, g, g, 't' FROM generate_series(1, 50) g;
ALTER TABLE drp DROP COLUMN b; ALTER TABLE drp ADD COLUMN e int DEFAULT 7;
CREATE TABLE nv (a int); INSERT INTO nv VALUES (-1), (2); ALTER TABLE nv ADD CONSTRAINT pos CHECK (a > 0) NOT VALID;
CREATE TABLE par (a int, t text); CREATE TABLE chi (x int) INHERITS (par); INSERT INTO par VALUES (1, 'p'); INSERT INTO chi VALUES (2, 'c', 3);
CREATE TABLE emp (a int PRIMARY KEY); CREATE TABLE none ();
CREATE UNLOGGED TABLE unl (a int); INSERT INTO unl VALUES (1);
CREATE TABLE pt (a int, b text) PARTITION BY RANGE (a); CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (10);
CREATE TABLE pt2 PARTITION OF pt FOR VALUES FROM (10) TO (20); INSERT INTO pt SELECT g, 'x' FROM generate_series(0, 19) g;
CREATE TABLE fkp (id int PRIMARY KEY, v int); CREATE TABLE fkc (id int PRIMARY KEY, p int); INSERT INTO fkp VALUES (1, 1); INSERT INTO fkc VALUES (1, 1), (2, 99);
ALTER TABLE fkc ADD CONSTRAINT fk FOREIGN KEY (p) REFERENCES fkp NOT VALID;
CREATE TABLE fkd (id int PRIMARY KEY, p int REFERENCES fkp); INSERT INTO fkd VALUES (1, 1);
ALTER TABLE fkp ADD CONSTRAINT self FOREIGN KEY (v) REFERENCES fkp (id);
CREATE INDEX fkc_even ON fkc ((p % 2)) WHERE p > 0; CREATE STATISTICS st ON id, p FROM fkc;
CREATE MATERIALIZED VIEW m2 AS SELECT count(*) c FROM fkc; CREATE VIEW above AS SELECT c FROM m2;
CREATE MATERIALIZED VIEW m1 AS SELECT c + 1 c FROM above; CREATE UNIQUE INDEX ON m1 (c);
CREATE VIEW grouped AS SELECT id, p, count(*) FROM fkc GROUP BY id;
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
CREATE TABLE tg (a int); INSERT INTO tg VALUES (1); CREATE TRIGGER tgx BEFORE INSERT ON tg FOR EACH ROW EXECUTE PROCEDURE trg();
CREATE TABLE ruled (a int); INSERT INTO ruled VALUES (1); CREATE RULE r AS ON INSERT TO ruled DO INSTEAD NOTHING;
CREATE TABLE evil (a int); INSERT INTO evil SELECT generate_series(1, 10); ALTER TABLE evil ENABLE ROW LEVEL SECURITY;
CREATE POLICY nobody ON evil USING (false); ALTER TABLE evil FORCE ROW LEVEL SECURITY;
CREATE TABLE ex (r int4range, EXCLUDE USING gist (r WITH &&)); INSERT INTO ex VALUES ('[1,3)'), ('[3,5)');
CREATE TABLE big (id int PRIMARY KEY, v int, pad text); INSERT INTO big SELECT g, g % 100, repeat('x', 400) FROM generate_series(1, 30000) g;
CREATE INDEX big_v ON big (v); ALTER TABLE big CLUSTER ON big_v; COMMENT ON INDEX big_v IS 'it''s'; ALTER TABLE big REPLICA IDENTITY USING INDEX big_pkey;
"#;

const GENERATED: &str = "CREATE TABLE gen (a int PRIMARY KEY, g int GENERATED ALWAYS AS (a * 2) STORED, b int); INSERT INTO gen (a, b) VALUES (1, 1), (2, 2);";
const VIRTUAL: &str = "CREATE TABLE virt (a int PRIMARY KEY, g int GENERATED ALWAYS AS (a * 2) VIRTUAL); INSERT INTO virt (a) VALUES (1), (2);";
const KEYED_PARTITIONS: &str = "
CREATE TABLE kp (a int, b text, PRIMARY KEY (a)) PARTITION BY RANGE (a); CREATE TABLE kp1 PARTITION OF kp FOR VALUES FROM (0) TO (10);
CREATE TABLE kp2 PARTITION OF kp DEFAULT; CREATE INDEX ON kp (b); INSERT INTO kp SELECT g, 'x' FROM generate_series(0, 19) g;";

/// The kinds that a version has.
fn kinds(major: u32) -> String {
    let more = [(11, KEYED_PARTITIONS), (12, GENERATED), (18, VIRTUAL)];
    let more = more.iter().filter(|(since, _)| major >= *since);
    let more: String = more.map(|(_, sql)| *sql).collect();
    format!("CREATE TABLE mood_holder (a int); {KINDS}{more}")
}

/// Client programs that leave a line behind for each dump that is made.
fn count_dumps(pair: &Pair, programs: &[&str]) {
    let (bin, dir) = (clients::bin(18).expect("programs"), pair.dir().join("bin"));
    fs::create_dir(&dir).expect("make a directory");
    for program in programs {
        symlink(bin.join(program), dir.join(program)).expect("link a program");
    }
    let (real, dumps) = (bin.join("pg_dump"), pair.dir().join("dumps"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] || echo \"$@\" >> '{}'\nexec '{}' \"$@\"\n",
        dumps.display(),
        real.display()
    );
    fs::write(dir.join("pg_dump"), script).expect("write a program");
    fs::set_permissions(dir.join("pg_dump"), fs::Permissions::from_mode(0o755))
        .expect("make it executable");
    pair.configure(|config| {
        config["tools"]["path"] = dir.to_str().expect("a path in UTF-8").into();
    });
}

fn dumps(pair: &Pair) -> usize {
    let made = fs::read_to_string(pair.dir().join("dumps")).unwrap_or_default();
    made.lines().count()
}

/// How often the publisher's catalogs are read for the schema: where pg_restore is there, it takes one dump apart.
fn copies_all(old: u32, new: u32, reads: usize) {
    let pair = Pair::new(old, new);
    let programs: &[&str] = match reads {
        1 => &["psql", "pg_dumpall", "pg_restore"],
        _ => &["psql", "pg_dumpall"],
    };
    count_dumps(&pair, programs);
    let (db, sub) = (pair.db(), pair.subname());
    pair.create_roles_on(pair.subscriber());
    let owner = &pair.names().owner;
    pair.publisher()
        .sql(db, &format!("SET ROLE {owner}; {}", kinds(old)));
    // What some builds of a server keep there, and others refuse.
    pair.publisher().sql(
        db,
        "UPDATE pg_attribute SET attoptions = '{n_distinct=7,pg_attver=3}' WHERE attrelid = 'big'::regclass AND attname = 'v'",
    );
    // Changes of partitions are sent as the whole table's then.
    let via_root = match old {
        13.. => " WITH (publish_via_partition_root = true)",
        _ => "",
    };
    // What this test is about is not who may update.
    pair.publisher().sql(
        db,
        &format!(
            "CREATE PUBLICATION \"{}\" FOR ALL TABLES{via_root}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
            pair.names().pubname,
            pair.names().repl
        ),
    );
    pair.flare(&["create_replication_status_table", db]).ok();
    let run = pair.flare(&["initial_copy", "--dry-run", sub]);
    run.ok().prints("would copy");
    pair.flare(&["initial_copy", "--jobs", "250", sub])
        .fails_with("250 jobs need as many sessions on the publisher")
        .says("run it with --jobs 1");
    let before = dumps(&pair);
    let run = pair.flare(&["initial_copy", sub, "--format", "json"]);
    let json = run.ok().json();
    assert_eq!(json["changed"], true, "{run}");
    assert_eq!(dumps(&pair) - before, reads);
    assert!(json["rows"].as_i64() > Some(30_000), "{run}");
    same::rows_are_equal(&pair);
    same::nothing_of_the_copy_is_left(&pair);
    let valid = "SELECT string_agg(conname || ' ' || convalidated, ',' ORDER BY conname) FROM pg_constraint WHERE conname IN ('pos', 'fk')";
    assert_eq!(pair.subscriber().value(db, valid), "fk false,pos false");
    assert_eq!(pair.subscriber().value(db, "SELECT c FROM m1"), "3");
    let states = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    assert_eq!(pair.subscriber().value(db, states), "0");
    // Both schemas are the same, indexes and all.
    pair.flare(&["replicate_schema", db])
        .ok()
        .prints("holds the same schema already");
    pair.publisher().sql(
        db,
        "INSERT INTO big VALUES (0, 1, 'streamed'); DELETE FROM big WHERE id = 5; INSERT INTO pt VALUES (7, 'streamed')",
    );
    pair.await_caught_up();
    same::rows_are_equal(&pair);
    let again = pair.flare(&["initial_copy", sub, "--format", "json"]);
    assert_eq!(again.ok().json()["changed"], false, "{again}");
}

#[test]
fn every_kind_of_table_from_10_to_18() {
    copies_all(10, 18, 1);
}

#[test]
#[ignore = "make soak"]
fn every_kind_of_table_from_16_to_17() {
    copies_all(16, 17, 2);
}

#[test]
#[ignore = "a matrix for make soak"]
fn every_kind_of_table_between_all_versions() {
    matrix::for_each_pair(|old, new| copies_all(old, new, 1));
}
