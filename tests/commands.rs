//! Every command and a way to call it. What goes over all commands fails for one that is not here.

use crate::support::Pair;
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;

/// Which servers a command cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// No configuration is read.
    Nothing,
    /// It goes on when the other one cannot be reached.
    Publisher,
    Subscriber,
    Both,
    /// Each of them is enough.
    One,
}

/// A command, how it is called on a pair, and what it needs.
pub struct Called {
    pub name: String,
    pub args: Vec<String>,
    pub needs: Needs,
}

impl Called {
    pub fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }

    pub fn json(&self) -> Vec<&str> {
        let json = ["--format", "json"];
        json.into_iter().chain(self.args()).collect()
    }
}

/// The commands that `flare --help` lists.
pub fn listed() -> Vec<String> {
    let help = Invocation::new(&["--help"]).run();
    let list = help.ok().stdout().split("Commands:\n").nth(1);
    let list = list.and_then(|rest| rest.split("\n\n").next());
    let lines = list.expect("a list of commands").lines();
    let names = lines.filter_map(|line| line.strip_prefix("  "));
    names
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// All of them.
pub fn all(pair: &Pair) -> Vec<Called> {
    let names = listed();
    names.into_iter().map(|name| call(pair, name)).collect()
}

/// Those that work on a migration.
pub fn of_migrations(pair: &Pair) -> Vec<Called> {
    let mut commands = all(pair);
    commands.retain(|command| command.needs != Needs::Nothing);
    commands
}

fn call(pair: &Pair, name: String) -> Called {
    let (db, sub) = (pair.db(), pair.subname());
    let dsn =
        |server: &crate::support::Cluster, db| server.url(db, server.admin(), Passwords::ADMIN);
    let (publisher, subscriber) = (
        dsn(pair.publisher(), "postgres"),
        dsn(pair.subscriber(), "postgres"),
    );
    let attacked = dsn(pair.publisher(), "flare_test");
    let ledger = pair.dir().join("ledger").display().to_string();
    let ran = pair.dir().join("ran").display().to_string();
    let (needs, args) = match name.as_str() {
        "verify_connectivity" => (Needs::Both, vec![]),
        "status" => (Needs::One, vec![]),
        "replicate_roles" => (Needs::Both, vec![]),
        "replicate_schema"
        | "install_extensions"
        | "create_replication_status_table"
        | "preflight" => (Needs::Both, vec![db]),
        "grant_create" | "grant_replication" => (Needs::Publisher, vec!["--use-db-owner", db]),
        "create_publication" | "drop_publication" | "reset_replication_status" | "resume_write" => {
            (Needs::Publisher, vec![db])
        }
        "create_subscription" => (Needs::Both, vec!["--use-repl-user", "--wait", sub]),
        "drop_subscription" => (Needs::Both, vec![sub]),
        "replicate_sequences" | "initial_copy" | "verify_schema" | "verify_data" => {
            (Needs::Both, vec![sub])
        }
        "adopt" => (Needs::Both, vec!["begin", "--dry-run", sub]),
        "ddl" => (
            Needs::Both,
            vec![
                "--dry-run",
                db,
                "COMMENT ON TABLE pgbench_accounts IS 'accounts'",
            ],
        ),
        "prepare" => (Needs::Both, vec!["--yes", sub]),
        // What they do when they do it is told in tests of their own.
        "cutover" | "fallback" | "cleanup" => (Needs::Both, vec!["--dry-run", sub]),
        "pause_write" => (Needs::Both, vec!["--allowed-rep-duration", "0s", db, sub]),
        "count" => (Needs::Subscriber, vec![db, "pgbench_accounts"]),
        "vacuum_analyze" => (Needs::Subscriber, vec![db]),
        "monitor" => (Needs::One, vec!["--once", db, sub]),
        "lag" => (Needs::Both, vec![sub]),
        "exec" => (Needs::Both, vec!["--", "touch", &ran]),
        "init_config" => (
            Needs::Nothing,
            vec!["--publisher", &publisher, "--subscriber", &subscriber],
        ),
        "create_attack_db" => (
            Needs::Nothing,
            vec!["--base-dsn", &publisher, "--app-user", &pair.names().app],
        ),
        "attack" => (
            Needs::Nothing,
            vec!["--dsn", &attacked, "--duration", "1s", "--ledger", &ledger],
        ),
        "verify_attack" => (
            Needs::Nothing,
            vec!["--dsn", &attacked, "--ledger", &ledger],
        ),
        "completions" => (Needs::Nothing, vec!["bash"]),
        "man" => (Needs::Nothing, vec![]),
        _ => panic!("tests/commands.rs does not know how to call {name}"),
    };
    let words = [name.as_str()].into_iter().chain(args);
    Called {
        args: words.map(str::to_owned).collect(),
        needs,
        name,
    }
}
