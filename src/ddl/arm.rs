//! `refuse` and `carry`: event triggers on both sides, of which those of the open side act; see `sql/`.
//!
//! Nothing has to be moved at a cutover: a side that is fenced or subscribes refuses, the other one records. All of it
//! is made by who may make event triggers: superusers, and rds_superuser.

use postgres::error::SqlState;

use super::carried::{RECORD, stuck_for_good};
use super::installed::{
    Installing, TAKE_FUNCTIONS_AWAY, TAKE_TABLE_AWAY, armed, installation, mode_is,
};
use super::sides::Sides;
use super::truncates;
use crate::catalog::{publications, subscriptions};
use crate::config::{DdlMode, Subscription};
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::journal::{Direction, Stream};
use crate::replicate::{Change, Mode, Plan, Run, refresh, status_table};
use crate::server::{Ddl, Login, Pair, Server, Session, Statement, params, sqlstate_of};
use crate::value::{Ident, TableName};

/// Puts `mode` in place on both sides of a database whose subscription is there; what is as wanted stays. `pair` has the
/// open side as its publisher.
pub(crate) fn arm(
    pair: &Pair,
    (subname, declared): (&str, &Subscription),
    direction: Direction,
    mode: DdlMode,
    run: &Run,
) -> Result<Change> {
    let (dbname, pubname) = (declared.dbname.as_str(), declared.pubname.as_str());
    let forward = Stream::of(dbname, subname, pubname, Direction::Forward);
    let what = || format!("have the statements of {dbname:?} {}", in_words(mode));
    let open = pair.publisher.connect(Login::Superuser, dbname)?;
    let receiving = pair.subscriber.connect(Login::Superuser, dbname)?;
    if armed(&open)?.as_deref() == Some("carry") && mode != DdlMode::Carry {
        let meanwhile = match mode {
            DdlMode::Refuse => "refuse",
            DdlMode::Carry | DdlMode::Watch => "off",
        };
        leave_carry(dbname, (&open, &receiving), meanwhile, run)?;
    }
    let wanted = match mode {
        DdlMode::Watch => {
            return Ok(disarm(&pair.publisher, dbname, run)?.and(disarm(
                &pair.subscriber,
                dbname,
                run,
            )?));
        }
        mode => mode.as_str().to_owned(),
    };
    let back = Stream::of(dbname, subname, pubname, Direction::Back);
    let subnames = [forward.subname.clone(), back.subname.clone()];
    let stream = match direction {
        Direction::Forward => forward,
        Direction::Back => back,
    };
    let as_owner = declared.has_on("run_as_owner");
    let by =
        |server: &Server, other: &Server| installation(mode, &subnames, server, (other, as_owner));
    // The side that receives comes first: it has to know what the other one notes.
    let sides = [
        Installing::of(
            &pair.subscriber,
            &receiving,
            by(&pair.subscriber, &pair.publisher),
        )?,
        Installing::of(
            &pair.publisher,
            &open,
            by(&pair.publisher, &pair.subscriber),
        )?,
    ];
    let in_place = sides.iter().all(|it| it.armed.as_ref() == Some(&wanted));
    let truncates_are_lost = truncates::are_lost(&pair.publisher, &pair.subscriber);
    let mut unwatched = false;
    for side in &sides {
        unwatched |= truncates_are_lost && !truncates::unwatched(side.session)?.is_empty();
    }
    if in_place && !unwatched && sides.iter().all(|it| it.as_wanted) {
        return Ok(Change::none(run));
    }
    let mut plan = Plan::new(pair.publisher.side(), dbname);
    plan.step(
        what(),
        if truncates_are_lost {
            "event triggers flare_ddl_*, flare_drop_*, flare_start_*, flare_rewrite, a trigger flare_truncate on every table, and their functions in schema flare, on both sides"
        } else {
            "event triggers flare_ddl_*, flare_drop_*, flare_start_*, flare_rewrite and their functions in schema flare, on both sides"
        },
    );
    plan.carry_out_by(run, |_| {
        for side in &sides {
            // No statement passes meanwhile that was carried or refused before. Nothing is recorded before it is followed.
            let meanwhile = match side.armed.as_deref() {
                _ if in_place || mode == DdlMode::Refuse => wanted.as_str(),
                Some("refuse") => "refuse",
                _ => "off",
            };
            if !in_place || !side.as_wanted {
                side.install(mode, meanwhile).wrap_err_with(what)?;
            }
            if truncates_are_lost {
                truncates::watch(side.server, side.session).wrap_err_with(what)?;
            }
        }
        if in_place {
            return Ok(());
        }
        if mode == DdlMode::Carry {
            follow(pair, &stream, (&open, &receiving)).wrap_err_with(what)?;
        }
        for side in &sides {
            side.session.batch(&mode_is(&wanted)).wrap_err_with(what)?;
        }
        Ok(())
    })
}

/// Takes `flare.ddl` away on the open side when all that it has is on the other one: apply would stop for good at a row of
/// a table that is gone.
fn leave_carry(
    dbname: &str,
    (open, receiving): (&Session, &Session),
    meanwhile: &str,
    run: &Run,
) -> Result<()> {
    if run.mode == Mode::DryRun {
        return Ok(());
    }
    let goes_on = |report: Report| {
        open.batch(&mode_is("carry"))?;
        Err(report)
    };
    let all_there = || -> Result<()> {
        let Some(first) = stuck_for_good(open, receiving)?.into_iter().next() else {
            return Ok(());
        };
        Failure::new(format!("leave ddl: carry: {}", first.in_words(dbname)))
            .hint("settle it, then run the command again; what is carried goes on being carried")
            .err()
    };
    all_there()?;
    open.batch(&mode_is(meanwhile))?;
    all_there().or_else(goes_on)?;
    let taken = Ddl::default().retry(open, || {
        // Behind the transactions that have recorded something.
        open.batch(
            "BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE flare.ddl IN ACCESS EXCLUSIVE MODE",
        )?;
        all_there()?;
        open.batch("DROP TABLE flare.ddl; COMMIT")
    });
    taken.or_else(goes_on)
}

/// Replaces what is not as this program makes it, where statements are refused or carried already.
pub(crate) fn renew(
    pair: &Pair,
    (subname, declared): (&str, &Subscription),
    direction: Direction,
    mode: DdlMode,
    run: &Run,
) -> Result<Change> {
    for server in [&*pair.publisher, &*pair.subscriber] {
        let session = server.connect(Login::Superuser, &declared.dbname)?;
        if armed(&session)?.as_deref() != Some(mode.as_str()) {
            return Ok(Change::none(run));
        }
    }
    arm(pair, (subname, declared), direction, mode, run)
}

/// The same beside a statement of `flare ddl`, which goes on where the administrator may not; what there is to say of it.
pub(crate) fn put_back(sides: &Sides<'_>, mode: DdlMode, run: &Run) -> Result<Vec<String>> {
    if mode == DdlMode::Watch {
        return Ok(Vec::new());
    }
    let dbname = sides.dbname();
    let (subname, declared) = sides.config.subscription_of(dbname, None)?;
    match renew(sides.pair, (subname, declared), sides.direction, mode, run) {
        Ok(change) if change.changed => Ok(vec![
            "flare's event triggers and their functions are as they were made again".to_owned(),
        ]),
        Ok(_) => Ok(Vec::new()),
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Ok(vec![format!(
                "flare's event triggers and their functions stay as they are: {}",
                message_of(&report)
            )])
        }
        Err(report) => Err(report),
    }
}

/// Whether this administrator could put the mode in place, before anything else is made: tried, and taken back.
pub(crate) fn check_rights(pair: &Pair, dbname: &str, mode: DdlMode) -> Result<()> {
    if mode == DdlMode::Watch {
        return Ok(());
    }
    for server in [&*pair.publisher, &*pair.subscriber] {
        if !server.facts().superuser {
            speaks_english(server)?;
        }
    }
    let session = pair.publisher.connect(Login::Superuser, dbname)?;
    session.batch("BEGIN")?;
    let tried = session.batch(
        "CREATE FUNCTION pg_temp.flare_probe() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER flare_probe ON ddl_command_end EXECUTE PROCEDURE pg_temp.flare_probe()",
    );
    session.batch("ROLLBACK")?;
    tried
        .wrap_err_with(|| format!("have the statements of {dbname:?} {}", in_words(mode)))
        .hint(|| needs(&pair.publisher))
}

/// The event triggers read what stands in `PG_CONTEXT`.
fn speaks_english(server: &Server) -> Result<()> {
    let language: String = server
        .admin()
        .value("SELECT current_setting('lc_messages')", params![])?;
    let english = ["", "c", "posix", "en"];
    let word = language.to_ascii_lowercase();
    let first = word.split(['.', '_', '-']).next().unwrap_or_default();
    if english.contains(&first) {
        return Ok(());
    }
    Failure::new(format!(
        "have statements refused or carried: the {} speaks {language:?}, and only a superuser changes that for flare's functions",
        server.side()
    ))
    .hint("set lc_messages = 'C' for that server (on RDS in its parameter group), or ddl: watch")
    .err()
}

pub(super) fn needs(server: &Server) -> String {
    format!(
        "only superusers make event triggers (on RDS rds_superuser): give the administrator of the {} that, or set ddl: watch",
        server.side()
    )
}

fn in_words(mode: DdlMode) -> &'static str {
    match mode {
        DdlMode::Watch => "watched",
        DdlMode::Refuse => "refused where they would part the sides",
        DdlMode::Carry => "carried",
    }
}

/// Has the subscription follow `flare.ddl` before anything is recorded there: what it does not follow is lost.
fn follow(pair: &Pair, stream: &Stream, (open, receiving): (&Session, &Session)) -> Result<()> {
    let record = TableName::new("flare", RECORD);
    let publication = publications::find(open, &stream.pubname)?.ok_or_else(|| {
        Failure::new(format!("there is no publication {:?}", stream.pubname))
            .hint("run flare create_publication first")
    })?;
    let published = publications::tables(open, &stream.pubname)?;
    if !publication.puballtables && !published.contains(&record) {
        open.batch(&format!(
            "ALTER PUBLICATION {} ADD TABLE {record}",
            Ident::new(&stream.pubname)
        ))
        .wrap_err("publish flare.ddl")?;
    }
    let subscription = subscriptions::find(receiving, &stream.subname)?.ok_or_else(|| {
        Failure::new(format!("there is no subscription {:?}", stream.subname))
            .hint("run flare create_subscription first")
    })?;
    let published = publications::tables(open, &stream.pubname)?;
    let missing = refresh::missing(
        &published,
        &subscriptions::relations(receiving, &stream.subname)?,
    );
    if !missing.contains(&record) {
        return Ok(());
    }
    // Of an earlier time: both begin with nothing.
    open.batch("DELETE FROM flare.ddl")?;
    receiving.batch(
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM flare.ddl; COMMIT",
    )?;
    let owning = refresh::session(
        &pair.subscriber,
        &stream.dbname,
        &subscription,
        published.len(),
    )?;
    let mut missing = missing.iter();
    let only_own = missing.all(|table| *table == record || status_table::is(table));
    let refreshing = format!(
        "ALTER SUBSCRIPTION {} REFRESH PUBLICATION{}",
        Ident::new(&stream.subname),
        if only_own {
            " WITH (copy_data = false)"
        } else {
            ""
        }
    );
    owning.batch(&refreshing).wrap_err("follow flare.ddl")?;
    super::carried::until_followed(receiving, &stream.subname)
}

/// Takes it away from one side; nothing where it is not.
pub(crate) fn disarm(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    if !status_table::has_database(server, dbname)? {
        return Ok(Change::none(run));
    }
    let session = server.connect(Login::Superuser, dbname)?;
    if armed(&session)?.is_none() {
        return Ok(Change::none(run));
    }
    let mut plan = Plan::new(server.side(), dbname);
    plan.step(
        "take the event triggers and flare.ddl away",
        "DROP EVENT TRIGGER flare_ddl_1 and so on; DROP TABLE flare.ddl",
    );
    plan.carry_out_by(run, |_| {
        truncates::unwatch(server, &session)?;
        run.ddl.run(
            &session,
            &[Statement::new(
                "take the event triggers away",
                format!("{TAKE_FUNCTIONS_AWAY}{TAKE_TABLE_AWAY}"),
            )],
        )
    })
}
