//! `flare.statement` in the database `postgres` of the open side: each statement before it is committed anywhere.
//!
//! The transactions of both sides are written down before the first of them commits; afterwards `txid_status` says what
//! became of either, whoever has died.

use serde::Deserialize;
use uuid::Uuid;

use crate::config::Config;
use crate::error::{Result, WrapErr};
use crate::journal::{self, Direction, own_schema};
use crate::server::{Login, Server, Session, is_denied, params};
use crate::value::Ident;

/// How far a statement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// Nothing is committed, unless PostgreSQL runs it outside of transactions.
    Begun,
    /// Both sides have run it, and commit.
    Committing,
    /// Both sides have it.
    Done,
    /// Neither side has it.
    Undone,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Begun => "begun",
            Stage::Committing => "committing",
            Stage::Done => "done",
            Stage::Undone => "undone",
        }
    }
}

/// A statement on record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: Uuid,
    pub(crate) dbname: String,
    pub(crate) direction: Direction,
    /// The role that runs it.
    pub(crate) role: String,
    pub(crate) statement: String,
    /// The receiving side's statement, where that one is another.
    pub(crate) receiving: String,
    /// Settings of the file before it.
    pub(crate) settings: Vec<String>,
    /// The file it stands in, and its place there.
    pub(crate) file: Option<String>,
    pub(crate) place: Option<i32>,
    pub(crate) stage: Stage,
    /// The transactions; none where the statement runs outside of any.
    pub(crate) open_xid: Option<String>,
    pub(crate) receiving_xid: Option<String>,
    /// Whether PostgreSQL runs it outside of transactions only.
    pub(crate) outside: bool,
    /// Which side commits first.
    pub(crate) open_first: bool,
    #[serde(default)]
    pub(crate) at: String,
}

const CREATE: &str = concat!(
    own_schema!(),
    "
    CREATE TABLE IF NOT EXISTS flare.statement (
        id            uuid PRIMARY KEY,
        at            timestamptz NOT NULL DEFAULT clock_timestamp(),
        publisher     text NOT NULL,
        subscriber    text NOT NULL,
        dbname        text NOT NULL,
        direction     text NOT NULL,
        role          text NOT NULL,
        statement     text NOT NULL,
        receiving     text NOT NULL,
        settings      jsonb NOT NULL,
        file          text,
        place         int,
        stage         text NOT NULL,
        open_xid      text,
        receiving_xid text,
        outside       boolean NOT NULL,
        open_first    boolean NOT NULL
    )"
);

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'statement')";

fn exists(session: &Session) -> Result<bool> {
    session.value(EXISTS, params![])
}

/// Makes the table, and lets both accounts use it.
pub(super) fn create(server: &Server) -> Result<()> {
    let admin = server.admin();
    if exists(admin)? {
        return Ok(());
    }
    journal::create(server)?;
    let host = server.declared();
    let (superuser, db_owner) = (&host.superuser.user, &host.db_owner.user);
    let making = |other: &str| {
        format!(
            "BEGIN; {CREATE}; GRANT SELECT, INSERT, UPDATE, DELETE ON flare.statement TO {}; COMMIT",
            Ident::new(other)
        )
    };
    let made = match admin.batch(&making(db_owner)) {
        Err(report) if is_denied(&report) => {
            admin.batch("ROLLBACK")?;
            let owner = server.connect(Login::DbOwner, "postgres")?;
            owner.batch(&making(superuser))
        }
        made => made,
    };
    made.wrap_err("create the record of statements, table flare.statement")
}

fn identifiers(config: &Config) -> (String, String) {
    let of = |host: &crate::config::Host| host.system_identifier.to_string();
    (of(&config.publisher), of(&config.subscriber))
}

/// Writes a new one.
pub(super) fn begin(session: &Session, config: &Config, record: &Record) -> Result<()> {
    let (publisher, subscriber) = identifiers(config);
    session
        .execute(
            "INSERT INTO flare.statement (id, publisher, subscriber, dbname, direction, role, statement, receiving,
                                          settings, file, place, stage, outside, open_first)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, to_jsonb($9), $10, $11::int, $12, $13, $14)",
            params![
                record.id,
                publisher,
                subscriber,
                &record.dbname,
                record.direction.as_str(),
                &record.role,
                &record.statement,
                &record.receiving,
                &record.settings,
                &record.file,
                record.place.map(|place| place.to_string()),
                record.stage.as_str(),
                record.outside,
                record.open_first
            ],
        )
        .wrap_err("write the statement down, in table flare.statement")
        .map(drop)
}

/// Both transactions, before the first of them commits.
pub(super) fn committing(session: &Session, id: Uuid, open: &str, receiving: &str) -> Result<()> {
    session
        .execute(
            "UPDATE flare.statement SET stage = 'committing', open_xid = $2, receiving_xid = $3 WHERE id = $1",
            params![id, open, receiving],
        )
        .wrap_err("write down that both sides commit")
        .map(drop)
}

/// Its end.
pub(super) fn ended(session: &Session, id: Uuid, stage: Stage) -> Result<()> {
    session
        .execute(
            "UPDATE flare.statement SET stage = $2 WHERE id = $1",
            params![id, stage.as_str()],
        )
        .wrap_err("write down what became of the statement")
        .map(drop)
}

/// How far a statement has come.
pub(super) fn stage_of(session: &Session, id: Uuid) -> Result<Stage> {
    let stage: Option<Stage> = session
        .first(
            "SELECT to_jsonb(stage) FROM flare.statement WHERE id = $1",
            params![id],
        )
        .wrap_err("read what became of the statement")?;
    Ok(stage.unwrap_or(Stage::Undone))
}

const RECORDS: &str = "
    SELECT to_jsonb(s) FROM flare.statement s
     WHERE publisher = $1 AND subscriber = $2 AND dbname = $3";

/// Statements of a database that are neither done nor undone, as this server has them.
pub(super) fn unfinished(session: &Session, config: &Config, dbname: &str) -> Result<Vec<Record>> {
    if !exists(session)? {
        return Ok(Vec::new());
    }
    let (publisher, subscriber) = identifiers(config);
    session
        .list(
            &format!("{RECORDS} AND stage IN ('begun', 'committing') ORDER BY at"),
            params![publisher, subscriber, dbname],
        )
        .wrap_err("read which statements are unfinished, in table flare.statement")
}

/// What of a file is done, by place; the newest word on each.
pub(super) fn of_file(
    session: &Session,
    config: &Config,
    dbname: &str,
    file: &str,
) -> Result<Vec<Record>> {
    let (publisher, subscriber) = identifiers(config);
    session
        .list(
            &format!("{RECORDS} AND file = $4 AND stage = 'done' ORDER BY at"),
            params![publisher, subscriber, dbname, file],
        )
        .wrap_err("read what of the file is done, in table flare.statement")
}

/// Whether this very statement has been run for both sides.
pub(super) fn is_done(
    session: &Session,
    config: &Config,
    dbname: &str,
    statement: &str,
) -> Result<bool> {
    let (publisher, subscriber) = identifiers(config);
    session.value(
        &format!("SELECT EXISTS ({RECORDS} AND statement = $4 AND stage = 'done')"),
        params![publisher, subscriber, dbname, statement],
    )
}

/// Forgets a database's statements; the table goes with the last of them.
pub(crate) fn forget(session: &Session, config: &Config, dbname: &str) -> Result<()> {
    if !exists(session)? {
        return Ok(());
    }
    let (publisher, subscriber) = identifiers(config);
    let forgotten = || -> Result<()> {
        session.execute(
            "DELETE FROM flare.statement WHERE publisher = $1 AND subscriber = $2 AND dbname = $3",
            params![publisher, subscriber, dbname],
        )?;
        if session.value("SELECT NOT EXISTS (SELECT FROM flare.statement)", params![])? {
            session.batch("DROP TABLE flare.statement")?;
        }
        Ok(())
    };
    forgotten().wrap_err("forget the statements, in table flare.statement")
}
