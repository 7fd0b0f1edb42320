//! What the subscriber needs beside the rows: statistics, and an owner of the subscription who may write.

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;
use crate::value::{Ident, ShellWord, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "statistics",
        title: "every table of the subscriber has statistics",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[UNANALYZED.on_subscriber()],
        judge: |view| match (view.moving, view.subscriber) {
            (Some(moving), Some(subscriber)) if view.streams => Ok(unanalyzed(
                &subscriber.rows(&UNANALYZED)?,
                moving.dbname,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "subscription_owner",
        title: "the subscription's owner may act for the owner of every table",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[OUT_OF_REACH.on_subscriber()],
        judge: |view| match view.subscriber {
            Some(subscriber) if view.subscribed => Ok(out_of_reach(
                &subscriber.rows(&OUT_OF_REACH)?,
                subscriber.side,
            )),
            _ => Ok(Vec::new()),
        },
    },
];

const UNANALYZED: Question<TableName> = Question::database(
    "unanalyzed",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname NOT IN ('flare', 'information_schema')
        AND n.nspname !~ '^pg_' AND c.relname <> 'flare_replication_status'
        AND pg_stat_get_last_analyze_time(c.oid) IS NULL AND pg_stat_get_last_autoanalyze_time(c.oid) IS NULL
        AND (c.relpages > 0 OR pg_stat_get_tuples_inserted(c.oid) > 0) AND c.reltuples <= 0
      ORDER BY n.nspname, c.relname",
);

/// An owner of tables, as whom a subscription's owner may not act.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct OutOfReach {
    subowner: String,
    relowner: String,
}

const OUT_OF_REACH: Question<OutOfReach> = Question::database(
    "out_of_reach",
    "SELECT DISTINCT jsonb_build_object('subowner', pg_get_userbyid(s.subowner), 'relowner', pg_get_userbyid(c.relowner))
       FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid JOIN pg_class c ON c.oid = r.srrelid
      WHERE s.subname = {subname} AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND NOT s.subrunasowner AND NOT pg_has_role(s.subowner, c.relowner, 'SET')",
)
.since(16);

fn unanalyzed(tables: &[TableName], dbname: &str, ends: Ends) -> Vec<Finding> {
    let to = ends.to;
    if tables.is_empty() {
        Vec::new()
    } else {
        vec![
            Finding::warning(format!(
                "tables of the {to} were never analyzed: plans go wrong right after the switch"
            ))
            .objects(tables.iter().map(TableName::plain))
            .fix(if ends.is_back() {
                format!("ANALYZE on the {to}, in that database; fallback does it")
            } else {
                format!("flare vacuum_analyze {}", ShellWord(dbname))
            }),
        ]
    }
}

fn out_of_reach(owners: &[OutOfReach], to: Side) -> Vec<Finding> {
    match owners.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker(format!(
                "the subscription's owner {:?} may not SET ROLE to owners of tables: their rows do not arrive",
                first.subowner
            ))
            .objects(owners.iter().map(|it| it.relowner.clone()))
            .fix(format!(
                "GRANT {} TO {} WITH SET TRUE on the {to}",
                Ident::new(&first.relowner),
                Ident::new(&first.subowner)
            )),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_statement() {
        assert!(unanalyzed(&[], "d", Ends::FORWARD).is_empty());
        let found = unanalyzed(&["app.t".parse().unwrap()], "it's", Ends::FORWARD);
        assert_eq!(found[0].objects, ["app.t"]);
        assert!(out_of_reach(&[], Side::Subscriber).is_empty());
        let found = out_of_reach(
            &[OutOfReach {
                subowner: "adm".into(),
                relowner: "o\"o".into(),
            }],
            Side::Subscriber,
        );
        let fix = found[0].fix.as_deref().unwrap();
        assert!(fix.starts_with(r#"GRANT "o""o" TO "adm""#), "{fix}");
    }
}
