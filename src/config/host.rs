//! A server as declared: where it is, who it has to be, and who logs in there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::field::Field;
use super::password::PasswordSource;
use super::section::Section;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A declared server (`hosts.publisher.conn`, `hosts.subscriber.conn`).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Host {
    /// The name that is connected to and that TLS verifies.
    pub host: String,
    /// Where to connect instead of looking `host` up.
    pub hostaddr: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Who this server has to be (`pg_control_system().system_identifier`).
    pub system_identifier: u64,
    /// Creates publications and subscriptions.
    pub superuser: Account,
    /// Owns the databases that move.
    pub db_owner: Account,
    /// Whom the other server replicates as.
    pub repl: Option<Account>,
    /// How sessions are encrypted and what is verified.
    pub tls: Tls,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How the other server reaches this one.
    pub via: Via,
    /// Major versions newer than those that flare knows which it may be; they are treated as the newest known.
    pub allow_untested: Vec<i32>,
    /// The schema of `flare_replication_status`, the same on both servers.
    pub status_schema: String,
    /// The application's roles, `cutover.app_users`, the same on both servers.
    pub app_users: Vec<String>,
    /// Whether statements are carried (`ddl: carry`), the same on both servers.
    pub carries: bool,
}

/// A role and its password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Account {
    /// The role, exact.
    pub user: String,
    /// Where its password comes from.
    pub password: PasswordSource,
}

/// What libpq calls sslmode and its companions (manual: "SSL Support").
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tls {
    /// How much is demanded.
    pub sslmode: SslMode,
    /// Who is trusted to have signed the server's certificate.
    pub sslrootcert: Option<RootCert>,
    /// The client's certificate.
    pub sslcert: Option<PathBuf>,
    /// The key of the client's certificate.
    pub sslkey: Option<PathBuf>,
}

/// How the other server reaches this one; in the subscription's connection string.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Via {
    /// As the other server resolves it; by default `host`.
    pub host: String,
    /// By default `port`.
    pub port: u16,
    /// By default `sslmode`.
    pub sslmode: SslMode,
    /// A path on the other server; by default `sslrootcert` where that is absolute or `system`.
    pub sslrootcert: Option<RootCert>,
}

/// libpq's `sslmode`, without `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted, nothing verified (with a root certificate: as `verify-ca`).
    Require,
    /// The certificate's signer is verified.
    VerifyCa,
    /// The signer and the name are verified.
    VerifyFull,
}

/// libpq's `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootCert {
    /// A file of certificates.
    File(PathBuf),
    /// What the operating system trusts.
    System,
}

const SSL_MODES: [(&str, SslMode); 5] = [
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

impl SslMode {
    /// The word libpq knows.
    pub fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

impl RootCert {
    /// The value libpq knows: a path, or `system`.
    pub fn as_str(&self) -> std::borrow::Cow<'_, str> {
        match self {
            RootCert::File(path) => path.to_string_lossy(),
            RootCert::System => "system".into(),
        }
    }

    fn local(field: &Field<'_>) -> Option<Self> {
        match field.raw_text()? {
            "system" => Some(RootCert::System),
            _ => field.path().map(RootCert::File),
        }
    }

    /// On another machine, so nothing is resolved.
    fn remote(field: &Field<'_>) -> Option<Self> {
        match field.text()?.as_str() {
            "system" => Some(RootCert::System),
            path => Some(RootCert::File(path.into())),
        }
    }
}

impl Host {
    /// Reads `hosts.<role>.conn`; `other` is the role at the other end.
    pub(super) fn read(conn: &Section<'_>, other: &str) -> Option<Self> {
        let host = conn.required("host", Field::host);
        let hostaddr = conn.optional("hostaddr", |field| {
            field.parse(|text| {
                let wrong = |_| format!("{text:?} is not an IP address");
                text.parse::<IpAddr>().map_err(wrong)
            })
        });
        let port = conn.required("port", Field::port);
        let system_identifier = conn.required("system_identifier", identifier);
        let superuser = account(conn, "superuser", "superuser_password");
        let db_owner = account(conn, "db_owner", "db_owner_password");
        let repl = match conn.get("repl_user").or(conn.get("repl_user_password")) {
            Some(_) => account(conn, "repl_user", "repl_user_password").map(Some),
            None => Some(None),
        };
        let tls = tls(conn);
        let connect_timeout = conn.or("connect_timeout", CONNECT_TIMEOUT, Field::duration);
        let via = via(conn, other, host.as_deref(), port, tls.as_ref());
        Some(Host {
            host: host?,
            hostaddr: hostaddr?,
            port: port?,
            system_identifier: system_identifier?,
            superuser: superuser?,
            db_owner: db_owner?,
            repl: repl?,
            tls: tls?,
            connect_timeout: connect_timeout?,
            allow_untested: Vec::new(),
            status_schema: super::STATUS_SCHEMA.to_owned(),
            app_users: Vec::new(),
            carries: false,
            via: via?,
        })
    }

    /// Every account that logs in on this server.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        [&self.superuser, &self.db_owner]
            .into_iter()
            .chain(&self.repl)
    }
}

fn identifier(field: &Field<'_>) -> Option<u64> {
    field.parse(|text| {
        text.parse().map_err(|_| {
            format!(
                "{text:?} is not a system identifier, which is a number; ask this server: SELECT system_identifier FROM pg_control_system()"
            )
        })
    })
}

fn account(section: &Section<'_>, user: &str, password: &str) -> Option<Account> {
    let user = section.required(user, Field::name);
    let password = section.required(password, PasswordSource::of);
    Some(Account {
        user: user?,
        password: password?,
    })
}

fn tls(conn: &Section<'_>) -> Option<Tls> {
    let sslmode = conn.or("sslmode", SslMode::Prefer, |field| field.word(&SSL_MODES));
    let sslrootcert = conn.optional("sslrootcert", RootCert::local);
    let sslcert = conn.optional("sslcert", Field::path);
    let sslkey = conn.optional("sslkey", Field::path);
    let tls = Tls {
        sslmode: sslmode?,
        sslrootcert: sslrootcert?,
        sslcert: sslcert?,
        sslkey: sslkey?,
    };
    match (&tls.sslcert, &tls.sslkey) {
        (Some(_), None) => conn.problem("sslcert needs sslkey beside it"),
        (None, Some(_)) => conn.problem("sslkey needs sslcert beside it"),
        _ => {}
    }
    Some(tls)
}

/// The keys are asked for even where a default cannot be had, so that they are known.
fn via(
    conn: &Section<'_>,
    other: &str,
    host: Option<&str>,
    port: Option<u16>,
    tls: Option<&Tls>,
) -> Option<Via> {
    let key = |name: &str| format!("{name}_via_{other}");
    let own_host = conn.optional(&key("host"), Field::host);
    let own_port = conn.optional(&key("port"), Field::port);
    let own_mode = conn.optional(&key("sslmode"), |field| field.word(&SSL_MODES));
    let own_cert = conn.optional(&key("sslrootcert"), RootCert::remote);
    let tls = tls?;
    let same_there = |cert: &RootCert| match cert {
        RootCert::File(path) => path.is_absolute(),
        RootCert::System => true,
    };
    let cert = tls.sslrootcert.clone().filter(same_there);
    Some(Via {
        host: own_host?.or(host.map(str::to_owned))?,
        port: own_port?.or(port)?,
        sslmode: own_mode?.unwrap_or(tls.sslmode),
        sslrootcert: own_cert?.or(cert),
    })
}
