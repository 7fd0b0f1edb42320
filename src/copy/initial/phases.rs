//! What follows the beginning, and what a resumed copy goes on with: rows, indexes and the rest, the subscription.

use std::time::Instant;

use super::{Copy, reader};
use crate::copy::holder;
use crate::copy::plan::Job;
use crate::copy::record::{self, Lead, Phase, Recorded};
use crate::copy::report::InitialCopy;
use crate::copy::rest::{Rest, make_in_one};
use crate::copy::rows::Workers;
use crate::copy::watch::Watch;
use crate::error::{Advise, Result, WrapErr};
use crate::replicate::views::{self, Which};
use crate::replicate::{Mode, closed, sequences, subscription};
use crate::schema::post_data;
use crate::server::{ActAs, Login, Session, Timeout};
use crate::value::{ShellWord, TableName};

impl Copy<'_> {
    /// Rows, indexes, subscription.
    pub(super) fn go_on(mut self, control: Session, lead: Lead) -> Result<InitialCopy> {
        let recorded = self.recorded(&control)?;
        if recorded.use_repl && self.pair.publisher.declared().repl.is_some() {
            // It goes on as it has begun, also by a command that does not say so.
            self.login = Login::Replication;
        }
        self.finish(&control, recorded, &lead).hint(|| {
            format!(
                "flare initial_copy {} goes on with what is missing, once nothing is in its way",
                ShellWord(self.subname)
            )
        })?;
        Ok(self.report)
    }

    fn finish(&mut self, control: &Session, recorded: Recorded, lead: &Lead) -> Result<()> {
        self.report.changed = true;
        self.report.slot_lsn = recorded.slot_lsn;
        self.check_slot(&recorded)?;
        let since = Instant::now();
        if recorded.phase == Phase::Rows {
            if self.report.resumed {
                // Its tables may be all that an earlier run has come to.
                self.halves.equalise(self.run)?;
            }
            let held = self.snapshot(control, &recorded)?;
            self.plan(control, &held)?;
            self.close(control)?;
            self.copy_rows(control, &held.snapshot, lead)?;
            record::rows_done(control)?;
            // Nothing waits for the snapshot any more, and the publisher's vacuum waits for its end.
            holder::end(self.pair.publisher.admin(), &held.holder)?;
        }
        self.tell_finished(control)?;
        if recorded.phase != Phase::Rows {
            self.report.jobs_kept = self.report.jobs;
        }
        self.report.seconds.rows = seconds(since);
        let since = Instant::now();
        if recorded.phase != Phase::Done {
            self.make_rest(control, lead)?;
            record::rest_done(control)?;
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
        let session = self.look()?;
        self.name_what_is_left_out(&session)?;
        self.name_what_is_left_over(&session, control)?;
        self.report
            .notes
            .extend(self.halves.notes().iter().cloned());
        Ok(())
    }

    pub(super) fn tell_finished(&mut self, control: &Session) -> Result<()> {
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

    fn copy_rows(&mut self, control: &Session, snapshot: &str, lead: &Lead) -> Result<()> {
        let before = record::finished(control)?;
        self.report.jobs_kept = before.jobs;
        let left: Vec<Job> = record::left(control)?;
        let workers = Workers {
            publisher: &self.pair.publisher,
            subscriber: &self.pair.subscriber,
            dbname: self.dbname(),
            reader: reader(self.pair),
            snapshot,
            jobs: self.jobs,
            max_rate: self.options.max_rate,
        };
        let mut watch = Watch::new(
            self.pair.publisher.admin(),
            lead,
            &self.slot_name,
            &*self.run.progress,
        );
        workers.copy(left, before.bytes.unsigned_abs(), self.run, || watch.look())
    }

    /// Indexes, constraints, statistics, triggers, materialized views.
    fn make_rest(&mut self, control: &Session, lead: &Lead) -> Result<()> {
        // What stopped an earlier run may have been mended on the publisher.
        if self.report.resumed || !self.recorded(control)?.has_post_data {
            keep(control, self.halves.rest_anew(None)?)?;
        }
        let script = record::kept_post_data(control)?;
        let mut watch = Watch::new(
            self.pair.publisher.admin(),
            lead,
            &self.slot_name,
            &*self.run.progress,
        );
        let subscriber = &self.pair.subscriber;
        let by_superuser = post_data(script.as_slice())?.filter(|_| subscriber.facts().superuser);
        let notes = if let Some(post) = by_superuser {
            let rest = Rest::new(subscriber, self.dbname(), self.jobs);
            Some(rest.make(&post, self.run, || watch.look())?)
        } else {
            // One that may act for the owners only in this transaction.
            let session = subscriber.connect(Login::Superuser, self.dbname())?;
            let session = session.with_timeout(Timeout::WhileServerAnswers);
            let first = record::REST_LOADED;
            make_in_one(&session, &script, first, self.run, || watch.look())?
        };
        match notes {
            Some(notes) => self.report.notes.extend(notes),
            None => {
                let (file, ()) = crate::tools::written(|output| {
                    std::io::Write::write_all(output, &script).wrap_err(crate::tools::WRITING)
                })?;
                self.halves.load_rest(&file, record::REST_LOADED)?;
            }
        }
        let from = self.look()?;
        let to = self.pair.subscriber.connect(ActAs::Tables, self.dbname())?;
        let to = to.with_timeout(Timeout::WhileServerAnswers);
        let refreshed = views::refresh((&from, &to), Which::Unfilled, self.left_behind, self.run)?;
        let notes = refreshed.failed.iter().map(views::Failed::in_words);
        self.report.notes.extend(notes);
        Ok(())
    }
}

/// Keeps a script on record.
pub(super) fn keep(control: &Session, mut script: std::fs::File) -> Result<()> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut script, &mut text).wrap_err("read what follows the rows")?;
    record::keep_post_data(control, text)
}

pub(super) fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}
