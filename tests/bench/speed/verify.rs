//! `verify_data` beside what `pgcopydb compare data` asks both servers, and what writers feel of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client;
use crate::connect::ms;
use crate::memory::peak_of_ending;
use crate::processor::processor_ms;
use crate::rounds::{Compared, Goal, compare, rounds};
use crate::support::fetch::pgcopydb::{Pgcopydb, pgcopydb};
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

const MB: u64 = 1024 * 1024;
const LIMIT_BYTES: u64 = 64 * MB;
/// Enough that connecting does not count.
const ROWS: u32 = 2_000_000;
/// What leaves the cores of a busy server to the application.
const RATE: &str = "20MB";
/// Rows of a table that the subscriber lacks altogether.
const GONE: u32 = 200_000;

/// A table, its columns and its rows, and how many times as fast as pgcopydb's statement it is to be compared.
const TABLES: [(&str, &str, &str, f64); 2] = [
    (
        "narrow",
        "id int PRIMARY KEY, n int, at timestamptz",
        "i, i % 97, now() + i * interval '1 s'",
        1.0,
    ),
    (
        "wide",
        "id int PRIMARY KEY, a numeric, b timestamptz, c float8, d text, e text, f jsonb, g date, h numeric, i uuid",
        "i, i / 7.0, now() + i * interval '1 s', i / 3.0::float8, repeat('d', 80), md5(i::text), jsonb_build_object('i', i, 'j', 'x'), now()::date, i, md5(i::text)::uuid",
        1.8,
    ),
];

pub fn measure(old: u32, new: u32) {
    let pair = Pair::alone(old, new)
        .with_accounts(10)
        .replicating_with(|pair, server| {
            server.sql(pair.db(), "CREATE TABLE gone (id int PRIMARY KEY, v text)");
            if std::ptr::eq(server, pair.publisher()) {
                let rows = format!(
                    "INSERT INTO gone SELECT i, md5(i::text) FROM generate_series(1, {GONE}) i"
                );
                server.sql(pair.db(), &rows);
            }
            for (name, columns, values, _) in TABLES {
                server.sql(pair.db(), &format!("CREATE TABLE {name} ({columns})"));
                if std::ptr::eq(server, pair.publisher()) {
                    server.sql(
                        pair.db(),
                        &format!(
                            "INSERT INTO {name} SELECT {values} FROM generate_series(1, {ROWS}) i"
                        ),
                    );
                }
            }
        });
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(pair.db(), "VACUUM ANALYZE narrow");
        server.sql(pair.db(), "VACUUM ANALYZE wide");
    }
    for (name, _, _, goal) in TABLES {
        beside_pgcopydb(&pair, name, goal);
    }
    match pgcopydb().and_then(|peer| {
        peer.compares_data()
            .then_some(peer)
            .ok_or("it has no compare data".into())
    }) {
        Ok(peer) => beside_compare_data(&pair, &peer),
        Err(error) => println!("pgcopydb compare data itself is left out: {error}"),
    }
    let gone = "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL transaction_read_only = off; TRUNCATE gone; COMMIT";
    pair.subscriber().sql(pair.db(), gone);
    for (what, table, code) in [("all equal", "wide", 0), ("all rows missing", "gone", 3)] {
        let args = ["verify_data", pair.subname(), "--table", table];
        let peak = peak_of_ending(&pair, &args, code);
        println!(
            "flare verify_data, {what}\n    peak memory {} MB; goal below {} MB{}",
            peak / MB,
            LIMIT_BYTES / MB,
            if peak < LIMIT_BYTES { "" } else { " MISSED" }
        );
    }
    beside_writers(&pair);
}

/// What four writers feel of it: as hard as servers can be driven, and as a user has them, who wait for the disk.
fn beside_writers(pair: &Pair) {
    let never = "that never wait for the disk (fsync off, both cores busy)";
    for args in [
        &[][..],
        &["--jobs", "1"],
        &["--jobs", "1", "--max-rate", RATE],
    ] {
        let goal = args.is_empty().then_some(Goal::AtLeast(0.9));
        beside_one(pair, never, args, goal);
    }
    for server in [pair.publisher(), pair.subscriber()] {
        server.configure(&[("fsync", "on"), ("full_page_writes", "on")]);
        server.reload();
    }
    let durable = "whose commits wait for the disk (fsync, synchronous_commit and full_page_writes on, as servers have them)";
    beside_one(pair, durable, &[], Some(Goal::AtLeast(0.9)));
}

/// Writers that never stop, and windows with flare beside windows without: each with the mean of those before and behind
/// it, so that what changes slowly falls out.
fn beside_one(pair: &Pair, how: &str, args: &[&str], goal: Option<Goal>) {
    const WINDOWS: usize = 6;
    let args = [&["verify_data", pair.subname()], args].concat();
    let writers = Writers::start(pair.publisher(), pair.db());
    writers.rate();
    let mut without = vec![writers.rate()];
    let mut with = Vec::new();
    for _ in 0..rounds(WINDOWS) {
        let verifying = pair.spawn(&args);
        with.push(writers.rate());
        assert!(!verifying.has_ended(), "it has ended within the window");
        verifying.kill_9();
        verifying.wait();
        // What its last statements still do on the servers is its own.
        std::thread::sleep(Duration::from_millis(500));
        without.push(writers.rate());
    }
    writers.stop();
    let around = without.windows(2).map(|two| (two[0] + two[1]) / 2.0);
    let mut kept: Vec<f64> = with
        .iter()
        .zip(around)
        .map(|(with, without)| with / without)
        .collect();
    kept.sort_by(f64::total_cmp);
    let at = |share: f64| kept[((kept.len() - 1) as f64 * share).round() as usize];
    println!(
        "writes of four writers {how}, while flare {} runs, in turn with windows without it",
        args[..1]
            .iter()
            .chain(&args[2..])
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    );
    println!(
        "    kept {:.2} of {:.0} writes/s, half of the windows between {:.2} and {:.2}{}",
        at(0.5),
        without.iter().sum::<f64>() / without.len() as f64,
        at(0.25),
        at(0.75),
        goal.map_or(String::new(), |goal| goal.beside(at(0.5))),
    );
}

fn beside_pgcopydb(pair: &Pair, table: &str, goal: f64) {
    let ways: [fn(&Pair, &str) -> Duration; 2] = [verify, checksums];
    let mut measured = [Vec::new(), Vec::new()];
    for round in 0..=rounds(5) {
        for (way, measured) in ways.iter().zip(&mut measured) {
            let before = processor_ms(pair);
            let took = way(pair, table);
            if round > 0 {
                let speed = f64::from(ROWS) / ms(took);
                measured.push((speed, processor_ms(pair) - before));
            }
        }
    }
    let compared = |of: fn(&(f64, f64)) -> f64| {
        let [ours, theirs] = measured.each_ref().map(|all| all.iter().map(of).collect());
        Compared::of(ours, theirs)
    };
    let what = format!(
        "flare verify_data, {ROWS} {table} rows, beside the statement of pgcopydb compare data on both servers at once"
    );
    compared(|it| it.0).report(&what, "rows/ms", Goal::AtLeast(goal));
    compared(|it| it.1).beneath("processor time of both servers and the programs", "ms");
}

/// All tables, since pgcopydb takes no fewer.
fn beside_compare_data(pair: &Pair, peer: &Pgcopydb) {
    let [from, to] = [pair.publisher(), pair.subscriber()].map(|server| {
        let conninfo = server.conninfo("", server.superuser(), Passwords::ADMIN);
        format!("{conninfo} dbname='{}'", pair.db())
    });
    let work = pair.temp_dir().join("compare");
    let compared = compare(
        3,
        || ms(pair.flare(&["verify_data", pair.subname()]).ok().took()),
        || {
            let program = peer.program.to_str().expect("UTF-8");
            let output = Invocation::of(
                program,
                &[
                    "compare",
                    "data",
                    "--dir",
                    work.to_str().expect("UTF-8"),
                    "--source",
                    &from,
                    "--target",
                    &to,
                ],
            )
            .env("PATH", format!("{}:/usr/bin:/bin", client("")))
            .env("LD_LIBRARY_PATH", peer.library_path())
            .run();
            let took = output.ok().took();
            std::fs::remove_dir_all(&work).expect("pgcopydb's directory");
            ms(took)
        },
    );
    let what = format!(
        "flare verify_data, all tables, beside pgcopydb {} compare data",
        peer.version
    );
    compared.report(&what, "ms", Goal::AtMost(1.0));
}

fn verify(pair: &Pair, table: &str) -> Duration {
    pair.flare(&["verify_data", pair.subname(), "--table", table])
        .ok()
        .took()
}

/// What pgcopydb asks for each table, of both servers at the same time.
fn checksums(pair: &Pair, table: &str) -> Duration {
    let sql = format!("SELECT count(1), sum(hashtext(t::text)::bigint) FROM ONLY {table} t");
    let since = Instant::now();
    let [ours, theirs] = std::thread::scope(|scope| {
        let threads = [pair.publisher(), pair.subscriber()].map(|server| {
            let sql = &sql;
            scope.spawn(move || server.rows(pair.db(), sql))
        });
        threads.map(|thread| thread.join().expect("a checksum"))
    });
    assert_eq!(ours, theirs);
    since.elapsed()
}

/// Four clients that update one row after the other, as fast as they can.
struct Writers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(server: &Cluster, db: &str) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let threads = (0..4u64)
            .map(|number| {
                let mut client = server.superuser_session(db);
                let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut id = number;
                    while !stop.load(Ordering::Relaxed) {
                        id = (id * 7919 + 13) % u64::from(ROWS);
                        client
                            .batch_execute(&format!("UPDATE narrow SET n = n + 1 WHERE id = {id}"))
                            .expect("write");
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Writers {
            stop,
            count,
            threads,
        }
    }

    /// How many updates a second are acknowledged, within a time beside which logging in and comparing the schemas is short.
    fn rate(&self) -> f64 {
        const WINDOW: Duration = Duration::from_secs(8);
        let (since, before) = (Instant::now(), self.count.load(Ordering::Relaxed));
        std::thread::sleep(WINDOW);
        let count = self.count.load(Ordering::Relaxed) - before;
        count as f64 / since.elapsed().as_secs_f64()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer");
        }
    }
}
