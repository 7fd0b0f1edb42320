//! What follows the rows: indexes beside each other, largest tables first, then what needs them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::record;
use crate::error::{Report, Result, WrapErr};
use crate::progress::Unit;
use crate::replicate::Run;
use crate::schema::{PostData, Stage};
use crate::server::{Ddl, Login, Session, Subscriber, Timeout, interrupt, params};
use crate::value::TableName;

/// From this size on a constraint's index is built beside the table's other ones.
const LARGE_BYTES: i64 = 8 << 20;
/// Below it the indexes of several tables are made in one transaction.
const SMALL_BYTES: i64 = 1 << 20;
/// Of as many as this.
const BATCH: usize = 50;
/// What building an index may use; a server that allows more keeps what it has.
const MAINTENANCE_WORK_MEM_KB: i64 = 256 << 10;
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Where it is made.
pub(super) struct Rest<'a> {
    pub(super) subscriber: &'a Subscriber,
    pub(super) dbname: &'a str,
    pub(super) jobs: usize,
}

/// Statements of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Task {
    what: String,
    /// About how much work.
    size: i64,
    statements: Vec<String>,
    /// What is put on record with them.
    ids: Vec<String>,
}

/// A table of the subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Relation {
    #[serde(flatten)]
    name: TableName,
    relkind: char,
    bytes: i64,
}

/// The order of the work: pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Order {
    indexes: Vec<Task>,
    attach: Vec<Task>,
    foreign_keys: Vec<Task>,
    last: Vec<Task>,
}

fn order(post: &PostData, relations: &[Relation], done: &BTreeSet<String>) -> Order {
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
    let merged = small.chunks(BATCH).map(|tasks| Task {
        what: match tasks {
            [only] => only.what.clone(),
            _ => format!("{} and {} more", tasks[0].what, tasks.len() - 1),
        },
        size: tasks.iter().map(|task| task.size).sum(),
        statements: tasks
            .iter()
            .flat_map(|task| task.statements.clone())
            .collect(),
        ids: tasks.iter().flat_map(|task| task.ids.clone()).collect(),
    });
    large.into_iter().chain(merged).collect()
}

impl Rest<'_> {
    /// Makes what is not on record yet; `look` is called all along.
    pub(super) fn make(
        &self,
        post: &PostData,
        run: &Run,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let control = self.session("")?;
        let done = record::pieces(&control)?.into_iter().collect();
        let order = order(post, &self.relations(&control)?, &done);
        let mut pool = |what: &str, tasks: Vec<Task>, workers| {
            self.run(what, &post.settings, tasks, workers, run, &mut look)
        };
        pool("build the indexes", order.indexes, self.jobs)?;
        pool("make constraints of indexes", order.attach, 1)?;
        let tables = self.relations(&control)?;
        pool(
            "gather statistics",
            analyses(&tables, self.subscriber.major()),
            self.jobs,
        )?;
        pool("check foreign keys", order.foreign_keys, self.jobs)?;
        pool("create triggers and the rest", order.last, 1)
    }

    fn relations(&self, session: &Session) -> Result<Vec<Relation>> {
        session
            .list(
                "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relkind', c.relkind,
                          'bytes', CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_table_size(c.oid) END)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname !~ '^pg_'",
                params![],
            )
            .wrap_err("read the tables that get indexes")
    }

    fn session(&self, settings: &str) -> Result<Session> {
        let session = self.subscriber.connect(Login::Superuser, self.dbname)?;
        session.execute(&record::join_work(), params![])?;
        session.batch(settings)?;
        session.execute(
            "SELECT set_config('maintenance_work_mem', greatest($1, setting::int8) || 'kB', false)
               FROM pg_settings WHERE name = 'maintenance_work_mem'",
            params![MAINTENANCE_WORK_MEM_KB],
        )?;
        Ok(session.with_timeout(Timeout::WhileServerAnswers))
    }

    fn run(
        &self,
        what: &str,
        settings: &str,
        tasks: Vec<Task>,
        workers: usize,
        run: &Run,
        look: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let total = tasks.len() as u64;
        if total == 0 {
            return Ok(());
        }
        let queue: Mutex<VecDeque<Task>> = Mutex::new(tasks.into());
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        let mut failed: Option<Report> = None;
        std::thread::scope(|scope| {
            let (ended, ends) = crossbeam_channel::unbounded();
            let workers = workers.clamp(1, total as usize);
            for _ in 0..workers {
                let ended = ended.clone();
                scope.spawn(move || {
                    let work = || -> Result<()> {
                        let session = self.session(settings)?;
                        while let Some(task) = next() {
                            task.run(&session)?;
                            ended.send(Ok(false)).unwrap_or_default();
                        }
                        Ok(())
                    };
                    ended.send(work().map(|()| true)).unwrap_or_default();
                });
            }
            let (mut running, mut done) = (workers, 0);
            while running > 0 {
                let outcome = match ends.recv_timeout(SHOW_EVERY) {
                    Ok(Ok(false)) => {
                        done += 1;
                        Ok(())
                    }
                    Ok(outcome) => {
                        running -= 1;
                        outcome.map(drop)
                    }
                    Err(_) => interrupt::check().and_then(|()| look()),
                };
                if let Err(report) = outcome {
                    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    failed.get_or_insert(report);
                }
                run.progress
                    .advance(what, done.min(total - 1), total, Unit::Items);
            }
        });
        run.progress.advance(what, total, total, Unit::Items);
        match failed {
            None => Ok(()),
            Some(report) => Err(report),
        }
    }
}

impl Task {
    /// Its statements and what is on record of them, as one transaction.
    fn run(&self, session: &Session) -> Result<()> {
        // Foreign keys beside each other may lock their tables in the other's order.
        let ddl = Ddl::default();
        ddl.retry(session, || {
            session.batch("BEGIN")?;
            session.batch(&self.statements.concat())?;
            if !self.ids.is_empty() {
                session.execute(
                    "INSERT INTO flare.copy_piece SELECT unnest($1)",
                    params![self.ids.clone()],
                )?;
            }
            session.batch("COMMIT")
        })
        .wrap_err_with(|| format!("create {}", self.what))
    }
}

/// Partitions first: from 18 on a partitioned table's own statistics read nothing twice.
fn analyses(tables: &[Relation], major: i32) -> Vec<Task> {
    let filled = tables.iter().filter(|it| it.relkind == 'r' && it.bytes > 0);
    let mut tasks: Vec<Task> = filled
        .map(|it| Task {
            what: format!("statistics of {}", it.name.plain()),
            size: it.bytes,
            statements: vec![format!("ANALYZE {};\n", it.name)],
            ids: Vec::new(),
        })
        .collect();
    tasks = together(tasks);
    let only = match major >= 18 {
        true => "ONLY ",
        false => "",
    };
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
