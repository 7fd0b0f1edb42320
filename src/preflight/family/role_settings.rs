//! What roles and databases set for their sessions (`pg_db_role_setting`), and whom it hurts.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::capacity::{SETTINGS, Settings};
use super::logins::{ROLES, Role};
use crate::catalog::settings::{LIBRARY_FILES, LOADING, UNLISTED, libraries_in, missing_library};
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
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

const LIBRARIES: Question<String> = Question::server("libraries", LIBRARY_FILES)
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

/// The statements that take these back, the first ten of them.
fn resets(settings: &[&RoleSetting]) -> String {
    let first = settings.iter().take(10).map(|it| it.reset());
    first.collect::<Vec<_>>().join("; ")
}

fn missing_libraries(settings: &[RoleSetting], there: &[String]) -> Vec<Finding> {
    let loading = settings
        .iter()
        .filter(|it| LOADING.contains(&it.name.as_str()));
    let missing: Vec<&RoleSetting> = loading
        .filter(|it| missing_library(&it.name, &it.value, there).is_some())
        .collect();
    match missing.first() {
        None => Vec::new(),
        Some(_) => vec![
            Finding::blocker("libraries that sessions load are missing on the subscriber: nobody whom it concerns could log in there")
                .objects(missing.iter().map(|it| it.in_words()))
                .fix(format!("install the library on the subscriber, or {}", resets(&missing))),
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
            if UNLISTED.contains(&it.name.as_str()) {
                false
            } else if it.name.contains('.') {
                here.text(&it.name).is_some() && there.text(&it.name).is_none()
            } else {
                there.folded(&it.name).is_none()
            }
        })
        .collect();
    match unknown.first() {
        None => Vec::new(),
        Some(_) => vec![
            Finding::warning("settings of roles or databases do not exist on the subscriber: they are not carried over")
                .objects(unknown.iter().map(|it| it.in_words()))
                .fix(format!("{} on the publisher, when nobody needs it", resets(&unknown))),
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
        Some(_) => vec![
            Finding::warning("roles set default_transaction_read_only off for themselves: their clients would take a closed server for an open one")
                .objects(overriding.iter().map(|it| it.in_words()))
                .fix(format!("{} on both servers", resets(&overriding))),
        ],
    }
}

fn forgets(settings: &[RoleSetting], dbname: &str) -> Vec<Finding> {
    let off: Vec<&RoleSetting> = settings
        .iter()
        .filter(|it| it.name == "synchronous_commit" && parse_bool(&it.value) == Some(false))
        .filter(|it| it.is_of(dbname))
        .collect();
    match off.first() {
        None => Vec::new(),
        Some(_) => vec![
            Finding::warning("synchronous_commit is off for roles or databases: a crash of the server loses what was reported as done, before as after the cutover")
                .objects(off.iter().map(|it| it.in_words()))
                .fix(format!("{}, if that was not meant", resets(&off))),
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
pub(super) fn setting(role: &str, dbname: &str, name: &str, value: &str) -> RoleSetting {
    let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    RoleSetting {
        role: some(role),
        dbname: some(dbname),
        name: name.into(),
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let both = [
            setting("app", "", "session_preload_libraries", "nix"),
            setting("", "d", "local_preload_libraries", "nix"),
        ];
        let fix = missing_libraries(&both, &there)[0].fix.clone().unwrap();
        assert!(
            fix.ends_with(r#"; ALTER DATABASE "d" RESET local_preload_libraries"#),
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
    fn text_is_read_otherwise_only_with_other_values() {
        let of = |name, value| misread(&[setting("", "d", name, value)], "d").len();
        assert_eq!(of("client_encoding", "LATIN1"), 1);
        assert_eq!(of("client_encoding", "UTF8"), 0);
        assert_eq!(of("datestyle", "SQL, DMY"), 1);
        assert_eq!(of("work_mem", "1GB"), 0);
        assert!(misread(&[setting("", "x", "datestyle", "SQL")], "d").is_empty());
    }
}
