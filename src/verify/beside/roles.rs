//! Roles that have to do with the database: attributes and memberships.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Beside;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Ident, Literal};

/// Roles that have to do with the database: they own something in it, hold a privilege, or have a setting for it, and
/// whoever is a member of such a role.
pub(super) fn concerned(session: &Session) -> Result<BTreeSet<String>> {
    let names: Vec<String> = session
        .value(
            "WITH RECURSIVE named(oid) AS (
               SELECT s.refobjid FROM pg_shdepend s, pg_database d
                WHERE s.refclassid = 'pg_authid'::regclass AND d.datname = current_database()
                  AND (s.dbid = d.oid OR s.classid = 'pg_database'::regclass AND s.objid = d.oid)
               UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                      WHERE d.datname = current_database()
               UNION SELECT m.member FROM named n JOIN pg_auth_members m ON m.roleid = n.oid)
             SELECT array(SELECT r.rolname::text FROM pg_roles r JOIN named n ON n.oid = r.oid
                           WHERE r.oid <> 10 AND r.rolname !~ '^(pg_|rds)')",
            params![],
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
    /// Those it is a member of.
    member_of: Vec<String>,
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
            "SELECT to_jsonb(r) || jsonb_build_object('valid_until', to_char(nullif(r.rolvaliduntil, 'infinity') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', 'member_of', (
                      SELECT coalesce(jsonb_agg(DISTINCT g.rolname), '[]') FROM pg_auth_members m
                        JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))
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
            self.memberships(&role, (&one.member_of, &other.member_of));
        }
        Ok(())
    }

    /// Each role that one of the two is a member of and the other is not.
    fn memberships(&mut self, role: &Ident, (ours, theirs): (&[String], &[String])) {
        let member = || Some(String::from("member"));
        let granted = ours.iter().filter(|it| !theirs.contains(it));
        let granted = granted.map(|it| (it, "GRANT", "TO", (member(), None)));
        let revoked = theirs.iter().filter(|it| !ours.contains(it));
        let revoked = revoked.map(|it| (it, "REVOKE", "FROM", (None, member())));
        for (group, verb, whom, (publisher, subscriber)) in granted.chain(revoked) {
            let statement = format!("{verb} {} {whom} {role}", Ident::new(group));
            let object = format!("{role} in {group}");
            self.differs("membership", object, publisher, subscriber, Some(statement));
        }
    }
}
