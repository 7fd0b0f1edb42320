//! No command does anything on a server that is not the declared one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_yaml::Value;

use crate::commands::{self, Called};
use crate::support::output::Output;
use crate::support::{Cluster, Pair, clients, matrix};

const STRANGER: &str = "1234567890123456789";

/// What a server holds beside rows, and the rows that flare writes.
const GLOBAL: &str = "
    SELECT 'database', to_jsonb(d) - 'datfrozenxid' - 'datminmxid' FROM pg_database d
    UNION ALL SELECT 'role', to_jsonb(r) FROM pg_authid r
    UNION ALL SELECT 'member', to_jsonb(m) FROM pg_auth_members m
    UNION ALL SELECT 'setting of role', to_jsonb(s) FROM pg_db_role_setting s
    UNION ALL SELECT 'slot', jsonb_build_array(slot_name, plugin, database, temporary) FROM pg_replication_slots
    UNION ALL SELECT 'setting', jsonb_build_array(name, setting) FROM pg_settings WHERE source = 'configuration file'
    ORDER BY 1, 2";
const LOCAL: &str = "
    SELECT 'relation', jsonb_build_array(n.nspname, c.relname, c.relkind, c.relacl::text, c.relreplident, c.relowner, c.reltuples)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL SELECT 'schema', to_jsonb(n) FROM pg_namespace n
    UNION ALL SELECT 'function', jsonb_build_array(proname, proacl::text) FROM pg_proc
    UNION ALL SELECT 'default privileges', to_jsonb(a) FROM pg_default_acl a
    UNION ALL SELECT 'extension', to_jsonb(e) FROM pg_extension e
    UNION ALL SELECT 'publication', to_jsonb(p) FROM pg_publication p
    UNION ALL SELECT 'published', to_jsonb(p) FROM pg_publication_rel p
    UNION ALL SELECT 'subscription', to_jsonb(s) FROM pg_subscription s
    UNION ALL SELECT 'subscribed', to_jsonb(s) - 'srsublsn' FROM pg_subscription_rel s
    ORDER BY 1, 2";

pub fn snapshot(server: &Cluster) -> String {
    let mut text = format!("{:#?}", server.rows("postgres", GLOBAL));
    let databases = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname";
    for row in server.rows("postgres", databases) {
        let db = row[0].as_deref().expect("a name");
        text += &format!("{db} {:#?}", server.rows(db, LOCAL));
    }
    text
}

/// What is not the same, without the rest.
fn assert_same(before: &str, after: &str, what: &str) {
    let lines = |text: &str, other: &str| {
        let only = text.lines().filter(|line| !other.contains(*line));
        only.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(
        before == after,
        "{what} changed the server: {:#?} -> {:#?}",
        lines(before, after),
        lines(after, before)
    );
}

/// A `PATH` whose client programs say that they were called.
struct Tools {
    bin: PathBuf,
    calls: PathBuf,
}

impl Tools {
    fn new(pair: &Pair) -> Tools {
        let (bin, calls) = (pair.dir().join("bin"), pair.dir().join("calls"));
        fs::create_dir(&bin).expect("make a directory");
        let real = clients::bin(18).expect("client programs");
        for name in ["pg_dump", "pg_dumpall", "psql", "touch"] {
            let real = match name {
                "touch" => "/bin/touch".into(),
                _ => real.join(name),
            };
            let script = format!(
                "#!/bin/sh\necho {name} \"$@\" >> '{}'\nexec '{}' \"$@\"\n",
                calls.display(),
                real.display()
            );
            fs::write(bin.join(name), script).expect("write a script");
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))
                .expect("make it a program");
        }
        Tools { bin, calls }
    }

    fn run(&self, pair: &Pair, command: &Called) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.bin.display());
        pair.invocation(&command.json()).env("PATH", path).run()
    }

    fn called(&self) -> String {
        fs::read_to_string(&self.calls).unwrap_or_default()
    }
}

fn conn<'a>(config: &'a mut Value, side: &str) -> &'a mut Value {
    &mut config["hosts"][side]["conn"]
}

#[test]
fn no_command_touches_a_server_that_is_not_the_declared_one() {
    let quiet = [("autovacuum", "off")];
    let (publisher, subscriber) = (Cluster::private(13, &quiet), Cluster::private(17, &quiet));
    let fresh = Pair::between(Arc::clone(&publisher), Arc::clone(&subscriber)).with_accounts(10);
    let replicating = Pair::between(Arc::clone(&publisher), Arc::clone(&subscriber))
        .with_accounts(10)
        .replicating();
    let before = [snapshot(&publisher), snapshot(&subscriber)];
    let [old, new] = [&publisher, &subscriber].map(|server| server.system_identifier());
    let [old_port, new_port] = [&publisher, &subscriber].map(|server| server.port().to_string());

    type Change = Box<dyn Fn(&mut Value)>;
    let set = |side: &'static str, key: &'static str, value: &str| -> Change {
        let value = value.to_owned();
        Box::new(move |config| conn(config, side)[key] = value.clone().into())
    };
    // What is declared wrongly, and what every command has to say about it.
    let cases: Vec<(&str, Vec<Change>, Vec<String>)> = vec![
        (
            "the publisher's identifier is another",
            vec![set("publisher", "system_identifier", STRANGER)],
            vec![
                STRANGER.into(),
                old.clone(),
                format!("127.0.0.1:{old_port}"),
            ],
        ),
        (
            "the subscriber's identifier is another",
            vec![set("subscriber", "system_identifier", STRANGER)],
            vec![
                STRANGER.into(),
                new.clone(),
                format!("127.0.0.1:{new_port}"),
            ],
        ),
        (
            "the servers are swapped",
            vec![
                set("publisher", "port", &new_port),
                set("subscriber", "port", &old_port),
            ],
            vec![old.clone(), new.clone(), "127.0.0.1:".into()],
        ),
        (
            "both lead to the publisher",
            vec![set("subscriber", "port", &old_port)],
            vec![old.clone(), new.clone(), format!("127.0.0.1:{old_port}")],
        ),
        (
            "both lead to the subscriber",
            vec![set("publisher", "port", &new_port)],
            vec![old.clone(), new.clone(), format!("127.0.0.1:{new_port}")],
        ),
        (
            "both are one server",
            vec![
                set("subscriber", "port", &old_port),
                set("subscriber", "system_identifier", &old),
            ],
            vec!["publisher and subscriber have the same system_identifier".into()],
        ),
        (
            "the other one is at the second address of a name",
            vec![
                set("subscriber", "host", "localhost"),
                set("subscriber", "port", &old_port),
            ],
            vec![old.clone(), new.clone(), format!("localhost:{old_port}")],
        ),
    ];
    let pairs = [&replicating, &fresh];
    for &pair in matrix::sample(&pairs, &pairs[..1]) {
        let right = fs::read_to_string(pair.config_path()).expect("read flare.yml");
        let tools = Tools::new(pair);
        for (case, changes, says) in &cases {
            pair.configure(|config| changes.iter().for_each(|change| change(config)));
            for command in commands::of_migrations(pair) {
                let run = tools.run(pair, &command);
                let what = format!("{case}: {run}");
                let code = run.status().code().expect("an exit code");
                assert!(code != 0, "{what}");
                let answer = run.json();
                assert_eq!(answer["ok"], false, "{what}");
                assert_eq!(answer["changed"], false, "{what}");
                let told = answer.to_string() + run.stderr();
                for words in says {
                    assert!(told.contains(words), "{words} is missing; {what}");
                }
                assert_eq!(tools.called(), "", "{what}");
            }
            for (server, before) in [&publisher, &subscriber].into_iter().zip(&before) {
                assert_same(before, &snapshot(server), case);
            }
            pair.write_config(&right);
        }
        // With the right configuration the same programs are called.
        let path = format!("{}:/usr/bin:/bin", tools.bin.display());
        let dump = ["replicate_schema", "--only-dump", pair.db()];
        pair.invocation(&dump).env("PATH", path).run().ok();
        assert!(tools.called().contains("pg_dump"), "{}", tools.called());
    }
}
