//! A migration that is ready to be cut over, and what it looks like from outside.

use std::slice;
use std::time::Duration;

use serde_json::Value;

use crate::support::application::{self, Application, Side, Written};
use crate::support::flare::{Invocation, Running};
use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, process, wait};

use super::state::Objects;

/// Every step in the order of the protocol.
pub const STEPS: [&str; 14] = [
    "guard",
    "poolers",
    "revoke",
    "terminate",
    "lock",
    "drain",
    "sequences",
    "disable",
    "mark",
    "route",
    "switching",
    "open",
    "answer",
    "resume",
];

/// Those that a run has only when poolers or a hook are configured.
const OPTIONAL: [&str; 3] = ["poolers", "route", "resume"];

/// Replicating, with the application's tables, statistics on the subscriber, and a role for the way back.
pub fn ready(pair: Pair) -> Pair {
    ready_with(pair, application::create_tables)
}

/// The same with other tables.
pub fn ready_with(pair: Pair, create_tables: impl Fn(&Pair, &Cluster)) -> Pair {
    let pair = pair.replicating_with(create_tables);
    let (repl, db) = (pair.names().repl.clone(), pair.db());
    pair.configure(|config| {
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    pair.await_caught_up();
    pair.subscriber().sql(db, "ANALYZE");
    // Made by hand, it is still open.
    pair.flare(&["create_subscription", pair.subname()]).ok();
    pair
}

/// There, and back as well where everything is asked for.
pub fn ways() -> &'static [Side] {
    let all = &[Side::Subscriber, Side::Publisher];
    matrix::sample(all, &all[..1])
}

/// The command that moves the application to this side.
pub fn command_to(to: Side) -> &'static str {
    match to {
        Side::Subscriber => "cutover",
        Side::Publisher => "fallback",
    }
}

/// Its arguments, for the pair's one subscription.
pub fn switch_to<'a>(pair: &'a Pair, to: Side, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![command_to(to), pair.subname(), "--yes"];
    args.extend(more);
    args
}

/// Moves the application to this side, and returns the report.
#[track_caller]
pub fn switched_to(pair: &Pair, to: Side) -> Value {
    let run = pair.flare(&switch_to(pair, to, &["--format", "json"]));
    let report = run.ok().json();
    assert_eq!(report["outcome"], "switched", "{run}");
    report
}

/// Whether the application may come in, and write.
pub fn is_open(pair: &Pair, side: Side) -> bool {
    is_open_in(pair, side, pair.db())
}

/// The same of another database of the pair.
pub fn is_open_in(pair: &Pair, side: Side, db: &str) -> bool {
    let app = &pair.names().app;
    let writes = format!(
        "SELECT has_database_privilege('{app}', '{db}', 'CONNECT') AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                       WHERE d.datname = '{db}' AND s.setrole = 0 AND 'default_transaction_read_only=on' = ANY (s.setconfig))"
    );
    side.of(pair).value("postgres", &writes) == "t"
}

/// The sides that it may come in at: never both, whatever happens.
#[track_caller]
pub fn open_sides(pair: &Pair) -> Vec<Side> {
    // A side that opens after the other one was asked has to find that one shut.
    let [first, second, again] =
        [Side::Publisher, Side::Subscriber, Side::Publisher].map(|side| is_open(pair, side));
    assert!(
        !(second && first && again),
        "both sides are open at the same time"
    );
    let open = [(Side::Publisher, again), (Side::Subscriber, second)];
    let open = open.into_iter().filter(|(_, open)| *open);
    open.map(|(side, _)| side).collect()
}

/// The first line says where the application can write.
#[track_caller]
pub fn assert_first_line(run: &Output, side: Side) {
    let first = run.stdout().lines().next().unwrap_or_default();
    assert!(
        first.contains("can write") && first.contains(side.as_str()),
        "the first line does not say that the application can write on the {}\n{run}",
        side.as_str()
    );
}

/// The mandatory steps of this list, in its order.
pub fn mandatory(steps: &[String]) -> Vec<&str> {
    let steps = steps.iter().map(String::as_str);
    steps.filter(|step| !OPTIONAL.contains(step)).collect()
}

/// The report of a switch that went well has all that it should have.
#[track_caller]
pub fn assert_complete(report: &Value, pair: &Pair, to: Side) {
    let expected = serde_json::json!({
        "command": command_to(to), "ok": true, "changed": true, "outcome": "switched",
        "direction": match to { Side::Subscriber => "forward", Side::Publisher => "back" },
        "writable": to.as_str(), "error": null,
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&report[field], value, "{field} of {report:#}");
    }
    let run_id = report["run_id"].as_str().unwrap_or_default();
    assert_eq!(run_id.len(), 36, "run_id of {report:#}");
    let pause = report["pause_ms"].as_f64();
    assert!(
        pause.is_some_and(|ms| ms > 0.0 && ms < 10_000.0),
        "{report:#}"
    );
    assert!(report["warnings"].is_array(), "{report:#}");

    let steps = report["steps"].as_array().expect("steps");
    let names: Vec<String> = steps
        .iter()
        .map(|step| {
            assert!(step["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{step}");
            step["step"].as_str().expect("a step's name").to_owned()
        })
        .collect();
    let all = STEPS.map(str::to_owned);
    assert_eq!(mandatory(&names), mandatory(&all), "{report:#}");
    let place = |name: &String| STEPS.iter().position(|step| step == name);
    assert!(
        names.is_sorted_by_key(|name| place(name).expect("a step of the protocol")),
        "{names:?}"
    );

    let databases = report["databases"].as_array().expect("databases");
    assert_eq!(databases.len(), 1, "{report:#}");
    let database = &databases[0];
    assert_eq!(database["dbname"], pair.db());
    assert_eq!(database["subname"], pair.subname());
    for count in ["terminated_backends", "sequences"] {
        assert!(database[count].is_u64(), "{count} of {report:#}");
    }
    let lsn = database["drained_lsn"].as_str().unwrap_or_default();
    assert!(lsn.contains('/'), "drained_lsn of {report:#}");
}

/// What replication has to have on both sides when the application is on `side` and the way back is open.
#[track_caller]
pub fn assert_settled(pair: &Pair, side: Side) {
    let (db, sub) = (pair.db(), pair.subname());
    let back = format!("{sub}_back");
    let (stream, from, to) = match side {
        Side::Publisher => (sub.to_owned(), Side::Publisher, Side::Subscriber),
        Side::Subscriber => (back, Side::Subscriber, Side::Publisher),
    };
    let [open, shut] = [from, to].map(|side| Objects::of(side.of(pair), db));
    assert_eq!(open_sides(pair), [side]);
    assert_eq!(open.slot_names(), slice::from_ref(&stream), "{open:?}");
    assert_eq!(open.subscriptions_enabled(), [], "{open:?}");
    assert_eq!(shut.slot_names(), [] as [&str; 0], "{shut:?}");
    assert_eq!(shut.subscriptions_enabled(), [(stream, true)], "{shut:?}");
    // A table that is in use all the time keeps an open fence, which stops nobody: clients of a process of their own use this one.
    let (_, fences): (Vec<_>, Vec<_>) = open
        .triggers
        .into_iter()
        .partition(|row| row[0].as_deref() == Some("moves"));
    assert_eq!(
        fences,
        [] as [Vec<Option<String>>; 0],
        "the side that is open"
    );
}

/// Published tables with a column of each.
const FENCED: [(&str, &str); 5] = [
    ("app_orders", "client"),
    ("app_serials", "client"),
    ("app_identities", "client"),
    ("pgbench_accounts", "bid"),
    ("pgbench_history", "bid"),
];

/// The fence stands on every published table of the side that is shut, for superusers too.
#[track_caller]
pub fn assert_fenced(pair: &Pair, shut: Side) {
    let server = shut.of(pair);
    for (table, column) in FENCED {
        for statement in [
            format!("INSERT INTO {table} ({column}) SELECT {column} FROM {table} LIMIT 0"),
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            // Undone where the fence lets it pass.
            let tried = format!("BEGIN READ WRITE; {statement}; ROLLBACK");
            let answer = server.try_rows(pair.db(), &tried);
            assert!(
                answer.as_ref().is_err_and(|words| words.contains("flare")),
                "a superuser on the {}: {statement}: {answer:?}",
                shut.as_str()
            );
        }
    }
}

/// Waits until the side that is shut replicates from the open one.
#[track_caller]
pub fn await_streaming_from(pair: &Pair, side: Side) {
    await_streaming_in(pair, side, pair.db());
}

/// The same of another database of the pair.
#[track_caller]
pub fn await_streaming_in(pair: &Pair, side: Side, db: &str) {
    let server = side.of(pair);
    let active =
        format!("SELECT count(*) FROM pg_replication_slots WHERE database = '{db}' AND active");
    wait::for_("the stream", Duration::from_secs(60), || {
        server.value("postgres", &active) == "1"
    });
}

/// True of a session whose query names the pid of one that flare has in the database: of this run, whoever else's is there.
pub fn of_the_run_in(db: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_stat_activity own WHERE own.datname = '{db}' AND own.application_name LIKE 'flare/%'
                    AND session.query ~ format('\\m%s\\M', own.pid))"
    )
}

pub fn sessions_of_flare(server: &Cluster) -> String {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%'";
    server.value("postgres", count)
}

/// The same of one database.
pub fn sessions_of_flare_in(server: &Cluster, db: &str) -> String {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%' AND datname = '{db}'"
    );
    server.value("postgres", &count)
}

/// Stops the application, which wrote on these sides one after the other: all that was acknowledged is on both servers,
/// and no side refused it anything but its sessions. What it has written is returned.
#[track_caller]
pub fn assert_moved(application: Application, pair: &Pair, sides: &[Side]) -> Written {
    let at = *sides.last().expect("a side");
    let written = application.stop();
    written
        .verify(at.of(pair))
        .verify_arrives(at.other().of(pair))
        .assert_sides(sides)
        .assert_never_refused();
    written
}

/// A run that is asked to do something at a step: `hold`, `stop` or `fail`.
pub fn at_failpoint(pair: &Pair, to: Side, failpoint: &str, more: &[&str]) -> Invocation {
    let args = [&["--format", "json"], more].concat();
    pair.invocation(&switch_to(pair, to, &args))
        .env("FLARE_FAILPOINT", failpoint)
}

/// A run whose process is stopped before this step.
#[track_caller]
pub fn stopped_at(pair: &Pair, to: Side, step: &str, more: &[&str]) -> Running {
    let run = at_failpoint(pair, to, &format!("{step}=stop"), more).spawn();
    run.until_stderr(&format!("failpoint reached: {step}"));
    wait::for_("flare to stop", Duration::from_secs(10), || {
        process::is_stopped(run.pid())
    });
    run
}

/// Lets it go on.
pub fn go_on(run: &Running) {
    run.signal(libc::SIGCONT);
}

/// The sessions of a run that has gone may take a moment to go, too.
#[track_caller]
pub fn await_finished(pair: &Pair, to: Side) {
    wait::for_("status to finish it", Duration::from_secs(60), || {
        let status = pair.flare(&["status"]);
        status.ok().stdout().contains(", the way back runs")
            || status.ok().stdout().contains("fallen back, replicating")
    });
    let status = pair.flare(&["status"]);
    assert_first_line(status.ok(), to);
}

/// A run that ended by undoing itself says so, and names the step.
#[track_caller]
pub fn assert_undone(run: &Output, step: &str, side: Side) {
    let report = run.json();
    assert_eq!(
        (&report["outcome"], &report["ok"], &report["writable"]),
        (&"undone".into(), &false.into(), &side.as_str().into()),
        "{run}"
    );
    let message = report["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(step), "{step:?} is not named\n{run}");
}
