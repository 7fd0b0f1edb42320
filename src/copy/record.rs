//! What is on record of a copy, in schema `flare` of the database that it fills: `flare.copy_run`, where the copy stands,
//! `flare.copy_lead`, who leads it, `flare.copy`, its jobs, and `flare.copy_piece`, what was made after the rows. A job's end is written in the transaction of
//! its rows, so that a copy that was killed goes on with exactly what is missing.

mod at_work;
mod jobs;

use serde::Deserialize;
use uuid::Uuid;

use super::holder::Held;
use crate::error::{Result, WrapErr};
use crate::server::{Login, Server, Session, params};
use crate::value::{Ident, Literal, Lsn};

pub(super) use at_work::{Lead, OnRecord, end_work, is_led, join_work};
pub use jobs::CopiedTable;
pub(super) use jobs::{ahead, empty, finished, left, plan, tables, unfinished_tables};

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// The slot may be there, tables are not.
    Slot,
    /// Tables are there without indexes, rows are on their way.
    Rows,
    /// All rows are there.
    Post,
    /// So are the indexes and the rest.
    Done,
}

impl Phase {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Slot => "slot",
            Phase::Rows => "rows",
            Phase::Post => "post",
            Phase::Done => "done",
        }
    }
}

/// The copy on record.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Recorded {
    pub(super) subname: String,
    /// The publisher's system_identifier.
    pub(super) publisher: String,
    pub(super) slot_name: String,
    /// The database is one that this copy has made.
    pub(super) created: bool,
    pub(super) phase: Phase,
    pub(super) holder: Option<String>,
    pub(super) snapshot: Option<String>,
    /// Where the snapshot's own slot begins.
    pub(super) lsn: Option<Lsn>,
    /// Where the subscription's slot begins.
    pub(super) slot_lsn: Option<Lsn>,
    pub(super) has_post_data: bool,
    /// The subscription is to connect as repl_user.
    pub(super) use_repl: bool,
    /// The server's words for when it began.
    pub(super) began_at: String,
}

impl Recorded {
    /// One that begins.
    pub(super) fn new(
        subname: &str,
        publisher: u64,
        slot_name: &str,
        login: Login,
        created: bool,
    ) -> Recorded {
        Recorded {
            subname: subname.to_owned(),
            publisher: publisher.to_string(),
            slot_name: slot_name.to_owned(),
            created,
            phase: Phase::Slot,
            holder: None,
            snapshot: None,
            lsn: None,
            slot_lsn: None,
            has_post_data: false,
            use_repl: login == Login::Replication,
            began_at: String::new(),
        }
    }
}

const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE flare.copy_run (
        subname          text PRIMARY KEY,
        publisher        text NOT NULL,
        slot_name        text NOT NULL,
        created          bool NOT NULL,
        phase            text NOT NULL DEFAULT 'slot',
        holder           text,
        snapshot         text,
        lsn              text,
        slot_lsn         text,
        post_data        bytea,
        use_repl         bool NOT NULL,
        began_at         timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE flare.copy_lead (run uuid NOT NULL, alive_at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE flare.copy (
        job     int PRIMARY KEY,
        nspname text NOT NULL,
        relname text NOT NULL,
        range   text,
        columns text[] NOT NULL,
        format  text NOT NULL,
        size    bigint NOT NULL,
        lsn     text,
        rows    bigint,
        bytes   bigint,
        done_at timestamptz
    );
    CREATE TABLE flare.copy_piece (id text PRIMARY KEY)";

/// Whether a copy is on record in the session's database.
pub(super) fn exists(session: &Session) -> Result<bool> {
    session
        .value(
            // By the catalogs: a name needs USAGE on its schema.
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = 'flare' AND c.relname = 'copy_run' AND has_schema_privilege(n.oid, 'USAGE'))",
            params![],
        )
        .wrap_err("look for a copy on record")
}

/// The copy on record.
pub(super) fn read(session: &Session) -> Result<Option<Recorded>> {
    if !exists(session)? {
        return Ok(None);
    }
    session
        .first(
            "SELECT jsonb_build_object('subname', subname, 'publisher', publisher, 'slot_name', slot_name, 'created', created, 'phase', phase,
                      'holder', holder, 'snapshot', snapshot, 'lsn', lsn, 'slot_lsn', slot_lsn,
                      'has_post_data', post_data IS NOT NULL, 'use_repl', use_repl, 'began_at', began_at::text)
               FROM flare.copy_run",
            params![],
        )
        .wrap_err("read the copy on record")
}

/// Puts a new copy on record.
pub(super) fn begin(session: &Session, server: &Server, new: &Recorded, run: Uuid) -> Result<()> {
    // Who loads the schema need not be who writes the rows.
    let admin = Ident::new(&server.declared().superuser.user);
    session.batch(&format!(
        "BEGIN; {CREATE}; GRANT USAGE ON SCHEMA flare TO {admin}; GRANT SELECT, UPDATE, DELETE ON flare.copy_run TO {admin}"
    ))?;
    session.execute(
        "INSERT INTO flare.copy_run (subname, publisher, slot_name, created, use_repl) VALUES ($1, $2, $3, $4, $5)",
        params![new.subname.as_str(), new.publisher.as_str(), new.slot_name.as_str(), new.created, new.use_repl],
    )?;
    session.execute(
        "INSERT INTO flare.copy_lead (run) VALUES ($1)",
        params![run],
    )?;
    session.batch("COMMIT").wrap_err("put the copy on record")
}

/// A holder is about to be started: whoever goes on can end it by its name.
pub(super) fn expect_holder(session: &Session, holder: &str) -> Result<()> {
    session
        .execute(
            "UPDATE flare.copy_run SET holder = $1, snapshot = NULL, lsn = NULL",
            params![holder],
        )
        .map(drop)
        .wrap_err("put the holder of the snapshot on record")
}

/// It has taken the snapshot of the subscription's own slot.
pub(super) fn hold_first(session: &Session, held: &Held) -> Result<()> {
    hold_as(session, held, "$3")
}

/// It has taken a later one, of a slot that goes with it.
pub(super) fn hold_later(session: &Session, held: &Held) -> Result<()> {
    hold_as(session, held, "slot_lsn")
}

fn hold_as(session: &Session, held: &Held, slot_lsn: &str) -> Result<()> {
    session
        .execute(
            &format!("UPDATE flare.copy_run SET holder = $1, snapshot = $2, lsn = $3, slot_lsn = {slot_lsn}"),
            params![&held.holder, &held.snapshot, held.lsn.to_string()],
        )
        .map(drop)
        .wrap_err("put the snapshot on record")
}

/// What the load of the tables ends with, in its transaction. It fails where another copy is on record by now: the psql of
/// a flare that was killed may come late.
pub(super) fn tables_loaded(holder: &str) -> String {
    format!(
        "UPDATE flare.copy_run SET phase = CASE holder WHEN {} THEN 'rows' END;\n",
        Literal(holder)
    )
}

/// What the load of the rest begins with, where it is one transaction.
pub(super) const REST_LOADED: &str = "UPDATE flare.copy_run SET phase = 'done'";

/// So are the indexes and the rest.
pub(super) fn rest_done(session: &Session) -> Result<()> {
    session.batch(REST_LOADED)
}

/// Keeps what is to be loaded after the rows.
pub(super) fn keep_post_data(session: &Session, script: Vec<u8>) -> Result<()> {
    session
        .execute("UPDATE flare.copy_run SET post_data = $1", params![script])
        .map(drop)
        .wrap_err("put what follows the rows on record")
}

/// What is to be loaded after the rows.
pub(super) fn kept_post_data(session: &Session) -> Result<Vec<u8>> {
    session
        .value("SELECT post_data FROM flare.copy_run", params![])
        .wrap_err("read what follows the rows")
}

/// All rows are there.
pub(super) fn rows_done(session: &Session) -> Result<()> {
    session.batch("UPDATE flare.copy_run SET phase = 'post'")
}

/// Ids of the pieces that were made.
pub(super) fn pieces(session: &Session) -> Result<Vec<String>> {
    session
        .value("SELECT array(SELECT id FROM flare.copy_piece)", params![])
        .wrap_err("read what was made after the rows")
}

/// The statement that takes the copy off the record.
pub(super) const FORGET: &str =
    "DROP TABLE IF EXISTS flare.copy_piece, flare.copy, flare.copy_lead, flare.copy_run";

/// Takes the copy off the record; the schema goes with it when nothing else is in it.
pub(super) fn forget(session: &Session) -> Result<()> {
    session.batch(FORGET)?;
    let empty: bool = session.value(
        "SELECT EXISTS (SELECT FROM pg_namespace n WHERE nspname = 'flare'
                           AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid)
                           AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid))",
        params![],
    )?;
    if empty {
        session.batch("DROP SCHEMA flare")
    } else {
        Ok(())
    }
}
