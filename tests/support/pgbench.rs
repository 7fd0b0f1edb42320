//! The tables of pgbench, made by SQL: what a pair migrates unless its test says otherwise.

use super::pair::Names;
use super::{Cluster, Pair};

impl Pair {
    /// Fills the database as `pgbench -i -s SCALE` does: 100,000 accounts each.
    pub fn with_pgbench(self, scale: u32) -> Self {
        self.create_pgbench_on(self.publisher());
        self.fill_pgbench(scale, 100_000);
        self
    }

    /// The tables of pgbench with as many accounts as said, for tests that need few.
    pub fn with_accounts(self, accounts: u32) -> Self {
        self.create_pgbench_on(self.publisher());
        self.fill_pgbench(1, accounts);
        self
    }

    /// The tables of pgbench, empty, owned by the database's owner and open to the application.
    pub fn create_pgbench_on(&self, server: &Cluster) {
        let Names { app, owner, .. } = self.names();
        server.sql(
            self.db(),
            &format!(
                "SET ROLE {owner};
                 CREATE TABLE pgbench_branches (
                     bid int PRIMARY KEY, bbalance int, filler char(88));
                 CREATE TABLE pgbench_tellers (
                     tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
                 CREATE TABLE pgbench_accounts (
                     aid int PRIMARY KEY, bid int, abalance int, filler char(84));
                 CREATE TABLE pgbench_history (
                     tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app};"
            ),
        );
    }

    fn fill_pgbench(&self, scale: u32, accounts: u32) {
        self.publisher().sql(
            self.db(),
            &format!(
                "INSERT INTO pgbench_branches (bid, bbalance)
                     SELECT bid, 0 FROM generate_series(1, {scale}) bid;
                 INSERT INTO pgbench_tellers (tid, bid, tbalance)
                     SELECT tid, (tid - 1) / 10 + 1, 0 FROM generate_series(1, 10 * {scale}) tid;
                 INSERT INTO pgbench_accounts (aid, bid, abalance, filler)
                     SELECT aid, (aid - 1) / {accounts} + 1, 0, ''
                     FROM generate_series(1, {accounts} * {scale}) aid;"
            ),
        );
        self.publisher().sql(self.db(), "ANALYZE");
    }
}
