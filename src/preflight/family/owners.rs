//! Who owns what is there: as whom an administrator that is no superuser publishes tables, grants on them, dumps them, and
//! makes them on the other side.

use serde::Deserialize;

use super::published::{PUBLISHED, TABLES, Table, covered};
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[
    Check {
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
    },
    Check {
        id: "object_owners",
        title: "the subscriber's administrator may act there for the owners of all objects",
        before: Before::Setup,
        place: Place::Database,
        asks: &[OWNED.on_publisher(), BARRED.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            // create_subscription finds the schema there, and says what it lacks itself.
            (Some(publisher), Some(subscriber))
                if !subscriber.superuser
                    && !view.subscribed
                    && view.before != Before::Subscription =>
            {
                let db_owner = &publisher.side.host(view.config).db_owner.user;
                Ok(barred(
                    &publisher.rows(&OWNED)?,
                    &subscriber.rows(&BARRED)?,
                    (&subscriber.user, db_owner),
                    (publisher.side, subscriber.side),
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// What the load of the schema gives to its owner.
#[derive(Clone, Debug, Deserialize)]
struct Owned {
    owner: String,
    object: String,
}

const OWNED: Question<Owned> = Question::database(
    "owned",
    "SELECT jsonb_build_object('owner', pg_get_userbyid(o.owner), 'object', o.object)
       FROM (SELECT 'pg_class'::regclass, oid, relowner, oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = 'flare')
             UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, oid::regprocedure::text FROM pg_proc
             UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, format('schema %I', nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|flare$)'
             UNION ALL SELECT 'pg_default_acl'::regclass, d.oid, d.defaclrole, 'default privileges' || coalesce(format(' in schema %I', n.nspname), '')
                         FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace) o(classid, oid, owner, object)
      WHERE o.oid >= 16384
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = o.classid AND e.objid = o.oid AND e.deptype IN ('e', 'a', 'i'))
      ORDER BY o.owner, o.classid, o.object",
);

/// A role that the administrator is no member of, and cannot become one.
const BARRED: Question<Barred> = Question::server(
    "barred",
    "SELECT jsonb_build_object('role', r.rolname, 'superuser', r.rolsuper) FROM pg_roles r JOIN pg_roles me ON me.rolname = current_user
      WHERE NOT pg_has_role(r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'USAGE' END)
        AND NOT pg_has_role(r.oid, 'USAGE')
        AND (r.rolsuper
             OR (NOT me.rolcreaterole OR current_setting('server_version_num')::int >= 160000) AND NOT pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'))",
);

#[derive(Clone, Debug, Deserialize)]
struct Barred {
    role: String,
    superuser: bool,
}

fn barred(
    owned: &[Owned],
    barred: &[Barred],
    (administrator, db_owner): (&str, &str),
    (from, to): (Side, Side),
) -> Vec<Finding> {
    let finding = |superuser: bool| {
        let roles: Vec<&str> = barred
            .iter()
            .filter(|it| it.superuser == superuser)
            .map(|it| it.role.as_str())
            .filter(|role| owned.iter().any(|it| it.owner == *role))
            .collect();
        let objects: Vec<String> = owned
            .iter()
            .filter(|it| roles.contains(&it.owner.as_str()))
            .map(|it| format!("{} (owner {:?})", it.object, it.owner))
            .collect();
        let listed: Vec<String> = roles.iter().map(|it| Ident::new(*it).to_string()).collect();
        (!roles.is_empty()).then(|| {
            Finding::blocker(format!(
                "objects belong to roles of the {to} for which {administrator:?} may not act there, and it is no superuser: the schema could not be loaded"
            ))
            .objects(objects)
            .fix(if superuser {
                format!(
                    "ALTER TABLE (or what it is) ... OWNER TO {}, ALTER DEFAULT PRIVILEGES ... REVOKE on the {from}: no role but a superuser acts for {}",
                    Ident::new(db_owner),
                    listed.join(", ")
                )
            } else {
                format!(
                    "GRANT {} TO {} WITH ADMIN OPTION on the {to}, as a role that may",
                    listed.join(", "),
                    Ident::new(administrator)
                )
            })
        })
    };
    [true, false].into_iter().filter_map(finding).collect()
}

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
    fn objects_of_roles_out_of_reach_are_named() {
        let owned: Vec<Owned> = [("postgres", "t"), ("app", "f()"), ("other", "schema s")]
            .map(|(owner, object)| Owned {
                owner: owner.into(),
                object: object.into(),
            })
            .into();
        let found = |roles: &[(&str, bool)]| {
            let roles: Vec<Barred> = roles
                .iter()
                .map(|(role, superuser)| Barred {
                    role: (*role).into(),
                    superuser: *superuser,
                })
                .collect();
            let sides = (Side::Publisher, Side::Subscriber);
            barred(&owned, &roles, ("master", "app"), sides)
        };
        assert!(found(&[("unused", true), ("idle", false)]).is_empty());
        let both = found(&[("postgres", true), ("other", false)]);
        assert_eq!(both[0].objects, ["t (owner \"postgres\")"]);
        assert!(both[0].fix.as_deref().unwrap().contains("OWNER TO \"app\""));
        assert_eq!(
            both[1].fix.as_deref(),
            Some(
                r#"GRANT "other" TO "master" WITH ADMIN OPTION on the subscriber, as a role that may"#
            )
        );
    }

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
