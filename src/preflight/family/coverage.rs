//! Which tables the publication has: every one that moves, or what is left behind by name.

use super::partial::{PUBLICATION, Publication};
use super::published::{PUBLISHED, TABLES, Table};
use crate::config::Publication as Wanted;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{Ends, Moving};
use crate::value::{Ident, ShellWord, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "tables_unpublished",
        title: "every table with rows is published",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
            PUBLICATION.on_publisher(),
        ],
        judge: |view| {
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let existing = publisher.first(&PUBLICATION)?;
            Ok(unpublished(
                &publisher.rows(&TABLES)?,
                moving.publication,
                existing.as_ref(),
                &publisher.rows(&PUBLISHED)?,
                (moving, view.ends()),
            ))
        },
    },
    Check {
        id: "unlogged_tables",
        title: "no unlogged table has rows",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[UNLOGGED.on_publisher()],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => {
                Ok(unlogged(&publisher.rows(&UNLOGGED)?, moving.publication))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "partitions",
        title: "new partitions are published by themselves",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[TABLES.on_publisher(), PUBLICATION.on_publisher()],
        judge: |view| {
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let existing = publisher.first(&PUBLICATION)?;
            let listed = match &existing {
                Some(existing) => !existing.puballtables,
                None => moving.publication.tables.is_some() || moving.publication.listed,
            };
            let tables = publisher.rows(&TABLES)?;
            Ok(if listed && publisher.major < 13 {
                leaves_are_listed(&tables, moving, view.ends())
            } else {
                Vec::new()
            })
        },
    },
];

/// Unlogged tables with rows. Their size asks for a lock, but only they are asked.
const UNLOGGED: Question<TableName> = Question::database(
    "unlogged",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND c.oid >= 16384 AND n.nspname !~ '^pg_'
        AND pg_relation_size(c.oid) > 0
      ORDER BY n.nspname, c.relname",
);

/// Whether the configuration lets the cutover leave a table where it is.
fn may_stay(wanted: &Wanted, name: &TableName) -> bool {
    wanted.leaves_behind(&name.plain())
}

fn unpublished(
    tables: &[Table],
    wanted: &Wanted,
    existing: Option<&Publication>,
    published: &[TableName],
    (moving, ends): (Moving<'_>, Ends),
) -> Vec<Finding> {
    let dbname = moving.dbname;
    let covers = |table: &Table| match (existing, &wanted.tables) {
        (Some(existing), _) if existing.puballtables => true,
        (_, None) => existing.is_none() || table.is_of(published),
        (_, Some(listed)) => table.is_of(listed) || table.is_of(published),
    };
    let (stay, left): (Vec<&Table>, Vec<&Table>) = tables
        .iter()
        .filter(|it| it.relkind == 'r' && it.relpersistence == 'p' && it.has_rows)
        .filter(|it| !covers(it))
        .partition(|it| may_stay(wanted, &it.name));
    let mut found = staying(stay.into_iter().map(|it| &it.name));
    let Some(first) = left.first() else {
        return found;
    };
    let fix = match &wanted.tables {
        _ if ends.is_back() => format!(
            "{}, or name them in publications.{dbname}.leave_behind",
            by_hand(moving, ends, &first.name.to_string())
        ),
        Some(_) => format!(
            "add {} to publications.{dbname}.tables and run flare create_publication {}, or name it in publications.{dbname}.leave_behind",
            first.name.plain(),
            ShellWord(dbname)
        ),
        None => format!(
            "flare create_publication {} adds them, or name them in publications.{dbname}.leave_behind",
            ShellWord(dbname)
        ),
    };
    found.push(
        Finding::blocker("tables with rows are not published: they would stay behind")
            .objects(left.iter().map(|it| it.name.plain()))
            .fix(fix),
    );
    found
}

/// The commands that publish and subscribe work on the way forward alone.
fn by_hand(moving: Moving<'_>, ends: Ends, tables: &str) -> String {
    let Ends { from, to } = ends;
    format!(
        "ALTER PUBLICATION {} ADD TABLE {tables} on the {from}, and ALTER SUBSCRIPTION {} REFRESH PUBLICATION on the {to}",
        Ident::new(moving.pubname),
        Ident::new(moving.subname.unwrap_or_default())
    )
}

/// What the configuration lets stay.
fn staying<'t>(names: impl Iterator<Item = &'t TableName>) -> Vec<Finding> {
    let names: Vec<String> = names.map(TableName::plain).collect();
    if names.is_empty() {
        Vec::new()
    } else {
        vec![Finding::note("rows of tables stay behind, as the configuration says").objects(names)]
    }
}

fn unlogged(tables: &[TableName], wanted: &Wanted) -> Vec<Finding> {
    let (stay, left): (Vec<&TableName>, Vec<&TableName>) =
        tables.iter().partition(|it| may_stay(wanted, it));
    let mut found = staying(stay.into_iter());
    if left.is_empty() {
        return found;
    }
    let statements: Vec<String> = left
        .iter()
        .map(|it| format!("ALTER TABLE {it} SET LOGGED"))
        .collect();
    let them = if left.len() == 1 { "it" } else { "them" };
    found.push(
        Finding::blocker("unlogged tables are not replicated: their rows would stay behind")
            .objects(left.iter().map(|it| it.plain()))
            .fix(format!(
                "{}, or name {them} in leave_behind of the publication's configuration",
                statements.join("; ")
            )),
    );
    found
}

fn leaves_are_listed(tables: &[Table], moving: Moving<'_>, ends: Ends) -> Vec<Finding> {
    let meant = |it: &&Table| {
        let listed = moving.publication.tables.as_deref();
        listed.is_none_or(|names| it.is_of(names))
    };
    let roots = tables
        .iter()
        .filter(|it| it.relkind == 'p' && it.ancestors.is_empty())
        .filter(meant);
    let roots: Vec<String> = roots.map(|it| it.name.plain()).collect();
    if roots.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::warning("before 13 a partitioned table is published by its partitions, each by name: one that is made later is not")
            .objects(roots)
            .fix(if ends.is_back() {
                format!("for each new partition: {}", by_hand(moving, ends, "..."))
            } else {
                format!(
                    "flare create_publication {} after each new partition, or publish all tables",
                    ShellWord(moving.dbname)
                )
            }),
    ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tables: Option<&[&str]>) -> Wanted {
        Wanted {
            tables: tables.map(|names| names.iter().map(|it| it.parse().unwrap()).collect()),
            ..super::super::wanted()
        }
    }

    #[test]
    fn tables_outside_a_list_are_named_when_they_have_rows() {
        let tables = [
            super::super::table("a"),
            super::super::table("c"),
            Table {
                has_rows: false,
                ..super::super::table("empty")
            },
        ];
        let objects = |wanted: &Wanted, existing, published: &[TableName]| {
            let found = unpublished(
                &tables,
                wanted,
                existing,
                published,
                (super::super::moving(wanted), Ends::FORWARD),
            );
            found
                .first()
                .map(|it| it.objects.clone())
                .unwrap_or_default()
        };
        assert_eq!(objects(&wanted(Some(&["a"])), None, &[]), ["public.c"]);
        assert!(objects(&wanted(None), None, &[]).is_empty());
        let all = Publication {
            puballtables: true,
            ..Publication::of_everything()
        };
        assert!(objects(&wanted(Some(&["a"])), Some(&all), &[]).is_empty());
        let published = ["c".parse().unwrap()];
        assert_eq!(
            objects(
                &wanted(None),
                Some(&Publication::of_everything()),
                &published
            ),
            ["public.a"]
        );
    }

    #[test]
    fn roots_are_listed_by_their_leaves_before_13() {
        let root = Table {
            relkind: 'p',
            ..super::super::table("root")
        };
        let tables = [root, super::super::table("a")];
        assert_eq!(
            leaves_are_listed(&tables, super::super::moving(&wanted(None)), Ends::FORWARD).len(),
            1
        );
        assert_eq!(
            leaves_are_listed(
                &tables,
                super::super::moving(&wanted(Some(&["a"]))),
                Ends::FORWARD
            )
            .len(),
            0
        );
    }

    #[test]
    fn unlogged_tables_with_rows_would_stay_behind() {
        assert!(unlogged(&[], &wanted(None)).is_empty());
        let found = unlogged(&["u".parse().unwrap()], &wanted(None));
        assert_eq!(found[0].objects, ["public.u"]);
    }
}
