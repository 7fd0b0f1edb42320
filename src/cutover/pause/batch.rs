//! One server's part of the pause: a text of several statements that the server runs by itself, in one round trip.
//!
//! All batches of a round are sent at once on sessions of their own, and put in order by the servers: each waits there
//! for what it needs, bounded by a deadline on that server's clock. So the distance is paid once a round.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select};
use postgres::SimpleQueryMessage;
use postgres::error::SqlState;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cutover::report::{StepName, StepTime};
use crate::cutover::sessions::TrackedSession;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::server::{Session, interrupt, sqlstate_of};
use crate::value::Literal;

/// A batch that was sent.
pub(in crate::cutover) struct Sent<'a> {
    step: StepName,
    /// What is being attempted, for the error.
    attempt: String,
    session: &'a Session,
    answer: Receiver<std::result::Result<Option<String>, postgres::Error>>,
}

/// What a batch has answered: how long its own work took on its server, and what it found.
#[derive(Debug, Deserialize)]
pub(in crate::cutover) struct Answer {
    ms: f64,
    #[serde(default)]
    found: serde_json::Value,
}

impl Answer {
    /// What it found, as the batch's file knows it.
    pub(in crate::cutover) fn found<T: DeserializeOwned>(self) -> Result<T> {
        serde_json::from_value(self.found).wrap_err("read the answer of a batch")
    }
}

/// The answers of a round, by the order in which its batches were given.
pub(in crate::cutover) struct Round {
    pub(in crate::cutover) answers: Vec<Answer>,
    /// How long each step took on its server.
    pub(in crate::cutover) steps: Vec<StepTime>,
}

/// Sends a batch. Its last statement answers with [`answering`].
pub(in crate::cutover) fn send<'a>(
    step: StepName,
    attempt: impl Into<String>,
    session: &'a TrackedSession,
    sql: String,
) -> Result<Sent<'a>> {
    let session = &session.session;
    log::trace!("{}: {sql}", session.endpoint());
    let answer = session.start(move |client| {
        let messages = client.simple_query(&sql)?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.last())
    })?;
    Ok(Sent {
        step,
        attempt: attempt.into(),
        session,
        answer,
    })
}

/// Waits for all batches of a round. When one fails the others are cancelled, and its error is the round's: what the
/// others wait for does not come any more.
pub(in crate::cutover) fn await_all(sent: Vec<Sent<'_>>, until: Instant) -> Result<Round> {
    let mut answers: Vec<Option<Answer>> = sent.iter().map(|_| None).collect();
    while answers.iter().any(Option::is_none) {
        let waiting: Vec<usize> = (0..sent.len())
            .filter(|at| answers[*at].is_none())
            .collect();
        let signal = interrupt::channel();
        let mut select = Select::new();
        for at in &waiting {
            select.recv(&sent[*at].answer);
        }
        let interrupted = select.recv(&signal);
        let ready = select.ready_timeout(until.saturating_duration_since(Instant::now()));
        let mut answered = sent.len();
        let outcome = match ready {
            Ok(index) if index == interrupted => Err(interrupt::interrupted()),
            Ok(index) => {
                answered = waiting[index];
                sent[answered]
                    .read()
                    .map(|answer| answers[answered] = answer)
            }
            Err(_) => {
                let late = &sent[waiting[0]];
                late.session
                    .timed_out(until)
                    .wrap_err_with(|| late.attempt.clone())
                    .wrap_err(late.step.as_str())
            }
        };
        if let Err(report) = outcome {
            let earlier: Vec<usize> = waiting
                .iter()
                .copied()
                .filter(|at| *at < answered)
                .collect();
            let cause = first_cause(&sent, &earlier, report);
            for at in waiting {
                sent[at].session.cancel();
            }
            return Err(cause);
        }
    }
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let mut steps: Vec<StepTime> = Vec::new();
    for (sent, answer) in sent.iter().zip(&answers) {
        match steps.iter_mut().find(|known| known.step == sent.step) {
            // Several databases, or two sessions of one step: they run at once, the slowest counts.
            Some(known) => known.ms = known.ms.max(answer.ms),
            None => steps.push(StepTime {
                step: sent.step,
                ms: answer.ms,
            }),
        }
    }
    Ok(Round { answers, steps })
}

/// How long others may take to say that they were late too.
const LATE_TOGETHER: Duration = Duration::from_millis(100);

/// All have one deadline, and whoever waits for another's step is late together with it: the earliest step is the cause.
fn first_cause(sent: &[Sent<'_>], earlier: &[usize], report: Report) -> Report {
    let late = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
    if !sqlstate_of(&report).is_some_and(|state| late.contains(state)) {
        return report;
    }
    std::thread::sleep(LATE_TOGETHER);
    let cause = earlier.iter().find_map(|at| sent[*at].read().err());
    cause.unwrap_or(report)
}

impl Sent<'_> {
    fn read(&self) -> Result<Option<Answer>> {
        let read = || -> Result<Option<Answer>> {
            let Some(text) = self.session.poll(&self.answer, Duration::ZERO)? else {
                return Ok(None);
            };
            let text = text.ok_or_else(|| Failure::new("the batch answered nothing"))?;
            serde_json::from_str(&text)
                .map(Some)
                .wrap_err("read the answer of a batch")
        };
        read()
            .wrap_err_with(|| self.attempt.clone())
            .wrap_err(self.step.as_str())
    }
}

/// A `DO` whose body runs when `waits` is over. Both may use `until`, the deadline, and `answer`, a jsonb that is answered.
pub(in crate::cutover) fn block(left: Duration, declare: &str, waits: &str, body: &str) -> String {
    let body = format!(
        "DECLARE
           until CONSTANT timestamptz := clock_timestamp() + {left} * interval '1 millisecond';
           since timestamptz;
           answer jsonb := 'null';
           {declare}
         BEGIN
           {waits}
           since := clock_timestamp();
           {body}
           PERFORM set_config('flare.answer', jsonb_build_object(
               'ms', extract(epoch FROM clock_timestamp() - since) * 1000, 'found', answer)::text, false);
         END",
        left = left.as_millis(),
    );
    format!("DO LANGUAGE plpgsql {}", Literal(&body))
}

/// The statement that gives the block's answer back.
pub(in crate::cutover) fn answering(block: &str) -> String {
    format!("{block}; SELECT current_setting('flare.answer')")
}

/// The same as a transaction of its own, and a signal when what it did can be seen.
pub(in crate::cutover) fn committing(block: &str, signal: Signal) -> String {
    format!(
        "BEGIN; {block}; COMMIT; SELECT {}; SELECT current_setting('flare.answer')",
        signal.lock()
    )
}

/// Looks every half millisecond until a condition holds, or fails at the deadline. pg_locks is never cached;
/// the activity view is, within a transaction, before 15.
pub(in crate::cutover) fn wait_until(condition: &str, for_what: &str) -> String {
    format!(
        "LOOP
           PERFORM pg_stat_clear_snapshot();
           EXIT WHEN {condition};
           IF clock_timestamp() > until THEN
             RAISE EXCEPTION 'the pause is longer than max_pause: not in time: %', {for_what}
               USING ERRCODE = 'query_canceled';
           END IF;
           PERFORM pg_sleep(0.0005);
         END LOOP;",
        for_what = Literal(for_what),
    )
}

/// The advisory lock by which a session says that it has come so far; it ends with the session.
#[derive(Clone, Copy, Debug)]
pub(in crate::cutover) enum Signal {
    /// Every session of the application has ended.
    Terminated = 1,
    /// The sequences are set.
    Sequences = 2,
    /// The fence is open.
    Opened = 3,
}

/// The first key of the signals' locks: "flsi" in ASCII.
const SIGNALS: i32 = 0x66_6c_73_69;

impl Signal {
    fn lock(self) -> String {
        format!("pg_advisory_lock({SIGNALS}, {})", self as i32)
    }

    /// The statement that gives it, in a block: others hear of it before the block has committed.
    pub(in crate::cutover) fn give(self) -> String {
        format!("PERFORM {};", self.lock())
    }

    /// True when the server process has given it.
    pub(in crate::cutover) fn given_by(self, pid: i32) -> String {
        format!(
            "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = {pid}
                AND classid::bigint = {SIGNALS} AND objid::bigint = {})",
            self as i32
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_comes_after_what_it_says_can_be_seen() {
        let sql = committing("DO LANGUAGE plpgsql ''", Signal::Opened);
        let at = |text: &str| sql.find(text).unwrap();
        assert!(at("BEGIN") < at("DO ") && at("DO ") < at("COMMIT"), "{sql}");
        assert!(at("COMMIT") < at("pg_advisory_lock"), "{sql}");
        assert!(sql.ends_with("SELECT current_setting('flare.answer')"));
    }
}
