//! `flare_replication_status`: one row per system identifier, by which a cutover sees that everything has arrived.

use serde::Deserialize;

use super::{Change, Plan, Run, refresh};
use crate::catalog::tables::listed;
use crate::catalog::{publications, subscriptions};
use crate::error::{Failure, Result, WrapErr};
use crate::server::{ActAs, Publisher, Server, Session, Side, Subscriber, params};
use crate::value::{Ident, Literal, TableName};

/// Its name, as the original has it.
pub(crate) const NAME: &str = "flare_replication_status";

/// The table on a server: in public, as the original has it, or in the schema of the configuration.
pub(crate) fn table(server: &Server) -> TableName {
    TableName::new(server.declared().status_schema.as_str(), NAME)
}

/// Whether a table is flare's own, in whatever schema.
pub(crate) fn is(name: &TableName) -> bool {
    name.table.as_str() == NAME
}

/// Its columns, all text, in their order.
const COLUMNS: [&str; 3] = ["system_identifier", "uuid", "created_at"];

/// What a cutover's probe row carries, beside the original's columns.
const PAYLOAD: &str = "payload";

/// Adds the column for what a probe row carries, where the table lacks it.
pub(crate) fn add_payload(server: &Server, dbname: &str, run: &Run) -> Result<()> {
    let session = server.visit_as(ActAs::Owner, dbname)?;
    let table = table(server);
    let found = found(&session, &table)?;
    if found.columns.is_empty() || found.columns.iter().any(|column| column == PAYLOAD) {
        return Ok(());
    }
    let mut plan = Plan::new(server.side(), dbname);
    plan.step(
        format!("add column {PAYLOAD} to {}", table.plain()),
        format!("ALTER TABLE {table} ADD COLUMN {PAYLOAD} text"),
    );
    plan.carry_out(&session, run).map(drop)
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Found {
    /// Empty where there is no such table.
    columns: Vec<String>,
    owner: Option<String>,
    /// Whether its schema is there.
    has_schema: bool,
    /// Whether the session's role may create tables in it.
    may_create: bool,
}

const FOUND: &str = "
    SELECT jsonb_build_object(
        'columns', (SELECT coalesce(jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        'owner', pg_get_userbyid(c.relowner), 'has_schema', EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = $1),
        'may_create', coalesce((SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE n.nspname = $1), false))
      FROM (SELECT) one
      LEFT JOIN (pg_class c JOIN pg_namespace cn ON cn.oid = c.relnamespace) ON cn.nspname = $1 AND c.relname = $2";

/// Whether a server has this database.
pub(crate) fn has_database(server: &Server, dbname: &str) -> Result<bool> {
    server
        .admin()
        .value(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
            params![dbname],
        )
        .wrap_err_with(|| format!("look for database {dbname:?}"))
}

/// Creates the table in a database that exists, as the database's owner.
pub(crate) fn create(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    let session = server.visit_as(ActAs::Owner, dbname)?;
    let found = found(&session, &table(server))?;
    create_plan(server, dbname, &found)?.carry_out(&session, run)
}

fn found(session: &Session, table: &TableName) -> Result<Found> {
    let found = session
        .first(FOUND, params![table.schema.as_str(), table.table.as_str()])
        .wrap_err_with(|| format!("look for table {}", table.plain()))?;
    Ok(found.ok_or_else(|| Failure::new("look for the status table: no row came back"))?)
}

fn create_plan(server: &Server, dbname: &str, found: &Found) -> Result<Plan> {
    let side = server.side();
    let db_owner = &server.declared().db_owner.user;
    let table = table(server);
    let (plain, schema) = (table.plain(), Ident::new(table.schema.as_str()));
    let mut plan = Plan::new(side, dbname);
    match Verdict::of(found) {
        Verdict::There => plan.note(format!("{plain} is there already on the {side}")),
        Verdict::Create => plan.step(format!("create table {plain}"), definition(&table)),
        Verdict::Other => {
            return Failure::new(format!(
                "create table {plain} on the {side}: another table has that name, with columns {}",
                found.columns.join(", ")
            ))
            .hint("rename or drop that table; flare's has the columns system_identifier, uuid, created_at")
            .err();
        }
        Verdict::NoSchema => {
            return Failure::new(format!(
                "create table {plain} on the {side}: database {dbname:?} has no schema {:?}",
                table.schema.as_str()
            ))
            .hint("name one of the application's schemas in status_schema of the configuration")
            .err();
        }
        Verdict::Denied => {
            return Failure::new(format!(
                "create table {plain} on the {side}: {db_owner:?} may not create tables in schema {:?} of database {dbname:?}",
                table.schema.as_str()
            ))
            .hint(format!(
                "GRANT USAGE, CREATE ON SCHEMA {schema} TO {} there, or name another schema in status_schema of the configuration",
                Ident::new(db_owner)
            ))
            .err();
        }
    }
    Ok(plan)
}

impl Found {
    /// The original's columns, with or without what a probe row carries.
    fn has_our_columns(&self) -> bool {
        match self.columns.split_last() {
            Some((last, rest)) if last == PAYLOAD => rest == COLUMNS,
            _ => self.columns == COLUMNS,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    There,
    Create,
    Other,
    NoSchema,
    Denied,
}

impl Verdict {
    fn of(found: &Found) -> Verdict {
        match (found.columns.is_empty(), found.may_create) {
            (false, _) if found.has_our_columns() => Verdict::There,
            (false, _) => Verdict::Other,
            (true, true) => Verdict::Create,
            (true, false) if !found.has_schema => Verdict::NoSchema,
            (true, false) => Verdict::Denied,
        }
    }
}

fn definition(table: &TableName) -> String {
    format!(
        "CREATE TABLE {table} (system_identifier text PRIMARY KEY, uuid text NOT NULL, created_at text NOT NULL, payload text)"
    )
}

/// Creates the table on both sides, publishes it, and has the subscriptions take it.
pub(crate) fn create_everywhere(
    publisher: &Publisher,
    subscriber: &Subscriber,
    dbname: &str,
    pubname: &str,
    subnames: &[&str],
    run: &Run,
) -> Result<Change> {
    let lacking = lacking(subscriber, dbname, subnames)?;
    let on_subscriber = lacking.is_none();
    // The subscriber first: a change to a table that it lacks stops its apply.
    let mut change = match lacking {
        None => create(subscriber, dbname, run)?,
        Some(lacking) => Change::none(run).with_note(format!(
            "the subscriber has no {lacking} yet: create_subscription or initial_copy creates the table there"
        )),
    };
    change = change.and(create(publisher, dbname, run)?);
    change = change.and(publish(publisher, dbname, pubname, run)?);
    if on_subscriber {
        change = change.and(refresh(
            (publisher, subscriber),
            dbname,
            pubname,
            subnames,
            run,
        )?);
    }
    Ok(change)
}

/// What the subscriber has to have first, before it subscribes.
fn lacking(subscriber: &Subscriber, dbname: &str, subnames: &[&str]) -> Result<Option<String>> {
    if !has_database(subscriber, dbname)? {
        return Ok(Some(format!("database {dbname:?}")));
    }
    let session = subscriber.visit_as(ActAs::Owner, dbname)?;
    let schema = &subscriber.declared().status_schema;
    // `public` is in every database, but who may create tables there comes with the schema.
    let is_ready: bool = session.value(
        "SELECT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = $1
                           AND (has_schema_privilege(n.oid, 'CREATE') OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid)))",
        params![schema.as_str()],
    )?;
    let subscriptions = subscriptions::all(&session)?;
    let is_subscribed = subscriptions
        .iter()
        .any(|it| subnames.contains(&it.subname.as_str()));
    // Its apply would stop at a row for a table that is not there: then that is an error.
    if is_ready || is_subscribed {
        return Ok(None);
    }
    Ok(Some(format!(
        "schema {schema:?} with its privileges in database {dbname:?}"
    )))
}

/// Adds the table to a publication that lists its tables.
fn publish(publisher: &Publisher, dbname: &str, pubname: &str, run: &Run) -> Result<Change> {
    let session = publisher.visit(dbname)?;
    let mut plan = Plan::new(publisher.side(), dbname);
    let Some(publication) = publications::find(&session, pubname)? else {
        plan.note(format!(
            "there is no publication {pubname:?} yet: create_publication publishes the table"
        ));
        return plan.carry_out(&session, run);
    };
    let table = table(publisher);
    let published = publications::tables(&session, pubname)?.contains(&table);
    if publication.puballtables || published {
        plan.note(format!("publication {pubname:?} has the table already"));
        return plan.carry_out(&session, run);
    }
    plan.step(
        format!("add {} to publication {pubname:?}", table.plain()),
        format!(
            "ALTER PUBLICATION {} ADD TABLE ONLY {table}",
            Ident::new(pubname)
        ),
    );
    // Both the publication's owner and the table's are needed: whoever is both.
    if publication.mine && publisher.facts().superuser {
        plan.carry_out(&session, run)
    } else {
        plan.carry_out(&*publisher.visit_as(ActAs::Owner, dbname)?, run)
    }
}

/// Has the subscriptions that do not know the table yet take it.
fn refresh(
    pair: (&Publisher, &Subscriber),
    dbname: &str,
    pubname: &str,
    subnames: &[&str],
    run: &Run,
) -> Result<Change> {
    let (publisher, subscriber) = pair;
    let session = subscriber.visit(dbname)?;
    let published = publications::tables(&*publisher.visit(dbname)?, pubname)?;
    let mut change = Change::none(run);
    for subname in subnames {
        let Some(subscription) = subscriptions::find(&session, subname)? else {
            continue;
        };
        let missing = refresh::missing(&published, &subscriptions::relations(&session, subname)?);
        if missing.is_empty() {
            continue;
        }
        change = change.and(match missing.as_slice() {
            [only] if is(only) => refresh::plan(dbname, &subscription, &missing).carry_out_singly(
                &refresh::session(subscriber, dbname, &subscription, published.len())?,
                run,
            )?,
            more => Change::none(run).with_note(format!(
                "subscription {subname:?} lacks {}: flare create_subscription {subname} takes them",
                listed(more)
            )),
        });
    }
    Ok(change)
}

/// Deletes the publisher's row on a server, where the table is there.
pub(crate) fn reset(server: &Server, dbname: &str, identifier: u64, run: &Run) -> Result<Change> {
    let session = server.visit_as(ActAs::Owner, dbname)?;
    let mut plan = Plan::new(server.side(), dbname);
    let identifier = identifier.to_string();
    let table = table(server);
    let rows: i64 = match Verdict::of(&found(&session, &table)?) {
        Verdict::There => session
            .value(
                &format!("SELECT count(*) FROM {table} WHERE system_identifier = $1"),
                params![&identifier],
            )
            .wrap_err_with(|| format!("read {}", table.plain()))?,
        _ if server.side() == Side::Subscriber => {
            plan.note(format!("the subscriber has no table {} yet", table.plain()));
            return plan.carry_out(&session, run);
        }
        _ => {
            return Failure::new(format!(
                "reset the replication status on the {}: there is no table {} in database {dbname:?}",
                server.side(),
                table.plain()
            ))
            .hint("run flare create_replication_status_table")
            .err();
        }
    };
    match rows {
        0 => plan.note(format!(
            "the {} has no row of system_identifier {identifier}",
            server.side()
        )),
        _ => plan.step(
            format!("delete the row of system_identifier {identifier}"),
            format!(
                "DELETE FROM {table} WHERE system_identifier = {}",
                Literal(&identifier)
            ),
        ),
    }
    plan.carry_out(&session, run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_table_of_that_name_is_left_alone() {
        let found = |columns: &[&str], may_create| Found {
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            owner: None,
            has_schema: true,
            may_create,
        };
        assert_eq!(Verdict::of(&found(&COLUMNS, false)), Verdict::There);
        assert_eq!(Verdict::of(&found(&["id"], true)), Verdict::Other);
        assert_eq!(Verdict::of(&found(&[], true)), Verdict::Create);
        assert_eq!(Verdict::of(&found(&[], false)), Verdict::Denied);
        let nowhere = Found {
            has_schema: false,
            ..found(&[], false)
        };
        assert_eq!(Verdict::of(&nowhere), Verdict::NoSchema);
    }
}
