//! Several databases in one pause: all of them, or none.

use std::time::Duration;

use crate::support::application::{self, Application, Clients, Side};
use crate::support::pair::Passwords;
use crate::support::{Pair, matrix, process, wait};

use super::fixture::{
    assert_moved, await_streaming_in, command_to, go_on, is_open_in, ready, switch_to,
};
use super::state::Objects;

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// A second database beside the pair's, replicating too.
pub(super) struct Second {
    pub(super) db: String,
    pub(super) sub: String,
}

impl Second {
    pub(super) fn beside(pair: &Pair) -> Self {
        let names = pair.names();
        let (id, owner, repl) = (&names.id, &names.owner, &names.repl);
        let second = Self {
            db: format!("{id}second"),
            sub: format!("{id}sub2"),
        };
        let (db, sub) = (&second.db, &second.sub);
        for server in [pair.publisher(), pair.subscriber()] {
            server.sql("postgres", &format!("CREATE DATABASE {db} OWNER {owner}"));
            application::create_tables_in(pair, server, db);
        }
        let publication = format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {repl}; CREATE PUBLICATION {id}pub2 FOR ALL TABLES"
        );
        pair.publisher().sql(db, &publication);
        let conninfo = pair.publisher().conninfo(db, repl, Passwords::REPL);
        let conninfo = conninfo.replace('\'', "''");
        let subscription =
            format!("CREATE SUBSCRIPTION {sub} CONNECTION '{conninfo}' PUBLICATION {id}pub2");
        pair.subscriber().sql(db, &subscription);
        pair.configure(|config| {
            config["publications"][db.as_str()]["pubname"] = format!("{id}pub2").into();
            let subscription = &mut config["subscriptions"][sub.as_str()];
            subscription["dbname"] = db.as_str().into();
            subscription["pubname"] = format!("{id}pub2").into();
        });
        pair.flare(&["create_replication_status_table", db]).ok();
        let unready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
        wait::for_("the second database", Duration::from_secs(60), || {
            pair.subscriber().value(db, unready) == "0"
        });
        pair.subscriber().sql(db, "ANALYZE");
        // Made by hand, it is still open.
        pair.flare(&["create_subscription", sub]).ok();
        second
    }
}

fn everything(args: &[&'static str], to: Side) -> Vec<&'static str> {
    let command = command_to(to);
    [&[command, "--all", "--yes", "--format", "json"], args].concat()
}

#[test]
fn all_databases_switch_in_one_pause_or_none_does() {
    let pair = ready(Pair::alone(14, 18).with_accounts(10));
    let second = Second::beside(&pair);
    let dbs = [pair.db(), &second.db];
    let start = || {
        dbs.map(|db| {
            let clients = Clients {
                db,
                ..Clients::of(&pair)
            };
            clients.start(&pair)
        })
    };
    let are_on = |side: Side| {
        for db in dbs {
            assert!(is_open_in(&pair, side, db), "{db}");
            assert!(!is_open_in(&pair, side.other(), db), "{db}");
        }
    };
    for to in [THERE, BACK] {
        let from = to.other();
        let applications = start();
        for application in &applications {
            application.await_writes_on(from, 30);
        }
        let objects = || dbs.map(|db| [from, to].map(|side| Objects::of(side.of(&pair), db)));
        let before = objects();
        let steps: &[&str] = match to {
            _ if matrix::is_all() => &["revoke", "lock", "drain", "mark", "switching"],
            THERE => &["switching"],
            BACK => &[],
        };
        for step in steps {
            let args = everything(&[], to);
            let run = pair
                .invocation(&args)
                .env("FLARE_FAILPOINT", format!("{step}=fail"))
                .run();
            assert_eq!(run.code(1).json()["outcome"], "undone", "{run}");
            are_on(from);
            for (db, application) in dbs.iter().zip(&applications) {
                application.await_writes_on(from, 10);
                await_streaming_in(&pair, from, db);
            }
            assert_eq!(objects(), before, "failed at {step}");
        }
        if to == THERE || matrix::is_all() {
            // What is awaited in the second database does not arrive in time.
            let run = pair
                .invocation(&everything(&["--max-pause", "1500ms"], to))
                .env("FLARE_FAILPOINT", "drain=stop")
                .spawn();
            run.until_stderr("failpoint reached: drain");
            wait::for_("flare to stop", Duration::from_secs(10), || {
                process::is_stopped(run.pid())
            });
            let mut lock = to.of(&pair).superuser_session(&second.db);
            lock.batch_execute("BEGIN; LOCK TABLE flare_replication_status")
                .expect("lock a table");
            go_on(&run);
            let run = run.wait();
            assert_eq!(run.code(1).json()["outcome"], "undone", "{run}");
            drop(lock);
            are_on(from);
        }

        let run = pair.flare(&everything(&[], to));
        let report = run.ok().json();
        assert_eq!(report["outcome"], "switched", "{run}");
        are_on(to);
        let mut named: Vec<&str> = report["databases"]
            .as_array()
            .expect("databases")
            .iter()
            .map(|of| of["dbname"].as_str().expect("a name"))
            .collect();
        named.sort_unstable();
        let mut expected = dbs.to_vec();
        expected.sort_unstable();
        assert_eq!(named, expected, "{run}");
        for (db, application) in dbs.iter().zip(applications) {
            application.await_writes_on(to, 30);
            let written = assert_moved(application, &pair, &[from, to]);
            println!("{db}: {:?}", written.switches());
        }
        let again = pair.flare(&everything(&[], to));
        assert_eq!(again.ok().json()["outcome"], "already", "{again}");
    }
}

#[test]
#[ignore = "make soak"]
fn killed_between_two_databases_all_of_them_go_on() {
    let pair = ready(Pair::alone(12, 16).with_accounts(10));
    let second = Second::beside(&pair);
    let dbs = [pair.db(), &second.db];
    let mut from = BACK;
    let steps: &[&str] = if matrix::is_all() {
        &["switching", "open", "fence"]
    } else {
        &["open"]
    };
    for step in steps {
        let to = from.other();
        let applications = dbs.map(|db| {
            let clients = Clients {
                db,
                ..Clients::of(&pair)
            };
            clients.start(&pair)
        });
        for application in &applications {
            application.await_writes_on(from, 30);
        }
        let run = pair
            .invocation(&everything(&["--max-pause", "2s"], to))
            .env("FLARE_FAILPOINT", format!("{step}=hold"))
            .spawn();
        run.until_stderr(&format!("failpoint reached: {step}"));
        run.kill_9();
        drop(run);
        let open = |side: Side| dbs.map(|db| is_open_in(&pair, side, db));
        wait::until(Duration::from_secs(5), || open(from) == [true; 2]);
        for side in [from, to] {
            let [first, second] = open(side);
            assert_eq!(first, second, "killed at {step}: only one is open");
        }
        let again = pair.flare(&everything(&[], to));
        again.ok();
        assert_eq!((open(from), open(to)), ([false; 2], [true; 2]), "{again}");
        for application in applications {
            application.await_writes_on(to, 30);
            assert_moved(application, &pair, &[from, to]);
        }
        from = to;
    }
}

#[test]
#[ignore = "make soak"]
fn one_of_two_databases_can_go_alone() {
    let pair = ready(Pair::new(15, 17).with_accounts(10));
    let second = Second::beside(&pair);
    let applications = [Application::start(&pair), {
        let clients = Clients {
            db: &second.db,
            ..Clients::of(&pair)
        };
        clients.start(&pair)
    }];
    for application in &applications {
        application.await_writes_on(BACK, 30);
    }
    pair.flare(&switch_to(&pair, THERE, &[])).ok();
    assert!(is_open_in(&pair, THERE, pair.db()));
    assert!(is_open_in(&pair, BACK, &second.db));
    applications[0].await_writes_on(THERE, 30);
    applications[1].await_writes_on(BACK, 30);
    let [first, other] = applications.map(Application::stop);
    first
        .verify(pair.subscriber())
        .verify_arrives(pair.publisher())
        .assert_sides(&[BACK, THERE])
        .assert_never_refused();
    other
        .verify(pair.publisher())
        .verify_arrives(pair.subscriber())
        .assert_sides(&[BACK])
        .assert_never_refused();
    assert_eq!(
        other.unknown(),
        0,
        "sessions of the other database were ended"
    );
}

#[test]
#[ignore = "make soak"]
fn cleaning_up_one_of_two_leaves_the_other_its_way_back() {
    let pair = ready(Pair::alone(15, 17).with_accounts(10));
    let second = Second::beside(&pair);
    pair.flare(&everything(&[], THERE)).ok();
    await_streaming_in(&pair, THERE, &second.db);
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    let status = pair.flare(&["status", "--format", "json"]).ok().json();
    let standings = status["subscriptions"].as_array().expect("both");
    let of = |sub: &str| standings.iter().find(|it| it["subname"] == sub);
    let stage = |sub: &str| of(sub).expect("a subscription")["stage"].clone();
    assert_eq!(stage(pair.subname()), "cleaned_up", "{status:#}");
    assert_eq!(stage(&second.sub), "cut_over", "{status:#}");
    let back = [command_to(BACK), &second.sub, "--yes"];
    pair.flare(&back).ok();
    assert!(is_open_in(&pair, BACK, &second.db));
    assert!(!is_open_in(&pair, THERE, &second.db));
}
