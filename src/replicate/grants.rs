//! Privileges on the publisher: for the administrator who creates publications, and for the replication user.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Change, Plan, Run, made};
use crate::catalog::tables::listed;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Login, Publisher, Session, Side, params};
use crate::value::{Ident, TableName};

/// Grants CREATE and CONNECT on a database to the superuser of the configuration.
pub(crate) fn grant_create(
    publisher: &Publisher,
    dbname: &str,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let grantee = &publisher.declared().superuser.user;
    let session = publisher.connect(login, dbname)?;
    let held: Vec<String> = session.value(
        "SELECT array(SELECT privilege FROM unnest(ARRAY['CREATE', 'CONNECT']) privilege
          WHERE has_database_privilege($1, $2, privilege))",
        params![grantee, dbname],
    )?;
    let plan = create_plan(dbname, grantee, &held);
    if plan.is_empty() {
        return plan.carry_out(&session, run);
    }
    made::recording(publisher, dbname, run, || plan.carry_out(&session, run))
}

fn create_plan(dbname: &str, grantee: &str, held: &[String]) -> Plan {
    let mut plan = Plan::new(Side::Publisher, dbname);
    for privilege in ["CREATE", "CONNECT"] {
        if held.iter().any(|held| held == privilege) {
            plan.note(format!(
                "{grantee:?} holds {privilege} on database {dbname:?} already"
            ))
        } else {
            plan.step(
                format!("grant {privilege} on database {dbname:?} to {grantee:?}"),
                format!(
                    "GRANT {privilege} ON DATABASE {} TO {}",
                    Ident::from(dbname),
                    Ident::new(grantee)
                ),
            )
        }
    }
    plan
}

/// A schema whose tables are published, as far as privileges go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Schema {
    nspname: String,
    usage: bool,
    /// Tables on which the grantee lacks a privilege.
    tables: Vec<Object>,
    /// Sequences that the grantee cannot read.
    sequences: Vec<Object>,
    /// Who owns tables here, and what the grantee will not get on their next ones.
    owners: Vec<Owner>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Object {
    #[serde(flatten)]
    name: TableName,
    owner: String,
    /// Whether the grantee can read it nevertheless.
    readable: bool,
    /// Whether the grantor may grant on it.
    grantable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Owner {
    rolname: String,
    /// Whether the grantor may act for it.
    mine: bool,
    tables: bool,
    sequences: bool,
}

/// What the grantee has and lacks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Held {
    superuser: bool,
    replication: bool,
    /// Privileges it lacks on the database.
    database: Vec<String>,
    schemas: Vec<Schema>,
    /// Tables whose row security would hide rows from the grantee while they are copied, in silence.
    hidden: Vec<TableName>,
    /// Whether the grantor may let it bypass row security: a superuser, or from 16 on who has that right to give.
    bypass_grantable: bool,
}

const HELD: &str = "
    SELECT jsonb_build_object('superuser', r.rolsuper, 'replication', r.rolreplication,
        'database', (SELECT coalesce(jsonb_agg(p), '[]') FROM unnest(ARRAY['CREATE', 'CONNECT', 'TEMPORARY']) p
                      WHERE NOT has_database_privilege(r.oid, current_database(), p)),
        'schemas', (SELECT coalesce(jsonb_agg(jsonb_build_object('nspname', n.nspname, 'usage', has_schema_privilege(r.oid, n.oid, 'USAGE'),
            'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname,
                                'owner', pg_get_userbyid(c.relowner), 'readable', has_table_privilege(r.oid, c.oid, 'SELECT'),
                                'grantable', pg_has_role(c.relowner, 'USAGE')) ORDER BY c.relname), '[]')
                         FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
                          AND EXISTS (SELECT FROM unnest($2) p WHERE NOT has_table_privilege(r.oid, c.oid, p))),
            'sequences', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname,
                                'owner', pg_get_userbyid(c.relowner), 'readable', has_table_privilege(r.oid, c.oid, 'SELECT'),
                                'grantable', pg_has_role(c.relowner, 'USAGE')) ORDER BY c.relname), '[]')
                         FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'S' AND c.relpersistence <> 't'
                          AND NOT (has_table_privilege(r.oid, c.oid, 'SELECT'))),
            'owners', (SELECT coalesce(jsonb_agg(jsonb_build_object('rolname', o.rolname, 'mine', pg_has_role(o.oid, 'USAGE'),
                                'tables', o.oid <> r.oid AND (SELECT count(DISTINCT a.privilege_type) FROM pg_default_acl d, aclexplode(d.defaclacl) a
                                            WHERE d.defaclrole = o.oid AND d.defaclnamespace IN (0, n.oid) AND d.defaclobjtype = 'r'
                                              AND a.grantee = r.oid AND a.privilege_type = ANY($2)) < cardinality($2),
                                'sequences', o.oid <> r.oid AND NOT EXISTS (SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) a
                                            WHERE d.defaclrole = o.oid AND d.defaclnamespace IN (0, n.oid) AND d.defaclobjtype = 'S'
                                              AND a.grantee = r.oid AND a.privilege_type = 'SELECT')) ORDER BY o.rolname), '[]')
                         FROM pg_roles o
                        WHERE o.rolname = $3 OR o.oid IN (SELECT c.relowner FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p')))
            ) ORDER BY n.nspname), '[]')
          FROM pg_namespace n
         WHERE CASE WHEN EXISTS (SELECT FROM pg_publication WHERE pubname = $4)
                    THEN n.oid IN (SELECT c.relnamespace FROM pg_get_publication_tables($4) t JOIN pg_class c ON c.oid = t.relid)
                    ELSE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' END),
        'hidden', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname) ORDER BY n.nspname, c.relname), '[]')
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
                      AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
                      AND CASE WHEN EXISTS (SELECT FROM pg_publication WHERE pubname = $4)
                               THEN c.oid IN (SELECT t.relid FROM pg_get_publication_tables($4) t)
                               ELSE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' END),
        'bypass_grantable', (SELECT g.rolsuper OR current_setting('server_version_num')::int >= 160000
                                AND g.rolcreaterole AND g.rolbypassrls AND pg_has_role(g.oid, r.oid, 'MEMBER WITH ADMIN OPTION')
                               FROM pg_roles g WHERE g.rolname = current_user))
      FROM pg_roles r WHERE r.rolname = $1";

/// Every table privilege of a major version.
fn table_privileges(major: i32) -> Vec<String> {
    let all = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
    ];
    let maintain = (major >= 17).then_some("MAINTAIN");
    let all = all.into_iter().chain(maintain);
    all.map(str::to_owned).collect()
}

/// Grants the replication user everything on a database and on what is published in it.
pub(crate) fn grant_replication(
    publisher: &Publisher,
    dbname: &str,
    pubname: &str,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let grantee = publisher.credentials(Login::Replication)?.user();
    let session = publisher.connect(login, dbname)?;
    let plan = || {
        let held = held(&session, grantee, publisher, pubname)
            .wrap_err_with(|| format!("read the privileges of {grantee:?}"))?;
        replication_plan(dbname, grantee, &session.endpoint().user, &held)
    };
    let first = plan()?;
    let change = if first.is_empty() {
        first.carry_out(&session, run)?
    } else {
        made::recording(publisher, dbname, run, || first.carry_out(&session, run))?
    };
    // A GRANT without grant option is only a warning of the server's.
    if change.changed && !plan()?.statements().is_empty() {
        Failure::new(format!(
            "grant to {grantee:?} in database {dbname:?}: {:?} may not grant all of it: {}",
            session.endpoint().user,
            plan()?.statements()[0].what
        ))
        .hint("run it with the other account: with or without --use-db-owner")
        .err()
    } else {
        Ok(change)
    }
}

fn held(session: &Session, grantee: &str, publisher: &Publisher, pubname: &str) -> Result<Held> {
    let db_owner = &publisher.declared().db_owner.user;
    let privileges = table_privileges(publisher.major());
    let held: Option<Held> =
        session.first(HELD, params![grantee, privileges, db_owner, pubname])?;
    held.ok_or_else(|| {
        Failure::new(format!("there is no role {grantee:?} on the publisher"))
            .hint(format!(
                "CREATE ROLE {} LOGIN REPLICATION PASSWORD '...'; on Amazon RDS without REPLICATION, and GRANT rds_replication to it",
                Ident::new(grantee)
            ))
            .into()
    })
}

fn replication_plan(dbname: &str, grantee: &str, grantor: &str, held: &Held) -> Result<Plan> {
    let mut plan = Plan::new(Side::Publisher, dbname);
    if held.superuser {
        plan.note(format!("{grantee:?} is a superuser and needs no grants"));
        return Ok(plan);
    }
    let denied: Vec<String> = held
        .schemas
        .iter()
        .flat_map(|schema| schema.tables.iter().chain(&schema.sequences))
        .filter(|object| !object.grantable && !object.readable)
        .map(|object| format!("{} (owner {:?})", object.name.plain(), object.owner))
        .collect();
    if !denied.is_empty() {
        return Failure::new(format!(
            "grant to {grantee:?}: {grantor:?} may not grant on {}",
            denied.join(", ")
        ))
        .hint(format!(
            "run it with the other account (with or without --use-db-owner), or GRANT SELECT on them to {grantee:?} as their owners"
        ))
        .err();
    }
    let to = Ident::new(grantee);
    if held.database.is_empty() {
        plan.note(format!(
            "{grantee:?} holds all privileges on database {dbname:?} already"
        ))
    } else {
        plan.step(
            format!("grant all privileges on database {dbname:?} to {grantee:?}"),
            format!("GRANT ALL ON DATABASE {} TO {to}", Ident::from(dbname)),
        )
    }
    for schema in &held.schemas {
        schema_steps(&mut plan, grantee, schema);
    }
    let hidden = listed(held.hidden.iter());
    match (held.hidden.is_empty(), held.bypass_grantable) {
        (true, _) => {}
        (false, true) => plan.step(
            format!("let {grantee:?} copy the rows that row security hides, of {hidden}"),
            format!("ALTER ROLE {to} BYPASSRLS"),
        ),
        (false, false) => plan.note(format!(
            "row security would hide rows of {hidden} from {grantee:?} while they are copied; a superuser has to run: ALTER ROLE {to} BYPASSRLS"
        )),
    }
    if !held.replication {
        plan.note(format!(
            "{grantee:?} has no REPLICATION attribute: ALTER ROLE {to} REPLICATION; on Amazon RDS GRANT rds_replication TO {to} instead"
        ));
    }
    Ok(plan)
}

fn schema_steps(plan: &mut Plan, grantee: &str, schema: &Schema) {
    let to = Ident::new(grantee);
    let nspname = &schema.nspname;
    let ident = Ident::new(nspname);
    if !schema.usage {
        plan.step(
            format!("grant USAGE on schema {nspname:?} to {grantee:?}"),
            format!("GRANT USAGE ON SCHEMA {ident} TO {to}"),
        );
    }
    for (privilege, kind, objects) in [
        ("ALL", "TABLE", &schema.tables),
        ("SELECT", "SEQUENCE", &schema.sequences),
    ] {
        let (grantable, left): (Vec<&Object>, Vec<&Object>) =
            objects.iter().partition(|object| object.grantable);
        if !grantable.is_empty() {
            let names: Vec<String> = grantable.iter().map(|o| o.name.to_string()).collect();
            plan.step(
                format!(
                    "grant {privilege} on {} {}{} of schema {nspname:?} to {grantee:?}",
                    grantable.len(),
                    kind.to_lowercase(),
                    if grantable.len() == 1 { "" } else { "s" }
                ),
                format!("GRANT {privilege} ON {kind} {} TO {to}", names.join(", ")),
            );
        }
        if !left.is_empty() {
            plan.note(format!(
                "{grantee:?} can read {}, and gets no more on it: it belongs to another",
                listed(left.iter().map(|object| &object.name))
            ));
        }
    }
    default_steps(plan, grantee, schema);
}

/// Tables made later are readable too.
fn default_steps(plan: &mut Plan, grantee: &str, schema: &Schema) {
    let to = Ident::new(grantee);
    let mut others: BTreeMap<&str, ()> = BTreeMap::new();
    for owner in &schema.owners {
        if !owner.mine {
            if owner.tables || owner.sequences {
                others.insert(&owner.rolname, ());
            }
            continue;
        }
        for (lacks, privilege, kind) in [
            (owner.tables, "ALL", "TABLES"),
            (owner.sequences, "SELECT", "SEQUENCES"),
        ] {
            if lacks {
                plan.step(
                    format!(
                        "grant {privilege} on the next {} of {:?} in schema {:?} to {grantee:?}",
                        kind.to_lowercase(),
                        owner.rolname,
                        schema.nspname
                    ),
                    format!(
                        "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT {privilege} ON {kind} TO {to}",
                        Ident::new(&owner.rolname),
                        Ident::new(&schema.nspname)
                    ),
                );
            }
        }
    }
    if !others.is_empty() {
        let others: Vec<String> = others
            .keys()
            .map(|rolname| format!("{rolname:?}"))
            .collect();
        plan.note(format!(
            "what {} will create in schema {:?} is not granted in advance: run this again afterwards, or as a superuser",
            others.join(", "),
            schema.nspname
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        let object = |table: &str, grantable, readable| Object {
            name: TableName::new("app", table),
            owner: "boss".into(),
            readable,
            grantable,
        };
        Held {
            superuser: false,
            replication: true,
            database: vec![],
            schemas: vec![Schema {
                nspname: "app".into(),
                usage: false,
                tables: vec![object("a", true, false), object("b", false, true)],
                sequences: vec![],
                owners: vec![Owner {
                    rolname: "o\"o".into(),
                    mine: true,
                    tables: true,
                    sequences: false,
                }],
            }],
            hidden: vec![],
            bypass_grantable: false,
        }
    }

    #[test]
    fn the_replication_user_gets_what_it_lacks() {
        let plan = replication_plan("db", "repl", "adm", &held()).unwrap();
        let statements: Vec<&str> = plan.statements().iter().map(|s| s.shown.as_str()).collect();
        assert_eq!(
            statements,
            [
                r#"GRANT USAGE ON SCHEMA "app" TO "repl""#,
                r#"GRANT ALL ON TABLE "app"."a" TO "repl""#,
                r#"ALTER DEFAULT PRIVILEGES FOR ROLE "o""o" IN SCHEMA "app" GRANT ALL ON TABLES TO "repl""#,
            ]
        );
    }

    #[test]
    fn a_table_that_stays_unreadable_is_refused_by_name() {
        let mut held = held();
        held.schemas[0].tables[1].readable = false;
        let error = replication_plan("db", "repl", "adm", &held).unwrap_err();
        assert!(
            error.to_string().contains("app.b (owner \"boss\")"),
            "{error}"
        );
    }

    #[test]
    fn rows_that_would_be_hidden_are_shown_or_spoken_of() {
        let mut held = held();
        held.hidden = vec![TableName::new("app", "own rows")];
        let plan = |held: &Held| replication_plan("db", "repl", "adm", held).unwrap();
        let bypass = r#"ALTER ROLE "repl" BYPASSRLS"#;
        let runs = |plan: &Plan| plan.statements().iter().any(|s| s.shown == bypass);
        let spoken_of = plan(&held);
        assert!(!runs(&spoken_of));
        assert!(format!("{spoken_of:?}").contains("BYPASSRLS"));
        held.bypass_grantable = true;
        assert!(runs(&plan(&held)));
    }

    #[test]
    fn only_what_is_missing_is_granted() {
        let plan = create_plan("a\"b", "adm", &["CONNECT".into()]);
        let statements: Vec<&str> = plan.statements().iter().map(|s| s.shown.as_str()).collect();
        assert_eq!(statements, [r#"GRANT CREATE ON DATABASE "a""b" TO "adm""#]);
    }
}
