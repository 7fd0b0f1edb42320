//! Subscriptions that are not the migration's: of another publisher, in the same database, or of the publisher itself.

use serde::Deserialize;

use super::subscription::{SUBSCRIPTIONS, Subscription};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{Ends, View};
use crate::value::{Ident, ShellWord};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "subscription_source",
        title: "the subscription leads to the configured publisher",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[SUBSCRIPTIONS.on_subscriber(), SOURCE.on_subscriber()],
        judge: |view| {
            let elsewhere = elsewhere(view)?.map(|(found, declared)| {
                let to = view.ends().to;
                Finding::warning("the subscription's connection leads to another address than the configuration's: it may be another migration's, which cleanup would drop")
                    .objects([
                        format!("{} in the subscription", found.in_words()),
                        format!("{} in the configuration (host_via_{to}, port_via_{to})", declared.in_words()),
                    ])
                    .fix("name the subscription otherwise in the configuration, or correct the address there")
            });
            Ok(elsewhere.into_iter().collect())
        },
    },
    Check {
        id: "other_subscriptions",
        title: "no other subscription writes into the database, and the publisher follows nobody",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[SUBSCRIPTIONS.on_both()],
        judge: |view| {
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let there = match view.subscriber {
                Some(subscriber) => subscriber.rows(&SUBSCRIPTIONS)?,
                None => Vec::new(),
            };
            Ok(others(
                moving.subname,
                &publisher.rows(&SUBSCRIPTIONS)?,
                &there,
                view.ends(),
            ))
        },
    },
];

/// Where a subscription's connection leads, without who logs in there; `None` where the string does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Source {
    host: Option<String>,
    port: Option<String>,
    dbname: Option<String>,
}

const SOURCE: Question<Source> = Question::database(
    "source",
    r"SELECT jsonb_build_object('host', substring(subconninfo from '(?:^|\s)host\s*=\s*''?([^''\s]+)'),
              'port', substring(subconninfo from '(?:^|\s)port\s*=\s*''?([0-9]+)'),
              'dbname', substring(subconninfo from '(?:^|\s)dbname\s*=\s*''?([^''\s]+)'))
       FROM pg_subscription WHERE subname = {subname}
        AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
)
.privileged();

impl Source {
    pub(super) fn in_words(&self) -> String {
        let part = |it: &Option<String>| it.clone().unwrap_or_else(|| "?".into());
        format!(
            "{}:{}, database {}",
            part(&self.host),
            part(&self.port),
            part(&self.dbname)
        )
    }

    fn leads_elsewhere_than(&self, declared: &Source) -> bool {
        let differs = |one: &Option<String>, other: &Option<String>| one.is_some() && one != other;
        // A name with blanks or quotes is cut short: it cannot be told apart then.
        let whole = |name: &String| !name.contains([' ', '\'', '\\']);
        let other_database =
            differs(&self.dbname, &declared.dbname) && declared.dbname.as_ref().is_some_and(whole);
        differs(&self.host, &declared.host) || differs(&self.port, &declared.port) || other_database
    }
}

/// Where the migration's own subscription leads, and where it should, where these are not the same.
pub(super) fn elsewhere(view: &View<'_>) -> Result<Option<(Source, Source)>> {
    let (Some(moving), Some(publisher), Some(subscriber)) =
        (view.moving, view.publisher, view.subscriber)
    else {
        return Ok(None);
    };
    let via = &publisher.side.host(view.config).via;
    let declared = Source {
        host: Some(via.host.clone()),
        port: Some(via.port.to_string()),
        dbname: Some(moving.dbname.to_owned()),
    };
    let found = subscriber.first(&SOURCE)?.filter(|_| view.subscribed);
    let found = found.filter(|it| it.leads_elsewhere_than(&declared));
    Ok(found.map(|found| (found, declared)))
}

fn others(
    subname: Option<&str>,
    here: &[Subscription],
    there: &[Subscription],
    Ends { from, to }: Ends,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let chained: Vec<&Subscription> = here.iter().filter(|it| it.subenabled).collect();
    if let Some(first) = chained.first() {
        found.push(
            Finding::blocker(format!("the {from} follows another server in this database itself: its rows would go on arriving at the server that was left"))
                .objects(chained.iter().map(|it| it.subname.clone()))
                .fix(format!("end that subscription before the switch: ALTER SUBSCRIPTION {} DISABLE on the {from}", Ident::new(&first.subname))),
        );
    }
    let others: Vec<String> = there
        .iter()
        .filter(|it| Some(it.subname.as_str()) != subname)
        // A disabled one brings no rows; on a server that was left, DISABLE is what was advised before the cutover.
        .filter(|it| subname.is_none() || it.subenabled)
        .map(|it| it.subname.clone())
        .collect();
    if !others.is_empty() {
        found.push(
            Finding::blocker(format!("the {to} has other subscriptions in this database, whose rows would not follow the switch"))
                .fix(match subname {
                    Some(_) => "finish or drop them first".to_owned(),
                    None => format!("name it in subscriptions of the configuration, or drop it: flare drop_subscription {}", ShellWord(&others[0])),
                })
                .objects(others),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            subname: "s".into(),
            subenabled: true,
            subslotname: Some("slot".into()),
            subpublications: vec!["p".into()],
            owner: "o".into(),
        }
    }

    #[test]
    fn another_address_is_named_and_what_is_not_known_is_not() {
        let source = |host: &str, port: &str| Source {
            host: Some(host.into()),
            port: Some(port.into()),
            dbname: Some("d".into()),
        };
        let declared = source("old", "5432");
        assert!(!declared.leads_elsewhere_than(&declared));
        assert!(!Source::default().leads_elsewhere_than(&declared));
        assert!(source("third", "5432").leads_elsewhere_than(&declared));
        assert!(source("old", "5433").leads_elsewhere_than(&declared));
    }

    #[test]
    fn other_subscriptions_are_named_on_both_sides() {
        assert!(others(Some("s"), &[], &[subscription()], Ends::FORWARD).is_empty());
        let mut other = subscription();
        other.subname = "x".into();
        assert_eq!(
            others(Some("s"), &[other.clone()], &[other.clone()], Ends::FORWARD).len(),
            2
        );
        other.subenabled = false;
        assert!(others(Some("s"), &[other.clone()], &[other.clone()], Ends::FORWARD).is_empty());
        assert_eq!(others(None, &[], &[other], Ends::FORWARD).len(), 1);
    }
}
