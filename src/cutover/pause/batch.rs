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

use crate::cutover::pause::signal::Signal;
use crate::cutover::report::{StepName, StepTime};
use crate::cutover::sessions::TrackedSession;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::server::{Session, interrupt, is_lost, sqlstate_of};
use crate::value::Literal;

/// A batch that was sent.
pub(in crate::cutover) struct Sent<'a> {
    pub(in crate::cutover) step: StepName,
    /// What is being attempted, for the error.
    attempt: String,
    session: &'a Session,
    answer: Receiver<std::result::Result<Option<String>, postgres::Error>>,
}

/// What a batch has answered: how long its own work took on its server, and what it found.
#[derive(Debug, Deserialize)]
pub(in crate::cutover) struct Answer {
    ms: f64,
    /// How long it waited before.
    #[serde(default)]
    waited_ms: f64,
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
    start(step, attempt.into(), session, sql, |_| Ok(()))
}

/// When what a batch has committed outlives a crash of its server. Others see it at once either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cutover) enum Durable {
    /// Before the signal is given.
    AtOnce,
    /// With the next commit of that server that is durable at once: nothing may rest on this one before.
    WithTheNext,
}

/// Sends a block as a transaction of its own, with a signal when what it did can be seen. The session can be used again
/// when it fails.
pub(in crate::cutover) fn send_committing<'a>(
    step: StepName,
    attempt: impl Into<String>,
    session: &'a TrackedSession,
    block: &str,
    durable: Durable,
    signal: Signal,
) -> Result<Sent<'a>> {
    let sql = committing(block, durable, signal);
    start(step, attempt.into(), session, sql, |client| {
        client.batch_execute("ROLLBACK")
    })
}

fn start(
    step: StepName,
    attempt: String,
    session: &TrackedSession,
    sql: String,
    when_refused: fn(&mut postgres::Client) -> std::result::Result<(), postgres::Error>,
) -> Result<Sent<'_>> {
    let session = &session.session;
    log::trace!("{}: {sql}", session.endpoint());
    let answer = session.start(move |client| {
        let answer = last_row(client, &sql);
        if answer
            .as_ref()
            .is_err_and(|error| error.as_db_error().is_some())
        {
            when_refused(client)?;
        }
        answer
    })?;
    Ok(Sent {
        step,
        attempt,
        session,
        answer,
    })
}

fn last_row(
    client: &mut postgres::Client,
    sql: &str,
) -> std::result::Result<Option<String>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(rows.last())
}

/// Waits for all batches of a round. When one fails the others are cancelled, and its error is the round's: what the
/// others wait for does not come any more.
pub(in crate::cutover) fn await_all(sent: Vec<Sent<'_>>, until: Instant) -> Result<Round> {
    await_each(sent, until, |_| ())
}

/// The same, and tells of each that has answered, by its place in the order, while the others are under way.
pub(in crate::cutover) fn await_each(
    sent: Vec<Sent<'_>>,
    until: Instant,
    mut has_answered: impl FnMut(usize),
) -> Result<Round> {
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
                sent[answered].read(Duration::ZERO).map(|answer| {
                    answers[answered] = answer;
                    if answers[answered].is_some() {
                        has_answered(answered);
                    }
                })
            }
            Err(_) => {
                let late = &sent[waiting[0]];
                late.session
                    .timed_out()
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
        log::debug!(
            "{}: {}: {:.1} ms after {:.1} ms of waiting",
            sent.step.as_str(),
            sent.attempt,
            answer.ms,
            answer.waited_ms
        );
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

/// All have one deadline, and whoever waits for another's step is late together with it, or ended by the guard: the
/// earliest step is the cause.
fn first_cause(sent: &[Sent<'_>], earlier: &[usize], report: Report) -> Report {
    let late = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
    let is_late = sqlstate_of(&report).is_some_and(|state| late.contains(state));
    if !is_late && !is_lost(&report) {
        return report;
    }
    let until = Instant::now() + LATE_TOGETHER;
    let left = || until.saturating_duration_since(Instant::now());
    let mut causes = earlier.iter().map(|at| sent[*at].read(left()));
    causes.find_map(Result::err).unwrap_or(report)
}

impl Sent<'_> {
    /// The answer, if it comes within that time.
    fn read(&self, within: Duration) -> Result<Option<Answer>> {
        let read = || -> Result<Option<Answer>> {
            let Some(text) = self.session.poll(&self.answer, within)? else {
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
           began CONSTANT timestamptz := clock_timestamp();
           until CONSTANT timestamptz := began + {left} * interval '1 millisecond';
           since timestamptz;
           given boolean;
           answer jsonb := 'null';
           {declare}
         BEGIN
           {waits}
           since := clock_timestamp();
           {body}
           PERFORM set_config('flare.answer', jsonb_build_object(
               'ms', extract(epoch FROM clock_timestamp() - since) * 1000, 'waited_ms', extract(epoch FROM since - began) * 1000, 'found', answer)::text, false);
         END",
        left = left.as_millis(),
    );
    format!("DO LANGUAGE plpgsql {}", Literal(&body))
}

/// A statement with variables would be planned anew for its first five executions (12 and newer; before, there is no such
/// setting).
const PLAN_ONCE: &str = "
    SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings WHERE name = 'plan_cache_mode'";

/// Has a session use once what its batch will use: what is read and planned for the first time costs some milliseconds.
/// Then it takes the locks of the signals that it will give.
pub(in crate::cutover) fn rehearse<'a>(
    session: &'a TrackedSession,
    step: StepName,
    declare: &str,
    body: &str,
    gives: &[Signal],
) -> Result<Sent<'a>> {
    let looks = format!(
        "PERFORM {}; {body}",
        Signal::Revoked.given_by(session.backend.pid)
    );
    let block = block(Duration::ZERO, declare, "", &looks);
    let holds: String = gives.iter().map(|it| format!("{}; ", it.hold())).collect();
    let sql = format!("{PLAN_ONCE}; {holds}{}", answering(&block));
    send(step, "rehearse the pause", session, sql)
}

/// The statement that gives the block's answer back.
pub(in crate::cutover) fn answering(block: &str) -> String {
    format!("{block}; SELECT current_setting('flare.answer')")
}

fn committing(block: &str, durable: Durable, signal: Signal) -> String {
    let begin = match durable {
        Durable::AtOnce => "BEGIN",
        Durable::WithTheNext => "BEGIN; SET LOCAL synchronous_commit = off",
    };
    format!(
        "{begin}; {block}; COMMIT; SELECT {}; SELECT current_setting('flare.answer')",
        signal.giving()
    )
}

/// Statements of a block that are run twice, before its wait and after: what has to be planned is planned by then. They
/// see by `pass` which time it is.
pub(in crate::cutover) fn twice(wait: &str, statements: &str) -> String {
    format!(
        "FOR pass IN 1..2 LOOP IF pass = 2 THEN {ready} {wait} END IF; {statements} END LOOP;",
        ready = Signal::Ready.show()
    )
}

/// Cancels batches whose round does not take place.
pub(in crate::cutover) fn cancel<'a>(sent: impl IntoIterator<Item = &'a Sent<'a>>) {
    for sent in sent {
        sent.session.cancel();
    }
}

/// Looks every millisecond (less `pg_sleep` cannot) until a condition holds, or fails at the deadline: for what no lock of
/// this database can tell. A look at pg_locks visits every process that the server may have: few may look at once.
pub(in crate::cutover) fn wait_until(condition: &str, for_what: &str) -> String {
    format!(
        "LOOP
           EXIT WHEN {condition};
           IF clock_timestamp() > until THEN
             RAISE EXCEPTION 'the pause is longer than max_pause: not in time: %', {for_what}
               USING ERRCODE = 'query_canceled';
           END IF;
           PERFORM pg_sleep(0.001);
         END LOOP;",
        for_what = Literal(for_what),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_comes_after_what_it_says_can_be_seen() {
        let sql = committing("DO LANGUAGE plpgsql ''", Durable::AtOnce, Signal::Opened);
        let at = |text: &str| sql.find(text).unwrap();
        assert!(at("BEGIN") < at("DO ") && at("DO ") < at("COMMIT"), "{sql}");
        assert!(at("COMMIT") < at("pg_advisory_lock"), "{sql}");
        assert!(sql.ends_with("SELECT current_setting('flare.answer')"));
    }
}
