//! What the other tests rely on: servers that are what they should be, and that never stay.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::application::{self, Application, Side};
use crate::support::cluster::Flavour;
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::proxy::Proxy;
use crate::support::{Cluster, Pair, clients, matrix, process, run, wait};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn each_pair_of_versions_starts_and_replicates() {
    matrix::for_each_pair(|old, new| {
        let pair = Pair::new(old, new).with_accounts(100).replicating();
        let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
        for (server, version) in [(publisher, old), (subscriber, new)] {
            let number = server.value(pair.db(), "SHOW server_version_num");
            assert_eq!(number.parse::<u32>().expect("a number") / 10_000, version);
        }
        assert_ne!(
            publisher.system_identifier(),
            subscriber.system_identifier()
        );

        publisher.sql(
            pair.db(),
            "UPDATE pgbench_accounts SET abalance = 7 WHERE aid > 90",
        );
        pair.await_caught_up();
        let sum = "SELECT sum(abalance) FROM pgbench_accounts";
        assert_eq!(subscriber.value(pair.db(), sum), "70");
    });
}

#[test]
fn servers_of_one_version_differ() {
    let (publisher, subscriber) = (Cluster::publisher(18), Cluster::subscriber(18));
    assert_ne!(
        publisher.system_identifier(),
        subscriber.system_identifier()
    );
    assert_eq!(
        publisher.system_identifier(),
        Cluster::publisher(18).system_identifier()
    );
}

#[test]
fn a_private_server_has_the_locale_it_is_given() {
    let server = Cluster::private_with(16, &["--locale=C.UTF-8"], &[]);
    let locale = "SELECT datcollate FROM pg_database WHERE datname = 'postgres'";
    assert_eq!(server.value("postgres", locale), "C.UTF-8");
    let length = "SELECT length(rolpassword) > 100 FROM pg_authid WHERE rolname = 'postgres'";
    assert_eq!(server.value("postgres", length), "t");
}

#[test]
fn pairs_leave_shared_servers_as_they_were() {
    let (publisher, subscriber) = (Cluster::publisher(17), Cluster::subscriber(18));
    let id = {
        let pair = Pair::new(17, 18).with_accounts(10).replicating();
        pair.names().id.clone()
    };
    for server in [publisher, subscriber] {
        for query in [
            "SELECT datname FROM pg_database",
            "SELECT rolname FROM pg_roles",
            "SELECT slot_name FROM pg_replication_slots",
            "SELECT subname FROM pg_subscription",
        ] {
            let names: Vec<String> = server
                .rows("postgres", query)
                .into_iter()
                .filter_map(|mut row| row.pop().flatten())
                .collect();
            let left: Vec<_> = names.iter().filter(|name| name.starts_with(&id)).collect();
            assert!(left.is_empty(), "{left:?} is left on {server:?}");
        }
    }
}

#[test]
fn clients_log_in_with_their_password_only() {
    let pair = Pair::new(17, 18);
    let (publisher, names) = (pair.publisher(), pair.names());
    for (user, password) in [
        (publisher.admin(), Passwords::ADMIN),
        (names.app.as_str(), Passwords::APP),
        (names.owner.as_str(), Passwords::OWNER),
        (names.repl.as_str(), Passwords::REPL),
    ] {
        let login = publisher.connect(pair.db(), user, password);
        assert!(login.is_ok(), "{user}: {:?}", login.err());
        let login = publisher.connect(pair.db(), user, "another");
        assert!(login.is_err(), "{user} may log in with any password");
    }
    for address in [
        publisher.url(pair.db(), &names.app, Passwords::APP),
        publisher.conninfo(pair.db(), &names.app, Passwords::APP),
    ] {
        let login = postgres::Client::connect(&address, postgres::NoTls);
        assert!(login.is_ok(), "{address}: {:?}", login.err());
    }
}

#[test]
fn rds_administrator_is_no_superuser() {
    for version in [10, 18] {
        let server = Cluster::private_rds(version, &[]);
        assert_eq!(server.flavour(), Flavour::Rds);
        let mut master = server
            .connect("postgres", server.admin(), Passwords::ADMIN)
            .expect("log in as the administrator");
        let denied = master
            .simple_query("SELECT rolpassword FROM pg_authid")
            .expect_err("only a superuser sees passwords");
        assert_eq!(denied.code().expect("an answer").code(), "42501");
        master
            .simple_query("CREATE ROLE somebody; CREATE TABLE own ()")
            .err();
        assert_eq!(
            server.value(
                "postgres",
                "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolsuper"
            ),
            "rdsadmin"
        );
    }
}

#[test]
fn rds_pairs_start() {
    let pair = Pair::rds(15, 18).with_accounts(10).replicating();
    let count = "SELECT count(*) FROM pgbench_accounts";
    assert_eq!(pair.subscriber().value(pair.db(), count), "10");
}

#[test]
fn a_private_server_stops_starts_freezes_and_is_killed() {
    let server = Cluster::private(18, &[("fsync", "on"), ("max_connections", "23")]);
    assert_eq!(server.value("postgres", "SHOW fsync"), "on");
    assert_eq!(server.value("postgres", "SHOW max_connections"), "23");
    let identifier = server.system_identifier();

    server.configure(&[("work_mem", "5MB")]);
    server.reload();
    assert_eq!(server.value("postgres", "SHOW work_mem"), "5MB");

    server.stop();
    assert!(server.try_rows("postgres", "SELECT 1").is_err());
    server.start();

    let children = process::children_of(server.postmaster_pid());
    server.kill_9();
    assert!(!children.iter().any(|pid| process::is_running(*pid)));
    server.start();
    assert!(server.log().contains("was interrupted"), "{}", server.log());

    server.freeze();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.system_identifier());
        let early = wait::until(Duration::from_millis(300), || answer.is_finished());
        assert!(!early, "a frozen server answered");
        server.thaw();
        assert_eq!(answer.join().expect("an answer"), identifier);
    });
}

#[test]
fn client_programs_run() {
    for version in [15, 17, 18] {
        let Some(bin) = clients::bin(version) else {
            assert_eq!(version, 15, "only those of the system may be missing");
            continue;
        };
        for program in ["psql", "pg_dump", "pg_dumpall", "pg_restore", "pgbench"] {
            let banner = Command::new(bin.join(program))
                .arg("--version")
                .output()
                .expect("run a client program");
            let banner = String::from_utf8_lossy(&banner.stdout).into_owned();
            let expected = format!("{program} (PostgreSQL) {version}.");
            assert!(banner.starts_with(&expected), "{banner}");
        }
    }
    let server = Cluster::publisher(17);
    let one = Command::new("psql")
        .env("PATH", clients::path(18))
        .env("PGPASSWORD", Passwords::ADMIN)
        .args(["-X", "-A", "-t", "-c", "SELECT 1", "-h", server.host()])
        .args(["-p", &server.port().to_string(), "-U", server.admin()])
        .output()
        .expect("run psql");
    assert_eq!(String::from_utf8_lossy(&one.stdout), "1\n");
}

#[test]
fn the_program_runs_with_the_configuration() {
    let pair = Pair::new(17, 18).clients(17);
    pair.configure(|config| config["cutover"]["app_users"] = "somebody".into());
    let config = fs::read_to_string(pair.config_path()).expect("read flare.yml");
    assert!(config.contains("app_users: somebody"), "{config}");
    assert!(config.contains(&pair.publisher().system_identifier()));

    let help = pair.flare_env(&[("NO_COLOR", "1")], &["--help"]);
    assert_eq!(help.ok().stderr(), "");
    let running = pair.spawn(&["--help"]);
    running.wait().ok();
    assert_eq!(pair.temp_dir().read_dir().expect("list").count(), 0);
}

#[test]
fn a_program_at_work_is_awaited_signalled_and_ended() {
    let script = "read line; echo out $line; echo ready >&2; exec sleep 60";
    let running = shell(script).stdin("in\n").spawn();
    running.until_stderr("ready").until_stdout("out in");
    assert!(!running.has_ended());
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().signal(), Some(libc::SIGTERM));

    // A child that is left behind does not hold the test up, and is ended with it.
    let running = shell("sleep 61 & echo $!; kill -9 $$").spawn();
    let pid = running.until_stdout("\n").stdout_so_far();
    let output = running.wait();
    assert_eq!(output.signal(), Some(libc::SIGKILL));
    let pid = pid.trim().parse().expect("a process id");
    wait::for_("the child to go", LIMIT, || !process::is_running(pid));
}

#[test]
fn assertions_on_a_run_show_it() {
    let output = shell("echo '{\"ok\": false}'; echo why >&2; exit 3").run();
    output.code(3).fails_with("why").prints("ok");
    assert_eq!(output.json()["ok"], false);
    let shown = message(|| _ = output.ok());
    assert!(shown.contains("exit code 0 was expected"), "{shown}");
    assert!(shown.contains("--- stderr\nwhy\n"), "{shown}");

    let twice = shell("echo '{}'; echo '{}'").run();
    assert!(message(|| drop(twice.json())).contains("not one JSON object"));

    let told = message(|| drop(shell("echo pass").secrets(["pass".into()]).run()));
    assert!(told.contains("a password stands in stdout"), "{told}");

    let short = Duration::from_millis(50);
    let told = message(|| drop(shell("echo so far; exec sleep 62").limit(short).run()));
    assert!(told.contains("not at its end after 50ms"), "{told}");
}

fn shell(script: &str) -> Invocation {
    Invocation::of("/bin/sh", &["-c", script]).env("PATH", "/usr/bin:/bin")
}

/// What it panics with.
fn message(fails: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(fails)).expect_err("a failed assertion");
    *panic.downcast::<String>().expect("a message")
}

#[test]
fn pairs_of_versions_are_parsed() {
    assert_eq!(matrix::parse("10-18, 16-17"), Ok(vec![(10, 18), (16, 17)]));
    assert_eq!(matrix::parse("all").expect("all").len(), 45);
    assert!(matrix::parse("9-10").is_err());
    let sample = matrix::parse(" ").expect("a sample");
    for version in matrix::VERSIONS {
        assert!(sample.iter().any(|(old, _)| *old == version));
        assert!(sample.iter().any(|(_, new)| *new == version));
    }
}

/// A run of this test program of its own, with one server, which ends as the test says.
struct Victim {
    child: Child,
    stdout: BufReader<ChildStdout>,
    dir: PathBuf,
    processes: Vec<u32>,
}

const ENDING: &str = "FLARE_HARNESS_VICTIM_ENDS_BY";

#[test]
fn nothing_is_left_after_an_exit() {
    Victim::start("exit").must_be_gone_at_once();
}

#[test]
fn nothing_is_left_after_a_panic() {
    Victim::start("panic").must_be_gone_at_once();
}

#[test]
fn nothing_is_left_after_ctrl_c() {
    let victim = Victim::start("wait");
    process::signal(victim.child.id(), libc::SIGINT);
    victim.must_be_gone_soon();
}

#[test]
fn nothing_is_left_after_kill_9() {
    let victim = Victim::start("wait");
    process::signal(victim.child.id(), libc::SIGKILL);
    victim.must_be_gone_soon();
}

#[test]
fn nothing_is_left_after_kill_9_with_a_frozen_server() {
    let victim = Victim::start("freeze");
    process::signal(victim.child.id(), libc::SIGKILL);
    victim.must_be_gone_soon();
}

#[test]
#[ignore = "run by the tests that end it"]
fn victim() {
    let Ok(ending) = env::var(ENDING) else {
        return;
    };
    let server = Cluster::private(18, &[]);
    let postmaster = server.postmaster_pid();
    let mut processes = process::children_of(postmaster);
    processes.push(postmaster);
    if ending == "freeze" {
        server.freeze();
    }
    println!("victim {} {processes:?}", run::dir().display());
    match ending.as_str() {
        "exit" => std::mem::forget(server),
        "panic" => {
            std::mem::forget(server);
            panic!("as asked");
        }
        _ => loop {
            std::thread::park();
        },
    }
}

impl Victim {
    fn start(ending: &str) -> Self {
        let mut child = Command::new(env::current_exe().expect("find this program"))
            .args(["--exact", "harness::victim", "--ignored", "--nocapture"])
            .env(ENDING, ending)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run this program once more");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output"));
        let mut line = String::new();
        while !line.contains("victim /") {
            line.clear();
            let read = stdout.read_line(&mut line).expect("read from the victim");
            assert!(read > 0, "the victim said nothing");
        }
        let said = &line[line.find("victim /").expect("a directory") + "victim ".len()..];
        let (dir, processes) = said
            .trim()
            .split_once(' ')
            .expect("directory and processes");
        let victim = Self {
            child,
            stdout,
            dir: PathBuf::from(dir),
            processes: serde_json::from_str(processes).expect("process ids"),
        };
        assert!(victim.processes.len() > 3, "{:?}", victim.processes);
        victim
    }

    fn must_be_gone_at_once(mut self) {
        self.child.wait().expect("wait for the victim");
        self.assert_gone();
    }

    fn must_be_gone_soon(mut self) {
        self.child.wait().expect("wait for the victim");
        wait::for_("the watcher to clean up", LIMIT, || !self.dir.exists());
        self.assert_gone();
    }

    fn assert_gone(&mut self) {
        assert!(!self.dir.exists(), "{} is left", self.dir.display());
        let named = process::naming(&self.dir.join(""));
        assert!(named.is_empty(), "{named:?} are left");
        // The kernel takes a killed process off its list a moment later.
        wait::for_("the server's processes to go", LIMIT, || {
            !self.processes.iter().any(|pid| process::is_running(*pid))
        });
        let mut rest = String::new();
        let _ = std::io::Read::read_to_string(&mut self.stdout, &mut rest);
    }
}

#[test]
fn a_proxy_holds_bytes_back_and_lets_them_go() {
    const SOON: Duration = Duration::from_millis(300);
    let server = Cluster::publisher(16);
    let proxy = Proxy::to(server.port());
    let connect = || {
        postgres::Config::new()
            .host("127.0.0.1")
            .port(proxy.port())
            .user("postgres")
            .password(Passwords::ADMIN)
            .connect(postgres::NoTls)
    };
    let mut session = connect().expect("a session by way of the proxy");
    let pid: i32 = session
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("an answer by way of the proxy")
        .get(0);
    let at_work_on = |what: &str| {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND query LIKE '%{what}'"
        );
        server.value("postgres", &query) == "1"
    };
    let (say, answers) = mpsc::channel();
    let (asks, hear) = mpsc::channel::<&str>();
    std::thread::spawn(move || {
        for query in hear {
            let _ = say.send(session.batch_execute(query).is_ok());
        }
    });

    proxy.freeze();
    asks.send("SELECT 1 -- frozen").expect("ask");
    assert!(answers.recv_timeout(SOON).is_err());
    assert!(!at_work_on("-- frozen"));
    proxy.thaw();
    assert_eq!(answers.recv_timeout(LIMIT), Ok(true));

    proxy.lose_answers();
    asks.send("SELECT 2 -- unheard").expect("ask");
    wait::for_("the statement to arrive", LIMIT, || {
        at_work_on("-- unheard")
    });
    assert!(answers.recv_timeout(SOON).is_err());
    proxy.thaw();
    assert_eq!(answers.recv_timeout(LIMIT), Ok(true));

    proxy.cut();
    asks.send("SELECT 3").expect("ask");
    assert_eq!(answers.recv_timeout(LIMIT), Ok(false));
    assert!(connect().is_err());
    proxy.mend();
    connect().expect("a session after the cut");
}

/// Whether it panicked, as an assertion that does not hold does.
fn fails<T>(assertion: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(assertion)).is_err()
}

#[test]
fn an_application_knows_what_it_has_written_and_where() {
    let pair = Pair::new(14, 17)
        .with_accounts(10)
        .replicating_with(application::create_tables);
    let (db, app) = (pair.db(), &pair.names().app);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    let door = |server: &Cluster, grant_or_revoke: &str| {
        let sql = format!("{grant_or_revoke} PUBLIC")
            .replace("CONNECT", &format!("CONNECT ON DATABASE {db}"));
        server.sql("postgres", &sql);
    };
    let clear = |server: &Cluster| {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{app}' AND datname = '{db}'"
        );
        wait::for_("the sessions to end", LIMIT, || {
            server.rows("postgres", &end).is_empty()
        });
    };
    door(subscriber, "REVOKE CONNECT FROM");
    let application = Application::start(&pair);
    application.await_writes_on(Side::Publisher, 200);
    pair.flare(&["pause_write", db, "--allowed-rep-duration", "0s"])
        .ok();
    pair.flare(&["resume_write", db]).ok();
    application.await_writes_on(Side::Publisher, 50);

    // A cutover by hand.
    door(publisher, "REVOKE CONNECT FROM");
    clear(publisher);
    pair.await_caught_up();
    pair.flare(&["replicate_sequences", pair.subname()]).ok();
    door(subscriber, "GRANT CONNECT TO");
    application.await_writes_on(Side::Subscriber, 50);
    let written = application.stop();
    written.verify(subscriber).assert_never_refused();
    written.assert_sides(&[Side::Publisher, Side::Subscriber]);
    assert!(
        fails(|| written.verify(publisher)),
        "nothing carries rows back"
    );

    // The same without a shut door on the other side, without sequences: everything that can be wrong is.
    let application = Application::start(&pair);
    application.await_writes_on(Side::Subscriber, 50);
    door(publisher, "GRANT CONNECT TO");
    clear(subscriber);
    application.await_writes_on(Side::Publisher, 50);
    let written = application.stop();
    assert!(fails(|| written.assert_sides(&[Side::Subscriber])));
    assert!(fails(|| written.verify(publisher)));
    assert!(fails(|| written.verify(subscriber)));
}
