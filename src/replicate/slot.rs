//! The slot behind a subscription: made and dropped through the publisher's verified session.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crossbeam_channel::Select;
use postgres::error::SqlState;

use crate::catalog::{activity, slots};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::progress::Progress;
use crate::server::{
    Login, Publisher, Session, Timeout, interrupt, is_denied, is_lost, params, sqlstate_of,
};
use crate::value::{Ident, Literal};

/// How long a new slot may wait for transactions that were open before it.
const WAIT_FOR_TRANSACTIONS: Duration = Duration::from_secs(30);
/// After this long the publisher's timeout is not trusted any more.
const GRACE: Duration = Duration::from_secs(5);
/// When whoever keeps the new slot waiting is named.
const NAME_AFTER: Duration = Duration::from_secs(1);
/// How long a slot may stay active after its subscription has gone; half of it until its walsender is terminated.
const WAIT_FOR_RELEASE: Duration = Duration::from_secs(10);

/// What a slot is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standby {
    /// It lives on this server alone.
    Ignored,
    /// It is kept on the publisher's standbys too (17+).
    Failover,
}

/// The statement that makes the slot.
pub(crate) fn creation(slot_name: &str, standby: Standby) -> String {
    let failover = match standby {
        Standby::Ignored => "",
        Standby::Failover => ", failover => true",
    };
    format!(
        "SELECT pg_create_logical_replication_slot({}, 'pgoutput'{failover})",
        Literal(slot_name)
    )
}

/// Makes a slot as an account that may; names the open transactions that it has to wait for.
pub(crate) fn create(
    publisher: &Publisher,
    dbname: &str,
    slot_name: &str,
    sql: &str,
    progress: &dyn Progress,
) -> Result<()> {
    let as_login = |login| create_as(publisher, login, dbname, slot_name, sql, progress);
    let made = match as_login(Login::Superuser) {
        Err(report) if is_denied(&report) && publisher.declared().repl.is_some() => {
            log::info!("the superuser account may not create slots, trying repl_user: {report:#}");
            as_login(Login::Replication)
        }
        made => made,
    };
    made.map_err(|report| advise_denied(report, publisher))
        .wrap_err_with(|| format!("create replication slot {slot_name:?}"))
}

fn advise_denied(report: Report, publisher: &Publisher) -> Report {
    if !is_denied(&report) {
        return report;
    }
    let host = publisher.declared();
    let user = Ident::new(&host.repl.as_ref().unwrap_or(&host.superuser).user);
    Err::<(), _>(report)
        .hint(|| {
            format!("slots need the REPLICATION attribute: ALTER ROLE {user} REPLICATION; on Amazon RDS GRANT rds_replication TO {user}")
        })
        .unwrap_err()
}

fn create_as(
    publisher: &Publisher,
    login: Login,
    dbname: &str,
    slot_name: &str,
    sql: &str,
    progress: &dyn Progress,
) -> Result<()> {
    let (session, facts) = publisher.introduce(login, dbname)?;
    // On the server: a backend that waits for transactions does not see that its client has gone.
    session.batch(&format!(
        "SET statement_timeout = {}",
        WAIT_FOR_TRANSACTIONS.as_millis()
    ))?;
    let since = Instant::now();
    let statement = sql.to_owned();
    let answer = session.start(move |client| client.batch_execute(&statement))?;
    let mut named = BTreeSet::new();
    let mut last = Vec::new();
    let made = loop {
        let signal = interrupt::channel();
        let mut ready = Select::new();
        ready.recv(&answer);
        ready.recv(&signal);
        let waited = ready.ready_timeout(Duration::from_millis(500)).is_err();
        if !waited || since.elapsed() > WAIT_FOR_TRANSACTIONS + GRACE {
            break session.wait(&answer, Timeout::For(Duration::ZERO));
        }
        if since.elapsed() < NAME_AFTER {
            continue;
        }
        last = activity::writers(publisher.admin(), 1, facts.pid)?;
        for writer in &last {
            let name = (writer.pid, writer.gid.clone());
            if named.insert(name) {
                progress.step(&format!(
                    "replication slot {slot_name:?} waits for an open transaction: {writer}"
                ));
            }
        }
    };
    let timed_out =
        |report: &Report| is_lost(report) || sqlstate_of(report) == Some(&SqlState::QUERY_CANCELED);
    match made {
        Err(report) if timed_out(&report) && since.elapsed() >= WAIT_FOR_TRANSACTIONS => {
            Err(too_long(report, &last))
        }
        made => made,
    }
}

fn too_long(report: Report, writers: &[activity::Writer]) -> Report {
    let limit = humantime::format_duration(WAIT_FOR_TRANSACTIONS);
    if writers.is_empty() {
        return report.wrap_err(format!(
            "transactions that were open before it did not end within {limit} (flare sees none: their owner may be hidden from it without pg_monitor)"
        ));
    }
    let words: Vec<String> = writers.iter().map(ToString::to_string).collect();
    let ends = writers
        .iter()
        .map(|writer| match (&writer.gid, writer.pid) {
            (Some(gid), _) => format!(
                "ROLLBACK PREPARED {} in database {:?}",
                Literal(gid),
                writer.dbname.as_deref().unwrap_or_default()
            ),
            (None, pid) => format!("SELECT pg_terminate_backend({})", pid.unwrap_or_default()),
        });
    let ends: Vec<String> = ends.collect();
    Failure::new(format!(
        "transactions that were open before it did not end within {limit}: {}; nothing was changed",
        words.join(", ")
    ))
    .hint(format!(
        "wait for them or end them ({}), then run the command again",
        ends.join("; ")
    ))
    .into()
}

/// Drops a slot once nobody uses it; a walsender that does not let go is terminated. One that is gone already is all right.
pub(crate) fn drop(publisher: &Publisher, slot_name: &str) -> Result<()> {
    let repl = publisher.declared().repl.is_some();
    let dropped = match drop_in(publisher.admin(), publisher, slot_name) {
        Err(report) if is_denied(&report) && repl => {
            let session = publisher.connect(Login::Replication, "postgres")?;
            drop_in(&session, publisher, slot_name)
        }
        dropped => dropped,
    };
    dropped
        .map_err(|report| advise_denied(report, publisher))
        .wrap_err_with(|| format!("drop replication slot {slot_name:?}"))
}

fn drop_in(session: &Session, publisher: &Publisher, slot_name: &str) -> Result<()> {
    let since = Instant::now();
    let mut terminated = false;
    loop {
        let Some(slot) = slots::find(session, slot_name)? else {
            return Ok(());
        };
        if !slot.active {
            let sql = "SELECT pg_drop_replication_slot($1)";
            match session.execute(sql, params![slot_name]) {
                Ok(_) => return Ok(()),
                Err(report) if sqlstate_of(&report) == Some(&SqlState::UNDEFINED_OBJECT) => {
                    return Ok(());
                }
                Err(report) if sqlstate_of(&report) == Some(&SqlState::OBJECT_IN_USE) => {}
                Err(report) => return Err(report),
            }
        }
        if since.elapsed() > WAIT_FOR_RELEASE {
            return Failure::new(format!(
                "it is still in use by pid {}",
                slot.active_pid.unwrap_or_default()
            ))
            .hint("end that walsender on the publisher and run the command again")
            .err();
        }
        if let Some(pid) = slot.active_pid
            && !terminated
            && since.elapsed() > WAIT_FOR_RELEASE / 2
        {
            terminated = true;
            publisher
                .admin()
                .execute("SELECT pg_terminate_backend($1)", params![pid])
                .wrap_err_with(|| format!("terminate its walsender {pid}"))?;
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_blocks_is_named_with_the_way_to_end_it() {
        let writer = |pid, gid: Option<&str>| activity::Writer {
            pid,
            gid: gid.map(str::to_owned),
            user: Some("app".into()),
            dbname: Some("shop".into()),
            state: None,
            age_seconds: 90,
        };
        let cause = Failure::new("canceled").into();
        let report = too_long(cause, &[writer(Some(7), None), writer(None, Some("g'1"))]);
        let message = crate::error::message_of(&report);
        assert!(
            message.contains(r#"pid 7 (user "app", database "shop", for 90 s)"#),
            "{message}"
        );
        assert!(
            message.contains(r#"prepared transaction "g'1""#),
            "{message}"
        );
        let hint = crate::error::hint_of(&report).unwrap();
        assert!(hint.contains("ROLLBACK PREPARED 'g''1'"), "{hint}");
    }
}
