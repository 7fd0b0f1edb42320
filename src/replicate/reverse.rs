//! The way back, put in place beside the running stream and standing still: a publication and a slot on *to*, a disabled
//! subscription on *from*. Creating it proves address, password, pg_hba.conf and the right to replicate.

use super::subscribing::{self, Creator};
use super::worker_settings::{self, Worker};
use super::{Plan, Run, granted, identity, refresh, slot, unsubscribe};
use crate::catalog::{publications, slots, subscriptions};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::journal;
use crate::server::{
    ActAs, Login, Pair, Publisher, Server, Session, Statement, conninfo_for_subscriber, is_denied,
    is_lost, params, silence_statement_log,
};
use crate::value::{HostPort, Ident, Literal, Lsn, Secret, TableName};

/// A way back, by its names, and what it follows.
pub(crate) struct Reverse<'a> {
    pub(crate) dbname: &'a str,
    pub(crate) subname: &'a str,
    pub(crate) pubname: &'a str,
    /// The publication that runs now, in the other direction.
    pub(crate) running_pubname: &'a str,
    /// Options of CREATE SUBSCRIPTION, each with a comma before it; empty, or the configuration's.
    pub(crate) options: &'a str,
}

/// Puts it in place. `back` has *to* as its publisher and *from* as its subscriber.
pub(crate) fn create(back: &Pair, reverse: &Reverse<'_>, run: &Run) -> Result<()> {
    let Reverse {
        dbname, subname, ..
    } = reverse;
    let what = || format!("build the way back, subscription {subname:?}");
    remove(back, dbname, subname, run).wrap_err_with(what)?;
    let session = back.subscriber.visit(dbname)?;
    let published = publications::tables(&session, reverse.running_pubname)?;
    identity::equalise(&back.reversed(), dbname, Some(&published), run).wrap_err_with(what)?;
    publish(back, reverse, &session, &published).wrap_err_with(what)?;
    let slot_name = slots::name_for(subname);
    let creation = slot::creation(&slot_name, slot::Standby::Ignored);
    slot::create(
        &back.publisher,
        dbname,
        &slot_name,
        &creation,
        &*run.progress,
    )
    .wrap_err_with(what)?;
    subscribe(back, reverse, &slot_name, &published, run)
        .map_err(|report| advised(report, &back.subscriber, Login::Superuser, dbname))
        .wrap_err_with(what)
        .hint(|| {
            let (server, via) = (&back.subscriber, &back.publisher.declared().via);
            format!(
                "the {} connects to {} as {:?}: check host_via_{}, port_via_{} and the account in hosts.{}.conn, that server's pg_hba.conf and the firewall; or go without a way back (--no-reverse)",
                server.side(),
                HostPort(&via.host, via.port),
                user_of(&back.publisher),
                server.side(),
                server.side(),
                back.publisher.side(),
            )
        })
}

/// Who will create its subscription, or why nobody may. `running_pubname` is what *from* publishes now.
pub(crate) fn creator(back: &Pair, dbname: &str, running_pubname: &str) -> Result<Creator> {
    let from = &back.subscriber;
    let written = if subscribing::is_the_administrators(from) {
        Vec::new()
    } else {
        let session = from.visit(dbname)?;
        publications::tables(&session, running_pubname)?
    };
    subscribing::creator(from, dbname, &written, true)
}

/// What to do where the server did not let `login` create it.
pub(crate) fn advised(report: Report, from: &Server, login: Login, dbname: &str) -> Report {
    let user = match from.credentials(login) {
        Ok(credentials) if is_denied(&report) => credentials.user(),
        _ => return report,
    };
    let lacks = subscribing::lacks(from, user, dbname);
    let hint = || format!("{lacks}; or go without a way back (--no-reverse)");
    Err::<(), _>(report).hint(hint).unwrap_err()
}

fn login_of(publisher: &Publisher) -> Login {
    match publisher.declared().repl {
        Some(_) => Login::Replication,
        None => Login::Superuser,
    }
}

/// Whom the way back's subscription logs in as.
pub(crate) fn user_of(publisher: &Server) -> &str {
    let declared = publisher.declared();
    match &declared.repl {
        Some(repl) => &repl.user,
        None => &declared.superuser.user,
    }
}

/// A publication as wide as the one that runs now: all tables, where that has all.
fn publish(
    back: &Pair,
    reverse: &Reverse<'_>,
    from: &Session,
    published: &[TableName],
) -> Result<()> {
    let Reverse {
        dbname, pubname, ..
    } = reverse;
    let to = &back.publisher;
    let admin = to.visit(dbname)?;
    if publications::find(&admin, pubname)?.is_some() {
        return Ok(());
    }
    let running = publications::find(from, reverse.running_pubname)?.ok_or_else(|| {
        Failure::new(format!(
            "there is no publication {:?}",
            reverse.running_pubname
        ))
    })?;
    let mut options = Vec::new();
    // A subscriber of 10 dies of TRUNCATE: invalid logical replication message type "T".
    if back.subscriber.major() < 11 {
        options.push("publish = 'insert, update, delete'");
    }
    if running.via_root && to.major() >= 13 {
        options.push("publish_via_partition_root = true");
    }
    let with = if options.is_empty() {
        String::new()
    } else {
        format!(" WITH ({})", options.join(", "))
    };
    let ident = Ident::new(*pubname);
    let all = format!("CREATE PUBLICATION {ident} FOR ALL TABLES{with}");
    if running.puballtables && to.facts().superuser && *dbname != journal::DBNAME {
        return admin.batch(&all);
    }
    let names: Vec<String> = published.iter().map(ToString::to_string).collect();
    let listed = format!(
        "CREATE PUBLICATION {ident} FOR TABLE {}{with}",
        names.join(", ")
    );
    to.visit_as(ActAs::Tables, dbname)?.batch(&listed)
}

fn subscribe(
    back: &Pair,
    reverse: &Reverse<'_>,
    slot_name: &str,
    published: &[TableName],
    run: &Run,
) -> Result<()> {
    let from = &back.subscriber;
    let creator = subscribing::creator(from, reverse.dbname, published, true)?;
    let mut plan = Plan::new(from.side(), reverse.dbname);
    for grant in &creator.grants {
        grant.give(&mut plan, reverse.dbname);
    }
    let session = from.connect(ActAs::EvenShutOut(creator.login), reverse.dbname)?;
    let sender = Worker {
        server: &back.publisher,
        role: user_of(&back.publisher),
        login: login_of(&back.publisher),
    };
    let receiver = Worker {
        server: from,
        role: from.credentials(creator.login)?.user(),
        login: creator.login,
    };
    worker_settings::settle(back, reverse.dbname, &sender, &receiver, run)?;
    let conninfo = conninfo_for_subscriber(
        &back.publisher,
        from,
        login_of(&back.publisher),
        reverse.dbname,
    )?;
    let origin = if from.major() >= 16 && back.publisher.major() >= 16 {
        ", origin = none"
    } else {
        ""
    };
    let sql = |conninfo: &str| {
        format!(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (enabled = false, create_slot = false, copy_data = false, slot_name = {}{origin}{})",
            Ident::new(reverse.subname),
            Literal(conninfo),
            Ident::new(reverse.pubname),
            Literal(slot_name),
            reverse.options
        )
    };
    plan.push(Statement::secret(
        format!("create subscription {:?}", reverse.subname),
        Secret::new(sql(conninfo.reveal().reveal())),
        sql(&conninfo.to_string()),
    ));
    granted::record(&mut plan, reverse.subname, "", &creator.grants);
    let by_owner = creator.grants.iter().filter(|grant| grant.is_by_owner());
    let (by_owner, by_creator) = plan.statements().split_at(by_owner.count());
    if !by_owner.is_empty() {
        run.ddl
            .run(&*from.visit_as(ActAs::Tables, reverse.dbname)?, by_owner)?;
    }
    session.set_timeout(refresh::patience(published.len()));
    session.batch("BEGIN")?;
    let made = silence_statement_log(&session, from.major()).and_then(|()| {
        by_creator
            .iter()
            .try_for_each(|statement| statement.run(&session))
    });
    match made {
        Ok(()) => session.batch("COMMIT"),
        Err(report) if is_lost(&report) => Err(report),
        Err(report) => session.batch("ROLLBACK").and(Err(report)),
    }
}

/// Takes what an earlier run has left of it, or this one has made: the subscription, and its slot.
pub(crate) fn remove(back: &Pair, dbname: &str, subname: &str, run: &Run) -> Result<()> {
    let publisher = Ok(back.publisher.clone());
    let how = (unsubscribe::OldSlot::Drop, unsubscribe::Unreachable::Detach);
    unsubscribe::drop(&back.subscriber, &publisher, subname, dbname, how, run).map(drop)
}

/// Drops a publication that flare has made, where it still is.
pub(crate) fn unpublish(publisher: &Publisher, dbname: &str, pubname: &str) -> Result<()> {
    let admin = publisher.visit(dbname)?;
    let Some(found) = publications::find(&admin, pubname)? else {
        return Ok(());
    };
    let statement = format!("DROP PUBLICATION {}", Ident::new(pubname));
    if found.mine {
        admin.batch(&statement)
    } else {
        publisher.visit_as(ActAs::Tables, dbname)?.batch(&statement)
    }
    .wrap_err_with(|| format!("drop publication {pubname:?}"))
}

/// What lets a subscription that stands still begin at `mark`: its origin says so far it has come.
pub(crate) fn start(back: &Pair, dbname: &str, subname: &str, mark: Lsn) -> Result<()> {
    let what = || format!("start the way back, subscription {subname:?}");
    let admin = back.subscriber.visit(dbname)?;
    let found = subscriptions::find(&admin, subname)?
        .ok_or_else(|| Failure::new(format!("{}: it is not there", what())))?;
    if found.subenabled {
        return Ok(());
    }
    let origin = format!("pg_{}", found.oid);
    let advanced = admin.execute(
        "SELECT pg_replication_origin_advance($1, $2::text::pg_lsn)
          WHERE coalesce(pg_replication_origin_progress($1, true) < $2::text::pg_lsn, true)",
        params![&origin, mark.to_string()],
    );
    match advanced {
        Err(report) if is_denied(&report) => {
            log::info!("origins are not this role's to move, so the slot is: {report:#}");
            advance_slot(&back.publisher, dbname, &slots::name_for(subname), mark)
                .wrap_err_with(what)?;
        }
        advanced => advanced.map(drop).wrap_err_with(what)?,
    }
    drop(admin);
    unsubscribe::owning(&back.subscriber, dbname, &found)?
        .batch(&format!(
            "ALTER SUBSCRIPTION {} ENABLE",
            Ident::new(subname)
        ))
        .wrap_err_with(what)
}

/// Moves the slot itself, which decodes from its restart_lsn on, in its database. From 11 on.
fn advance_slot(publisher: &Publisher, dbname: &str, slot_name: &str, mark: Lsn) -> Result<()> {
    let slot = slots::find(publisher.admin(), slot_name)?;
    let behind = slot.and_then(|slot| slot.confirmed_flush_lsn);
    if behind.is_some_and(|confirmed| confirmed >= mark) {
        return Ok(());
    }
    let sql = "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)";
    let with = |session: &Session| {
        session
            .execute(sql, params![slot_name, mark.to_string()])
            .map(drop)
    };
    let advanced = match with(&*publisher.visit(dbname)?) {
        Err(report) if is_denied(&report) => {
            with(&*publisher.visit_as(Login::Replication, dbname)?)
        }
        advanced => advanced,
    };
    advanced.wrap_err_with(|| format!("advance replication slot {slot_name:?}"))
}
