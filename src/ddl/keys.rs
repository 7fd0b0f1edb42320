//! Foreign keys of tables that the subscription does not follow: a TRUNCATE of the tables that they refer to stops apply
//! for good, so they are set aside until the rows have come.

use serde_json::json;

use super::carried;
use super::sides::Sides;
use crate::catalog::foreign_keys::{self, ForeignKey};
use crate::catalog::{publications, subscriptions};
use crate::error::{Result, WrapErr};
use crate::observe;
use crate::replicate::{Run, refresh};
use crate::server::{Session, params};

/// Those of tables that the subscription does not know yet.
fn of_missing(sides: &Sides<'_>) -> Result<Vec<ForeignKey>> {
    let published = publications::tables(sides.reader_of_open(), &sides.stream.pubname)?;
    let relations = subscriptions::relations(&sides.reader, &sides.stream.subname)?;
    let missing = refresh::missing(&published, &relations);
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    foreign_keys::of(&sides.reader, &missing)
}

/// Where statements are carried, before the tables are taken: given back when they are, see [`Sides::validate`].
pub(crate) fn clear_the_way(sides: &Sides<'_>, run: &Run) -> Result<()> {
    let keys = of_missing(sides)?;
    set_aside(sides, &keys, run).map(drop)
}

/// What was set aside, and what of it is not on record: the caller gives that back when every table replicates.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) keys: Vec<ForeignKey>,
    left: Vec<ForeignKey>,
}

/// Sets aside what could be in the way of a TRUNCATE, and what is in the way of one.
pub(super) fn clear(sides: &Sides<'_>, run: &Run) -> Result<Aside> {
    let mut keys = of_missing(sides)?;
    if !sides.keeps_up()? {
        let in_the_way = observe::in_the_way(&sides.open, &sides.reader, &sides.stream.subname);
        keys.extend(
            in_the_way
                .into_iter()
                .filter(|it| !keys.contains(it))
                .collect::<Vec<_>>(),
        );
    }
    let left = set_aside(sides, &keys, run)?;
    Ok(Aside { keys, left })
}

/// In one transaction. Where statements are carried it is on record, and given back as other foreign keys that wait for
/// rows; else the caller has to.
fn set_aside(sides: &Sides<'_>, keys: &[ForeignKey], run: &Run) -> Result<Vec<ForeignKey>> {
    let (_, receiving) = sides.records();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let carried = carried::is_there(receiving)?;
    run.ddl
        .retry(receiving, || {
            receiving.batch("BEGIN READ WRITE; SET LOCAL lock_timeout = '2s'")?;
            if carried {
                receiving.batch("SET LOCAL session_replication_role = replica")?;
            }
            let mut left = Vec::new();
            for key in keys {
                receiving.batch(&key.drop())?;
                if !carried || !on_record(receiving, key)? {
                    left.push(key.clone());
                }
            }
            receiving.batch("COMMIT")?;
            Ok(left)
        })
        .wrap_err("set foreign keys aside that a TRUNCATE would stop at")
}

/// With the statement that has made the table, or the last one; whether there is any.
fn on_record(receiving: &Session, key: &ForeignKey) -> Result<bool> {
    let later: Vec<serde_json::Value> = key
        .add()
        .into_iter()
        .map(|sql| json!({"later": sql, "role": key.owner, "table": key.table.to_string(), "constraint": key.name}))
        .collect();
    let updated = receiving.execute(
        "UPDATE flare.ddl SET outcome = 'unvalidated', fix = coalesce(fix, '[]') || $1
          WHERE id = (SELECT id FROM flare.ddl WHERE id > 0 AND outcome IN ('done', 'replaced', 'unvalidated')
                       ORDER BY strpos(text, $2) > 0 DESC, id DESC LIMIT 1)",
        params![serde_json::Value::from(later), key.table.table.as_str()],
    )?;
    Ok(updated > 0)
}

/// Makes them again.
pub(super) fn give_back(sides: &Sides<'_>, aside: &Aside) -> Result<()> {
    for key in &aside.left {
        for statement in key.add() {
            sides
                .reader
                .batch(&format!("BEGIN READ WRITE; {statement}; COMMIT"))
                .wrap_err_with(|| {
                    format!("make a foreign key again that was set aside: {statement}")
                })?;
        }
    }
    Ok(())
}
