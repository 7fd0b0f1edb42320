//! `resume_write`: ends a pause, whatever state it is in. It needs only the publisher.

use crate::catalog::privileges::DatabasePrivileges;
use crate::cutover::before::run_lock::privileges_of;
use crate::cutover::exits::undo::{self, Ended};
use crate::cutover::pause::backends::end_and_await;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::report::{ResumeReport, Writable};
use crate::cutover::sessions::as_database_owner;
use crate::error::{Failure, Result};
use crate::journal::{self, Direction, Entry, Step, Transition};
use crate::replicate::{Mode, Run, closed};
use crate::server::{Publisher, interrupt};
use crate::value::{Ident, parse_bool};

/// Gives the application its privileges back, exactly as they were.
pub(crate) fn resume_write(publisher: &Publisher, dbname: &str, run: &Run) -> Result<ResumeReport> {
    let admin = publisher.admin();
    let paused = journal::find(admin, dbname, &Step::SHUT)?;
    let paused = paused.and_then(|entry| Some((entry.member(dbname)?.clone(), entry)));
    let Some((member, entry)) = paused else {
        not_past_return(publisher, dbname)?;
        return nothing_to_resume(publisher, dbname, run);
    };
    let mut report = ResumeReport {
        changed: false,
        dry_run: run.mode == Mode::DryRun,
        run_id: Some(entry.run.to_string()),
        dbname: dbname.to_owned(),
        writable: Writable::None,
        statements: undo::reopening(&member),
        warnings: Vec::new(),
    };
    if run.mode == Mode::DryRun {
        return Ok(report);
    }
    let _shield = interrupt::Shield::raise();
    open(publisher, &entry, &privileges_of(&member), &mut report)?;
    Ok(report)
}

fn open(
    publisher: &Publisher,
    entry: &Entry,
    privileges: &ConnectPrivileges,
    report: &mut ResumeReport,
) -> Result<()> {
    let dbname = &privileges.before().dbname;
    if entry.step == Step::Paused {
        report.warnings.push(format!(
            "the pause by {} was still under way or had been left behind; it was ended",
            entry.holder
        ));
        for backend in journal::sessions_alive(publisher.admin(), entry.run)? {
            end_and_await(publisher.admin(), &backend)?;
        }
    }
    let transition = Transition::Resume(entry.purpose);
    let (ended, now) = as_database_owner(publisher, &[dbname], |session| {
        let ended = undo::open_from(session, entry, transition)?;
        Ok((ended, DatabasePrivileges::read(session, dbname)?))
    })?;
    match ended {
        Ended::Here => report.changed = true,
        Ended::Elsewhere(step) if step.is_past_return() => {
            return past_return(dbname, entry).err();
        }
        Ended::Elsewhere(_) => report
            .warnings
            .push("someone else has given CONNECT back at the same moment".into()),
    }
    report.writable = Writable::Publisher;
    if !now.same_as(privileges.before()) {
        report.warnings.push(
            "the privileges differ from those before the pause: someone has changed them meanwhile; compare \\l in psql".into(),
        );
    }
    Ok(())
}

/// Fails when a cutover has passed the point of no return, be it a moment ago: this side must not be opened any more.
fn not_past_return(publisher: &Publisher, dbname: &str) -> Result<()> {
    let beyond = [Step::Switching, Step::Switched, Step::Closed];
    match journal::find(publisher.admin(), dbname, &beyond)? {
        Some(entry) if entry.direction == Direction::Forward => past_return(dbname, &entry).err(),
        _ => Ok(()),
    }
}

fn past_return(dbname: &str, entry: &Entry) -> Failure {
    Failure::new(format!(
        "resume writes to {dbname:?} on the publisher: the {} has passed the point of no return",
        entry.command
    ))
    .hint("flare status says who can write where, and finishes it when both servers answer")
}

/// No pause is on record: says so, with the statement that gives back what somebody revoked by hand.
fn nothing_to_resume(publisher: &Publisher, dbname: &str, run: &Run) -> Result<ResumeReport> {
    let privileges = DatabasePrivileges::read(publisher.admin(), dbname)?;
    let open_to: Vec<String> = privileges
        .connect()
        .map(|entry| entry.grantee.clone().unwrap_or_else(|| "PUBLIC".into()))
        .collect();
    let open_to_all = open_to.iter().any(|grantee| grantee == "PUBLIC");
    let read_only = closed::now(publisher.admin(), dbname, None)?;
    let read_only = read_only.setting.as_deref().and_then(parse_bool) == Some(true);
    let held_by = if open_to.is_empty() {
        "nobody".to_owned()
    } else {
        open_to.join(", ")
    };
    let database = Ident::from(dbname);
    let mut warnings = vec![
        format!(
            "no pause of {dbname:?} is on record on the publisher; CONNECT is held by {held_by}"
        ),
        format!("to open it to everyone: GRANT CONNECT ON DATABASE {database} TO PUBLIC;"),
    ];
    if read_only {
        warnings.push(format!(
            "its sessions are read-only by default; to let them write: ALTER DATABASE {database} RESET default_transaction_read_only;"
        ));
    }
    Ok(ResumeReport {
        changed: false,
        dry_run: run.mode == Mode::DryRun,
        run_id: None,
        dbname: dbname.to_owned(),
        writable: if open_to_all && !read_only {
            Writable::Publisher
        } else {
            Writable::None
        },
        statements: Vec::new(),
        warnings,
    })
}
