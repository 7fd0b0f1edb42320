//! What the user declared: YAML, its checks, where secrets come from. Nothing here reaches a server, and nothing
//! elsewhere knows a host, a user or a database that was not declared here.
//!
//! Every problem of a file is reported at once, each with its line. The code that reads a section is its schema (`section`).

mod build;
mod cutover;
mod ddl;
mod field;
mod host;
mod lag;
mod lookup;
mod password;
mod places;
mod replication;
mod section;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod tree;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

pub use cutover::{Cutover, Hooks, Left, Pooler, PoolerAdmin};
pub use ddl::DdlMode;
pub use host::{Account, Host, RootCert, SslMode, Tls, Via};
pub use lag::{Lag, Limit, Thresholds};
pub use password::PasswordSource;
pub use replication::{Publication, Subscription};
pub(crate) use replication::{is_on, names_object};
pub(crate) use template::{Content, Reached, template};

use crate::error::{Error, Failure, Result};
use crate::value::Secret;
use field::Field;
use section::Section;
use source::Source;

/// The configuration that is read when no other is named.
pub const DEFAULT_PATH: &str = "./flare.yml";

/// A configuration that was read and found right.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Its text, for the guard process: the file may have changed since, or may have been a pipe.
    pub(crate) text: Secret,
    /// The declared publisher.
    pub publisher: Host,
    /// The declared subscriber.
    pub subscriber: Host,
    /// Where the PostgreSQL client programs are.
    pub tools: Tools,
    /// By database, in the order of the file.
    pub publications: IndexMap<String, Publication>,
    /// By name, in the order of the file.
    pub subscriptions: IndexMap<String, Subscription>,
    /// `cutover`.
    pub cutover: Cutover,
    /// `lag`.
    pub lag: Lag,
    /// `ddl`.
    pub ddl: DdlMode,
    /// What is allowed and yet worth saying.
    pub warnings: Vec<String>,
}

/// `tools`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tools {
    /// The directory of pg_dump, pg_dumpall, pg_restore and psql; `None`: they are looked for.
    pub path: Option<PathBuf>,
}

/// Where `flare_replication_status` is, unless the configuration says otherwise; as the original has it.
const STATUS_SCHEMA: &str = "public";

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when it cannot be read, is no YAML or declares what cannot be: all problems in one error.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let refused = |why: &str| {
            let message = format!("read the configuration {}: {why}", path.display());
            Failure::usage(message).hint(
                "`flare init_config` writes a configuration to start from; --config names one that is elsewhere",
            )
        };
        let bytes = std::fs::read(path).map_err(|error| refused(&error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8"))?;
        let mut config = Config::parse(&text, path)?;
        if let Ok(metadata) = path.metadata() {
            let mode = metadata.permissions().mode() & 0o7777;
            config.warnings.extend(config.exposure(mode));
        }
        Ok(config)
    }

    /// Reads the text of a configuration; `origin` is what messages call it and where relative paths start.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &Path) -> Result<Config, Error> {
        let source = Source::new(origin);
        let root = build::read(text, &source);
        let read = root.as_ref().and_then(|root| {
            let config = Field::root(&source, root).section(|file| Config::read(file, origin))?;
            let line = |path: &[&str]| root.line_of(path);
            let mut config = config.check(&source, line)?;
            config.text = Secret::new(text);
            Some(config)
        });
        match (read, source.error()) {
            (_, Some(error)) => Err(error.into()),
            (Some(config), None) => Ok(config),
            (None, None) => Failure::usage(format!(
                "read the configuration {}: there is nothing in it",
                origin.display()
            ))
            .hint("`flare init_config` writes a configuration to start from")
            .err(),
        }
    }

    fn read(file: &Section<'_>, origin: &Path) -> Option<Config> {
        let hosts = file.section("hosts", |hosts| {
            let host = |role: &str, other: &str| {
                hosts.section(role, |role| {
                    role.section("conn", |conn| Host::read(conn, other))
                })
            };
            let publisher = host("publisher", "subscriber");
            let subscriber = host("subscriber", "publisher");
            Some((publisher?, subscriber?))
        });
        let tools = file.section("tools", |tools| {
            let path = tools.optional("path", Field::path)?;
            Some(Tools { path })
        });
        let publications = file.or("publications", IndexMap::new(), |field| {
            replication::by_name(field, Publication::read)
        });
        let subscriptions = file.or("subscriptions", IndexMap::new(), |field| {
            replication::by_name(field, Subscription::read)
        });
        let cutover = file.section("cutover", Cutover::read);
        let lag = file.section("lag", Lag::read);
        let ddl = file.or("ddl", DdlMode::default(), DdlMode::read);
        let untested = file.or("allow_untested", Vec::new(), |field| {
            field.list(|item| {
                item.parse(|text| {
                    text.parse()
                        .map_err(|_| format!("{text:?} is no major version, such as 19"))
                })
            })
        });
        let status_schema = file.or("status_schema", STATUS_SCHEMA.to_owned(), |field| {
            field.parse(|text| match text {
                "" => Err("a schema has a name".to_owned()),
                "flare" | "information_schema" => {
                    Err(format!("{text} is no schema of the application's"))
                }
                name if name.starts_with("pg_") => Err(format!("{name} is PostgreSQL's own")),
                name => Ok(name.to_owned()),
            })
        });
        let (mut publisher, mut subscriber) = hosts?;
        publisher.allow_untested = untested?;
        publisher.status_schema = status_schema?;
        subscriber.allow_untested = publisher.allow_untested.clone();
        subscriber.status_schema = publisher.status_schema.clone();
        let cutover = cutover?;
        publisher.app_users.clone_from(&cutover.app_users);
        subscriber.app_users.clone_from(&cutover.app_users);
        let ddl = ddl?;
        publisher.carries = ddl == DdlMode::Carry;
        subscriber.carries = publisher.carries;
        Some(Config {
            path: origin.to_owned(),
            text: Secret::new(""),
            publisher,
            subscriber,
            tools: tools?,
            publications: publications?,
            subscriptions: subscriptions?,
            cutover,
            lag: lag?,
            ddl,
            warnings: Vec::new(),
        })
    }

    /// What only the whole shows: a contradiction is a problem, an oddity a warning.
    fn check(mut self, source: &Source, line: impl Fn(&[&str]) -> usize) -> Option<Config> {
        if self.publisher.system_identifier == self.subscriber.system_identifier {
            source.problem(
                line(&["hosts", "subscriber", "conn", "system_identifier"]),
                "publisher and subscriber have the same system_identifier: they have to be two servers",
            );
        }
        let mut warnings = Vec::new();
        for (subname, subscription) in &self.subscriptions {
            let (dbname, pubname) = (&subscription.dbname, &subscription.pubname);
            if let Some(publication) = self.publications.get(dbname)
                && publication.pubname != *pubname
            {
                warnings.push(format!(
                    "{}: subscription {subname:?} is to publication {pubname:?}, while publications.{dbname} declares {:?}",
                    source.at(line(&["subscriptions", subname, "pubname"])),
                    publication.pubname,
                ));
            }
        }
        let forward = ("publisher", &self.publisher, "sslrootcert_via_subscriber");
        let back = ("subscriber", &self.subscriber, "sslrootcert_via_publisher");
        let ways = [(true, forward), (self.cutover.reverse, back)];
        for (_, (role, host, key)) in ways.into_iter().filter(|(used, _)| *used) {
            let verifies = matches!(host.via.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
            if verifies && host.via.sslrootcert.is_none() {
                warnings.push(format!(
                    "{}: the other server verifies the {role} with its own ~/.postgresql/root.crt unless {key} names a file there",
                    source.at(line(&["hosts", role, "conn", "sslmode"])),
                ));
            }
        }
        self.warnings = warnings;
        Some(self)
    }

    /// A warning when others than the owner may read passwords in the file.
    fn exposure(&self, mode: u32) -> Option<String> {
        let accounts = self.publisher.accounts().chain(self.subscriber.accounts());
        let poolers = self
            .cutover
            .poolers
            .iter()
            .map(|pooler| &pooler.admin.password);
        let plain = accounts
            .map(|account| &account.password)
            .chain(poolers)
            .any(PasswordSource::is_plain);
        (plain && mode & 0o044 != 0).then(|| {
            format!(
                "{path} holds passwords and others may read it (mode {mode:o}): chmod 600 {path}",
                path = self.path.display()
            )
        })
    }
}
