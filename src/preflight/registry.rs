//! Which checks there are. A check is an entry in its family's file; a family is a file and a line here.

use super::finding::Finding;
use super::question::{Ask, Place};
use super::view::View;
use super::{beforehand, beyond, family};
use crate::error::Result;

/// The first command that a finding would hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Before {
    /// Roles, extensions and schema.
    Setup,
    /// `create_publication`.
    Publication,
    /// `create_subscription`, and the copy.
    Subscription,
    /// `cutover` and `fallback`: what would block them is a warning until the subscription streams.
    Cutover,
}

/// One thing that can go wrong.
pub(crate) struct Check {
    /// Short and stable; the README's paragraph has it as its heading.
    pub(crate) id: &'static str,
    /// What is so when it passes.
    pub(crate) title: &'static str,
    pub(crate) before: Before,
    /// Looked at once, or for each database.
    pub(crate) place: Place,
    pub(crate) asks: &'static [Ask],
    /// Pure: what the answers mean.
    pub(crate) judge: fn(&View<'_>) -> Result<Vec<Finding>>,
}

const FAMILIES: &[&[Check]] = &[
    family::databases::CHECKS,
    family::records::CHECKS,
    family::locale::CHECKS,
    family::own_names::CHECKS,
    family::versions::CHECKS,
    family::gone::CHECKS,
    family::results::CHECKS,
    family::members::CHECKS,
    family::extensions::CHECKS,
    family::extension_owners::CHECKS,
    family::needs::CHECKS,
    family::owners::CHECKS,
    family::identity::CHECKS,
    family::generated::CHECKS,
    family::partial::CHECKS,
    family::coverage::CHECKS,
    family::beside::CHECKS,
    family::sequences::CHECKS,
    family::constraints::CHECKS,
    family::row_security::CHECKS,
    family::triggers::CHECKS,
    family::expressions::CHECKS,
    family::capacity::CHECKS,
    family::locks::CHECKS,
    family::slots::CHECKS,
    family::transactions::CHECKS,
    family::logins::CHECKS,
    family::app_connect::CHECKS,
    family::session_limits::CHECKS,
    family::replication_user::CHECKS,
    family::role_settings::CHECKS,
    family::timeouts::CHECKS,
    family::subscription::CHECKS,
    family::other_subscriptions::CHECKS,
    family::target::CHECKS,
];

/// Every check, in the order of the families.
pub(crate) fn checks() -> impl Iterator<Item = &'static Check> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The ids of all checks with what passing means; the last ones look with more than questions.
pub fn ids() -> Vec<(&'static str, &'static str)> {
    let more = [
        (beyond::OTHER_MIGRATIONS, beyond::ALONE),
        (beyond::SETTING_VALUES, beyond::TAKEN),
        (beforehand::SUBSCRIBER_ROWS, beforehand::EMPTY),
        (beyond::SCHEMA_DRIFT, beyond::SAME),
        (NOT_SEEN, "everything could be looked at"),
    ];
    checks()
        .map(|check| (check.id, check.title))
        .chain(more)
        .collect()
}

/// What the role may not look at.
pub(super) const NOT_SEEN: &str = "not_seen";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::preflight::question::Text;

    const README: &str = include_str!("../../README.md");

    #[test]
    fn every_check_has_an_id_of_its_own_and_a_paragraph_and_no_paragraph_is_without_a_check() {
        let ids: Vec<&str> = ids().into_iter().map(|(id, _)| id).collect();
        let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(unique.len(), ids.len(), "an id is there twice");
        let chapter = README.split("\n## What preflight looks at\n").nth(1);
        let chapter = chapter.and_then(|rest| rest.split("\n## ").next());
        let described: std::collections::BTreeSet<&str> = chapter
            .expect("a chapter on the checks")
            .lines()
            .filter_map(|line| line.strip_prefix("#### "))
            .collect();
        assert_eq!(described, unique);
    }

    #[test]
    fn a_question_has_one_name_and_one_text() {
        let mut known: BTreeMap<&str, Text> = BTreeMap::new();
        for ask in checks().flat_map(|check| check.asks) {
            let text = ask.text;
            assert_eq!(
                *known.entry(text.name).or_insert(text),
                text,
                "{}",
                text.name
            );
            let writes = [
                "INSERT ",
                "UPDATE ",
                "DELETE FROM",
                "CREATE ",
                "ALTER ",
                "LOCK ",
            ];
            assert!(
                !writes.iter().any(|it| text.sql.contains(it)),
                "{} writes",
                text.name
            );
        }
    }
}
