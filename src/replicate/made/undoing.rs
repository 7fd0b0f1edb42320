//! The statements that take back what flare has made, where it still is as flare left it.

use std::collections::{BTreeMap, BTreeSet};

use super::known::Known;
use super::state::{Made, OnColumn, State};
use crate::server::Statement;
use crate::value::{Ident, Literal};

/// The roles that the record speaks of.
pub(super) fn roles_of(made: &[Made]) -> Vec<String> {
    let roles: BTreeSet<&String> = made
        .iter()
        .filter_map(|it| match it {
            Made::Privilege { to, .. } | Made::DefaultPrivilege { to, .. } => Some(to),
            Made::BypassRls { role } | Made::Setting { role, .. } => Some(role),
            Made::ReplicaIdentity { .. } | Made::NotValid { .. } => None,
        })
        .collect();
    roles.into_iter().cloned().collect()
}

/// The statements that take back what still is as it was made.
pub(super) fn undoing(dbname: &str, made: &[Made], now: &State) -> Vec<Statement> {
    let mut privileges: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut defaults: BTreeMap<(&str, Option<&str>, &str, &str), Vec<&str>> = BTreeMap::new();
    let mut statements = Vec::new();
    let held = Known::of(&now.held);
    for it in made {
        match it {
            Made::Privilege { .. } => {
                // Under the name of now.
                if let Some(Made::Privilege {
                    on, privilege, to, ..
                }) = held.find(it)
                {
                    let known = privileges.entry((on, to)).or_default();
                    if !known.contains(&privilege.as_str()) {
                        known.push(privilege);
                    }
                }
            }
            Made::DefaultPrivilege {
                role,
                schema,
                on,
                privilege,
                to,
            } if now.held.contains(it) => {
                let key = (role.as_str(), schema.as_deref(), on.as_str(), to.as_str());
                defaults.entry(key).or_default().push(privilege);
            }
            Made::BypassRls { role } if now.held.contains(it) => statements.push(Statement::new(
                format!("take back BYPASSRLS from {role:?}"),
                format!("ALTER ROLE {} NOBYPASSRLS", Ident::new(role)),
            )),
            Made::NotValid {
                on,
                conname,
                definition,
            } if !now.constraints.contains(&(on.clone(), conname.clone())) => {
                statements.push(Statement::new(
                    format!("make {conname} again, NOT VALID as it was"),
                    format!(
                        "ALTER {on} ADD CONSTRAINT {} {definition}",
                        Ident::new(conname)
                    ),
                ));
            }
            Made::ReplicaIdentity {
                table,
                oid,
                was,
                is,
            } => {
                let (table, identity) = now.table_and_identity(table, *oid);
                if identity == is {
                    statements.push(Statement::new(
                        format!("give {table} its replica identity back"),
                        format!("ALTER TABLE {table} REPLICA IDENTITY {was}"),
                    ));
                }
            }
            Made::Setting {
                role,
                name,
                was,
                is,
            } if now.setting(role, name) == Some(is) => {
                let whose = format!(
                    "ALTER ROLE {} IN DATABASE {}",
                    Ident::new(role),
                    Ident::from(dbname)
                );
                statements.push(Statement::new(
                    format!("give {role:?} its own {name} back"),
                    match was {
                        Some(value) => {
                            format!("{whose} SET {} = {}", Ident::new(name), Literal(value))
                        }
                        None => format!("{whose} RESET {}", Ident::new(name)),
                    },
                ));
            }
            _ => {}
        }
    }
    for ((role, schema, on, to), privileges) in defaults {
        let place = schema.map(|it| format!(" IN SCHEMA {}", Ident::from(it)));
        let in_schema = schema.map(|it| format!(" in schema {it:?}"));
        statements.push(Statement::new(
            format!(
                "take back from {to:?} what it gets on the next {} of {role:?}{}",
                on.to_lowercase(),
                in_schema.unwrap_or_default()
            ),
            format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {}{} REVOKE {} ON {on} FROM {}",
                Ident::from(role),
                place.unwrap_or_default(),
                privileges.join(", "),
                Ident::from(to)
            ),
        ));
    }
    statements.extend(revokes(privileges, &now.columns));
    statements
}

/// Objects with the same privileges go in one statement.
fn revokes(privileges: BTreeMap<(&str, &str), Vec<&str>>, columns: &[OnColumn]) -> Vec<Statement> {
    const AT_ONCE: usize = 100;
    let mut alike: BTreeMap<(&str, &str, Vec<&str>), Vec<&str>> = BTreeMap::new();
    for ((on, to), privileges) in privileges {
        let (kind, name) = on.split_once(' ').unwrap_or((on, ""));
        alike.entry((kind, to, privileges)).or_default().push(name);
    }
    let mut statements = Vec::new();
    for ((kind, to, privileges), names) in alike {
        for names in names.chunks(AT_ONCE) {
            let what = match names {
                [one] => format!("{} {one}", kind.to_lowercase()),
                more => format!("{} {}s", more.len(), kind.to_lowercase()),
            };
            let mut sql = format!(
                "REVOKE {} ON {kind} {} FROM {}",
                privileges.join(", "),
                names.join(", "),
                Ident::from(to)
            );
            let kept = columns.iter().filter(|it| {
                kind == "TABLE"
                    && it.to == to
                    && names.contains(&it.table.as_str())
                    && privileges.contains(&it.privilege.as_str())
            });
            for OnColumn {
                table,
                column,
                privilege,
                ..
            } in kept
            {
                sql.push_str(&format!(
                    "; GRANT {privilege} ({column}) ON {table} TO {}",
                    Ident::from(to)
                ));
            }
            let what = format!("take back from {to:?} what flare granted on {what}");
            statements.push(Statement::new(what, sql));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::super::state::made_between;
    use super::*;

    fn privilege(on: &str, privilege: &str) -> Made {
        Made::Privilege {
            on: on.into(),
            oid: None,
            privilege: privilege.into(),
            to: "re\"pl".into(),
        }
    }

    #[test]
    fn only_what_came_and_still_stands_is_taken_back() {
        let (own, ours, gone) = (
            privilege("TABLE a.b", "SELECT"),
            privilege("TABLE a.b", "INSERT"),
            privilege("TABLE a.c", "SELECT"),
        );
        let mut before = State::default();
        before.held.insert(own.clone());
        before.identities.insert("a.keep".into(), "FULL".into());
        let mut after = before.clone();
        after.held.extend([ours.clone(), gone.clone()]);
        after.identities.insert("a.b".into(), "FULL".into());
        after
            .identities
            .insert("a.keep".into(), "USING INDEX i".into());
        let made = made_between(&before, &after);
        assert_eq!(made.len(), 4, "{made:?}");
        after.held.remove(&gone);
        after.identities.remove("a.keep");
        let sql: Vec<String> = undoing("d", &made, &after)
            .iter()
            .map(|it| it.shown.clone())
            .collect();
        assert_eq!(
            sql,
            [
                "ALTER TABLE a.b REPLICA IDENTITY DEFAULT",
                "REVOKE INSERT ON TABLE a.b FROM \"re\"\"pl\"",
            ]
        );
    }
}
