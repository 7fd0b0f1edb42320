//! What UPDATE and DELETE are sent with (`pg_class.relreplident`), and that the other side can find the row by it.

use serde::Deserialize;

use super::generated::GENERATED;
use super::published::{PUBLISHED, TABLES, Table, covered};
use crate::config::Publication;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "replica_identity",
        title: "every published table identifies its rows",
        before: Before::Publication,
        place: Place::Database,
        asks: &[
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
            INCOMPARABLE.on_publisher(),
            GENERATED.on_publisher(),
        ],
        judge: |view| {
            let tables = covered(view)?;
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let published = !publisher.rows(&PUBLISHED)?.is_empty();
            let columns = publisher.rows(&INCOMPARABLE)?.into_iter();
            let mut never_full: Vec<TableName> = columns.map(|it| it.table).collect();
            if publisher.major >= 18 || view.subscriber.is_some_and(|it| it.major >= 18) {
                never_full.extend(publisher.rows(&GENERATED)?.into_iter().map(|it| it.table));
            }
            Ok(without_identity(
                &tables,
                moving.publication,
                published,
                &never_full,
            ))
        },
    },
    Check {
        id: "identity_full",
        title: "no large table is searched row by row for each UPDATE",
        before: Before::Publication,
        place: Place::Database,
        asks: &[TABLES.on_publisher(), PUBLISHED.on_publisher()],
        judge: |view| match view.moving {
            Some(moving) => Ok(slow_identity(
                &covered(view)?,
                moving.publication,
                view.ends().to,
            )),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "identity_operators",
        title: "every column of an identity can be compared",
        before: Before::Publication,
        place: Place::Database,
        asks: &[
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
            INCOMPARABLE.on_publisher(),
        ],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => Ok(incomparable(
                &covered(view)?,
                moving.publication,
                &publisher.rows(&INCOMPARABLE)?,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "identity_differs",
        title: "both sides identify rows alike",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[TABLES.on_both(), PUBLISHED.on_publisher()],
        judge: |view| match view.subscriber {
            Some(subscriber) if view.subscribed => Ok(differs(
                &covered(view)?,
                &subscriber.rows(&TABLES)?,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// Columns whose type no default operator class of btree or hash compares: what apply asks the type cache for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Column {
    #[serde(flatten)]
    table: TableName,
    column: String,
    kind: String,
}

const INCOMPARABLE: Question<Column> = Question::database(
    "incomparable",
    "WITH RECURSIVE used(atttypid) AS (
         SELECT DISTINCT a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND c.oid >= 16384),
     parts(whole, part) AS (
         SELECT atttypid, atttypid FROM used
         UNION
         SELECT p.whole, x.part FROM parts p JOIN pg_type t ON t.oid = p.part,
           LATERAL (SELECT t.typbasetype WHERE t.typtype = 'd'
                    UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1 AND t.typtype = 'b' AND t.typcategory = 'A'
                    UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
                    UNION ALL SELECT a.atttypid FROM pg_attribute a
                               WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) x(part)),
     bad(whole) AS (
         SELECT DISTINCT p.whole FROM parts p JOIN pg_type t ON t.oid = p.part
          WHERE t.typtype NOT IN ('d', 'c', 'e', 'r', 'm', 'p') AND NOT (t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0)
            AND NOT EXISTS (SELECT FROM pg_opclass o WHERE o.opcdefault AND o.opcmethod IN (403, 405)
                               AND (o.opcintype = t.oid OR EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid
                                    AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i'))))
     SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'column', a.attname, 'kind', format_type(a.atttypid, NULL))
       FROM bad JOIN pg_attribute a ON a.atttypid = bad.whole JOIN pg_class c ON c.oid = a.attrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND c.oid >= 16384 AND n.nspname !~ '^pg_'",
);

fn names<'t>(tables: impl IntoIterator<Item = &'t Table>) -> Vec<String> {
    tables.into_iter().map(|it| it.name.plain()).collect()
}

fn without_identity(
    tables: &[Table],
    wanted: &Publication,
    published: bool,
    never_full: &[TableName],
) -> Vec<Finding> {
    let bad: Vec<&Table> = tables
        .iter()
        .filter(|it| !it.identifies_rows())
        .filter(|it| !it.is_of(&wanted.replica_identity_full_tables))
        .filter(|it| !it.is_of(&wanted.allow_no_identity))
        .collect();
    let (indexed, bare): (Vec<&Table>, Vec<&Table>) =
        bad.into_iter().partition(|it| it.usable_index.is_some());
    let (when, besides) = match (published, &wanted.tables) {
        (true, None) if !wanted.listed => (
            "fail already",
            "; publications.tables: listed keeps new tables of the application out of the publication",
        ),
        (true, _) => ("fail already", ""),
        (false, _) => ("would fail from then on", ""),
    };
    let blocker = |bad: &[&Table], first: &Table| {
        Finding::blocker(format!(
            "publish {}{}: without a replica identity every UPDATE and DELETE there {when}",
            first.name.plain(),
            match bad.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            }
        ))
        .objects(names(bad.iter().copied()))
    };
    let mut found = Vec::new();
    if let Some(first) = indexed.first() {
        let statements = indexed.iter().filter_map(|it| {
            let index = Ident::new(it.usable_index.as_ref()?);
            Some(format!(
                "ALTER TABLE {} REPLICA IDENTITY USING INDEX {index}",
                it.name
            ))
        });
        let statements: Vec<String> = statements.collect();
        found.push(blocker(&indexed, first).fix(statements.join("; ")));
    }
    let (never, rest): (Vec<&Table>, Vec<&Table>) = bare
        .into_iter()
        .partition(|it| never_full.contains(&it.name));
    let full = "replica_identity_full_tables (slow where it is large and often updated), or in allow_no_identity where rows are only inserted";
    let not_full = "allow_no_identity where rows are only inserted (FULL does not do: a column is generated, or nothing compares its values)";
    for (bare, name_it_in) in [(rest, full), (never, not_full)] {
        if let Some(first) = bare.first() {
            found.push(blocker(&bare, first).fix(format!(
                "ALTER TABLE {} ADD PRIMARY KEY (...), or REPLICA IDENTITY USING INDEX an index that is unique, NOT NULL and not deferrable, or name the table in {name_it_in}{besides}",
                first.name
            )));
        }
    }
    found
}

/// From this size on a search for each changed row is slow.
const LARGE_BYTES: i64 = 64 << 20;
/// So many changes show that it is not only inserted into.
const MANY_CHANGES: i64 = 1000;

fn slow_identity(tables: &[Table], wanted: &Publication, to: Side) -> Vec<Finding> {
    let slow: Vec<&Table> = tables
        .iter()
        .filter(|it| it.is_searched(wanted))
        .filter(|it| it.bytes >= LARGE_BYTES && it.changes >= MANY_CHANGES)
        .collect();
    match slow.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning(format!("REPLICA IDENTITY FULL on large tables that are often updated: the {to} reads the whole table for each changed row"))
                .objects(names(slow.iter().copied()))
                .fix(format!("ALTER TABLE {} ADD PRIMARY KEY (...)", first.name)),
        ],
    }
}

fn incomparable(tables: &[Table], wanted: &Publication, columns: &[Column]) -> Vec<Finding> {
    let searched: Vec<&TableName> = tables
        .iter()
        .filter(|it| it.is_searched(wanted))
        .map(|it| &it.name)
        .collect();
    let bad: Vec<&Column> = columns
        .iter()
        .filter(|it| searched.contains(&&it.table))
        .collect();
    match bad.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker("REPLICA IDENTITY FULL with a column that has no equality operator: the first UPDATE or DELETE stops the subscription for good")
                .objects(bad.iter().map(|it| format!("{}.{} ({})", it.table.plain(), it.column, it.kind)))
                .fix(format!(
                    "ALTER TABLE {} ADD PRIMARY KEY (...), or {}allow_no_identity where rows are only inserted",
                    first.table,
                    as_jsonb(first)
                )),
        ],
    }
}

/// The one type that has an equal with an operator.
fn as_jsonb(it: &Column) -> String {
    let kind = it.kind.trim_end_matches("[]");
    if kind != "json" {
        return String::new();
    }
    let dimensions = &it.kind[kind.len()..];
    format!(
        "ALTER COLUMN {} TYPE jsonb{dimensions}, or ",
        Ident::new(&it.column)
    )
}

fn differs(here: &[Table], there: &[Table], Ends { from, to }: Ends) -> Vec<Finding> {
    let identity = |it: &Table| {
        let index = it.identity_index.clone().filter(|_| it.relreplident == 'i');
        (it.relreplident, index)
    };
    let mut differing: Vec<(String, String)> = Vec::new();
    for table in here {
        let other = there.iter().find(|it| it.name == table.name);
        if other.is_none_or(|other| identity(other) == identity(table)) {
            continue;
        }
        let form = match identity(table) {
            ('f', _) => "FULL".to_owned(),
            ('n', _) => "NOTHING".to_owned(),
            ('i', Some(index)) => format!("USING INDEX {}", Ident::new(index)),
            _ => "DEFAULT".to_owned(),
        };
        differing.push((
            table.name.plain(),
            format!("ALTER TABLE {} REPLICA IDENTITY {form}", table.name),
        ));
    }
    match differing.first() {
        None => Vec::new(),
        Some((_, fix)) => vec![
            Finding::warning(format!("the replica identity on the {to} is another than on the {from}: after the switch other rows would be sent"))
                .fix(format!("{fix} on the {to}, and so on; the switch does it where it may"))
                .objects(differing.iter().map(|(name, _)| name.clone())),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{keyless, table, wanted_with_exceptions};
    use super::*;

    #[test]
    fn tables_without_identity_block_unless_they_are_excused() {
        let tables = [
            table("keyed"),
            keyless("full"),
            keyless("log"),
            keyless("app.bad"),
            Table {
                relreplident: 'i',
                ..table("dropped index")
            },
            Table {
                relreplident: 'n',
                ..table("nothing")
            },
        ];
        let found = without_identity(&tables, &wanted_with_exceptions(), false, &[]);
        assert_eq!(
            found[0].objects,
            ["app.bad", "public.dropped index", "public.nothing"]
        );
        let fix = found[0].fix.as_deref().unwrap();
        assert!(fix.starts_with(r#"ALTER TABLE "app"."bad" ADD"#), "{fix}");
        assert!(without_identity(&tables[..3], &wanted_with_exceptions(), false, &[]).is_empty());
        let indexed = ["app.one", "two"].map(|name| Table {
            usable_index: Some("i".into()),
            ..keyless(name)
        });
        let all = [&tables[..], &indexed].concat();
        let found = without_identity(&all, &wanted_with_exceptions(), false, &[]);
        assert_eq!(found[0].objects, ["app.one", "public.two"]);
        let using = r#"ALTER TABLE "app"."one" REPLICA IDENTITY USING INDEX "i"; ALTER TABLE "public"."two" REPLICA IDENTITY USING INDEX "i""#;
        assert_eq!(found[0].fix.as_deref(), Some(using));
        assert_eq!(found[1].objects.len(), 3);
        let never_full = ["nothing".parse().unwrap()];
        let published = without_identity(&tables, &wanted_with_exceptions(), true, &never_full);
        let full = published.iter().map(|it| {
            let fix = it.fix.as_deref().unwrap();
            assert!(fix.contains("listed"), "{fix}");
            assert!(it.message.ends_with("fail already"));
            (
                it.objects.len(),
                fix.contains("replica_identity_full_tables"),
            )
        });
        assert_eq!(full.collect::<Vec<_>>(), [(2, true), (1, false)]);
    }

    #[test]
    fn whole_rows_are_slow_only_in_large_tables_that_change() {
        let large = Table {
            bytes: LARGE_BYTES,
            changes: MANY_CHANGES,
            ..keyless("full")
        };
        assert_eq!(
            slow_identity(
                std::slice::from_ref(&large),
                &wanted_with_exceptions(),
                Side::Subscriber
            )
            .len(),
            1
        );
        let keyed = Table {
            has_primary_key: true,
            ..large.clone()
        };
        let still = Table {
            changes: 3,
            ..large
        };
        assert!(
            slow_identity(&[keyed, still], &wanted_with_exceptions(), Side::Subscriber).is_empty()
        );
    }

    #[test]
    fn columns_that_cannot_be_compared_matter_only_where_rows_are_searched() {
        let column = |table: &str| Column {
            table: table.parse().unwrap(),
            column: "doc".into(),
            kind: "json".into(),
        };
        let columns = [column("full"), column("keyed")];
        let tables = [keyless("full"), table("keyed")];
        let found = incomparable(&tables, &wanted_with_exceptions(), &columns);
        assert_eq!(found[0].objects, ["public.full.doc (json)"]);
        let advises = |kind: &str| {
            let column = Column {
                kind: kind.into(),
                ..column("full")
            };
            let found = incomparable(&tables, &wanted_with_exceptions(), &[column]);
            found[0].fix.clone().unwrap()
        };
        assert!(advises("json[]").contains("\"doc\" TYPE jsonb[], or allow_no"));
        assert!(!advises("point").contains("TYPE"));
    }

    #[test]
    fn identities_are_compared_by_form_and_index() {
        let by = |index: &str| Table {
            relreplident: 'i',
            identity_index: Some(index.into()),
            ..table("a")
        };
        assert!(differs(&[by("x")], &[by("x")], Ends::FORWARD).is_empty());
        assert_eq!(
            differs(&[by("x")], &[by("y")], Ends::FORWARD)[0].objects,
            ["public.a"]
        );
        let fix = differs(&[by("x\"y")], &[table("a")], Ends::FORWARD)[0]
            .fix
            .clone()
            .unwrap();
        assert!(
            fix.contains(r#"REPLICA IDENTITY USING INDEX "x""y""#),
            "{fix}"
        );
        assert!(differs(&[by("x")], &[], Ends::FORWARD).is_empty());
    }
}
