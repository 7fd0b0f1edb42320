//! Talking to a server.

use std::fmt::Write as _;
use std::fs;

use postgres::{Client, Config, Error};

use super::super::sql::{self, Row};
use super::Cluster;

impl Cluster {
    /// A session over TCP, as a client of the migration would have.
    pub fn connect(&self, db: &str, user: &str, password: &str) -> Result<Client, Error> {
        sql::connect(
            Config::new()
                .host(self.host())
                .port(self.port)
                .dbname(db)
                .user(user)
                .password(password),
        )
    }

    /// A superuser's session, through the server's socket: no password to compute.
    #[track_caller]
    pub fn superuser_session(&self, db: &str) -> Client {
        match self.try_superuser_session(db) {
            Ok(client) => client,
            Err(error) => panic!("connect to {db} of {self:?}: {}", sql::words(&error)),
        }
    }

    pub fn try_superuser_session(&self, db: &str) -> Result<Client, Error> {
        sql::connect(&mut self.superuser_config(db))
    }

    /// A superuser's session for which these settings count from its first statement on, whatever the database's are.
    #[track_caller]
    pub fn session_with(&self, db: &str, settings: &[&str]) -> Client {
        let options: String = settings.iter().map(|it| format!("-c {it} ")).collect();
        sql::connect(self.superuser_config(db).options(&options)).expect("connect")
    }

    /// How the superuser connects.
    fn superuser_config(&self, db: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.home)
            .port(self.port)
            .dbname(db)
            .user(self.superuser());
        config
    }

    /// Runs statements as the superuser.
    #[track_caller]
    pub fn sql(&self, db: &str, sql: &str) {
        self.rows(db, sql);
    }

    /// What the superuser gets to see, all as text.
    #[track_caller]
    pub fn rows(&self, db: &str, sql: &str) -> Vec<Row> {
        match self.try_rows(db, sql) {
            Ok(rows) => rows,
            Err(error) => panic!("run on {self:?}, database {db}: {error}\n{sql}"),
        }
    }

    /// The same, or the server's own words.
    pub fn try_rows(&self, db: &str, sql: &str) -> Result<Vec<Row>, String> {
        self.try_superuser_session(db)
            .and_then(|mut client| sql::rows(&mut client, sql))
            .map_err(|error| sql::words(&error))
    }

    /// The only value of the only row; NULL is the empty string.
    #[track_caller]
    pub fn value(&self, db: &str, sql: &str) -> String {
        let mut rows = self.rows(db, sql);
        assert!(
            rows.len() == 1 && rows[0].len() == 1,
            "one value was expected, not {rows:?}, from\n{sql}"
        );
        rows.remove(0).remove(0).unwrap_or_default()
    }

    /// A `postgres://` address, everything in it escaped.
    pub fn url(&self, db: &str, user: &str, password: &str) -> String {
        let [db, user, password] = [db, user, password].map(percent_encoded);
        format!(
            "postgres://{user}:{password}@{}:{}/{db}",
            self.host(),
            self.port
        )
    }

    /// A `key=value` connection string, everything in it quoted.
    pub fn conninfo(&self, db: &str, user: &str, password: &str) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "host={} port={} dbname='{}' user='{}' password='{}'",
            self.host(),
            self.port,
            quoted(db),
            quoted(user),
            quoted(password)
        )
    }

    pub fn system_identifier(&self) -> String {
        self.value(
            "postgres",
            "SELECT system_identifier FROM pg_control_system()",
        )
    }

    /// Everything the server has written to its log.
    pub fn log(&self) -> String {
        fs::read(self.home.join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("write to a string");
        }
    }
    encoded
}
