//! A clone under writers becomes the subscriber: measured, proven, and no row lost or doubled.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::moments::{Fault, some_moment};
use super::same;
use super::writers::{SMALL_TABLES, TABLES, Writers};
use crate::cutover::dice::Dice;
use crate::support::cluster::any_port;
use crate::support::flare::Running;
use crate::support::pair::Passwords;
use crate::support::{Pair, clients, matrix, process, wait};

/// A copy of a frozen data directory, as a snapshot of its volume is one, started alone.
struct Clone {
    dir: PathBuf,
    port: u16,
    server: Child,
}

impl Clone {
    fn of(pair: &Pair) -> Clone {
        let publisher = pair.publisher();
        let dir = publisher.data_dir().with_file_name("clone");
        publisher.freeze();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(publisher.data_dir())
            .arg(&dir)
            .status();
        publisher.thaw();
        assert!(copied.expect("run cp").success());
        fs::remove_file(dir.join("postmaster.pid")).expect("remove the pid file");
        let port = any_port();
        let log = fs::File::create(pair.dir().join("clone.log")).expect("a log");
        let server = publisher
            .program("postgres", &dir)
            .arg("-D")
            .arg(&dir)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "max_logical_replication_workers=0",
                "-c",
                "autovacuum=off",
            ])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the clone");
        let clone = Clone { dir, port, server };
        wait::for_("the clone", Duration::from_secs(60), || {
            clone.connect(pair).is_ok()
        });
        clone
    }

    fn connect(&self, pair: &Pair) -> Result<postgres::Client, postgres::Error> {
        postgres::Config::new()
            .host(pair.publisher().host())
            .port(self.port)
            .dbname(pair.db())
            .user(pair.publisher().superuser())
            .password(Passwords::ADMIN)
            .connect(postgres::NoTls)
    }

    /// What it commits by itself; the checkpoint takes the number of its point's next transaction away.
    fn commits(&self, pair: &Pair, statements: &[&str]) {
        let mut client = self.connect(pair).expect("connect to the clone");
        for statement in statements.iter().chain(&["CHECKPOINT"]) {
            client.batch_execute(statement).expect(statement);
        }
    }

    fn conninfo(&self, pair: &Pair) -> String {
        format!(
            "host={} port={} user={} dbname={}",
            pair.publisher().host(),
            self.port,
            pair.publisher().superuser(),
            pair.db()
        )
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        process::signal(self.server.id(), libc::SIGQUIT);
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn strike(pair: &Pair, dice: &mut Dice, command: Running, fault: Fault) {
    let moment = some_moment(dice, Duration::from_millis(800), &command);
    println!("{fault:?} after {moment:?}");
    fault.strikes(pair, command);
}

/// Where nothing is written on the publisher, no number of the stream tells of what the clone has committed.
fn a_clone_with_rows_of_its_own_is_refused(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["adopt", "begin", sub]).ok();
    let clone = Clone::of(pair);
    let conninfo = |db: &str| {
        let conninfo = clone.conninfo(pair);
        conninfo.replace(pair.db(), db)
    };
    let measure = |db: &str| {
        let args = ["adopt", "measure", sub, "--clone", &conninfo(db)];
        pair.flare_env(&[("PGPASSWORD", Passwords::ADMIN)], &args)
    };
    measure(db).ok().prints("the clone has reached");
    measure("postgres").ok();
    clone.commits(
        pair,
        &["CREATE TABLE own (); INSERT INTO own DEFAULT VALUES"],
    );
    measure(db)
        .code(3)
        .says("rows were written on the clone itself, in public.own");
    measure("postgres")
        .code(1)
        .says(&format!("name the database in --clone: dbname={db}"));
    let dropped = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{db}'"
    );
    pair.publisher().sql("postgres", &dropped);
    pair.flare(&["status"])
        .ok()
        .prints("the slot is GONE")
        .prints(&format!(
            "next: flare drop_subscription {sub}, then flare adopt begin"
        ));
    pair.flare(&["adopt", "finish", sub])
        .fails_with("rows in between would be lost");
    pair.flare(&["drop_subscription", sub]).ok();
}

/// Faults strike each step so many times before it is taken in order.
fn adopts(old: u32, new: u32, strikes: usize) {
    let mut dice = Dice::new();
    let pair = Pair::alone(old, new);
    let (db, sub) = (pair.db(), pair.subname());
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    let tables = if matrix::is_all() {
        TABLES
    } else {
        SMALL_TABLES
    };
    pair.publisher().sql(db, tables);
    let publication = format!(
        "CREATE PUBLICATION \"{}\" FOR ALL TABLES",
        pair.names().pubname
    );
    pair.publisher().sql(db, &publication);
    a_clone_with_rows_of_its_own_is_refused(&pair);
    let writers = Writers::start(&pair, 4);
    let conninfo = |clone: &Clone| clone.conninfo(&pair);
    let password = [("PGPASSWORD", Passwords::ADMIN)];
    let measure = |clone: &Clone| {
        let args = [
            "adopt",
            "measure",
            sub,
            "--clone",
            &conninfo(clone),
            "--format",
            "json",
        ];
        pair.flare_env(&password, &args)
    };

    let early = Clone::of(&pair);
    measure(&early).fails_with("no adoption is on record");
    if strikes == 0 {
        pair.flare(&["adopt", "begin", sub])
            .ok()
            .prints("begins at");
    }
    for _ in 0..strikes {
        let begun = pair.spawn(&["adopt", "begin", sub]);
        let fault = dice.one_of(&[Fault::Flare, Fault::Flare, Fault::Publisher]);
        strike(&pair, &mut dice, begun, fault);
        pair.flare(&["status"]).ok();
    }
    let fails = r#"echo "no room for $FLARE_SUBNAME"; exit 7"#;
    pair.flare(&["adopt", "begin", sub, "--", "sh", "-c", fails])
        .fails_with(&format!("exit status: 7: no room for {sub}"));
    let stands = pair.flare(&["status", "--format", "json"]);
    assert_eq!(stands.ok().json()["subscriptions"][0]["stage"], "adopting");
    pair.flare(&["initial_copy", sub])
        .fails_with("being adopted");
    pair.flare(&["adopt", "begin", sub, "--", "true"])
        .ok()
        .prints("true has taken the clone");
    pair.flare(&["adopt", "begin", sub])
        .ok()
        .prints("is there already");
    measure(&early).fails_with("before the slot was made");
    for (server, why) in [
        (pair.publisher(), "it is the publisher itself"),
        (pair.subscriber(), "it is no clone of the publisher"),
    ] {
        let conninfo = server.conninfo(db, server.superuser(), Passwords::ADMIN);
        pair.flare(&["adopt", "measure", sub, "--clone", &conninfo])
            .fails_with(why);
    }
    drop(early);
    writers.await_more(20);
    let clone = Clone::of(&pair);
    writers.await_more(20);
    pair.flare(&["adopt", "finish", sub])
        .fails_with("was not measured");
    let run = measure(&clone);
    let json = run.ok().json();
    assert!(
        json["before"].as_i64() > Some(0) && json["after"].as_i64() > Some(0),
        "{run}"
    );
    println!("{old}-{new} {run}");
    clone.commits(&pair, &["ANALYZE", "ANALYZE"]);
    measure(&clone)
        .ok()
        .prints("no row of a table was written by them");
    clone.commits(
        &pair,
        &["CREATE TABLE own (); INSERT INTO own DEFAULT VALUES"],
    );
    measure(&clone)
        .code(3)
        .says("rows were written on the clone itself, in public.own");
    clone.commits(&pair, &["DROP TABLE own"]);

    // No pg_upgrade goes with these servers: a dump of the clone is what it holds.
    let load = format!(
        "pg_dump --no-publications --no-subscriptions --exclude-schema=flare \"{}\" | psql -qX -o /dev/null \"host={} port={} user={} dbname={db}\"",
        conninfo(&clone),
        pair.subscriber().host(),
        pair.subscriber().port(),
        pair.subscriber().superuser()
    );
    let loaded = Command::new("sh")
        .args(["-c", &load])
        .env("PATH", clients::path(18))
        .env("PGPASSWORD", Passwords::ADMIN)
        .stderr(Stdio::null())
        .status();
    assert!(loaded.expect("run a shell").success());
    drop(clone);
    for _ in 0..strikes {
        let finishing = pair.spawn(&["adopt", "finish", sub]);
        let fault = dice.one_of(&[Fault::Flare, Fault::Subscriber, Fault::Publisher]);
        strike(&pair, &mut dice, finishing, fault);
        pair.flare(&["status"]).ok();
    }
    let finished = pair.flare(&["adopt", "finish", sub, "--format", "json"]);
    if strikes == 0 {
        assert_eq!(finished.ok().json()["changed"], true, "{finished}");
        finished.prints("is not the clone itself");
    }
    finished.ok();
    let again = pair.flare(&["adopt", "finish", sub, "--format", "json"]);
    assert_eq!(again.ok().json()["changed"], false, "{again}");
    let written = writers.stop();
    pair.await_caught_up();
    same::rows_are_equal(&pair);
    println!("{old}-{new} {written} transactions");
}

#[test]
fn a_snapshot_of_the_volume_becomes_the_subscriber() {
    adopts(13, 16, 1);
}

#[test]
#[ignore = "a matrix for make soak"]
fn clones_of_all_versions_become_subscribers() {
    matrix::for_each_pair(|old, new| {
        adopts(old, new, 0);
        adopts(old, new, 10);
    });
}
