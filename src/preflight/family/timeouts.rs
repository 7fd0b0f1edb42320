//! Timeouts that would end the copy's statements: of roles, of databases, of the server's files.

use serde::Deserialize;

use super::published::TABLES;
use super::role_settings::{ROLE_SETTINGS, RoleSetting};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{SideView, View};
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "timeouts",
    title: "no timeout ends the copy",
    before: Before::Subscription,
    place: Place::Database,
    asks: &[
        ROLE_SETTINGS.on_both(),
        FILE_SETTINGS.on_both(),
        TABLES.on_publisher(),
    ],
    judge: |view| timeouts(view),
}];

/// A setting of the server's files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct FileSetting {
    name: String,
    setting: String,
}

const FILE_SETTINGS: Question<FileSetting> = Question::server(
    "file_settings",
    "SELECT jsonb_build_object('name', name, 'setting', coalesce(setting, '')) FROM pg_file_settings WHERE applied AND name ~ 'timeout$'",
)
.privileged();

/// What ends a COPY that the publisher sends, or the transaction in which the subscriber receives it.
const OF_SENDERS: [&str; 4] = [
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
];
const OF_RECEIVERS: [&str; 2] = ["transaction_timeout", "lock_timeout"];

fn timeouts(view: &View<'_>) -> Result<Vec<Finding>> {
    let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
        return Ok(Vec::new());
    };
    if view.streams {
        return Ok(Vec::new());
    }
    let largest = publisher.rows(&TABLES)?.iter().map(|it| it.bytes).max();
    let copy_ms = longest_copy_ms(largest.unwrap_or(0));
    let host = publisher.side.host(view.config);
    let repl = &host.repl.as_ref().unwrap_or(&host.superuser).user;
    let mut found = Vec::new();
    let mut look = |side: &SideView, role: &str, names: &[&'static str]| -> Result<()> {
        let (settings, files) = (side.rows(&ROLE_SETTINGS)?, side.rows(&FILE_SETTINGS)?);
        let in_force = |name: &&'static str| {
            effective(name, role, moving.dbname, &settings, &files).map(|value| (*name, value))
        };
        let short: Vec<(&str, String)> = names
            .iter()
            .filter_map(in_force)
            .filter(|(_, value)| ms_of(value).is_some_and(|ms| ms > 0 && ms < copy_ms))
            .collect();
        let found_here = too_short(side.side, role, moving.dbname, &short);
        found.extend(found_here.map(|it| set_aside(it, view.subscribed)));
        Ok(())
    };
    look(publisher, repl, &OF_SENDERS)?;
    if let Some(subscriber) = view.subscriber {
        look(subscriber, &subscriber.user, &OF_RECEIVERS)?;
    }
    Ok(found)
}

/// A careful guess: 10 MB a second, and never less than a minute.
fn longest_copy_ms(bytes: i64) -> i64 {
    const BYTES_PER_MS: i64 = 10_000;
    (bytes / BYTES_PER_MS).max(60_000)
}

/// A setting as a role's sessions in a database begin with it: the closest one wins.
fn effective(
    name: &str,
    role: &str,
    dbname: &str,
    settings: &[RoleSetting],
    files: &[FileSetting],
) -> Option<String> {
    let of = |role: Option<&str>, dbname: Option<&str>| {
        let mut settings = settings.iter();
        let same = |it: &&RoleSetting| {
            it.name == name && it.role.as_deref() == role && it.dbname.as_deref() == dbname
        };
        settings.find(same).map(|it| it.value.clone())
    };
    let file = || {
        files
            .iter()
            .find(|it| it.name == name)
            .map(|it| it.setting.clone())
    };
    of(Some(role), Some(dbname))
        .or_else(|| of(Some(role), None))
        .or_else(|| of(None, Some(dbname)))
        .or_else(|| of(None, None))
        .or_else(file)
}

/// A duration as settings have it, whose own unit is the millisecond.
fn ms_of(value: &str) -> Option<i64> {
    let value = value.trim();
    let end = value.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = value.split_at(end.unwrap_or(value.len()));
    let factor = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1e3,
        "min" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * factor) as i64)
}

/// create_subscription sets them aside itself, in this database, until the subscription goes.
fn set_aside(found: Finding, subscribed: bool) -> Finding {
    if subscribed {
        found
    } else {
        Finding::note(format!(
            "{}, but create_subscription sets them to 0 in this database",
            found.message
        ))
        .objects(found.objects)
    }
}

fn too_short(side: Side, role: &str, dbname: &str, short: &[(&str, String)]) -> Option<Finding> {
    let (first, _) = short.first()?;
    Some(
        Finding::blocker(format!(
            "timeouts that {role:?} gets on the {side} are shorter than the copy of a table may take: it would begin again and again"
        ))
        .objects(short.iter().map(|(name, value)| format!("{name} = {value}")))
        .fix(format!(
            "ALTER ROLE {} IN DATABASE {} SET {first} = 0 on the {side}, for as long as the copy takes",
            Ident::from(role),
            Ident::from(dbname)
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::super::role_settings::setting;
    use super::*;

    #[test]
    fn the_closest_timeout_is_in_force() {
        let settings = [
            setting("", "", "statement_timeout", "1"),
            setting("", "d", "statement_timeout", "2"),
            setting("repl", "", "statement_timeout", "3"),
            setting("repl", "d", "statement_timeout", "4"),
            setting("repl", "x", "statement_timeout", "5"),
        ];
        let files = [FileSetting {
            name: "statement_timeout".into(),
            setting: "6".into(),
        }];
        let of = |settings: &[RoleSetting]| {
            effective("statement_timeout", "repl", "d", settings, &files).unwrap()
        };
        assert_eq!(of(&settings), "4");
        assert_eq!(of(&settings[..3]), "3");
        assert_eq!(of(&settings[..2]), "2");
        assert_eq!(of(&settings[..1]), "1");
        assert_eq!(of(&settings[4..]), "6");
        assert!(effective("lock_timeout", "repl", "d", &settings, &files).is_none());
        let ms: Vec<Option<i64>> = ["5000", "5s", "1.5min", "2h", "x"]
            .iter()
            .map(|it| ms_of(it))
            .collect();
        assert_eq!(
            ms,
            [Some(5000), Some(5000), Some(90_000), Some(7_200_000), None]
        );
    }
}
