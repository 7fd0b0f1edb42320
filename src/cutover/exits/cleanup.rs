//! The end of a migration: what flare has put in place goes, on both sides; tables and rows of the user never.

use std::collections::BTreeSet;

use crate::catalog::privileges::DatabasePrivileges;
use crate::catalog::{publications, slots, tables};
use crate::config::Config;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::open::restore_now;
use crate::cutover::pause::revoke::revoke_now;
use crate::cutover::sessions::as_database_owner;
use crate::cutover::state::Wanted;
use crate::ddl;
use crate::error::{Failure, Report, Result, WrapErr, message_of};
use crate::journal::{self, Direction, Stream};
use crate::replicate::{Change, Mode, Plan, Run, closed, made, schema, status_table, unsubscribe};
use crate::server::{ActAs, Login, Pair, Publisher, Server, Session, Subscriber, Timeout, params};
use crate::value::{Ident, Literal};
use crate::verify;

/// Removes it, or in a dry run lists it. `pair` is the configuration's; `direction` is that of the data.
pub(crate) fn cleanup(
    pair: &Pair,
    config: &Config,
    wanted: &Wanted,
    direction: Direction,
    run: &Run,
) -> Result<Change> {
    let dbname = wanted.dbname.as_str();
    let mut change = Change::none(run);
    for way in [Direction::Forward, Direction::Back] {
        let stream = Stream::of(dbname, &wanted.subname, &wanted.pubname, way);
        let pair = match way {
            Direction::Forward => pair.clone(),
            Direction::Back => pair.reversed(),
        };
        unsubscribe::refuse_strangers(&pair.subscriber, &pair.publisher, &stream.subname, dbname)?;
    }
    for way in [Direction::Forward, Direction::Back] {
        let pair = match way {
            Direction::Forward => pair.clone(),
            Direction::Back => pair.reversed(),
        };
        let stream = Stream::of(dbname, &wanted.subname, &wanted.pubname, way);
        let publisher = Ok(pair.publisher.clone());
        let how = (unsubscribe::OldSlot::Drop, unsubscribe::Unreachable::Detach);
        let ended = unsubscribe::drop(
            &pair.subscriber,
            &publisher,
            &stream.subname,
            dbname,
            how,
            run,
        )?;
        change = change
            .and(without_notes(ended))
            .and(unpublish(&pair.publisher, &stream, run)?);
    }
    let (written, left): (&Server, &Server) = match direction {
        Direction::Forward => (&pair.publisher, &pair.subscriber),
        Direction::Back => (&pair.subscriber, &pair.publisher),
    };
    // Given up before the subscriber had the database, it has to be taken back on the publisher all the same.
    let in_left = if status_table::has_database(left, dbname)? {
        Some(left.connect(ActAs::Tables, dbname)?)
    } else {
        None
    };
    for server in [written, left] {
        change = change.and(drop_status_table(server, dbname, run)?);
    }
    change = change
        .and(take_back(pair, dbname, run)?)
        .and(schema::drop_left_overs(&pair.subscriber, run)?);
    if let (Some(in_left), Direction::Back) = (&in_left, direction) {
        // Before it opens, so that no client that was forgotten writes there.
        change = change.and(shut_for_good(left, in_left, dbname, run)?);
    }
    change = change.and(closed::open(written, dbname, run)?);
    if let Some(in_left) = &in_left {
        change = change.and(closed::open_by(left, in_left, dbname, run)?);
    }
    if direction == Direction::Forward {
        // Never cut over, or fallen back: whoever drops the subscription may write there.
        change = change.and(open_shut(left, dbname, run)?);
    }
    for server in [left, written] {
        change = change.and(forget(server, config, dbname, run)?);
    }
    Ok(change)
}

/// What was granted and set. The schema has brought the publisher's to the subscriber as well.
fn take_back(pair: &Pair, dbname: &str, run: &Run) -> Result<Change> {
    let on_publisher = made::on_record(&pair.publisher, dbname)?;
    let majors = [pair.publisher.major(), pair.subscriber.major()];
    let on_subscriber =
        made::on_record(&pair.subscriber, dbname)?.with_those_of(&on_publisher, majors);
    let change = made::take_back(&pair.publisher, dbname, &on_publisher, run)?.and(
        made::take_back(&pair.subscriber, dbname, &on_subscriber, run)?,
    );
    let servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    let notes = servers.map(|server| made::unrecorded(server, dbname));
    notes.into_iter().try_fold(change, |change, note| {
        Ok(match note? {
            Some(note) => change.with_note(note),
            None => change,
        })
    })
}

/// The same after a cutover, when the publisher that was left does not answer: what is on the subscriber goes, above all
/// the slot of the way back, which would retain WAL for nobody.
pub(crate) fn cleanup_without_publisher(
    subscriber: &Subscriber,
    config: &Config,
    wanted: &Wanted,
    dead: &Report,
    run: &Run,
) -> Result<Change> {
    let dbname = wanted.dbname.as_str();
    let back = Stream::of(dbname, &wanted.subname, &wanted.pubname, Direction::Back);
    let sender = subscriber.as_publisher();
    let slot = slots::find(sender.admin(), &slots::name_for(&back.subname))?
        .filter(|slot| slot.database.as_deref() == Some(dbname));
    if slot.as_ref().is_some_and(|slot| slot.active) {
        return Failure::new(message_of(dead))
            .hint("the publisher runs, and follows the subscriber: reach it from here, too, and run the command again")
            .err();
    }
    let idle: Vec<_> = slot.into_iter().collect();
    let unrecorded = made::unrecorded(subscriber, dbname)?;
    let record = made::on_record(subscriber, dbname)?;
    let is_known = record.knows_what_was_brought();
    let change = unsubscribe::drop_slots(&sender, dbname, &idle, run)?
        .and(unpublish(&sender, &back, run)?)
        .and(drop_status_table(subscriber, dbname, run)?)
        .and(made::take_back(
            subscriber,
            dbname,
            &record.with_brought(),
            run,
        )?)
        .and(forget(subscriber, config, dbname, run)?);
    let note = match unrecorded {
        Some(note) => Some(note),
        None if is_known => None,
        None => made::brought(subscriber, dbname)?,
    };
    let change = match note {
        Some(note) => change.with_note(note),
        None => change,
    };
    Ok(change.with_note(format!(
        "the publisher does not answer: what flare has there stays, until the command is run again when it does ({})",
        message_of(dead)
    )))
}

fn without_notes(change: Change) -> Change {
    Change {
        notes: Vec::new(),
        ..change
    }
}

fn unpublish(publisher: &Publisher, stream: &Stream, run: &Run) -> Result<Change> {
    if !status_table::has_database(publisher, &stream.dbname)? {
        return Ok(Change::none(run));
    }
    let admin = publisher.connect(Login::Superuser, &stream.dbname)?;
    let Some(found) = publications::find(&admin, &stream.pubname)? else {
        return Ok(Change::none(run));
    };
    let mut plan = Plan::new(publisher.side(), &stream.dbname);
    plan.step(
        format!("drop publication {:?}", stream.pubname),
        format!("DROP PUBLICATION {}", Ident::new(&stream.pubname)),
    );
    if found.mine {
        plan.carry_out(&admin, run)
    } else {
        plan.carry_out(&publisher.connect(ActAs::Tables, &stream.dbname)?, run)
    }
}

fn drop_status_table(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    if !status_table::has_database(server, dbname)? {
        return Ok(Change::none(run));
    }
    let table = status_table::table(server);
    let session = server.connect(ActAs::Tables, dbname)?;
    if !tables::missing(&session, std::slice::from_ref(&table))?.is_empty() {
        return Ok(Change::none(run));
    }
    let mut plan = Plan::new(server.side(), dbname);
    plan.step(
        format!("drop flare's own table {}", table.plain()),
        format!("DROP TABLE {table}"),
    );
    plan.carry_out(&session, run)
}

/// Takes CONNECT on the database that the application has left, and says how to give it back.
fn shut_for_good(left: &Server, in_left: &Session, dbname: &str, run: &Run) -> Result<Change> {
    let before = match journal::shut_database(left.admin(), dbname)? {
        Some(shut) => shut.privileges,
        None => DatabasePrivileges::read(left.admin(), dbname)?,
    };
    let mut keep = BTreeSet::new();
    if !left.facts().superuser {
        keep.insert(left.declared().superuser.user.clone());
    }
    let privileges = ConnectPrivileges::new(before, keep);
    let mut plan = Plan::new(left.side(), "postgres");
    // The journal goes, and its record of what was revoked with it: the note has it.
    let statements = &privileges.revoking()[1..];
    if journal::is_shut(left.admin(), dbname)? {
        plan.note(format!(
            "nobody can connect to {dbname:?} on the {}",
            left.side()
        ));
    } else if !statements.is_empty() {
        plan.step(
            format!(
                "take CONNECT on {dbname:?}, so that no client that was forgotten writes there"
            ),
            statements.join("; "),
        );
    }
    plan.note(format!(
        "nobody but superusers can connect to {dbname:?} on the {}; to give it back: {}",
        left.side(),
        privileges.restoring()[1..].join("; ")
    ));
    plan.carry_out_by(run, |_| {
        as_database_owner(left, &[dbname], |session| {
            session.transaction(|session| {
                revoke_now(session, &privileges)?;
                session.batch(&format!(
                    "DELETE FROM flare.shut WHERE dbname = {}",
                    Literal(dbname)
                ))
            })
        })?;
        end_sessions_of(left, in_left, dbname)
    })
}

/// Ends the sessions that clients have there.
fn end_sessions_of(left: &Server, in_left: &Session, dbname: &str) -> Result<()> {
    let own: i32 = in_left.value("SELECT pg_backend_pid()", params![])?;
    let ended = left.admin().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = $1 AND pid NOT IN (pg_backend_pid(), $2) AND backend_type = 'client backend'
            AND usename <> current_user",
        params![dbname, own],
    );
    if let Err(report) = ended {
        log::info!(
            "end the sessions of {dbname:?} on the {}: {report:#}",
            left.side()
        );
    }
    Ok(())
}

/// Gives CONNECT back where flare has taken it; nothing where it has not.
pub(crate) fn open_shut(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    let Some(shut) = journal::shut_database(server.admin(), dbname)? else {
        return Ok(Change::none(run));
    };
    let privileges = ConnectPrivileges::new(shut.privileges, shut.keep.into_iter().collect());
    let mut plan = Plan::new(server.side(), "postgres");
    plan.step(
        format!("give CONNECT on {dbname:?} back"),
        privileges.restoring()[1..].join("; "),
    );
    plan.carry_out_by(run, |_| {
        as_database_owner(server, &[dbname], |session| {
            restore_now(session, &privileges)
        })
    })
}

/// The journal of this migration; the whole schema where nothing else is in it.
fn forget(server: &Server, config: &Config, dbname: &str, run: &Run) -> Result<Change> {
    let there: bool = server.admin().value(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'flare')",
        params![],
    )?;
    let mut plan = Plan::new(server.side(), "postgres");
    if there {
        plan.step(
            format!("delete the journal of {dbname:?}"),
            "DELETE FROM flare.journal, flare.shut, flare.made; DROP SCHEMA flare where that leaves it empty"
                .to_owned(),
        );
    }
    if run.mode == Mode::DryRun || !there {
        return Ok(plan.into_change(run.mode, false));
    }
    // In turn with the commands of other databases, whose records are in the same tables.
    let turn = server.connect(Login::Superuser, "postgres")?;
    turn.with_timeout(Timeout::WhileServerAnswers)
        .transaction(|turn| {
            turn.batch(journal::in_turn!())?;
            forget_now(server, config, dbname)
        })?;
    Ok(plan.into_change(run.mode, true))
}

fn forget_now(server: &Server, config: &Config, dbname: &str) -> Result<()> {
    let there: bool = server.admin().value(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'flare')",
        params![],
    )?;
    if !there {
        return Ok(());
    }
    let owner: bool = server.admin().value(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'flare'",
        params![],
    )?;
    let other;
    let session = if owner {
        server.admin()
    } else {
        other = server.connect(Login::DbOwner, "postgres")?;
        &other
    };
    // Whoever administers has made these, and may do with them as it likes; the first is of an earlier flare.
    server
        .admin()
        .batch("DROP TABLE IF EXISTS flare.loaded_schema")?;
    made::forget(server, dbname)?;
    ddl::forget(session, config, dbname)?;
    verify::forget(
        server.admin(),
        config.publisher.system_identifier,
        config.subscriber.system_identifier,
        dbname,
    )?;
    journal::forget(session, config, dbname)?;
    if journal::is_empty(session)? {
        drop_schema(session).wrap_err("drop the schema flare in the database postgres")?;
    }
    Ok(())
}

/// The schema stays where another migration, or anybody, has something in it.
fn drop_schema(session: &Session) -> Result<()> {
    session.batch("DROP TABLE IF EXISTS flare.journal, flare.shut, flare.sample")?;
    let empty: bool = session.value(
        "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid)
            AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid)
           FROM pg_namespace n WHERE n.nspname = 'flare'",
        params![],
    )?;
    if empty {
        session.batch("DROP SCHEMA flare")
    } else {
        Ok(())
    }
}
