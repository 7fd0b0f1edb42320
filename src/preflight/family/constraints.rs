//! Constraints that stand between published tables and others, and the order of columns.

use serde::Deserialize;

use super::identity::{PUBLISHED, TABLES, Table, covered};
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "foreign_keys",
        title: "no foreign key leads out of what is published",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            FOREIGN_KEYS.on_publisher(),
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
        ],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(leading_out(
                &publisher.rows(&FOREIGN_KEYS)?,
                &covered(view)?,
                &publisher.rows(&TABLES)?,
            )),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "not_valid",
        title: "every constraint holds for every row",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[NOT_VALID.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if !view.streams => Ok(not_valid(
                &publisher.rows(&NOT_VALID)?,
                &subscriber.rows(&NOT_VALID)?,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "column_order",
        title: "partitions and children have their columns in the same order on both sides",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[CHILDREN.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) => Ok(reordered(
                &publisher.rows(&CHILDREN)?,
                &subscriber.rows(&CHILDREN)?,
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// A foreign key from one table to another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ForeignKey {
    conname: String,
    from: TableName,
    to: TableName,
}

const FOREIGN_KEYS: Question<ForeignKey> = Question::database(
    "foreign_keys",
    "SELECT jsonb_build_object('conname', k.conname,
              'from', jsonb_build_object('schema', fn.nspname, 'table', f.relname),
              'to', jsonb_build_object('schema', tn.nspname, 'table', t.relname))
       FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
       JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
      WHERE k.contype = 'f' AND f.relkind = 'r' AND t.relkind = 'r' ORDER BY fn.nspname, f.relname, k.conname",
);

/// A constraint that holds for new rows alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct NotValid {
    #[serde(flatten)]
    table: TableName,
    conname: String,
}

const NOT_VALID: Question<NotValid> = Question::database(
    "not_valid",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'conname', k.conname)
       FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE NOT k.convalidated AND k.contype IN ('c', 'n') AND n.nspname !~ '^pg_' ORDER BY n.nspname, c.relname, k.conname",
);

/// The columns of a partition or of an heir, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Child {
    #[serde(flatten)]
    table: TableName,
    columns: String,
}

const CHILDREN: Question<Child> = Question::database(
    "children",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname,
              'columns', (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND c.oid IN (SELECT inhrelid FROM pg_inherits)
        AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)",
);

fn leading_out(keys: &[ForeignKey], covered: &[Table], all: &[Table]) -> Vec<Finding> {
    let published = |name: &TableName| covered.iter().any(|it| it.name == *name);
    // Where everything is published, nothing leads out.
    if covered.len() == all.iter().filter(|it| it.relkind == 'r').count() {
        return Vec::new();
    }
    let out: Vec<&ForeignKey> = keys
        .iter()
        .filter(|it| published(&it.from) != published(&it.to))
        .collect();
    match out.first() {
        None => Vec::new(),
        Some(_) => vec![
            Finding::warning("foreign keys lead from published tables to others, or from others to them: apply does not check them, and a TRUNCATE of a referenced table stops it")
                .objects(out.iter().map(|it| format!("{}: {} to {}", it.conname, it.from.plain(), it.to.plain())))
                .fix("publish both tables of each"),
        ],
    }
}

/// Where they stand on the subscriber already, old rows are held against them; `initial_copy` makes them after the rows.
fn not_valid(here: &[NotValid], there: &[NotValid]) -> Vec<Finding> {
    let (standing, later): (Vec<&NotValid>, Vec<&NotValid>) =
        here.iter().partition(|it| there.contains(it));
    let named = |found: &[&NotValid]| -> Vec<String> {
        let named = found
            .iter()
            .map(|it| format!("{} on {}", it.conname, it.table.plain()));
        named.collect()
    };
    let mut found = Vec::new();
    if let Some(first) = standing.first() {
        found.push(
            Finding::warning("constraints are NOT VALID, and stand on the subscriber before the rows are copied: rows that violate them are refused there")
                .objects(named(&standing))
                .fix(format!(
                    "ALTER TABLE {} VALIDATE CONSTRAINT {} on the publisher, which names the first row; or drop it on the subscriber until the rows are copied",
                    first.table,
                    Ident::new(&first.conname)
                )),
        );
    }
    if !later.is_empty() {
        found.push(
            Finding::note("constraints are NOT VALID: prepare and initial_copy make them after the rows; with replicate_schema they stand before")
                .objects(named(&later)),
        );
    }
    found
}

fn reordered(here: &[Child], there: &[Child]) -> Vec<Finding> {
    let sorted = |columns: &str| {
        let mut columns: Vec<&str> = columns.split(", ").collect();
        columns.sort_unstable();
        columns.join(", ")
    };
    let differing: Vec<&Child> = here
        .iter()
        .filter(|it| {
            let other = there.iter().find(|other| other.table == it.table);
            other.is_some_and(|other| {
                other.columns != it.columns && sorted(&other.columns) == sorted(&it.columns)
            })
        })
        .collect();
    match differing.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("partitions or children have their columns in another order on the subscriber: an INSERT without a list of columns meets other ones")
                .objects(differing.iter().map(|it| it.table.plain()))
                .fix(format!("name the columns in INSERT; on the publisher {} has them in this order: {}", first.table, first.columns)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use crate::preflight::finding::Severity;

    #[test]
    fn foreign_keys_lead_out_in_both_directions() {
        let key = |from: &str, to: &str| ForeignKey {
            conname: "k".into(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        let all = [table("a"), table("b"), table("x")];
        let keys = [key("a", "b"), key("a", "x"), key("x", "b")];
        let found = leading_out(&keys, &all[..2], &all);
        assert_eq!(
            found[0].objects,
            ["k: public.a to public.x", "k: public.x to public.b"]
        );
        assert!(leading_out(&keys, &all, &all).is_empty());
    }

    #[test]
    fn a_constraint_that_is_not_valid_matters_where_it_stands_before_the_rows() {
        let constraint = |conname: &str| NotValid {
            table: "t".parse().unwrap(),
            conname: conname.into(),
        };
        let both = [constraint("a"), constraint("b")];
        let found = not_valid(&both, &both[..1]);
        let named: Vec<_> = found.iter().map(|it| (it.severity, &it.objects)).collect();
        assert_eq!(
            named,
            [
                (Severity::Warning, &vec!["a on public.t".to_owned()]),
                (Severity::Pass, &vec!["b on public.t".to_owned()])
            ]
        );
        assert!(not_valid(&[], &both).is_empty());
    }

    #[test]
    fn the_same_columns_in_another_order_are_named() {
        let child = |columns: &str| {
            vec![Child {
                table: "p1".parse().unwrap(),
                columns: columns.into(),
            }]
        };
        assert_eq!(reordered(&child("a, b"), &child("b, a")).len(), 1);
        assert!(reordered(&child("a, b"), &child("a, b")).is_empty());
        // Another set of columns is drift.
        assert!(reordered(&child("a, b"), &child("a")).is_empty());
        assert!(reordered(&child("a, b"), &[]).is_empty());
    }
}
