//! Two servers and one database to move between them, with names that no other test has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::cluster::{self, Role};
use super::flare::{Invocation, Running};
use super::output::Output;
use super::{Cluster, clients, config, leftovers, run, wait};

/// Passwords that quoting has to get right, and that no output may hold.
pub struct Passwords;

impl Passwords {
    pub const ADMIN: &str = cluster::PASSWORD;
    pub const APP: &str = "app's \"secret\" \\ %41@:/#";
    pub const OWNER: &str = "owner's \"secret\" \\ %41@:/#";
    pub const REPL: &str = "repl's \"secret\" \\ %41@:/#";
    pub const POOLER: &str = "pooler's \"secret\" \\ %41@:/#";

    fn all() -> [String; 5] {
        let all = [
            Self::ADMIN,
            Self::APP,
            Self::OWNER,
            Self::REPL,
            Self::POOLER,
        ];
        all.map(str::to_owned)
    }
}

/// What things are called in one test. Everything global begins with `id`.
#[derive(Clone)]
pub struct Names {
    pub id: String,
    pub db: String,
    pub app: String,
    pub owner: String,
    pub repl: String,
    pub pubname: String,
    pub subname: String,
}

impl Names {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("t{number}_");
        // The test harness names each thread after its test.
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("test");
        let test = test.rsplit("::").next().unwrap_or(test);
        let test: String = test
            .chars()
            .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .take(30)
            .collect();
        Self {
            db: format!("{id}{test}"),
            app: format!("{id}app"),
            owner: format!("{id}dbowner"),
            repl: format!("{id}repl"),
            pubname: format!("{id}bench-pub"),
            subname: format!("{id}bench1"),
            id,
        }
    }
}

/// A publisher with the roles and the database of one test, an empty subscriber, and `flare.yml`.
///
/// Roles belong to the whole server: a test of `replicate_roles` sees, and copies, those of the
/// tests beside it, and wants `Pair::alone`.
pub struct Pair {
    publisher: Arc<Cluster>,
    subscriber: Arc<Cluster>,
    names: Names,
    dir: PathBuf,
    clients: u32,
}

impl Pair {
    /// On the servers that all tests share.
    pub fn new(old: u32, new: u32) -> Self {
        Self::between(Cluster::publisher(old), Cluster::subscriber(new))
    }

    /// On servers that no other test sees, and that this one may stop or freeze.
    pub fn alone(old: u32, new: u32) -> Self {
        Self::between(Cluster::private(old, &[]), Cluster::private(new, &[]))
    }

    /// On shared servers whose administrator is no superuser.
    pub fn rds(old: u32, new: u32) -> Self {
        Self::between(
            Cluster::rds(Role::Publisher, old),
            Cluster::rds(Role::Subscriber, new),
        )
    }

    /// On servers of the test's choice.
    pub fn between(publisher: Arc<Cluster>, subscriber: Arc<Cluster>) -> Self {
        let names = Names::new();
        let dir = run::subdir("pair");
        fs::create_dir(dir.join("tmp")).expect("make a temporary directory");
        let pair = Self {
            publisher,
            subscriber,
            names,
            dir,
            clients: 18,
        };
        pair.create_roles_on(&pair.publisher);
        pair.create_database_on(&pair.publisher);
        pair.write_config(&config::text(
            &pair.publisher,
            &pair.subscriber,
            &pair.names,
        ));
        pair
    }

    /// Has flare find client programs of another version than 18 first.
    pub fn clients(mut self, version: u32) -> Self {
        self.clients = version;
        self
    }

    /// The subscriber as flare leaves it once the subscription streams, made by plain SQL: roles,
    /// database, pgbench's tables, publication, slot and subscription, every table copied. That
    /// takes ten seconds where the subscriber is a 10: its workers look at each other that rarely.
    pub fn replicating(self) -> Self {
        self.replicating_with(|_, _| {})
    }

    /// The same with more tables, which `create` makes on each server before the subscription looks at them.
    pub fn replicating_with(self, create: impl Fn(&Pair, &Cluster)) -> Self {
        self.create_tables_on(&self.subscriber);
        create(&self, &self.publisher);
        create(&self, &self.subscriber);
        let Names {
            db,
            repl,
            pubname,
            subname,
            ..
        } = &self.names;
        for server in [&self.publisher, &self.subscriber] {
            server.sql(db, "ALTER TABLE pgbench_history REPLICA IDENTITY FULL");
        }
        self.publisher.sql(
            db,
            &format!(
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {repl};
                 CREATE PUBLICATION \"{pubname}\" FOR ALL TABLES;"
            ),
        );
        let mut conninfo = self.publisher.conninfo(db, repl, Passwords::REPL);
        // Before 12 floats are sent rounded, and a subscriber asks for all digits by itself from 15 on.
        if self.publisher.version() < 12 && self.subscriber.version() < 15 {
            conninfo.push_str(" options='-c extra_float_digits=3'");
        }
        self.subscriber.sql(
            db,
            &format!(
                "CREATE SUBSCRIPTION {subname} CONNECTION {} PUBLICATION \"{pubname}\"",
                literal(&conninfo)
            ),
        );
        self.await_tables_ready();
        self
    }

    /// The publisher's tables published, by flare, and there on the subscriber, empty.
    #[track_caller]
    pub fn published(self) -> Self {
        self.create_tables_on(&self.subscriber);
        self.flare(&["grant_replication", "--use-db-owner", self.db()])
            .ok();
        self.flare(&["create_publication", self.db()]).ok();
        self
    }

    pub fn publisher(&self) -> &Cluster {
        &self.publisher
    }

    pub fn subscriber(&self) -> &Cluster {
        &self.subscriber
    }

    /// For another pair on the same servers.
    pub fn shared_publisher(&self) -> Arc<Cluster> {
        Arc::clone(&self.publisher)
    }

    /// For another pair on the same servers.
    pub fn shared_subscriber(&self) -> Arc<Cluster> {
        Arc::clone(&self.subscriber)
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn db(&self) -> &str {
        &self.names.db
    }

    pub fn subname(&self) -> &str {
        &self.names.subname
    }

    /// A directory for the test's own files. It goes with the pair.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where flare puts its temporary files.
    pub fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.join("flare.yml")
    }

    /// Puts another configuration in place, readable by its owner alone.
    pub fn write_config(&self, text: &str) {
        let path = self.config_path();
        fs::write(&path, text).expect("write flare.yml");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("close flare.yml");
    }

    /// Changes the configuration as data: `|c| c["lag"] = ...`.
    pub fn configure(&self, change: impl FnOnce(&mut serde_yaml::Value)) {
        let text = fs::read_to_string(self.config_path()).expect("read flare.yml");
        let mut config = serde_yaml::from_str(&text).expect("parse flare.yml");
        change(&mut config);
        self.write_config(&serde_yaml::to_string(&config).expect("write YAML"));
    }

    /// The configuration is about what another pair has moved here.
    pub fn moves(&self, names: &Names) {
        self.write_config(&config::text(&self.publisher, &self.subscriber, names));
    }

    /// A run of flare with this pair's configuration and an otherwise empty environment.
    pub fn invocation(&self, args: &[&str]) -> Invocation {
        let config = self.config_path();
        let config = config.to_str().expect("a path in UTF-8");
        let all: Vec<&str> = ["--config", config]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        Invocation::new(&all)
            .env("PATH", clients::path(self.clients))
            .env("HOME", &self.dir)
            .env("TMPDIR", self.temp_dir())
            .current_dir(&self.dir)
            .secrets(Passwords::all())
    }

    /// Runs flare to its end.
    #[track_caller]
    pub fn flare(&self, args: &[&str]) -> Output {
        self.invocation(args).run()
    }

    /// Runs flare with more in its environment.
    #[track_caller]
    pub fn flare_env(&self, env: &[(&str, &str)], args: &[&str]) -> Output {
        env.iter()
            .fold(self.invocation(args), |run, (name, value)| {
                run.env(name, *value)
            })
            .run()
    }

    /// Starts flare and goes on.
    #[track_caller]
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.invocation(args).spawn()
    }

    /// The application's, the owner's and the replication role, where they are missing.
    pub fn create_roles_on(&self, server: &Cluster) {
        let Names {
            app, owner, repl, ..
        } = &self.names;
        let mut sql = String::new();
        if server.flavour() == cluster::Flavour::Rds {
            // Its administrator made them, and so may grant them from 16 on.
            sql += &format!("SET SESSION AUTHORIZATION {};\n", server.admin());
        }
        for (role, attributes, password) in [
            (app, "", Passwords::APP),
            (owner, "CREATEDB", Passwords::OWNER),
            (repl, "", Passwords::REPL),
        ] {
            let password = literal(password);
            sql += &format!("CREATE ROLE {role} LOGIN {attributes} PASSWORD {password};\n");
        }
        sql += &format!("RESET SESSION AUTHORIZATION; ALTER ROLE {repl} REPLICATION;\n");
        if server.flavour() == cluster::Flavour::Rds {
            sql += &format!("GRANT rds_replication TO {repl};\n");
        }
        server.sql("postgres", &sql);
    }

    /// The database, empty, with its owner.
    pub fn create_database_on(&self, server: &Cluster) {
        let Names { db, owner, .. } = &self.names;
        server.sql("postgres", &format!("CREATE DATABASE {db} OWNER {owner}"));
    }

    /// The roles, the database, and pgbench's tables, empty.
    pub fn create_tables_on(&self, server: &Cluster) {
        self.create_roles_on(server);
        self.create_database_on(server);
        self.create_pgbench_on(server);
    }

    /// Waits until every table of the subscription has its initial copy and streams.
    #[track_caller]
    pub fn await_tables_ready(&self) {
        let unready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
        wait::for_("every table to be ready", Duration::from_secs(300), || {
            self.subscriber.value(self.db(), unready) == "0"
        });
    }

    /// Waits until the subscriber has confirmed everything the publisher has written so far.
    #[track_caller]
    pub fn await_caught_up(&self) {
        let target = self
            .publisher
            .value(self.db(), "SELECT pg_current_wal_lsn()");
        let confirmed = format!(
            "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{target}'), false)
             FROM pg_replication_slots WHERE slot_name = '{}'",
            self.subname()
        );
        wait::for_(
            "the subscriber to catch up",
            Duration::from_secs(60),
            || self.publisher.value(self.db(), &confirmed) == "t",
        );
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        leftovers::remove(&self.names.id, [&self.publisher, &self.subscriber]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
