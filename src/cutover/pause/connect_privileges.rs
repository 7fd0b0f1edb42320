//! What takes CONNECT on a database, and what gives it back as it was: statements, decided before any of them runs.
//!
//! All grants of a database go back to its owner, so revoking the owner's own with CASCADE takes the others with them.

use std::collections::BTreeSet;

use crate::catalog::privileges::{AclEntry, DatabasePrivileges};
use crate::value::{Ident, Literal};

/// The privileges of a database before flare took CONNECT, and who keeps it meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct ConnectPrivileges {
    before: DatabasePrivileges,
    /// Roles that may go on connecting.
    keep: BTreeSet<String>,
}

impl ConnectPrivileges {
    pub(crate) fn new(before: DatabasePrivileges, keep: BTreeSet<String>) -> ConnectPrivileges {
        ConnectPrivileges { before, keep }
    }

    /// The statements that revoke CONNECT and put on record how it was, all for one transaction.
    pub(crate) fn revoking(&self) -> Vec<String> {
        let database = Ident::new(&self.before.dbname);
        let mut statements = vec![format!(
            "INSERT INTO flare.shut (dbname, privileges, keep) VALUES ({}, {}, {})",
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
                // The grantee keeps CONNECT; what it granted to others is revoked by CASCADE.
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

    /// The statements that give CONNECT back as it was, all for one transaction.
    pub(crate) fn restoring(&self) -> Vec<String> {
        let database = Ident::new(&self.before.dbname);
        let mut statements = vec![format!(
            "DELETE FROM flare.shut WHERE dbname = {}",
            Literal(&self.before.dbname)
        )];
        statements.extend(self.added().map(|role| {
            format!(
                "REVOKE CONNECT ON DATABASE {database} FROM {}",
                Ident::new(role)
            )
        }));
        if let Some(ordered) = self.in_written_order() {
            statements.extend(ordered);
            return statements;
        }
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
            if self.by_owner(entry) {
                statements.push(grant)
            } else {
                statements.extend([
                    format!("SET LOCAL ROLE {}", Ident::new(&entry.grantor)),
                    grant,
                    "SET LOCAL ROLE NONE".to_owned(),
                ])
            }
        }
        statements
    }

    /// Where a grantee that has nothing but CONNECT stands before others: its entry comes back as the last one, so the others'
    /// are made anew behind it, and a dump prints them as before. None where nothing would move, or not all is the owner's.
    fn in_written_order(&self) -> Option<Vec<String>> {
        let entries = &self.before.entries;
        let is_plain = |it: &AclEntry| self.by_owner(it) && !it.grantable;
        if self.before.written.is_none() || !entries.iter().all(is_plain) {
            return None;
        }
        let mut grantees: Vec<(String, Vec<&AclEntry>)> = Vec::new();
        for entry in entries {
            let name = grantee(entry);
            match grantees.iter_mut().find(|(it, _)| *it == name) {
                Some((_, own)) => own.push(entry),
                None => grantees.push((name, vec![entry])),
            }
        }
        let comes_last = |own: &[&AclEntry]| matches!(own, [only] if only.privilege == "CONNECT" && !self.keeps(only));
        let first = grantees.iter().position(|(_, own)| comes_last(own))?;
        if grantees[first..].iter().all(|(_, own)| comes_last(own)) {
            return None;
        }
        let database = Ident::new(&self.before.dbname);
        let mut statements = Vec::new();
        for (at, (name, own)) in grantees.iter().enumerate() {
            if at > first {
                let privileges: Vec<&str> = own.iter().map(|it| it.privilege.as_str()).collect();
                statements.extend([
                    format!("REVOKE ALL ON DATABASE {database} FROM {name}"),
                    format!(
                        "GRANT {} ON DATABASE {database} TO {name}",
                        privileges.join(", ")
                    ),
                ]);
            } else if own.iter().any(|it| it.privilege == "CONNECT") {
                statements.push(format!("GRANT CONNECT ON DATABASE {database} TO {name}"));
            }
        }
        Some(statements)
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

    fn of(entries: Vec<AclEntry>, keep: &[&str]) -> ConnectPrivileges {
        let before = DatabasePrivileges {
            dbname: "d".into(),
            owner: "o".into(),
            written: None,
            entries,
        };
        ConnectPrivileges::new(before, keep.iter().map(|role| role.to_string()).collect())
    }

    #[test]
    fn what_was_revoked_is_on_record_until_it_is_given_back() {
        let privileges = of(vec![entry("o", None, false)], &["re'pl"]);
        let revoking = privileges.revoking();
        assert!(
            revoking[0]
                .starts_with("INSERT INTO flare.shut (dbname, privileges, keep) VALUES ('d', '{")
                && revoking[0].ends_with(r#", '["re''pl"]')"#),
            "{}",
            revoking[0]
        );
        assert_eq!(
            privileges.restoring()[0],
            "DELETE FROM flare.shut WHERE dbname = 'd'"
        );
    }

    #[test]
    fn the_default_is_revoked_and_restored() {
        let privileges = of(
            vec![entry("o", None, false), entry("o", Some("o"), false)],
            &["repl"],
        );
        assert_eq!(
            privileges.revoking()[1..],
            [
                r#"REVOKE CONNECT ON DATABASE "d" FROM PUBLIC CASCADE"#,
                r#"REVOKE CONNECT ON DATABASE "d" FROM "o" CASCADE"#,
                r#"GRANT CONNECT ON DATABASE "d" TO "repl""#,
            ]
        );
        assert_eq!(
            privileges.restoring()[1..],
            [
                r#"REVOKE CONNECT ON DATABASE "d" FROM "repl""#,
                r#"GRANT CONNECT ON DATABASE "d" TO PUBLIC"#,
                r#"GRANT CONNECT ON DATABASE "d" TO "o""#,
            ]
        );
    }

    #[test]
    fn entries_come_back_in_the_order_they_were_written_in() {
        let entry_of = |grantee: Option<&str>, privilege: &str| AclEntry {
            privilege: privilege.into(),
            ..entry("o", grantee, false)
        };
        let mut privileges = of(
            vec![
                entry_of(Some("first"), "TEMPORARY"),
                entry_of(Some("first"), "CONNECT"),
                entry_of(None, "CONNECT"),
                entry_of(Some("o"), "CREATE"),
                entry_of(Some("o"), "CONNECT"),
                entry_of(Some("last"), "CONNECT"),
            ],
            &[],
        );
        let unordered = privileges.restoring().len();
        privileges.before.written = Some("{...}".into());
        assert_eq!(
            privileges.restoring()[1..],
            [
                r#"GRANT CONNECT ON DATABASE "d" TO "first""#,
                r#"GRANT CONNECT ON DATABASE "d" TO PUBLIC"#,
                r#"REVOKE ALL ON DATABASE "d" FROM "o""#,
                r#"GRANT CREATE, CONNECT ON DATABASE "d" TO "o""#,
                r#"REVOKE ALL ON DATABASE "d" FROM "last""#,
                r#"GRANT CONNECT ON DATABASE "d" TO "last""#,
            ]
        );
        // Nothing stands behind it: nothing is made anew.
        privileges.before.entries.drain(3..5);
        assert_eq!(privileges.restoring().len(), unordered - 1);
        privileges.before.entries[0].grantable = true;
        assert!(privileges.in_written_order().is_none());
    }

    #[test]
    fn grants_of_others_are_made_again_by_them_and_in_order() {
        let entries = vec![
            entry("b", Some("c"), false),
            entry("a", Some("b"), true),
            entry("o", Some("a"), true),
        ];
        let privileges = of(entries, &[]);
        assert_eq!(
            privileges.revoking()[1..],
            [r#"REVOKE CONNECT ON DATABASE "d" FROM "a" CASCADE"#]
        );
        assert_eq!(
            privileges.restoring()[1..],
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
            privileges.other_grantors(),
            ["a".to_owned(), "b".to_owned()].into()
        );
    }

    #[test]
    fn a_kept_role_keeps_connect_and_what_it_granted_is_revoked() {
        let entries = vec![
            entry("o", Some("keeper"), true),
            entry("keeper", Some("guest"), false),
        ];
        let privileges = of(entries, &["keeper"]);
        assert_eq!(
            privileges.revoking()[1..],
            [r#"REVOKE GRANT OPTION FOR CONNECT ON DATABASE "d" FROM "keeper" CASCADE"#]
        );
        assert_eq!(
            privileges.restoring()[1..],
            [
                r#"GRANT CONNECT ON DATABASE "d" TO "keeper" WITH GRANT OPTION"#,
                r#"SET LOCAL ROLE "keeper""#,
                r#"GRANT CONNECT ON DATABASE "d" TO "guest""#,
                "SET LOCAL ROLE NONE",
            ]
        );
    }
}
