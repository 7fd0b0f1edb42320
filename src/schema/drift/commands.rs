//! Which commands make what is only missing.

use super::{Drift, Kind};
use crate::server::Side;
use crate::value::ShellWord;

/// None where there is something else. Roles come by one of their own, which
/// leads forward alone.
pub(crate) fn made_by<'d>(
    found: impl IntoIterator<Item = &'d Drift>,
    to: Side,
    dbname: &str,
) -> Option<String> {
    let (mut roles, mut rest) = (false, false);
    for it in found {
        if !it.missing || it.statement.is_none() {
            return None;
        }
        match it.kind {
            Kind::Role if to == Side::Publisher => return None,
            Kind::Role => roles = true,
            _ => rest = true,
        }
    }
    let roles = roles.then(|| "flare replicate_roles".to_owned());
    let rest = rest.then(|| format!("flare replicate_schema --missing {}", ShellWord(dbname)));
    let commands: Vec<String> = roles.into_iter().chain(rest).collect();
    Some(commands.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_come_by_a_command_of_their_own() {
        let missing = |kind, statement: Option<&str>| Drift {
            object: "x".into(),
            kind,
            publisher: Some(String::new()),
            subscriber: None,
            statement: statement.map(str::to_owned),
            missing: true,
            advice: None,
        };
        let role = missing(Kind::Role, Some("CREATE ROLE x"));
        let table = missing(Kind::Table, Some("CREATE TABLE x ()"));
        let by = |found: &[&Drift], to| made_by(found.iter().copied(), to, "db");
        assert_eq!(
            by(&[&role, &table], Side::Subscriber).unwrap(),
            "flare replicate_roles; flare replicate_schema --missing db"
        );
        assert_eq!(
            by(&[&role], Side::Subscriber).unwrap(),
            "flare replicate_roles"
        );
        assert_eq!(by(&[&role], Side::Publisher), None);
        assert_eq!(
            by(
                &[&table, &missing(Kind::UserMapping, None)],
                Side::Subscriber
            ),
            None
        );
    }
}
