//! `initial_copy`: slot and snapshot, tables without indexes, rows, indexes and the rest, subscription. Each step is on record,
//! so that the same command goes on where a killed one stopped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::holder::{self, Held, Holders, Slot};
use super::plan::{self, Job};
use super::record::{self, Phase, Recorded};
use super::report::{CopySeconds, InitialCopy};
use super::rest::Rest;
use super::rows::{self, Workers};
use super::sources;
use super::watch::Watch;
use crate::catalog::{databases, objects, publications, slots, subscriptions, tables};
use crate::config::{Config, Subscription};
use crate::error::{Advise, Failure, Result, WrapErr, message_of};
use crate::replicate::load::Transactions;
use crate::replicate::schema::{Halves, Place};
use crate::replicate::views::{self, Which};
use crate::replicate::{Mode, Run, closed, sequences, slot, subscription};
use crate::schema::post_data;
use crate::server::{Login, Pair, Session, Subscriber, Timeout, interrupt, params};
use crate::tools::own_program;
use crate::value::{Literal, Lsn, ShellWord, TableName};

/// Whether a copy begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// An interrupted copy goes on.
    No,
    /// What an interrupted copy has brought is emptied.
    Yes,
}

/// How rows are copied.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Sessions on either side that copy and build at once.
    pub jobs: usize,
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
            jobs: 2,
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
    let slot_name = slot::name_for(subname);
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
        halves: Halves::read(pair, &config.tools, dbname, reader(pair))?,
        run,
        id: Uuid::new_v4(),
        launcher: own_program(run.guard_program.as_deref())?,
        slot_name,
        left_behind: config.left_behind(dbname),
        report,
    };
    copy.run()
        .wrap_err_with(|| format!("copy database {dbname:?}"))
}

/// Whether a copy may begin or go on in a database of the subscriber, as a superuser.
pub(crate) fn may_begin(subscriber: &Subscriber, subname: &str, dbname: &str) -> Result<bool> {
    if !subscriber.facts().superuser {
        return Ok(false);
    }
    if databases::database(subscriber.admin(), dbname)?.is_none() {
        return Ok(true);
    }
    let session = subscriber.connect(Login::Superuser, dbname)?;
    if subscriptions::find(&session, subname)?.is_some() {
        return Ok(false);
    }
    Ok(record::exists(&session)? || objects::first_object(&session)?.is_none())
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

    fn run(mut self) -> Result<InitialCopy> {
        self.check_publication()?;
        match self.find()? {
            Found::Subscription => self.already(),
            Found::Nothing(place) => {
                self.check(place)?;
                if self.run.mode == Mode::DryRun {
                    return self.foresee();
                }
                let control = self.begin(place)?;
                let recorded = self.recorded(&control)?;
                self.go_on(control, recorded)
            }
            Found::Copy(found) => {
                let (control, recorded) = *found;
                self.check_recorded(&recorded)?;
                if self.run.mode == Mode::DryRun {
                    self.tell_finished(&control)?;
                    return Ok(self.report);
                }
                record::take_over(&control, self.id)?;
                let recorded = self.recorded(&control)?;
                self.report.resumed = true;
                match (recorded.phase, self.options.restart) {
                    // Its slot and tables may be half made: nothing of worth is there yet.
                    (Phase::Slot, _) => {
                        self.undo_beginning(&control, &recorded)?;
                        drop(control);
                        self.report.resumed = false;
                        let place = self.halves.place()?;
                        self.check(place)?;
                        let control = self.begin(place)?;
                        let recorded = self.recorded(&control)?;
                        self.go_on(control, recorded)
                    }
                    (_, Restart::Yes) => {
                        self.begin_anew(&control, &recorded)?;
                        let recorded = self.recorded(&control)?;
                        self.go_on(control, recorded)
                    }
                    (_, Restart::No) => self.go_on(control, recorded),
                }
            }
        }
    }

    fn find(&self) -> Result<Found> {
        let place = self.halves.place()?;
        if place == Place::Missing {
            return Ok(Found::Nothing(place));
        }
        let control = self.pair.subscriber.enter(self.dbname())?;
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

    fn check_publication(&self) -> Result<()> {
        let session = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        let pubname = &self.declared.pubname;
        let Some(found) = publications::find(&session, pubname)? else {
            return Failure::new(format!("the publisher has no publication {pubname:?}"))
                .hint(format!(
                    "run flare create_publication {}",
                    ShellWord(self.dbname())
                ))
                .err();
        };
        if !found.partial.is_empty() {
            return Failure::new(format!(
                "publication {pubname:?} has only some rows or columns of {}",
                tables::listed(&found.partial)
            ))
            .hint("publish whole tables: the copy would bring more than the stream goes on with")
            .err();
        }
        let published = publications::tables(&session, pubname)?;
        let user = self.pair.publisher.credentials(reader(self.pair))?.user();
        let unreadable = tables::unreadable(&session, user, &published)?;
        let hidden: Vec<&TableName> = unreadable
            .denied
            .iter()
            .chain(&unreadable.filtered)
            .collect();
        match hidden.is_empty() {
            true => Ok(()),
            false => Failure::new(format!(
                "{user:?} may not read all of {} on the publisher",
                tables::listed(hidden)
            ))
            .hint("GRANT it SELECT there, and BYPASSRLS where row security is on")
            .err(),
        }
    }

    /// All that can be known beforehand to go wrong.
    fn check(&mut self, place: Place) -> Result<()> {
        self.halves.check(place)?;
        subscription::check_room(self.pair)?;
        match slots::find(self.pair.publisher.admin(), &self.slot_name)? {
            None => Ok(()),
            Some(left)
                if !left.active
                    && left.plugin.as_deref() == Some("pgoutput")
                    && left.database.as_deref() == Some(self.dbname()) =>
            {
                self.run.progress.step(&format!(
                    "replication slot {:?} was left behind, inactive: it is dropped",
                    self.slot_name
                ));
                match self.run.mode {
                    Mode::Apply => slot::drop(&self.pair.publisher, &self.slot_name),
                    Mode::DryRun => Ok(()),
                }
            }
            Some(_) => Failure::new(format!(
                "the publisher has a slot {:?} already, which is in use or of another database",
                self.slot_name
            ))
            .hint("name the subscription otherwise, or drop that slot on the publisher")
            .err(),
        }
    }

    fn check_recorded(&self, recorded: &Recorded) -> Result<()> {
        if recorded.subname == self.subname
            && recorded.publisher == self.pair.publisher.identifier().to_string()
        {
            return Ok(());
        }
        Failure::new(format!(
            "an interrupted copy of subscription {:?}, begun {} from the publisher with identifier {}, is on record in the subscriber's database {:?}",
            recorded.subname,
            recorded.began_at,
            recorded.publisher,
            self.dbname()
        ))
        .hint("go on with that one, or drop the database and begin anew")
        .err()
    }

    /// What a copy would have to do.
    fn foresee(mut self) -> Result<InitialCopy> {
        let session = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        let published = publications::tables(&session, &self.declared.pubname)?;
        let major = self.pair.publisher.major();
        let sources = sources::sources(&session, major, &published)?;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.report.tables = count(sources.len());
        self.report.bytes = sources.iter().map(|it| it.bytes).sum();
        self.report.jobs = count(plan::jobs(&sources, major, None).len());
        self.name_what_is_left_out(&session)?;
        Ok(self.report)
    }

    fn name_what_is_left_out(&mut self, session: &Session) -> Result<()> {
        let objects = sources::large_objects(session)?;
        if objects > 0 {
            self.report.notes.push(format!(
                "{objects} large objects are not copied: nothing replicates them"
            ));
        }
        Ok(())
    }

    /// Slot, snapshot and tables; undone as a whole when it fails.
    fn begin(&mut self, place: Place) -> Result<Session> {
        let since = Instant::now();
        if place == Place::Missing {
            self.halves.create_database(self.run)?;
        }
        let created = place == Place::Missing;
        let begun = self.begin_in();
        self.report.seconds.tables = seconds(since);
        begun.map_err(|cause| match created {
            true => self.halves.drop_created(cause),
            false => cause,
        })
    }

    fn begin_in(&mut self) -> Result<Session> {
        let control = self.pair.subscriber.enter(self.dbname())?;
        record::begin(
            &control,
            &self.pair.subscriber,
            self.id,
            self.subname,
            self.pair.publisher.identifier(),
            &self.slot_name,
        )?;
        let prepared = self.load_tables(&control);
        match prepared {
            Ok(()) => Ok(control),
            Err(cause) => {
                let _shield = interrupt::Shield::raise();
                let undone = self
                    .recorded(&control)
                    .and_then(|recorded| self.undo_beginning(&control, &recorded));
                Err(match undone {
                    Ok(()) => cause.wrap_err("undone, nothing is left"),
                    Err(undo) => cause.wrap_err(format!(
                        "NOT UNDONE, slot {:?} of the publisher may retain WAL (flare initial_copy {} goes on): {}",
                        self.slot_name,
                        ShellWord(self.subname),
                        message_of(&undo)
                    )),
                })
            }
        }
    }

    fn holders(&self) -> Holders<'_> {
        Holders {
            publisher: &self.pair.publisher,
            dbname: self.dbname(),
            psql: self.halves.psql(),
            launcher: &self.launcher,
            max_hold: self.options.max_hold,
            progress: &*self.run.progress,
        }
    }

    fn load_tables(&self, control: &Session) -> Result<()> {
        let failover = self
            .declared
            .options
            .get("failover")
            .is_some_and(|value| ["true", "on", "1"].contains(&value.to_lowercase().as_str()));
        let held = self
            .holders()
            .take(&self.slot_name, Slot::Kept { failover })?;
        record::hold(control, &held)?;
        self.run.progress.step(&format!(
            "slot {:?} begins at {}, its snapshot is {}",
            self.slot_name, held.lsn, held.snapshot
        ));
        let mut statements = 0;
        let mut rest = None;
        // Describing indexes costs the publisher what loading tables costs the subscriber.
        std::thread::scope(|scope| -> Result<()> {
            let describing = scope.spawn(|| self.halves.rest(Some(&held.snapshot)));
            statements = self.halves.load_tables(
                &held.snapshot,
                &record::join_work(),
                record::TABLES_LOADED,
                self.transactions(control)?,
            )?;
            rest =
                Some(describing.join().map_err(|_| {
                    Failure::new("describe what follows the rows: the thread died")
                })??);
            Ok(())
        })?;
        if let Some(rest) = rest {
            keep(control, rest)?;
        }
        self.run
            .progress
            .step(&format!("tables are there ({statements} statements)"));
        self.halves.equalise(self.run).map(drop)
    }

    /// Whether one transaction may hold the locks of all new relations.
    fn transactions(&self, control: &Session) -> Result<Transactions> {
        let published = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        let relations: i64 = published.value(
            "SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'S', 'v', 'm', 'f', 't')",
            params![],
        )?;
        let room: i64 = control.value(
            "SELECT current_setting('max_locks_per_transaction')::int8
                    * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)",
            params![],
        )?;
        // A table has its toast table and that one's index beside it; half of the room is left to others.
        Ok(match relations * 2 < room {
            true => Transactions::One,
            false => Transactions::Each,
        })
    }

    /// Takes back what a copy made before its first row.
    fn undo_beginning(&self, control: &Session, recorded: &Recorded) -> Result<()> {
        let publisher = &self.pair.publisher;
        if let Some(holder) = &recorded.holder {
            holder::end(publisher.admin(), holder, recorded.holder_pid.unwrap_or(0))?;
        }
        slot::drop(publisher, &recorded.slot_name)?;
        record::forget(control)
    }

    /// Rows, indexes, subscription.
    fn go_on(mut self, control: Session, recorded: Recorded) -> Result<InitialCopy> {
        let done = self.finish(&control, recorded);
        if done.is_err() {
            let _shield = interrupt::Shield::raise();
            // The next run would wait until this one is taken for dead.
            if let Err(report) = record::let_go(&control, self.id) {
                log::debug!("let go of the copy: {}", message_of(&report));
            }
        }
        done.hint(|| {
            format!(
                "mend it, then run the command again: flare initial_copy {} goes on with what is missing",
                ShellWord(self.subname)
            )
        })?;
        Ok(self.report)
    }

    fn finish(&mut self, control: &Session, recorded: Recorded) -> Result<()> {
        self.report.changed = true;
        self.report.slot_lsn = recorded.slot_lsn;
        let since = Instant::now();
        if recorded.phase == Phase::Rows {
            let held = self.snapshot(control, &recorded)?;
            self.plan(control, &held)?;
            self.close(control)?;
            self.copy_rows(control, &held.snapshot)?;
            record::rows_done(control)?;
            // Nothing waits for the snapshot any more, and the publisher's vacuum waits for its end.
            holder::end(self.pair.publisher.admin(), &held.holder, held.pid)?;
        }
        self.tell_finished(control)?;
        self.report.seconds.rows = seconds(since);
        let since = Instant::now();
        if recorded.phase != Phase::Done {
            self.make_rest(control)?;
        }
        self.report.seconds.rest = seconds(since);
        let since = Instant::now();
        let copied = record::tables(control)?;
        sequences::replicate(self.pair, self.dbname(), self.run)?;
        subscription::create_after_copy(
            self.pair,
            self.subname,
            self.declared,
            self.login,
            (&copied, subscription::Begin::AtSlot),
            self.run,
        )?;
        record::forget(control)?;
        self.report.seconds.subscription = seconds(since);
        let session = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        self.name_what_is_left_out(&session)?;
        self.report
            .notes
            .extend(self.halves.notes().iter().cloned());
        Ok(())
    }

    fn tell_finished(&mut self, control: &Session) -> Result<()> {
        let finished = record::finished(control)?;
        self.report.tables = finished.tables;
        self.report.rows = finished.rows;
        self.report.bytes = finished.bytes;
        self.report.jobs = finished.of_jobs;
        if self.run.mode == Mode::DryRun {
            self.report.jobs_kept = finished.jobs;
            self.report.resumed = true;
        }
        Ok(())
    }

    /// The snapshot on record while it lives, else a new one for what is not finished.
    fn snapshot(&mut self, control: &Session, recorded: &Recorded) -> Result<Held> {
        let session = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        if let Recorded {
            holder: Some(holder),
            snapshot: Some(snapshot),
            lsn: Some(lsn),
            ..
        } = recorded
            && holder::lives(&session, snapshot)?
        {
            return Ok(Held {
                holder: holder.clone(),
                pid: recorded.holder_pid.unwrap_or(0),
                snapshot: snapshot.clone(),
                lsn: *lsn,
            });
        }
        let unfinished = record::unfinished_tables(control)?;
        if !self.pair.subscriber.facts().superuser {
            return Failure::new(
                "the snapshot is gone (the publisher was restarted, or its holder ended), and only a superuser of the subscriber can go on with another one",
            )
            .hint(format!(
                "start over: flare initial_copy --restart {}, which empties the tables that it has filled",
                ShellWord(self.subname)
            ))
            .err();
        }
        self.run.progress.step(&format!(
            "the snapshot is gone: tables that are finished stay, {} others are copied with a new one",
            unfinished.len()
        ));
        let writer = rows::writer(&self.pair.subscriber, self.dbname())?;
        record::empty(&writer, &unfinished)?;
        self.another_snapshot(control, recorded)
    }

    fn another_snapshot(&self, control: &Session, recorded: &Recorded) -> Result<Held> {
        if slots::find(self.pair.publisher.admin(), &recorded.slot_name)?.is_none() {
            return Failure::new(format!(
                "the publisher has no slot {:?} any more",
                recorded.slot_name
            ))
            .hint(format!(
                "start over: flare initial_copy --restart {}, which empties the tables that it has filled",
                ShellWord(self.subname)
            ))
            .err();
        }
        if let Some(holder) = &recorded.holder {
            let admin = self.pair.publisher.admin();
            holder::end(admin, holder, recorded.holder_pid.unwrap_or(0))?;
        }
        let name = format!("flare_{}", &Uuid::new_v4().simple().to_string()[..16]);
        let held = self.holders().take(&name, Slot::Temporary)?;
        record::hold(control, &held)?;
        Ok(held)
    }

    /// Puts the tables on record that are published and not on record yet.
    fn plan(&mut self, control: &Session, held: &Held) -> Result<()> {
        let known: Vec<TableName> = record::tables(control)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let session = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        session.batch(&format!(
            "SET TRANSACTION SNAPSHOT {}",
            Literal(&held.snapshot)
        ))?;
        let published = publications::tables(&session, &self.declared.pubname)?;
        let major = self.pair.publisher.major();
        let mut sources = sources::sources(&session, major, &published)?;
        sources.retain(|source| !known.contains(&source.name));
        let names: Vec<TableName> = sources.iter().map(|it| it.name.clone()).collect();
        let on_subscriber = self
            .pair
            .subscriber
            .connect(Login::Superuser, self.dbname())?;
        let missing = tables::missing(&on_subscriber, &names)?;
        sources.retain(|source| !missing.contains(&source.name));
        let slot_lsn = self.report.slot_lsn;
        let lsn: Option<Lsn> = Some(held.lsn).filter(|lsn| Some(*lsn) != slot_lsn);
        record::plan(control, &plan::jobs(&sources, major, lsn))
    }

    /// Nobody but this copy and the subscription writes from now on. The fence lets pass who may make itself a replica, which
    /// takes a superuser: for others it comes with the subscription.
    fn close(&self, control: &Session) -> Result<()> {
        if !self.pair.subscriber.facts().superuser {
            return Ok(());
        }
        let names: Vec<TableName> = record::tables(control)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let owner = self.pair.subscriber.credentials(Login::Superuser)?.user();
        closed::close(
            &self.pair.subscriber,
            self.dbname(),
            &names,
            (owner, Login::Superuser),
            self.run,
        )
        .map(drop)
    }

    fn copy_rows(&mut self, control: &Session, snapshot: &str) -> Result<()> {
        let before = record::finished(control)?;
        self.report.jobs_kept = before.jobs;
        let left: Vec<Job> = record::left(control)?;
        let workers = Workers {
            publisher: &self.pair.publisher,
            subscriber: &self.pair.subscriber,
            dbname: self.dbname(),
            reader: reader(self.pair),
            snapshot,
            jobs: self.options.jobs,
            max_rate: self.options.max_rate,
        };
        let mut watch = Watch::new(
            self.pair.publisher.admin(),
            control,
            self.id,
            &self.slot_name,
            &*self.run.progress,
        );
        workers.copy(left, before.bytes.unsigned_abs(), self.run, || watch.look())
    }

    /// Indexes, constraints, statistics, triggers, materialized views.
    fn make_rest(&mut self, control: &Session) -> Result<()> {
        if !self.recorded(control)?.has_post_data {
            keep(control, self.halves.rest(None)?)?;
        }
        let script = record::kept_post_data(control)?;
        let mut watch = Watch::new(
            self.pair.publisher.admin(),
            control,
            self.id,
            &self.slot_name,
            &*self.run.progress,
        );
        let superuser = self.pair.subscriber.facts().superuser;
        match post_data(script.as_slice())?.filter(|_| superuser) {
            Some(post) => {
                let rest = Rest {
                    subscriber: &self.pair.subscriber,
                    dbname: self.dbname(),
                    jobs: self.options.jobs,
                };
                rest.make(&post, self.run, || watch.look())?;
            }
            // One that may act for the owners only in this transaction; or text that only psql can send.
            None => {
                let (file, ()) = crate::tools::written(|output| {
                    std::io::Write::write_all(output, &script).wrap_err(crate::tools::WRITING)
                })?;
                self.halves.load_rest(&file, record::REST_LOADED)?;
            }
        }
        let from = self
            .pair
            .publisher
            .connect(reader(self.pair), self.dbname())?;
        let to = self.pair.subscriber.enter(self.dbname())?;
        let to = to.with_timeout(Timeout::WhileServerAnswers);
        let refreshed = views::refresh((&from, &to), Which::Unfilled, self.left_behind, self.run)?;
        let notes = refreshed.failed.iter().map(views::Failed::in_words);
        self.report.notes.extend(notes);
        Ok(())
    }

    /// Empties what an interrupted copy has brought, and takes a new slot and snapshot for all of it.
    fn begin_anew(&mut self, control: &Session, recorded: &Recorded) -> Result<()> {
        let finished = record::finished(control)?;
        if recorded.phase != Phase::Rows {
            return Failure::new(format!(
                "start over: all {} rows are there and their indexes are being built",
                finished.rows
            ))
            .hint(format!(
                "go on without --restart; or DROP DATABASE {} on the subscriber and run flare drop_subscription {} and this command again",
                crate::value::Ident::from(self.dbname()),
                ShellWord(self.subname)
            ))
            .err();
        }
        let names: Vec<TableName> = record::tables(control)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        self.run.progress.step(&format!(
            "starting over: emptying {} tables of the subscriber, {} rows: {}",
            names.len(),
            finished.rows,
            tables::listed(&names)
        ));
        let publisher = &self.pair.publisher;
        if let Some(holder) = &recorded.holder {
            holder::end(publisher.admin(), holder, recorded.holder_pid.unwrap_or(0))?;
        }
        slot::drop(publisher, &recorded.slot_name)?;
        let writer = rows::writer(&self.pair.subscriber, self.dbname())?;
        record::empty(&writer, &names)?;
        let held = self
            .holders()
            .take(&self.slot_name, Slot::Kept { failover: false })?;
        record::hold_anew(control, &held)?;
        self.report.resumed = false;
        Ok(())
    }
}

/// Keeps a script on record.
fn keep(control: &Session, mut script: std::fs::File) -> Result<()> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut script, &mut text).wrap_err("read what follows the rows")?;
    record::keep_post_data(control, &text)
}

fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}
