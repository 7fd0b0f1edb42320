//! What logical replication does not carry, or does not do on the other side.

use serde::Deserialize;

use super::published::PUBLISHED;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::TableName;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "large_objects",
        title: "there are no large objects",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[LARGE_OBJECTS.on_both()],
        judge: |view| {
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let here = publisher.first(&LARGE_OBJECTS)?.unwrap_or_default();
            let there = match view.subscriber {
                Some(subscriber) => subscriber.first(&LARGE_OBJECTS)?.unwrap_or_default(),
                None => 0,
            };
            let stay = moving.publication.leaves_behind("large_objects");
            Ok(large_objects(here, there, stay))
        },
    },
    Check {
        id: "materialized_views",
        title: "every materialized view that is filled on the publisher is filled on the subscriber",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[VIEWS.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if view.streams => Ok(unfilled(
                &publisher.rows(&VIEWS)?,
                &subscriber.rows(&VIEWS)?,
                subscriber.side,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "foreign_tables",
        title: "there are no foreign tables",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[FOREIGN.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(foreign(&publisher.rows(&FOREIGN)?, view.ends().to)),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "insert_rules",
        title: "no published table has a rule",
        before: Before::Publication,
        place: Place::Database,
        asks: &[RULES.on_publisher(), PUBLISHED.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(rules(&publisher.rows(&RULES)?, view.ends().to)),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "security_labels",
        title: "there are no security labels",
        before: Before::Setup,
        place: Place::Database,
        asks: &[LABELS.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(labels(&publisher.rows(&LABELS)?, view.ends().to)),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "tablespaces",
        title: "the subscriber has every tablespace that the database uses",
        before: Before::Setup,
        place: Place::Database,
        asks: &[TABLESPACES.on_publisher(), ALL_TABLESPACES.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) => Ok(lacking_tablespaces(
                &publisher.rows(&TABLESPACES)?,
                &subscriber.rows(&ALL_TABLESPACES)?,
                subscriber.side,
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// How many, as far as it takes to say that there are many. Everybody may read who they belong to.
const LARGE_OBJECTS: Question<i64> = Question::database(
    "large_objects",
    "SELECT to_jsonb(count(*)) FROM (SELECT FROM pg_largeobject_metadata LIMIT 100000) o",
);

/// A materialized view, and whether it can be read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct View {
    #[serde(flatten)]
    name: TableName,
    relispopulated: bool,
}

const VIEWS: Question<View> = Question::database(
    "materialized_views",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relispopulated', c.relispopulated)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'm' AND c.oid >= 16384 ORDER BY n.nspname, c.relname",
);

/// A foreign table and its server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Foreign {
    #[serde(flatten)]
    name: TableName,
    server: String,
    /// Whether the server is a directory: file_fdw reads files and runs programs of its own machine.
    of_files: bool,
}

const FOREIGN: Question<Foreign> = Question::database(
    "foreign_tables",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'server', s.srvname, 'of_files', coalesce(h.proname = 'file_fdw_handler', false))
       FROM pg_foreign_table f JOIN pg_class c ON c.oid = f.ftrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_foreign_server s ON s.oid = f.ftserver JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
       LEFT JOIN pg_proc h ON h.oid = w.fdwhandler ORDER BY n.nspname, c.relname",
);

/// A rule on a table that is no view's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Rule {
    #[serde(flatten)]
    table: TableName,
    rulename: String,
}

const RULES: Question<Rule> = Question::database(
    "rules",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'rulename', r.rulename)
       FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND r.ev_enabled IN ('A', 'R')",
);

const LABELS: Question<String> = Question::database(
    "security_labels",
    "SELECT DISTINCT to_jsonb(provider) FROM pg_seclabel",
);

const TABLESPACES: Question<String> = Question::database(
    "tablespaces",
    "SELECT DISTINCT to_jsonb(t.spcname) FROM pg_tablespace t
      WHERE t.spcname NOT IN ('pg_default', 'pg_global')
        AND (t.oid IN (SELECT reltablespace FROM pg_class WHERE oid >= 16384)
             OR t.oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database()))",
);

const ALL_TABLESPACES: Question<String> = Question::server(
    "all_tablespaces",
    "SELECT to_jsonb(spcname) FROM pg_tablespace",
);

fn large_objects(here: i64, there: i64, stay: bool) -> Vec<Finding> {
    let many = match here {
        100_000.. => "100000 or more".to_owned(),
        n => n.to_string(),
    };
    let many = match here {
        1 => "1 large object".to_owned(),
        _ => format!("{many} large objects"),
    };
    match (here, stay) {
        (0, _) => Vec::new(),
        (_, true) => vec![
            Finding::note(format!("{many} stay behind, as the configuration says"))
                .objects(["large_objects".to_owned()]),
        ],
        (_, false) if here == there => vec![Finding::note(format!(
            "both sides have {many}; what is written to them from now on is not carried"
        ))],
        (_, false) => vec![
            Finding::blocker(format!("{many} would stay behind: replication does not carry large objects"))
                .objects(["large_objects".to_owned()])
                .fix("carry them by hand (pg_dump --blobs --data-only of pg_largeobject) and name large_objects in leave_behind of the publication's configuration; lo_unlink what nobody needs"),
        ],
    }
}

fn unfilled(here: &[View], there: &[View], to: Side) -> Vec<Finding> {
    let filled = |name: &TableName| here.iter().any(|it| it.name == *name && it.relispopulated);
    let empty: Vec<&View> = there
        .iter()
        .filter(|it| !it.relispopulated && filled(&it.name))
        .collect();
    match empty.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning(format!("materialized views were never refreshed on the {to}: whoever reads them there fails"))
                .objects(empty.iter().map(|it| it.name.plain()))
                .fix(format!("REFRESH MATERIALIZED VIEW {} on the {to}", first.name)),
        ],
    }
}

fn foreign(tables: &[Foreign], to: Side) -> Vec<Finding> {
    let (of_files, of_servers): (Vec<&Foreign>, Vec<&Foreign>) =
        tables.iter().partition(|it| it.of_files);
    let named = |some: &[&Foreign], message: String, fix: String| {
        let objects = some
            .iter()
            .map(|it| format!("{} (server {})", it.name.plain(), it.server));
        (!some.is_empty()).then(|| Finding::warning(message).objects(objects).fix(fix))
    };
    let found = [
        named(
            &of_servers,
            format!(
                "foreign tables are copied as definitions: the {to} has to reach their servers, and user mappings come without passwords"
            ),
            format!(
                "let the {to}'s address in at those servers, and set the passwords with ALTER USER MAPPING"
            ),
        ),
        named(
            &of_files,
            format!(
                "foreign tables read files or programs of the server's own machine: the {to} needs the same ones at the same paths"
            ),
            format!(
                "copy the files to the {to}'s machine, where its PostgreSQL may read them, or ALTER FOREIGN TABLE ... OPTIONS (SET filename '...') there after the switch"
            ),
        ),
    ];
    found.into_iter().flatten().collect()
}

fn rules(rules: &[Rule], to: Side) -> Vec<Finding> {
    match rules.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("rules that are enabled ALWAYS or REPLICA: apply does not run them, and neither does the copy")
                .objects(rules.iter().map(|it| format!("{} on {}", it.rulename, it.table.plain())))
                .fix(format!(
                    "a trigger ENABLE ALWAYS on {} does on the {to} what the rule does for statements",
                    first.table
                )),
        ],
    }
}

fn labels(providers: &[String], to: Side) -> Vec<Finding> {
    if providers.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::warning(format!("there are security labels: without their provider on the {to} the schema does not load"))
            .objects(providers.iter().cloned())
            .fix("install the provider there and name it in shared_preload_libraries, or SECURITY LABEL ... IS NULL"),
    ]
    }
}

fn lacking_tablespaces(used: &[String], there: &[String], to: Side) -> Vec<Finding> {
    let lacking: Vec<String> = used
        .iter()
        .filter(|it| !there.contains(it))
        .cloned()
        .collect();
    match lacking.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning(format!("the {to} does not have tablespaces that the database uses: what lies there goes to its default one"))
                .fix(format!(
                    "CREATE TABLESPACE {} LOCATION '...' on the {to}",
                    crate::value::Ident::new(first)
                ))
                .objects(lacking),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Publication;
    use crate::preflight::finding::Severity;

    #[test]
    fn large_objects_block_unless_they_may_stay_or_were_carried() {
        let severity = |here, there, stay| {
            let found = large_objects(here, there, stay);
            found.first().map(|it| it.severity)
        };
        assert_eq!(severity(0, 0, false), None);
        assert_eq!(severity(3, 0, false), Some(Severity::Blocker));
        assert_eq!(severity(3, 0, true), Some(Severity::Pass));
        assert_eq!(severity(3, 3, false), Some(Severity::Pass));
    }

    #[test]
    fn what_may_stay_is_named_as_tables_are_everywhere() {
        let wanted = Publication {
            leave_behind: ["large_objects", "scratch", "app.\"o.d\""]
                .map(str::to_owned)
                .to_vec(),
            ..super::super::wanted()
        };
        for stays in ["large_objects", "public.scratch", "app.\"o.d\""] {
            assert!(wanted.leaves_behind(stays), "{stays}");
        }
        assert!(!wanted.leaves_behind("app.scratch"));
    }

    #[test]
    fn views_matter_where_they_are_filled_here_and_empty_there() {
        let view = |relispopulated| {
            vec![View {
                name: "m".parse().unwrap(),
                relispopulated,
            }]
        };
        assert_eq!(
            unfilled(&view(true), &view(false), Side::Subscriber).len(),
            1
        );
        assert_eq!(
            unfilled(&view(false), &view(false), Side::Subscriber).len(),
            0
        );
        assert_eq!(
            unfilled(&view(true), &view(true), Side::Subscriber).len(),
            0
        );
    }

    #[test]
    fn a_tablespace_that_is_missing_is_named() {
        let used = ["fast".to_owned(), "slow".to_owned()];
        let found = lacking_tablespaces(&used, &["slow".to_owned()], Side::Subscriber);
        assert_eq!(found[0].objects, ["fast"]);
        assert!(lacking_tablespaces(&used, &used, Side::Subscriber).is_empty());
    }
}
