//! `refuse` and `carry`: event triggers on both sides, of which those of the open side act; see `sql/`.
//!
//! Nothing has to be moved at a cutover: a side that is fenced or subscribes refuses, the other one records. All of it
//! is made by who may make event triggers: superusers, and rds_superuser.

use super::carried::RECORD;
use crate::catalog::{publications, subscriptions};
use crate::config::DdlMode;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::journal::{Direction, Stream};
use crate::replicate::{Change, Plan, Run, refresh, status_table, unsubscribe};
use crate::server::{Ddl, Login, Pair, Server, Session, Statement, params};
use crate::value::{Ident, Literal, TableName};

const OBJECTS: &str = include_str!("sql/objects.sql");
const TEXT: &str = include_str!("sql/text.sql");
const NOTICING: &str = include_str!("sql/noticing.sql");
const APPLYING: &str = include_str!("sql/applying.sql");

/// The event triggers, the table and the functions go; the schema where nothing else is in it.
const TAKE_AWAY: &str = "
    DROP EVENT TRIGGER IF EXISTS flare_ddl_1;
    DROP EVENT TRIGGER IF EXISTS flare_ddl_2;
    DROP EVENT TRIGGER IF EXISTS flare_drop_1;
    DROP EVENT TRIGGER IF EXISTS flare_drop_2;
    DROP EVENT TRIGGER IF EXISTS flare_rewrite;
    DROP EVENT TRIGGER IF EXISTS flare_start_1;
    DROP EVENT TRIGGER IF EXISTS flare_start_2;
    DROP EVENT TRIGGER IF EXISTS flare_start_3;
    DROP TABLE IF EXISTS flare.ddl;
    DO $$
    DECLARE
        own regprocedure;
    BEGIN
        FOR own IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = 'flare' AND p.proname LIKE 'ddl\\_%' LOOP
            EXECUTE 'DROP FUNCTION ' || own;
        END LOOP;
        IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'flare')
           AND NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'flare') THEN
            DROP SCHEMA IF EXISTS flare;
        END IF;
    END $$";

/// What a side of a database is armed with: what the function `flare.ddl_mode()` returns.
fn armed(session: &Session) -> Result<Option<String>> {
    let source: Option<String> = session
        .first(
            "SELECT to_jsonb(p.prosrc) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname = 'flare' AND p.proname = 'ddl_mode'",
            params![],
        )
        .wrap_err("look whether statements are refused or carried")?;
    let words = source.as_deref().and_then(|it| it.split('\'').nth(1));
    Ok(words.map(str::to_owned))
}

fn mode_is(mode: &str) -> String {
    format!(
        "{}; REVOKE ALL ON FUNCTION flare.ddl_mode() FROM public",
        constant(
            "ddl_mode",
            "text",
            &format!("{}::pg_catalog.text", Literal(mode))
        )
    )
}

/// A function that returns what flare knows and the server does not.
fn constant(name: &str, returns: &str, value: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION flare.{name}() RETURNS {returns} LANGUAGE sql IMMUTABLE AS {}",
        Literal(&format!("SELECT {value}"))
    )
}

fn array_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let literals: Vec<String> = texts
        .into_iter()
        .map(|it| Literal(it).to_string())
        .collect();
    format!("ARRAY[{}]::pg_catalog.text[]", literals.join(", "))
}

/// What of a side is made in one transaction, the mode still off.
fn installation(mode: DdlMode, subnames: &[String; 2], server: &Server, other: &Server) -> String {
    let host = server.declared();
    let accounts = [host.superuser.user.as_str(), host.db_owner.user.as_str()];
    let constants = [
        "CREATE SCHEMA IF NOT EXISTS flare".to_owned(),
        mode_is("off"),
        constant(
            "ddl_subscriptions",
            "text[]",
            &array_of(subnames.iter().map(String::as_str)),
        ),
        constant("ddl_accounts", "text[]", &array_of(accounts)),
        constant("ddl_other_major", "int", &other.major().to_string()),
    ]
    .join(";\n");
    // Which only superusers set; `check_rights` has seen that messages are English.
    let noticing = if server.facts().superuser {
        NOTICING.to_owned()
    } else {
        NOTICING.replace(" SET lc_messages = 'C'", "")
    };
    match mode {
        // The cutover's sessions are the owner's where the administrator is no superuser. Texts may hold secrets.
        DdlMode::Carry => format!(
            "{constants};\n{OBJECTS}{TEXT}{noticing}{APPLYING}
             GRANT USAGE ON SCHEMA flare TO {owner}; GRANT SELECT (id, tag, outcome) ON flare.ddl TO {owner}",
            owner = Ident::new(&host.db_owner.user)
        ),
        DdlMode::Refuse | DdlMode::Watch => format!(
            "{constants};\n{TEXT}{noticing}REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flare FROM public"
        ),
    }
}

/// Puts `mode` in place on both sides of a database whose subscription is there; what is as wanted stays. `pair` has the
/// open side as its publisher.
pub(crate) fn arm(
    pair: &Pair,
    forward: &Stream,
    direction: Direction,
    mode: DdlMode,
    run: &Run,
) -> Result<Change> {
    let dbname = forward.dbname.as_str();
    let what = || format!("have the statements of {dbname:?} {}", in_words(mode));
    let open = pair.publisher.connect(Login::Superuser, dbname)?;
    let receiving = pair.subscriber.connect(Login::Superuser, dbname)?;
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
    let are = [armed(&open)?, armed(&receiving)?];
    if are.iter().all(|it| it.as_ref() == Some(&wanted)) {
        return Ok(Change::none(run));
    }
    let back = Stream::of(dbname, &forward.subname, &forward.pubname, Direction::Back);
    let subnames = [forward.subname.clone(), back.subname.clone()];
    let stream = match direction {
        Direction::Forward => forward.clone(),
        Direction::Back => back,
    };
    let mut plan = Plan::new(pair.publisher.side(), dbname);
    plan.step(
        what(),
        "event triggers flare_ddl_*, flare_drop_*, flare_start_*, flare_rewrite and their functions in schema flare, on both sides",
    );
    plan.carry_out_by(run, |_| {
        for (server, session, other) in [
            (&*pair.subscriber, &receiving, &*pair.publisher),
            (&*pair.publisher, &open, &*pair.subscriber),
        ] {
            install(server, session, other, mode, &subnames).wrap_err_with(what)?;
        }
        if mode == DdlMode::Carry {
            follow(pair, &stream, (&open, &receiving)).wrap_err_with(what)?;
        }
        for session in [&receiving, &open] {
            session.batch(&mode_is(&wanted)).wrap_err_with(what)?;
        }
        Ok(())
    })
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

fn needs(server: &Server) -> String {
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

fn install(
    server: &Server,
    session: &Session,
    other: &Server,
    mode: DdlMode,
    subnames: &[String; 2],
) -> Result<()> {
    let mut sql = String::new();
    if mode == DdlMode::Refuse {
        sql.push_str("DROP TABLE IF EXISTS flare.ddl;");
    }
    sql.push_str(&installation(mode, subnames, server, other));
    Ddl::default()
        .run(session, &[Statement::new("make the event triggers", sql)])
        .hint(|| needs(server))
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
    let owning = unsubscribe::owning(&pair.subscriber, &stream.dbname, &subscription)?;
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
        run.ddl.run(
            &session,
            &[Statement::new("take the event triggers away", TAKE_AWAY)],
        )
    })
}
