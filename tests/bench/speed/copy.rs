//! `initial_copy` beside the other ways to fill a subscriber: PostgreSQL's own copy, `pg_dump | pg_restore`, pgcopydb.
//!
//! All take turns in each round, on the same two servers, and begin without the database: creating it and its schema is in
//! everybody's time. All but PostgreSQL's own copy end with statistics. The peers that replicate nothing only copy.

use std::ffi::OsString;
use std::time::Duration;

use crate::client;
use crate::connect::ms;
use crate::memory::peak_of;
use crate::processor::processor_ms;
use crate::rounds::{Compared, Goal, rounds};
use crate::support::Pair;
use crate::support::fetch::pgcopydb::{Pgcopydb, pgcopydb};
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::wait;

const MB: u64 = 1024 * 1024;
const LIMIT_BYTES: u64 = 20 * MB;

/// Tables to copy, and what flare's time may be of each peer's.
struct Content {
    name: &'static str,
    sql: &'static str,
    goals: &'static [(Way, f64)],
}

const CONTENTS: [Content; 3] = [
    Content {
        name: "pgbench's tables, 1,500,000 accounts with four more indexes",
        sql: "
            CREATE TABLE accounts (aid int PRIMARY KEY, bid int NOT NULL, abalance int NOT NULL, filler char(84));
            INSERT INTO accounts SELECT g, g / 100000, hashint4(g), '' FROM generate_series(1, 1500000) g;
            CREATE INDEX ON accounts (bid); CREATE INDEX ON accounts (abalance);
            CREATE INDEX ON accounts (bid, abalance); CREATE INDEX ON accounts (abalance, aid);
            CREATE TABLE tellers (tid int PRIMARY KEY, tbalance int); INSERT INTO tellers SELECT g, g FROM generate_series(1, 150) g;
            CREATE TABLE branches (bid int PRIMARY KEY, bbalance int); INSERT INTO branches SELECT g, g FROM generate_series(1, 15) g",
        goals: &[
            (Way::Native, 0.30),
            (Way::DumpFiles, 1.0),
            (Way::Pgcopydb, 0.85),
        ],
    },
    Content {
        name: "one giant table of jsonb and text, compressed and out of line",
        // Documents of 6 kB and text of 2 kB, as applications keep them: below 2 kB a row is stored as it is, and what is
        // measured is the disk's log.
        sql: "
            CREATE TABLE wide (id int PRIMARY KEY, j jsonb, t text, at timestamptz);
            INSERT INTO wide SELECT g, jsonb_build_object('a', g, 'b', md5(g::text), 'c', jsonb_agg(jsonb_build_object(
                'name', md5(n::text), 'number', n, 'who', md5((g % 100)::text)))), string_agg(md5((g * n)::text), ''), now()
              FROM generate_series(1, 30000) g, generate_series(1, 60) n GROUP BY g;
            CREATE INDEX ON wide (at);
            CREATE TABLE beside (id int PRIMARY KEY); INSERT INTO beside SELECT generate_series(1, 100)",
        goals: &[
            (Way::Native, 0.70),
            (Way::DumpFiles, 1.0),
            (Way::Pgcopydb, 0.70),
        ],
    },
    Content {
        name: "1,000 small tables",
        sql: "
            DO $$ BEGIN FOR i IN 1..1000 LOOP
                EXECUTE format('CREATE TABLE s%s (id int PRIMARY KEY, v text, at timestamptz DEFAULT now())', i);
                EXECUTE format('CREATE INDEX ON s%s (v)', i);
                EXECUTE format('INSERT INTO s%s SELECT g, md5(g::text) FROM generate_series(1, 50) g', i);
            END LOOP; END $$",
        goals: &[
            (Way::DumpScript, 1.0),
            (Way::DumpFiles, 0.75),
            (Way::Pgcopydb, 0.85),
        ],
    },
];

/// A way to fill the subscriber.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Flare,
    Native,
    /// A script in one transaction.
    DumpScript,
    /// A directory, two jobs on either side.
    DumpFiles,
    Pgcopydb,
}

pub fn measure(old: u32, new: u32) {
    let peer = pgcopydb();
    match &peer {
        Ok(peer) => println!("pgcopydb {}", peer.version),
        Err(error) => println!("no pgcopydb, its lines are left out: {error}"),
    }
    for content in &CONTENTS {
        let pair = Pair::alone(old, new);
        pair.create_roles_on(pair.subscriber());
        let publication = format!(
            "VACUUM ANALYZE; CREATE PUBLICATION \"{}\" FOR ALL TABLES",
            pair.names().pubname
        );
        pair.publisher().sql(pair.db(), content.sql);
        for statement in publication.split("; ") {
            pair.publisher().sql(pair.db(), statement);
        }
        beside_others(&pair, content, peer.as_ref().ok());
        clear(&pair);
        let peak = peak_of(&pair, &["initial_copy", pair.subname()]);
        println!(
            "    peak memory {} MB; goal below {} MB{}",
            peak / MB,
            LIMIT_BYTES / MB,
            if peak < LIMIT_BYTES { "" } else { " MISSED" }
        );
    }
}

fn beside_others(pair: &Pair, content: &Content, peer: Option<&Pgcopydb>) {
    let ways: Vec<(Way, f64)> = content
        .goals
        .iter()
        .filter(|(way, _)| *way != Way::Pgcopydb || peer.is_some())
        .copied()
        .collect();
    let mut times: Vec<Vec<(f64, f64)>> = vec![Vec::new(); ways.len() + 1];
    for round in 0..=rounds(3) {
        let all = std::iter::once(Way::Flare).chain(ways.iter().map(|(way, _)| *way));
        for (way, times) in all.zip(&mut times) {
            clear(pair);
            let before = processor_ms(pair);
            let took = way.copies(pair, peer);
            if round > 0 {
                times.push((ms(took), processor_ms(pair) - before));
            }
        }
    }
    let (ours, theirs) = times.split_at(1);
    for ((way, goal), theirs) in ways.iter().zip(theirs) {
        let what = format!(
            "flare initial_copy, {}, beside {}",
            content.name,
            way.in_words()
        );
        let compared = |of: fn(&(f64, f64)) -> f64| {
            let all = |times: &[(f64, f64)]| times.iter().map(of).collect();
            Compared::of(all(&ours[0]), all(theirs))
        };
        compared(|it| it.0).report(&what, "ms", Goal::AtMost(*goal));
        compared(|it| it.1).beneath("processor time of both servers and the programs", "ms");
    }
}

/// Nothing is left of the way before.
fn clear(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let there = format!("SELECT count(*) FROM pg_subscription WHERE subname = '{sub}'");
    if pair.subscriber().value("postgres", &there) != "0" {
        for statement in [
            "ALTER SUBSCRIPTION {} DISABLE",
            "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
            "DROP SUBSCRIPTION {}",
        ] {
            let statement = statement.replace("{}", &format!("\"{sub}\""));
            pair.subscriber().sql(db, &statement);
        }
    }
    wait::for_("the old subscriber to go", Duration::from_secs(30), || {
        let slots =
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
        let left = "SELECT FROM pg_replication_slots LIMIT 1";
        let gone = format!("DROP DATABASE IF EXISTS \"{db}\"");
        let publisher = pair.publisher();
        publisher.try_rows(db, slots).is_ok()
            && publisher
                .try_rows(db, left)
                .is_ok_and(|rows| rows.is_empty())
            && pair.subscriber().try_rows("postgres", &gone).is_ok()
    });
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql("postgres", "CHECKPOINT");
    }
}

impl Way {
    fn in_words(self) -> &'static str {
        match self {
            Way::Flare => "itself",
            Way::Native => "CREATE SUBSCRIPTION on a schema with its indexes",
            Way::DumpScript => "pg_dump | psql -1",
            Way::DumpFiles => "pg_dump -Fd -j2 and pg_restore -j2",
            Way::Pgcopydb => "pgcopydb clone with two jobs",
        }
    }

    /// From nothing to all rows and indexes.
    fn copies(self, pair: &Pair, peer: Option<&Pgcopydb>) -> Duration {
        let script = match self {
            Way::Flare => {
                return pair.flare(&["initial_copy", pair.subname()]).ok().took();
            }
            Way::Native => NATIVE,
            Way::DumpScript => DUMP_SCRIPT,
            Way::DumpFiles => DUMP_FILES,
            Way::Pgcopydb => PGCOPYDB,
        };
        let [from, to] = [pair.publisher(), pair.subscriber()]
            .map(|server| server.conninfo("", server.superuser(), Passwords::ADMIN));
        let bin = client("");
        let path = format!("{bin}:/usr/bin:/bin");
        let unknown = match pair.subscriber().version() {
            // 18 writes what 17 and older do not know.
            18.. => "$^",
            _ => "^SET transaction_timeout",
        };
        let (program, libraries) = peer.map_or_else(
            || (OsString::new(), OsString::new()),
            |peer| (peer.program.clone().into_os_string(), peer.library_path()),
        );
        let output = Invocation::of("sh", &["-c", &format!("set -e\n{CREATE}\n{script}")])
            .env("PATH", path)
            .env("FROM", from)
            .env("TO", to)
            .env("DB", pair.db())
            .env("OWNER", &pair.names().owner)
            .env("PUB", &pair.names().pubname)
            .env("SUB", pair.subname())
            .env("UNKNOWN", unknown)
            .env("WORK", pair.temp_dir().join("work"))
            .env("PGCOPYDB", program)
            .env("LIBRARIES", libraries)
            .run();
        output.ok().took()
    }
}

const CREATE: &str = r#"rm -rf "$WORK"
psql -X -q -c "CREATE DATABASE \"$DB\" OWNER \"$OWNER\" TEMPLATE template0" "$TO dbname=postgres""#;

const NATIVE: &str = r#"pg_dump -s --no-publications "$FROM dbname=$DB" | grep -v "$UNKNOWN" | psql -X -q -1 -o /dev/null -v ON_ERROR_STOP=1 "$TO dbname=$DB"
echo "CREATE SUBSCRIPTION \"$SUB\" CONNECTION :'from' PUBLICATION \"$PUB\"" | psql -X -q -v ON_ERROR_STOP=1 -v from="$FROM dbname=$DB" "$TO dbname=$DB"
while [ "$(psql -X -A -t -c "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')" "$TO dbname=$DB")" != 0 ]; do
    psql -X -q -o /dev/null -c "SELECT pg_logical_emit_message(true, 'bench', 'on')" "$FROM dbname=$DB"; sleep 0.1
done"#;

const DUMP_SCRIPT: &str = r#"pg_dump --no-publications "$FROM dbname=$DB" | grep -v "$UNKNOWN" | psql -X -q -1 -o /dev/null -v ON_ERROR_STOP=1 "$TO dbname=$DB"
psql -X -q -c ANALYZE "$TO dbname=$DB""#;

const DUMP_FILES: &str = r#"pg_dump -Fd -j2 -Z0 --no-publications -f "$WORK" "$FROM dbname=$DB"
pg_restore -j2 -d "$TO dbname=$DB" "$WORK" 2> /dev/null || true
psql -X -q -c ANALYZE "$TO dbname=$DB""#;

const PGCOPYDB: &str = r#"LD_LIBRARY_PATH="$LIBRARIES" "$PGCOPYDB" clone --dir "$WORK" --table-jobs 2 --index-jobs 2 --skip-extensions \
    --source "$FROM dbname=$DB" --target "$TO dbname=$DB" > "$WORK.log" 2>&1 || { tail -20 "$WORK.log" >&2; exit 1; }"#;
