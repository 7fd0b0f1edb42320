//! The order of what follows the rows: pure.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::schema::{PostData, Stage};
use crate::value::TableName;

/// From this size on a constraint's index is built beside the table's other ones.
pub(super) const LARGE_BYTES: i64 = 8 << 20;

/// Below it the indexes of several tables are made in one transaction.
const SMALL_BYTES: i64 = 1 << 20;

/// Of as many as this.
const BATCH: usize = 50;

/// Statements of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) what: String,
    /// About how much work.
    pub(super) size: i64,
    pub(super) statements: Vec<String>,
    /// What is put on record with them.
    pub(super) ids: Vec<String>,
}

/// A table of the subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Relation {
    #[serde(flatten)]
    pub(super) name: TableName,
    pub(super) relkind: char,
    pub(super) bytes: i64,
}

/// The order of the work: pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) indexes: Vec<Task>,
    pub(super) attach: Vec<Task>,
    pub(super) foreign_keys: Vec<Task>,
    pub(super) last: Vec<Task>,
}

pub(super) fn order(post: &PostData, relations: &[Relation], done: &BTreeSet<String>) -> Order {
    let known: HashMap<&TableName, &Relation> = relations.iter().map(|it| (&it.name, it)).collect();
    let mut per_table: HashMap<&TableName, usize> = HashMap::new();
    for piece in &post.pieces {
        if let Stage::Index { table, .. } = &piece.stage {
            *per_table.entry(table).or_default() += 1;
        }
    }
    let mut order = Order::default();
    for piece in &post.pieces {
        let task = |id: String, sql: &str, size| Task {
            what: piece.what.clone(),
            size,
            statements: vec![sql.to_owned()],
            ids: vec![id],
        };
        let whole = task(piece.id.clone(), &piece.sql, 0);
        if done.contains(&piece.id) {
            continue;
        }
        match &piece.stage {
            Stage::Index { table, split } => match (known.get(table), split) {
                // A materialized view that waits for a constraint is not there yet.
                (None, _) => order.last.push(whole),
                (Some(relation), Some(split))
                    if relation.relkind == 'r'
                        && relation.bytes >= LARGE_BYTES
                        && per_table.get(table).is_some_and(|pieces| *pieces > 1) =>
                {
                    let index = format!("{}.index", piece.id);
                    if !done.contains(&index) {
                        order
                            .indexes
                            .push(task(index, &split.index, relation.bytes));
                    }
                    order
                        .attach
                        .push(task(piece.id.clone(), &split.constraint, 0));
                }
                (Some(relation), _) => order.indexes.push(Task {
                    size: relation.bytes,
                    ..whole
                }),
            },
            Stage::Attach => order.attach.push(whole),
            Stage::ForeignKey => order.foreign_keys.push(whole),
            Stage::Last => order.last.push(whole),
        }
    }
    order.indexes = together(order.indexes);
    order
}

/// Largest first, small ones several in one transaction, in the order of the dump: the indexes of one table follow each other.
fn together(tasks: Vec<Task>) -> Vec<Task> {
    let (mut large, small): (Vec<Task>, Vec<Task>) =
        tasks.into_iter().partition(|task| task.size >= SMALL_BYTES);
    large.sort_by_key(|task| std::cmp::Reverse(task.size));
    let mut small = small.into_iter();
    while let Some(mut first) = small.next() {
        let mut more = 0;
        for task in small.by_ref().take(BATCH - 1) {
            more += 1;
            first.size += task.size;
            first.statements.extend(task.statements);
            first.ids.extend(task.ids);
        }
        if more > 0 {
            first.what = format!("{} and {more} more", first.what);
        }
        large.push(first);
    }
    large
}

/// What the load has filled by thousands of rows, and every question about the new tables is planned by.
const CATALOGS: [&str; 10] = [
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_depend",
    "pg_index",
    "pg_inherits",
    "pg_proc",
    "pg_trigger",
    "pg_type",
];

/// Empty ones, too: one without statistics has all of them gathered again. Partitions first: from 18 on a partitioned
/// table's own statistics read nothing twice.
pub(super) fn analyses(tables: &[Relation], major: i32) -> Vec<Task> {
    let ordinary = tables.iter().filter(|it| it.relkind == 'r');
    let mut tasks: Vec<Task> = ordinary
        .map(|it| Task {
            what: format!("statistics of {}", it.name.plain()),
            size: it.bytes,
            statements: vec![format!("ANALYZE {};\n", it.name)],
            ids: Vec::new(),
        })
        .collect();
    tasks = together(tasks);
    tasks.push(Task {
        what: "statistics of the catalogs".to_owned(),
        statements: CATALOGS
            .iter()
            .map(|name| format!("ANALYZE pg_catalog.{name};\n"))
            .collect(),
        ..Task::default()
    });
    let only = if major >= 18 { "ONLY " } else { "" };
    tasks.extend(tables.iter().filter(|it| it.relkind == 'p').map(|it| Task {
        what: format!("statistics of {}", it.name.plain()),
        size: 0,
        statements: vec![format!("ANALYZE {only}{};\n", it.name)],
        ids: Vec::new(),
    }));
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::post_data;

    const SCRIPT: &str = "
--
-- Name: a a_pkey; Type: CONSTRAINT; Schema: public; Owner: o
--

ALTER TABLE ONLY public.a
    ADD CONSTRAINT a_pkey PRIMARY KEY (id);

--
-- Name: a_v; Type: INDEX; Schema: public; Owner: o
--

CREATE INDEX a_v ON public.a USING btree (v);

--
-- Name: m_v; Type: INDEX; Schema: public; Owner: o
--

CREATE INDEX m_v ON public.m USING btree (v);

--
-- Name: a t; Type: TRIGGER; Schema: public; Owner: o
--

CREATE TRIGGER t BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.f();
";

    fn orders(bytes: i64, done: &[&str]) -> Order {
        let post = post_data(SCRIPT.as_bytes()).unwrap().unwrap();
        let relation = Relation {
            name: TableName::new("public", "a"),
            relkind: 'r',
            bytes,
        };
        let done = done.iter().map(|id| (*id).to_owned()).collect();
        order(&post, &[relation], &done)
    }

    #[test]
    fn a_large_tables_key_is_built_beside_its_other_indexes() {
        let large = orders(LARGE_BYTES, &[]);
        assert_eq!(large.indexes.len(), 2, "{large:?}");
        assert!(large.indexes[0].statements[0].starts_with("CREATE UNIQUE INDEX a_pkey"));
        assert!(large.attach[0].statements[0].contains("USING INDEX a_pkey"));
        let last: Vec<&str> = large.last.iter().map(|task| task.what.as_str()).collect();
        assert_eq!(
            last,
            ["INDEX m_v in schema public", "TRIGGER a t in schema public"]
        );
        let small = orders(10, &[]);
        assert_eq!(small.indexes.len(), 1, "{small:?}");
        assert_eq!(small.indexes[0].ids.len(), 2);
        assert!(small.attach.is_empty());
    }

    #[test]
    fn what_is_on_record_is_not_made_again() {
        let large = orders(LARGE_BYTES, &[]);
        let ids: Vec<&str> = large
            .indexes
            .iter()
            .map(|task| task.ids[0].as_str())
            .collect();
        let again = orders(LARGE_BYTES, &ids);
        assert!(
            again.indexes.is_empty() && again.attach.len() == 1,
            "{again:?}"
        );
    }
}
