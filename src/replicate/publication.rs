//! The publication: which tables' changes are sent, and that each of them can be.

mod coverage;
mod decision;
mod membership;

use self::decision::{AllTables, Situation, Users, decide, status_table_to_be};
use super::{Change, Plan, Run, made, status_table};
use crate::catalog::publications::{self};
use crate::catalog::tables::{self, Table};
use crate::catalog::{slots, subscriptions};
use crate::config::{self, Config};
use crate::error::{Failure, Result};
use crate::journal;
use crate::server::{
    ActAs, Login, Publisher, Session, Side, Statement, Subscriber, is_lost, sqlstate_of,
};
use crate::value::Ident;

use postgres::error::SqlState;

/// What a publication that a subscription uses means to `drop_publication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// It stays.
    Refuse,
    /// It goes.
    DropAnyway,
}

/// Refuses names of the configuration that the database does not have.
pub(crate) fn check_names(
    publisher: &Publisher,
    dbname: &str,
    wanted: &config::Publication,
) -> Result<()> {
    let admin = publisher.visit(dbname)?;
    let db_owner = &publisher.declared().db_owner.user;
    let mut known = tables::all(&admin, db_owner)?;
    let status = status_table::table(publisher);
    known.push(status_table_to_be(
        status,
        db_owner,
        publisher.facts().superuser,
    ));
    coverage::names_exist(wanted, dbname, &known)
}

/// Creates the publication, or completes the one that is there; the status table and replica identities come first.
pub(crate) fn create(
    publisher: &Publisher,
    dbname: &str,
    wanted: &config::Publication,
    run: &Run,
) -> Result<Change> {
    let admin = publisher.visit(dbname)?;
    let (db_owner, user) = (
        &publisher.declared().db_owner.user,
        &publisher.declared().superuser.user,
    );
    let existing = publications::find(&admin, &wanted.pubname)?;
    let published = publications::tables(&admin, &wanted.pubname)?;
    let all_tables = match (&existing, &wanted.tables) {
        (None, None) if !wanted.listed && dbname != journal::DBNAME => may_publish_all(&admin)?,
        _ => AllTables::Denied,
    };
    let status = status_table::table(publisher);
    let decide = |tables: &[Table]| {
        let situation = Situation {
            dbname,
            major: publisher.major(),
            tables,
            existing: existing.as_ref(),
            published: &published,
            all_tables,
            superuser: publisher.facts().superuser,
            status: &status,
            users: Users {
                admin: user,
                db_owner,
            },
        };
        decide(wanted, &situation)
    };
    // All checks before the first change: the status table is decided on as if it were there.
    let mut known = tables::all(&admin, db_owner)?;
    if !known.iter().any(|table| table.name == status) {
        known.push(status_table_to_be(
            status.clone(),
            db_owner,
            publisher.facts().superuser,
        ));
    }
    let decision = decide(&known)?;
    let change = status_table::create(publisher, dbname, run)?;
    let identities = if decision.owners.is_empty() && decision.admins.is_empty() {
        Change::none(run)
    } else {
        made::recording(publisher, dbname, run, || {
            let by_owner = if decision.owners.is_empty() {
                Change::none(run)
            } else {
                let owner = publisher.visit_as(ActAs::Owner, dbname)?;
                decision.owners.carry_out(&owner, run)?
            };
            Ok(by_owner.and(decision.admins.carry_out(&admin, run)?))
        })?
    };
    let change = change.and(identities);
    let session = match decision.login {
        Login::Superuser => admin,
        login => publisher.visit_as(login, dbname)?,
    };
    let made = decision.publication.carry_out(&session, run);
    let made = made.map_err(|report| advise(report, dbname, &session.endpoint().user))?;
    Ok(change.and(made))
}

/// Tries FOR ALL TABLES in a transaction that is rolled back: a role's name or attributes do not tell on Amazon RDS.
fn may_publish_all(admin: &Session) -> Result<AllTables> {
    let tried = admin
        .batch("BEGIN; SET LOCAL lock_timeout = '2s'; CREATE PUBLICATION flare_try FOR ALL TABLES");
    if !tried.as_ref().is_err_and(is_lost) {
        admin.batch("ROLLBACK")?;
    }
    match tried {
        Ok(()) => Ok(AllTables::Permitted),
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            log::info!("publishing all tables is not permitted, so they are listed: {report:#}");
            Ok(AllTables::Denied)
        }
        Err(report) => Err(report.wrap_err("try to publish all tables")),
    }
}

fn advise(report: crate::error::Report, dbname: &str, user: &str) -> crate::error::Report {
    use crate::error::Advise;
    if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        Err::<(), _>(report)
            .hint(|| {
                format!(
                    "{user:?} needs CREATE on database {dbname:?} (flare grant_create) and has to own what it publishes"
                )
            })
            .unwrap_err()
    } else {
        report
    }
}

/// Drops the publication, unless a subscription uses it.
pub(crate) fn drop(
    publisher: &Publisher,
    subscriber: &Result<Subscriber>,
    config: &Config,
    dbname: &str,
    in_use: InUse,
    run: &Run,
) -> Result<Change> {
    let pubname = &config.publication(dbname)?.pubname;
    let admin = publisher.visit(dbname)?;
    let mut plan = Plan::new(Side::Publisher, dbname);
    let Some(existing) = publications::find(&admin, pubname)? else {
        plan.note(format!(
            "there is no publication {pubname:?} in database {dbname:?}"
        ));
        return plan.carry_out(&admin, run);
    };
    let users = users_of(&admin, subscriber, config, dbname, pubname)?;
    match (users.is_empty(), in_use) {
        (true, _) => {}
        (false, InUse::DropAnyway) => plan.note(format!("it was in use: {}", users.join("; "))),
        (false, InUse::Refuse) => {
            return Failure::new(format!(
                "drop publication {pubname:?}: it is in use: {}",
                users.join("; ")
            ))
            .hint("run flare drop_subscription first; --force drops the publication all the same, and the subscription stops at its next change")
            .err();
        }
    }
    if let Err(report) = subscriber {
        plan.note(format!(
            "the subscriber could not be asked whether it uses the publication: {report:#}"
        ));
    }
    plan.push(Statement::new(
        format!("drop publication {pubname:?}"),
        format!("DROP PUBLICATION {}", Ident::new(pubname)),
    ));
    let dropped = if existing.mine {
        plan.carry_out(&admin, run)?
    } else {
        plan.carry_out(&*publisher.visit_as(ActAs::Owner, dbname)?, run)?
    };
    // What was set so that the publication can send it.
    let of_identity = |it: &made::Made| matches!(it, made::Made::ReplicaIdentity { .. });
    Ok(dropped.and(made::take_back_some(publisher, dbname, of_identity, run)?))
}

/// Who uses it, in words.
fn users_of(
    admin: &Session,
    subscriber: &Result<Subscriber>,
    config: &Config,
    dbname: &str,
    pubname: &str,
) -> Result<Vec<String>> {
    let mut users = Vec::new();
    let slots = slots::of_database(admin, dbname)?;
    let declared: Vec<String> = config
        .subscriptions
        .iter()
        .filter(|(_, sub)| sub.dbname == dbname && sub.pubname == pubname)
        .map(|(subname, _)| slots::name_for(subname))
        .collect();
    let only_one = publications::count(admin)? == 1;
    for slot in slots.iter().filter(|slot| !slot.temporary) {
        let pgoutput = slot.plugin.as_deref() == Some("pgoutput");
        // Slots do not say which publications they send; an active one can send no other where there is no other.
        if declared.contains(&slot.slot_name) || (pgoutput && slot.active && only_one) {
            users.push(match slot.active_pid {
                Some(pid) => format!("slot {:?}, active, pid {pid}", slot.slot_name),
                None => format!("slot {:?}, inactive", slot.slot_name),
            });
        }
    }
    if let Ok(subscriber) = subscriber
        && status_table::has_database(subscriber, dbname)?
    {
        let session = subscriber.visit(dbname)?;
        let subscriptions = subscriptions::all(&session)?;
        let using = subscriptions
            .iter()
            .filter(|sub| sub.subpublications.iter().any(|name| name == pubname));
        users.extend(using.map(|sub| format!("subscription {:?} of the subscriber", sub.subname)));
    }
    Ok(users)
}
