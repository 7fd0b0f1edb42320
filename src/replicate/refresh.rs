//! A subscription takes the tables that its publication has gained.

use std::time::Duration;

use super::{Plan, status_table, unsubscribe};
use crate::catalog::subscriptions::{Relation, Subscription};
use crate::catalog::tables::listed;
use crate::error::Result;
use crate::server::{ActAs, Session, Side, Subscriber, Timeout};
use crate::value::{Ident, TableName};

const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);

/// Published tables that the subscription does not know: their rows are skipped in silence.
pub(crate) fn missing(published: &[TableName], relations: &[Relation]) -> Vec<TableName> {
    let known = |name: &TableName| relations.iter().any(|relation| relation.name == *name);
    let missing = published.iter().filter(|name| !known(name));
    missing.cloned().collect()
}

/// How long a subscriber may take to ask its publisher what is published, for this number of tables. The view
/// pg_publication_tables of 10 and 11 calls its function once for each relation: minutes for thousands of tables. A
/// publisher that never answers holds the subscriber up for good.
pub(crate) fn patience(tables: usize) -> Timeout {
    let thousands = tables as f64 / 1000.0;
    Timeout::For(Duration::from_secs_f64(30.0 + 100.0 * thousands * thousands).min(LONGEST))
}

/// A session that may refresh a subscription with this number of tables.
pub(crate) fn session(
    subscriber: &Subscriber,
    dbname: &str,
    subscription: &Subscription,
    tables: usize,
) -> Result<Session> {
    let login = unsubscribe::login_of(subscriber, subscription);
    let session = subscriber.connect(ActAs::EvenShutOut(login), dbname)?;
    Ok(session.with_timeout(patience(tables)))
}

/// Statements for `missing`, which is not empty; each a transaction of its own.
pub(crate) fn plan(dbname: &str, subscription: &Subscription, missing: &[TableName]) -> Plan {
    let mut plan = Plan::new(Side::Subscriber, dbname);
    let Subscription {
        subname,
        subenabled,
        ..
    } = subscription;
    if !subenabled {
        plan.note(format!(
            "subscription {subname:?} is disabled and does not know {}: ENABLE it and run this again",
            listed(missing)
        ));
        return plan;
    }
    // Old probe rows are worth nothing, and a copy would collide with those that are here.
    let how = match missing {
        [only] if status_table::is(only) => " WITH (copy_data = false)",
        _ => "",
    };
    let status = missing.iter().find(|name| status_table::is(name));
    if let ("", Some(status)) = (how, status) {
        plan.step(
            format!("empty {}", status.plain()),
            format!("DELETE FROM {status}"),
        );
    }
    plan.step(
        format!("have subscription {subname:?} take {}", listed(missing)),
        format!(
            "ALTER SUBSCRIPTION {} REFRESH PUBLICATION{how}",
            Ident::new(subname)
        ),
    );
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probe_rows_are_not_copied() {
        let subscription = Subscription {
            oid: "1".into(),
            subname: "S".into(),
            subenabled: true,
            subslotname: None,
            subpublications: vec![],
            owner: "o".into(),
            mine: true,
        };
        let statements = |missing: &[TableName]| -> Vec<String> {
            let plan = plan("db", &subscription, missing);
            plan.statements().iter().map(|s| s.shown.clone()).collect()
        };
        let status = TableName::new("public", status_table::NAME);
        assert_eq!(
            statements(std::slice::from_ref(&status)),
            [r#"ALTER SUBSCRIPTION "S" REFRESH PUBLICATION WITH (copy_data = false)"#]
        );
        assert_eq!(
            statements(&[TableName::new("app", "a"), status]),
            [
                r#"DELETE FROM "public"."flare_replication_status""#,
                r#"ALTER SUBSCRIPTION "S" REFRESH PUBLICATION"#
            ]
        );
    }
}
