//! Taking away what a test made on shared servers. Its end may have been any: nothing here fails
//! the test, and everything has a limit.

use std::time::Duration;

use super::{Cluster, sql, wait};

const PATIENCE: Duration = Duration::from_secs(10);

/// Drops all subscriptions, slots, databases and roles whose names begin with `id`. Private
/// servers go as a whole, frozen as they may be.
pub fn remove(id: &str, servers: [&Cluster; 2]) {
    let shared = || servers.into_iter().filter(|server| !server.is_private());
    // In this order: a subscription's worker holds its slot, and a slot holds its database.
    for server in shared() {
        for db in databases(server, id) {
            drop_subscriptions(server, &db);
        }
    }
    for server in shared() {
        for db in databases(server, id) {
            wait::until(PATIENCE, || drop_database(server, &db));
        }
        drop_roles(server, id);
    }
}

fn databases(server: &Cluster, id: &str) -> Vec<String> {
    names(
        server,
        "postgres",
        &format!("SELECT datname FROM pg_database WHERE strpos(datname, '{id}') = 1"),
    )
}

fn drop_subscriptions(server: &Cluster, db: &str) {
    let of_db = "SELECT subname FROM pg_subscription
                 WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for name in names(server, db, of_db) {
        for action in [
            "ALTER SUBSCRIPTION \"{}\" DISABLE",
            "ALTER SUBSCRIPTION \"{}\" SET (slot_name = NONE)",
            "DROP SUBSCRIPTION \"{}\"",
        ] {
            attempt(server, db, &action.replace("{}", &name));
        }
    }
}

/// Whether it is gone.
fn drop_database(server: &Cluster, db: &str) -> bool {
    let name = db.replace('\'', "''");
    attempt(
        server,
        "postgres",
        &format!(
            "UPDATE pg_database SET datallowconn = false WHERE datname = '{name}';
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';
             SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE database = '{name}' AND active;"
        ),
    );
    attempt(
        server,
        "postgres",
        &format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
             WHERE database = '{name}'"
        ),
    );
    attempt(server, "postgres", &format!("DROP DATABASE \"{db}\""))
}

fn drop_roles(server: &Cluster, id: &str) {
    let roles = format!("SELECT rolname FROM pg_roles WHERE strpos(rolname, '{id}') = 1");
    for role in names(server, "postgres", &roles) {
        attempt(server, "postgres", &format!("DROP OWNED BY \"{role}\""));
        attempt(server, "postgres", &format!("DROP ROLE \"{role}\""));
    }
}

fn names(server: &Cluster, db: &str, query: &str) -> Vec<String> {
    let rows = server.try_rows(db, query).unwrap_or_default();
    rows.into_iter()
        .filter_map(|mut row| row.pop().flatten())
        .collect()
}

fn attempt(server: &Cluster, db: &str, action: &str) -> bool {
    let Ok(mut client) = server.try_superuser_session(db) else {
        return false;
    };
    sql::rows(&mut client, "SET statement_timeout = '5s'")
        .and_then(|_| sql::rows(&mut client, action))
        .is_ok()
}
