//! Whether the subscriber goes on while something is awaited there, and what it is that stops it.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::pinned::Pinned;
use crate::catalog::subscriptions::{self, Health};
use crate::error::{Failure, Report, Result, WrapErr, message_of};
use crate::journal::Stream;
use crate::observe::{Stopped, in_words, suspects};
use crate::replicate::Run;
use crate::server::{Login, Pair, Session, Side, params};
use crate::value::{ShellWord, Size};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// A subscriber that has neither confirmed nor received anything for so long does not follow.
const LIMIT: Duration = Duration::from_secs(120);
/// Errors or new workers, without a step forward, after which the next attempt will fail too.
const ATTEMPTS: i64 = 2;
/// Without a worker that lasts from one look to the next for so long, there is none. Workers start again after
/// `wal_retrieve_retry_interval`, five seconds unless it is set.
const WITHOUT_WORKER: Duration = Duration::from_secs(15);

/// How often it is said that something is still awaited.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// The subscription that carries the rows.
#[derive(Clone, Copy)]
pub(super) struct Following<'a> {
    /// `publisher` is the side that is written.
    pub(super) pair: &'a Pair,
    pub(super) stream: &'a Stream,
    pub(super) slot_name: &'a str,
    /// Who hears that it takes long.
    pub(super) run: &'a Run,
}

/// The slot, as far as it tells of the subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Slot {
    confirmed_flush_lsn: Option<String>,
    /// From 13 on.
    wal_status: Option<String>,
    /// Whether what was awaited at the first look is confirmed.
    passed: bool,
    /// How much of what was awaited at the first look is not confirmed.
    behind: i64,
}

/// One wait: what was seen in it.
pub(super) struct Wait<'a> {
    following: Following<'a>,
    began: Instant,
    looked: Instant,
    said: Instant,
    /// Where the publisher was at the first look, after what is awaited.
    awaited: Option<String>,
    watch: Watch,
}

impl<'a> Following<'a> {
    pub(super) fn wait(self) -> Wait<'a> {
        Wait {
            following: self,
            began: Instant::now(),
            looked: Instant::now(),
            said: Instant::now(),
            awaited: None,
            watch: Watch::default(),
        }
    }

    /// What the catalogs show of why its workers end; the server's own words are in its log alone.
    fn suspects(self) -> Result<Option<String>> {
        let Following { pair, stream, .. } = self;
        let open = |login| -> Result<(Session, Session)> {
            Ok((
                pair.publisher.connect(login, &stream.dbname)?,
                pair.subscriber.connect(login, &stream.dbname)?,
            ))
        };
        let (from, to) = open(Login::Superuser)?;
        let login = pair.publisher.credentials(Login::Replication);
        let login = login.or_else(|_| pair.publisher.credentials(Login::Superuser))?;
        let as_owner = || pair.subscriber.connect(Login::DbOwner, &stream.dbname);
        Ok(in_words(&suspects(&Stopped {
            from: &from,
            to: &to,
            as_owner: &as_owner,
            db_owner: &pair.subscriber.declared().db_owner.user,
            subname: &stream.subname,
            repl: login.user(),
            sides: (pair.publisher.side(), pair.subscriber.side()),
        })))
    }
}

impl Wait<'_> {
    /// Looks, when it is time to; an error when what is awaited will not come. `arrived` is asked once more before that.
    pub(super) fn look(
        &mut self,
        publisher: &Pinned,
        subscriber: &Pinned,
        arrived: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        if self.looked.elapsed() < EVERY {
            return Ok(());
        }
        let Following {
            stream, slot_name, ..
        } = self.following;
        let awaited = match &self.awaited {
            Some(lsn) => lsn.clone(),
            None => publisher
                .session()
                .value("SELECT pg_current_wal_insert_lsn()::text", params![])?,
        };
        let slot: Option<Slot> = publisher
            .session()
            .first(
                "SELECT jsonb_build_object('confirmed_flush_lsn', s.confirmed_flush_lsn, 'wal_status', to_jsonb(s) ->> 'wal_status',
                          'passed', coalesce(s.confirmed_flush_lsn >= $2::text::pg_lsn, false),
                          'behind', greatest(coalesce($2::text::pg_lsn - s.confirmed_flush_lsn, 0), 0)::bigint)
                   FROM pg_replication_slots s WHERE s.slot_name = $1",
                params![slot_name, awaited.as_str()],
            )
            .wrap_err("read what the subscriber has confirmed")?;
        self.awaited = Some(awaited);
        let health =
            subscriptions::health(subscriber.session(), &stream.subname, subscriber.major())?;
        self.looked = Instant::now();
        let verdict = self
            .watch
            .observe(self.began.elapsed(), slot.as_ref(), health.as_ref());
        match verdict {
            Verdict::Goes => {
                self.say_that_it_takes_long(slot.as_ref());
                Ok(())
            }
            _ if arrived()? => Ok(()),
            Verdict::Stands(why) => Err(self.stands(&why)),
            Verdict::Fails(why) => Err(self.fails(&why)),
        }
    }

    /// Rows that differ are looked at again once the subscriber has caught up with the writers.
    fn say_that_it_takes_long(&mut self, slot: Option<&Slot>) {
        if self.said.elapsed() < SAID_EVERY {
            return;
        }
        self.said = Instant::now();
        let behind = Size(slot.map_or(0, |it| it.behind.max(0) as u64));
        self.following.run.progress.step(&format!(
            "waiting for the {}: it has yet to confirm {behind} that were written before rows can be looked at again",
            self.follower()
        ));
    }

    fn follower(&self) -> Side {
        self.following.pair.subscriber.side()
    }

    fn stands(&self, why: &str) -> Report {
        Failure::new(format!("wait for the {}: {why}", self.follower()))
            .hint("flare lag says whether the subscription follows")
            .into()
    }

    /// Its workers end: with what ends them, where it can be seen.
    fn fails(&self, why: &str) -> Report {
        let suspects = self.following.suspects().unwrap_or_else(|report| {
            log::debug!("look for what ends the workers: {}", message_of(&report));
            None
        });
        let (to, subname) = (self.follower(), ShellWord(&self.following.stream.subname));
        match suspects {
            Some(words) => Failure::new(format!("wait for the {to}: {why}: {words}"))
                .hint("mend it: the worker of an enabled subscription tries again by itself; then run flare verify_data again"),
            None => Failure::new(format!("wait for the {to}: {why}")).hint(format!(
                "the reason is in the {to}'s server log; flare lag {subname} looks for it too. Mend it: the worker of an enabled subscription tries again by itself; then run flare verify_data again"
            )),
        }
        .into()
    }
}

/// What a look told.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Goes,
    /// Nothing will come, and no worker is at fault.
    Stands(String),
    /// Its worker ends over and over.
    Fails(String),
}

/// What was seen until now.
#[derive(Debug, Default)]
struct Watch {
    confirmed: Option<String>,
    heard: Option<String>,
    /// The last look that saw something move.
    moved_at: Duration,
    errors: Option<i64>,
    worker: Option<i32>,
    workers: i64,
    /// The last look whose worker was that of the look before.
    lasted_at: Duration,
    /// Whether the look before saw what is awaited confirmed.
    passed: bool,
}

impl Watch {
    /// One more look, `at` after the wait began.
    fn observe(&mut self, at: Duration, slot: Option<&Slot>, health: Option<&Health>) -> Verdict {
        let Some(health) = health else {
            return Verdict::Stands("its subscription has been dropped".into());
        };
        if !health.subenabled {
            return Verdict::Fails(
                "the subscription is disabled, by somebody or by an error (disable_on_error)"
                    .into(),
            );
        }
        let Some(slot) = slot else {
            return Verdict::Stands("its slot is missing on the side that sends".into());
        };
        if slot.wal_status.as_deref() == Some("lost") {
            return Verdict::Stands(
                "its slot is lost, the WAL that it needs was removed (max_slot_wal_keep_size)"
                    .into(),
            );
        }
        // What is applied is confirmed a moment later, and what is confirmed can be read.
        if std::mem::replace(&mut self.passed, slot.passed) && slot.passed {
            return Verdict::Stands(
                "it has confirmed what was written, which is not there: something there takes rows of flare_replication_status away"
                    .into(),
            );
        }
        if slot.confirmed_flush_lsn != self.confirmed {
            self.confirmed.clone_from(&slot.confirmed_flush_lsn);
            (self.errors, self.workers) = (None, 0);
            (self.moved_at, self.lasted_at) = (at, at);
        }
        if health.pid.is_some() && health.pid == self.worker {
            self.lasted_at = at;
            // Within a large transaction nothing is confirmed, but messages are taken.
            if health.heard_at != self.heard {
                self.moved_at = at;
            }
        } else if health.pid.is_some() {
            self.workers += 1;
        }
        self.heard.clone_from(&health.heard_at);
        self.worker = health.pid.or(self.worker);
        let errors = health.apply_error_count.unwrap_or(0);
        let failed = errors - *self.errors.get_or_insert(errors);
        if failed >= ATTEMPTS {
            return Verdict::Fails(format!("applying has failed {failed} times meanwhile"));
        }
        // The first worker that was seen is no new one.
        if self.workers - 1 > ATTEMPTS {
            return Verdict::Fails(
                "its apply worker ends and is started anew, over and over".into(),
            );
        }
        let without = WITHOUT_WORKER.max(Duration::from_millis(health.retry_ms) * 3);
        if at.saturating_sub(self.lasted_at) >= without {
            return Verdict::Fails(format!(
                "no apply worker has lasted for {} s",
                without.as_secs()
            ));
        }
        let standing = at.saturating_sub(self.moved_at);
        if standing >= LIMIT {
            return Verdict::Stands(format!(
                "it has not moved for {} s, and what was written has not arrived",
                LIMIT.as_secs()
            ));
        }
        Verdict::Goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(confirmed: &str) -> Slot {
        Slot {
            confirmed_flush_lsn: Some(confirmed.into()),
            wal_status: None,
            behind: 0,
            passed: false,
        }
    }

    fn health(pid: Option<i32>, errors: Option<i64>) -> Health {
        Health {
            subenabled: true,
            pid,
            apply_error_count: errors,
            heard_at: Some("then".into()),
            ..Health::default()
        }
    }

    /// When it was found not to go on, looked at each second; none within five minutes.
    fn ends(look: impl Fn(u64) -> (Slot, Health)) -> Option<(u64, Verdict)> {
        let mut watch = Watch::default();
        (1..300).find_map(|second| {
            let (slot, health) = look(second);
            let verdict = watch.observe(Duration::from_secs(second), Some(&slot), Some(&health));
            (verdict != Verdict::Goes).then_some((second, verdict))
        })
    }

    #[test]
    fn a_worker_that_fails_is_seen_soon() {
        let failing = ends(|at| (slot("1"), health(None, Some(at as i64 / 5))));
        assert!(
            matches!(failing, Some((10, Verdict::Fails(_)))),
            "{failing:?}"
        );
        // Before 15 nobody counts, and a worker that lives for a moment is seldom seen.
        let gone = ends(|_| (slot("1"), health(None, None)));
        assert!(matches!(gone, Some((16, Verdict::Fails(_)))), "{gone:?}");
        let anew = ends(|at| (slot("1"), health(Some(at as i32 / 8), None)));
        assert!(matches!(anew, Some((24, Verdict::Fails(_)))), "{anew:?}");
        let disabled = ends(|_| (slot("1"), Health::default()));
        assert!(
            matches!(disabled, Some((1, Verdict::Fails(_)))),
            "{disabled:?}"
        );
    }

    #[test]
    fn one_that_is_slow_is_waited_for() {
        let slow = |at: u64| (slot(&(at / 100).to_string()), health(Some(7), Some(3)));
        assert_eq!(ends(slow), None);
        // A worker that was ended once; one that was not heard of for a while.
        let once = |at: u64| match at {
            0..50 => (slot("1"), health(Some(7), Some(3))),
            50..55 => (slot("1"), health(None, Some(3))),
            _ => (slot(&(at / 50).to_string()), health(Some(8), Some(4))),
        };
        assert_eq!(ends(once), None);
        let large = |at: u64| {
            let heard_at = Some(at.to_string());
            let health = health(Some(7), Some(3));
            (slot("1"), Health { heard_at, ..health })
        };
        assert_eq!(ends(large), None);
        let stands = ends(|_| (slot("1"), health(Some(7), Some(3))));
        assert!(
            matches!(stands, Some((121, Verdict::Stands(_)))),
            "{stands:?}"
        );
    }

    #[test]
    fn what_is_gone_does_not_come() {
        let here = health(Some(7), None);
        let mut watch = Watch::default();
        let mut observe = |slot: Option<&Slot>, health: Option<&Health>| {
            watch.observe(Duration::from_secs(1), slot, health)
        };
        let stands = |verdict| matches!(verdict, Verdict::Stands(_));
        assert!(stands(observe(Some(&slot("1")), None)));
        assert!(stands(observe(None, Some(&here))));
        let lost = Slot {
            wal_status: Some("lost".into()),
            ..slot("1")
        };
        assert!(stands(observe(Some(&lost), Some(&here))));
        let passed = Slot {
            passed: true,
            ..slot("1")
        };
        assert!(!stands(observe(Some(&passed), Some(&here))));
        assert!(stands(observe(Some(&passed), Some(&here))));
    }
}
