//! The publisher's schema, loaded into a throwaway database of the subscriber: both then speak one version's language, so
//! that nothing differs by spelling alone.

use std::fs::File;
use std::io::{BufReader, Write};

use serde::Deserialize;

use super::{Script, Work};
use crate::catalog::databases::{self, Database};
use crate::config::Tools;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::replicate::database::{self, Owner};
use crate::replicate::drift::own_roles;
use crate::replicate::load::load;
use crate::replicate::{Change, Plan, Run};
use crate::schema::drift::{self, Drift};
use crate::schema::{Difference, DumpReport, Spelling, compare};
use crate::server::{Login, Pair, Server, Session, Subscriber, Timeout, params};
use crate::tools::{Toolbox, WRITING, written};
use crate::value::{Ident, Literal};

/// What both databases differ in: by the catalogs, with the statements that mend it, and by what else pg_dump prints.
#[derive(Debug)]
pub(crate) struct Shadowed {
    pub(crate) drift: Vec<Drift>,
    pub(crate) printed: Vec<Difference>,
}

const PREFIX: &str = "flare_verify_";
const COMMENT: &str = "flare verify_schema compares with this and drops it again";

/// Compares the subscriber's database with a copy of the publisher's schema beside it, which is dropped again.
pub(crate) fn compare_in_shadow(
    pair: &Pair,
    tools: &Tools,
    dbname: &str,
    run: &Run,
) -> Result<Shadowed> {
    let subscriber = &pair.subscriber;
    for dbname in left_overs(subscriber)? {
        drop_database(subscriber, &dbname)?;
    }
    let target = databases::database(subscriber.admin(), dbname)?.ok_or_else(|| {
        Failure::new(format!("the subscriber has no database {dbname:?}"))
            .hint(format!("flare replicate_schema {dbname}"))
    })?;
    let work = Work::read(pair, tools, dbname, Login::Superuser)?;
    // The same that reads the shadow: found before anything is made.
    let reader = work.toolbox(subscriber.release())?;
    let script = work.script(["public".to_owned()].into(), false)?;
    let shadow = Database {
        datname: format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()),
        ..target
    };
    create(subscriber, &shadow)?;
    run.progress.step(&format!(
        "comparing with the schema of {dbname:?} in a throwaway database"
    ));
    let compared = work.compare_with(&shadow.datname, &script, &reader);
    let dropped = drop_database(subscriber, &shadow.datname);
    let compared = compared?;
    dropped?;
    Ok(compared)
}

/// Whoever makes it owns it: its owner is never compared.
fn create(subscriber: &Subscriber, shadow: &Database) -> Result<()> {
    let dbname = Ident::new(&shadow.datname);
    let session = subscriber
        .connect(Login::Superuser, "postgres")?
        .with_timeout(Timeout::WhileServerAnswers);
    let statement = database::create_statement(shadow, subscriber.major(), Owner::Creator)?;
    session
        .batch(&statement)
        .and_then(|()| {
            session.batch(&format!(
                "COMMENT ON DATABASE {dbname} IS {}",
                Literal(COMMENT)
            ))
        })
        .wrap_err("create a throwaway database")
}

fn drop_database(subscriber: &Subscriber, dbname: &str) -> Result<()> {
    let _shield = crate::server::interrupt::Shield::raise();
    // A session that has just said goodbye may still be there.
    let session = subscriber
        .connect(Login::Superuser, "postgres")?
        .with_timeout(Timeout::WhileServerAnswers);
    let dropped = session
        .value::<i64>(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE datname = $1 AND usename = current_user AND pid <> pg_backend_pid()",
            params![dbname],
        )
        .and_then(|_| session.batch(&format!("DROP DATABASE {}", Ident::from(dbname))));
    dropped
        .wrap_err("drop the throwaway database")
        .hint(|| format!("DROP DATABASE {} on the subscriber", Ident::from(dbname)))
}

/// Throwaway databases that a killed run has left, with its comment or killed before that.
fn left_overs(subscriber: &Subscriber) -> Result<Vec<String>> {
    subscriber
        .admin()
        .value(
            "SELECT array(SELECT d.datname::text FROM pg_database d
                           WHERE d.datname ~ ('^' || $1 || '[0-9a-f]{32}$')
                             AND coalesce(shobj_description(d.oid, 'pg_database'), $2) = $2
                             AND pg_has_role(d.datdba, 'USAGE')
                             AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid))",
            params![PREFIX, COMMENT],
        )
        .wrap_err("look for throwaway databases")
}

/// Drops throwaway databases that a killed run has left.
pub(crate) fn drop_left_overs(subscriber: &Subscriber, run: &Run) -> Result<Change> {
    let left = left_overs(subscriber)?;
    let mut plan = Plan::new(subscriber.side(), "postgres");
    for dbname in &left {
        plan.step(
            format!("drop the throwaway database {dbname:?} of a comparison that was killed"),
            format!("DROP DATABASE {}", Ident::from(dbname.as_str())),
        );
    }
    plan.carry_out_by(run, |_| {
        left.iter()
            .try_for_each(|dbname| drop_database(subscriber, dbname))
    })
}

/// A function of flare's own on the publisher, which triggers in the dump call.
#[derive(Deserialize)]
struct Called {
    name: String,
    returns: String,
}

impl Work<'_> {
    fn compare_with(&self, shadow: &str, script: &Script, reader: &Toolbox) -> Result<Shadowed> {
        let subscriber = &self.pair.subscriber;
        let (file, _) = written(|output| {
            output
                .write_all(self.stubs()?.as_bytes())
                .wrap_err(WRITING)?;
            Ok(DumpReport::default())
        })?;
        load(&script.toolbox, subscriber, Login::Superuser, shadow, &file)?;
        load(
            &script.toolbox,
            subscriber,
            Login::Superuser,
            shadow,
            &script.file,
        )
        .wrap_err("load the publisher's schema into the throwaway database")?;
        let here = subscriber.connect(Login::Superuser, shadow)?;
        let there = subscriber.connect(Login::Superuser, self.dbname)?;
        let mut drift = drift::compare(&here, &there, &own_roles(self.pair))
            .wrap_err("compare the catalogs of the two databases")?;
        let multiranges = self.spelling() != Spelling::AcrossFourteen;
        drift.retain(|it| {
            !it.is_of_grants_on_database() && !it.is_in_no_dump() && !it.kind.is_beside_schemas()
        });
        drift.retain(|it| multiranges || !it.is_of_multirange_name());
        drop((here, there));
        let beside = Work {
            dbname: shadow,
            args: self.args.clone(),
            without_object: self.without_object.clone(),
            notes: Vec::new(),
            roles: self.roles.clone(),
            source: self.source.clone(),
            ..*self
        };
        let ours = beside.dump_of(reader, subscriber)?;
        let theirs = self.dump_of(reader, subscriber)?;
        let printed = compare(
            BufReader::new(ours),
            BufReader::new(theirs),
            // One server prints both, but what was loaded lacks what its own server never says, as 18's names of NOT NULL.
            self.spelling(),
        )
        .wrap_err("compare the dumps of the two databases")?;
        Ok(Shadowed {
            drift,
            printed: self.not_of_flare(printed),
        })
    }

    fn dump_of(&self, toolbox: &Toolbox, server: &Server) -> Result<File> {
        Ok(self.canonical(self.dump(toolbox, server, &[])?)?.0)
    }

    /// What triggers of flare's own call: a dump leaves their schema out.
    fn stubs(&self) -> Result<String> {
        let session: Session = self.pair.publisher.connect(self.login, self.dbname)?;
        let called: Vec<Called> = session
            .list(
                "SELECT jsonb_build_object('name', quote_ident(p.proname), 'returns', p.prorettype::regtype)
                   FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                  WHERE n.nspname = 'flare' AND p.pronargs = 0
                    AND p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)",
                params![],
            )
            .wrap_err("read flare's own functions")?;
        let mut stubs = "CREATE SCHEMA flare;\n".to_owned();
        for Called { name, returns } in called {
            stubs.push_str(&format!(
                "CREATE FUNCTION flare.{name}() RETURNS {returns} LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''never called''; END';\n"
            ));
        }
        Ok(stubs)
    }
}
