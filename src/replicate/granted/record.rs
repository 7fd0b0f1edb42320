//! The grants as the subscription's comment names them: a line of its own beside what others wrote there.

use super::Grant;
use crate::error::{Result, WrapErr};
use crate::replicate::Plan;
use crate::server::{Session, params};
use crate::value::{Ident, Literal};

/// How flare's line in the comment begins; JSON follows.
const RECORD: &str = "granted by flare and taken back by its drop_subscription: ";

/// Names the grants in the subscription's comment, beside what is written there already.
pub(in crate::replicate) fn record(
    plan: &mut Plan,
    subname: &str,
    comment: &str,
    grants: &[Grant],
) {
    let mut named = recorded(comment);
    let more: Vec<&Grant> = grants
        .iter()
        .filter(|grant| !named.contains(grant))
        .collect();
    if more.is_empty() {
        return;
    }
    named.extend(more.into_iter().cloned());
    let json = serde_json::to_string(&named).unwrap_or_default();
    let mut lines: Vec<&str> = comment
        .lines()
        .filter(|line| !line.starts_with(RECORD))
        .collect();
    let ours = format!("{RECORD}{json}");
    lines.push(&ours);
    plan.step(
        format!("name in the comment of subscription {subname:?} what was granted for it"),
        format!(
            "COMMENT ON SUBSCRIPTION {} IS {}",
            Ident::new(subname),
            Literal(&lines.join("\n"))
        ),
    );
}

/// The grants that a comment names; one that cannot be read names none.
pub(super) fn recorded(comment: &str) -> Vec<Grant> {
    let ours = comment.lines().find_map(|line| line.strip_prefix(RECORD));
    ours.and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

pub(super) fn comment_of(session: &Session, subname: &str) -> Result<String> {
    session
        .value(
            "SELECT coalesce((SELECT obj_description(s.oid, 'pg_subscription') FROM pg_subscription s
                               WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())), '')",
            params![subname],
        )
        .wrap_err_with(|| format!("read the comment of subscription {subname:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{create, membership, sql};
    use super::*;

    #[test]
    fn a_comment_keeps_what_others_wrote_and_names_each_grant_once() {
        let grants = [membership("o'\"\\\n"), create()];
        let written = sql(|plan| record(plan, "s", "the user's\nwords", &grants[..1]));
        let comment = format!(
            "the user's\nwords\n{RECORD}{}",
            serde_json::to_string(&grants[..1]).unwrap()
        );
        assert_eq!(
            written,
            [format!(
                "COMMENT ON SUBSCRIPTION \"s\" IS {}",
                Literal(&comment)
            )]
        );
        assert_eq!(recorded(&comment), grants[..1]);
        assert!(sql(|plan| record(plan, "s", &comment, &grants[..1])).is_empty());
        let more = sql(|plan| record(plan, "s", &comment, &grants));
        assert_eq!(more[0].matches(RECORD).count(), 1, "{more:?}");
        assert!(more[0].contains("create_on_database"), "{more:?}");
        assert_eq!(recorded("granted by flare"), []);
        assert_eq!(recorded(&format!("{RECORD}[{{\"granted\":\"all\"}}]")), []);
    }
}
