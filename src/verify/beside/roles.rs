//! Roles that have to do with the database: attributes and memberships.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Beside;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Ident, Literal};

/// Roles that have to do with the database: they own something in it, hold a privilege, or have a setting for it, are the
/// application's, and whoever is a member of such a role.
pub(super) fn concerned(session: &Session, app_users: &[String]) -> Result<BTreeSet<String>> {
    let names: Vec<String> = session
        .value(
            "WITH RECURSIVE named(oid) AS (
               SELECT s.refobjid FROM pg_shdepend s, pg_database d
                WHERE s.refclassid = 'pg_authid'::regclass AND d.datname = current_database()
                  AND (s.dbid = d.oid OR s.classid = 'pg_database'::regclass AND s.objid = d.oid)
               UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                      WHERE d.datname = current_database()
               UNION SELECT oid FROM pg_roles WHERE rolname = ANY ($1)
               UNION SELECT m.member FROM named n JOIN pg_auth_members m ON m.roleid = n.oid)
             SELECT array(SELECT r.rolname::text FROM pg_roles r JOIN named n ON n.oid = r.oid
                           WHERE r.oid <> 10 AND r.rolname !~ '^(pg_|rds)')",
            params![app_users.to_vec()],
        )
        .wrap_err("read the roles of the database")?;
    Ok(names.into_iter().collect())
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Attributes {
    rolname: String,
    rolsuper: bool,
    rolinherit: bool,
    rolcreaterole: bool,
    rolcreatedb: bool,
    rolcanlogin: bool,
    rolreplication: bool,
    rolbypassrls: bool,
    rolconnlimit: i32,
    /// When its password ends, in UTC.
    valid_until: Option<String>,
    comment: Option<String>,
    /// Those it is a member of.
    member_of: BTreeMap<String, Membership>,
}

/// How a role is a member of another, by whoever granted it. The second and the third came with 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Membership {
    admin: bool,
    inherit: Option<bool>,
    set: Option<bool>,
}

impl Membership {
    /// What a grant without options gives to a role that inherits, or does not.
    fn usual(self, inherits: bool) -> Membership {
        Membership {
            admin: false,
            inherit: self.inherit.map(|_| inherits),
            set: self.set.map(|_| true),
        }
    }

    fn of_15(self) -> Membership {
        Membership {
            inherit: None,
            set: None,
            ..self
        }
    }

    /// What both sides can say.
    fn beside(self, other: Membership) -> Membership {
        Membership {
            inherit: self.inherit.filter(|_| other.inherit.is_some()),
            set: self.set.filter(|_| other.set.is_some()),
            ..self
        }
    }

    /// The options in which it is not as another.
    fn unlike(self, other: Membership) -> Vec<(&'static str, bool)> {
        let admin = (self.admin != other.admin).then_some(("ADMIN", self.admin));
        let inherit = self.inherit.filter(|_| self.inherit != other.inherit);
        let set = self.set.filter(|_| self.set != other.set);
        let options = [
            admin,
            inherit.map(|is| ("INHERIT", is)),
            set.map(|is| ("SET", is)),
        ];
        options.into_iter().flatten().collect()
    }

    fn words(options: &[(&'static str, bool)]) -> String {
        let word = |(option, is): &(&str, bool)| {
            format!("{option} {}", if *is { "TRUE" } else { "FALSE" })
        };
        options.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// `member`, and with which of some options.
    fn shown(options: &[(&'static str, bool)]) -> String {
        match options {
            [] => "member".to_owned(),
            _ => format!("member with {}", Membership::words(options)),
        }
    }

    /// What gives these options to a member. Before 16 there is one, and it is taken away by REVOKE.
    fn granted(options: &[(&'static str, bool)], group: &Ident, role: &Ident) -> Vec<String> {
        let (admin, newer): (Vec<_>, Vec<_>) =
            options.iter().partition(|(option, _)| *option == "ADMIN");
        let admin = admin.iter().map(|(_, is)| {
            if *is {
                format!("GRANT {group} TO {role} WITH ADMIN OPTION")
            } else {
                format!("REVOKE ADMIN OPTION FOR {group} FROM {role}")
            }
        });
        let newer = (!newer.is_empty())
            .then(|| format!("GRANT {group} TO {role} WITH {}", Membership::words(&newer)));
        admin.chain(newer).collect()
    }
}

impl Attributes {
    fn words(&self) -> Vec<String> {
        let flags = [
            ("SUPERUSER", self.rolsuper),
            ("INHERIT", self.rolinherit),
            ("CREATEROLE", self.rolcreaterole),
            ("CREATEDB", self.rolcreatedb),
            ("LOGIN", self.rolcanlogin),
            ("REPLICATION", self.rolreplication),
            ("BYPASSRLS", self.rolbypassrls),
        ];
        let word = |(word, is): (&str, bool)| {
            if is {
                word.to_owned()
            } else {
                format!("NO{word}")
            }
        };
        let mut words: Vec<String> = flags.into_iter().map(word).collect();
        words.push(format!("CONNECTION LIMIT {}", self.rolconnlimit));
        let until = self.valid_until.as_deref().unwrap_or("infinity");
        words.push(format!("VALID UNTIL {}", Literal(until)));
        words
    }
}

fn attributes(session: &Session, names: &BTreeSet<String>) -> Result<BTreeMap<String, Attributes>> {
    let names: Vec<String> = names.iter().cloned().collect();
    let found: Vec<Attributes> = session
        .list(
            "SELECT to_jsonb(r) || jsonb_build_object('valid_until', to_char(nullif(r.rolvaliduntil, 'infinity') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', 'comment', shobj_description(r.oid, 'pg_authid'), 'member_of', (
                      SELECT coalesce(jsonb_object_agg(m.rolname, to_jsonb(m)), '{}') FROM (
                        SELECT g.rolname, bool_or(m.admin_option) AS admin, bool_or((to_jsonb(m) ->> 'inherit_option')::bool) AS inherit, bool_or((to_jsonb(m) ->> 'set_option')::bool) AS set
                          FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid GROUP BY g.rolname) m))
               FROM pg_roles r WHERE r.rolname = ANY ($1::text[]::name[])",
            params![names],
        )
        .wrap_err("read the roles")?;
    Ok(found
        .into_iter()
        .map(|it| (it.rolname.clone(), it))
        .collect())
}

impl Beside {
    pub(super) fn roles(
        &mut self,
        from: &Session,
        to: &Session,
        concerned: &BTreeSet<String>,
        flares: &BTreeSet<String>,
    ) -> Result<()> {
        let names: BTreeSet<String> = concerned.difference(flares).cloned().collect();
        let (ours, theirs) = (attributes(from, &names)?, attributes(to, &names)?);
        for (name, one) in &ours {
            // One that is missing is named with the schema.
            let Some(other) = theirs.get(name) else {
                continue;
            };
            let role = Ident::new(name);
            let (wanted, there) = (one.words(), other.words());
            let only = |words: &[String], but: &[String]| -> Vec<String> {
                words
                    .iter()
                    .filter(|it| !but.contains(it))
                    .cloned()
                    .collect()
            };
            let lacking = only(&wanted, &there);
            if !lacking.is_empty() {
                let statement = format!("ALTER ROLE {role} {}", lacking.join(" "));
                self.differs(
                    "role",
                    role.to_string(),
                    Some(lacking.join(" ")),
                    Some(only(&there, &wanted).join(" ")),
                    Some(statement),
                );
            }
            self.differs(
                "comment",
                format!("role {role}"),
                one.comment.clone(),
                other.comment.clone(),
                Some(format!(
                    "COMMENT ON ROLE {role} IS {}",
                    one.comment
                        .as_ref()
                        .map_or("NULL".to_owned(), |it| Literal(it).to_string())
                )),
            );
            self.memberships(&role, one, other, to.major()?);
        }
        Ok(())
    }

    /// Each role that one of the two is a member of and the other is not, or with other options.
    fn memberships(&mut self, role: &Ident, one: &Attributes, other: &Attributes, target: i32) {
        let (ours, theirs) = (&one.member_of, &other.member_of);
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let group = Ident::new(name);
            let (publisher, subscriber, statements) = match (ours.get(name), theirs.get(name)) {
                (Some(ours), Some(theirs)) => {
                    let (ours, theirs) = (ours.beside(*theirs), theirs.beside(*ours));
                    let wanted = ours.unlike(theirs);
                    (
                        Some(Membership::shown(&wanted)),
                        Some(Membership::shown(&theirs.unlike(ours))),
                        Membership::granted(&wanted, &group, role),
                    )
                }
                (Some(ours), None) => {
                    let ours = if target < 16 { ours.of_15() } else { *ours };
                    let special = ours.unlike(ours.usual(one.rolinherit));
                    let mut statements = Membership::granted(&special, &group, role);
                    if statements.is_empty() {
                        statements.push(format!("GRANT {group} TO {role}"));
                    }
                    (Some(Membership::shown(&special)), None, statements)
                }
                (None, _) => (
                    None,
                    Some(Membership::shown(&[])),
                    vec![format!("REVOKE {group} FROM {role}")],
                ),
            };
            self.differs(
                "membership",
                format!("{role} in {group}"),
                publisher,
                subscriber,
                Some(statements.join("; ")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(admin: bool, inherit: Option<bool>, set: Option<bool>) -> Membership {
        Membership {
            admin,
            inherit,
            set,
        }
    }

    #[test]
    fn options_that_one_side_lacks_are_no_difference() {
        let of_14 = membership(false, None, None);
        let of_18 = membership(false, Some(false), Some(true));
        assert_eq!(of_14.beside(of_18), of_18.beside(of_14));
        let admin = membership(true, Some(true), Some(true));
        assert_eq!(admin.beside(of_14).unlike(of_14), [("ADMIN", true)]);
    }

    #[test]
    fn a_membership_is_granted_with_the_options_that_are_not_usual() {
        let granted = |options: &[(&'static str, bool)]| {
            Membership::granted(options, &Ident::new("G"), &Ident::new("r")).join("; ")
        };
        let wanted = membership(true, Some(false), Some(true));
        let special = wanted.unlike(wanted.usual(true));
        assert_eq!(
            Membership::shown(&special),
            "member with ADMIN TRUE, INHERIT FALSE"
        );
        assert_eq!(
            granted(&special),
            r#"GRANT "G" TO "r" WITH ADMIN OPTION; GRANT "G" TO "r" WITH INHERIT FALSE"#
        );
        assert_eq!(
            granted(&[("ADMIN", false)]),
            r#"REVOKE ADMIN OPTION FOR "G" FROM "r""#
        );
        let of_15 = wanted.of_15();
        assert_eq!(of_15.unlike(of_15.usual(true)), [("ADMIN", true)]);
    }
}
