//! A database that replicates, its application, and one switch of it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::application::{self, Clients, Side};
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

/// Short beside a pause, whose ends are seen by writes alone.
const THINKS: Duration = Duration::from_millis(5);

pub struct Stage {
    pub pair: Pair,
}

/// One switch, as it was seen.
pub struct Switched {
    /// From the last write acknowledged by one server to the first by the other.
    pub gap: Duration,
    /// All of it: preparation, pause, and what follows.
    pub took: Duration,
    pub steps: Vec<(String, f64)>,
    pub acknowledged: usize,
}

impl Stage {
    pub fn new(publisher: &Arc<Cluster>, subscriber: &Arc<Cluster>, tables: usize) -> Self {
        let pair = Pair::between(Arc::clone(publisher), Arc::clone(subscriber))
            .with_accounts(1000)
            .replicating_with(application::create_tables);
        let (db, repl) = (pair.db(), pair.names().repl.clone());
        let mut more = format!("SET ROLE {};", pair.names().owner);
        for number in 1..=tables {
            write!(
                more,
                "CREATE TABLE more_{number} (id bigserial PRIMARY KEY);"
            )
            .expect("write to a string");
        }
        for server in [pair.publisher(), pair.subscriber()] {
            server.sql(db, &more);
        }
        if tables > 0 {
            // Half of them have counted.
            pair.publisher().sql(
                db,
                "SELECT setval(oid::regclass, 42) FROM pg_class
                  WHERE relkind = 'S' AND relname LIKE 'more%' AND oid::int8 % 2 = 0",
            );
            // They are empty: there is nothing to copy.
            let refresh = format!(
                "ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)",
                pair.subname()
            );
            pair.subscriber().sql(db, &refresh);
        }
        pair.configure(|config| {
            let subscriber = &mut config["hosts"]["subscriber"]["conn"];
            subscriber["repl_user"] = repl.into();
            subscriber["repl_user_password"] = Passwords::REPL.into();
        });
        pair.flare(&["create_replication_status_table", db]).ok();
        pair.await_tables_ready();
        pair.subscriber().sql(db, "ANALYZE");
        Self { pair }
    }

    /// flare's way to both servers is the straight one again.
    pub fn direct(&self) {
        let ports = [
            ("publisher", self.pair.publisher().port()),
            ("subscriber", self.pair.subscriber().port()),
        ];
        self.pair.configure(|config| {
            for (side, port) in ports {
                config["hosts"][side]["conn"]["port"] = port.into();
            }
        });
    }

    pub fn count_of_tables(&self) -> String {
        let count = "SELECT count(*) FROM pg_publication_tables";
        self.pair.publisher().value(self.pair.db(), count)
    }

    /// Has the application write on one side and goes on when it writes on the other, with everything it wrote.
    pub fn switch(&self, to: Side, switch: impl FnOnce() -> Vec<(String, f64)>) -> Switched {
        let clients = Clients {
            thinks: THINKS,
            ..Clients::of(&self.pair)
        };
        let application = clients.start(&self.pair);
        application.await_writes_on(to.other(), 500);
        let since = Instant::now();
        let steps = switch();
        let took = since.elapsed();
        application.await_writes_on(to, 500);
        let written = application.stop();
        written
            .verify(to.of(&self.pair))
            .assert_sides(&[to.other(), to])
            .assert_never_refused();
        Switched {
            gap: written.switches()[0].gap,
            took,
            steps,
            acknowledged: written.acknowledged(),
        }
    }

    /// The program, and the times of its steps.
    pub fn by_flare(&self, to: Side) -> Vec<(String, f64)> {
        let command = match to {
            Side::Subscriber => "cutover",
            Side::Publisher => "fallback",
        };
        let subname = self.pair.subname();
        let run = self
            .pair
            .flare(&[command, subname, "--yes", "--format", "json"]);
        let report = run.ok().json();
        assert_eq!(report["outcome"], "switched", "{run}");
        let steps = report["steps"].as_array().expect("steps").iter();
        steps
            .map(|step| {
                let name = step["step"].as_str().expect("a step's name");
                (name.to_owned(), step["ms"].as_f64().expect("its time"))
            })
            .collect()
    }
}
