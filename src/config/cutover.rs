//! What a cutover needs to know beforehand: whom to shut out, for how long at most, and whom to tell.

use std::time::Duration;

use super::field::Field;
use super::password::PasswordSource;
use super::section::Section;

const MAX_PAUSE: Duration = Duration::from_secs(10);
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
const POOLER_DBNAME: &str = "pgbouncer";

/// `cutover`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cutover {
    /// The roles that write, besides PUBLIC.
    pub app_users: Vec<String>,
    /// Roles whose sessions stay.
    pub keep_users: Vec<String>,
    /// When the pause is given up and undone.
    pub max_pause: Duration,
    /// Whether replication runs backwards afterwards, for the way back.
    pub reverse: bool,
    /// How the server that was left receives clients.
    pub left: Left,
    /// Programs run on the way.
    pub hooks: Hooks,
    /// PgBouncers that hold their clients meanwhile.
    pub poolers: Vec<Pooler>,
}

/// `cutover.left`: what clients meet on the server that the application has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// It answers, and every session is read-only: clients that ask for `target_session_attrs=read-write` move on.
    #[default]
    ReadOnly,
    /// Nobody may connect.
    Shut,
}

/// `cutover.hooks`: each a program with its arguments, run without a shell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hooks {
    /// Before anything is shut.
    pub before_pause: Option<Vec<String>>,
    /// Points the application at the new server.
    pub switch: Option<Vec<String>>,
    /// After the new server takes writes.
    pub after_switch: Option<Vec<String>>,
    /// After an undo.
    pub on_undo: Option<Vec<String>>,
    /// How long each may take.
    pub timeout: Duration,
}

/// One entry of `cutover.poolers`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pooler {
    /// Its admin console.
    pub admin: PoolerAdmin,
    /// The database to pause, as the pooler calls it.
    pub database: String,
}

/// How to reach PgBouncer's admin console.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolerAdmin {
    /// The pooler's host.
    pub host: String,
    /// The pooler's port.
    pub port: u16,
    /// One of its `admin_users`.
    pub user: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// The console's own database, `pgbouncer`.
    pub dbname: String,
}

impl Default for Cutover {
    fn default() -> Self {
        Cutover {
            app_users: Vec::new(),
            keep_users: Vec::new(),
            max_pause: MAX_PAUSE,
            reverse: true,
            left: Left::default(),
            hooks: Hooks::default(),
            poolers: Vec::new(),
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks {
            before_pause: None,
            switch: None,
            after_switch: None,
            on_undo: None,
            timeout: HOOK_TIMEOUT,
        }
    }
}

impl Cutover {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let names = |field: &Field<'_>| field.list(Field::name);
        let app_users = section.or("app_users", Vec::new(), names);
        let keep_users = section.or("keep_users", Vec::new(), names);
        let max_pause = section.or("max_pause", MAX_PAUSE, Field::duration);
        let reverse = section.or("reverse", true, Field::switch);
        let left = section.or("left", Left::default(), Left::of);
        let hooks = section.section("hooks", Hooks::read);
        let poolers = section.or("poolers", Vec::new(), |field| {
            field.list(|item| item.section(Pooler::read))
        });
        Some(Cutover {
            app_users: app_users?,
            keep_users: keep_users?,
            max_pause: max_pause?,
            reverse: reverse?,
            left: left?,
            hooks: hooks?,
            poolers: poolers?,
        })
    }
}

impl Left {
    fn of(field: &Field<'_>) -> Option<Self> {
        field.parse(|text| match text {
            "read_only" => Ok(Left::ReadOnly),
            "shut" => Ok(Left::Shut),
            _ => Err(format!("{text:?} is neither read_only nor shut")),
        })
    }
}

impl Hooks {
    fn read(section: &Section<'_>) -> Option<Self> {
        let before_pause = section.optional("before_pause", Field::argv);
        let switch = section.optional("switch", Field::argv);
        let after_switch = section.optional("after_switch", Field::argv);
        let on_undo = section.optional("on_undo", Field::argv);
        let timeout = section.or("timeout", HOOK_TIMEOUT, Field::duration);
        Some(Hooks {
            before_pause: before_pause?,
            switch: switch?,
            after_switch: after_switch?,
            on_undo: on_undo?,
            timeout: timeout?,
        })
    }
}

impl Pooler {
    fn read(section: &Section<'_>) -> Option<Self> {
        let admin = section.section("admin", PoolerAdmin::read);
        let database = section.required("database", Field::name);
        Some(Pooler {
            admin: admin?,
            database: database?,
        })
    }
}

impl PoolerAdmin {
    fn read(section: &Section<'_>) -> Option<Self> {
        let host = section.required("host", Field::host);
        let port = section.required("port", Field::port);
        let user = section.required("user", Field::name);
        let password = section.required("password", PasswordSource::of);
        let dbname = section.or("dbname", POOLER_DBNAME.to_owned(), Field::name);
        Some(PoolerAdmin {
            host: host?,
            port: port?,
            user: user?,
            password: password?,
            dbname: dbname?,
        })
    }
}
