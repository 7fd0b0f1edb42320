//! The jobs of a copy, and which of them are finished.

use serde::{Deserialize, Serialize};

use crate::catalog::tables::missing;
use crate::copy::plan::Job;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Lsn, TableName};

/// What is finished, of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::copy) struct Finished {
    pub(in crate::copy) jobs: i64,
    pub(in crate::copy) of_jobs: i64,
    pub(in crate::copy) tables: i64,
    pub(in crate::copy) rows: i64,
    pub(in crate::copy) bytes: i64,
}

/// Puts jobs on record, in one statement.
pub(in crate::copy) fn plan(session: &Session, jobs: &[Job]) -> Result<()> {
    let column = |of: &dyn Fn(&Job) -> String| jobs.iter().map(of).collect::<Vec<String>>();
    let columns: Vec<serde_json::Value> =
        jobs.iter().map(|job| job.columns.clone().into()).collect();
    let number = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
    let first: i32 = session.value("SELECT coalesce(max(job), 0) FROM flare.copy", params![])?;
    let ids: Vec<i32> = (0..jobs.len()).map(|at| first + 1 + number(at)).collect();
    let sizes: Vec<i64> = jobs.iter().map(|job| job.size).collect();
    let ranges: Vec<Option<String>> = jobs.iter().map(|job| job.range.clone()).collect();
    let lsns: Vec<Option<String>> = jobs
        .iter()
        .map(|job| job.lsn.map(|lsn| lsn.to_string()))
        .collect();
    session
        .execute(
            "INSERT INTO flare.copy (job, nspname, relname, range, columns, format, size, lsn)
             SELECT job, nspname, relname, range,
                    array(SELECT e FROM jsonb_array_elements_text($5 -> (n::int - 1)) WITH ORDINALITY x(e, at) ORDER BY at), format, size, lsn
               FROM unnest($1, $2, $3, $4, $6, $7, $8) WITH ORDINALITY j(job, nspname, relname, range, format, size, lsn, n)",
            params![
                ids,
                column(&|job| job.table.schema.as_str().to_owned()),
                column(&|job| job.table.table.as_str().to_owned()),
                ranges,
                serde_json::Value::Array(columns),
                column(&|job| job.format.as_str().to_owned()),
                sizes,
                lsns
            ],
        )
        .map(drop)
        .wrap_err("put the jobs of the copy on record")
}

/// The jobs that are not finished, largest first.
pub(in crate::copy) fn left(session: &Session) -> Result<Vec<Job>> {
    session
        .list(
            "SELECT jsonb_build_object('job', job, 'schema', nspname, 'table', relname, 'range', range, 'columns', columns,
                      'format', format, 'size', size, 'lsn', lsn)
               FROM flare.copy WHERE done_at IS NULL ORDER BY size DESC, job",
            params![],
        )
        .wrap_err("read the jobs that are left")
}

/// What is finished.
pub(in crate::copy) fn finished(session: &Session) -> Result<Finished> {
    let found = session
        .first(
            "SELECT jsonb_build_object('jobs', count(done_at), 'of_jobs', count(*), 'tables', count(DISTINCT (nspname, relname)),
                      'rows', coalesce(sum(rows), 0)::int8, 'bytes', coalesce(sum(bytes), 0)::int8) FROM flare.copy",
            params![],
        )
        .wrap_err("read what is copied")?;
    Ok(found.unwrap_or_default())
}

/// A table of a copy, and how long it will take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct CopiedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Bytes of its finished parts, as planned.
    pub bytes_done: i64,
    /// Bytes of all of them.
    pub bytes_total: i64,
    /// Until its last part is there, by the rate of the last five minutes; none when nothing has moved in them.
    pub seconds_left: Option<i64>,
}

/// The largest tables that are not finished, and how long all of it will take.
pub(in crate::copy) fn ahead(session: &Session) -> Result<(Option<i64>, Vec<CopiedTable>)> {
    const SHOWN: i64 = 5;
    // Parts are taken largest first: a table is there once all that comes before its last part is. What has come of a part that
    // is under way is seen by the table's size.
    let found: Option<(Option<i64>, Vec<CopiedTable>)> = session
        .first(
            "WITH jobs AS (
                 SELECT nspname, relname, size, done_at, sum(size) FILTER (WHERE done_at IS NULL) OVER (ORDER BY size DESC, job) AS before
                   FROM flare.copy),
             unfinished AS (
                 SELECT nspname, relname, coalesce(sum(size) FILTER (WHERE done_at IS NOT NULL), 0)::int8 AS done, sum(size)::int8 AS total,
                        max(before) FILTER (WHERE done_at IS NULL) AS before
                   FROM jobs GROUP BY 1, 2 HAVING count(*) > count(done_at)),
             tables AS (
                 SELECT u.*, least(greatest(coalesce(pg_relation_size(to_regclass(format('%I.%I', nspname, relname))), 0) - done, 0),
                          total - done) AS arriving
                   FROM unfinished u),
             sums AS (
                 SELECT sum(total - done - arriving) AS ahead, coalesce(sum(arriving), 0) AS arriving FROM tables),
             rate AS (
                 SELECT ((SELECT coalesce(sum(size), 0) FROM jobs WHERE done_at > clock_timestamp() - interval '5 minutes') + arriving)
                          / greatest(extract(epoch FROM clock_timestamp() - greatest(clock_timestamp() - interval '5 minutes',
                              (SELECT began_at FROM flare.copy_run)))::float8, 1) AS bytes
                   FROM sums),
             shown AS (
                 SELECT nspname, relname, done, total,
                        ceil((greatest(before - (SELECT arriving FROM sums), total - done - arriving)
                                / nullif((SELECT bytes FROM rate), 0))::float8)::int8 AS seconds
                   FROM tables ORDER BY total DESC, 1, 2 LIMIT $1)
             SELECT jsonb_build_array(
                 (SELECT ceil((sums.ahead / nullif((SELECT bytes FROM rate), 0))::float8)::int8 FROM sums),
                 (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', nspname, 'table', relname, 'bytes_done', done,
                            'bytes_total', total, 'seconds_left', seconds)), '[]') FROM shown))",
            params![SHOWN],
        )
        .wrap_err("read what is left to copy")?;
    Ok(found.unwrap_or_default())
}

/// Tables of which a job is not finished.
pub(in crate::copy) fn unfinished_tables(session: &Session) -> Result<Vec<TableName>> {
    session.list(
        "SELECT DISTINCT jsonb_build_object('schema', nspname, 'table', relname) FROM flare.copy WHERE done_at IS NULL",
        params![],
    )
}

/// Empties tables that an earlier snapshot has filled in part, and takes them off the record: all of it or nothing.
pub(in crate::copy) fn empty(session: &Session, tables: &[TableName]) -> Result<()> {
    let (schemas, names) = columns_of(tables);
    session.batch("BEGIN")?;
    // One that was dropped meanwhile has no rows to lose.
    let gone = missing(session, tables)?;
    let there = tables.iter().filter(|name| !gone.contains(name));
    let all: Vec<String> = there.map(ToString::to_string).collect();
    if !all.is_empty() {
        // Plain TRUNCATE of a parent empties its children too.
        let only: Vec<String> = all.iter().map(|name| format!("ONLY {name}")).collect();
        session.batch(&format!("TRUNCATE {}", only.join(", ")))?;
    }
    session.execute(
        "DELETE FROM flare.copy USING unnest($1, $2) t(nspname, relname)
          WHERE copy.nspname = t.nspname AND copy.relname = t.relname",
        params![schemas, names],
    )?;
    session
        .batch("COMMIT")
        .wrap_err("empty the tables that are begun anew")
}

/// The tables on record, each with the point of its snapshot where that is not the subscription's own slot's.
pub(in crate::copy) fn tables(session: &Session) -> Result<Vec<(TableName, Option<Lsn>)>> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(flatten)]
        name: TableName,
        lsn: Option<Lsn>,
    }
    let rows: Vec<Row> = session.list(
        "SELECT DISTINCT jsonb_build_object('schema', nspname, 'table', relname, 'lsn', lsn) FROM flare.copy",
        params![],
    )?;
    Ok(rows.into_iter().map(|row| (row.name, row.lsn)).collect())
}

fn columns_of(tables: &[TableName]) -> (Vec<String>, Vec<String>) {
    tables
        .iter()
        .map(|name| {
            (
                name.schema.as_str().to_owned(),
                name.table.as_str().to_owned(),
            )
        })
        .unzip()
}
