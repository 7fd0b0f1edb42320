//! Migration files of applications, carried: `MIGRATIONS=DIR` names a directory of them, which are run in the order of
//! their names as psql does, as one string, or in a transaction; tables get made-up rows in between, and both sides are
//! compared. What is refused is tried by `flare ddl`. Also:
//!
//! - `VERSIONS=14-18`: between which servers;
//! - `HALF=100`: a cutover before that file, and the rest on the new server;
//! - `FROM=30`: no rows before that file; `EVERY=10`: how often both sides are compared.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cutover::fixture::switched_to;
use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Pair, clients};

use super::carry::{armed, owner, settle, words};
use super::same::assert_same;

/// A row for every table that takes one of made-up values, and a change of every row.
const ROWS: &str = r#"DO $rows$
DECLARE t record; c record; names text; made text; lap int;
BEGIN
  FOR lap IN 1..2 LOOP
  FOR t IN SELECT k.oid, k.oid::regclass::text AS name FROM pg_class k JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence = 'p' AND pg_get_userbyid(relowner) = current_user
              AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare') AND relname !~ '^(pgbench_|app_|flare_)' LOOP
    names := NULL; made := NULL;
    FOR c IN SELECT a.attname, a.atttypid, typtype, typcategory, typname, format_type(atttypid, atttypmod) AS kind, a.attnotnull, a.atthasdef, a.atttypmod,
                    to_jsonb(a) ->> 'attidentity' AS identity, to_jsonb(a) ->> 'attgenerated' AS generated,
                    (SELECT confrelid::regclass FROM pg_constraint WHERE conrelid = t.oid AND contype = 'f' AND conkey = ARRAY[attnum]) AS refers,
                    (SELECT (SELECT attname FROM pg_attribute b WHERE b.attrelid = k.confrelid AND b.attnum = k.confkey[1]) FROM pg_constraint k WHERE conrelid = t.oid AND contype = 'f' AND conkey = ARRAY[attnum] LIMIT 1) AS referred
               FROM pg_attribute a JOIN pg_type y ON y.oid = atttypid WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped LOOP
      CONTINUE WHEN c.identity <> '' OR c.generated <> '' OR c.atthasdef AND c.typcategory IN ('N', 'D');
      names := concat_ws(', ', names, quote_ident(c.attname));
      made := concat_ws(', ', made, CASE
        WHEN c.refers IS NOT NULL THEN format('(SELECT %I FROM %s ORDER BY random() LIMIT 1)', c.referred, c.refers)
        WHEN c.typtype = 'e' THEN format('(enum_range(NULL::%s))[1]', c.kind)
        WHEN c.typname = 'uuid' THEN 'md5(random()::text)::uuid'
        WHEN c.typname IN ('json', 'jsonb') THEN $j$'{"a": 1}'$j$
        WHEN c.typname = 'ltree' THEN '''0.' || (random() * 10000)::int || '.1'''
        WHEN c.typname = 'bool' THEN '(random() > 0.5)'
        WHEN c.typname = 'bytea' THEN '''\x00ff'''
        WHEN c.typcategory = 'A' THEN '''{}'''
        WHEN c.typcategory = 'N' THEN '(random() * 1000)::int'
        WHEN c.typcategory = 'D' THEN 'now()'
        WHEN c.typcategory = 'S' THEN format('left((random() * 1e15)::bigint::text, %s)', CASE WHEN c.atttypmod > 4 THEN least(c.atttypmod - 4, 20) ELSE 20 END)
        ELSE 'NULL' END);
    END LOOP;
    BEGIN
      IF names IS NULL THEN EXECUTE format('INSERT INTO %s DEFAULT VALUES', t.name);
      ELSE EXECUTE format('INSERT INTO %s (%s) SELECT %s', t.name, names, made); END IF;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    FOR c IN SELECT attname, to_jsonb(a) ->> 'attgenerated' AS generated FROM pg_attribute a JOIN pg_type y ON y.oid = atttypid WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped AND y.typcategory = 'S' LIMIT 1 LOOP
      BEGIN EXECUTE format('UPDATE %s SET %I = %I || lower(''1'')', t.name, c.attname, c.attname);
      EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
  END LOOP;
  END LOOP;
END $rows$"#;

/// Takes all of them away.
const EMPTY: &str = "DO $$ BEGIN EXECUTE coalesce((SELECT 'TRUNCATE ' || string_agg(k.oid::regclass::text, ', ') || ' CASCADE' FROM pg_class k JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND relpersistence = 'p' AND pg_get_userbyid(relowner) = current_user
      AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare') AND relname !~ '^(pgbench_|app_|flare_)'), 'SELECT'); END $$";

fn is_refusal(error: &str) -> bool {
    error.contains("flare") || error.contains("refused")
}

fn files() -> Vec<PathBuf> {
    let dir = std::env::var("MIGRATIONS").expect("MIGRATIONS=DIR");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the directory")
        .map(|it| it.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn number_of(name: &str, otherwise: usize) -> usize {
    let asked = std::env::var(name).ok();
    asked.map_or(otherwise, |it| it.parse().expect("a number"))
}

fn versions() -> (u32, u32) {
    let asked = std::env::var("VERSIONS").unwrap_or_else(|_| "14-18".to_owned());
    let (old, new) = asked.split_once('-').expect("VERSIONS=OLD-NEW");
    (old.parse().unwrap(), new.parse().unwrap())
}

/// One after the other, as psql does.
fn by_psql(pair: &Pair, side: Side, file: &PathBuf) -> Result<(), String> {
    let server = side.of(pair);
    let run = Command::new("psql")
        .env("PATH", clients::path(18))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(server.url(pair.db(), &pair.names().owner, Passwords::OWNER))
        .arg("-f")
        .arg(file)
        .output()
        .expect("psql");
    if run.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&run.stderr).into_owned())
    }
}

#[test]
#[ignore = "of files that MIGRATIONS names"]
fn migration_files_of_applications() {
    if std::env::var_os("MIGRATIONS").is_none() {
        return;
    }
    let (old, new) = versions();
    let pair = armed(Pair::new(old, new), "carry");
    let half = number_of("HALF", usize::MAX);
    let from = number_of("FROM", 0);
    let mut open = Side::Publisher;
    let mut counts = [0; 4];
    let every = number_of("EVERY", 10);
    for (number, file) in files().iter().enumerate() {
        if number == half {
            settle(&pair, open);
            // A cutover wants every table to have an identity.
            let keyless = "SELECT format('ALTER TABLE %s REPLICA IDENTITY FULL', c.oid::regclass) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND relpersistence = 'p' AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare') AND relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)";
            let mut client = owner(&pair, open);
            for row in open.of(&pair).rows(pair.db(), keyless) {
                client.batch_execute(row[0].as_deref().unwrap()).unwrap();
            }
            settle(&pair, open);
            switched_to(&pair, Side::Subscriber);
            open = Side::Subscriber;
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(file).expect("read it");
        let way = ["string", "psql", "transaction"][number % 3];
        let text = match way {
            "transaction" => format!("BEGIN; {text}\n; COMMIT"),
            _ => text,
        };
        let run = || match way {
            "psql" => by_psql(&pair, open, file),
            _ => {
                let mut client = owner(&pair, open);
                client.batch_execute(&text).map_err(|it| words(&it))
            }
        };
        let mut ran = run();
        if ran.as_ref().is_err_and(|it| !is_refusal(it)) && number > from && way != "psql" {
            // Made-up rows are in its way.
            settle(&pair, open);
            let _ = owner(&pair, open).batch_execute(EMPTY);
            ran = run();
        }
        match ran {
            Ok(()) => counts[0] += 1,
            Err(error) if is_refusal(&error) => {
                println!("REFUSED {name} ({way}): {}", error.trim());
                counts[1] += 1;
                settle(&pair, open);
                let run = pair.flare(&["ddl", pair.db(), "--file", file.to_str().unwrap()]);
                if !run.status().success() {
                    println!(
                        "  flare ddl: {}",
                        run.stderr()
                            .lines()
                            .filter(|it| it.contains("error") || it.contains("hint"))
                            .collect::<Vec<_>>()
                            .join(" | ")
                    );
                    counts[2] += 1;
                }
            }
            Err(error) => {
                println!("FAILS {name} ({way}): {}", error.trim());
                counts[3] += 1;
            }
        }
        if number % 4 == 3 && number >= from {
            owner(&pair, open)
                .batch_execute(ROWS)
                .unwrap_or_else(|error| println!("ROWS after {name}: {}", words(&error)));
        }
        if number % every == every - 1 {
            let began = std::time::Instant::now();
            settle(&pair, open);
            assert_same(&pair);
            println!("same after {name} ({:?})", began.elapsed());
        }
    }
    settle(&pair, open);
    assert_same(&pair);
    let rows = "SELECT count(*) FROM flare.ddl";
    println!(
        "carried, refused, of these not by flare ddl either, wrong by themselves: {counts:?}; statements {}",
        open.of(&pair).value(pair.db(), rows)
    );
}
