//! What roles and databases set for their sessions (`pg_db_role_setting`), and whom it hurts.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::capacity::{SETTINGS, Settings};
use super::identity::TABLES;
use super::logins::{ROLES, Role};
use crate::catalog::settings::{LOADING, libraries_in, missing_library};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{SideView, View};
use crate::server::Side;
use crate::value::{Ident, parse_bool};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "preload_libraries",
        title: "the subscriber has every library that roles and databases load",
        before: Before::Setup,
        place: Place::Server,
        asks: &[
            ROLE_SETTINGS.on_publisher(),
            SETTINGS.on_both(),
            LIBRARIES.on_subscriber(),
        ],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if !view.is_back() => {
                let mut found = Vec::new();
                let libraries = subscriber.rows(&LIBRARIES)?;
                if !libraries.is_empty() {
                    found.extend(missing_libraries(
                        &publisher.rows(&ROLE_SETTINGS)?,
                        &libraries,
                    ));
                }
                found.extend(not_preloaded(
                    &Settings::of(publisher)?,
                    &Settings::of(subscriber)?,
                ));
                Ok(found)
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "unknown_settings",
        title: "the subscriber knows every setting of roles and databases",
        before: Before::Setup,
        place: Place::Server,
        asks: &[ROLE_SETTINGS.on_publisher(), SETTINGS.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if subscriber.superuser && !view.is_back() => {
                Ok(unknown(
                    &publisher.rows(&ROLE_SETTINGS)?,
                    &Settings::of(publisher)?,
                    &Settings::of(subscriber)?,
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "read_only_off",
        title: "no role sets default_transaction_read_only off for itself",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[ROLE_SETTINGS.on_publisher(), ROLES.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) if !view.is_back() => Ok(writes_anyway(
                &publisher.rows(&ROLE_SETTINGS)?,
                &publisher.rows(&ROLES)?,
                &publisher.user,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
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
    },
    Check {
        id: "synchronous_commit",
        title: "no role or database gives up durability",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[ROLE_SETTINGS.on_both()],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => {
                Ok(forgets(&publisher.rows(&ROLE_SETTINGS)?, moving.dbname))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "text_settings",
        title: "no setting of the subscriber changes what is read while rows are copied",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[ROLE_SETTINGS.on_subscriber()],
        judge: |view| match (view.moving, view.subscriber) {
            (Some(moving), Some(subscriber)) if !view.streams => {
                Ok(misread(&subscriber.rows(&ROLE_SETTINGS)?, moving.dbname))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// A setting of a role, of a database, or of both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::preflight) struct RoleSetting {
    pub(in crate::preflight) role: Option<String>,
    pub(in crate::preflight) dbname: Option<String>,
    pub(in crate::preflight) name: String,
    pub(in crate::preflight) value: String,
}

pub(in crate::preflight) const ROLE_SETTINGS: Question<RoleSetting> = Question::server(
    "role_settings",
    "SELECT jsonb_build_object('role', r.rolname, 'dbname', d.datname,
              'name', lower(split_part(c, '=', 1)), 'value', substr(c, strpos(c, '=') + 1))
       FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
            unnest(s.setconfig) c
      WHERE (s.setrole = 0 OR r.oid IS NOT NULL) AND (s.setdatabase = 0 OR d.oid IS NOT NULL)",
);

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

/// Files of the server's own directory of libraries.
const LIBRARIES: Question<String> = Question::server(
    "libraries",
    "SELECT to_jsonb(f) FROM pg_config c, pg_ls_dir(c.setting) f WHERE c.name = 'PKGLIBDIR'",
)
.since(11)
.privileged();

impl RoleSetting {
    fn is_of(&self, dbname: &str) -> bool {
        self.dbname.as_deref().is_none_or(|it| it == dbname)
    }

    fn whose(&self) -> String {
        match (&self.role, &self.dbname) {
            (Some(role), Some(dbname)) => format!("role {role} in database {dbname}"),
            (Some(role), None) => format!("role {role}"),
            (None, Some(dbname)) => format!("database {dbname}"),
            (None, None) => "all roles".to_owned(),
        }
    }

    pub(in crate::preflight) fn in_words(&self) -> String {
        format!("{} = {} of {}", self.name, self.value, self.whose())
    }

    /// The statement that takes it back.
    pub(in crate::preflight) fn reset(&self) -> String {
        let whose = match (&self.role, &self.dbname) {
            (Some(role), Some(dbname)) => {
                format!(
                    "ROLE {} IN DATABASE {}",
                    Ident::new(role),
                    Ident::new(dbname)
                )
            }
            (Some(role), None) => format!("ROLE {}", Ident::new(role)),
            (None, Some(dbname)) => format!("DATABASE {}", Ident::new(dbname)),
            (None, None) => "ROLE ALL".to_owned(),
        };
        format!("ALTER {whose} RESET {}", self.name)
    }
}

fn missing_libraries(settings: &[RoleSetting], there: &[String]) -> Vec<Finding> {
    let loading = settings
        .iter()
        .filter(|it| LOADING.contains(&it.name.as_str()));
    let missing: Vec<&RoleSetting> = loading
        .filter(|it| missing_library(&it.value, there).is_some())
        .collect();
    match missing.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker("libraries that sessions load are missing on the subscriber: nobody whom it concerns could log in there")
                .objects(missing.iter().map(|it| it.in_words()))
                .fix(format!("install the library on the subscriber, or {}", first.reset())),
        ],
    }
}

fn not_preloaded(here: &Settings, there: &Settings) -> Vec<Finding> {
    let of = |settings: &Settings| -> Option<BTreeSet<String>> {
        let value = settings.text("shared_preload_libraries")?;
        let names = libraries_in(value).map(|it| it.trim_start_matches("$libdir/").to_owned());
        Some(names.collect())
    };
    let (Some(here), Some(there)) = (of(here), of(there)) else {
        return Vec::new();
    };
    let missing: Vec<String> = here.difference(&there).cloned().collect();
    match missing.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("shared_preload_libraries of the publisher names libraries that the subscriber does not load")
                .fix(format!(
                    "ALTER SYSTEM SET shared_preload_libraries = ... with {first} on the subscriber, and restart it"
                ))
                .objects(missing),
        ],
    }
}

fn unknown(settings: &[RoleSetting], here: &Settings, there: &Settings) -> Vec<Finding> {
    let unknown: Vec<&RoleSetting> = settings
        .iter()
        // With a dot it is whatever a library or the application makes of it.
        .filter(|it| {
            if it.name.contains('.') {
                here.text(&it.name).is_some() && there.text(&it.name).is_none()
            } else {
                there.folded(&it.name).is_none()
            }
        })
        .collect();
    match unknown.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("settings of roles or databases do not exist on the subscriber: they are not carried over")
                .objects(unknown.iter().map(|it| it.in_words()))
                .fix(format!("{} on the publisher, when nobody needs it", first.reset())),
        ],
    }
}

fn writes_anyway(settings: &[RoleSetting], roles: &[Role], admin: &str) -> Vec<Finding> {
    let superuser = |role: &str| roles.iter().any(|it| it.rolname == role && it.rolsuper);
    let overriding: Vec<&RoleSetting> = settings
        .iter()
        .filter(|it| {
            it.name == "default_transaction_read_only" && parse_bool(&it.value) == Some(false)
        })
        .filter(|it| {
            it.role
                .as_deref()
                .is_some_and(|role| role != admin && !superuser(role))
        })
        .collect();
    match overriding.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("roles set default_transaction_read_only off for themselves: their clients would take a closed server for an open one")
                .objects(overriding.iter().map(|it| it.in_words()))
                .fix(format!("{} on both servers", first.reset())),
        ],
    }
}

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

fn forgets(settings: &[RoleSetting], dbname: &str) -> Vec<Finding> {
    let off: Vec<&RoleSetting> = settings
        .iter()
        .filter(|it| it.name == "synchronous_commit" && parse_bool(&it.value) == Some(false))
        .filter(|it| it.is_of(dbname))
        .collect();
    match off.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("synchronous_commit is off for roles or databases: a crash of the server loses what was reported as done, before as after the cutover")
                .objects(off.iter().map(|it| it.in_words()))
                .fix(format!("{}, if that was not meant", first.reset())),
        ],
    }
}

/// Settings that change how text is read, with the values that do not.
const OF_TEXT: [(&str, &[&str]); 5] = [
    ("client_encoding", &["utf8", "utf-8", "unicode"]),
    ("datestyle", &["iso, mdy", "iso"]),
    ("intervalstyle", &["postgres"]),
    ("xmloption", &["content"]),
    ("standard_conforming_strings", &["on"]),
];

fn misread(settings: &[RoleSetting], dbname: &str) -> Vec<Finding> {
    let changes = |it: &&RoleSetting| {
        let known = OF_TEXT.iter().find(|(name, _)| *name == it.name);
        let value = it.value.to_lowercase();
        known.is_some_and(|(_, harmless)| !harmless.contains(&value.as_str()))
    };
    let bad: Vec<&RoleSetting> = settings
        .iter()
        .filter(|it| it.role.is_none() && it.is_of(dbname))
        .filter(changes)
        .collect();
    if bad.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::note("the subscriber's database sets how text is read, but create_subscription sets what the rows need for its own role")
            .objects(bad.iter().map(|it| it.in_words())),
    ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(role: &str, dbname: &str, name: &str, value: &str) -> RoleSetting {
        let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
        RoleSetting {
            role: some(role),
            dbname: some(dbname),
            name: name.into(),
            value: value.into(),
        }
    }

    #[test]
    fn a_library_that_is_missing_keeps_its_role_out() {
        let there = ["auto_explain.so".to_owned()];
        let of = |value| {
            let settings = [setting("app", "", "session_preload_libraries", value)];
            missing_libraries(&settings, &there)
        };
        assert!(of("auto_explain, \"$libdir/auto_explain\"").is_empty());
        assert!(of("/opt/x.so").is_empty());
        let found = &of("auto_explain, nix")[0];
        let fix = found.fix.as_deref().unwrap();
        assert!(
            fix.ends_with(r#"ALTER ROLE "app" RESET session_preload_libraries"#),
            "{fix}"
        );
    }

    #[test]
    fn settings_that_are_gone_are_named_and_names_are_not_folded_apart() {
        let there = Settings::from(&[("DateStyle", "ISO"), ("work_mem", "4096")]);
        let here = Settings::from(&[("pg_x.y", "1")]);
        let settings = [
            setting("app", "", "datestyle", "ISO"),
            setting("app", "", "default_with_oids", "off"),
            setting("app", "", "app.tenant", "1"),
            setting("app", "", "pg_x.y", "1"),
        ];
        let found = &unknown(&settings, &here, &there)[0];
        assert_eq!(found.objects.len(), 2, "{found:?}");
    }

    #[test]
    fn a_role_that_writes_anyway_is_named_however_it_says_off() {
        let of = |role: &str, value: &str| {
            let settings = [setting(role, "", "default_transaction_read_only", value)];
            let boss = Role {
                rolname: "boss".into(),
                rolsuper: true,
                ..Role::default()
            };
            writes_anyway(&settings, &[boss], "adm").len()
        };
        for value in ["off", "OF", "false", "f", "no", "n", "0"] {
            assert_eq!(of("app", value), 1, "{value}");
        }
        for (role, value) in [("app", "on"), ("boss", "off"), ("adm", "off"), ("", "off")] {
            assert_eq!(of(role, value), 0, "{role} {value}");
        }
    }

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

    #[test]
    fn text_is_read_otherwise_only_with_other_values() {
        let of = |name, value| misread(&[setting("", "d", name, value)], "d").len();
        assert_eq!(of("client_encoding", "LATIN1"), 1);
        assert_eq!(of("client_encoding", "UTF8"), 0);
        assert_eq!(of("datestyle", "SQL, DMY"), 1);
        assert_eq!(of("work_mem", "1GB"), 0);
        assert!(misread(&[setting("", "x", "datestyle", "SQL")], "d").is_empty());
    }
}
