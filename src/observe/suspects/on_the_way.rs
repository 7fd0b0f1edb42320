//! Carried statements that have not come to the other side: the shape that they give a table is on its way, in its place
//! among the rows, and ends no worker.

use super::{Stopped, SuspectKind, briefly};
use crate::error::Result;
use crate::server::params;
use crate::value::TableName;

/// Whether such a statement brings what a suspect of this kind lacks.
pub(super) fn is_shape(kind: SuspectKind) -> bool {
    use SuspectKind::{
        ColumnType, Constraint, Identity, MissingColumn, MissingTable, RequiredColumn,
    };
    matches!(
        kind,
        MissingTable | MissingColumn | RequiredColumn | ColumnType | Constraint | Identity
    )
}

/// Tables of the publishing side that such statements are about; none where nothing is carried.
pub(super) fn tables(stopped: &Stopped<'_>) -> Result<Vec<TableName>> {
    let carried = "SELECT to_regclass('flare.ddl') IS NOT NULL";
    for session in [stopped.from, stopped.to] {
        if !briefly(session, |session| session.value(carried, params![]))? {
            return Ok(Vec::new());
        }
    }
    let come: Vec<i64> = briefly(stopped.to, |to| {
        to.value(
            "SELECT coalesce(array_agg(id), '{}') FROM flare.ddl WHERE id > 0",
            params![],
        )
    })?;
    briefly(stopped.from, |from| {
        from.list(
            "SELECT DISTINCT jsonb_build_object('schema', n.nspname, 'table', c.relname)
               FROM flare.ddl d CROSS JOIN unnest(d.objects) o
               JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p')
                     CROSS JOIN LATERAL format('%I.%I', n.nspname, c.relname) named)
                 ON o = 'table ' || named OR strpos(o, 'table column ' || named || '.') = 1
              WHERE d.id > 0 AND d.id <> ALL ($1)",
            params![come],
        )
    })
}
