//! Who is at work on a copy: one flare leads it, and its sessions count as the copy's.
//!
//! Both are advisory locks in the database that is filled. A flare that was killed loses them with its sessions, so that the
//! next one need not wait; one that is frozen, or whose machine is gone, is known by what it no longer says.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use uuid::Uuid;

use crate::error::{Failure, Report, Result, WrapErr};
use crate::server::{ActAs, Session, Subscriber, interrupt, params};

/// A flare that is at work says so this often.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// One that has said nothing for this long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// Shared by every session of a copy that writes into its database: whoever goes on ends who holds it.
const AT_WORK: Lock = Lock(1);
/// Held by the flare that leads the copy.
const LEADS: Lock = Lock(2);

/// An advisory lock of copies, by its second key.
#[derive(Clone, Copy)]
struct Lock(i32);

impl Lock {
    const CLASS: i32 = 0x666c_6172;

    /// The sessions that hold it in this database, other than this one.
    fn held_by(self, session: &Session) -> Result<Vec<i32>> {
        session
            .value(
                "SELECT array(SELECT l.pid FROM pg_locks l
                               WHERE l.locktype = 'advisory' AND l.classid::text = $1 AND l.objid::text = $2 AND l.granted
                                 AND l.pid <> pg_backend_pid()
                                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                params![Lock::CLASS.to_string(), self.0.to_string()],
            )
            .wrap_err("look who is at work on the copy")
    }

    fn try_take(self, session: &Session) -> Result<bool> {
        session
            .value(
                "SELECT pg_try_advisory_lock($1, $2)",
                params![Lock::CLASS, self.0],
            )
            .wrap_err("take the lead of the copy")
    }
}

/// Has a session count as one of the copy's.
pub(in crate::copy) fn join_work() -> String {
    let (class, Lock(lock)) = (Lock::CLASS, AT_WORK);
    format!("SELECT pg_advisory_lock_shared({class}, {lock})")
}

/// Whether a flare leads the copy of this database right now.
pub(in crate::copy) fn is_led(session: &Session) -> Result<bool> {
    Ok(!LEADS.held_by(session)?.is_empty())
}

/// The lead of a copy, held by a session of its own until it is dropped.
pub(in crate::copy) struct Lead {
    beat: Option<(Sender<()>, JoinHandle<()>)>,
    lost: Arc<Mutex<Option<Report>>>,
}

impl Lead {
    /// Takes it, from a flare that is dead where one had it; refuses while another is alive.
    pub(in crate::copy) fn take(
        subscriber: &Subscriber,
        dbname: &str,
        run: Uuid,
        on_record: OnRecord,
    ) -> Result<Lead> {
        let session = subscriber.connect(ActAs::Tables, dbname)?;
        let since = Instant::now();
        let first = last_word(&session)?;
        while !LEADS.try_take(&session)? {
            let others = LEADS.held_by(&session)?;
            let word = last_word(&session)?;
            let silent = word.as_ref().is_some_and(|it| it.is_old);
            if silent {
                end_all(&session, &others)?;
            } else if word != first || since.elapsed() > DEAD_AFTER * 2 {
                return Failure::new(format!(
                    "go on with the copy: another flare is at work on it (session {others:?} of the subscriber)"
                ))
                .hint("wait for it, or end it")
                .err();
            }
            interrupt::sleep(Duration::from_millis(100))?;
        }
        if on_record == OnRecord::Yes {
            session.execute(
                "UPDATE flare.copy_lead SET run = $1, alive_at = clock_timestamp()",
                params![run],
            )?;
            end_work(&session)?;
        }
        Ok(Lead::hold(session, run))
    }

    fn hold(session: Session, run: Uuid) -> Lead {
        let lost = Arc::new(Mutex::new(None));
        let (stop, stopped) = bounded::<()>(0);
        let loss = lost.clone();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(ALIVE_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(report) = stay_alive(&session, run) {
                    *loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
                    return;
                }
            }
        });
        Lead {
            beat: Some((stop, thread)),
            lost,
        }
    }

    /// An error once another has taken it.
    pub(in crate::copy) fn check(&self) -> Result<()> {
        let lost = self
            .lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        lost.map_or(Ok(()), Err).wrap_err("go on with the copy")
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beat.take() {
            drop(stop);
            if thread.join().is_err() {
                log::debug!("the thread that says that the copy is led died");
            }
        }
    }
}

/// Whether a copy was on record before this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::copy) enum OnRecord {
    Yes,
    /// This run is about to put it there.
    No,
}

/// When whoever leads has last said that it is alive.
#[derive(PartialEq, Eq)]
struct LastWord {
    at: String,
    is_old: bool,
}

fn last_word(session: &Session) -> Result<Option<LastWord>> {
    if !super::exists(session)? {
        return Ok(None);
    }
    let rows = session.rows(
        "SELECT alive_at::text, alive_at < clock_timestamp() - $1 * interval '1 second' FROM flare.copy_lead",
        params![DEAD_AFTER.as_secs_f64()],
    )?;
    Ok(rows.first().map(|row| LastWord {
        at: row.get(0),
        is_old: row.get(1),
    }))
}

fn stay_alive(session: &Session, run: Uuid) -> Result<()> {
    // Where it is not on record yet, or no longer, there is nothing to say.
    if !super::exists(session)? {
        return Ok(());
    }
    let said = session.execute(
        "UPDATE flare.copy_lead SET alive_at = clock_timestamp() WHERE run = $1",
        params![run],
    )?;
    if said == 0 {
        return Failure::new("another flare has taken it over").err();
    }
    Ok(())
}

/// Ends the sessions that an earlier flare left at work, and waits until they are gone: a COMMIT may be under way.
pub(in crate::copy) fn end_work(session: &Session) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let since = Instant::now();
    loop {
        let left = AT_WORK.held_by(session)?;
        if left.is_empty() {
            return Ok(());
        }
        if since.elapsed() > LIMIT {
            return Failure::new(format!(
                "end the sessions that an earlier run left at work: {left:?} are still there after {}",
                humantime::format_duration(LIMIT)
            ))
            .hint("end them on the subscriber (pg_terminate_backend), then run the command again")
            .err();
        }
        end_all(session, &left)?;
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

fn end_all(session: &Session, pids: &[i32]) -> Result<()> {
    for pid in pids {
        session
            .execute("SELECT pg_terminate_backend($1)", params![*pid])
            .wrap_err_with(|| format!("end session {pid} of an earlier run"))?;
    }
    Ok(())
}
