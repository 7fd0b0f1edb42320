//! What has been verified, on record: `flare.verified` in the `postgres` database of the configuration's subscriber.
//!
//! A row for each table of the last run in each direction, and one without a name for the run itself. It lets a run that
//! was cut off go on, and says whether every table was found equal.

mod proof;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

pub use self::proof::LastVerification;
pub(crate) use self::proof::{Proof, listed};
pub(super) use self::proof::{Signatures, proof};
use super::pinned::Text;
use super::report::TableStatus;
use super::statement::Key;
use crate::error::{Result, WrapErr};
use crate::journal::{Direction, own_schema};
use crate::server::{Login, Pair, Server, Session, is_denied, params};
use crate::value::{Ident, TableName};

const CREATE: &str = concat!(
    "BEGIN; SET LOCAL synchronous_commit = local; ",
    own_schema!(),
    "
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
    COMMIT"
);

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'verified')";

/// Its commit waits for no standby: a comparison is worth nothing that a server lost could take away.
const INSERT: &str = "
    INSERT INTO flare.verified (publisher, subscriber, dbname, direction, schema, \"table\", run, subscription,
                                signature, bound, rows, candidates, status)
    SELECT $1, $2, $3, $4, $5, $6, $7::uuid, $8, $9, nullif($10::jsonb, 'null'), $11::bigint, $12::jsonb, $13
      FROM set_config('synchronous_commit', 'local', true)
    ON CONFLICT (publisher, subscriber, dbname, direction, schema, \"table\") DO UPDATE
       SET run = excluded.run, subscription = excluded.subscription, signature = excluded.signature,
           bound = excluded.bound, rows = excluded.rows, candidates = excluded.candidates,
           status = excluded.status, changed_at = clock_timestamp()";

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
        record.insert(&TableName::new("", ""), None, &Reached::default())?;
        Ok((record, None))
    }

    /// Writes how far a table of this signature has come.
    pub(super) fn write(
        &self,
        table: &TableName,
        signature: &str,
        reached: &Reached,
    ) -> Result<()> {
        self.insert(table, Some(signature), reached)
    }

    fn insert(&self, table: &TableName, signature: Option<&str>, reached: &Reached) -> Result<()> {
        let texts = |key: &Key| -> Vec<String> { key.iter().map(Text::shown).collect() };
        let bound = reached.bound.as_ref().map(|key| Value::from(texts(key)));
        let candidates: Vec<Vec<String>> = reached.candidates.iter().map(texts).collect();
        let mut values = self.whose.params();
        values.extend(params![
            table.schema.as_str(),
            table.table.as_str(),
            self.run,
            &self.subscription,
            signature.map(str::to_owned),
            bound.unwrap_or(Value::Null),
            reached.rows,
            serde_json::to_value(candidates).unwrap_or_default(),
            reached.status.map(|it| it.as_str().to_owned()),
        ]);
        self.session
            .execute(INSERT, values)
            .map(drop)
            .wrap_err("write how far it has come, in flare.verified")
    }

    /// The run has come to its end.
    pub(super) fn end(&self, status: TableStatus) -> Result<()> {
        let reached = Reached {
            status: Some(status),
            ..Reached::default()
        };
        self.insert(&TableName::new("", ""), None, &reached)
    }
}

/// How far a table has come.
#[derive(Default)]
pub(super) struct Reached {
    /// Behind this key nothing was compared yet.
    pub(super) bound: Option<Key>,
    pub(super) rows: i64,
    /// Keys of rows that were not found equal.
    pub(super) candidates: Vec<Key>,
    /// Of a table that is through.
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
    /// Whether the table was found equal, with the columns, key and types that this signature says.
    pub(super) fn found_equal(&self, signature: &str) -> bool {
        self.status == Some(TableStatus::Equal) && self.signature.as_deref() == Some(signature)
    }

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
        if empty {
            session.batch("DROP TABLE flare.verified")
        } else {
            Ok(())
        }
    };
    forgotten().wrap_err("forget what was verified, in table flare.verified")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn kept(table: &str, status: Option<TableStatus>) -> Kept {
        Kept {
            name: TableName::new("app", table),
            run: Uuid::nil(),
            subscription: "1".into(),
            signature: Some("s".into()),
            bound: Some(vec!["7".into()]),
            rows: 1,
            candidates: vec![vec!["3".into()]],
            status,
            changed_at: format!("2026-01-0{}", table.len()),
        }
    }

    #[test]
    fn a_table_whose_columns_have_changed_begins_anew() {
        let table = kept("a", None);
        let (bound, candidates) = table.goes_on("s", 1).unwrap();
        assert_eq!(
            (bound, candidates),
            (vec!["7".into()], vec![vec!["3".into()]])
        );
        assert!(table.goes_on("other", 1).is_none() && table.goes_on("s", 2).is_none());
        let equal = kept("a", Some(TableStatus::Equal));
        assert!(equal.found_equal("s") && !equal.found_equal("other"));
    }
}
