//! open and answer: *to* opens, and *from* answers again, read-only. One round trip after the point of no return.
//!
//! On *to* the fences open first, each by replacing its one function; then the journal's `switched` with the database's own
//! default for new sessions; then the sessions that began before, which would keep the old default, are ended.

use serde::Deserialize;

use crate::config::Left;
use crate::cutover::exits::undo::{OpenTarget, again_while_it_passes};
use crate::cutover::pause::backends::end_and_await;
use crate::cutover::pause::batch::{self, Durable, Sent};
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::revoke::again_while_row_is_busy;
use crate::cutover::pause::signal::Signal;
use crate::cutover::pause::terminate::own_pids_on_to;
use crate::cutover::report::StepName;
use crate::cutover::sessions::Sessions;
use crate::cutover::state::{Database, Pause};
use crate::error::{Report, Result, WrapErr, message_of};
use crate::journal::{self, Step, Transition};
use crate::replicate::fence;
use crate::server::{ActAs, Session, is_lost, timed_out};
use crate::value::{Literal, counted};

/// Sends what opens the fence of one database.
fn send_fence<'a>(pause: &'a Pause<'_>, database: &'a Database) -> Result<Sent<'a>> {
    let open = if database.target.fenced {
        format!("EXECUTE {};", Literal(&fence::opened()))
    } else {
        String::new()
    };
    let block = batch::block(pause.deadline.left(), "", "", &open);
    batch::send_committing(
        StepName::Open,
        format!("open the fence of {:?}", database.dbname()),
        &database.sessions.arrival,
        // Given before the commit, new sessions could be read-write while the fence still stands for them.
        &block,
        // `switched` is, and comes after.
        Durable::WithTheNext,
        Signal::Opened,
    )
}

/// Sends what opens the databases of *to*, and writes `switched`.
fn send_switched<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let opened: Vec<String> = pause
        .databases
        .iter()
        .map(|database| Signal::Opened.given_by(database.sessions.arrival.backend.pid))
        .collect();
    let waits = batch::wait_until(&opened.join(" AND "), "the fences were not opened");
    let statements: Vec<String> = OpenTarget::of(pause)
        .statements()
        .iter()
        .map(|sql| format!("EXECUTE {};", Literal(sql)))
        .collect();
    let body = again_while_row_is_busy(&format!(
        "SELECT step INTO now FROM flare.journal WHERE run = {run} FOR UPDATE;
         IF now = {preparing} THEN
           {opened};
           {statements}
         ELSIF now IS DISTINCT FROM {switched} AND now IS DISTINCT FROM {closed} THEN
           RAISE EXCEPTION 'its journal has the run as %', now;
         END IF;",
        run = Literal(pause.run().to_string()),
        opened = Transition::Open.winning(pause.run()),
        preparing = Literal(Step::Preparing.as_str()),
        switched = Literal(Step::Switched.as_str()),
        closed = Literal(Step::Closed.as_str()),
        statements = statements.join(" "),
    ));
    let block = batch::block(
        pause.deadline.left(),
        "now text; tries int := 0;",
        &waits,
        &body,
    );
    batch::send_committing(
        StepName::Open,
        "open the target",
        &pause.sessions.target,
        &block,
        Durable::AtOnce,
        Signal::Switched,
    )
}

/// The sessions that were there before *to* was opened: they would stay read-only.
const OLDER: &str = "
    SELECT a.pid FROM pg_stat_activity a
     WHERE a.datname IN (SELECT jsonb_array_elements_text(dbnames)) AND a.pid <> ALL (own)
       AND a.backend_start < since
       AND coalesce(a.backend_type, 'client backend') IN ('client backend', 'background worker')
       AND NOT EXISTS (SELECT FROM pg_stat_subscription s WHERE s.pid = a.pid)";

/// Ends them.
const END_OLDER: &str = "
    PERFORM pg_stat_clear_snapshot();
    FOR r IN OLDER
    LOOP
      EXIT WHEN pass = 1;
      BEGIN
        PERFORM pg_terminate_backend(r.pid);
      EXCEPTION WHEN insufficient_privilege THEN
        spared := spared + 1;
      END;
    END LOOP;";

fn send_older<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let waits = Signal::Switched.await_from(
        pause.sessions.target.backend.pid,
        "the target was not opened",
    );
    let body = format!(
        "{} answer := jsonb_build_object('spared', spared);",
        batch::twice(
            &format!("{waits} since := clock_timestamp();"),
            &END_OLDER.replace("OLDER", OLDER)
        )
    );
    let block = batch::block(pause.deadline.left(), &declared(pause), "", &body);
    batch::send(
        StepName::Open,
        "end the sessions that began on the target before it was opened",
        &pause.sessions.target_watch,
        batch::answering(&block),
    )
}

/// Looks as the sessions will that open *to*, and neither opens it nor ends anybody.
pub(in crate::cutover) fn rehearse<'a>(pause: &'a Pause<'_>) -> Result<[Sent<'a>; 2]> {
    let Sessions {
        target,
        target_watch,
        ..
    } = &pause.sessions;
    let step = format!("PERFORM {};", journal::step_in_sql(pause.run()));
    let older = format!("PERFORM FROM ({OLDER}) older;");
    Ok([
        batch::rehearse(target, StepName::Open, "", &step, &[Signal::Switched])?,
        batch::rehearse(target_watch, StepName::Open, &declared(pause), &older, &[])?,
    ])
}

fn declared(pause: &Pause<'_>) -> String {
    format!(
        "own CONSTANT int[] := {}; dbnames CONSTANT jsonb := {}; spared int := 0; r record;",
        own_pids_on_to(pause),
        Literal(serde_json::json!(pause.dbnames()).to_string()),
    )
}

/// Sends what lets clients connect to *from* again, where they find a read-only server. The tables are still locked there.
fn send_answer<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let statements: Vec<String> = pause
        .databases
        .iter()
        .flat_map(|database| database.privileges.restoring())
        .map(|sql| format!("EXECUTE {};", Literal(&sql)))
        .collect();
    let block = batch::block(
        pause.deadline.left(),
        "tries int := 0;",
        "",
        &again_while_row_is_busy(&statements.join(" ")),
    );
    batch::send(
        StepName::Answer,
        "give CONNECT back on the server that was left",
        &pause.sessions.connect,
        batch::answering(&block),
    )
}

/// Opens *to*; a lost answer is asked for again by another session, as long as the server comes back. Then *from* answers:
/// what fails there is done after the fence.
pub(in crate::cutover) fn open(pause: &mut Pause<'_>) -> Result<()> {
    let answer = match pause.config.cutover.left {
        Left::ReadOnly => Some(send_answer(pause)),
        Left::Shut => None,
    };
    let mut warnings = Vec::new();
    let mut steps = Vec::new();
    match opened(pause) {
        Ok((open, older)) => {
            steps.extend(open.steps);
            warnings.extend(read_only_until_they_reconnect(older));
        }
        // One that says nothing says nothing to another session either: it is the guard's.
        Err(report) if is_lost(&report) && !timed_out(&report) => {
            by_another_session(pause, &report)?
        }
        Err(report) => return Err(report),
    }
    let opened_at = std::time::Instant::now();
    if let Some(answer) = answer {
        let answered = answer
            .and_then(|sent| batch::await_all(vec![sent], pause.deadline.at()))
            .map(|round| round.steps);
        match answered {
            Ok(answered) => steps.extend(answered),
            // The session may have been lost at the point of no return.
            Err(report) => log::info!("{report:#}; it is given after the fence"),
        }
    }
    pause.opened_at = Some(opened_at);
    pause.steps.extend(steps);
    pause.warnings.extend(warnings);
    Ok(())
}

/// *to* is open when its fences and `switched` have answered, whatever becomes of the sessions that were there before.
fn opened(pause: &Pause<'_>) -> Result<(batch::Round, Result<batch::Round>)> {
    let mut sent = Vec::new();
    for database in &pause.databases {
        sent.push(send_fence(pause, database)?);
    }
    sent.push(send_switched(pause)?);
    let older = send_older(pause);
    let until = pause.deadline.at();
    let opened = match batch::await_all(sent, until) {
        Ok(opened) => opened,
        Err(report) => {
            batch::cancel(&older);
            return Err(report);
        }
    };
    Ok((
        opened,
        older.and_then(|sent| batch::await_all(vec![sent], until)),
    ))
}

/// What is to be said of the sessions that began before *to* was opened.
fn read_only_until_they_reconnect(ended: Result<batch::Round>) -> Option<String> {
    #[derive(Deserialize)]
    struct Found {
        spared: i64,
    }
    let found = ended.and_then(|round| {
        let answer = round.answers.into_iter().next();
        answer.map(batch::Answer::found::<Found>).transpose()
    });
    let which = match found {
        Ok(None | Some(Found { spared: 0 })) => return None,
        Ok(Some(Found { spared })) => format!(
            "{} on the target began before it was opened and could not be ended",
            counted(spared, "session")
        ),
        Err(report) => format!(
            "sessions on the target that began before it was opened may still be there ({})",
            message_of(&report)
        ),
    };
    Some(format!("{which}: read-only until the client reconnects"))
}

fn by_another_session(pause: &Pause<'_>, cause: &Report) -> Result<()> {
    log::warn!("{cause:#}; trying again by another session");
    let to = &pause.pair.subscriber;
    let session = to
        .connect(pause.sessions.target_login, "postgres")
        .wrap_err("open the target")?;
    let lost = std::slice::from_ref(&pause.sessions.target.backend);
    for backend in journal::backends_alive(&session, lost)? {
        end_and_await(&session, &backend)?;
    }
    for database in &pause.databases {
        fence::open(&to.connect(ActAs::Tables, database.dbname())?)?;
    }
    OpenTarget::of(pause).open(&session, &pause.entry)
}

/// Gives the privileges of a database back, in the session's transaction.
pub(in crate::cutover) fn restore(session: &Session, privileges: &ConnectPrivileges) -> Result<()> {
    session
        .batch(&privileges.restoring().join("; "))
        .wrap_err_with(|| {
            format!(
                "give the privileges of database {:?} back",
                privileges.before().dbname
            )
        })
}

/// Restores privileges in a transaction of its own.
pub(in crate::cutover) fn restore_now(
    session: &Session,
    privileges: &ConnectPrivileges,
) -> Result<()> {
    again_while_it_passes(|| session.transaction(|session| restore(session, privileges)))
}
