//! The first line of pg_hba.conf that fits a login, as the server reads it (manual: "The pg_hba.conf File").

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

use crate::preflight::question::Question;

/// A line of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Rule {
    pub(super) line_number: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) database: Vec<String>,
    pub(super) user_name: Vec<String>,
    pub(super) address: Option<String>,
    pub(super) netmask: Option<String>,
    pub(super) auth_method: String,
}

pub(super) const RULES: Question<Rule> = Question::server(
    "hba",
    "SELECT to_jsonb(r) FROM pg_hba_file_rules r WHERE r.type IS NOT NULL AND r.error IS NULL ORDER BY r.line_number",
)
.privileged();

/// A role and one that it is a member of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Member {
    pub(super) rolname: String,
    pub(super) of: String,
}

/// Through any chain.
pub(super) const MEMBERS: Question<Member> = Question::server(
    "members",
    "WITH RECURSIVE within(member, roleid) AS (
         SELECT member, roleid FROM pg_auth_members
         UNION SELECT w.member, m.roleid FROM within w JOIN pg_auth_members m ON m.member = w.roleid)
     SELECT jsonb_build_object('rolname', r.rolname, 'of', g.rolname)
       FROM within w JOIN pg_roles r ON r.oid = w.member JOIN pg_roles g ON g.oid = w.roleid WHERE r.rolcanlogin",
);

/// What the file says of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit<'r> {
    /// The first line that fits.
    Line(&'r Rule),
    /// A line before any other may fit: host names and expressions are the server's to tell.
    Unsure,
    /// No line.
    None,
}

/// Who logs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) dbname: &'a str,
    /// The roles that the user is a member of, through any chain.
    pub(super) member_of: &'a BTreeSet<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) tls: Tls,
}

/// What is known of the encryption that a login has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// The client takes it.
    Spoken,
    /// The client does without where it is offered.
    Avoided,
    Unknown,
}

impl Tls {
    fn is_kind(self, kind: &str) -> Answer {
        match (kind, self) {
            ("host", _) | ("hostssl", Tls::Spoken) | ("hostnossl", Tls::Avoided) => Answer::Yes,
            ("hostssl", Tls::Avoided) => Answer::No,
            _ => Answer::Perhaps,
        }
    }
}

/// The line for a login over TCP. Without an address any line of a host may fit; one that stands for all is taken, where they
/// ask for the same.
pub(super) fn fit<'r>(rules: &'r [Rule], login: &Login<'_>) -> Fit<'r> {
    let hosts = rules.iter().filter(|it| it.kind.starts_with("host"));
    if login.address.is_none() {
        return anywhere(hosts, login);
    }
    for rule in hosts {
        let parts = [
            login.is_user(&rule.user_name),
            login.is_database(&rule.database),
            reaches(rule, login.address),
            login.tls.is_kind(&rule.kind),
        ];
        if parts.contains(&Answer::No) {
            continue;
        }
        return if parts.contains(&Answer::Perhaps) {
            Fit::Unsure
        } else {
            Fit::Line(rule)
        };
    }
    Fit::None
}

/// The same without an address.
fn anywhere<'r>(hosts: impl Iterator<Item = &'r Rule>, login: &Login<'_>) -> Fit<'r> {
    let mut found: Option<&Rule> = None;
    for rule in hosts {
        let parts = [
            login.is_user(&rule.user_name),
            login.is_database(&rule.database),
        ];
        let of_this_kind = login.tls.is_kind(&rule.kind);
        if parts.contains(&Answer::No) || of_this_kind == Answer::No {
            continue;
        }
        let same = found.is_none_or(|it| it.auth_method == rule.auth_method);
        if parts.contains(&Answer::Perhaps) || !same {
            return Fit::Unsure;
        }
        found = Some(rule);
    }
    found.map_or(Fit::None, Fit::Line)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Perhaps,
}

impl Login<'_> {
    /// A role is a member of itself; a superuser is one of those alone that it was made a member of.
    fn is_member_of(&self, role: &str) -> bool {
        self.user == role || self.member_of.contains(role)
    }

    fn is_user(&self, listed: &[String]) -> Answer {
        any(listed, |it| match it.strip_prefix('+') {
            _ if it == self.user || it == "all" => Answer::Yes,
            Some(role) => Answer::of(self.is_member_of(role)),
            None => is_expression(it),
        })
    }

    fn is_database(&self, listed: &[String]) -> Answer {
        any(listed, |it| match it {
            "all" => Answer::Yes,
            _ if it == self.dbname => Answer::Yes,
            "sameuser" => Answer::of(self.user == self.dbname),
            "samerole" | "samegroup" => Answer::of(self.is_member_of(self.dbname)),
            _ => is_expression(it),
        })
    }
}

impl Answer {
    fn of(yes: bool) -> Answer {
        if yes { Answer::Yes } else { Answer::No }
    }
}

/// From 16 on what begins with a slash is a regular expression.
fn is_expression(listed: &str) -> Answer {
    if listed.starts_with(['/', '@']) {
        Answer::Perhaps
    } else {
        Answer::No
    }
}

fn any(listed: &[String], fits: impl Fn(&str) -> Answer) -> Answer {
    let answers: Vec<Answer> = listed.iter().map(|it| fits(it)).collect();
    [Answer::Yes, Answer::Perhaps]
        .into_iter()
        .find(|it| answers.contains(it))
        .unwrap_or(Answer::No)
}

fn reaches(rule: &Rule, address: Option<IpAddr>) -> Answer {
    let (Some(network), Some(address)) = (&rule.address, address) else {
        return match (rule.address.as_deref(), address) {
            (Some("all"), _) => Answer::Yes,
            _ => Answer::Perhaps,
        };
    };
    let within = |network: &str, mask: &str| -> Option<bool> {
        let (network, mask) = (network.parse().ok()?, mask.parse().ok()?);
        Some(match (network, mask, address) {
            (IpAddr::V4(network), IpAddr::V4(mask), IpAddr::V4(address)) => {
                u32::from(address) & u32::from(mask) == u32::from(network) & u32::from(mask)
            }
            (IpAddr::V6(network), IpAddr::V6(mask), IpAddr::V6(address)) => {
                u128::from(address) & u128::from(mask) == u128::from(network) & u128::from(mask)
            }
            _ => false,
        })
    };
    match (network.as_str(), rule.netmask.as_deref()) {
        ("all", _) => Answer::Yes,
        (network, Some(mask)) => match within(network, mask) {
            Some(true) => Answer::Yes,
            Some(false) => Answer::No,
            None => Answer::Perhaps,
        },
        _ => Answer::Perhaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(user: &str, database: &str, address: &str, mask: &str, method: &str) -> Rule {
        Rule {
            line_number: 1,
            kind: "host".into(),
            database: vec![database.into()],
            user_name: vec![user.into()],
            address: Some(address.into()),
            netmask: Some(mask.into()).filter(|it: &String| !it.is_empty()),
            auth_method: method.into(),
        }
    }

    fn fit<'r>(rules: &'r [Rule], user: &str, dbname: &str, address: Option<IpAddr>) -> Fit<'r> {
        let member_of = BTreeSet::from(["staff".to_owned()]);
        let login = Login {
            user,
            dbname,
            member_of: &member_of,
            address,
            tls: Tls::Unknown,
        };
        super::fit(rules, &login)
    }

    fn method(fit: Fit<'_>) -> &str {
        match fit {
            Fit::Line(rule) => &rule.auth_method,
            Fit::Unsure => "unsure",
            Fit::None => "none",
        }
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let rules = [
            rule("bob", "all", "all", "", "reject"),
            rule("all", "shop", "10.1.0.0", "255.255.0.0", "md5"),
            rule("all", "all", "10.0.0.0", "255.0.0.0", "scram-sha-256"),
            rule("all", "all", "fe80::", "ffff::", "trust"),
        ];
        let of =
            |user, dbname, address: &str| method(fit(&rules, user, dbname, address.parse().ok()));
        assert_eq!(of("bob", "shop", "10.1.2.3"), "reject");
        assert_eq!(of("app", "shop", "10.1.2.3"), "md5");
        assert_eq!(of("app", "shop", "10.2.2.3"), "scram-sha-256");
        assert_eq!(of("app", "other", "10.1.2.3"), "scram-sha-256");
        assert_eq!(of("app", "shop", "192.168.0.1"), "none");
        assert_eq!(of("app", "shop", "fe80::1"), "trust");
    }

    #[test]
    fn without_an_address_lines_count_that_ask_for_the_same() {
        let near = rule("all", "all", "10.0.0.0", "255.0.0.0", "scram-sha-256");
        let far = rule("all", "all", "all", "", "scram-sha-256");
        assert_eq!(
            method(fit(&[near.clone(), far], "app", "shop", None)),
            "scram-sha-256"
        );
        let other = rule("all", "all", "all", "", "md5");
        assert_eq!(
            fit(&[near.clone(), other], "app", "shop", None),
            Fit::Unsure
        );
        let bobs = rule("bob", "all", "all", "", "md5");
        assert_eq!(fit(&[bobs], "app", "shop", None), Fit::None);
    }

    #[test]
    fn groups_are_known_by_their_members() {
        let of = |user, database| {
            method(fit(
                &[rule(user, database, "all", "", "md5")],
                "app",
                "shop",
                None,
            ))
            .to_owned()
        };
        assert_eq!(of("+staff", "all"), "md5");
        assert_eq!(of("+app", "all"), "md5");
        assert_eq!(of("+others", "all"), "none");
        assert_eq!(of("all", "sameuser"), "none");
        assert_eq!(of("all", "samerole"), "none");
        let staffs = [rule("all", "samerole", "all", "", "md5")];
        assert_eq!(method(fit(&staffs, "app", "staff", None)), "md5");
        let own = [rule("all", "sameuser", "all", "", "md5")];
        assert_eq!(method(fit(&own, "app", "app", None)), "md5");
    }

    #[test]
    fn what_only_the_server_can_tell_is_not_judged() {
        let expression = [rule("/^a", "all", "all", "", "reject")];
        assert_eq!(fit(&expression, "app", "shop", None), Fit::Unsure);
        let host = [rule("all", "all", "app.example", "", "md5")];
        let address = "10.0.0.1".parse().ok();
        assert_eq!(fit(&host, "app", "shop", address), Fit::Unsure);
        let tls_only = [Rule {
            kind: "hostssl".into(),
            ..rule("all", "all", "all", "", "md5")
        }];
        assert_eq!(fit(&tls_only, "app", "shop", address), Fit::Unsure);
        let member_of = BTreeSet::new();
        let with = |tls| {
            let login = Login {
                user: "app",
                dbname: "shop",
                member_of: &member_of,
                address,
                tls,
            };
            method(super::fit(&tls_only, &login))
        };
        assert_eq!(with(Tls::Spoken), "md5");
        assert_eq!(with(Tls::Avoided), "none");
        assert_eq!(with(Tls::Unknown), "unsure");
        let local = [Rule {
            kind: "local".into(),
            ..rule("all", "all", "", "", "trust")
        }];
        assert_eq!(fit(&local, "app", "shop", address), Fit::None);
    }
}
