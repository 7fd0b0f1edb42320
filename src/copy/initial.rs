//! `initial_copy`: slot and snapshot, tables without indexes, rows, indexes and the rest, subscription. Each step is on record,
//! so that the same command goes on where a killed one stopped.

mod beginning;
mod checks;
mod phases;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::record::{self, Lead, OnRecord, Phase, Recorded};
use super::report::{CopySeconds, InitialCopy};
use crate::catalog::{databases, objects, slots, subscriptions};
use crate::config::{Config, Subscription};
use crate::error::{Failure, Result, WrapErr};
use crate::replicate::schema::{Halves, Place};
use crate::replicate::{Mode, Run};
use crate::server::{ActAs, Login, Pair, Session, Subscriber};
use crate::tools::flare_program;

/// Whether a copy begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// An interrupted copy goes on.
    No,
    /// What an interrupted copy has brought is emptied.
    Yes,
}

/// Sessions of a copy that nobody has said a number for.
const JOBS: usize = 2;

/// How rows are copied.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Sessions on either side that copy and build at once; None: two, or one where a server has no room for more.
    pub jobs: Option<usize>,
    /// No more bytes a second than this.
    pub max_rate: Option<u64>,
    /// How long the snapshot is kept when flare does not come back.
    pub max_hold: Duration,
    /// Whether it begins anew.
    pub restart: Restart,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            jobs: None,
            max_rate: None,
            max_hold: Duration::from_secs(48 * 3600),
            restart: Restart::No,
        }
    }
}

/// One copy.
struct Copy<'a> {
    pair: &'a Pair,
    subname: &'a str,
    declared: &'a Subscription,
    /// Whom the subscription connects as.
    login: Login,
    options: CopyOptions,
    jobs: usize,
    halves: Halves<'a>,
    run: &'a Run,
    id: Uuid,
    launcher: PathBuf,
    slot_name: String,
    left_behind: &'a [String],
    report: InitialCopy,
}

/// Copies a subscription's tables and begins it.
pub(crate) fn initial_copy(
    pair: &Pair,
    config: &Config,
    subname: &str,
    login: Login,
    options: CopyOptions,
    run: &Run,
) -> Result<InitialCopy> {
    let declared = config.subscription(subname)?;
    let dbname = declared.dbname.as_str();
    pair.publisher.credentials(login)?;
    let slot_name = slots::name_for(subname);
    let report = InitialCopy {
        subname: subname.to_owned(),
        dbname: dbname.to_owned(),
        changed: false,
        dry_run: run.mode == Mode::DryRun,
        resumed: false,
        slot_name: slot_name.clone(),
        slot_lsn: None,
        tables: 0,
        rows: 0,
        bytes: 0,
        jobs: 0,
        jobs_kept: 0,
        seconds: CopySeconds::default(),
        notes: Vec::new(),
    };
    let copy = Copy {
        pair,
        subname,
        declared,
        login,
        options,
        jobs: options.jobs.unwrap_or(JOBS),
        halves: Halves::read(pair, &config.tools, dbname, reader(pair))?,
        run,
        id: Uuid::new_v4(),
        launcher: flare_program(run.guard_program.as_deref())?,
        slot_name,
        left_behind: config.left_behind(dbname),
        report,
    };
    copy.run()
        .wrap_err_with(|| format!("copy database {dbname:?}"))
}

/// Whether a copy may begin in a database of the subscriber, as a superuser, or go on there.
pub(crate) fn may_begin(subscriber: &Subscriber, subname: &str, dbname: &str) -> Result<bool> {
    let superuser = subscriber.facts().superuser;
    if databases::database(subscriber.admin(), dbname)?.is_none() {
        return Ok(superuser);
    }
    let session = subscriber.connect(Login::Superuser, dbname)?;
    if subscriptions::find(&session, subname)?.is_some() {
        return Ok(false);
    }
    Ok(record::exists(&session)? || superuser && objects::first_object(&session)?.is_none())
}

/// Who reads the publisher: the administrator where it may read everything, else the owner.
fn reader(pair: &Pair) -> Login {
    Login::owner_if(!pair.publisher.facts().superuser)
}

/// What there is to go on from.
enum Found {
    Nothing(Place),
    /// A subscription; a copy may still be on record.
    Subscription,
    Copy(Box<(Session, Recorded)>),
}

impl Copy<'_> {
    fn dbname(&self) -> &str {
        &self.declared.dbname
    }

    /// A session that reads the publisher's database.
    fn look(&self) -> Result<Arc<Session>> {
        let publisher = &self.pair.publisher;
        publisher.visit_as(reader(self.pair), self.dbname())
    }

    fn run(mut self) -> Result<InitialCopy> {
        self.check_publication()?;
        match self.find()? {
            Found::Subscription => self.already(),
            Found::Nothing(place) => {
                self.check_sessions()?;
                self.check(place)?;
                if self.run.mode == Mode::DryRun {
                    return self.foresee();
                }
                let (control, lead) = self.begin(place)?;
                self.go_on(control, lead)
            }
            Found::Copy(found) => {
                let (control, recorded) = *found;
                self.check_recorded(&recorded)?;
                self.check_sessions()?;
                if self.run.mode == Mode::DryRun {
                    return self.foresee_going_on(&control, &recorded);
                }
                let subscriber = &self.pair.subscriber;
                let lead = Lead::take(subscriber, self.dbname(), self.id, OnRecord::Yes)?;
                let recorded = self.recorded(&control)?;
                self.report.resumed = true;
                match (recorded.phase, self.options.restart) {
                    // Its slot and tables may be half made: nothing of worth is there yet.
                    (Phase::Slot, _) => {
                        self.undo_beginning(&control, &recorded)?;
                        drop((control, lead));
                        self.report.resumed = false;
                        let place = self.place_again(&recorded)?;
                        self.check(place)?;
                        let (control, lead) = self.begin(place)?;
                        self.go_on(control, lead)
                    }
                    (_, Restart::Yes) => {
                        self.begin_anew(&control, &recorded)?;
                        self.go_on(control, lead)
                    }
                    (_, Restart::No) => self.go_on(control, lead),
                }
            }
        }
    }

    fn find(&self) -> Result<Found> {
        let place = self.halves.place()?;
        if place == Place::Missing {
            return Ok(Found::Nothing(place));
        }
        let control = self.pair.subscriber.connect(ActAs::Tables, self.dbname())?;
        let recorded = record::read(&control)?;
        if subscriptions::find(&control, self.subname)?.is_some() {
            if recorded.is_some() && self.run.mode == Mode::Apply {
                record::forget(&control)?;
            }
            return Ok(Found::Subscription);
        }
        Ok(match recorded {
            Some(recorded) => Found::Copy(Box::new((control, recorded))),
            None => Found::Nothing(place),
        })
    }

    fn recorded(&self, control: &Session) -> Result<Recorded> {
        record::read(control)?.ok_or_else(|| Failure::new("the copy is no longer on record").into())
    }

    fn already(mut self) -> Result<InitialCopy> {
        self.report
            .notes
            .push(format!("subscription {:?} exists already", self.subname));
        Ok(self.report)
    }
}
