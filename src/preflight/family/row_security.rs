//! Row security: whose rows the copy would not read, and as whom the subscription may not write.

use serde::Deserialize;

use super::published::{PUBLISHED, TABLES, covered};
use super::subscription::{SUBSCRIPTIONS, own};
use crate::config::Subscription;
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{SideView, View};
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "row_security",
        title: "no row security hides rows from the copy, or keeps the subscription from writing",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[
            SECURED.on_both(),
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
            SUBSCRIPTIONS.on_subscriber(),
            RUNS_AS_OWNER.on_subscriber(),
        ],
        judge: |view| {
            let Some(publisher) = view.publisher else {
                return Ok(Vec::new());
            };
            let secured = of_covered(view, publisher.rows(&SECURED)?)?;
            let mut found = Vec::new();
            if !view.streams && !view.is_back() {
                found.extend(hidden(&secured, publisher.superuser));
            }
            if let Some(subscriber) = view.subscriber {
                found.extend(unwritable(view, subscriber, &secured)?);
            }
            Ok(found)
        },
    },
    Check {
        id: "row_security_back",
        title: "no row security keeps the way back from writing",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            SECURED.on_publisher(),
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
        ],
        judge: |view| match view.publisher {
            Some(publisher) if view.reverse && publisher.major >= 15 => {
                let writer = if publisher.major >= 16 && !runs_as_owner(view) {
                    Writer::Owners
                } else {
                    Writer::Role(publisher.user.clone())
                };
                let secured = of_covered(view, publisher.rows(&SECURED)?)?;
                let refusing = writer.refused(&secured, publisher);
                Ok(refused_on_apply(&refusing, &writer, |owner| {
                    format!(
                        "run_as_owner: true in subscriptions.{}.options of the configuration, which the way back gets too, or ALTER ROLE {owner} BYPASSRLS on the {}",
                        declared(view).map_or("...", |(subname, _)| subname),
                        publisher.side
                    )
                }))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// A table with row security.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Secured {
    #[serde(flatten)]
    name: TableName,
    owner: String,
    /// FORCE: the owner is no exception.
    forced: bool,
    /// Whether the owner is a superuser, or has BYPASSRLS.
    owner_bypasses: bool,
    /// Whether the role in the subscription's connection sees every row; none where there is no such role.
    repl_sees: Option<bool>,
    /// The same of the administrator.
    admin_sees: bool,
}

const SECURED: Question<Secured> = Question::database(
    "row_security",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'owner', o.rolname, 'forced', c.relforcerowsecurity,
              'owner_bypasses', o.rolsuper OR o.rolbypassrls,
              'repl_sees', (SELECT r.rolsuper OR r.rolbypassrls OR NOT c.relforcerowsecurity AND pg_has_role(r.oid, c.relowner, 'USAGE')
                              FROM pg_roles r WHERE r.rolname = {repl}),
              'admin_sees', (SELECT r.rolsuper OR r.rolbypassrls OR NOT c.relforcerowsecurity AND pg_has_role(r.oid, c.relowner, 'USAGE')
                               FROM pg_roles r WHERE r.rolname = current_user))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
      WHERE c.relrowsecurity AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
      ORDER BY n.nspname, c.relname",
);

/// Whether the subscription writes as its owner instead of each table's.
const RUNS_AS_OWNER: Question<bool> = Question::database(
    "runs_as_owner",
    "SELECT to_jsonb(subrunasowner) FROM pg_subscription
      WHERE subname = {subname} AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
)
.since(16);

/// As whom rows are written.
enum Writer {
    /// Each table's owner, as from 16 on.
    Owners,
    /// The subscription's owner.
    Role(String),
}

impl Writer {
    /// The tables that apply refuses to write to: "cannot replicate into relation with row-level security enabled".
    fn refused(&self, secured: &[Secured], side: &SideView) -> Vec<Secured> {
        let refused = |it: &&Secured| match self {
            Writer::Owners => it.forced && !it.owner_bypasses,
            Writer::Role(role) if *role == side.user => !it.admin_sees,
            Writer::Role(role) if *role == it.owner => it.forced && !it.owner_bypasses,
            Writer::Role(_) => false,
        };
        secured.iter().filter(refused).cloned().collect()
    }
}

/// Those that are published, or will be.
fn of_covered(view: &View<'_>, mut secured: Vec<Secured>) -> Result<Vec<Secured>> {
    if !secured.is_empty() {
        let covered = covered(view)?;
        secured.retain(|it| covered.iter().any(|table| table.name == it.name));
    }
    Ok(secured)
}

fn names(secured: &[Secured]) -> Vec<String> {
    secured.iter().map(|it| it.name.plain()).collect()
}

/// COPY sends what the policies let through, and says nothing of the rest.
fn hidden(secured: &[Secured], superuser: bool) -> Option<Finding> {
    let hidden: Vec<Secured> = secured
        .iter()
        .filter(|it| it.repl_sees == Some(false))
        .cloned()
        .collect();
    if hidden.is_empty() {
        return None;
    }
    let words = "row security hides rows from the role in the subscription's connection";
    let found = if superuser {
        Finding::note(format!(
            "{words}; flare grant_replication lets it see them (BYPASSRLS)"
        ))
    } else {
        Finding::blocker(format!(
            "{words}: they would be missing on the other server, in silence"
        ))
        .fix("ALTER ROLE ... BYPASSRLS of repl_user on the publisher, as a superuser")
    };
    Some(found.objects(names(&hidden)))
}

/// The database's subscription in the configuration, whichever way the data flows.
fn declared<'a>(view: &View<'a>) -> Option<(&'a str, &'a Subscription)> {
    let dbname = view.moving?.dbname;
    let mut all = view.config.subscriptions.iter();
    let found = all.find(|(_, it)| it.dbname == dbname);
    found.map(|(subname, it)| (subname.as_str(), it))
}

fn runs_as_owner(view: &View<'_>) -> bool {
    declared(view).is_some_and(|(_, it)| it.has_on("run_as_owner"))
}

fn unwritable(
    view: &View<'_>,
    subscriber: &SideView,
    published: &[Secured],
) -> Result<Vec<Finding>> {
    if subscriber.major < 15 {
        return Ok(Vec::new());
    }
    let own = own(view)?;
    let as_owner = match own {
        Some(_) => subscriber.first(&RUNS_AS_OWNER)?.unwrap_or(true),
        None => subscriber.major < 16 || runs_as_owner(view),
    };
    let writer = match (as_owner, &own) {
        (false, _) => Writer::Owners,
        (true, Some(own)) => Writer::Role(own.owner.clone()),
        (true, None) => Writer::Role(subscriber.user.clone()),
    };
    let there = subscriber.rows(&SECURED)?;
    let mut refused = writer.refused(&of_covered(view, there)?, subscriber);
    // What is not there yet will be as on the publisher; an administrator of one side says nothing of the other's.
    if !view.subscribed {
        let coming = published
            .iter()
            .filter(|it| !refused.iter().any(|known| known.name == it.name))
            .filter(|it| matches!(writer, Writer::Owners) && it.forced && !it.owner_bypasses);
        refused.extend(coming.cloned().collect::<Vec<_>>());
    }
    let named = declared(view).map_or("...", |(subname, _)| subname);
    Ok(refused_on_apply(&refused, &writer, |owner| {
        let bypass = format!("ALTER ROLE {owner} BYPASSRLS on the {}", subscriber.side);
        match (&writer, &own) {
            (Writer::Role(_), _) => bypass,
            (Writer::Owners, None) => format!(
                "run_as_owner: true in subscriptions.{named}.options of the configuration, or {bypass}"
            ),
            (Writer::Owners, Some(own)) => format!(
                "ALTER SUBSCRIPTION {} SET (run_as_owner = true) on the {}, with run_as_owner: true in subscriptions.{named}.options of the configuration; or {bypass}",
                Ident::new(&own.subname),
                subscriber.side
            ),
        }
    }))
}

fn refused_on_apply(
    refused: &[Secured],
    writer: &Writer,
    fix: impl Fn(&Ident) -> String,
) -> Vec<Finding> {
    let Some(first) = refused.first() else {
        return Vec::new();
    };
    let (words, role) = match writer {
        Writer::Owners => (
            "FORCE ROW LEVEL SECURITY holds for a table's owner, as whom rows are applied"
                .to_owned(),
            &first.owner,
        ),
        Writer::Role(role) => (
            format!("row security holds for {role:?}, as whom rows are applied"),
            role,
        ),
    };
    vec![
        Finding::blocker(format!(
            "{words}: the first row stops the subscription (cannot replicate into relation with row-level security enabled)"
        ))
        .objects(names(refused))
        .fix(fix(&Ident::new(role))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    fn secured(name: &str) -> Secured {
        Secured {
            name: name.parse().unwrap(),
            owner: "o\"o".into(),
            forced: false,
            owner_bypasses: false,
            repl_sees: Some(true),
            admin_sees: true,
        }
    }

    #[test]
    fn hidden_rows_block_where_flare_may_not_mend_it() {
        assert!(hidden(&[secured("t")], false).is_none());
        let blind = Secured {
            repl_sees: Some(false),
            ..secured("t")
        };
        let of = |superuser| hidden(std::slice::from_ref(&blind), superuser).unwrap();
        assert_eq!(of(true).severity, Severity::Pass);
        assert_eq!(of(false).severity, Severity::Blocker);
        assert_eq!(of(false).objects, ["public.t"]);
    }

    #[test]
    fn who_is_refused_depends_on_who_writes() {
        let side = SideView {
            side: crate::server::Side::Subscriber,
            major: 16,
            superuser: false,
            user: "adm".into(),
            server: Default::default(),
            database: None,
            refused: None,
        };
        let forced = Secured {
            forced: true,
            ..secured("forced")
        };
        let bypassed = Secured {
            owner_bypasses: true,
            forced: true,
            ..secured("bypassed")
        };
        let blind = Secured {
            admin_sees: false,
            ..secured("blind")
        };
        let all = [forced, bypassed, blind];
        let of = |writer: Writer| names(&writer.refused(&all, &side));
        assert_eq!(of(Writer::Owners), ["public.forced"]);
        assert_eq!(of(Writer::Role("adm".into())), ["public.blind"]);
        assert_eq!(of(Writer::Role("o\"o".into())), ["public.forced"]);
        let found = refused_on_apply(&all, &Writer::Owners, |owner| format!("ALTER ROLE {owner}"));
        assert_eq!(found[0].fix.as_deref(), Some(r#"ALTER ROLE "o""o""#));
    }
}
