//! A server whose administrator is no superuser, as Amazon RDS has it.

use super::{Cluster, PASSWORD};

/// Who owns the server; nobody logs in with it but the provider, and these tests.
pub const SUPERUSER: &str = "rdsadmin";
/// Who the customer gets.
pub const MASTER: &str = "master";

pub fn create_roles(cluster: &Cluster) {
    let password = PASSWORD.replace('\'', "''");
    cluster.sql(
        "postgres",
        &format!(
            "CREATE ROLE rds_superuser NOLOGIN;
             CREATE ROLE rds_replication NOLOGIN;
             CREATE ROLE rds_password NOLOGIN;
             CREATE ROLE {MASTER} LOGIN CREATEDB CREATEROLE PASSWORD '{password}';
             GRANT rds_superuser TO {MASTER};
             GRANT pg_monitor, pg_signal_backend TO rds_superuser;"
        ),
    );
    for (since, role) in [(15, "pg_checkpoint"), (16, "pg_create_subscription")] {
        if cluster.version() >= since {
            cluster.sql("postgres", &format!("GRANT {role} TO rds_superuser"));
        }
    }
}
