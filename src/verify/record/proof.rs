//! Whether every table was found equal, and when: what a cutover asks.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Kept, Whose, read};
use crate::error::Result;
use crate::journal::Direction;
use crate::server::Pair;
use crate::value::TableName;
use crate::verify::report::TableStatus;
use crate::verify::table::is_of_another_file;

/// Whether every table of a database was found equal, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// What is missing of that, table by table.
    pub(crate) missing: Vec<String>,
    /// When the last table was verified, in UTC.
    pub(crate) last: Option<String>,
}

/// When the rows of a database were last compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastVerification {
    /// The database.
    pub dbname: String,
    /// When, in UTC; none: never since this subscription was made.
    pub finished_at: Option<String>,
    /// Whether every published table was found equal.
    pub equal: bool,
    /// The tables that were not, each with what is known of it.
    pub missing: Vec<String>,
}

impl fmt::Display for LastVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dbname = &self.dbname;
        match (&self.finished_at, self.equal) {
            (None, _) => write!(
                f,
                "{dbname:?}: its rows were not compared since replication runs this way (flare verify_data)"
            ),
            (Some(at), true) => write!(f, "{dbname:?}: every row was last found equal at {at}"),
            (Some(at), false) => write!(
                f,
                "{dbname:?}: its rows were last compared at {at}; not known to be equal: {}",
                listed(&self.missing)
            ),
        }
    }
}

/// The first of them.
pub(crate) fn listed(missing: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = missing
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match missing.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// The signature of each table as both sides have it now; of one that cannot be compared there is none.
pub(in crate::verify) type Signatures = BTreeMap<TableName, String>;

/// What is on record about these tables, as this subscription carries them. `configured` is the configuration's pair;
/// `signatures` is asked only where something was found equal.
pub(in crate::verify) fn proof(
    configured: &Pair,
    dbname: &str,
    direction: Direction,
    subscription: &str,
    tables: &[TableName],
    signatures: impl FnOnce() -> Result<Signatures>,
) -> Result<Proof> {
    let whose = Whose::of(configured, dbname, direction);
    let mut kept = read(configured.subscriber.admin(), &whose)?;
    kept.retain(|it| it.subscription == subscription);
    let any_equal = kept.iter().any(|it| it.status == Some(TableStatus::Equal));
    let now = if any_equal {
        signatures()?
    } else {
        Signatures::new()
    };
    Ok(judge(&kept, tables, &now))
}

fn judge(kept: &[Kept], tables: &[TableName], now: &Signatures) -> Proof {
    let mut proof = Proof::default();
    for name in tables {
        let found = kept.iter().find(|it| it.name == *name);
        let lacks = found.map_or(Some("not verified"), |it| match it.status {
            Some(TableStatus::Equal) => {
                let now = now.get(name).map(String::as_str);
                let rewritten = it.signature.as_deref().zip(now);
                match now {
                    Some(now) if it.found_equal(now) => None,
                    _ if rewritten.is_some_and(|(then, now)| is_of_another_file(then, now)) => {
                        Some("truncated or written anew since")
                    }
                    _ => Some("its columns or its key have changed since"),
                }
            }
            Some(status) => Some(status.as_str()),
            None => Some("not verified to its end"),
        });
        proof
            .missing
            .extend(lacks.map(|it| format!("{} ({it})", name.plain())));
        let when = found
            .filter(|it| it.status.is_some())
            .map(|it| it.changed_at.clone());
        proof.last = proof.last.take().max(when);
    }
    proof
}

#[cfg(test)]
mod tests {
    use super::super::tests::kept;
    use super::*;

    #[test]
    fn every_table_must_have_been_found_equal_as_it_is_now() {
        let all = ["a", "bb", "ccc", "dddd", "eeeee"].map(|it| TableName::new("app", it));
        let record = [
            kept("a", Some(TableStatus::Equal)),
            kept("bb", Some(TableStatus::Undecided)),
            kept("ccc", None),
            kept("dddd", Some(TableStatus::Equal)),
        ];
        let now = [("a", "s"), ("dddd", "other")];
        let now = now.map(|(table, it)| (TableName::new("app", table), it.to_owned()));
        let now = Signatures::from(now);
        let proof = judge(&record, &all, &now);
        assert_eq!(
            proof.missing,
            [
                "app.bb (undecided)",
                "app.ccc (not verified to its end)",
                "app.dddd (its columns or its key have changed since)",
                "app.eeeee (not verified)"
            ]
        );
        assert_eq!(proof.last.as_deref(), Some("2026-01-04"));
        assert!(judge(&record, &all[..1], &now).missing.is_empty());
        assert_eq!(
            judge(&record, &all[..1], &Signatures::new()).missing.len(),
            1
        );
        let mut of_a_file = kept("a", Some(TableStatus::Equal));
        of_a_file.signature = Some("s | file 1".into());
        let later = |signature: &str| {
            let now = Signatures::from([(all[0].clone(), signature.to_owned())]);
            judge(std::slice::from_ref(&of_a_file), &all[..1], &now).missing
        };
        assert!(later("s | file 1").is_empty());
        assert_eq!(
            later("s | file 2"),
            ["app.a (truncated or written anew since)"]
        );
        assert_eq!(
            later("t | file 2"),
            ["app.a (its columns or its key have changed since)"]
        );
    }
}
