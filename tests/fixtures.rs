//! The files that users start from work as they stand.

use std::path::Path;

use crate::walk::{Walk, Writers};

const CONFIG: &str = "
hosts:
  publisher:
    conn: {superuser: postgres, superuser_password: of postgres, db_owner: dbowner, db_owner_password: of dbowner,
           repl_user: repl, repl_user_password: of repl, host: '', port: 1, system_identifier: 1}
  subscriber:
    conn: {superuser: postgres, superuser_password: of postgres, db_owner: dbowner, db_owner_password: of dbowner,
           repl_user: repl, repl_user_password: of repl, host: '', port: 1, system_identifier: 2}
publications:
  bench: {pubname: bench-pub, replica_identity_full_tables: [pgbench_history]}
subscriptions:
  bench1: {dbname: bench, pubname: bench-pub}
";

fn fixture(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name);
    file.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn the_makefile_carries_a_migration_and_the_crontab_watches_it() {
    let walk = Walk::new(12, 17, CONFIG);
    let makefile = fixture("Makefile");
    let make = |target: &str| {
        walk.invocation(
            "make",
            &[
                "-f",
                &makefile,
                target,
                "ALLOWED_REP_DURATION=0s",
                "YES=--yes",
            ],
        )
        .run()
    };
    for target in ["check", "prepare", "prepare", "subscribe", "watch"] {
        make(target).ok();
    }
    assert_eq!(cron(&walk), "");
    let writers = Writers::start(&walk);
    for (target, where_to) in [("cutover", [false, true]), ("fallback", [true, false])] {
        make(target).ok();
        assert_eq!(walk.may_write(), where_to, "after {target}");
        make("status")
            .ok()
            .prints(&format!("flare {}", next_after(target)));
    }
    make("pause").ok();
    assert_eq!(walk.may_write(), [false, false]);
    make("compare")
        .ok()
        .prints("pgbench_accounts: publisher 1000 subscriber 1000");
    // As replication does: nobody else passes the fence.
    walk.new.sql(
        crate::walk::DB,
        "SET session_replication_role = replica; DELETE FROM pgbench_accounts WHERE aid = 1",
    );
    assert!(!make("compare").status().success());
    make("sequences").ok();
    make("resume").ok();
    assert_eq!(walk.may_write(), [true, false]);
    make("cutover").ok();
    writers.stop();
    assert_eq!(cron(&walk), "");
    make("cleanup").ok().prints("drop subscription");
    make("drop").ok();
    let mailed = cron(&walk);
    assert!(mailed.starts_with("CRITICAL: bench1: "), "{mailed}");
    assert_eq!(walk.may_write(), [false, true]);
}

/// What `status` says to type next, among other things.
fn next_after(target: &str) -> &'static str {
    match target {
        "cutover" => "fallback bench1",
        _ => "cutover bench1",
    }
}

/// What cron would mail: the line's command in cron's own, nearly empty environment.
fn cron(walk: &Walk) -> String {
    let table = std::fs::read_to_string(fixture("crontab")).expect("read the crontab");
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("* * * * * "))
        .expect("a line for each minute");
    // PATH as the crontab sets it, and flare where it says.
    assert!(table.contains("\nPATH=/usr/local/bin:"));
    let path = format!("{}/bin:/usr/bin:/bin", walk.dir.display());
    let output = crate::support::flare::Invocation::of("/bin/sh", &["-c", line])
        .env("PATH", path)
        .env("HOME", &walk.dir)
        .env("LOGNAME", "nobody")
        .env("SHELL", "/bin/sh")
        .current_dir(&walk.dir)
        .run();
    output.stdout().to_owned() + output.stderr()
}
