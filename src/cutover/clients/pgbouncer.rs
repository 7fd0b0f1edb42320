//! poolers: PgBouncers hold their clients while the servers change, so that they wait instead of failing.
//!
//! With transaction pooling a PAUSE is done when the running transactions are. With session pooling it is done when the
//! clients have gone, so it is only begun before CONNECT is revoked: ending the sessions at the server ends it, and until
//! then [`Poolers::await_paused`] has to wait.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use crate::config::Pooler;
use crate::cutover::clients::pooler::One;
use crate::error::{Failure, Result};
use crate::server::{application_name, interrupt};
use crate::value::{HostPort, Ident};

/// Whether a pooler reads its configuration again before its clients go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Nothing has changed it.
    No,
    /// The `switch` or `on_undo` hook may have changed it.
    Yes,
}

/// How long after a round of late tries the next one begins.
const BETWEEN_LATE_TRIES: Duration = Duration::from_millis(200);

/// All poolers of `cutover.poolers`.
pub(crate) struct Poolers(Vec<One>);

impl Poolers {
    /// Enters every console, in parallel. Works while the databases are paused.
    ///
    /// # Errors
    /// When a console does not answer, the user may not PAUSE and RESUME there, or the pooler has no such database.
    pub(crate) fn connect(declared: &[Pooler], command: &str) -> Result<Poolers> {
        let mut poolers = Poolers::unconnected(declared, command);
        first_failure(in_parallel(&mut poolers.0, One::prove))?;
        Ok(poolers)
    }

    /// The same poolers, none of them asked anything yet: for [`Poolers::resume`], which enters by itself.
    pub(crate) fn unconnected(declared: &[Pooler], command: &str) -> Poolers {
        let mut poolers: Vec<One> = Vec::new();
        for (at, pooler) in declared.iter().enumerate() {
            let key = format!("cutover.poolers[{at}]");
            let one = One::declared(pooler, key, application_name(command));
            let known = |other: &One| other.to_string() == one.to_string();
            if !poolers.iter().any(known) {
                poolers.push(one);
            }
        }
        Poolers(poolers)
    }

    /// The same, all of them owed the end of a pause: for [`Poolers::resume_late`].
    pub(crate) fn owed_all(declared: &[Pooler], command: &str, reload: Reload) -> Poolers {
        let mut poolers = Poolers::unconnected(declared, command);
        poolers.0.iter_mut().for_each(|pooler| pooler.owe(reload));
        poolers
    }

    /// Whether none is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses a database that somebody has paused already: its clients would be let go at the wrong moment.
    pub(crate) fn none_is_paused(&mut self) -> Result<()> {
        for pooler in &mut self.0 {
            if pooler.is_listed_as_paused()? {
                return Failure::new(format!("{pooler} is paused already"))
                    .hint(format!(
                        "find out who paused it, or let it go on: RESUME {}; on that console",
                        Ident::new(pooler.database())
                    ))
                    .err();
            }
        }
        Ok(())
    }

    /// Holds the clients back, on all poolers at once: running transactions may come to their end within this time.
    /// Where clients hold sessions (session pooling), the PAUSE is in effect for new ones only; see
    /// [`Poolers::await_paused`].
    ///
    /// # Errors
    /// When a pooler is not paused in time. Then all of them have been resumed.
    pub(crate) fn pause(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let paused = in_parallel(&mut self.0, |pooler| pooler.pause(until, limit));
        first_failure(paused).map_err(|cause| {
            let failures = self.resume(Reload::No);
            failures
                .into_iter()
                .fold(cause, |cause, failure| cause.wrap_err(failure))
        })
    }

    /// Waits for every PAUSE that was begun: to be called when the server has no session of the poolers any more.
    ///
    /// # Errors
    /// When a pooler still has clients with sessions after this time. It stays paused: whoever undoes resumes it.
    pub(crate) fn await_paused(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let paused = in_parallel(&mut self.0, |pooler| pooler.await_paused(until, limit));
        first_failure(paused)
    }

    /// Lets the clients go on, on all poolers at once, to where the configuration now leads them when it is to be read
    /// again. A connection that is lost is made anew. No signal stops this, and a database that is not paused is fine.
    ///
    /// Returns what could not be done, each with what to do by hand.
    pub(crate) fn resume(&mut self, reload: Reload) -> Vec<String> {
        let _shield = interrupt::Shield::raise();
        in_parallel(&mut self.0, |pooler| {
            pooler
                .resume_persistently(reload)
                .map_err(|report| pooler.by_hand(reload, &report))
        })
        .into_iter()
        .filter_map(std::result::Result::err)
        .collect()
    }

    /// After a hook that may have rewritten what the poolers read; those that could not be resumed get it with their
    /// late RESUME.
    ///
    /// Returns what could not be done, as [`Poolers::resume`] does.
    pub(crate) fn reload(&mut self) -> Vec<String> {
        let _shield = interrupt::Shield::raise();
        in_parallel(&mut self.0, |pooler| {
            if pooler.is_owed() {
                Ok(())
            } else {
                pooler
                    .resume_persistently(Reload::Yes)
                    .map_err(|report| pooler.by_hand(Reload::Yes, &report))
            }
        })
        .into_iter()
        .filter_map(std::result::Result::err)
        .collect()
    }

    /// Whether clients still wait at a pooler that could not be resumed.
    pub(crate) fn any_is_owed(&self) -> bool {
        self.0.iter().any(One::is_owed)
    }

    /// Tries again, for so long, to resume those that could not be: a frozen pooler may find a PAUSE to obey when it
    /// thaws. `may` is asked each time one answers.
    pub(crate) fn resume_late(
        &mut self,
        limit: Duration,
        may: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let tried = self.0.iter_mut().map(|pooler| pooler.resume_late(&may));
            match tried.collect::<Vec<_>>().into_iter().collect() {
                Err(report) if Instant::now() > until => return Err(report),
                Err(report) => log::debug!("{report:#}; trying again"),
                Ok(()) => return Ok(()),
            }
            std::thread::sleep(BETWEEN_LATE_TRIES);
        }
    }

    /// The poolers that still lead their clients to this host and port: what a `switch` hook has missed, or a RELOAD
    /// has not accepted (before PgBouncer 1.25 it says so in its log only).
    pub(crate) fn still_lead_to(&mut self, host: &str, port: u16) -> Vec<String> {
        self.0
            .iter_mut()
            .filter(|pooler| !pooler.is_owed())
            .filter_map(|pooler| match pooler.leads_to(host, port) {
                Ok(true) => Some(format!(
                    "{pooler} still leads to {}: look at what the hook wrote and at the pooler's log, then RELOAD",
                    HostPort(host, port)
                )),
                _ => None,
            })
            .collect()
    }
}

/// Asks all poolers at once; each answer is bounded in time.
fn in_parallel<T: Send>(poolers: &mut [One], ask: impl Fn(&mut One) -> T + Sync) -> Vec<T> {
    let ask = &ask;
    std::thread::scope(|scope| {
        let asked: Vec<_> = poolers
            .iter_mut()
            .map(|pooler| scope.spawn(move || ask(pooler)))
            .collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

fn first_failure(outcomes: Vec<Result<()>>) -> Result<()> {
    outcomes.into_iter().collect()
}
