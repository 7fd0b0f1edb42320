//! Privileges on the publisher: for the administrator who creates publications, and for the replication user.

mod held;

use std::collections::BTreeMap;

use self::held::{Held, Object, Schema, held};
use super::{Change, Plan, Run, made};
use crate::catalog::tables::listed;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Login, Publisher, Side, params};
use crate::value::Ident;

/// Grants CREATE and CONNECT on a database to the superuser of the configuration.
pub(crate) fn grant_create(
    publisher: &Publisher,
    dbname: &str,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let grantee = &publisher.declared().superuser.user;
    let session = publisher.visit_as(login, dbname)?;
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

/// Grants the replication user everything on a database and on what is published in it.
pub(crate) fn grant_replication(
    publisher: &Publisher,
    dbname: &str,
    pubname: &str,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let grantee = publisher.credentials(Login::Replication)?.user();
    let session = publisher.visit_as(login, dbname)?;
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
    use super::held::Owner;
    use super::*;
    use crate::value::TableName;

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
