//! What flare has granted and set, on record so that it can be taken back: `flare.made` in the `postgres` database of the
//! server where it was made.
//!
//! Whatever a command makes is found by looking before and after it: only what was not there before is on record, and
//! only what is as flare left it is taken back. A command that was killed has left what it saw before; the next one looks.

mod brought;
mod known;
mod state;
mod undoing;
mod unrecorded;
mod users;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::brought::Brought;
pub(crate) use self::brought::keep as keep_what_was_brought;
use self::known::Known;
pub(crate) use self::state::Made;
use self::state::{State, given_by_default, made_between};
pub(crate) use self::unrecorded::{brought, unrecorded};
pub(crate) use self::users::users_settings;
use super::{Change, Mode, Plan, Run};
use crate::error::{Result, WrapErr, message_of};
use crate::journal::own_schema;
use crate::server::{ActAs, Login, Server, is_denied, params};
use crate::value::Ident;

const CREATE: &str = concat!(
    own_schema!(),
    "
    CREATE TABLE IF NOT EXISTS flare.made (
        dboid oid PRIMARY KEY, record jsonb NOT NULL, changed_at timestamptz NOT NULL DEFAULT clock_timestamp())"
);

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'made')";

/// What is on record of one database.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    made: Vec<Made>,
    /// What roles held before flare gave them default privileges.
    #[serde(default)]
    held_before: Vec<Made>,
    /// What a command that has not ended yet saw before it began.
    before: Option<State>,
    /// What came from the other server with the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    brought: Option<Brought>,
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
        if self.is_empty() {
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
                "INSERT INTO flare.made (dboid, record) SELECT oid, $2::text::jsonb FROM pg_database WHERE datname = $1
                 ON CONFLICT (dboid) DO UPDATE SET record = excluded.record, changed_at = clock_timestamp()",
                params![dbname, serde_json::to_string(self).wrap_err("write what flare has made")?],
            )
            .wrap_err("record what flare makes, in table flare.made")?;
        Ok(true)
    }

    fn is_empty(&self) -> bool {
        self.made.is_empty() && self.before.is_none() && self.brought.is_none()
    }

    /// Adds what has come since `before`; what is on record already stays as it was first seen.
    fn add(&mut self, before: &State, now: &State) {
        let known = Known::of(&self.made);
        let mut come = made_between(before, now);
        come.retain(|it| known.find(it).is_none());
        let given = come.iter().filter_map(|it| match it {
            Made::DefaultPrivilege { to, .. } => Some(to.as_str()),
            _ => None,
        });
        let given: BTreeSet<&str> = given.collect();
        let known_before = Known::of(&self.held_before);
        let held_before = before.held.iter().filter(|it| {
            matches!(it, Made::Privilege { to, .. } if given.contains(to.as_str()))
                && known.find(it).is_none()
                && known_before.find(it).is_none()
        });
        let held_before: Vec<Made> = held_before.cloned().collect();
        self.held_before.extend(held_before);
        self.made.extend(come);
    }

    /// With what the schema has brought from the publisher, under the names of now: all that a dump calls ALL was given
    /// here, where the subscriber knows more privileges.
    pub(crate) fn with_those_of(mut self, publisher: &Record, majors: [i32; 2]) -> Record {
        let without_oid = |it: &Made| match it.clone() {
            Made::Privilege {
                on, privilege, to, ..
            } => Made::Privilege {
                on,
                oid: None,
                privilege,
                to,
            },
            Made::ReplicaIdentity { table, was, is, .. } => Made::ReplicaIdentity {
                table,
                oid: None,
                was,
                is,
            },
            other => other,
        };
        let mut brought: Vec<Made> = publisher.made.iter().map(without_oid).collect();
        let [of_publisher, of_subscriber] = majors;
        if of_publisher < MAINTAIN_SINCE && of_subscriber >= MAINTAIN_SINCE {
            let maintain: BTreeSet<Made> = brought.iter().filter_map(maintain_beside).collect();
            brought.extend(maintain);
        }
        let known = Known::of(&self.made);
        brought.retain(|it| known.find(it).is_none());
        self.made.extend(brought);
        // What was held on the subscriber then had come with the schema.
        self.held_before = publisher.held_before.iter().map(without_oid).collect();
        self
    }
}

/// The first version with MAINTAIN, which GRANT ALL on a table gives.
const MAINTAIN_SINCE: i32 = 17;

/// What a dump from before it gives beside a privilege on a table.
fn maintain_beside(it: &Made) -> Option<Made> {
    let privilege = || "MAINTAIN".to_owned();
    match it {
        Made::Privilege { on, to, .. } if on.starts_with("TABLE ") => Some(Made::Privilege {
            on: on.clone(),
            oid: None,
            privilege: privilege(),
            to: to.clone(),
        }),
        Made::DefaultPrivilege {
            role,
            schema,
            on,
            to,
            ..
        } if on == "TABLES" => Some(Made::DefaultPrivilege {
            role: role.clone(),
            schema: schema.clone(),
            on: on.clone(),
            privilege: privilege(),
            to: to.clone(),
        }),
        _ => None,
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
        .visit_as(Login::DbOwner, "postgres")
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
            .visit_as(Login::DbOwner, "postgres")?
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
    let session = server.visit(dbname)?;
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
pub(crate) fn put_on_record(server: &Server, dbname: &str, made: Vec<Made>) -> Result<bool> {
    let mut record = Record::read(server, dbname)?;
    let about = Known::of(&made);
    record.made.retain(|known| about.find(known).is_none());
    record.made.extend(made.iter().cloned());
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

/// What is on record of a server's database, under the names of now, with what default privileges of flare's have given since.
pub(crate) fn on_record(server: &Server, dbname: &str) -> Result<Record> {
    let mut record = Record::read(server, dbname)?;
    if record.is_empty() || !is_there(server, dbname)? {
        return Ok(record);
    }
    let session = server.visit(dbname)?;
    if let Some(before) = record.before.take() {
        let now = State::of(&session, &own_roles(server))?;
        record.add(&before, &now);
    }
    let now = State::of(&session, &undoing::roles_of(&record.made))?;
    now.rename(&mut record.made);
    now.rename(&mut record.held_before);
    if let Some(brought) = &mut record.brought {
        let now = State::of(&session, &undoing::roles_of(&brought.made))?;
        now.rename(&mut brought.made);
        now.rename(&mut brought.held_before);
    }
    Ok(record)
}

fn is_there(server: &Server, dbname: &str) -> Result<bool> {
    server.admin().value(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datallowconn)",
        params![dbname],
    )
}

/// Takes back what is as flare left it; what no right is left for is named with its statement.
pub(crate) fn take_back(
    server: &Server,
    dbname: &str,
    record: &Record,
    run: &Run,
) -> Result<Change> {
    if record.made.is_empty() || !is_there(server, dbname)? {
        return Ok(Change::none(run));
    }
    let session = server.visit_as(ActAs::Tables, dbname)?;
    let mut made = record.made.clone();
    let held_before = Known::of(&record.held_before);
    let mut given = given_by_default(&session, &made)?;
    given.retain(|it| held_before.find(it).is_none());
    made.extend(given);
    let now = State::of(&session, &undoing::roles_of(&made))?.with_constraints(&session, &made)?;
    let mut plan = Plan::new(server.side(), dbname);
    for statement in undoing::undoing(dbname, &made, &now) {
        plan.push(statement);
    }
    let mut failed = Vec::new();
    let change = plan.carry_out_by(run, |statements| {
        for statement in statements {
            let Err(report) = run.ddl.run(&session, std::slice::from_ref(statement)) else {
                continue;
            };
            let by_admin = run
                .ddl
                .run(&*server.visit(dbname)?, std::slice::from_ref(statement));
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
    let Record {
        made,
        held_before,
        brought,
        ..
    } = on_record(server, dbname)?;
    let (going, made): (Vec<Made>, Vec<Made>) = made.into_iter().partition(|it| which(it));
    let going = Record {
        made: going,
        ..Record::default()
    };
    let change = take_back(server, dbname, &going, run)?;
    if run.mode == Mode::Apply && !going.made.is_empty() {
        let staying = Record {
            made,
            held_before,
            before: None,
            brought,
        };
        staying.write(server, dbname)?;
    }
    Ok(change)
}
