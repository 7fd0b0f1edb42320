//! Checks that need more than questions: what one server says is tried on the other, or both catalogs are compared.

use super::family::role_settings::{ROLE_SETTINGS, RoleSetting};
use super::finding::Finding;
use super::view::View;
use crate::catalog::settings::{self, LOADING, Setting};
use crate::config::Config;
use crate::error::Result;
use crate::journal::{self, MovedElsewhere};
use crate::schema::drift::{self, Drift, Roles};
use crate::server::{Server, Session, Side, at_once};
use crate::value::ShellWord;

/// Values of role settings, tried on the subscriber.
pub(super) const SETTING_VALUES: &str = "setting_values";
pub(super) const TAKEN: &str =
    "the subscriber takes the value of every setting of roles and databases";

/// Both catalogs, compared.
pub(super) const SCHEMA_DRIFT: &str = "schema_drift";
pub(super) const SAME: &str = "both schemas are the same";

/// The journals of both servers.
pub(super) const OTHER_MIGRATIONS: &str = "other_migrations";
pub(super) const ALONE: &str = "no other migration has moved the database and is not cleaned up";

/// Other migrations that moved one of these databases to or from one of the servers: they share its tables, its status
/// table and flare's records in it, and the clean-up of the one would take them from the other.
pub(super) fn other_migrations(
    config: &Config,
    servers: [Option<&Server>; 2],
    dbnames: &[&str],
) -> Result<Vec<Finding>> {
    let [here, there] = servers.map(|server| {
        move || match server {
            Some(server) => journal::moved_elsewhere(server.admin(), config),
            None => Ok(Vec::new()),
        }
    });
    let (here, there) = at_once(here, there);
    let mut found = here?;
    for moved in there? {
        if !found.contains(&moved) {
            found.push(moved);
        }
    }
    found.retain(|it| dbnames.contains(&it.dbname.as_str()));
    Ok(not_cleaned_up(&found))
}

fn not_cleaned_up(found: &[MovedElsewhere]) -> Vec<Finding> {
    if found.is_empty() {
        return Vec::new();
    }
    vec![
        Finding::blocker("another migration has moved the database and is not cleaned up: its clean-up would take what both use")
            .objects(found.iter().map(|it| {
                format!(
                    "{:?}, from the server {} to {} (system identifiers)",
                    it.dbname, it.publisher, it.subscriber
                )
            }))
            .fix("flare cleanup with the configuration of that migration, then begin this one"),
    ]
}

/// Tries the publisher's settings of roles and databases on the subscriber.
pub(super) fn setting_values(view: &View<'_>, subscriber: &Server) -> Result<Vec<Finding>> {
    let Some(publisher) = view.publisher else {
        return Ok(Vec::new());
    };
    let wanted: Vec<Setting> = publisher
        .rows(&ROLE_SETTINGS)?
        .into_iter()
        // Libraries have a check of their own.
        .filter(|it| !LOADING.contains(&it.name.as_str()))
        .map(|it| Setting {
            role: it.role,
            dbname: it.dbname,
            name: it.name,
            value: it.value,
        })
        .collect();
    Ok(refused(settings::refused(subscriber, &wanted)?))
}

fn refused(refused: Vec<(Setting, String)>) -> Vec<Finding> {
    let refused: Vec<(RoleSetting, String)> = refused
        .into_iter()
        .map(|(it, why)| {
            let setting = RoleSetting {
                role: it.role,
                dbname: it.dbname,
                name: it.name,
                value: it.value,
            };
            (setting, why)
        })
        .collect();
    match refused.first() {
        None => Vec::new(),
        Some((first, _)) => vec![
            Finding::warning("the subscriber does not take the value of settings: replicate_roles leaves them out")
                .fix(format!("{} on the publisher, or ALTER ... SET another value on the subscriber", first.reset()))
                .objects(refused.iter().map(|(it, why)| format!("{} ({why})", it.in_words()))),
        ],
    }
}

/// Compares both databases.
pub(super) fn schema_drift(view: &View<'_>, from: &Session, to: &Session) -> Result<Vec<Finding>> {
    let Some(moving) = view.moving else {
        return Ok(Vec::new());
    };
    // Printing an expression opens its table.
    const BRIEFLY: &str = "SET lock_timeout = '500ms'";
    let (here, there) = at_once(|| from.batch(BRIEFLY), || to.batch(BRIEFLY));
    here.and(there)?;
    let roles = Roles::of([&view.config.publisher, &view.config.subscriber]);
    let mut found = drift::compare(from, to, &roles)?;
    found.retain(|it| !moving.publication.leaves_behind(&it.object));
    let (beside, mut found): (Vec<Drift>, Vec<Drift>) = found
        .into_iter()
        .partition(|it| it.kind.is_beside_schemas());
    found.retain(Drift::matters);
    let sides = view.publisher.zip(view.subscriber);
    let sides = sides.map_or((Side::Publisher, Side::Subscriber), |(from, to)| {
        (from.side, to.side)
    });
    let all = match moving.subname {
        Some(subname) if !view.subscribed => format!("flare verify_schema {}", ShellWord(subname)),
        _ => "flare status".to_owned(),
    };
    let mut findings = drifted(&found, sides, moving.dbname, &all);
    // Roles and settings come with the commands that set up.
    if view.subscribed {
        findings.extend(drifted_beside(&beside, sides));
    }
    Ok(findings)
}

/// Roles, settings and the database's own properties: the application can do without, and may not be meant to.
fn drifted_beside(found: &[Drift], (from, to): (Side, Side)) -> Option<Finding> {
    let statements: Vec<&str> = found
        .iter()
        .filter_map(|it| it.statement.as_deref())
        .collect();
    let words =
        format!("roles, settings or the database itself are not on the {to} as on the {from}");
    (!found.is_empty()).then(|| {
        Finding::warning(words)
            .objects(found.iter().map(|it| it.in_words(from, to)))
            .fix(format!("{}: {}", drift::by_hand(to), statements.join("; ")))
    })
}

/// `all` is the command that shows all of it.
fn drifted(found: &[Drift], (from, to): (Side, Side), dbname: &str, all: &str) -> Vec<Finding> {
    let Some(first) = found
        .iter()
        .find_map(|it| it.statement.as_deref())
        .or(Some(""))
    else {
        return Vec::new();
    };
    if found.is_empty() {
        return Vec::new();
    }
    let fix = match (drift::made_by(found, to, dbname), first) {
        (Some(commands), _) => commands,
        (None, "") => format!("make them equal on the {to}, or name them in leave_behind"),
        (None, statement) => format!(
            "{}: {statement}; {all} has every statement",
            drift::by_hand(to)
        ),
    };
    vec![
        Finding::blocker(format!("the schema of the {to} is not the {from}'s"))
            .objects(found.iter().map(|it| it.in_words(from, to)))
            .fix(fix),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_refused_is_named_with_the_servers_words() {
        assert!(refused(Vec::new()).is_empty());
        let setting = Setting {
            role: Some("app".into()),
            dbname: None,
            name: "work_mem".into(),
            value: "1 parsec".into(),
        };
        let found = &refused(vec![(setting, "invalid value".into())])[0];
        assert_eq!(
            found.objects,
            ["work_mem = 1 parsec of role app (invalid value)"]
        );
        assert!(
            found
                .fix
                .as_deref()
                .unwrap()
                .starts_with(r#"ALTER ROLE "app" RESET work_mem"#)
        );
    }
}
