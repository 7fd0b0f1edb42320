//! What follows the rows: indexes beside each other, largest tables first, then what needs them.

mod in_one;
mod order;
mod processors;

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use postgres::error::SqlState;

pub(super) use in_one::make_in_one;
use order::{Relation, Task, analyses, order};
use processors::{Processors, helpers};

use super::record;
use crate::error::{Advise, Report, Result, WrapErr, message_of};
use crate::progress::Unit;
use crate::replicate::Run;
use crate::schema::PostData;
use crate::server::{Ddl, Login, Session, Subscriber, Timeout, interrupt, params, sqlstate_of};

/// What building an index may use; a server that allows more keeps what it has.
const MAINTENANCE_WORK_MEM_KB: i64 = 256 << 10;
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Where it is made.
pub(super) struct Rest<'a> {
    subscriber: &'a Subscriber,
    dbname: &'a str,
    jobs: usize,
    /// Of the server, asked once.
    processors: OnceLock<Processors>,
    /// Sessions that have done something and are to do more.
    free: Mutex<Vec<Session>>,
    /// What was made otherwise than it is on the publisher.
    notes: Mutex<Vec<String>>,
}

impl<'a> Rest<'a> {
    pub(super) fn new(subscriber: &'a Subscriber, dbname: &'a str, jobs: usize) -> Rest<'a> {
        Rest {
            subscriber,
            dbname,
            jobs,
            processors: OnceLock::new(),
            free: Mutex::default(),
            notes: Mutex::default(),
        }
    }
}

impl Rest<'_> {
    /// Makes what is not on record yet; `look` is called all along. Says what was made otherwise than on the publisher.
    pub(super) fn make(
        &self,
        post: &PostData,
        run: &Run,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<Vec<String>> {
        let session = self.session(&post.settings)?;
        let done = record::pieces(&session)?.into_iter().collect();
        let tables = self.relations(&session)?;
        let processors = processors::of(&session)?;
        self.processors.get_or_init(|| processors);
        self.set_free(session);
        let order = order(post, &tables, &done);
        let mut pool = |what: &str, tasks: Vec<Task>, workers| {
            self.run(what, &post.settings, tasks, workers, run, &mut look)
        };
        pool("build the indexes", order.indexes, self.jobs)?;
        pool("make constraints of indexes", order.attach, 1)?;
        pool(
            "gather statistics",
            analyses(&tables, self.subscriber.major()),
            self.jobs,
        )?;
        pool("check foreign keys", order.foreign_keys, self.jobs)?;
        pool("create triggers and the rest", order.last, 1)?;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *notes))
    }

    fn relations(&self, session: &Session) -> Result<Vec<Relation>> {
        session
            .list(
                "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relkind', c.relkind,
                          'bytes', CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_relation_size(c.oid) END
                            + CASE c.reltoastrelid WHEN 0 THEN 0 ELSE pg_relation_size(c.reltoastrelid) END)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'flare'",
                params![],
            )
            .wrap_err("read the tables that get indexes")
    }

    fn set_free(&self, session: Session) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(session);
    }

    /// One that has worked before knows the catalog by now.
    fn worker(&self, settings: &str) -> Result<Session> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let session = free.pop();
        drop(free);
        session.map_or_else(|| self.session(settings), Ok)
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

    /// How many processes of its own an index that is built may have, beside so many sessions that are at work.
    fn allow_helpers(&self, session: &Session, busy: usize) -> Result<()> {
        let processors = self.processors.get().copied().unwrap_or_default();
        match helpers(processors, busy) {
            None => Ok(()),
            Some(helpers) => session
                .execute(
                    "SELECT set_config(name, least($1, reset_val::int8)::text, false) FROM pg_settings
                      WHERE name = 'max_parallel_maintenance_workers'",
                    params![helpers],
                )
                .map(drop),
        }
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
            queue.pop_front().map(|task| (task, queue.len()))
        };
        let mut failed: Option<Report> = None;
        std::thread::scope(|scope| {
            let (ended, ends) = crossbeam_channel::unbounded();
            let workers = workers.clamp(1, total as usize);
            for _ in 0..workers {
                let ended = ended.clone();
                scope.spawn(move || {
                    let work = || -> Result<()> {
                        let session = self.worker(settings)?;
                        while let Some((task, waiting)) = next() {
                            if task.size >= order::LARGE_BYTES {
                                let busy = workers.min(waiting + 1);
                                self.allow_helpers(&session, busy)?;
                            }
                            let note = task.run(&session)?;
                            let mut notes =
                                self.notes.lock().unwrap_or_else(PoisonError::into_inner);
                            notes.extend(note);
                            drop(notes);
                            ended.send(Ok(false)).unwrap_or_default();
                        }
                        self.set_free(session);
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

/// The subscriber is closed by then.
const BY_SUPERUSER: &str = " (as a superuser: SET default_transaction_read_only = off; SET session_replication_role = replica)";

/// What pg_restore would say as well: the schema that a function of the application's takes for granted is not searched.
/// `by` is how the subscriber's rows are changed.
fn advise(report: Report, by: &str) -> Result<()> {
    let state = sqlstate_of(&report);
    let not_found = state.is_some_and(|it| {
        [
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_OBJECT,
        ]
        .contains(it)
    });
    let violated = state.is_some_and(|it| it.code().starts_with("23"));
    let failed = Err(report);
    if not_found {
        failed.hint(|| {
            "what is loaded searches no schema: a function that names others without their schema needs ALTER FUNCTION .. SET search_path, on the publisher and on the subscriber; then run flare initial_copy again, which goes on with what is missing".into()
        })
    } else if violated {
        failed.hint(|| {
            format!("the rows are those of the copy's snapshot, and what changes on the publisher arrives once the copy has ended: UPDATE or DELETE the row on the publisher, and on the subscriber too{by}, then run flare initial_copy again; or mend it on the publisher and copy anew with --restart")
        })
    } else {
        failed
    }
}

fn violates_foreign_key(report: &Report) -> bool {
    sqlstate_of(report) == Some(&SqlState::FOREIGN_KEY_VIOLATION)
}

/// The foreign key that a statement makes, for new rows alone; `None` where it makes none, or one that is not checked.
fn not_valid(statement: &str) -> Option<String> {
    let statement = statement.trim_end().strip_suffix(';')?;
    let is_checked = statement.contains(" FOREIGN KEY (") && !statement.ends_with(" NOT VALID");
    is_checked.then(|| format!("{statement} NOT VALID;\n"))
}

fn made_not_valid(what: &str, report: &Report) -> String {
    format!(
        "{what} is NOT VALID on the subscriber, since rows violate it, on the publisher too: mend them there; flare status has the statement that validates it then ({})",
        message_of(report)
    )
}

impl Task {
    /// Its statements and what is on record of them, as one transaction. A foreign key that rows violate is made NOT VALID:
    /// they violate it on the publisher, too, and are mended there once the stream brings what is done.
    fn run(&self, session: &Session) -> Result<Option<String>> {
        let made = self.make(session, &self.statements.concat());
        let Err(report) = made else {
            return Ok(None);
        };
        let unchecked = match &self.statements[..] {
            [statement] if violates_foreign_key(&report) => not_valid(statement),
            _ => None,
        };
        let Some(statement) = unchecked else {
            return advise(report, BY_SUPERUSER).map(|()| None);
        };
        if let Err(why) = self.make(session, &statement) {
            log::info!("make it NOT VALID: {}", message_of(&why));
            return advise(report, BY_SUPERUSER).map(|()| None);
        }
        Ok(Some(made_not_valid(&self.what, &report)))
    }

    fn make(&self, session: &Session, statements: &str) -> Result<()> {
        // Foreign keys beside each other may lock their tables in the other's order.
        let ddl = Ddl::default();
        ddl.retry(session, || {
            session.batch("BEGIN")?;
            session.batch(statements)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_foreign_key_that_is_checked_can_be_made_without_a_check() {
        let key = "ALTER TABLE ONLY s.a\n    ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.b(id)";
        assert_eq!(
            not_valid(&format!("{key};\n\n")),
            Some(format!("{key} NOT VALID;\n"))
        );
        assert_eq!(not_valid(&format!("{key} NOT VALID;\n")), None);
        assert_eq!(
            not_valid("CREATE UNIQUE INDEX i ON s.a USING btree (x);\n"),
            None
        );
    }
}
