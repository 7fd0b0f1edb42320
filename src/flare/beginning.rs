//! A first configuration for two servers.

use std::fmt;

use postgres::config::Host;
use postgres::{Client, Config};
use serde::Serialize;

use crate::config::{Content, Reached, template};
use crate::error::{Advise, Error, Failure, Result, WrapErr};
use crate::server::{Side, SqlError, application_name, connect_unverified};
use crate::value::HostPort;

/// A configuration to start from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FirstConfig {
    /// The publisher's `system_identifier`, as text.
    pub publisher_system_identifier: String,
    /// The subscriber's.
    pub subscriber_system_identifier: String,
    /// The databases of the publisher.
    pub dbnames: Vec<String>,
    /// The file's text, in YAML.
    pub config: String,
}

impl fmt::Display for FirstConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.config)
    }
}

const DATABASES: &str = "
    SELECT d.datname, r.rolname
      FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
     WHERE d.datallowconn AND NOT d.datistemplate AND d.datname NOT IN ('postgres', 'rdsadmin')
     ORDER BY d.datname";

const REPLICATION_ROLES: &str = "
    SELECT rolname FROM pg_roles
     WHERE rolcanlogin AND NOT rolsuper AND rolname <> current_user AND rolname NOT LIKE 'rds%'
       AND (rolreplication OR EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                                       WHERE m.member = pg_roles.oid AND g.rolname = 'rds_replication'))
     ORDER BY rolname";

/// Asks both servers who they are, and writes a configuration that names them. Passwords are used and not written.
///
/// # Errors
/// When a server cannot be reached, or both are one.
pub fn init_config(publisher: &str, subscriber: &str) -> Result<FirstConfig, Error> {
    let (mut client, publisher) = reach(Side::Publisher, publisher)?;
    let (_, subscriber) = reach(Side::Subscriber, subscriber)?;
    if publisher.system_identifier == subscriber.system_identifier {
        return Failure::new(format!(
            "tell the servers apart: publisher {} and subscriber {} have the same system_identifier, {}",
            HostPort(&publisher.host, publisher.port),
            HostPort(&subscriber.host, subscriber.port),
            publisher.system_identifier
        ))
        .hint("--publisher and --subscriber have to lead to two servers; one that was copied from the other by files cannot be its subscriber")
        .err();
    }
    let content = content(&mut client)
        .map_err(SqlError::from)
        .wrap_err("list the publisher's databases")?;
    Ok(FirstConfig {
        config: template(&publisher, &subscriber, &content),
        publisher_system_identifier: publisher.system_identifier,
        subscriber_system_identifier: subscriber.system_identifier,
        dbnames: content.dbnames,
    })
}

fn reach(side: Side, conninfo: &str) -> Result<(Client, Reached)> {
    let config: Config = conninfo
        .parse()
        .map_err(|error: postgres::Error| {
            Failure::usage(format!(
                "read the {side}'s connection string: {}",
                SqlError::from(error)
            ))
            .hint("write postgres://user:password@host:port/postgres, or 'host=... port=... user=... dbname=postgres'")
        })?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(directory)) => directory.display().to_string(),
        None => {
            return Failure::usage(format!(
                "read the {side}'s connection string: it names no host"
            ))
            .hint("write postgres://user:password@host:port/postgres")
            .err();
        }
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let attempt = || format!("connect to the {side} {}", HostPort(&host, port));
    let mut client = connect_unverified(conninfo, &application_name("init_config"))
        .wrap_err_with(attempt)
        .hint(|| {
            format!("correct --{side}; a password may also be in the environment, as PGPASSWORD")
        })?;
    let row = client
        .query_one(
            "SELECT (SELECT system_identifier::text FROM pg_control_system()),
                    current_setting('server_version'), session_user::text",
            &[],
        )
        .map_err(SqlError::from)
        .wrap_err_with(|| format!("ask the {side} who it is"))?;
    let reached = Reached {
        host,
        port,
        user: row.get(2),
        system_identifier: row.get(0),
        version: row.get(1),
    };
    Ok((client, reached))
}

fn content(client: &mut Client) -> std::result::Result<Content, postgres::Error> {
    let databases = client.query(DATABASES, &[])?;
    let mut owners: Vec<String> = databases.iter().map(|row| row.get(1)).collect();
    owners.sort();
    owners.dedup();
    let roles = client.query(REPLICATION_ROLES, &[])?;
    let roles: Vec<String> = roles.iter().map(|row| row.get(0)).collect();
    Ok(Content {
        dbnames: databases.iter().map(|row| row.get(0)).collect(),
        owner: only(owners),
        repl_user: only(roles),
    })
}

fn only(mut names: Vec<String>) -> Option<String> {
    match names.len() {
        1 => names.pop(),
        _ => None,
    }
}
