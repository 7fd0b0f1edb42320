//! The load generator beside pgbench with the same statements.

use std::fs;

use crate::client;
use crate::rounds::{Goal, compare};
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Cluster, run};

const CLIENTS: &str = "4";
const SECONDS: &str = "4";

/// Two keys of 36 characters, as long as flare's.
const SCRIPT: &str = "\
\\set a random(1000000000000000000, 9000000000000000000)
\\set b random(10000000000000000, 90000000000000000)
\\set c random(1000000000000000000, 9000000000000000000)
\\set d random(10000000000000000, 90000000000000000)
INSERT INTO public.items VALUES (':a:b', ':c:d')
";

pub fn measure(old: u32, _: u32) {
    let server = Cluster::private(old, &[]);
    let admin = |db: &str| server.url(db, server.admin(), Passwords::ADMIN);
    server.sql("postgres", "CREATE ROLE app LOGIN");
    Invocation::new(&["create_attack_db", "--base-dsn", &admin("postgres")])
        .run()
        .ok();
    let script = run::dir().join("insert.sql");
    fs::write(&script, SCRIPT).expect("write the script");
    let script = script.to_str().expect("UTF-8");
    let dsn = admin("flare_test");
    let empty = || server.sql("flare_test", "TRUNCATE items; CHECKPOINT");

    let compared = compare(
        5,
        || {
            empty();
            let duration = format!("{SECONDS}s");
            let args = [
                &["attack", "--format", "json", "--dsn", &dsn][..],
                &["--clients", CLIENTS, "--duration", &duration],
            ];
            let json = Invocation::new(&args.concat()).run().ok().json();
            let number = |name: &str| json[name].as_f64().expect("a number");
            number("acknowledged") / number("seconds")
        },
        || {
            empty();
            let args = [
                &["-n", "-f", script, "-T", SECONDS][..],
                &["-c", CLIENTS, "-j", CLIENTS, &dsn],
            ];
            let output = Invocation::of(client("pgbench"), &args.concat()).run();
            let said = output.ok().stdout();
            let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
            let rate = rate.and_then(|rest| rest.split_whitespace().next());
            rate.and_then(|rate| rate.parse().ok())
                .unwrap_or_else(|| panic!("no rate in {said}"))
        },
    );
    let what = format!("flare attack, {CLIENTS} clients, beside pgbench with its statement");
    compared.report(&what, "/s", Goal::AtLeast(0.8));
}
