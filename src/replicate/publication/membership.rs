//! The statements by which a publication comes to have its tables, and who may run them: pure.

use super::decision::{Decision, Situation};
use crate::catalog::publications::Publication as Existing;
use crate::catalog::tables::listed;
use crate::config;
use crate::error::{Failure, Result};
use crate::server::Login;
use crate::value::{Ident, TableName};

/// Who may publish all of these by name: whoever has the rights of every owner.
fn publisher_of(names: &[TableName], found: &Situation<'_>) -> Result<Login> {
    let tables = || {
        found
            .tables
            .iter()
            .filter(|table| names.contains(&table.name))
    };
    if found.superuser || tables().all(|table| table.mine) {
        return Ok(Login::Superuser);
    }
    let others: Vec<&TableName> = tables()
        .filter(|table| !table.db_owners)
        .map(|table| &table.name)
        .collect();
    if others.is_empty() {
        Ok(Login::DbOwner)
    } else {
        Failure::new(format!(
        "publish {}: only an owner may, and {:?} is not",
        listed(others.iter().copied()),
        found.users.db_owner
    ))
    .hint(format!(
        "GRANT the owners' roles to {:?}, or ALTER TABLE {} OWNER TO it, or list in tables what it owns",
        found.users.db_owner, others[0]
    ))
    .err()
    }
}

/// Makes a publication of these tables, or of all where there is no list.
pub(super) fn creation(
    decision: &mut Decision,
    wanted: &config::Publication,
    names: Option<Vec<TableName>>,
    found: &Situation<'_>,
) -> Result<()> {
    let pubname = &wanted.pubname;
    let ident = Ident::new(pubname);
    let Some(names) = names else {
        decision.publication.step(
            format!("create publication {pubname:?} for all tables"),
            format!("CREATE PUBLICATION {ident} FOR ALL TABLES"),
        );
        return Ok(());
    };
    decision.login = publisher_of(&names, found)?;
    decision.publication.step(
        format!("create publication {pubname:?} for {}", listed(&names)),
        format!("CREATE PUBLICATION {ident} FOR TABLE {}", only(&names)),
    );
    Ok(())
}

fn only<'n>(names: impl IntoIterator<Item = &'n TableName>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("ONLY {name}"))
        .collect();
    names.join(", ")
}

/// Brings what is there to what is wanted, without taking anything away.
pub(super) fn completion(
    decision: &mut Decision,
    wanted: &config::Publication,
    names: Option<Vec<TableName>>,
    existing: &Existing,
    found: &Situation<'_>,
) -> Result<()> {
    let pubname = &wanted.pubname;
    let ident = Ident::new(pubname);
    let plan = &mut decision.publication;
    plan.note(format!("publication {pubname:?} exists already"));
    let sends_all = existing.pubinsert && existing.pubupdate && existing.pubdelete;
    if !sends_all || existing.pubtruncate == Some(false) {
        let truncate = existing.pubtruncate.map_or("", |_| ", truncate");
        plan.step(
            format!("have publication {pubname:?} send every kind of change"),
            format!("ALTER PUBLICATION {ident} SET (publish = 'insert, update, delete{truncate}')"),
        );
    }
    match (existing.puballtables, names) {
        (true, None) => {}
        (true, Some(_)) => plan.note(format!(
            "publication {pubname:?} is for all tables, the configuration lists some: flare drop_publication, then create_publication, to narrow it"
        )),
        (false, names) => {
            let names = names.unwrap_or_default();
            let has = |name: &TableName| {
                existing.members.contains(name) || found.published.contains(name)
            };
            let missing: Vec<TableName> =
                names.iter().filter(|name| !has(name)).cloned().collect();
            let extra: Vec<&TableName> = existing
                .members
                .iter()
                .filter(|name| !names.contains(name))
                .collect();
            if !extra.is_empty() {
                plan.note(format!(
                    "publication {pubname:?} also has {}, which the configuration does not list: left there",
                    listed(extra)
                ));
            }
            if !missing.is_empty() {
                plan.step(
                    format!("add {} to publication {pubname:?}", listed(&missing)),
                    format!("ALTER PUBLICATION {ident} ADD TABLE {}", only(&missing)),
                );
                plan.note(format!(
                    "a subscription takes added tables with flare create_subscription: run it again where there is one for {pubname:?}"
                ));
                decision.login = publisher_of(&missing, found)?;
            }
        }
    }
    if !existing.mine {
        decision.login = Login::DbOwner;
    }
    Ok(())
}
