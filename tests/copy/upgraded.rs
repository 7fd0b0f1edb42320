//! Clones of every kind, taken under writers and upgraded in place by pg_upgrade, become the subscriber.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};

use super::same;
use super::writers::{SMALL_TABLES, Writers};
use crate::support::cluster::{any_port, as_server_user};
use crate::support::pair::Passwords;
use crate::support::sql::rows;
use crate::support::{Pair, clients, process, wait};

/// How the clone is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A copy of the frozen data directory, as a snapshot of its volume is one.
    Frozen,
    BaseBackup,
    /// One that follows, is cut off and promoted.
    Standby,
}

/// A server beside those of the pair.
struct Server {
    data: PathBuf,
    port: u16,
    superuser: &'static str,
    host: &'static str,
    postmaster: Option<Child>,
}

impl Server {
    fn start(pair: &Pair, bin: &Path, data: &Path, settings: &[&str]) -> Server {
        let port = any_port();
        let log = fs::File::create(data.with_extension("log")).expect("a log");
        let dir = data.parent().expect("a directory above");
        let mut postgres = as_server_user(&bin.join("postgres"), dir);
        postgres.arg("-D").arg(data).args(["-p", &port.to_string()]);
        for setting in settings {
            postgres.args(["-c", setting]);
        }
        let postmaster = postgres.stderr(log).spawn().expect("start a server");
        let server = Server {
            data: data.to_owned(),
            port,
            superuser: pair.publisher().superuser(),
            host: pair.publisher().host(),
            postmaster: Some(postmaster),
        };
        wait::for_("the server", Duration::from_secs(60), || {
            server.try_session("postgres").is_ok()
        });
        server
    }

    fn try_session(&self, db: &str) -> Result<Client, postgres::Error> {
        postgres::Config::new()
            .host(self.host)
            .port(self.port)
            .dbname(db)
            .user(self.superuser)
            .password(Passwords::ADMIN)
            .connect(NoTls)
    }

    fn value(&self, sql: &str) -> String {
        let mut session = self.try_session("postgres").expect("connect");
        let rows = session.simple_query(sql).expect("a query");
        let value = rows.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
            _ => None,
        });
        value.unwrap_or_default()
    }

    fn stop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            process::signal(postmaster.id(), libc::SIGINT);
            postmaster.wait().expect("a server's end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A whole set of programs of a version, where there is one.
fn programs(version: u32) -> Option<PathBuf> {
    clients::bin(version)
        .filter(|bin| bin.join("pg_upgrade").exists() && bin.join("postgres").exists())
}

fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn base_backup(pair: &Pair, bin: &Path, data: &Path, more: &[&str]) {
    let publisher = pair.publisher();
    let mut backup = as_server_user(&bin.join("pg_basebackup"), data.parent().expect("a home"));
    backup
        .env("PGPASSWORD", Passwords::ADMIN)
        .args(["-h", publisher.host(), "-p", &publisher.port().to_string()])
        .args([
            "-U",
            publisher.superuser(),
            "-X",
            "stream",
            "-c",
            "fast",
            "-D",
        ])
        .arg(data)
        .args(more);
    run(&mut backup);
}

/// Alone: no workers, no vacuum.
const ALONE: [&str; 2] = ["max_logical_replication_workers=0", "autovacuum=off"];

/// The clone, started at a point of the publisher's history.
fn clone_of(pair: &Pair, kind: Kind, bin: &Path, standby: Option<Server>, data: &Path) -> Server {
    let publisher = pair.publisher();
    match kind {
        Kind::Frozen => {
            publisher.freeze();
            let copied = Command::new("cp")
                .arg("-a")
                .arg(publisher.data_dir())
                .arg(data)
                .status();
            publisher.thaw();
            assert!(copied.expect("run cp").success());
            fs::remove_file(data.join("postmaster.pid")).expect("remove the pid file");
            Server::start(pair, bin, data, &ALONE)
        }
        Kind::BaseBackup => {
            base_backup(pair, bin, data, &[]);
            Server::start(pair, bin, data, &ALONE)
        }
        Kind::Standby => {
            let mut standby = standby.expect("a standby");
            std::thread::sleep(Duration::from_secs(1));
            standby.stop();
            let data = standby.data.clone();
            drop(standby);
            let alone = ["primary_conninfo=", ALONE[0], ALONE[1]];
            let standby = Server::start(pair, bin, &data, &alone);
            standby.value("SELECT pg_promote()");
            wait::for_("the promotion", Duration::from_secs(30), || {
                standby.value("SELECT pg_is_in_recovery()") == "f"
            });
            standby
        }
    }
}

/// What pg_upgrade makes of the clone, with all that a subscriber needs.
fn upgraded(pair: &Pair, clone: &mut Server, (old, new): (&Path, &Path), version: u32) -> Server {
    let home = clone.data.parent().expect("a home").to_owned();
    let data = home.join("upgraded");
    let checksums = clone.value("SHOW data_checksums") == "on";
    clone.stop();
    let mut initdb = as_server_user(&new.join("initdb"), &home);
    initdb
        .args(["--no-sync", "--encoding=UTF8", "--locale=C"])
        .args(["--auth-host=scram-sha-256", "--auth-local=trust"])
        .args(["-U", clone.superuser, "-D"])
        .arg(&data);
    match (checksums, version) {
        (true, _) => initdb.arg("--data-checksums"),
        (false, 18..) => initdb.arg("--no-data-checksums"),
        (false, _) => &mut initdb,
    };
    run(&mut initdb);
    let mut upgrade = as_server_user(&new.join("pg_upgrade"), &home);
    upgrade
        .args(["--link", "-U", clone.superuser, "-b"])
        .arg(old)
        .arg("-B")
        .arg(new)
        .arg("-d")
        .arg(&clone.data)
        .arg("-D")
        .arg(&data)
        .arg("-s")
        .arg(&home)
        .args(["-p", &any_port().to_string(), "-P", &any_port().to_string()]);
    run(&mut upgrade);
    fs::copy(clone.data.join("pg_hba.conf"), data.join("pg_hba.conf")).expect("copy pg_hba.conf");
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "wal_level=logical",
        "fsync=off",
        "max_connections=100",
    ];
    Server::start(pair, new, &data, &settings)
}

fn becomes_the_subscriber(kind: Kind, old: u32, new: u32) {
    let (Some(old_bin), Some(new_bin)) = (programs(old), programs(new)) else {
        println!("{old}-{new}: no whole set of programs is here");
        return;
    };
    let pair = Pair::alone(old, new);
    let (db, sub) = (pair.db(), pair.subname());
    let home = pair.publisher().data_dir().with_file_name("upgrade");
    run(as_server_user(Path::new("/bin/mkdir"), Path::new("/")).arg(&home));
    pair.publisher().sql(db, SMALL_TABLES);
    let publication = format!(
        "CREATE PUBLICATION \"{}\" FOR ALL TABLES",
        pair.names().pubname
    );
    pair.publisher().sql(db, &publication);
    let writers = Writers::start(&pair, 4);
    let data = home.join("clone");
    let standby = (kind == Kind::Standby).then(|| {
        base_backup(&pair, &old_bin, &data, &["-R"]);
        Server::start(&pair, &old_bin, &data, &ALONE)
    });
    pair.flare(&["adopt", "begin", sub]).ok();
    std::thread::sleep(Duration::from_secs(1));
    let mut clone = clone_of(&pair, kind, &old_bin, standby, &data);
    let conninfo = format!(
        "host={} port={} user={} dbname={db}",
        clone.host, clone.port, clone.superuser
    );
    let args = [
        "adopt", "measure", sub, "--clone", &conninfo, "--format", "json",
    ];
    let measured = pair.flare_env(&[("PGPASSWORD", Passwords::ADMIN)], &args);
    let json = measured.ok().json();
    assert!(
        json["before"].as_i64() > Some(0) && json["after"].as_i64() > Some(0),
        "{measured}"
    );
    for statement in json["statements"].as_array().into_iter().flatten() {
        clone.value(statement.as_str().expect("a statement"));
    }
    let server = upgraded(&pair, &mut clone, (&old_bin, &new_bin), new);
    let identifier = server.value("SELECT system_identifier FROM pg_control_system()");
    pair.configure(|config| {
        let conn = &mut config["hosts"]["subscriber"]["conn"];
        conn["port"] = server.port.into();
        conn["system_identifier"] = identifier.into();
    });
    // A client that came too early.
    let mut client = server.try_session(db).expect("connect");
    client
        .batch_execute("INSERT INTO wc VALUES (-1, 0)")
        .expect("a row");
    pair.flare(&["adopt", "finish", sub])
        .code(3)
        .says("rows were written on the clone itself, in public.wc");
    client
        .batch_execute("DELETE FROM wc WHERE id = -1")
        .expect("undo it");
    // Its last counts come when it ends.
    drop(client);
    std::thread::sleep(Duration::from_secs(1));
    let mut client = server.try_session(db).expect("connect");
    client
        .batch_execute("SELECT pg_stat_reset()")
        .expect("counts anew");
    drop(client);
    let finished = pair.flare(&["adopt", "finish", sub, "--format", "json"]);
    assert_eq!(finished.ok().json()["changed"], true, "{finished}");
    let verified = pair.flare(&["verify_data", sub]);
    verified.ok();
    let written = writers.stop();
    let ours = same::contents(pair.publisher(), db);
    let theirs = || {
        let mut session = server.try_session(db).expect("connect");
        same::contents_by(|sql| rows(&mut session, sql).expect("rows"))
    };
    wait::for_("the same rows", Duration::from_secs(60), || {
        theirs() == ours
    });
    println!("{kind:?} {old}-{new}: {written} transactions, {measured}");
}

/// pg_createsubscriber makes the subscription itself, and leaves its server open.
fn is_closed_after_pg_createsubscriber(version: u32) {
    let there = |bin: &PathBuf| {
        ["postgres", "pg_createsubscriber"]
            .iter()
            .all(|it| bin.join(it).exists())
    };
    let Some(bin) = clients::bin(version).filter(there) else {
        println!("{version}: no pg_createsubscriber is here");
        return;
    };
    let pair = Pair::alone(version, version);
    let (db, sub, publisher) = (pair.db(), pair.subname(), pair.publisher());
    let home = publisher.data_dir().with_file_name("standby");
    run(as_server_user(Path::new("/bin/mkdir"), Path::new("/")).arg(&home));
    publisher.sql(db, SMALL_TABLES);
    let data = home.join("data");
    base_backup(&pair, &bin, &data, &["-R"]);
    Server::start(&pair, &bin, &data, &[]).stop();
    let writers = Writers::start(&pair, 4);
    let mut create = as_server_user(&bin.join("pg_createsubscriber"), &home);
    create
        .env("PGPASSWORD", Passwords::ADMIN)
        .args([
            "-d",
            db,
            "-U",
            publisher.superuser(),
            "-p",
            &any_port().to_string(),
            "-P",
        ])
        .arg(publisher.conninfo(db, publisher.superuser(), Passwords::ADMIN))
        .args([
            "--publication",
            &pair.names().pubname,
            "--subscription",
            sub,
        ])
        .args(["--replication-slot", sub, "-D"])
        .arg(&data)
        .arg("-s")
        .arg(&home);
    run(&mut create);
    let server = Server::start(&pair, &bin, &data, &[]);
    let identifier = server.value("SELECT system_identifier FROM pg_control_system()");
    pair.configure(|config| {
        let conn = &mut config["hosts"]["subscriber"]["conn"];
        conn["port"] = server.port.into();
        conn["system_identifier"] = identifier.into();
    });
    for changed in [true, false] {
        let finished = pair.flare(&["adopt", "finish", sub, "--format", "json"]);
        assert_eq!(finished.ok().json()["changed"], changed, "{finished}");
    }
    let status = pair.flare(&["status"]);
    status.ok().prints("subscriber closed");
    pair.flare(&["verify_data", sub]).ok();
    let written = writers.stop();
    println!("pg_createsubscriber {version}: {written} transactions");
}

#[test]
#[ignore = "a matrix for make soak"]
fn what_pg_createsubscriber_has_made_is_taken_over() {
    for version in [17, 18] {
        is_closed_after_pg_createsubscriber(version);
    }
}

#[test]
#[ignore = "a matrix for make soak"]
fn upgraded_clones_become_subscribers() {
    for (old, new) in [(17, 18), (15, 18), (15, 17)] {
        for kind in [Kind::Frozen, Kind::BaseBackup, Kind::Standby] {
            becomes_the_subscriber(kind, old, new);
        }
    }
}
