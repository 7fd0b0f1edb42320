//! No command touches a server that is not the declared one: both servers are compared before and after.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::flare::Invocation;
use crate::support::{Cluster, Pair, clients};

/// Commands that take a connection string, or none, and touch nothing of a migration.
const WITHOUT_CONFIGURATION: [&str; 7] = [
    "attack",
    "completions",
    "create_attack_db",
    "help",
    "init_config",
    "man",
    "verify_attack",
];

/// How every other command is called; a command that is not here fails the test.
fn calls<'a>(db: &'a str, sub: &'a str) -> BTreeMap<&'static str, Vec<&'a str>> {
    BTreeMap::from([
        ("count", vec![db, "pgbench_accounts", "--both"]),
        ("create_publication", vec![db]),
        ("create_replication_status_table", vec![db]),
        ("create_subscription", vec![sub, "--use-repl-user"]),
        ("drop_publication", vec![db, "--force"]),
        ("drop_subscription", vec![sub, "--force"]),
        ("exec", vec!["--", "touch", "touched"]),
        ("grant_create", vec![db]),
        ("grant_replication", vec![db]),
        ("install_extensions", vec![db]),
        ("lag", vec![sub]),
        ("monitor", vec![db, sub, "--once"]),
        ("pause_write", vec![db, "--allowed-rep-duration", "0s"]),
        ("prepare", vec![sub, "--yes"]),
        ("replicate_roles", vec![]),
        ("replicate_schema", vec![db]),
        ("replicate_sequences", vec![sub]),
        ("reset_replication_status", vec![db]),
        ("resume_write", vec![db]),
        ("status", vec![]),
        ("vacuum_analyze", vec![db]),
        ("verify_connectivity", vec![]),
    ])
}

/// The commands as `flare --help` lists them.
fn commands() -> Vec<String> {
    let help = Invocation::new(&["--help"]).run();
    let text = help.ok().stdout().to_owned();
    let list = text.split("Commands:").nth(1).expect("a list of commands");
    let list = list.split("Options:").next().expect("its end");
    let names = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// All that a command could have changed on a server.
fn everything(server: &Cluster, db: &str) -> Vec<String> {
    let of_server = [
        "SELECT a.*, r.rolconfig FROM pg_authid a JOIN pg_roles r USING (rolname) ORDER BY rolname",
        "SELECT datname, datacl, datdba, datconnlimit FROM pg_database ORDER BY 1",
        "SELECT * FROM pg_db_role_setting ORDER BY 1, 2",
        "SELECT slot_name, database FROM pg_replication_slots WHERE NOT temporary ORDER BY 1",
        "SELECT subname, subenabled, subslotname FROM pg_subscription ORDER BY 1",
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
    ];
    let of_database = [
        "SELECT pubname, puballtables FROM pg_publication ORDER BY 1",
        "SELECT relname, relkind, relacl, relreplident FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT extname FROM pg_extension ORDER BY 1",
        "SELECT * FROM pg_default_acl ORDER BY 1",
        "SELECT last_value FROM pg_sequences",
    ];
    let ask = |db: &str, query: &&str| format!("{query}: {:?}", server.rows(db, query));
    let mut found: Vec<String> = of_server
        .iter()
        .map(|query| ask("postgres", query))
        .collect();
    found.extend(of_database.iter().map(|query| ask(db, query)));
    found
}

/// A directory whose client programs note that they were called, and then are the real ones.
fn noting_programs(pair: &Pair) -> (PathBuf, PathBuf) {
    let (bin, notes) = (pair.dir().join("bin"), pair.dir().join("called"));
    std::fs::create_dir(&bin).expect("a directory");
    let real = clients::bin(18).expect("client programs");
    for program in ["pg_dump", "pg_dumpall", "psql"] {
        let path = bin.join(program);
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] || echo {program} >> '{}'\nexec '{}/{program}' \"$@\"\n",
            notes.display(),
            real.display()
        );
        std::fs::write(&path, script).expect("write a program");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("make it run");
    }
    (bin, notes)
}

#[test]
fn no_command_touches_a_server_that_is_not_the_declared_one() {
    let pair = Pair::alone(13, 17).with_accounts(10).replicating();
    let (db, sub) = (pair.db(), pair.subname());
    let (bin, notes) = noting_programs(&pair);
    let right = std::fs::read_to_string(pair.config_path()).expect("flare.yml");
    let identifiers = [pair.publisher(), pair.subscriber()].map(Cluster::system_identifier);
    let ports = [pair.publisher(), pair.subscriber()].map(Cluster::port);

    let wrong = |side: &str| {
        pair.write_config(&right);
        pair.configure(|c| c["hosts"][side]["conn"]["system_identifier"] = "4242".into());
    };
    let swapped = || {
        pair.write_config(&right);
        pair.configure(|c| {
            c["hosts"]["publisher"]["conn"]["port"] = ports[1].into();
            c["hosts"]["subscriber"]["conn"]["port"] = ports[0].into();
        });
    };
    let one_server = || {
        pair.write_config(&right);
        pair.configure(|c| {
            c["hosts"]["subscriber"]["conn"]["port"] = ports[0].into();
        });
    };
    let equal = || {
        pair.write_config(&right);
        pair.configure(|c| {
            c["hosts"]["subscriber"]["conn"]["system_identifier"] = identifiers[0].as_str().into();
        });
    };
    let cases: [(&str, &dyn Fn(), &[&str]); 5] = [
        (
            "a wrong publisher",
            &|| wrong("publisher"),
            &["4242", &identifiers[0], "publisher 127.0.0.1:"],
        ),
        (
            "a wrong subscriber",
            &|| wrong("subscriber"),
            &["4242", &identifiers[1], "subscriber 127.0.0.1:"],
        ),
        (
            "swapped servers",
            &swapped,
            &[&identifiers[0], &identifiers[1]],
        ),
        (
            "one server for both",
            &one_server,
            &[&identifiers[0], &identifiers[1]],
        ),
        ("equal identifiers", &equal, &["the same system_identifier"]),
    ];
    let before = [pair.publisher(), pair.subscriber()].map(|server| everything(server, db));
    let calls = calls(db, sub);
    let mut tried = 0;
    for command in commands() {
        if WITHOUT_CONFIGURATION.contains(&command.as_str()) {
            continue;
        }
        let args = calls
            .get(command.as_str())
            .unwrap_or_else(|| panic!("how is {command} called?"));
        for (case, set_up, words) in &cases {
            set_up();
            let all: Vec<&str> = [command.as_str()]
                .into_iter()
                .chain(args.iter().copied())
                .collect();
            let run = pair.invocation(&all).env("PATH", bin.as_os_str()).run();
            let code = run.status().code();
            assert!(matches!(code, Some(1..=3)), "{case}: {run}");
            for word in *words {
                run.says(word);
            }
            tried += 1;
        }
    }
    assert!(tried > 90, "only {tried} runs");
    for (server, before) in [pair.publisher(), pair.subscriber()]
        .into_iter()
        .zip(before)
    {
        assert_eq!(everything(server, db), before);
    }
    assert!(
        !pair.dir().join("touched").exists(),
        "exec has run its command"
    );
    assert!(
        !notes.exists(),
        "{:?} was run",
        std::fs::read_to_string(&notes)
    );
    // And with the right configuration the same programs are called.
    pair.write_config(&right);
    pair.invocation(&["replicate_schema", db, "--only-dump"])
        .env("PATH", bin.as_os_str())
        .run()
        .ok();
    assert!(notes.exists());
}
