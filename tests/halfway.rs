//! A load that fails leaves nothing behind, however it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::flare::{Invocation, program};
use crate::support::output::Output;
use crate::support::{Cluster, Pair, clients, process, wait};

fn objects(pair: &Pair) -> String {
    let databases = format!(
        "SELECT count(*) FROM pg_database WHERE datname = '{}'",
        pair.db()
    );
    if pair.subscriber().value("postgres", &databases) == "0" {
        return "0".into();
    }
    let tables = "SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind = 'r'";
    pair.subscriber().value(pair.db(), tables)
}

fn roles(server: &Cluster) -> String {
    server.value("postgres", "SELECT count(*) FROM pg_roles")
}

/// With whatever a shell can do to it beforehand.
fn in_a_shell(pair: &Pair, before: &str, args: &str) -> Output {
    let script = format!(
        "{before}; exec '{}' --config '{}' {args}",
        program().display(),
        pair.config_path().display()
    );
    Invocation::of("sh", &["-c", &script])
        .env("PATH", clients::path(18))
        .env("HOME", pair.dir())
        .env("TMPDIR", pair.temp_dir())
        .current_dir(pair.dir())
        .run()
}

#[test]
fn a_psql_that_is_killed_leaves_nothing() {
    let pair = Pair::alone(12, 17).with_accounts(10);
    let db = pair.db();
    let none = roles(pair.subscriber());
    let kill_psql = |command: &[&str], on: &str, table: &str| {
        let mut holder = pair.subscriber().superuser_session(on);
        holder
            .batch_execute(&format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"))
            .expect("hold a lock");
        let running = pair.spawn(command);
        let waits = format!(
            "SELECT count(*) FROM pg_stat_activity
              WHERE wait_event_type = 'Lock' AND application_name = 'flare/{}'",
            command[0]
        );
        wait::for_("psql to wait", Duration::from_secs(30), || {
            pair.subscriber().value("postgres", &waits) == "1"
        });
        let children = process::children_of(running.pid());
        assert_eq!(children.len(), 1, "psql alone is running");
        process::signal(children[0], libc::SIGKILL);
        let run = running.wait();
        run.code(1).says("psql").says("signal 9");
        holder.batch_execute("ROLLBACK").expect("let go");
        wait::for_("its session to end", Duration::from_secs(10), || {
            pair.subscriber().value("postgres", &waits) == "0"
        });
    };
    kill_psql(&["replicate_roles"], "postgres", "pg_authid");
    // The server may have committed what psql asked for before it noticed: never a part of it.
    assert_eq!(roles(pair.subscriber()), none);
    pair.flare(&["replicate_roles"]).ok();

    pair.create_database_on(pair.subscriber());
    kill_psql(&["replicate_schema", db], db, "pg_constraint");
    assert_eq!(objects(&pair), "0");
    pair.flare(&["replicate_schema", db]).ok();
    assert_ne!(objects(&pair), "0");
}

#[test]
fn a_full_or_closed_temporary_directory_leaves_nothing() {
    let pair = Pair::alone(13, 16).with_accounts(10);
    let db = pair.db();
    let many = "DO $$ BEGIN FOR i IN 1..40 LOOP
                    EXECUTE format('CREATE ROLE \"role number %s with a long name\"', i);
                    EXECUTE format('CREATE TABLE \"table number %s with a long name\" (a int PRIMARY KEY)', i);
                END LOOP; END $$";
    pair.publisher().sql(db, many);
    // Files of no more than some 4 kB: the dump does not fit. A shell counts in 512 or 1024 bytes.
    let fails = |args: &str| {
        let before = roles(pair.subscriber());
        let run = in_a_shell(&pair, "trap '' XFSZ; ulimit -f 4", args);
        run.code(1).says("error: ");
        assert_eq!(roles(pair.subscriber()), before, "{run}");
        assert_eq!(objects(&pair), "0", "{run}");
        let run = in_a_shell(&pair, "TMPDIR=/nonexistent", args);
        run.code(1).says("/nonexistent").says("hint: ");
        assert_eq!(roles(pair.subscriber()), before, "{run}");
        assert_eq!(objects(&pair), "0", "{run}");
    };
    fails("replicate_roles");
    pair.flare(&["replicate_roles"]).ok();
    fails(&format!("replicate_schema {db}"));
    pair.flare(&["replicate_schema", db]).ok();
}

#[test]
fn programs_that_are_missing_or_too_old_are_named_before_anything_is_done() {
    let pair = Pair::alone(17, 18).with_accounts(10);
    let bin = pair.dir().join("bin");
    fs::create_dir(&bin).expect("make a directory");
    pair.create_roles_on(pair.subscriber());
    let none = roles(pair.subscriber());
    let with_tools = |command: &[&str]| {
        pair.configure(|config| config["tools"]["path"] = bin.display().to_string().into());
        pair.flare(command)
    };
    for command in [&["replicate_roles"][..], &["replicate_schema", pair.db()]] {
        let run = with_tools(command);
        run.code(1).says("none was found").says("tools.path");
    }
    for name in ["pg_dump", "pg_dumpall", "psql"] {
        let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) 15.18 (Debian 15.18-0)'\n");
        fs::write(bin.join(name), script).expect("write a script");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("open it");
    }
    for command in [&["replicate_roles"][..], &["replicate_schema", pair.db()]] {
        let run = with_tools(command);
        run.code(1).says("17 or newer").says("15.18").says("hint: ");
    }
    assert_eq!(roles(pair.subscriber()), none);
    assert_eq!(objects(&pair), "0");
}
