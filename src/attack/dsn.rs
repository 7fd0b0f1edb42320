//! Connection strings: what may be shown of one, and the same one with another database.

use postgres::Config;
use postgres::config::Host;

use crate::error::{Failure, Result};
use crate::server::SqlError;
use crate::value::HostPort;

/// A connection string that was read; its `Debug` and [`Dsn::shown`] hide the password.
#[derive(Clone)]
pub(super) struct Dsn {
    text: String,
    /// `host:port/dbname`, what messages call it.
    pub(super) shown: String,
    /// `host:port`.
    pub(super) server: String,
    /// The database it leads to.
    pub(super) dbname: String,
}

impl Dsn {
    pub(super) fn read(text: &str) -> Result<Dsn> {
        let config: Config = text.parse().map_err(|error: postgres::Error| {
            Failure::usage(format!(
                "read the connection string: {}",
                SqlError::from(error)
            ))
            .hint("write postgres://user:password@host:port/dbname, or host=... port=... dbname=... user=...")
        })?;
        let user = config.get_user().unwrap_or_default();
        let dbname = config.get_dbname().unwrap_or(user).to_owned();
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(directory)) => directory.display().to_string(),
            None => {
                return Failure::usage("read the connection string: it names no host")
                    .hint("write postgres://user:password@host:port/dbname")
                    .err();
            }
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Ok(Dsn {
            text: text.to_owned(),
            shown: format!("{}/{dbname}", HostPort(&host, port)),
            server: HostPort(&host, port).to_string(),
            dbname,
        })
    }

    /// The same server and user, another database.
    pub(super) fn with_dbname(&self, dbname: &str) -> Result<Dsn> {
        // Of a setting that is given twice, the last one counts, in URLs too.
        let is_url = self.text.starts_with("postgres://") || self.text.starts_with("postgresql://");
        let text = match (is_url, self.text.contains('?')) {
            (true, false) => format!("{}?dbname={dbname}", self.text),
            (true, true) => format!("{}&dbname={dbname}", self.text),
            (false, _) => format!("{} dbname={dbname}", self.text),
        };
        Dsn::read(&text)
    }

    /// The text itself, password included, for connecting.
    pub(super) fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Dsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dsn({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown_and_the_database_can_be_another() {
        for (text, shown) in [
            (
                "postgres://app:hunter2@db.example:5433/shop",
                "db.example:5433/shop",
            ),
            (
                "postgres://app:hunter2@db.example/?connect_timeout=3",
                "db.example:5432/app",
            ),
            (
                "host=/run/pg user=app password=hunter2 dbname=shop",
                "/run/pg:5432/shop",
            ),
        ] {
            let dsn = Dsn::read(text).unwrap();
            assert_eq!(dsn.shown, shown);
            assert!(!format!("{dsn:?}").contains("hunter2"));
            assert_eq!(dsn.with_dbname("other").unwrap().dbname, "other");
        }
    }

    #[test]
    fn what_is_no_connection_string_is_refused_without_being_quoted() {
        for wrong in ["", "user=app", "hunter2 secret", "mysql://a:hunter2@b/c"] {
            let error = Dsn::read(wrong).unwrap_err();
            let message = crate::error::message_of(&error);
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
