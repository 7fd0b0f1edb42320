//! Tables that a statement has made: published, readable for replication, fenced, and taken by the subscription.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::sides::Sides;
use super::truncates;
use crate::catalog::tables::{self, listed};
use crate::catalog::{publications, subscriptions};
use crate::error::{Advise, Result, WrapErr};
use crate::replicate::made::{self, Made};
use crate::replicate::{Run, closed, fence, refresh, status_table, unsubscribe};
use crate::server::{ActAs, Login, Server, Session, params};
use crate::value::{Ident, TableName};

/// The tables of the session's database that could be replicated.
pub(super) fn ordinary(session: &Session) -> Result<BTreeSet<TableName>> {
    let tables: Vec<TableName> = session
        .list(
            "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384
                AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare')",
            params![],
        )
        .wrap_err("list the tables")?;
    Ok(tables.into_iter().collect())
}

/// Tables that the session's open transaction has made or attached, which it has locked therefore, and those above them, as
/// far as no fence stands on them: one without partitions needed none before. The row of a system column is never updated.
const MADE: &str = "
    WITH RECURSIVE own(age) AS (SELECT age((txid_current() & 4294967295)::text::xid)),
    made(oid) AS (
        SELECT l.relation FROM pg_locks l, own
         WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = l.relation AND a.attname = 'ctid' AND age(a.xmin) <= own.age)
                OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = l.relation AND age(i.xmin) <= own.age))
        UNION
        SELECT i.inhparent FROM made m JOIN pg_inherits i ON i.inhrelid = m.oid)
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM made m JOIN pg_class c ON c.oid = m.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'flare_fence')";

/// Closes tables that the receiving side's open transaction has made, where the database is closed.
pub(super) fn fence_new(receiving: &Session) -> Result<()> {
    if fence::is_there(receiving)? {
        return fence_made(receiving);
    }
    Ok(())
}

/// Those of its open transaction.
pub(super) fn made(receiving: &Session) -> Result<Vec<TableName>> {
    receiving
        .list(MADE, params![])
        .wrap_err("list the new tables for the fence")
}

/// The same as [`fence_new`], where the database is known to have a fence.
pub(super) fn fence_made(receiving: &Session) -> Result<()> {
    let made = made(receiving)?;
    if made.is_empty() {
        return Ok(());
    }
    // The role that runs the statement may not use flare's function.
    let mut sql = "SET LOCAL ROLE NONE".to_owned();
    for table in &made {
        sql.push(';');
        sql.push_str(&fence::trigger_on(table));
    }
    receiving.batch(&sql).wrap_err("fence the new tables")
}

/// Whom the receiving side logs in as.
fn replicating_user(server: &Server) -> &str {
    let declared = server.declared();
    match &declared.repl {
        Some(repl) => &repl.user,
        None => &declared.superuser.user,
    }
}

/// Has the subscription take what is new; what else there is to know.
pub(super) fn take(
    sides: &Sides<'_>,
    before: &BTreeSet<TableName>,
    run: &Run,
) -> Result<(Vec<TableName>, Vec<String>)> {
    let (pair, dbname) = (sides.pair, sides.dbname());
    let mut notes = Vec::new();
    let now = ordinary(&sides.open)?;
    let new: Vec<TableName> = now.difference(before).cloned().collect();
    if !new.is_empty() {
        publish(sides, &new, &mut notes)?;
        truncates::watch_new(sides)?;
    }
    let published = publications::tables(&sides.open, &sides.stream.pubname)?;
    let relations = subscriptions::relations(&sides.reader, &sides.stream.subname)?;
    let missing = refresh::missing(&published, &relations);
    if missing.is_empty() {
        return Ok((Vec::new(), notes));
    }
    grant(sides, &missing, &mut notes)?;
    without_identity(sides, &missing, &mut notes)?;
    let Some(subscription) = subscriptions::find(&sides.reader, &sides.stream.subname)? else {
        return Ok((Vec::new(), notes));
    };
    let session = refresh::session(&pair.subscriber, dbname, &subscription, published.len())?;
    let taken = refresh::plan(dbname, &subscription, &missing).carry_out_singly(&session, run);
    if let Err(report) = taken {
        let absent = tables::missing(&sides.reader, &missing).unwrap_or_else(|error| {
            log::warn!("look for the new tables on the receiving side: {error:#}");
            Vec::new()
        });
        let next = if absent.is_empty() {
            format!(
                "run {} --retry: it takes the tables that the subscription lacks",
                sides.again()
            )
        } else {
            format!(
                "{} {} not on the {}, as where flare.carry was off: flare status --repair makes what is missing there, and takes the rest",
                listed(&absent),
                if absent.len() == 1 { "is" } else { "are" },
                pair.subscriber.side()
            )
        };
        return Err(report)
            .wrap_err_with(|| format!("replicate the new tables {}", listed(&missing)))
            .hint(|| next);
    }
    Ok((missing, notes))
}

/// Closes what has come since, where the receiving side is closed.
pub(super) fn close(sides: &Sides<'_>, run: &Run) -> Result<()> {
    let (to, dbname) = (&sides.pair.subscriber, sides.dbname());
    let subscription = subscriptions::find(&sides.reader, &sides.stream.subname)?;
    let Some(subscription) =
        subscription.filter(|_| fence::is_there(&sides.reader).unwrap_or(false))
    else {
        return Ok(());
    };
    let published = publications::tables(&sides.open, &sides.stream.pubname)?;
    let login = unsubscribe::login_of(to, &subscription);
    closed::close(to, dbname, &published, (&subscription.owner, login), run).map(drop)
}

/// Adds them to a publication that lists its tables because it could not be FOR ALL TABLES.
fn publish(sides: &Sides<'_>, new: &[TableName], notes: &mut Vec<String>) -> Result<()> {
    let (publisher, dbname) = (&sides.pair.publisher, sides.dbname());
    let session = publisher.connect(Login::Superuser, dbname)?;
    let Some(publication) = publications::find(&session, &sides.stream.pubname)? else {
        return Ok(());
    };
    let published = publications::tables(&session, &sides.stream.pubname)?;
    let lacking: Vec<TableName> = new
        .iter()
        .filter(|table| !published.contains(table) && !status_table::is(table))
        .cloned()
        .collect();
    if publication.puballtables || lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = lacking.iter().map(TableName::to_string).collect();
    let add = format!(
        "ALTER PUBLICATION {} ADD TABLE ONLY {}",
        Ident::new(&sides.stream.pubname),
        names.join(", ONLY ")
    );
    let chosen = sides
        .config
        .publications
        .get(dbname)
        .is_some_and(|it| it.tables.is_some());
    if chosen {
        notes.push(format!(
            "{} is on both sides but not published, since the configuration lists what is: {add}, and add it there",
            listed(&lacking)
        ));
        return Ok(());
    }
    let session = if publication.mine && publisher.facts().superuser {
        session
    } else {
        publisher.connect(ActAs::Owner, dbname)?
    };
    run_briefly(&session, &add)
}

fn run_briefly(session: &Session, statement: &str) -> Result<()> {
    crate::server::Ddl::default()
        .retry(session, || {
            session.batch(&format!(
                "BEGIN; SET LOCAL lock_timeout = '2s'; {statement}; COMMIT"
            ))
        })
        .wrap_err_with(|| format!("run {statement}"))
}

/// A table that the receiving side's user cannot read, and whose owners can change that.
#[derive(Deserialize)]
struct Unreadable {
    schema: u32,
    schema_owner: Option<String>,
    table: u32,
    table_owner: Option<String>,
    /// Row security hides rows of it from that user: the copy would leave them out in silence. A policy that lets the user
    /// see all of them is taken for that where no restrictive one is there.
    hidden: bool,
}

const UNREADABLE: &str = "
    SELECT jsonb_build_object(
             'schema', n.oid::bigint, 'table', c.oid::bigint,
             'schema_owner', CASE WHEN NOT has_schema_privilege($1, n.oid, 'USAGE') THEN pg_get_userbyid(n.nspowner) END,
             'table_owner', CASE WHEN NOT has_table_privilege($1, c.oid, 'SELECT') THEN pg_get_userbyid(c.relowner) END,
             'hidden', c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role($1, c.relowner, 'USAGE'))
                       AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $1)
                       AND NOT coalesce((SELECT bool_and(p.polpermissive) AND bool_or(pg_get_expr(p.polqual, p.polrelid) = 'true') FROM pg_policy p
                                          WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*')
                                            AND EXISTS (SELECT FROM unnest(p.polroles) r WHERE CASE r WHEN 0 THEN true ELSE pg_has_role($1, r, 'USAGE') END)), false))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $2 AND c.relname = $3";

/// Lets the receiving side's user read them.
fn grant(sides: &Sides<'_>, tables: &[TableName], notes: &mut Vec<String>) -> Result<()> {
    let session = sides.reader_of_open();
    let user = replicating_user(&sides.pair.publisher);
    let to = Ident::new(user);
    for table in tables {
        let found: Option<Unreadable> = session.first(
            UNREADABLE,
            params![user, table.schema.as_str(), table.table.as_str()],
        )?;
        let Some(found) = found else { continue };
        if found.hidden {
            let_see(sides, user, table)?;
        }
        let grants = [
            (
                found.schema_owner,
                found.schema,
                "USAGE",
                format!("SCHEMA {}", table.schema),
            ),
            (
                found.table_owner,
                found.table,
                "SELECT",
                format!("TABLE {table}"),
            ),
        ];
        for (owner, oid, privilege, on) in grants {
            let Some(owner) = owner else { continue };
            let grant = format!("GRANT {privilege} ON {on} TO {to}");
            let made = Made::Privilege {
                on,
                oid: Some(oid),
                privilege: privilege.to_owned(),
                to: user.to_owned(),
            };
            if !made::put_on_record(&sides.pair.publisher, sides.dbname(), vec![made])? {
                notes.push(format!(
                    "{grant} is not on record: cleanup will not take it back"
                ));
            }
            run_briefly(
                session,
                &format!("SET LOCAL ROLE {}; {grant}", Ident::new(owner)),
            )
            .hint(|| {
                format!(
                    "{grant} on the open side, and run {} --retry",
                    sides.again()
                )
            })?;
        }
    }
    Ok(())
}

/// Past row security.
fn let_see(sides: &Sides<'_>, user: &str, table: &TableName) -> Result<()> {
    let (publisher, dbname) = (&sides.pair.publisher, sides.dbname());
    let role = user.to_owned();
    let alter = format!("ALTER ROLE {} BYPASSRLS", Ident::new(user));
    let session = publisher.connect(Login::Superuser, dbname)?;
    // What is refused and then given by hand is the user's: it is not on record.
    session.batch("BEGIN")?;
    let tried = session.batch(&alter);
    session.batch("ROLLBACK")?;
    tried
        .wrap_err_with(|| {
            format!(
                "copy {}, whose rows row security hides from {user:?}",
                table.plain()
            )
        })
        .hint(|| {
            format!(
                "its owner can let it see them, CREATE POLICY flare_copy ON {table} FOR SELECT TO {} USING (true), or a superuser, {alter}: on the open side; then run {} --retry",
                Ident::new(user),
                sides.again()
            )
        })?;
    made::put_on_record(publisher, dbname, vec![Made::BypassRls { role }])?;
    session.batch(&alter)
}

/// Tables whose rows could not be updated or deleted any more.
fn without_identity(
    sides: &Sides<'_>,
    tables: &[TableName],
    notes: &mut Vec<String>,
) -> Result<()> {
    for table in tables {
        let lacks: bool = sides.open.value(
            "SELECT c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
               FROM pg_class c WHERE c.oid = $1::text::regclass",
            params![table.to_string()],
        )?;
        if lacks {
            notes.push(format!(
                "{} has no primary key: UPDATE and DELETE fail there until it has one, or ALTER TABLE {table} REPLICA IDENTITY FULL",
                table.plain()
            ));
        }
    }
    Ok(())
}
