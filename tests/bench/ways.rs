//! Ways to pause writes until everything has arrived, and to let them go on.

use std::thread::sleep;
use std::time::Duration;

use postgres::Client;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

#[derive(Clone, Copy)]
pub enum Way {
    /// The program's `pause_write` and then `resume_write`.
    Flare,
    /// The same statements from one program with its sessions open: no guard, no journal, no checks.
    ByHand,
    /// The steps of the original pg-flare's two commands, in this program.
    Original,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Flare, Way::ByHand, Way::Original];

    pub fn words(self) -> &'static str {
        match self {
            Way::Flare => "flare pause_write && flare resume_write",
            Way::ByHand => "by hand: revoke, terminate, lock, probe row, grant",
            Way::Original => "as the original: rounds of 100 ms, probe row, grant",
        }
    }

    pub fn pause_and_resume(self, pair: &Pair) {
        match self {
            Way::Flare => flare(pair),
            Way::ByHand => by_hand(pair),
            Way::Original => original(pair),
        }
    }
}

fn flare(pair: &Pair) {
    pair.flare(&["pause_write", pair.db(), "--allowed-rep-duration", "0s"])
        .ok();
    pair.flare(&["resume_write", pair.db()]).ok();
}

fn admin(server: &Cluster, db: &str) -> Client {
    let client = server.connect(db, server.admin(), Passwords::ADMIN);
    client.expect("connect as the administrator")
}

fn owner(server: &Cluster, pair: &Pair) -> Client {
    let client = server.connect(pair.db(), &pair.names().owner, Passwords::OWNER);
    client.expect("connect as the owner")
}

fn run(client: &mut Client, sql: &str) -> u64 {
    client.execute(sql, &[]).expect(sql)
}

const PROBE: &str =
    "INSERT INTO flare_replication_status VALUES ('bench', gen_random_uuid()::text, now()::text)";
const FORGET: &str = "DELETE FROM flare_replication_status WHERE system_identifier = 'bench'";
const ARRIVED: &str = "SELECT FROM flare_replication_status WHERE system_identifier = 'bench'";

/// Until the subscriber has the probe row.
fn await_probe(subscriber: &mut Client, step: Duration) {
    while run(subscriber, ARRIVED) == 0 {
        sleep(step);
    }
}

/// Takes the probe row away on both sides, before anything is measured.
fn forget(publisher: &mut Client, subscriber: &mut Client) {
    run(publisher, FORGET);
    while run(subscriber, ARRIVED) > 0 {
        sleep(Duration::from_millis(5));
    }
}

fn by_hand(pair: &Pair) {
    let (db, app) = (pair.db(), &pair.names().app);
    let mut publisher = admin(pair.publisher(), db);
    let mut wall = admin(pair.publisher(), db);
    let mut subscriber = admin(pair.subscriber(), db);
    forget(&mut publisher, &mut subscriber);
    run(
        &mut publisher,
        &format!("REVOKE CONNECT ON DATABASE {db} FROM PUBLIC"),
    );
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{db}' AND usename = '{app}'"
    );
    while run(&mut publisher, &terminate) > 0 {}
    run(&mut wall, "BEGIN");
    run(
        &mut wall,
        "LOCK TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers IN SHARE ROW EXCLUSIVE MODE",
    );
    run(&mut publisher, PROBE);
    await_probe(&mut subscriber, Duration::from_millis(1));
    run(&mut wall, "ROLLBACK");
    run(
        &mut publisher,
        &format!("GRANT CONNECT ON DATABASE {db} TO PUBLIC"),
    );
}

fn original(pair: &Pair) {
    let (db, app) = (pair.db(), &pair.names().app);
    let mut publisher = owner(pair.publisher(), pair);
    let mut superuser = admin(pair.publisher(), "postgres");
    let mut subscriber = owner(pair.subscriber(), pair);
    forget(&mut publisher, &mut subscriber);
    run(
        &mut publisher,
        &format!("REVOKE CONNECT ON DATABASE {db} FROM PUBLIC"),
    );
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = '{app}' AND datname = '{db}'"
    );
    // Four times nobody in a row.
    let mut quiet = 0;
    while quiet < 4 {
        quiet = match run(&mut superuser, &terminate) {
            0 => quiet + 1,
            _ => 0,
        };
        sleep(Duration::from_millis(100));
    }
    run(&mut publisher, PROBE);
    await_probe(&mut subscriber, Duration::from_millis(100));
    drop((publisher, superuser, subscriber));
    // Its resume_write is another run of the program, which begins with a look at both servers.
    drop(admin(pair.publisher(), "postgres"));
    drop(admin(pair.subscriber(), "postgres"));
    let mut publisher = admin(pair.publisher(), db);
    run(
        &mut publisher,
        &format!("GRANT CONNECT ON DATABASE {db} TO PUBLIC"),
    );
}
