//! Constraints that are NOT VALID, out of the way while PostgreSQL copies: a copy holds every old row against them. They
//! are on record before they are taken off, and made again, NOT VALID as they were, once the rows are there.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::made::{self, Made};
use super::{Change, Mode, Plan, Run};
use crate::error::{Result, WrapErr};
use crate::server::{ActAs, Session, Subscriber, params};
use crate::value::{Ident, TableName};

/// One that the session's role may take off. That of a parent takes those of its children with it, but for one that a child
/// holds by itself, too: it stays there, and can be taken off once the parent's is gone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Standing {
    schema: String,
    /// The table, or the domain.
    name: String,
    of_domain: bool,
    conname: String,
    definition: String,
    /// Whether a parent has it, too.
    inherited: bool,
}

/// Parents come before their children. What is NOT ENFORCED (18) holds for no row.
const STANDING: &str = "
    WITH RECURSIVE below(relid, depth) AS (
        SELECT inhrelid, 1 FROM pg_inherits
        UNION ALL SELECT i.inhrelid, b.depth + 1 FROM below b JOIN pg_inherits i ON i.inhparent = b.relid)
    SELECT jsonb_build_object('schema', n.nspname, 'name', coalesce(c.relname, t.typname), 'of_domain', k.contypid <> 0,
             'conname', k.conname, 'definition', pg_get_constraintdef(k.oid), 'inherited', k.coninhcount > 0)
      FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
      JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace)
     WHERE NOT k.convalidated AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) AND k.contype IN ('c', 'n') AND (k.coninhcount = 0 OR k.conislocal) AND n.nspname !~ '^(pg_|information_schema$|flare$)'
       AND pg_has_role(coalesce(c.relowner, t.typowner), 'USAGE')
     ORDER BY coalesce((SELECT max(b.depth) FROM below b WHERE b.relid = k.conrelid), 0), n.nspname, coalesce(c.relname, t.typname), k.conname";

/// Whether a subscription of the database still copies.
const COPYING: &str =
    "SELECT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate NOT IN ('s', 'r'))";

impl Standing {
    fn owner(&self) -> String {
        let word = if self.of_domain { "DOMAIN" } else { "TABLE" };
        format!(
            "{word} {}.{}",
            Ident::new(&self.schema),
            Ident::new(&self.name)
        )
    }

    fn is_in_the_way_of(&self, tables: &[TableName]) -> bool {
        self.of_domain || tables.contains(&TableName::new(&self.schema, &self.name))
    }
}

/// Takes off those that hold for tables that are about to be copied, and those of domains.
pub(super) fn set_aside(
    subscriber: &Subscriber,
    dbname: &str,
    tables: &[TableName],
    run: &Run,
) -> Result<Change> {
    let session = subscriber.visit_as(ActAs::Tables, dbname)?;
    let mut standing: Vec<Standing> = session
        .list(STANDING, params![])
        .wrap_err("read the constraints that are NOT VALID")?;
    standing.retain(|it| it.is_in_the_way_of(tables));
    let parents: BTreeSet<String> = standing
        .iter()
        .filter(|it| !it.inherited)
        .map(|it| it.conname.clone())
        .collect();
    standing.retain(|it| !it.inherited || parents.contains(&it.conname));
    let mut plan = Plan::new(subscriber.side(), dbname);
    for it in &standing {
        plan.step(
            format!(
                "take off {}, which is NOT VALID, until the rows are copied",
                it.conname
            ),
            format!(
                "ALTER {} DROP CONSTRAINT {}",
                it.owner(),
                Ident::new(&it.conname)
            ),
        );
    }
    if plan.is_empty() {
        return Ok(Change::none(run));
    }
    if run.mode == Mode::Apply {
        let made = standing.into_iter().map(|it| Made::NotValid {
            on: it.owner(),
            conname: it.conname,
            definition: it.definition,
        });
        if !made::put_on_record(subscriber, dbname, made.collect())? {
            return Ok(Change::none(run)
                .with_note("constraints that are NOT VALID stay while the rows are copied: there is no place to remember them"));
        }
    }
    plan.carry_out(&session, run)
}

/// Makes those that were taken off, once every table is copied.
pub(super) fn make_again(subscriber: &Subscriber, dbname: &str, run: &Run) -> Result<Change> {
    if is_copying(&*subscriber.visit(dbname)?)? {
        return Ok(Change::none(run));
    }
    let taken_off = |it: &Made| matches!(it, Made::NotValid { .. });
    made::take_back_some(subscriber, dbname, taken_off, run)
}

/// Whether rows are being copied into the session's database.
pub(super) fn is_copying(session: &Session) -> Result<bool> {
    session
        .value(COPYING, params![])
        .wrap_err("look whether tables are being copied")
}
