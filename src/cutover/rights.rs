//! What shuts the door, and what opens it as it was: statements, decided before any of them runs.
//!
//! All grants of a database go back to its owner, so revoking the owner's own with CASCADE takes the others with them.

use std::collections::BTreeSet;

use crate::catalog::privileges::{AclEntry, DatabasePrivileges};
use crate::value::{Ident, Literal};

/// Whether this session's role is a superuser.
const IS_SUPERUSER: &str = "SELECT rolsuper FROM pg_roles WHERE rolname = session_user";

/// What shuts the door, and what opens it again as it was.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    before: DatabasePrivileges,
    /// Roles that may go on connecting.
    keep: BTreeSet<String>,
}

impl Door {
    pub(crate) fn new(before: DatabasePrivileges, keep: BTreeSet<String>) -> Door {
        Door { before, keep }
    }

    /// The statements that shut it and put on record how it was, all for one transaction.
    pub(crate) fn shutting(&self) -> Vec<String> {
        let database = Ident::new(&self.before.dbname);
        let mut statements = vec![format!(
            "INSERT INTO flare.door (dbname, privileges, keep) VALUES ({}, {}, {})",
            Literal(&self.before.dbname),
            Literal(serde_json::json!(self.before).to_string()),
            Literal(serde_json::json!(self.keep).to_string()),
        )];
        for entry in self.before.connect().filter(|entry| self.by_owner(entry)) {
            let grantee = grantee(entry);
            match (self.keeps(entry), entry.grantable) {
                (false, _) => statements.push(format!(
                    "REVOKE CONNECT ON DATABASE {database} FROM {grantee} CASCADE"
                )),
                // Whoever stays keeps the privilege, but those it let in do not.
                (true, true) => statements.push(format!(
                    "REVOKE GRANT OPTION FOR CONNECT ON DATABASE {database} FROM {grantee} CASCADE"
                )),
                (true, false) => {}
            }
        }
        for role in self.added() {
            statements.push(format!(
                "GRANT CONNECT ON DATABASE {database} TO {}",
                Ident::new(role)
            ));
        }
        statements
    }

    /// The statement that shuts the owner alone out again, unless it stays.
    pub(crate) fn shutting_out_the_owner(&self) -> String {
        match self.keep.contains(&self.before.owner) {
            true => String::new(),
            false => format!(
                "REVOKE CONNECT ON DATABASE {} FROM {}",
                Ident::new(&self.before.dbname),
                Ident::new(&self.before.owner)
            ),
        }
    }

    /// The statements that open it as it was, all for one transaction.
    pub(crate) fn opening(&self) -> Vec<String> {
        let database = Ident::new(&self.before.dbname);
        let mut statements = vec![format!(
            "DELETE FROM flare.door WHERE dbname = {}",
            Literal(&self.before.dbname)
        )];
        statements.extend(self.added().map(|role| {
            format!(
                "REVOKE CONNECT ON DATABASE {database} FROM {}",
                Ident::new(role)
            )
        }));
        for entry in in_grant_order(&self.before) {
            let option = if entry.grantable {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            let grant = format!(
                "GRANT CONNECT ON DATABASE {database} TO {}{option}",
                grantee(entry)
            );
            match self.by_owner(entry) {
                true => statements.push(grant),
                false => statements.extend([
                    format!("SET LOCAL ROLE {}", Ident::new(&entry.grantor)),
                    grant,
                    "SET LOCAL ROLE NONE".to_owned(),
                ]),
            }
        }
        statements
    }

    /// The same privileges to the letter, once they are open: their order, and NULL for the default. Only a superuser
    /// writes pg_database; nobody else's session does anything.
    pub(crate) fn restoring_letter(&self) -> Option<String> {
        let acl = match self.before.written.as_deref() {
            None => "NULL::aclitem[]".to_owned(),
            // An array of no dimensions is no list of privileges to the server.
            Some("{}") => return None,
            Some(written) => format!("{}::aclitem[]", Literal(written)),
        };
        let exploded = |acl: &str| {
            format!("SELECT a.* FROM aclexplode(coalesce({acl}, acldefault('d', datdba))) a")
        };
        let (before, now) = (exploded(&acl), exploded("datacl"));
        let body = format!(
            "BEGIN
               IF ({IS_SUPERUSER}) THEN
                 UPDATE pg_database SET datacl = {acl}
                  WHERE datname = {dbname} AND datacl::text IS DISTINCT FROM {acl}::text
                    AND NOT EXISTS ({before} EXCEPT {now}) AND NOT EXISTS ({now} EXCEPT {before});
               END IF;
             EXCEPTION WHEN undefined_object THEN
               NULL; -- a role has another name by now
             END",
            dbname = Literal(&self.before.dbname),
        );
        Some(format!("DO LANGUAGE plpgsql {}", Literal(body)))
    }

    /// Roles whose grants only a member of them can make again, beside the owner.
    pub(crate) fn other_grantors(&self) -> BTreeSet<String> {
        let others = self.before.connect().filter(|entry| !self.by_owner(entry));
        others.map(|entry| entry.grantor.clone()).collect()
    }

    pub(crate) fn before(&self) -> &DatabasePrivileges {
        &self.before
    }

    pub(crate) fn keep(&self) -> &BTreeSet<String> {
        &self.keep
    }

    /// Those who stay without having had an entry of their own from the owner.
    fn added(&self) -> impl Iterator<Item = &str> {
        let has_entry = |role: &&String| {
            let mut entries = self.before.connect().filter(|entry| self.by_owner(entry));
            entries.any(|entry| entry.grantee.as_ref() == Some(*role))
        };
        self.keep
            .iter()
            .filter(move |role| !has_entry(role))
            .map(String::as_str)
    }

    fn by_owner(&self, entry: &AclEntry) -> bool {
        entry.grantor == self.before.owner
    }

    fn keeps(&self, entry: &AclEntry) -> bool {
        entry
            .grantee
            .as_ref()
            .is_some_and(|grantee| self.keep.contains(grantee))
    }
}

fn grantee(entry: &AclEntry) -> String {
    match &entry.grantee {
        None => "PUBLIC".to_owned(),
        Some(role) => Ident::new(role).to_string(),
    }
}

/// The entries, each after the one that lets its grantor grant.
fn in_grant_order(privileges: &DatabasePrivileges) -> Vec<&AclEntry> {
    let mut waiting: Vec<&AclEntry> = privileges.connect().collect();
    let mut ordered: Vec<&AclEntry> = Vec::new();
    let mut may_grant: BTreeSet<&str> = [privileges.owner.as_str()].into();
    while !waiting.is_empty() {
        let (ready, later): (Vec<&AclEntry>, Vec<&AclEntry>) = waiting
            .iter()
            .partition(|entry| may_grant.contains(entry.grantor.as_str()));
        if ready.is_empty() {
            // Cannot be: every grant goes back to the owner. Better last than not at all.
            ordered.extend(later);
            break;
        }
        let grantable = ready.iter().filter(|entry| entry.grantable);
        may_grant.extend(grantable.filter_map(|entry| entry.grantee.as_deref()));
        ordered.extend(ready);
        waiting = later;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(grantor: &str, grantee: Option<&str>, grantable: bool) -> AclEntry {
        AclEntry {
            grantor: grantor.into(),
            grantee: grantee.map(str::to_owned),
            privilege: "CONNECT".into(),
            grantable,
        }
    }

    fn door(entries: Vec<AclEntry>, keep: &[&str]) -> Door {
        let before = DatabasePrivileges {
            dbname: "d".into(),
            owner: "o".into(),
            written: None,
            entries,
        };
        Door::new(before, keep.iter().map(|role| role.to_string()).collect())
    }

    #[test]
    fn what_is_shut_is_on_record_until_it_is_opened() {
        let door = door(vec![entry("o", None, false)], &["re'pl"]);
        let shutting = door.shutting();
        assert!(
            shutting[0]
                .starts_with("INSERT INTO flare.door (dbname, privileges, keep) VALUES ('d', '{")
                && shutting[0].ends_with(r#", '["re''pl"]')"#),
            "{}",
            shutting[0]
        );
        assert_eq!(
            door.opening()[0],
            "DELETE FROM flare.door WHERE dbname = 'd'"
        );
    }

    #[test]
    fn the_default_is_shut_and_opened_again() {
        let door = door(
            vec![entry("o", None, false), entry("o", Some("o"), false)],
            &["repl"],
        );
        assert_eq!(
            door.shutting()[1..],
            [
                r#"REVOKE CONNECT ON DATABASE "d" FROM PUBLIC CASCADE"#,
                r#"REVOKE CONNECT ON DATABASE "d" FROM "o" CASCADE"#,
                r#"GRANT CONNECT ON DATABASE "d" TO "repl""#,
            ]
        );
        assert_eq!(
            door.opening()[1..],
            [
                r#"REVOKE CONNECT ON DATABASE "d" FROM "repl""#,
                r#"GRANT CONNECT ON DATABASE "d" TO PUBLIC"#,
                r#"GRANT CONNECT ON DATABASE "d" TO "o""#,
            ]
        );
    }

    #[test]
    fn grants_of_others_are_made_again_by_them_and_in_order() {
        let entries = vec![
            entry("b", Some("c"), false),
            entry("a", Some("b"), true),
            entry("o", Some("a"), true),
        ];
        let door = door(entries, &[]);
        assert_eq!(
            door.shutting()[1..],
            [r#"REVOKE CONNECT ON DATABASE "d" FROM "a" CASCADE"#]
        );
        assert_eq!(
            door.opening()[1..],
            [
                r#"GRANT CONNECT ON DATABASE "d" TO "a" WITH GRANT OPTION"#,
                r#"SET LOCAL ROLE "a""#,
                r#"GRANT CONNECT ON DATABASE "d" TO "b" WITH GRANT OPTION"#,
                "SET LOCAL ROLE NONE",
                r#"SET LOCAL ROLE "b""#,
                r#"GRANT CONNECT ON DATABASE "d" TO "c""#,
                "SET LOCAL ROLE NONE",
            ]
        );
        assert_eq!(
            door.other_grantors(),
            ["a".to_owned(), "b".to_owned()].into()
        );
    }

    #[test]
    fn who_stays_keeps_the_privilege_but_not_its_guests() {
        let entries = vec![
            entry("o", Some("keeper"), true),
            entry("keeper", Some("guest"), false),
        ];
        let door = door(entries, &["keeper"]);
        assert_eq!(
            door.shutting()[1..],
            [r#"REVOKE GRANT OPTION FOR CONNECT ON DATABASE "d" FROM "keeper" CASCADE"#]
        );
        assert_eq!(
            door.opening()[1..],
            [
                r#"GRANT CONNECT ON DATABASE "d" TO "keeper" WITH GRANT OPTION"#,
                r#"SET LOCAL ROLE "keeper""#,
                r#"GRANT CONNECT ON DATABASE "d" TO "guest""#,
                "SET LOCAL ROLE NONE",
            ]
        );
    }
}
