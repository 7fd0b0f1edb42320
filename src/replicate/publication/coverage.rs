//! Which tables a publication covers, and that changes of each of them can be sent: pure.

use super::decision::{AllTables, Situation};
use crate::catalog::tables::{Table, listed};
use crate::config;
use crate::error::{Failure, Result};
use crate::value::TableName;

/// Refuses names of the configuration that the database does not have.
pub(super) fn names_exist(
    wanted: &config::Publication,
    dbname: &str,
    tables: &[Table],
) -> Result<()> {
    let settings = [
        ("tables", wanted.tables.as_deref().unwrap_or_default()),
        (
            "replica_identity_full_tables",
            wanted.replica_identity_full_tables.as_slice(),
        ),
        ("allow_no_identity", wanted.allow_no_identity.as_slice()),
    ];
    for (setting, names) in settings {
        let unknown = |name: &&TableName| !tables.iter().any(|table| table.name == **name);
        let unknown: Vec<&TableName> = names.iter().filter(unknown).collect();
        if unknown.is_empty() {
            continue;
        }
        let folded = |table: &&Table| {
            let same = |name: &&TableName| {
                name.plain().to_lowercase() == table.name.plain().to_lowercase()
            };
            unknown.iter().any(same)
        };
        let near = tables.iter().find(folded);
        return Failure::usage(format!(
            "create publication {:?}: {setting} names {}, which database {:?} does not have",
            wanted.pubname,
            listed(unknown.iter().copied()),
            dbname
        ))
        .hint(match near {
            Some(near) => format!(
                "did you mean {}? names are exact and never folded",
                near.name.plain()
            ),
            None => format!(
                "correct publications.{}.{setting}; names are exact and never folded",
                dbname
            ),
        })
        .err();
    }
    Ok(())
}

/// The tables that are published by name; `None` where the publication is for all of them.
pub(super) fn list(
    wanted: &config::Publication,
    found: &Situation<'_>,
) -> Result<Option<Vec<TableName>>> {
    Ok(match (&wanted.tables, found.existing, found.all_tables) {
        (Some(tables), _, _) => Some(named(tables, found)?),
        (None, Some(existing), _) if existing.puballtables => None,
        (None, None, AllTables::Permitted) => None,
        (None, _, _) => Some(everything(found)),
    })
}

/// The list of the configuration with the status table; before 13 partitioned tables stand for their leaves.
fn named(names: &[TableName], found: &Situation<'_>) -> Result<Vec<TableName>> {
    let is = |name: &TableName, persistence| {
        let mut tables = found.tables.iter();
        tables.any(|table| table.name == *name && table.relpersistence == persistence)
    };
    let unlogged: Vec<&TableName> = names.iter().filter(|name| is(name, 'u')).collect();
    if !unlogged.is_empty() {
        return Failure::new(format!(
            "publish {}: unlogged tables cannot be replicated",
            listed(unlogged)
        ))
        .hint("ALTER TABLE ... SET LOGGED, or leave them out of tables")
        .err();
    }
    let mut wanted: Vec<TableName> = Vec::new();
    for name in names.iter().chain([found.status]) {
        let partitioned = |table: &Table| table.name == *name && table.relkind == 'p';
        let stand_ins: Vec<TableName> = if found.major < 13 && found.tables.iter().any(partitioned)
        {
            leaves(found.tables.iter().filter(|table| table.belongs_to(name)))
        } else {
            vec![name.clone()]
        };
        for name in stand_ins {
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
    }
    Ok(wanted)
}

/// Every table, roots instead of their partitions where a root can be published (13+).
fn everything(found: &Situation<'_>) -> Vec<TableName> {
    let permanent = found.tables.iter().filter(|t| t.relpersistence == 'p');
    if found.major < 13 {
        leaves(permanent)
    } else {
        permanent
            .filter(|table| table.ancestors.is_empty())
            .map(|table| table.name.clone())
            .collect()
    }
}

fn leaves<'t>(tables: impl Iterator<Item = &'t Table>) -> Vec<TableName> {
    tables
        .filter(|table| table.relkind == 'r')
        .map(|table| table.name.clone())
        .collect()
}

/// Whether the configuration gives the table REPLICA IDENTITY FULL.
pub(super) fn becomes_full(wanted: &config::Publication, table: &Table) -> bool {
    let full = &wanted.replica_identity_full_tables;
    full.iter().any(|name| table.belongs_to(name))
}
