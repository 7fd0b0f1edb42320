//! Who logs in to the publisher now, and whether they can on the subscriber.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use super::hba::{self, Fit, Rule, Tls};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::View;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "app_login",
        title: "pg_hba.conf of the subscriber lets the application in, by the passwords it has",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            SESSIONS.on_publisher(),
            PASSWORDS.on_both(),
            hba::MEMBERS.on_both(),
            hba::RULES.on_subscriber(),
        ],
        judge: |view| {
            let (Some(moving), Some(publisher), Some(subscriber)) =
                (view.moving, view.publisher, view.subscriber)
            else {
                return Ok(Vec::new());
            };
            if view.is_back() || subscriber.server.unseen.contains_key(hba::RULES.text.name) {
                return Ok(Vec::new());
            }
            let kinds = |rows: Vec<Password>| -> BTreeMap<String, String> {
                rows.into_iter().map(|it| (it.rolname, it.kind)).collect()
            };
            let accounts = view.config.subscriber.accounts();
            let connecting = accounts.map(|it| it.user.as_str()).collect();
            let passwords = passwords_then(
                kinds(publisher.rows(&PASSWORDS)?),
                kinds(subscriber.rows(&PASSWORDS)?),
                view.subscribed,
                &connecting,
            );
            // Roles and memberships come with replicate_roles.
            let mut members = publisher.rows(&hba::MEMBERS)?;
            members.extend(subscriber.rows(&hba::MEMBERS)?);
            Ok(logins(
                &applications(view)?,
                &passwords,
                &members,
                &subscriber.rows(&hba::RULES)?,
                moving.dbname,
            ))
        },
    },
    Check {
        id: "superuser_sessions",
        title: "flare may end every session of the application",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[SESSIONS.on_publisher(), ROLES.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) if !publisher.superuser => Ok(beyond_reach(
                &publisher.rows(&SESSIONS)?,
                &publisher.rows(&ROLES)?,
                &publisher.user,
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// A role as `pg_roles` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Role {
    pub(super) rolname: String,
    pub(super) rolsuper: bool,
    pub(super) rolcanlogin: bool,
    pub(super) rolconnlimit: i64,
}

pub(super) const ROLES: Question<Role> = Question::server(
    "roles",
    "SELECT jsonb_build_object('rolname', rolname, 'rolsuper', rolsuper, 'rolcanlogin', rolcanlogin, 'rolconnlimit', rolconnlimit)
       FROM pg_roles",
);

/// What kind of password a role has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Password {
    rolname: String,
    kind: String,
}

const PASSWORDS: Question<Password> = Question::server(
    "passwords",
    "SELECT jsonb_build_object('rolname', rolname, 'kind',
              CASE WHEN rolpassword IS NULL THEN 'none' WHEN rolpassword LIKE 'SCRAM-SHA-256%' THEN 'scram' ELSE 'md5' END)
       FROM pg_authid WHERE rolcanlogin",
)
.privileged();

/// Sessions of one role from one address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Sessions {
    pub(super) user: String,
    pub(super) address: Option<IpAddr>,
    pub(super) n: i64,
    /// Whether all are encrypted; none where some are, or where the server offers it to nobody.
    #[serde(default)]
    pub(super) tls: Option<bool>,
}

pub(super) const SESSIONS: Question<Sessions> = Question::database(
    "sessions",
    "SELECT jsonb_build_object('user', usename, 'address', host(client_addr), 'n', count(*),
              'tls', CASE WHEN bool_and(ssl) THEN true WHEN NOT bool_or(ssl) AND current_setting('ssl') = 'on' AND bool_and(client_addr IS NOT NULL) THEN false END)
       FROM pg_stat_activity LEFT JOIN pg_stat_ssl USING (pid)
      WHERE datname = current_database() AND usename IS NOT NULL AND backend_type = 'client backend'
        AND application_name NOT LIKE 'flare/%' AND usename <> {repl} GROUP BY usename, client_addr",
);

/// The application's logins: sessions of now, and the roles that the configuration names.
pub(super) fn applications(view: &View<'_>) -> Result<Vec<Sessions>> {
    let Some(publisher) = view.publisher else {
        return Ok(Vec::new());
    };
    let mut sessions = publisher.rows(&SESSIONS)?;
    sessions.retain(|it| it.user != publisher.user);
    for user in &view.config.cutover.app_users {
        if !sessions.iter().any(|it| it.user == *user) {
            sessions.push(Sessions {
                user: user.clone(),
                address: None,
                n: 0,
                tls: None,
            });
        }
    }
    Ok(sessions)
}

/// A session on the server's own machine comes from another address after the cutover.
fn from_afar(address: Option<IpAddr>) -> Option<IpAddr> {
    address.filter(|it| !it.is_loopback())
}

/// The kinds of passwords that roles have on the subscriber once roles were replicated, which gives a role that is there
/// already the publisher's, but those that flare connects as.
fn passwords_then(
    here: BTreeMap<String, String>,
    there: BTreeMap<String, String>,
    subscribed: bool,
    connecting: &BTreeSet<&str>,
) -> BTreeMap<String, String> {
    let mut then = there;
    for (role, kind) in here {
        let is_replaced = !subscribed && kind != "none" && !connecting.contains(role.as_str());
        if is_replaced || !then.contains_key(&role) {
            then.insert(role, kind);
        }
    }
    then
}

fn logins(
    sessions: &[Sessions],
    passwords: &BTreeMap<String, String>,
    members: &[hba::Member],
    rules: &[Rule],
    dbname: &str,
) -> Vec<Finding> {
    let mut no_line = BTreeSet::new();
    let mut without_tls = BTreeSet::new();
    let mut wrong_kind = BTreeSet::new();
    for session in sessions {
        let user = session.user.as_str();
        let address = from_afar(session.address);
        let from = match address {
            Some(address) => format!("{user} from {address}"),
            None => user.to_owned(),
        };
        let kind = passwords.get(user).map(String::as_str);
        let member_of = members.iter().filter(|it| it.rolname == user);
        let login = hba::Login {
            user,
            dbname,
            member_of: &member_of.map(|it| it.of.clone()).collect(),
            address,
            tls: match session.tls {
                Some(true) => Tls::Spoken,
                Some(false) => Tls::Avoided,
                None => Tls::Unknown,
            },
        };
        let encrypted = hba::Login {
            tls: Tls::Spoken,
            ..login
        };
        match hba::fit(rules, &login) {
            Fit::None if hba::fit(rules, &encrypted) != Fit::None => {
                without_tls.insert(from);
            }
            Fit::None => drop(no_line.insert((from, session.user.clone()))),
            Fit::Line(rule) => match (rule.auth_method.as_str(), kind) {
                ("reject", _) => drop(no_line.insert((
                    format!("{from} (line {} rejects)", rule.line_number),
                    session.user.clone(),
                ))),
                ("scram-sha-256", Some("md5")) => {
                    wrong_kind.insert(format!(
                        "{user} (an md5 hash, and line {} asks for scram-sha-256)",
                        rule.line_number
                    ));
                }
                ("scram-sha-256" | "md5" | "password", Some("none")) => {
                    wrong_kind.insert(format!(
                        "{user} (no password, and line {} asks for one)",
                        rule.line_number
                    ));
                }
                _ => {}
            },
            Fit::Unsure => {}
        }
    }
    let mut found = Vec::new();
    if let Some((_, user)) = no_line.first() {
        found.push(
            Finding::blocker("pg_hba.conf of the subscriber does not let the application in")
                .fix(format!(
                    "a line such as: host {} {} 0.0.0.0/0 scram-sha-256, and SELECT pg_reload_conf() there",
                    Ident::from(dbname),
                    Ident::new(user)
                ))
                .objects(no_line.iter().map(|(from, _)| from.clone())),
        );
    }
    if !without_tls.is_empty() {
        // A client that goes without may still take it where nothing else is offered (sslmode=allow).
        found.push(
            Finding::warning("pg_hba.conf of the subscriber lets the application in with TLS alone, and these connect without it")
                .objects(without_tls)
                .fix("sslmode=require (or prefer) in the application's connection strings; or a line of type host in that file"),
        );
    }
    if !wrong_kind.is_empty() {
        found.push(
            Finding::blocker("pg_hba.conf of the subscriber asks for a password that these roles do not have")
                .objects(wrong_kind)
                .fix("ALTER ROLE ... PASSWORD on the publisher with password_encryption = 'scram-sha-256' and flare replicate_roles; or the method md5 in that line"),
        );
    }
    found
}

fn beyond_reach(sessions: &[Sessions], roles: &[Role], admin: &str) -> Vec<Finding> {
    let is_super = |user: &str| roles.iter().any(|it| it.rolname == user && it.rolsuper);
    let beyond: BTreeSet<String> = sessions
        .iter()
        .filter(|it| is_super(&it.user))
        .map(|it| it.user.clone())
        .collect();
    if beyond.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::blocker(format!(
            "superusers are at work in the database, and {admin:?}, who is none, may not end their sessions"
        ))
        .objects(beyond)
        .fix("let the application use a role without superuser, or end those sessions before the cutover"),
    ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    fn sessions(user: &str, address: &str, n: i64) -> Sessions {
        Sessions {
            user: user.into(),
            address: address.parse().ok(),
            n,
            tls: None,
        }
    }

    fn rule(method: &str) -> Rule {
        Rule {
            line_number: 9,
            kind: "host".into(),
            database: vec!["all".into()],
            user_name: vec!["app".into()],
            address: Some("10.0.0.0".into()),
            netmask: Some("255.0.0.0".into()),
            auth_method: method.into(),
        }
    }

    #[test]
    fn logins_fail_for_want_of_a_line_or_of_a_password_of_that_kind() {
        let passwords = |kind: &str| BTreeMap::from([("app".to_owned(), kind.to_owned())]);
        let of = |session: &Sessions, kind, method| {
            let found = logins(
                std::slice::from_ref(session),
                &passwords(kind),
                &[],
                &[rule(method)],
                "shop",
            );
            found
                .first()
                .map(|it| it.objects[0].clone())
                .unwrap_or_default()
        };
        let app = sessions("app", "10.1.1.1", 1);
        assert_eq!(of(&app, "scram", "scram-sha-256"), "");
        assert_eq!(of(&app, "md5", "md5"), "");
        assert!(of(&app, "md5", "scram-sha-256").contains("line 9 asks for scram"));
        assert!(of(&app, "none", "md5").contains("no password"));
        assert!(of(&app, "scram", "reject").contains("rejects"));
        assert_eq!(
            of(&sessions("app", "192.168.1.1", 1), "scram", "md5"),
            "app from 192.168.1.1"
        );
        assert_eq!(
            of(&sessions("bob", "10.1.1.1", 1), "scram", "md5"),
            "bob from 10.1.1.1"
        );
    }

    #[test]
    fn lines_for_tls_alone_are_held_against_the_sessions_of_now() {
        let of = |tls| {
            let only = Rule {
                kind: "hostssl".into(),
                ..rule("md5")
            };
            let app = Sessions {
                tls,
                ..sessions("app", "10.1.1.1", 1)
            };
            let found = logins(&[app], &BTreeMap::new(), &[], &[only], "shop");
            found.first().map(|it| (it.severity, it.message.clone()))
        };
        assert_eq!(of(Some(true)), None);
        assert_eq!(of(None), None);
        let (severity, message) = of(Some(false)).unwrap();
        assert_eq!(severity, Severity::Warning);
        assert!(message.ends_with("these connect without it"), "{message}");
    }

    #[test]
    fn a_role_that_is_there_gets_the_publishers_password_until_it_is_subscribed() {
        let all = |app: &str, own: &str| {
            let pair = |(role, kind): (&str, &str)| (role.to_owned(), kind.to_owned());
            BTreeMap::from([("app", app), ("own", own)].map(pair))
        };
        let then = |here, subscribed| {
            let connecting = BTreeSet::from(["own"]);
            passwords_then(here, all("scram", "scram"), subscribed, &connecting)
        };
        assert_eq!(then(all("md5", "md5"), false), all("md5", "scram"));
        assert_eq!(then(all("none", "md5"), false), all("scram", "scram"));
        assert_eq!(then(all("md5", "md5"), true), all("scram", "scram"));
    }
}
