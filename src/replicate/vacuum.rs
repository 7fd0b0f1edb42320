//! Statistics that plans can rest on early, then everything vacuumed: a fresh copy has neither.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use postgres::error::SqlState;
use serde::{Deserialize, Serialize};

use super::{Mode, Run};
use crate::error::{Failure, Report, Result, WrapErr};
use crate::progress::Unit;
use crate::server::{ActAs, Login, Session, Subscriber, Timeout, params, sqlstate_of};
use crate::value::{TableName, counted};

/// What was vacuumed and analysed, or in a dry run would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Vacuumed {
    /// The database, on the subscriber.
    pub dbname: String,
    /// How many tables.
    pub tables: usize,
    /// How many sessions worked at once.
    pub jobs: usize,
    /// How long it took.
    pub seconds: f64,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Tables that nobody of the configuration may vacuum.
    pub skipped: Vec<String>,
    /// Tables that were dropped meanwhile.
    pub gone: Vec<String>,
    /// In a dry run, the tables in their order.
    pub order: Vec<String>,
}

/// A table as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Table {
    schema: String,
    name: String,
    kind: Kind,
    /// The system's: vacuumed last, without a word.
    system: bool,
    permitted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Kind {
    #[serde(rename = "r")]
    Ordinary,
    #[serde(rename = "m")]
    Materialized,
    #[serde(rename = "p")]
    Partitioned,
}

impl Table {
    fn table_name(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }
}

/// Owners of the database may vacuum all of it; so may a table's own, and from 17 on who was granted MAINTAIN.
fn tables_sql(major: i32) -> String {
    let maintain = if major >= 17 {
        "OR has_table_privilege(c.oid, 'MAINTAIN')"
    } else {
        ""
    };
    format!(
        "SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname, 'kind', c.relkind::text,
                  'system', n.nspname IN ('pg_catalog', 'information_schema'), 'permitted',
                  has_schema_privilege(n.oid, 'USAGE') AND (pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE') {maintain}))
           FROM pg_class c
           JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_database d ON d.datname = current_database()
          WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND NOT c.relisshared
            AND (n.nspname !~ '^pg_' OR n.nspname = 'pg_catalog')
            AND (c.relkind <> 'p' OR NOT c.relispartition)
          ORDER BY pg_total_relation_size(c.oid) DESC, n.nspname, c.relname"
    )
}

/// One pass over tables: what is set for it, and the statement for each.
struct Stage {
    what: &'static str,
    settings: &'static str,
    work: Vec<(TableName, String)>,
}

/// First rough statistics for all, then better ones, then everything: plans are good long before the end.
fn stages(tables: &[Table], major: i32) -> Vec<Stage> {
    let of = |wanted: &dyn Fn(&Table) -> bool, verb: &dyn Fn(&Table) -> &'static str| {
        let chosen = tables
            .iter()
            .filter(|table| table.permitted && wanted(table));
        let statement = |table: &Table| {
            let name = table.table_name();
            let sql = format!("{} {name}", verb(table));
            (name, sql)
        };
        chosen.map(statement).collect::<Vec<_>>()
    };
    let holds_rows = |table: &Table| !table.system && table.kind != Kind::Partitioned;
    // Statistics of a partitioned table are its own, and autovacuum never gathers them; before 18 that reads the partitions again.
    let parent = if major >= 18 {
        "ANALYZE ONLY"
    } else {
        "ANALYZE"
    };
    let full = |table: &Table| match table.kind {
        Kind::Partitioned => parent,
        _ => "VACUUM (ANALYZE)",
    };
    vec![
        Stage {
            what: "rough statistics (1 of 3)",
            settings: "SET default_statistics_target = 1; SET vacuum_cost_delay = 0",
            work: of(&holds_rows, &|_| "ANALYZE"),
        },
        Stage {
            what: "better statistics (2 of 3)",
            settings: "SET default_statistics_target = 10; SET vacuum_cost_delay = 0",
            work: of(&holds_rows, &|_| "ANALYZE"),
        },
        Stage {
            what: "vacuum and full statistics (3 of 3)",
            settings: "RESET default_statistics_target; RESET vacuum_cost_delay",
            work: [
                of(&|table| !table.system, &full),
                of(&|table| table.system, &full),
            ]
            .concat(),
        },
    ]
}

/// Works through all stages in `jobs` sessions, each table in a statement of its own.
pub(crate) fn vacuum_analyze(
    subscriber: &Subscriber,
    dbname: &str,
    jobs: usize,
    run: &Run,
) -> Result<Vacuumed> {
    let since = Instant::now();
    let read = |session: &Session| -> Result<Vec<Table>> {
        session
            .list(&tables_sql(subscriber.major()), params![])
            .wrap_err("list the tables")
    };
    let open = |login| match login {
        Login::DbOwner => subscriber.connect(ActAs::Owner, dbname),
        login => subscriber.connect(login, dbname),
    };
    let (mut login, mut first) = (Login::DbOwner, open(Login::DbOwner)?);
    let mut tables = read(&first)?;
    // What the owner may not touch a superuser may.
    let denied = tables.iter().any(|it| !it.system && !it.permitted);
    if denied && subscriber.facts().superuser {
        login = Login::Superuser;
        first = open(login)?;
        tables = read(&first)?;
    }
    let plain = |table: &Table| table.table_name().plain();
    let users = || tables.iter().filter(|table| !table.system);
    let skipped: Vec<String> = users()
        .filter(|table| !table.permitted)
        .map(plain)
        .collect();
    let order: Vec<String> = users().filter(|table| table.permitted).map(plain).collect();
    let jobs = jobs.clamp(1, order.len().max(1));
    let mut vacuumed = Vacuumed {
        dbname: dbname.to_owned(),
        tables: order.len(),
        jobs,
        seconds: 0.0,
        dry_run: run.mode == Mode::DryRun,
        skipped,
        gone: Vec::new(),
        order: Vec::new(),
    };
    if run.mode == Mode::DryRun {
        vacuumed.order = order;
        return Ok(vacuumed);
    }
    let mut sessions = vec![first.with_timeout(Timeout::WhileServerAnswers)];
    while sessions.len() < jobs {
        let session = open(login)?;
        sessions.push(session.with_timeout(Timeout::WhileServerAnswers));
    }
    for stage in stages(&tables, subscriber.major()) {
        vacuumed.gone.extend(work(&stage, &sessions, run)?);
    }
    vacuumed.gone.sort();
    vacuumed.gone.dedup();
    vacuumed.seconds = (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(vacuumed)
}

/// Works through one stage; the tables that were dropped meanwhile.
fn work(stage: &Stage, sessions: &[Session], run: &Run) -> Result<Vec<String>> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = AtomicBool::new(false);
    let gone = Mutex::new(Vec::new());
    let advance = |done: usize| {
        run.progress.advance(
            stage.what,
            done as u64,
            stage.work.len() as u64,
            Unit::Tables,
        );
    };
    let one_session = |session: &Session| -> Result<()> {
        session.batch(stage.settings)?;
        while !failed.load(Ordering::SeqCst) {
            let Some((table, sql)) = stage.work.get(next.fetch_add(1, Ordering::SeqCst)) else {
                break;
            };
            match session.batch(sql) {
                Ok(()) => {}
                Err(report) if sqlstate_of(&report) == Some(&SqlState::UNDEFINED_TABLE) => gone
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .push(table.plain()),
                Err(report) => {
                    return Err(report.wrap_err(format!("vacuum and analyze {}", table.plain())));
                }
            }
            advance(done.fetch_add(1, Ordering::SeqCst) + 1);
        }
        Ok(())
    };
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .iter()
            .map(|session| {
                scope.spawn(|| {
                    one_session(session).inspect_err(|_| failed.store(true, Ordering::SeqCst))
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let ended = |_| Report::from(Failure::new("vacuum and analyze: a thread has ended"));
            thread.join().map_err(ended).and_then(|outcome| outcome)
        });
        joined.collect()
    });
    outcomes.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(gone.into_inner().unwrap_or_else(|e| e.into_inner()))
}

impl Vacuumed {
    /// What was not vacuumed, and why.
    pub(crate) fn notes(&self) -> Vec<String> {
        let skipped = self.skipped.iter().map(|table| {
            format!("{table} was skipped: neither it nor the database belongs to the configuration's db_owner, or it has no USAGE on its schema")
        });
        let gone = self.gone.iter();
        skipped
            .chain(gone.map(|table| format!("{table} was dropped meanwhile")))
            .collect()
    }
}

impl fmt::Display for Vacuumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vacuumed {
            dbname,
            tables,
            jobs,
            seconds,
            ..
        } = self;
        if self.dry_run {
            writeln!(
                f,
                "would vacuum and analyze {} of {dbname:?} on the subscriber, {jobs} at once",
                counted(tables, "table")
            )?
        } else {
            writeln!(
                f,
                "vacuumed and analyzed {} of {dbname:?} on the subscriber, {jobs} at once, in {seconds:.1} s",
                counted(tables, "table")
            )?
        }
        for table in &self.order {
            writeln!(f, "    {table}")?;
        }
        for note in self.notes() {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, kind: Kind, permitted: bool) -> Table {
        Table {
            schema: "app".into(),
            name: name.into(),
            kind,
            system: false,
            permitted,
        }
    }

    #[test]
    fn statistics_come_in_stages_and_parents_once() {
        let mut tables = vec![
            table("a", Kind::Ordinary, true),
            table("Parent", Kind::Partitioned, true),
            table("other", Kind::Ordinary, false),
            table("view", Kind::Materialized, true),
        ];
        tables.push(Table {
            system: true,
            ..table("pg_class", Kind::Ordinary, true)
        });
        let statements = |major| -> Vec<Vec<String>> {
            let stages = stages(&tables, major).into_iter();
            stages
                .map(|stage| stage.work.into_iter().map(|(_, sql)| sql).collect())
                .collect()
        };
        let rough = [r#"ANALYZE "app"."a""#, r#"ANALYZE "app"."view""#];
        let [first, second, third] = &statements(14)[..] else {
            panic!("three stages");
        };
        assert_eq!((first, second), (&rough.map(String::from).to_vec(), first));
        assert_eq!(
            *third,
            [
                r#"VACUUM (ANALYZE) "app"."a""#,
                r#"ANALYZE "app"."Parent""#,
                r#"VACUUM (ANALYZE) "app"."view""#,
                r#"VACUUM (ANALYZE) "app"."pg_class""#,
            ]
        );
        assert_eq!(statements(18)[2][1], r#"ANALYZE ONLY "app"."Parent""#);
    }
}
