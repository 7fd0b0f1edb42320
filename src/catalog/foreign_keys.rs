//! Foreign keys that stand in the way of a TRUNCATE: apply truncates the tables that its subscription follows and nothing
//! else, and the server refuses that where another table refers to them.

use std::fmt;

use serde::Deserialize;

use crate::catalog::tables::names_of;
use crate::error::{Result, WrapErr};
use crate::server::Session;
use crate::value::{Ident, TableName};

/// A foreign key from one table to another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ForeignKey {
    pub(crate) table: TableName,
    pub(crate) refers_to: TableName,
    pub(crate) name: String,
    /// As `ADD CONSTRAINT` takes it.
    definition: String,
    /// Whose table it is.
    pub(crate) owner: String,
    /// Before 18 those of partitioned tables are never NOT VALID.
    partitioned: bool,
}

const KEY: &str = "
    SELECT jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'owner', pg_get_userbyid(c.relowner),
               'partitioned', 'p' IN (c.relkind, r.relkind),
               'table', jsonb_build_object('schema', n.nspname, 'table', c.relname),
               'refers_to', jsonb_build_object('schema', m.nspname, 'table', r.relname))
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace m ON m.oid = r.relnamespace
     WHERE k.contype = 'f' AND k.conrelid <> k.confrelid AND coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0'";

/// Those of the tables, as far as they are there.
pub(crate) fn of(session: &Session, tables: &[TableName]) -> Result<Vec<ForeignKey>> {
    listed(
        session,
        "AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::name[], $2::name[]))",
        tables,
    )
}

/// Those of tables that are not among `truncated`, or not followed, to those that are.
pub(crate) fn in_the_way(session: &Session, truncated: &[TableName]) -> Result<Vec<ForeignKey>> {
    // A foreign key to a partitioned table has one below it for each partition.
    let and = "
        AND k.oid IN (
            WITH RECURSIVE followed AS (
                SELECT w.oid FROM pg_class w JOIN pg_namespace s ON s.oid = w.relnamespace
                  JOIN pg_subscription_rel f ON f.srrelid = w.oid AND f.srsubstate = 'r'
                 WHERE (s.nspname, w.relname) IN (SELECT * FROM unnest($1::name[], $2::name[]))),
            found(oid) AS (
                SELECT i.oid FROM pg_constraint i
                 WHERE i.contype = 'f' AND i.confrelid IN (SELECT oid FROM followed) AND i.conrelid NOT IN (SELECT oid FROM followed)
                UNION
                SELECT (to_jsonb(i) ->> 'conparentid')::oid FROM found JOIN pg_constraint i ON i.oid = found.oid
                 WHERE coalesce(to_jsonb(i) ->> 'conparentid', '0') <> '0')
            SELECT oid FROM found)";
    listed(session, and, truncated)
}

fn listed(session: &Session, and: &str, tables: &[TableName]) -> Result<Vec<ForeignKey>> {
    session.transaction(|session| {
        // The definition has every name with its schema.
        session.batch("SET LOCAL search_path = pg_catalog")?;
        session
            .list(
                &format!("{KEY} {and} ORDER BY n.nspname, c.relname, k.conname"),
                names_of(tables),
            )
            .wrap_err("list the foreign keys")
    })
}

impl fmt::Display for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ForeignKey {
            table,
            refers_to,
            name,
            ..
        } = self;
        write!(
            f,
            "foreign key {name} of {} to {}",
            table.plain(),
            refers_to.plain()
        )
    }
}

impl ForeignKey {
    pub(crate) fn drop(&self) -> String {
        format!(
            "ALTER TABLE {} DROP CONSTRAINT {}",
            self.table,
            Ident::new(&self.name)
        )
    }

    /// One after the other, each a transaction: old rows are looked at while others write.
    pub(crate) fn add(&self) -> Vec<String> {
        let ForeignKey {
            table,
            name,
            definition,
            partitioned,
            ..
        } = self;
        let name = Ident::new(name);
        let add = format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}");
        if *partitioned || definition.ends_with("NOT VALID") || definition.ends_with("NOT ENFORCED")
        {
            return vec![add];
        }
        vec![
            format!("{add} NOT VALID"),
            format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_rows_are_looked_at_by_themselves() {
        let key = |definition: &str, partitioned| ForeignKey {
            table: TableName::new("s", "c\"d"),
            refers_to: TableName::new("s", "b"),
            name: "k".into(),
            definition: definition.into(),
            owner: "o".into(),
            partitioned,
        };
        let plain = key("FOREIGN KEY (x) REFERENCES s.b(id)", false);
        assert_eq!(
            plain.drop(),
            r#"ALTER TABLE "s"."c""d" DROP CONSTRAINT "k""#
        );
        assert_eq!(plain.add().len(), 2);
        assert_eq!(
            key("FOREIGN KEY (x) REFERENCES s.b(id) NOT VALID", false)
                .add()
                .len(),
            1
        );
        assert_eq!(
            key("FOREIGN KEY (x) REFERENCES s.b(id)", true).add().len(),
            1
        );
    }
}
