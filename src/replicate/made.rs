//! What flare has granted and set, on record so that it can be taken back: `flare.made` in the `postgres` database of the
//! server where it was made.
//!
//! Whatever a command makes is found by looking before and after it: only what was not there before is on record, and
//! only what is as flare left it is taken back. A command that was killed has left what it saw before; the next one looks.

mod state;
mod undoing;

use serde::{Deserialize, Serialize};

pub(crate) use self::state::Made;
use self::state::{State, made_between};
use super::{Change, Mode, Plan, Run};
use crate::error::{Result, WrapErr, message_of};
use crate::server::{ActAs, Login, Server, is_denied, params};
use crate::value::Ident;

const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE IF NOT EXISTS flare.made (
        dboid oid PRIMARY KEY, record jsonb NOT NULL, changed_at timestamptz NOT NULL DEFAULT clock_timestamp())";

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'made')";

/// What is on record of one database.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    made: Vec<Made>,
    /// What a command that has not ended yet saw before it began.
    before: Option<State>,
}

impl Record {
    fn read(server: &Server, dbname: &str) -> Result<Record> {
        let admin = server.admin();
        if !admin.value::<bool>(EXISTS, params![])? {
            return Ok(Record::default());
        }
        let record: Option<Record> = admin
            .first(
                "SELECT m.record FROM flare.made m JOIN pg_database d ON d.oid = m.dboid WHERE d.datname = $1",
                params![dbname],
            )
            .wrap_err("read what flare has made, in table flare.made")?;
        Ok(record.unwrap_or_default())
    }

    /// Whether it could be written: an administrator who may create nothing in `postgres`, whose db_owner may neither,
    /// has no place for it.
    fn write(&self, server: &Server, dbname: &str) -> Result<bool> {
        let admin = server.admin();
        let there = admin.value::<bool>(EXISTS, params![])?;
        if self.made.is_empty() && self.before.is_none() {
            if there {
                forget(server, dbname)?;
            }
            return Ok(true);
        }
        if !there && !create(server)? {
            return Ok(false);
        }
        admin
            .execute(
                "INSERT INTO flare.made (dboid, record) SELECT oid, $2 FROM pg_database WHERE datname = $1
                 ON CONFLICT (dboid) DO UPDATE SET record = excluded.record, changed_at = clock_timestamp()",
                params![dbname, serde_json::json!(self)],
            )
            .wrap_err("record what flare makes, in table flare.made")?;
        Ok(true)
    }

    /// Adds what has come since `before`; what is on record already stays as it was first seen.
    fn add(&mut self, before: &State, now: &State) {
        for made in made_between(before, now) {
            if !self.made.iter().any(|known| known.is_of_the_same(&made)) {
                self.made.push(made);
            }
        }
    }
}

/// Makes the table, as the administrator or as the owner, for both; whether one of them may.
fn create(server: &Server) -> Result<bool> {
    let declared = server.declared();
    let (admin, owner) = (&declared.superuser.user, &declared.db_owner.user);
    match server.admin().batch(CREATE) {
        Err(report) if is_denied(&report) => {}
        created => return created.map(|()| true).wrap_err("create table flare.made"),
    }
    let for_admin = format!(
        "{CREATE}; GRANT USAGE ON SCHEMA flare TO {0}; GRANT SELECT, INSERT, UPDATE, DELETE ON flare.made TO {0}",
        Ident::new(admin)
    );
    let created = server
        .connect(Login::DbOwner, "postgres")
        .and_then(|session| session.batch(&for_admin));
    if let Err(report) = &created {
        log::info!("neither {admin:?} nor {owner:?} may create table flare.made: {report:#}");
    }
    Ok(created.is_ok())
}

/// Forgets a database, and those that are no more; the table goes with the last of them.
pub(crate) fn forget(server: &Server, dbname: &str) -> Result<()> {
    let admin = server.admin();
    if !admin.value::<bool>(EXISTS, params![])? {
        return Ok(());
    }
    admin.execute(
        "DELETE FROM flare.made WHERE dboid NOT IN (SELECT oid FROM pg_database WHERE datname <> $1)",
        params![dbname],
    )?;
    let empty: bool = admin.value("SELECT NOT EXISTS (SELECT FROM flare.made)", params![])?;
    if !empty {
        return Ok(());
    }
    match admin.batch("DROP TABLE flare.made") {
        Err(report) if is_denied(&report) => server
            .connect(Login::DbOwner, "postgres")?
            .batch("DROP TABLE flare.made"),
        dropped => dropped,
    }
}

/// Runs a command's changes of privileges, identities and settings, and puts on record what they made.
pub(super) fn recording(
    server: &Server,
    dbname: &str,
    run: &Run,
    act: impl FnOnce() -> Result<Change>,
) -> Result<Change> {
    if run.mode == Mode::DryRun {
        return act();
    }
    let session = server.connect(Login::Superuser, dbname)?;
    let roles = own_roles(server);
    let before = State::of(&session, &roles)?;
    let mut record = Record::read(server, dbname)?;
    if let Some(earlier) = record.before.take() {
        record.add(&earlier, &before);
    }
    record.before = Some(before.clone());
    if !record.write(server, dbname)? {
        let change = act()?;
        return Ok(if !change.changed {
            change
        } else {
            change.with_note(format!(
            "what was made is not on record, and cleanup will not take it back: GRANT CREATE ON DATABASE postgres TO {} on the {}",
            Ident::new(&server.declared().superuser.user),
            server.side()
        ))
        });
    }
    let done = act();
    let now = State::of(&session, &roles)?;
    record.add(&before, &now);
    record.before = None;
    record.write(server, dbname)?;
    done
}

/// Puts on record what is about to be done; whether there is a place for it.
pub(super) fn put_on_record(server: &Server, dbname: &str, made: Vec<Made>) -> Result<bool> {
    let mut record = Record::read(server, dbname)?;
    for made in made {
        record.made.retain(|known| !known.is_of_the_same(&made));
        record.made.push(made);
    }
    record.write(server, dbname)
}

fn own_roles(server: &Server) -> Vec<String> {
    let declared = server.declared();
    let repl = declared.repl.as_ref().map(|it| it.user.clone());
    let all = [
        declared.superuser.user.clone(),
        declared.db_owner.user.clone(),
    ];
    repl.into_iter().chain(all).collect()
}

/// What is on record of a server's database.
pub(crate) fn on_record(server: &Server, dbname: &str) -> Result<Vec<Made>> {
    let mut record = Record::read(server, dbname)?;
    if let Some(before) = record.before.take() {
        let session = server.connect(Login::Superuser, dbname)?;
        let now = State::of(&session, &own_roles(server))?;
        record.add(&before, &now);
    }
    Ok(record.made)
}

/// Takes back what is as flare left it; what no right is left for is named with its statement.
pub(crate) fn take_back(server: &Server, dbname: &str, made: &[Made], run: &Run) -> Result<Change> {
    let there = server.admin().value::<bool>(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datallowconn)",
        params![dbname],
    )?;
    if made.is_empty() || !there {
        return Ok(Change::none(run));
    }
    let session = server.connect(ActAs::Tables, dbname)?;
    let now = State::of(&session, &undoing::roles_of(made))?.with_constraints(&session, made)?;
    let mut plan = Plan::new(server.side(), dbname);
    for statement in undoing::undoing(dbname, made, &now) {
        plan.push(statement);
    }
    let mut failed = Vec::new();
    let change = plan.carry_out_by(run, |statements| {
        for statement in statements {
            let Err(report) = run.ddl.run(&session, std::slice::from_ref(statement)) else {
                continue;
            };
            let by_admin = run.ddl.run(
                &server.connect(Login::Superuser, dbname)?,
                std::slice::from_ref(statement),
            );
            if by_admin.is_err() {
                failed.push(format!(
                    "{} could not be done ({}): {}",
                    statement.what,
                    message_of(&report),
                    statement.shown
                ));
            }
        }
        Ok(())
    })?;
    Ok(failed.into_iter().fold(change, Change::with_note))
}

/// Takes back those things on record that `which` picks, and strikes them off.
pub(crate) fn take_back_some(
    server: &Server,
    dbname: &str,
    which: impl Fn(&Made) -> bool,
    run: &Run,
) -> Result<Change> {
    let (going, staying): (Vec<Made>, Vec<Made>) = on_record(server, dbname)?
        .into_iter()
        .partition(|it| which(it));
    let change = take_back(server, dbname, &going, run)?;
    if run.mode == Mode::Apply && !going.is_empty() {
        let record = Record {
            made: staying,
            before: None,
        };
        record.write(server, dbname)?;
    }
    Ok(change)
}
