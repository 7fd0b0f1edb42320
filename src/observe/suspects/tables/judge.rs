//! What of a table ends the worker that writes it. Pure.

use super::super::pending::{Change, Operation};
use super::super::{Suspect, SuspectKind, suspect};
use super::{Column, Sent, Table, Taken};
use crate::server::Side;
use crate::value::{Ident, TableName};

/// What of a table ends its worker. `changes` is what is known to come, all of it where nothing is known; `copied` says
/// that its rows are still to be read by the subscription's role, which decoding needs no privilege for.
pub(in crate::observe::suspects) fn judge(
    table: &Table,
    changes: Option<&[Change]>,
    copied: bool,
    (from, to): (Side, Side),
) -> Vec<Suspect> {
    let name = table.name.plain();
    let Some(there) = &table.there else {
        return match table.here {
            Some(_) => vec![suspect(
                SuspectKind::MissingTable,
                format!("table {name} is changed on the {from} and is not on the {to}"),
                format!(
                    "where it is new, flare replicate_schema --missing makes it on the {to}; where it was renamed, flare status has the statement"
                ),
            )],
            None => Vec::new(),
        };
    };
    let Some(here) = &table.here else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let lacks = |column: &&Column| !there.columns.iter().any(|it| it.name == column.name);
    for column in here.columns.iter().filter(lacks) {
        found.push(suspect(
            SuspectKind::MissingColumn,
            format!(
                "column {:?} of {name} is sent and is not on the {to}",
                column.name
            ),
            format!(
                "ALTER TABLE {} ADD COLUMN {} {} on the {to}",
                table.name,
                Ident::new(&column.name),
                column.kind
            ),
        ));
    }
    let unsent =
        |column: &&Column| column.required && !here.columns.iter().any(|it| it.name == column.name);
    for column in there.columns.iter().filter(unsent) {
        found.push(suspect(
            SuspectKind::RequiredColumn,
            format!("column {:?} of {name} is NOT NULL without a default on the {to}, and the {from} has none", column.name),
            format!(
                "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL on the {to}",
                table.name,
                Ident::new(&column.name)
            ),
        ));
    }
    for column in &here.columns {
        let other = there.columns.iter().find(|it| it.name == column.name);
        if let Some(other) = other.filter(|it| it.kind != column.kind) {
            found.push(suspect(
                SuspectKind::ColumnType,
                format!(
                    "column {:?} of {name} is {} on the {from} and {} on the {to}",
                    column.name, column.kind, other.kind
                ),
                None,
            ));
        }
        if other.is_some_and(|it| it.not_null && !column.not_null) {
            found.push(suspect(
                SuspectKind::RequiredColumn,
                format!(
                    "column {:?} of {name} is NOT NULL on the {to}, and may be NULL on the {from}",
                    column.name
                ),
                format!(
                    "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL on the {to}",
                    table.name,
                    Ident::new(&column.name)
                ),
            ));
        }
    }
    found.extend(refused(&table.name, there, to));
    if copied && !here.readable {
        found.push(suspect(
            SuspectKind::Privilege,
            format!("the role in the subscription's connection may not read {name} on the {from}, and cannot copy it"),
            "flare grant_replication".to_owned(),
        ));
    }
    let searched = match changes {
        Some(changes) => {
            let mut changes = changes.iter();
            changes.any(|it| it.table == table.name && it.operation != Operation::Insert)
        }
        // Without a replica identity there is no UPDATE and no DELETE.
        None => here.full || !here.identity.is_empty(),
    };
    if searched {
        found.extend(unidentified(&table.name, here, there, to));
    }
    found.extend(constrained(table, here, there, copied, (from, to)));
    if !there.triggers.is_empty() {
        found.push(suspect(
            SuspectKind::Trigger,
            format!(
                "triggers of {name} fire on apply, with an empty search_path: {}",
                there.triggers.join(", ")
            ),
            None,
        ));
    }
    found
}

/// Constraints that rows of the publisher need not satisfy.
fn constrained(
    table: &Table,
    here: &Sent,
    there: &Taken,
    copied: bool,
    (from, to): (Side, Side),
) -> Vec<Suspect> {
    let name = table.name.plain();
    let mut found = Vec::new();
    for constraint in &there.constraints {
        let source = here
            .constraints
            .iter()
            .find(|it| (&it.name, &it.domain) == (&constraint.name, &constraint.domain));
        let why = match source {
            None => format!("the {from} has none of that name"),
            // What is sent later has passed it on the publisher; a domain's it need not, where the column is left alone.
            Some(source) if !source.valid && (copied || constraint.domain.is_some()) => {
                "it is NOT VALID, and old rows may violate it".to_owned()
            }
            Some(_) => continue,
        };
        let (whose, owner) = match &constraint.domain {
            Some(domain) => (
                format!("domain {}, which {name} has,", domain.plain()),
                format!("DOMAIN {domain}"),
            ),
            None => (name.clone(), format!("TABLE {}", table.name)),
        };
        found.push(suspect(
            SuspectKind::Constraint,
            format!(
                "constraint {:?} of {whose} holds on the {to} ({}): {why}",
                constraint.name, constraint.definition
            ),
            format!(
                "ALTER {owner} DROP CONSTRAINT {} on the {to}, until the rows are there",
                Ident::new(&constraint.name)
            ),
        ));
    }
    found
}

/// What keeps the role that writes from it.
fn refused(name: &TableName, there: &Taken, to: Side) -> Vec<Suspect> {
    let (plain, writer) = (name.plain(), Ident::new(&there.writer));
    let mut found = Vec::new();
    if there.secured {
        found.push(suspect(
            SuspectKind::RowSecurity,
            format!("row security of {plain} holds for {:?}, as whom rows are applied on the {to}", there.writer),
            format!("ALTER ROLE {writer} BYPASSRLS on the {to}; or run_as_owner = true of the subscription (16 and later)"),
        ));
    }
    if !there.may_act {
        found.push(suspect(
            SuspectKind::Privilege,
            format!(
                "the subscription's owner may not act for {:?}, whose {plain} is on the {to}",
                there.owner
            ),
            format!(
                "GRANT {} TO the subscription's owner WITH SET TRUE on the {to}",
                Ident::new(&there.owner)
            ),
        ));
    } else if !there.may_write {
        found.push(suspect(
            SuspectKind::Privilege,
            format!(
                "{:?}, as whom rows are applied on the {to}, may not write to {plain}",
                there.writer
            ),
            format!("GRANT ALL ON {name} TO {writer} on the {to}, with USAGE on its schema"),
        ));
    }
    found
}

/// UPDATE and DELETE whose row cannot be searched for.
fn unidentified(name: &TableName, here: &Sent, there: &Taken, to: Side) -> Option<Suspect> {
    let plain = name.plain();
    let searched_whole = here.full && there.key.is_empty();
    if let (true, Some(column)) = (searched_whole, here.incomparable.first()) {
        return Some(suspect(
            SuspectKind::Identity,
            format!(
                "an UPDATE or DELETE of {plain} is searched for by the whole row, and column {column:?} cannot be compared (could not identify an equality operator)"
            ),
            format!("ALTER TABLE {name} ADD PRIMARY KEY (...) on both sides"),
        ));
    }
    let unsent = there.key.iter().find(|it| !here.identity.contains(it));
    if let (false, Some(column)) = (here.full, unsent) {
        return Some(suspect(
            SuspectKind::Identity,
            format!(
                "an UPDATE or DELETE of {plain} is searched for on the {to} by column {column:?}, which is not sent (publisher did not send replica identity column)"
            ),
            format!("the same REPLICA IDENTITY for {name} on both sides"),
        ));
    }
    let nothing = !here.full && (here.identity.is_empty() || there.key.is_empty());
    nothing.then(|| {
        suspect(
            SuspectKind::Identity,
            format!("{plain} has no key on the {to}, and the row of an UPDATE or DELETE is not sent whole"),
            format!("ALTER TABLE {name} ADD PRIMARY KEY (...) on the {to}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Constraint;
    use super::*;

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            kind: "integer".into(),
            not_null: false,
            required: false,
        }
    }

    fn table() -> Table {
        Table {
            name: "app.t".parse().unwrap(),
            here: Some(Sent {
                columns: vec![column("id"), column("w")],
                identity: vec!["id".into()],
                readable: true,
                ..Sent::default()
            }),
            there: Some(Taken {
                columns: vec![column("id"), column("w")],
                key: vec!["id".into()],
                may_write: true,
                may_act: true,
                ..Taken::default()
            }),
        }
    }

    fn kinds(change: impl FnOnce(&mut Sent, &mut Taken)) -> Vec<SuspectKind> {
        let mut table = table();
        let (Some(here), Some(there)) = (&mut table.here, &mut table.there) else {
            panic!("the table is on both sides");
        };
        change(here, there);
        let found = judge(&table, None, true, (Side::Publisher, Side::Subscriber));
        found.iter().map(|it| it.suspect).collect()
    }

    #[test]
    fn a_table_that_is_alike_on_both_sides_is_no_suspect() {
        assert!(kinds(|_, _| ()).is_empty());
    }

    #[test]
    fn a_table_without_a_key_here_is_no_suspect_where_nothing_is_known_to_come() {
        assert!(kinds(|here, there| (here.identity, there.key) = Default::default()).is_empty());
        assert_eq!(kinds(|_, there| there.key.clear()), [SuspectKind::Identity]);
    }

    #[test]
    fn a_table_that_nobody_copies_need_not_be_readable() {
        let mut table = table();
        if let Some(here) = &mut table.here {
            here.readable = false;
        }
        let sides = (Side::Subscriber, Side::Publisher);
        assert_eq!(judge(&table, None, false, sides), []);
        assert_eq!(judge(&table, None, true, sides).len(), 1);
    }

    #[test]
    fn a_constraint_that_both_sides_hold_new_rows_to_matters_while_rows_are_copied() {
        let constraint = |domain: Option<&str>| Constraint {
            name: "k".into(),
            definition: "CHECK (true)".into(),
            valid: false,
            domain: domain.map(|it| it.parse().unwrap()),
        };
        let found = |domain, copied| {
            let mut table = table();
            let (Some(here), Some(there)) = (&mut table.here, &mut table.there) else {
                panic!("the table is on both sides");
            };
            here.constraints.push(constraint(domain));
            there.constraints.push(constraint(domain));
            judge(&table, None, copied, (Side::Publisher, Side::Subscriber)).len()
        };
        assert_eq!([found(None, true), found(None, false)], [1, 0]);
        assert_eq!(found(Some("app.d"), false), 1);
    }

    #[test]
    fn each_difference_that_ends_a_worker_has_its_kind() {
        use SuspectKind::{
            ColumnType, Identity, MissingColumn, MissingTable, Privilege, RequiredColumn,
            RowSecurity, Trigger,
        };
        assert_eq!(kinds(|_, there| drop(there.columns.pop())), [MissingColumn]);
        assert_eq!(
            kinds(|_, there| there.columns.push(Column {
                required: true,
                ..column("x")
            })),
            [RequiredColumn]
        );
        assert_eq!(
            kinds(|_, there| there.columns[1].not_null = true),
            [RequiredColumn]
        );
        let on_both = kinds(|here, there| {
            here.columns[1].not_null = true;
            there.columns[1].not_null = true;
        });
        assert!(on_both.is_empty());
        assert_eq!(
            kinds(|_, there| there.columns[1].kind = "text".into()),
            [ColumnType]
        );
        assert_eq!(kinds(|_, there| there.secured = true), [RowSecurity]);
        assert_eq!(kinds(|_, there| there.may_write = false), [Privilege]);
        assert_eq!(kinds(|here, _| here.readable = false), [Privilege]);
        assert_eq!(kinds(|_, there| there.key = vec!["w".into()]), [Identity]);
        assert_eq!(
            kinds(|here, there| {
                there.key.clear();
                here.full = true;
                here.incomparable = vec!["w".into()];
            }),
            [Identity]
        );
        let constraint = |valid| Constraint {
            name: "k".into(),
            definition: "CHECK (true)".into(),
            valid,
            domain: None,
        };
        assert_eq!(
            kinds(|_, there| there.constraints.push(constraint(true))),
            [SuspectKind::Constraint]
        );
        assert_eq!(
            kinds(|here, there| {
                here.constraints.push(constraint(false));
                there.constraints.push(constraint(false));
            }),
            [SuspectKind::Constraint]
        );
        assert!(
            kinds(|here, there| {
                here.constraints.push(constraint(true));
                there.constraints.push(constraint(true));
            })
            .is_empty()
        );
        assert_eq!(
            kinds(|_, there| there.triggers.push("x (f)".into())),
            [Trigger]
        );
        let missing = Table {
            there: None,
            ..table()
        };
        let found = judge(&missing, None, true, (Side::Publisher, Side::Subscriber));
        assert_eq!(found[0].suspect, MissingTable);
    }

    #[test]
    fn only_inserts_search_for_no_row() {
        let mut table = table();
        if let Some(there) = &mut table.there {
            there.key.clear();
        }
        let sides = (Side::Publisher, Side::Subscriber);
        assert_eq!(judge(&table, Some(&[]), true, sides), []);
        assert_eq!(judge(&table, None, true, sides).len(), 1);
    }
}
