//! Constraints that stand between published tables and others, and the order of columns.

use serde::Deserialize;

use super::published::{PUBLISHED, TABLES, Table, covered};
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;
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
            (Some(publisher), Some(subscriber)) => {
                let here = publisher.rows(&NOT_VALID)?;
                let (domains, tables): (Vec<NotValid>, Vec<NotValid>) =
                    here.into_iter().partition(|it| it.of_domain);
                let mut found = of_domains(&domains, view.ends().from);
                if !view.streams {
                    let there = subscriber.rows(&NOT_VALID)?;
                    found.extend(not_valid(&tables, &there, view.subscribed, view.ends()));
                }
                Ok(found)
            }
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
                view.ends(),
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
    /// The table, or the domain.
    #[serde(flatten)]
    table: TableName,
    conname: String,
    #[serde(default)]
    of_domain: bool,
    /// Whether the administrator may take it off.
    #[serde(default)]
    mine: bool,
}

const NOT_VALID: Question<NotValid> = Question::database(
    "not_valid",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', coalesce(c.relname, t.typname), 'conname', k.conname,
              'of_domain', k.contypid <> 0, 'mine', pg_has_role(coalesce(c.relowner, t.typowner), 'USAGE'))
       FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
       JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace)
      WHERE NOT k.convalidated AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) AND k.contype IN ('c', 'n') AND n.nspname !~ '^pg_' ORDER BY n.nspname, coalesce(c.relname, t.typname), k.conname",
);

/// The columns of a partition or of an heir, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Child {
    #[serde(flatten)]
    table: TableName,
    columns: String,
    /// As a dump makes them: those of the parents first.
    #[serde(default)]
    dumped: String,
}

const CHILDREN: Question<Child> = Question::database(
    "children",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname,
              'columns', (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a
                           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
              'dumped', (SELECT string_agg(a.attname, ', ' ORDER BY CASE WHEN NOT c.relispartition THEN
                                  (SELECT min(i.inhseqno * 10000 + p.attnum) FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent
                                    WHERE i.inhrelid = c.oid AND p.attname = a.attname AND p.attnum > 0 AND NOT p.attisdropped) END NULLS LAST, a.attnum)
                           FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
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

/// Where they stand on the subscriber while rows are copied, old rows are held against them. `initial_copy` makes them after
/// the rows, and `create_subscription` takes off those that it may until then.
fn not_valid(
    here: &[NotValid],
    there: &[NotValid],
    subscribed: bool,
    Ends { from, to }: Ends,
) -> Vec<Finding> {
    let stands = |it: &&NotValid| {
        let same = |other: &&NotValid| (&other.table, &other.conname) == (&it.table, &it.conname);
        let other = there.iter().find(same);
        other.is_some_and(|other| subscribed || !other.mine)
    };
    let (standing, later): (Vec<&NotValid>, Vec<&NotValid>) = here.iter().partition(stands);
    let mut found = Vec::new();
    if let Some(first) = standing.first() {
        found.push(
            Finding::warning(format!("constraints are NOT VALID, and stand on the {to} while the rows are copied: rows that violate them are refused there"))
                .objects(named(&standing))
                .fix(format!(
                    "ALTER TABLE {} VALIDATE CONSTRAINT {} on the {from}, which names the first row; or drop it on the {to} until the rows are copied",
                    first.table,
                    Ident::new(&first.conname)
                )),
        );
    }
    if !later.is_empty() {
        found.push(
            Finding::note("constraints are NOT VALID: they are made after the rows are copied, by create_subscription as by initial_copy")
                .objects(named(&later)),
        );
    }
    found
}

/// Apply reads each row as text: its values are held against every constraint of their domains, valid or not, also where
/// an UPDATE on the publisher left them alone.
fn of_domains(found: &[NotValid], from: Side) -> Vec<Finding> {
    let Some(first) = found.first() else {
        return Vec::new();
    };
    let named = named(&found.iter().collect::<Vec<_>>());
    vec![
        Finding::warning("constraints of domains are NOT VALID: the first UPDATE of a row that violates one stops the subscription")
            .objects(named)
            .fix(format!(
                "ALTER DOMAIN {} VALIDATE CONSTRAINT {} on the {from}, which names the first column; mend its rows, or drop the constraint on both sides until the switch",
                first.table,
                Ident::new(&first.conname)
            )),
    ]
}

fn named(found: &[&NotValid]) -> Vec<String> {
    let named = found
        .iter()
        .map(|it| format!("{} on {}", it.conname, it.table.plain()));
    named.collect()
}

/// Where a child is on the subscriber, its columns are compared; where it is not yet, what a dump makes of it.
fn reordered(here: &[Child], there: &[Child], Ends { from, to }: Ends) -> Vec<Finding> {
    let sorted = |columns: &str| {
        let mut columns: Vec<&str> = columns.split(", ").collect();
        columns.sort_unstable();
        columns.join(", ")
    };
    let (mut differing, mut later): (Vec<&Child>, Vec<&Child>) = (Vec::new(), Vec::new());
    for child in here {
        match there.iter().find(|other| other.table == child.table) {
            Some(other) if other.columns == child.columns => {}
            Some(other) if sorted(&other.columns) == sorted(&child.columns) => {
                differing.push(child);
            }
            Some(_) => {}
            None if child.dumped != child.columns => later.push(child),
            None => {}
        }
    }
    let finding = |children: &[&Child], message: String| {
        let first = children.first()?;
        let fix = format!(
            "name the columns in INSERT, and these tables in leave_behind of the publication's configuration, or the cutover refuses; on the {from} {} has them in this order: {}",
            first.table, first.columns
        );
        let objects = children.iter().map(|it| it.table.plain());
        Some(Finding::warning(message).objects(objects).fix(fix))
    };
    let differing = finding(
        &differing,
        format!(
            "partitions or children have their columns in another order on the {to}: an INSERT without a list of columns meets other ones"
        ),
    );
    let later = finding(
        &later,
        format!(
            "children will have their columns in another order on the {to}, those of their parents first, as every dump makes them: an INSERT without a list of columns meets other ones"
        ),
    );
    differing.into_iter().chain(later).collect()
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
    fn a_constraint_that_is_not_valid_matters_where_it_stands_while_rows_are_copied() {
        let constraint = |conname: &str, mine| NotValid {
            table: "t".parse().unwrap(),
            conname: conname.into(),
            of_domain: false,
            mine,
        };
        let here = ["a", "b", "c"].map(|it| constraint(it, true));
        let there = [constraint("a", true), constraint("b", false)];
        let named = |subscribed| -> Vec<(Severity, Vec<String>)> {
            let found = not_valid(&here, &there, subscribed, Ends::FORWARD);
            found
                .into_iter()
                .map(|it| (it.severity, it.objects))
                .collect()
        };
        let objects = |names: &[&str]| -> Vec<String> {
            names.iter().map(|it| format!("{it} on public.t")).collect()
        };
        assert_eq!(
            named(false),
            [
                (Severity::Warning, objects(&["b"])),
                (Severity::Pass, objects(&["a", "c"]))
            ]
        );
        assert_eq!(named(true)[0], (Severity::Warning, objects(&["a", "b"])));
        assert!(not_valid(&[], &there, true, Ends::FORWARD).is_empty());
        assert_eq!(
            of_domains(&here, Side::Publisher)[0].severity,
            Severity::Warning
        );
    }

    #[test]
    fn the_same_columns_in_another_order_are_named() {
        let child = |columns: &str| {
            vec![Child {
                table: "p1".parse().unwrap(),
                columns: columns.into(),
                dumped: "a, b".into(),
            }]
        };
        assert_eq!(
            reordered(&child("a, b"), &child("b, a"), Ends::FORWARD).len(),
            1
        );
        assert!(reordered(&child("a, b"), &child("a, b"), Ends::FORWARD).is_empty());
        // Another set of columns is drift.
        assert!(reordered(&child("a, b"), &child("a"), Ends::FORWARD).is_empty());
        assert!(reordered(&child("a, b"), &[], Ends::FORWARD).is_empty());
        let later = &reordered(&child("b, a"), &[], Ends::FORWARD)[0];
        assert!(later.message.starts_with("children will have"), "{later:?}");
    }
}
