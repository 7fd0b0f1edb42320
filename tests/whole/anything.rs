//! Any database, there and back: what was there before is there afterwards, on both sides.
//!
//! `FLARE_TRIAL_SQL=dir cargo test --test flare any_schema -- --ignored` takes each file of a directory, and
//! `FLARE_TRIAL_PAIR=14-18` names the versions.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::traces::{differences, schema};
use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, clients};

/// Tables, with the number of their rows and a hash of all of them.
const ROWS: &str = "
    SELECT string_agg(format('%s %s', c.oid::regclass, (xpath('/row/h/text()', query_to_xml(format(
               'SELECT count(*) || '':'' || coalesce(sum(hashtext(ROW(t.*)::text)), 0) AS h FROM ONLY %s t', c.oid::regclass), false, true, '')))[1]), E'\\n' ORDER BY c.oid::regclass::text)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'flare') AND c.relname <> 'flare_replication_status'";

const SEQUENCES: &str = "
    SELECT string_agg(format('%s %s', format('%I.%I', schemaname, sequencename), last_value), E'\\n' ORDER BY schemaname, sequencename)
      FROM pg_sequences WHERE schemaname <> 'flare'";

/// A few rows for every table that takes values of the simplest kind.
pub(super) const FILL: &str = r#"
    DO $fill$ DECLARE t record; names text; expressions text; i int; pass int;
    BEGIN
      FOR pass IN 1..4 LOOP FOR t IN SELECT c.oid, c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$)' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') LOOP
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
               string_agg(CASE
                 WHEN b.typname IN ('int2', 'int4', 'int8', 'numeric', 'float4', 'float8', 'oid', 'money') THEN format('$1::text::%s', b.oid::regtype)
                 WHEN b.typcategory = 'S' AND b.typname NOT IN ('char', 'name') THEN format('(''w'' || $1)::%s', format_type(a.atttypid, a.atttypmod))
                 WHEN b.typcategory = 'D' THEN format('(timestamptz ''2020-01-01 UTC'' + $1 * interval ''1 day'')::%s', b.oid::regtype)
                 WHEN b.typcategory = 'T' THEN format('interval ''1 hour'' * $1')
                 WHEN b.typname = 'bool' THEN 'true'
                 WHEN b.typname = 'uuid' THEN 'md5($1::text)::uuid'
                 WHEN b.typname IN ('json', 'jsonb') THEN format('''{}''::%s', b.typname)
                 WHEN b.typname = 'bytea' THEN '''x''::bytea'
                 WHEN b.typtype = 'e' THEN format('(SELECT enumlabel FROM pg_enum WHERE enumtypid = %s ORDER BY enumsortorder LIMIT 1)::%s', b.oid, b.oid::regtype)
                 WHEN b.typcategory = 'A' THEN format('''{}''::%s', format_type(a.atttypid, a.atttypmod))
                 WHEN b.typtype = 'r' THEN format('''empty''::%s', b.oid::regtype)
                 WHEN b.typcategory = 'I' THEN format('''10.0.0.0/8''::%s', b.oid::regtype)
                 ELSE 'NULL' END, ', ' ORDER BY a.attnum)
          INTO names, expressions
          FROM pg_attribute a JOIN pg_type f ON f.oid = a.atttypid JOIN pg_type b ON b.oid = CASE WHEN f.typtype = 'd' THEN f.typbasetype ELSE f.oid END
         WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = '' AND a.attidentity <> 'a';
        FOR i IN 1..3 LOOP
          BEGIN
            SET CONSTRAINTS ALL IMMEDIATE;
            EXECUTE format('INSERT INTO %s (%s) SELECT %s', t.name, names, expressions) USING i;
          EXCEPTION WHEN OTHERS THEN NULL;
          END;
        END LOOP;
      END LOOP; END LOOP;
      PERFORM setval(c.oid, 41) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
        WHERE n.nspname !~ '^pg_' AND s.seqmax > 41 AND s.seqmin <= 41;
    END $fill$"#;

/// What went wrong, in words; nothing where all is well.
struct Walk<'p> {
    pair: &'p Pair,
    wrong: String,
}

impl Walk<'_> {
    fn step(&mut self, args: &[&str]) -> Option<Output> {
        let output = self.pair.flare(args);
        if output.status().success() {
            return Some(output);
        }
        let _ = write!(self.wrong, "\n{output}");
        None
    }

    fn same(&mut self, what: &str, before: &str, after: &str) {
        let found = differences(before, after);
        if !found.is_empty() {
            let _ = write!(self.wrong, "\n{what}:\n{found}");
        }
    }
}

fn rows(pair: &Pair, server: &Cluster) -> String {
    server.value(pair.db(), ROWS)
}

fn sequences(pair: &Pair, server: &Cluster) -> String {
    server.value(pair.db(), SEQUENCES)
}

/// Tables without a key are sent whole, where they can be.
fn send_whole(pair: &Pair) {
    let keyless = pair.publisher().value(
        pair.db(),
        "SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname)), '[]') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^(pg_|information_schema$)' AND c.relreplident = 'd'
            AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
    );
    let keyless: serde_yaml::Value = serde_yaml::from_str(&keyless).expect("a list");
    pair.configure(|config| {
        config["publications"][pair.db()]["replica_identity_full_tables"] = keyless;
    });
}

/// Prepares, switches, goes back and cleans up; what is not as it was is named.
pub(super) fn there_and_back(pair: &Pair) -> String {
    send_whole(pair);
    let (publisher, subscriber, sub) = (pair.publisher(), pair.subscriber(), pair.subname());
    let mut walk = Walk {
        pair,
        wrong: String::new(),
    };
    let before = (
        schema(pair, publisher),
        rows(pair, publisher),
        sequences(pair, publisher),
    );
    let found = pair
        .flare(&["preflight", pair.db(), "--format", "json"])
        .json();
    for severity in ["blocker", "warning"] {
        for one in super::super::preflight::found(&found, severity) {
            eprintln!("    {severity} {one}");
        }
    }
    let done = walk.step(&["prepare", sub, "--yes"]).is_some()
        && walk.step(&["verify_schema", sub]).is_some()
        && walk.step(&["verify_data", sub]).is_some();
    if !done {
        return walk.wrong;
    }
    walk.same("rows after prepare", &before.1, &rows(pair, subscriber));
    if walk.step(&["cutover", sub, "--yes"]).is_none() {
        return walk.wrong;
    }
    walk.same("rows after cutover", &before.1, &rows(pair, subscriber));
    walk.same("sequences", &before.2, &sequences(pair, subscriber));
    if walk.step(&["fallback", sub, "--yes"]).is_none() {
        return walk.wrong;
    }
    walk.same("rows after fallback", &before.1, &rows(pair, publisher));
    walk.same("sequences after it", &before.2, &sequences(pair, publisher));
    walk.step(&["cleanup", sub, "--yes"]);
    walk.same("publisher's schema", &before.0, &schema(pair, publisher));
    walk.wrong
}

/// As its owner, statement by statement; what a version does not know is left out.
fn load(pair: &Pair, file: &Path) {
    let (server, db, owner) = (pair.publisher(), pair.db(), &pair.names().owner);
    server.sql(
        "postgres",
        &format!("ALTER DATABASE {db} SET search_path = public; ALTER ROLE {owner} SUPERUSER"),
    );
    let bin = clients::bin(18).expect("client programs");
    let output = Command::new(bin.join("psql"))
        .args(["-X", "-q", "-h", server.host(), "-p"])
        .arg(server.port().to_string())
        .args(["-U", owner, "-d", db, "-f"])
        .arg(file)
        .env("PGPASSWORD", Passwords::OWNER)
        .output()
        .expect("run psql");
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = errors.lines().filter(|it| it.contains("ERROR")).collect();
    eprintln!(
        "    {} errors {:#?}",
        errors.len(),
        &errors[..errors.len().min(9)]
    );
    server.sql("postgres", &format!("ALTER ROLE {owner} NOSUPERUSER"));
}

fn pair_of_trial() -> (u32, u32) {
    let named = std::env::var("FLARE_TRIAL_PAIR").unwrap_or_else(|_| "14-18".to_owned());
    let (old, new) = named.split_once('-').expect("OLD-NEW");
    (
        old.parse().expect("a version"),
        new.parse().expect("a version"),
    )
}

/// The kinds of objects of PostgreSQL's own regression tests, as far as the older version knows them.
const KINDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/whole/kinds.sql");

fn kinds_of_objects(old: u32, new: u32) {
    let pair = Pair::alone(old, new);
    load(&pair, Path::new(KINDS));
    pair.publisher().sql(pair.db(), FILL);
    assert_eq!(there_and_back(&pair), "", "{old}-{new}");
}

#[test]
fn every_kind_of_object_goes_there_and_back() {
    kinds_of_objects(14, 18);
}

#[test]
#[ignore = "the other versions"]
fn every_kind_of_object_goes_there_and_back_on_every_version() {
    for (old, new) in [
        (10, 11),
        (11, 14),
        (12, 16),
        (13, 18),
        (15, 17),
        (16, 18),
        (17, 18),
        (18, 18),
        (10, 18),
    ] {
        eprintln!("{old}-{new}");
        kinds_of_objects(old, new);
    }
}

/// Extensions of both servers, each in a database of its own.
#[test]
#[ignore = "one by one"]
fn every_extension_that_both_servers_carry_goes_over() {
    let (old, new) = pair_of_trial();
    let names = |server: &Cluster| -> Vec<String> {
        let names = server.value(
            "postgres",
            "SELECT string_agg(name, ' ' ORDER BY name) FROM pg_available_extensions WHERE name <> 'plpgsql'",
        );
        names.split(' ').map(str::to_owned).collect()
    };
    let (publisher, subscriber) = (Cluster::private(old, &[]), Cluster::private(new, &[]));
    let offered = names(&subscriber);
    let mut wrong = Vec::new();
    for name in names(&publisher) {
        if !offered.contains(&name) {
            continue;
        }
        let pair = Pair::between(publisher.clone(), subscriber.clone()).with_accounts(1);
        let create = format!("CREATE EXTENSION \"{name}\" CASCADE");
        let made = publisher
            .superuser_session(pair.db())
            .batch_execute(&create);
        if let Err(error) = made {
            // A language whose library these machines lack.
            eprintln!("{name}: not made: {error}");
            continue;
        }
        let (db, sub) = (pair.db(), pair.subname());
        for args in [
            vec!["prepare", sub, "--yes"],
            vec!["replicate_schema", db],
            vec!["verify_schema", sub],
            vec!["cutover", sub, "--dry-run"],
            vec!["cleanup", sub, "--yes"],
        ] {
            let output = pair.flare(&args);
            if !output.status().success() {
                eprintln!("{name}: {output}");
                wrong.push(format!("{name}: {}", args[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
#[ignore = "takes the directory of FLARE_TRIAL_SQL"]
fn any_schema_goes_there_and_back() {
    let Ok(directory) = std::env::var("FLARE_TRIAL_SQL") else {
        return;
    };
    let (old, new) = pair_of_trial();
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let mut wrong: BTreeMap<PathBuf, String> = BTreeMap::new();
    for file in files {
        let tables = |pair: &Pair| {
            let count = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'";
            pair.publisher().value(pair.db(), count)
        };
        let pair = Pair::alone(old, new);
        load(&pair, &file);
        pair.publisher().sql(pair.db(), FILL);
        eprintln!("{} {old}-{new} {} tables", file.display(), tables(&pair));
        let found = there_and_back(&pair);
        if !found.is_empty() {
            eprintln!("{found}");
            wrong.insert(file, found);
        }
    }
    let named: Vec<&PathBuf> = wrong.keys().collect();
    assert!(named.is_empty(), "{named:?}");
}
