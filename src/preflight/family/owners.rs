//! Who owns the tables: as whom an administrator that is no superuser publishes them, grants on them and dumps them.

use super::published::{PUBLISHED, TABLES, Table, covered};
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "table_owners",
    title: "a superuser, or db_owner, may act for the owners of all tables",
    before: Before::Publication,
    place: Place::Database,
    asks: &[
        OWNERS.on_publisher(),
        TABLES.on_publisher(),
        PUBLISHED.on_publisher(),
    ],
    judge: |view| match view.publisher {
        // What is published already has been granted and dumped.
        Some(publisher) if !publisher.superuser && !view.subscribed => {
            let db_owner = &publisher.side.host(view.config).db_owner.user;
            Ok(out_of_reach(
                &publisher.rows(&OWNERS)?,
                &publisher.rows(&TABLES)?,
                &covered(view)?,
                (db_owner, publisher.side),
            ))
        }
        _ => Ok(Vec::new()),
    },
}];

/// An owner of tables for whom db_owner may not act.
const OWNERS: Question<String> = Question::database(
    "owners",
    "SELECT to_jsonb(r.rolname) FROM pg_roles r LEFT JOIN pg_roles d ON d.rolname = {db_owner}
      WHERE r.oid IN (SELECT relowner FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384)
        AND NOT coalesce(pg_has_role(d.oid, r.oid, 'USAGE'), false)",
);

fn out_of_reach(
    owners: &[String],
    tables: &[Table],
    covered: &[Table],
    (db_owner, side): (&str, Side),
) -> Vec<Finding> {
    let (mut published, mut left): (Vec<&Table>, Vec<&Table>) = (Vec::new(), Vec::new());
    for table in tables.iter().filter(|it| owners.contains(&it.owner)) {
        if covered.iter().any(|it| it.name == table.name) {
            published.push(table);
        } else {
            left.push(table);
        }
    }
    let finding = |severity, tables: &[&Table], words: &str| {
        let mut roles: Vec<String> = tables
            .iter()
            .map(|it| Ident::new(&it.owner).to_string())
            .collect();
        roles.sort();
        roles.dedup();
        let objects = tables
            .iter()
            .map(|it| format!("{} (owner {:?})", it.name.plain(), it.owner));
        (!tables.is_empty()).then(|| {
            Finding::of(
                severity,
                format!("tables belong to roles for which {db_owner:?} may not act, and the administrator is no superuser: {words}"),
            )
            .objects(objects)
            .fix(format!(
                "GRANT {} TO {} on the {side}",
                roles.join(", "),
                Ident::new(db_owner)
            ))
        })
    };
    let blocked = finding(
        Severity::Blocker,
        &published,
        "they can be neither published nor granted to the replication user",
    );
    let warned = finding(
        Severity::Warning,
        &left,
        "prepare, which dumps the schema as it, cannot lock them",
    );
    blocked.into_iter().chain(warned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn tables_of_others_are_named_with_the_grant() {
        let of = |name: &str, owner: &str| Table {
            owner: owner.into(),
            ..table(name)
        };
        let tables = [of("a", "mine"), of("b", "o\"two"), of("c", "three")];
        let found = |owners: &[&str], covered: &[Table]| {
            let owners: Vec<String> = owners.iter().map(|it| (*it).to_owned()).collect();
            out_of_reach(&owners, &tables, covered, ("adm", Side::Publisher))
        };
        assert!(found(&[], &tables).is_empty());
        let both = found(&["three", "o\"two"], &tables);
        assert_eq!(both[0].severity, Severity::Blocker);
        assert_eq!(
            both[0].objects,
            [
                "public.b (owner \"o\\\"two\")",
                "public.c (owner \"three\")"
            ]
        );
        assert_eq!(
            both[0].fix.as_deref(),
            Some(r#"GRANT "o""two", "three" TO "adm" on the publisher"#)
        );
        let one = found(&["three"], &tables[..2]);
        assert_eq!(one[0].severity, Severity::Warning);
    }
}
