//! A table that ALTER TABLE has rewritten since the snapshot shows no rows in it: the rewritten ones are younger than the
//! snapshot, and the stream has none of them either (manual: "Caveats" of concurrency control).

use serde::Deserialize;

use super::plan::Job;
use crate::catalog::tables::names_of;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// A table as one snapshot shows it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Form {
    #[serde(flatten)]
    name: TableName,
    /// Whether its rows are in another file by now: TRUNCATE, VACUUM FULL and CLUSTER do that as well.
    moved: bool,
    /// What a rewrite changes and those do not.
    form: String,
}

const FORMS: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname,
               'moved', c.relfilenode <> pg_relation_filenode(c.oid) AND pg_relation_size(c.oid) > 0,
               'form', concat_ws(' ', c.relpersistence, c.relam,
                   (SELECT md5(string_agg(concat_ws(' ', a.attnum, a.xmin, a.atttypid), ',' ORDER BY a.attnum))
                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest($1::name[], $2::name[]))";

fn forms(session: &Session, tables: &[TableName]) -> Result<Vec<Form>> {
    session
        .list(FORMS, names_of(tables))
        .wrap_err("look whether tables have been rewritten")
}

/// Fails where a table of the batch, which `from` has just read in its snapshot, has been rewritten since; `now` opens a
/// session without a snapshot.
pub(super) fn refuse(
    from: &Session,
    batch: &[Job],
    now: impl FnOnce() -> Result<Session>,
) -> Result<()> {
    let tables: Vec<TableName> = batch.iter().map(|job| job.table.clone()).collect();
    let mut moved = Vec::new();
    for form in forms(from, &tables)?.into_iter().filter(|form| form.moved) {
        let sql = format!("SELECT EXISTS (SELECT FROM ONLY {})", form.name);
        if !from.value::<bool>(&sql, params![])? {
            moved.push(form);
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    let present = forms(&now()?, &tables)?;
    let rewritten = moved.iter().find(|form| {
        let same = present.iter().find(|it| it.name == form.name);
        same.is_none_or(|it| it.form != form.form)
    });
    match rewritten {
        None => Ok(()),
        Some(Form { name, .. }) => Failure::new(format!(
            "{} has been rewritten by an ALTER TABLE since the copy began: its rows cannot be read in the copy's snapshot any more",
            name.plain()
        ))
        .hint("run the same ALTER TABLE on the subscriber, then flare initial_copy with --restart, which copies everything anew; let nobody run ALTER TABLE until it has ended")
        .err(),
    }
}
