//! Replica identities as on the publisher: those set there after the schema was copied are missing on the subscriber,
//! and a publication there, the way back, would then stop its applying.

use std::collections::BTreeSet;

use super::{Change, Plan, Run, made};
use crate::catalog::identities::{Identity, identities};
use crate::catalog::tables::listed;
use crate::error::{Result, WrapErr};
use crate::server::{ActAs, Pair, Side};
use crate::value::{Ident, TableName};

/// Gives the subscriber's tables the publisher's replica identities; only `tables` where they are named.
pub(super) fn equalise(
    pair: &Pair,
    dbname: &str,
    tables: Option<&[TableName]>,
    run: &Run,
) -> Result<Change> {
    let subscriber = &pair.subscriber;
    let session = subscriber.visit_as(ActAs::Tables, dbname)?;
    let mut wanted = identities(&*pair.publisher.visit(dbname)?)?;
    wanted.retain(|identity| tables.is_none_or(|tables| tables.contains(&identity.name)));
    let plan = plan(dbname, &wanted, &identities(&session)?);
    let equalised = if plan.is_empty() {
        plan.carry_out(&session, run)
    } else {
        made::recording(subscriber, dbname, run, || plan.carry_out(&session, run))
    };
    equalised.wrap_err("make the replica identities equal on the subscriber")
}

fn plan(dbname: &str, wanted: &[Identity], there: &[Identity]) -> Plan {
    let mut plan = Plan::new(Side::Subscriber, dbname);
    let same = |one: &Identity, other: &Identity| {
        (one.relreplident, &one.index) == (other.relreplident, &other.index)
    };
    let mut of_others: BTreeSet<&TableName> = BTreeSet::new();
    for wanted in wanted {
        let found = there.iter().find(|found| found.name == wanted.name);
        let Some(found) = found.filter(|found| !same(found, wanted)) else {
            continue;
        };
        let name = &wanted.name;
        let identity = match (wanted.relreplident, &wanted.index) {
            ('f', _) => "FULL".to_owned(),
            ('n', _) => "NOTHING".to_owned(),
            ('i', Some(index)) => format!("USING INDEX {}", Ident::new(index)),
            // An index that was dropped leaves no identity.
            ('i', None) => continue,
            _ => "DEFAULT".to_owned(),
        };
        if found.mine {
            plan.step(
                format!("set REPLICA IDENTITY {identity} for {}", name.plain()),
                format!("ALTER TABLE {name} REPLICA IDENTITY {identity}"),
            );
        } else {
            of_others.insert(name);
        }
    }
    if !of_others.is_empty() {
        plan.note(format!(
            "the replica identity differs from the publisher's and only the owner may change it: {}",
            listed(of_others)
        ));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, relreplident: char, index: Option<&str>, mine: bool) -> Identity {
        Identity {
            name: TableName::new("app", name),
            relreplident,
            index: index.map(str::to_owned),
            mine,
        }
    }

    #[test]
    fn only_what_differs_is_set() {
        let wanted = [
            identity("a", 'f', None, true),
            identity("b", 'i', Some("b\"i"), true),
            identity("c", 'd', None, true),
            identity("d", 'f', None, true),
            identity("e", 'f', None, true),
        ];
        let there = [
            identity("a", 'd', None, true),
            identity("b", 'i', Some("other"), true),
            identity("c", 'd', None, true),
            identity("d", 'd', None, false),
        ];
        let plan = plan("db", &wanted, &there);
        let statements: Vec<&str> = plan.statements().iter().map(|s| s.shown.as_str()).collect();
        assert_eq!(
            statements,
            [
                r#"ALTER TABLE "app"."a" REPLICA IDENTITY FULL"#,
                r#"ALTER TABLE "app"."b" REPLICA IDENTITY USING INDEX "b""i""#,
            ]
        );
    }
}
