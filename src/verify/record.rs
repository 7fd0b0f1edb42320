//! What has been verified, on record: `flare.verified` in the `postgres` database of the configuration's subscriber.
//!
//! A row for each table of the last run in each direction, and one without a name for the run itself. It lets a run that
//! was cut off go on, and says whether every table was found equal.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::pinned::Text;
use super::report::TableStatus;
use super::statement::Key;
use crate::error::{Result, WrapErr};
use crate::journal::Direction;
use crate::server::{Login, Pair, Server, Session, is_denied, params};
use crate::value::{Ident, TableName};

const CREATE: &str = "
    BEGIN;
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE IF NOT EXISTS flare.verified (
        publisher    text NOT NULL,
        subscriber   text NOT NULL,
        dbname       text NOT NULL,
        direction    text NOT NULL,
        schema       text NOT NULL,
        \"table\"    text NOT NULL,
        run          uuid NOT NULL,
        subscription text NOT NULL,
        signature    text,
        bound        jsonb,
        rows         bigint NOT NULL DEFAULT 0,
        candidates   jsonb NOT NULL DEFAULT '[]',
        status       text,
        changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (publisher, subscriber, dbname, direction, schema, \"table\")
    );
    COMMIT";

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'verified')";

/// The rows of one database in one direction.
const OF_IT: &str = "publisher = $1 AND subscriber = $2 AND dbname = $3 AND direction = $4";

/// Where a run is kept.
pub(super) struct Record<'a> {
    session: &'a Session,
    whose: Whose,
    pub(super) run: Uuid,
    /// The oid of the subscription: another one carries other rows.
    subscription: String,
}

/// Which migration, and which way.
#[derive(Clone, Debug)]
struct Whose {
    publisher: String,
    subscriber: String,
    dbname: String,
    direction: Direction,
}

/// A table as it is on record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    pub(super) name: TableName,
    run: Uuid,
    subscription: String,
    signature: Option<String>,
    bound: Option<Vec<String>>,
    pub(super) rows: i64,
    candidates: Vec<Vec<String>>,
    pub(super) status: Option<TableStatus>,
    pub(super) changed_at: String,
}

impl Whose {
    fn of(configured: &Pair, dbname: &str, direction: Direction) -> Whose {
        Whose {
            publisher: configured.publisher.identifier().to_string(),
            subscriber: configured.subscriber.identifier().to_string(),
            dbname: dbname.to_owned(),
            direction,
        }
    }

    fn params(&self) -> Vec<crate::server::Param> {
        params![
            &self.publisher,
            &self.subscriber,
            &self.dbname,
            self.direction.as_str()
        ]
    }
}

/// What is on record of a database in one direction; nothing where there is no record.
fn read(session: &Session, whose: &Whose) -> Result<Vec<Kept>> {
    if !session.value::<bool>(EXISTS, params![])? {
        return Ok(Vec::new());
    }
    session
        .list(
            &format!(
                "SELECT to_jsonb(v) || jsonb_build_object('changed_at', to_char(v.changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))
                   FROM flare.verified v WHERE {OF_IT} ORDER BY schema, \"table\""
            ),
            whose.params(),
        )
        .wrap_err("read what was verified, in flare.verified")
}

impl<'a> Record<'a> {
    /// Begins a run on record, or goes on with the one that was cut off: then what it has found so far comes with it.
    pub(super) fn begin(
        configured: &'a Pair,
        dbname: &str,
        direction: Direction,
        subscription: &str,
        resume: Resume,
    ) -> Result<(Record<'a>, Option<Vec<Kept>>)> {
        let server = &configured.subscriber;
        create(server)?;
        let mut record = Record {
            session: server.admin(),
            whose: Whose::of(configured, dbname, direction),
            run: Uuid::new_v4(),
            subscription: subscription.to_owned(),
        };
        if resume == Resume::LastRun {
            let kept = read(record.session, &record.whose)?;
            let cut_off = kept
                .iter()
                .find(|it| is_run(it) && it.status.is_none() && it.subscription == subscription);
            if let Some(run) = cut_off.map(|it| it.run) {
                record.run = run;
                let of_run = kept.into_iter().filter(|it| it.run == run && !is_run(it));
                return Ok((record, Some(of_run.collect())));
            }
        }
        record.write(&TableName::new("", ""), &Row::default())?;
        Ok((record, None))
    }

    /// Writes how far a table has come.
    pub(super) fn write(&self, table: &TableName, row: &Row<'_>) -> Result<()> {
        let texts = |key: &Key| -> Vec<String> { key.iter().map(Text::shown).collect() };
        let bound = row.bound.map(|key| Value::from(texts(key)));
        let candidates: Vec<Vec<String>> = row.candidates.iter().map(texts).collect();
        let mut values = self.whose.params();
        values.extend(params![
            table.schema.as_str(),
            table.table.as_str(),
            self.run,
            &self.subscription,
            row.signature.map(str::to_owned),
            bound.unwrap_or(Value::Null),
            row.rows,
            serde_json::to_value(candidates).unwrap_or_default(),
            row.status.map(|it| it.as_str().to_owned()),
        ]);
        self.session
            .execute(
                "INSERT INTO flare.verified (publisher, subscriber, dbname, direction, schema, \"table\", run, subscription,
                                             signature, bound, rows, candidates, status)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, nullif($10, 'null'::jsonb), $11, $12, $13)
                 ON CONFLICT (publisher, subscriber, dbname, direction, schema, \"table\") DO UPDATE
                    SET run = excluded.run, subscription = excluded.subscription, signature = excluded.signature,
                        bound = excluded.bound, rows = excluded.rows, candidates = excluded.candidates,
                        status = excluded.status, changed_at = clock_timestamp()",
                values,
            )
            .map(drop)
            .wrap_err("write how far it has come, in flare.verified")
    }

    /// The run has come to its end.
    pub(super) fn end(&self, status: TableStatus) -> Result<()> {
        let row = Row {
            status: Some(status),
            ..Row::default()
        };
        self.write(&TableName::new("", ""), &row)
    }
}

/// What is written of a table.
#[derive(Default)]
pub(super) struct Row<'r> {
    pub(super) signature: Option<&'r str>,
    pub(super) bound: Option<&'r Key>,
    pub(super) rows: i64,
    pub(super) candidates: Vec<Key>,
    pub(super) status: Option<TableStatus>,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// With all tables.
    #[default]
    Anew,
    /// Where the last run was cut off, if it was.
    LastRun,
}

fn is_run(kept: &Kept) -> bool {
    kept.name == TableName::new("", "")
}

impl Kept {
    /// Where a table of this signature goes on: the bound behind which nothing was compared, and keys to look at again.
    pub(super) fn goes_on(&self, signature: &str, key_columns: usize) -> Option<(Key, Vec<Key>)> {
        let key = |texts: &Vec<String>| -> Key {
            texts.iter().map(|it| Text::from(it.as_str())).collect()
        };
        let bound = self.bound.as_ref().filter(|it| it.len() == key_columns)?;
        let fits = self.signature.as_deref() == Some(signature);
        fits.then(|| (key(bound), self.candidates.iter().map(key).collect()))
    }
}

/// Makes sure the table is there, and that the accounts of both the administrator and the owner may use it.
fn create(server: &Server) -> Result<()> {
    let admin = server.admin();
    if admin.value::<bool>(EXISTS, params![])? {
        return Ok(());
    }
    let try_create = |session: &Session| {
        session.batch(CREATE).inspect_err(|_| {
            if let Err(report) = session.batch("ROLLBACK") {
                log::debug!("roll back: {report:#}");
            }
        })
    };
    let what = || "create the record of verifications, table flare.verified".to_owned();
    match try_create(admin) {
        Err(report) if is_denied(&report) => {
            let owner = server.connect(Login::DbOwner, "postgres")?;
            try_create(&owner).wrap_err_with(what)?;
            let account = Ident::new(&server.declared().superuser.user);
            owner
                .batch(&format!(
                    "GRANT USAGE ON SCHEMA flare TO {account}; GRANT SELECT, INSERT, UPDATE, DELETE ON flare.verified TO {account}"
                ))
                .wrap_err_with(what)
        }
        created => created.wrap_err_with(what),
    }
}

/// Whether every table of a database was found equal, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// What is missing of that, table by table.
    pub(crate) missing: Vec<String>,
    /// When the last table was verified, in UTC.
    pub(crate) last: Option<String>,
}

/// When the rows of a database were last compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastVerification {
    /// The database.
    pub dbname: String,
    /// When, in UTC; none: never since this subscription was made.
    pub finished_at: Option<String>,
    /// Whether every published table was found equal.
    pub equal: bool,
    /// The tables that were not, each with what is known of it.
    pub missing: Vec<String>,
}

impl fmt::Display for LastVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dbname = &self.dbname;
        match (&self.finished_at, self.equal) {
            (None, _) => write!(
                f,
                "{dbname:?}: its rows were never compared (flare verify_data)"
            ),
            (Some(at), true) => write!(f, "{dbname:?}: every row was last found equal at {at}"),
            (Some(at), false) => write!(
                f,
                "{dbname:?}: its rows were last compared at {at}; not known to be equal: {}",
                listed(&self.missing)
            ),
        }
    }
}

/// The first of them.
pub(crate) fn listed(missing: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = missing
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match missing.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// What is on record about these tables, as this subscription carries them. `configured` is the configuration's pair.
pub(super) fn proof(
    configured: &Pair,
    dbname: &str,
    direction: Direction,
    subscription: &str,
    tables: &[TableName],
) -> Result<Proof> {
    let whose = Whose::of(configured, dbname, direction);
    let kept = read(configured.subscriber.admin(), &whose)?;
    Ok(judge(&kept, subscription, tables))
}

fn judge(kept: &[Kept], subscription: &str, tables: &[TableName]) -> Proof {
    let mut proof = Proof::default();
    for name in tables {
        let found = kept
            .iter()
            .find(|it| it.name == *name && it.subscription == subscription);
        let lacks = match found.map(|it| it.status) {
            Some(Some(TableStatus::Equal)) => None,
            Some(Some(status)) => Some(status.as_str()),
            Some(None) => Some("not verified to its end"),
            None => Some("not verified"),
        };
        proof
            .missing
            .extend(lacks.map(|it| format!("{} ({it})", name.plain())));
        let when = found
            .filter(|it| it.status.is_some())
            .map(|it| it.changed_at.clone());
        proof.last = proof.last.take().max(when);
    }
    proof
}

/// Forgets a database; the table goes with the last of them.
pub(crate) fn forget(
    session: &Session,
    publisher: u64,
    subscriber: u64,
    dbname: &str,
) -> Result<()> {
    if !session.value::<bool>(EXISTS, params![])? {
        return Ok(());
    }
    let forgotten = || -> Result<()> {
        session.execute(
            "DELETE FROM flare.verified WHERE publisher = $1 AND subscriber = $2 AND dbname = $3",
            params![publisher.to_string(), subscriber.to_string(), dbname],
        )?;
        let empty: bool = session.value(
            "SELECT NOT EXISTS (SELECT FROM flare.verified) AND pg_has_role(c.relowner, 'USAGE')
               FROM pg_class c WHERE c.oid = 'flare.verified'::regclass",
            params![],
        )?;
        match empty {
            true => session.batch("DROP TABLE flare.verified"),
            false => Ok(()),
        }
    };
    forgotten().wrap_err("forget what was verified, in table flare.verified")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(table: &str, subscription: &str, status: Option<TableStatus>) -> Kept {
        Kept {
            name: TableName::new("app", table),
            run: Uuid::nil(),
            subscription: subscription.into(),
            signature: Some("s".into()),
            bound: Some(vec!["7".into()]),
            rows: 1,
            candidates: vec![vec!["3".into()]],
            status,
            changed_at: format!("2026-01-0{}", table.len()),
        }
    }

    #[test]
    fn every_table_must_have_been_found_equal_in_this_subscription() {
        let all = ["a", "bb", "ccc", "dddd", "eeeee"].map(|it| TableName::new("app", it));
        let record = [
            kept("a", "1", Some(TableStatus::Equal)),
            kept("bb", "1", Some(TableStatus::Undecided)),
            kept("ccc", "1", None),
            kept("dddd", "9", Some(TableStatus::Equal)),
        ];
        let proof = judge(&record, "1", &all);
        assert_eq!(
            proof.missing,
            [
                "app.bb (undecided)",
                "app.ccc (not verified to its end)",
                "app.dddd (not verified)",
                "app.eeeee (not verified)"
            ]
        );
        assert_eq!(proof.last.as_deref(), Some("2026-01-02"));
        assert!(judge(&record, "1", &all[..1]).missing.is_empty());
    }

    #[test]
    fn a_table_whose_columns_have_changed_begins_anew() {
        let table = kept("a", "1", None);
        let (bound, candidates) = table.goes_on("s", 1).unwrap();
        assert_eq!(
            (bound, candidates),
            (vec!["7".into()], vec![vec!["3".into()]])
        );
        assert!(table.goes_on("other", 1).is_none() && table.goes_on("s", 2).is_none());
    }
}
