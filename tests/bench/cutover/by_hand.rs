//! The statements of a cutover from a program that has its sessions open: no checks, no fence, no second guard, nothing
//! that could be resumed.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use postgres::Client;

use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

const SOON: Duration = Duration::from_secs(20);
/// As flare wants it before the pause.
const QUICK: Duration = Duration::from_millis(25);

pub struct ByHand<'a> {
    pair: &'a Pair,
    /// The subscription that is at work, on the side that is shut. Each switch makes the next one.
    stream: String,
    switches: usize,
}

/// Sessions of an administrator on the side that writes and on the one that will.
struct Sessions {
    door: Client,
    clear: Client,
    wall: Client,
    probe: Client,
    arrival: Client,
    to: Client,
    open: Client,
}

/// Runs one step and notes its time.
struct Clock(Vec<(String, f64)>);

impl Clock {
    fn time<T>(&mut self, step: &str, run: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let result = run();
        self.0
            .push((step.to_owned(), since.elapsed().as_secs_f64() * 1000.0));
        result
    }
}

impl<'a> ByHand<'a> {
    /// Journals and publications on both sides; the door of the other side is shut.
    pub fn new(pair: &'a Pair) -> Self {
        let journal =
            "CREATE TABLE IF NOT EXISTS by_hand (run int PRIMARY KEY, step text NOT NULL)";
        for side in [Side::Publisher, Side::Subscriber] {
            side.of(pair).sql("postgres", journal);
        }
        let publication = format!("CREATE PUBLICATION {}_back FOR ALL TABLES", pair.names().id);
        pair.subscriber().sql(
            pair.db(),
            "ALTER TABLE pgbench_history REPLICA IDENTITY FULL",
        );
        pair.subscriber().sql(pair.db(), &publication);
        let shut = format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", pair.db());
        pair.subscriber().sql("postgres", &shut);
        let names = pair.names();
        for server in [pair.publisher(), pair.subscriber()] {
            let keep = format!("GRANT CONNECT ON DATABASE {} TO {}", names.db, names.repl);
            server.sql("postgres", &keep);
        }
        Self {
            pair,
            stream: pair.subname().to_owned(),
            switches: 0,
        }
    }

    /// Moves the application to this side, and returns how long each step of the pause took.
    pub fn switch(&mut self, to: Side) -> Vec<(String, f64)> {
        self.switches += 1;
        let run = self.switches;
        let (pair, db) = (self.pair, self.pair.db());
        let from = to.other();
        let back = format!("{}hand{run}", pair.names().id);
        let oid = self.prepare_the_way_back(from, to, &back);
        let mut at = Sessions::open(pair, from, to);
        let sleeper = admin(from.of(pair), "postgres");
        let tables = tables(&mut at.probe);
        at.warm_up(&tables);

        let mut clock = Clock(Vec::new());
        let mut guard = clock.time("guard", || Guard::arm(sleeper, run, db));
        clock.time("revoke", || at.shut(run, pair));
        clock.time("terminate", || at.clear(pair));
        let wall = clock.time("lock", || at.raise_wall(&tables));
        clock.time("drain", || at.drain());
        clock.time("sequences", || at.carry_sequences());
        clock.time("disable", || {
            exec(
                &mut at.to,
                &format!("ALTER SUBSCRIPTION {} DISABLE", self.stream),
            );
        });
        let mark: String = clock.time("mark", || {
            let mark = at
                .to
                .query_one("SELECT pg_current_wal_insert_lsn()::text", &[]);
            mark.expect("where the way back starts").get(0)
        });
        clock.time("switching", || {
            let won = format!(
                "UPDATE by_hand SET step = 'switching' WHERE run = {run} AND step = 'paused'
                    AND (SELECT count(*) FROM pg_locks WHERE pid = {wall} AND granted
                          AND mode = 'ShareRowExclusiveLock') >= {}",
                tables.len()
            );
            let won = at.door.execute(&won, &[]).expect(&won);
            assert_eq!(won, 1, "the wall fell");
        });
        clock.time("open", || {
            exec(
                &mut at.open,
                &format!(
                    "BEGIN; INSERT INTO by_hand VALUES ({run}, 'switched');
                     GRANT CONNECT ON DATABASE {db} TO PUBLIC; COMMIT"
                ),
            );
        });

        guard.dismiss(&mut at.door);
        exec(&mut at.wall, "ROLLBACK");
        exec(&mut at.to, &format!("DROP SUBSCRIPTION {}", self.stream));
        let advance = format!("SELECT pg_replication_origin_advance('pg_{oid}', '{mark}')");
        exec(&mut at.probe, &advance);
        exec(&mut at.probe, &format!("ALTER SUBSCRIPTION {back} ENABLE"));
        self.stream = back;
        clock.0
    }

    /// A slot on the side that will write, and a subscription of the other one that waits for its start.
    fn prepare_the_way_back(&self, from: Side, to: Side, back: &str) -> String {
        let (pair, db) = (self.pair, self.pair.db());
        let names = pair.names();
        let publication = match to {
            Side::Subscriber => format!("{}_back", names.id),
            Side::Publisher => names.pubname.clone(),
        };
        let slot = format!("SELECT pg_create_logical_replication_slot('{back}', 'pgoutput')");
        to.of(pair).sql(db, &slot);
        let conninfo = to.of(pair).conninfo(db, &names.repl, Passwords::REPL);
        from.of(pair).sql(
            db,
            &format!(
                "CREATE SUBSCRIPTION {back} CONNECTION '{}' PUBLICATION \"{publication}\"
                 WITH (enabled = false, create_slot = false, copy_data = false, slot_name = '{back}')",
                conninfo.replace('\'', "''")
            ),
        );
        let oid = format!("SELECT oid FROM pg_subscription WHERE subname = '{back}'");
        from.of(pair).value(db, &oid)
    }
}

/// The published tables but the one of the probe.
fn tables(session: &mut Client) -> Vec<String> {
    let listed = "SELECT DISTINCT format('%I.%I', schemaname, tablename) FROM pg_publication_tables
                   WHERE tablename <> 'flare_replication_status' ORDER BY 1";
    let rows = session.query(listed, &[]).expect(listed);
    rows.iter().map(|row| row.get(0)).collect()
}

fn admin(server: &Cluster, db: &str) -> Client {
    let session = server.connect(db, server.admin(), Passwords::ADMIN);
    session.expect("connect as the administrator")
}

fn exec(session: &mut Client, sql: &str) {
    session.batch_execute(sql).expect(sql);
}

impl Sessions {
    fn open(pair: &Pair, from: Side, to: Side) -> Self {
        let (from, to, db) = (from.of(pair), to.of(pair), pair.db());
        Self {
            door: admin(from, "postgres"),
            clear: admin(from, "postgres"),
            wall: admin(from, db),
            probe: admin(from, db),
            arrival: admin(to, db),
            to: admin(to, db),
            open: admin(to, "postgres"),
        }
    }

    /// Everything that the pause uses, used once.
    fn warm_up(&mut self, tables: &[String]) {
        let touch = format!(
            "BEGIN; LOCK TABLE {} IN ACCESS SHARE MODE; ROLLBACK",
            tables.join(", ")
        );
        exec(&mut self.wall, &touch);
        self.carry_sequences();
        let deadline = Instant::now() + SOON;
        loop {
            let since = Instant::now();
            self.drain();
            if since.elapsed() < QUICK {
                break;
            }
            assert!(Instant::now() < deadline, "the other side does not keep up");
        }
    }

    fn shut(&mut self, run: usize, pair: &Pair) {
        let (db, repl) = (pair.db(), &pair.names().repl);
        exec(
            &mut self.door,
            &format!(
                "BEGIN; UPDATE by_hand SET step = 'paused' WHERE run = {run};
                 REVOKE CONNECT ON DATABASE {db} FROM PUBLIC CASCADE"
            ),
        );
        let who = format!(
            "SELECT count(*) FROM pg_roles
              WHERE rolcanlogin AND NOT rolsuper AND rolname NOT IN ('{repl}', '{}')
                AND has_database_privilege(oid, '{db}', 'CONNECT')",
            pair.names().owner
        );
        let left: i64 = self.door.query_one(&who, &[]).expect(&who).get(0);
        assert_eq!(left, 0, "roles that could still connect");
        exec(&mut self.door, "COMMIT");
    }

    /// Until nobody is there and nobody was on the way.
    fn clear(&mut self, pair: &Pair) {
        let db = pair.db();
        let starting = format!(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l
              WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass
                AND l.objid = (SELECT oid FROM pg_database WHERE datname = '{db}') AND l.pid <> pg_backend_pid()"
        );
        let there = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = '{db}' AND usename = '{}'",
            pair.names().app
        );
        loop {
            let mut ended = 0;
            for who in [&starting, &there] {
                ended += self.clear.query(who, &[]).expect(who).len();
            }
            if ended == 0 {
                return;
            }
        }
    }

    /// The process that holds it.
    fn raise_wall(&mut self, expected: &[String]) -> i32 {
        exec(&mut self.wall, "BEGIN; SET LOCAL deadlock_timeout = '1ms'");
        assert_eq!(tables(&mut self.wall), expected);
        let lock = format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            expected.join(", ")
        );
        exec(&mut self.wall, &lock);
        assert_eq!(tables(&mut self.wall), expected);
        let pid = self.wall.query_one("SELECT pg_backend_pid()", &[]);
        pid.expect("a pid").get(0)
    }

    fn drain(&mut self) {
        let written = self
            .probe
            .query_one(
                "INSERT INTO flare_replication_status VALUES ('by hand', md5(random()::text), now()::text)
                 ON CONFLICT (system_identifier) DO UPDATE SET uuid = excluded.uuid RETURNING uuid",
                &[],
            )
            .expect("write the probe row");
        let uuid: String = written.get(0);
        let arrived = format!("SELECT FROM flare_replication_status WHERE uuid = '{uuid}'");
        let deadline = Instant::now() + SOON;
        while self.arrival.execute(&arrived, &[]).expect(&arrived) == 0 {
            assert!(Instant::now() < deadline, "the probe row does not arrive");
            sleep(Duration::from_millis(1));
        }
    }

    fn carry_sequences(&mut self) {
        let values =
            "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences
                       WHERE last_value IS NOT NULL";
        let rows = self.probe.query(values, &[]).expect(values);
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let last: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
        let set = "SELECT setval(name::regclass, value) FROM unnest($1::text[], $2::int8[]) AS moved(name, value)
                    WHERE value IS DISTINCT FROM pg_sequence_last_value(name::regclass)";
        self.to.execute(set, &[&names, &last]).expect(set);
    }
}

/// A session of *from* that would undo the pause if nobody dismissed it.
struct Guard {
    pid: i32,
    sleeping: Option<thread::JoinHandle<()>>,
}

impl Guard {
    fn arm(mut session: Client, run: usize, db: &str) -> Self {
        let pid = session.query_one("SELECT pg_backend_pid()", &[]);
        let pid = pid.expect("a pid").get(0);
        exec(
            &mut session,
            &format!("INSERT INTO by_hand VALUES ({run}, 'preparing')"),
        );
        let undo = format!(
            "DO $$ BEGIN
               PERFORM pg_sleep(10);
               UPDATE by_hand SET step = 'undoing' WHERE run = {run} AND step = 'paused';
               IF FOUND THEN GRANT CONNECT ON DATABASE {db} TO PUBLIC; END IF;
             END $$"
        );
        let sleeping = thread::spawn(move || {
            // Ended from outside, when the switch is made.
            let _ = session.batch_execute(&undo);
        });
        Self {
            pid,
            sleeping: Some(sleeping),
        }
    }

    fn dismiss(&mut self, by: &mut Client) {
        exec(by, &format!("SELECT pg_terminate_backend({})", self.pid));
        if let Some(sleeping) = self.sleeping.take() {
            sleeping.join().expect("the guard");
        }
    }
}
