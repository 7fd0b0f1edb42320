//! Differences planted on the subscriber while the application writes on the publisher: each is found, nothing else is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{named, verify_data};
use crate::support::{Cluster, Pair, matrix};

const TABLES: &str = "
    CREATE TABLE wide (id bigint PRIMARY KEY, n int NOT NULL, body text, at timestamptz);
    CREATE TABLE pairs (b text NOT NULL, a int NOT NULL, v text, UNIQUE (a, b));
    ALTER TABLE pairs REPLICA IDENTITY USING INDEX pairs_a_b_key;
    CREATE TABLE bare (a int, t text);
    CREATE TABLE \"Odd \"\"t\" (\"K\"\"ey\" text COLLATE \"C\" PRIMARY KEY, \"select\" text);
    CREATE TABLE hot (id int PRIMARY KEY, n bigint);
    CREATE TABLE nothing ();
    CREATE TABLE flare_replication_status (system_identifier text PRIMARY KEY, uuid text NOT NULL, created_at text NOT NULL);";

const ROWS: &str = "
    INSERT INTO wide SELECT i, i % 97, repeat('x', (i % 50)::int) || i, now() + i * interval '1 s'
      FROM generate_series(1, 45000) i;
    INSERT INTO pairs SELECT 'k' || i % 7, i, 'v' || i FROM generate_series(1, 3000) i;
    INSERT INTO bare SELECT i % 50, 'twice' FROM generate_series(1, 100) i;
    INSERT INTO bare SELECT i, md5(i::text) FROM generate_series(1, 3000) i;
    INSERT INTO \"Odd \"\"t\" SELECT 'k''' || i, 'v' FROM generate_series(1, 500) i;
    INSERT INTO hot VALUES (1, 0), (2, 0);";

/// What is planted, and how it is named.
const PLANTED: [(&str, &str); 12] = [
    (
        "UPDATE wide SET n = n + 1 WHERE id = 777",
        "wide: different 777: n",
    ),
    (
        "UPDATE wide SET body = body || ' ', at = at + interval '1 us' WHERE id = 20001",
        "wide: different 20001: body,at",
    ),
    (
        "UPDATE wide SET body = NULL WHERE id = 1",
        "wide: different 1: body",
    ),
    ("DELETE FROM wide WHERE id = 20000", "wide: missing 20000: "),
    (
        "INSERT INTO wide VALUES (50000000, 1, 'extra', now())",
        "wide: extra 50000000: ",
    ),
    (
        "INSERT INTO wide VALUES (-5, 1, 'extra', now())",
        "wide: extra -5: ",
    ),
    // Two rows whose values are exchanged: their hashes would add up to the same without the key.
    (
        "UPDATE pairs p SET v = q.v FROM pairs q WHERE (p.a, q.a) IN ((5, 6), (6, 5))",
        "pairs: different 5,k5: v\npairs: different 6,k6: v",
    ),
    (
        "DELETE FROM pairs WHERE a = 3000",
        "pairs: missing 3000,k4: ",
    ),
    (
        "DELETE FROM bare WHERE ctid = (SELECT ctid FROM bare WHERE t = 'twice' AND a = 7 LIMIT 1)",
        "bare: missing : a,t",
    ),
    ("INSERT INTO bare VALUES (9, 'new')", "bare: extra : a,t"),
    (
        "INSERT INTO bare SELECT a, t FROM bare WHERE t = md5('12')",
        "bare: extra : a,t",
    ),
    (
        "UPDATE \"Odd \"\"t\" SET \"select\" = 'V' WHERE \"K\"\"ey\" = 'k''7'",
        "Odd \"t: different k'7: select",
    ),
];

/// Writes all the time, on rows that nothing is planted in.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    fn start(pair: &Pair) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4u64).map(|number| {
            let mut client = pair.publisher().superuser_session(pair.db());
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut count = number;
                while !stop.load(Ordering::SeqCst) {
                    count += 4;
                    let id = 1000 + (count * 7919) % 18_000;
                    let new = 100_000 + count;
                    let written = client
                        .batch_execute(&format!(
                            "UPDATE hot SET n = n + 1 WHERE id = {hot};
                             UPDATE wide SET n = n + 1, at = clock_timestamp() WHERE id = {id};
                             INSERT INTO wide VALUES ({new}, 0, 'new', now()) ON CONFLICT DO NOTHING;
                             DELETE FROM wide WHERE id = {new} - 40;
                             INSERT INTO bare VALUES ({new}, 'written');
                             INSERT INTO pairs VALUES ('w', {new}, 'v') ON CONFLICT DO NOTHING",
                            hot = 1 + number % 2,
                        ))
;
                    // The servers end with the test.
                    if written.is_err() {
                        break;
                    }
                    // As much as the subscriber can follow on a busy machine: a probe waits for all that is before it.
                    std::thread::sleep(matrix::think_time());
                }
                count / 4
            })
        });
        Writers {
            stop: Arc::clone(&stop),
            threads: threads.collect(),
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let counts = self
            .threads
            .into_iter()
            .map(|it| it.join().expect("a writer"));
        counts.sum()
    }
}

fn what_is_planted_is_found(old: u32, new: u32) {
    let pair = Pair::new(old, new).with_accounts(1000).replicating_with(
        |pair: &Pair, server: &Cluster| {
            server.sql(pair.db(), TABLES);
            if std::ptr::eq(server, pair.publisher()) {
                server.sql(pair.db(), ROWS);
                server.sql(pair.db(), "ANALYZE");
            }
        },
    );
    let writers = Writers::start(&pair);
    let clean = verify_data(&pair, &[]);
    assert_eq!(clean.ok().json()["equal"], true, "{old}-{new}: {clean}");

    for (sql, _) in PLANTED {
        pair.subscriber().sql(pair.db(), sql);
    }
    let different = verify_data(&pair, &[]);
    let written = writers.stop();
    assert!(written > 20, "only {written} writes");
    let mut expected: Vec<&str> = PLANTED.iter().flat_map(|(_, it)| it.split('\n')).collect();
    expected.sort_unstable();
    assert_eq!(
        named(&different.code(3).json()),
        expected,
        "{old}-{new}: {different}"
    );
    different.says("13 rows differ");

    let shown = pair.flare(&["verify_data", pair.subname(), "--table", "wide"]);
    shown.code(3).prints("wide: 6 ROWS DIFFER of ");
    shown
        .prints("id=20000: missing on the subscriber")
        .prints("id=777: differs; n publisher \"1\" subscriber \"2\"");
    let logging = |word: &str| {
        let sql = format!("ALTER DATABASE {} {word}", pair.db());
        pair.subscriber().sql("postgres", &sql);
    };
    logging("SET log_statement = 'all'");
    let hidden = pair.flare(&[
        "verify_data",
        pair.subname(),
        "--table",
        "bare",
        "--no-values",
    ]);
    logging("RESET log_statement");
    assert!(!hidden.code(3).stdout().contains("twice"), "{hidden}");
    // What is sent for comparing would stand there as a statement's parameters.
    let log = pair.subscriber().log();
    let mut lines = log.lines().filter(|it| it.contains("Parameters: "));
    assert!(!lines.any(|it| it.contains("twice")));
}

#[test]
fn what_is_planted_under_writers_is_found_and_nothing_else() {
    what_is_planted_is_found(14, 18);
    what_is_planted_is_found(10, 18);
}

#[test]
#[ignore = "all pairs: make soak"]
fn what_is_planted_is_found_on_all_pairs() {
    matrix::for_some_pairs(what_is_planted_is_found);
}
