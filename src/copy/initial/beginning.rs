//! The beginning of a copy: slot, snapshot and tables, undone as a whole when one of them fails; and beginning anew.

use std::fs::File;
use std::time::Instant;

use super::Copy;
use super::phases::{keep, seconds};
use crate::catalog::tables;
use crate::copy::holder::{self, Slot};
use crate::copy::record::{self, Lead, OnRecord, Phase, Recorded};
use crate::copy::rows;
use crate::error::{Failure, Result, message_of};
use crate::replicate::load::Transactions;
use crate::replicate::schema::Place;
use crate::replicate::slot;
use crate::server::{ActAs, Session, interrupt, params};
use crate::value::{ShellWord, TableName, counted};

impl Copy<'_> {
    /// Slot, snapshot and tables; undone as a whole when it fails.
    pub(super) fn begin(&mut self, place: Place) -> Result<(Session, Lead)> {
        let since = Instant::now();
        let created = place == Place::Missing;
        if created {
            self.halves.create_database(self.run)?;
        }
        let begun = self.begin_in(created);
        self.report.seconds.tables = seconds(since);
        begun.map_err(|cause| {
            if created {
                self.halves.drop_created(cause)
            } else {
                cause
            }
        })
    }

    fn begin_in(&mut self, created: bool) -> Result<(Session, Lead)> {
        let subscriber = &self.pair.subscriber;
        let control = subscriber.connect(ActAs::Tables, self.dbname())?;
        let lead = Lead::take(subscriber, self.dbname(), self.id, OnRecord::No)?;
        let new = Recorded::new(
            self.subname,
            self.pair.publisher.identifier(),
            &self.slot_name,
            self.login,
            created,
        );
        record::begin(&control, subscriber, &new, self.id)?;
        let prepared = self.load_tables(&control);
        match prepared {
            Ok(()) => Ok((control, lead)),
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

    fn load_tables(&self, control: &Session) -> Result<()> {
        let failover = self.fails_over();
        let holder = holder::new_name();
        record::expect_holder(control, &holder)?;
        let held = self
            .holders()
            .take(&holder, &self.slot_name, Slot::Kept { failover })?;
        record::hold_first(control, &held)?;
        self.run.progress.step(&format!(
            "slot {:?} begins at {}, its snapshot is {}",
            self.slot_name, held.lsn, held.snapshot
        ));
        let dumped = self.halves.dump(&held.snapshot)?;
        let tables = self
            .halves
            .tables(&dumped, &record::tables_loaded(&holder))?;
        let transactions = self.transactions(control)?;
        let (statements, rest) = std::thread::scope(|scope| -> Result<(u64, File)> {
            let describing = scope.spawn(|| self.halves.rest(&dumped));
            let statements =
                self.halves
                    .load_tables(&tables, &record::join_work(), transactions)?;
            let rest = describing
                .join()
                .map_err(|_| Failure::new("describe what follows the rows: the thread died"))??;
            Ok((statements, rest))
        })?;
        keep(control, rest)?;
        self.run.progress.step(&format!(
            "tables are there ({})",
            counted(statements, "statement")
        ));
        self.halves.equalise(self.run).map(drop)
    }

    /// Whether the slot is to be there on the publisher's standbys, too.
    fn fails_over(&self) -> bool {
        let declared = self.declared.options.get("failover");
        declared.is_some_and(|value| ["true", "on", "1"].contains(&value.to_lowercase().as_str()))
    }

    /// Whether one transaction may hold the locks of all new relations.
    fn transactions(&self, control: &Session) -> Result<Transactions> {
        let published = self.look()?;
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
        Ok(if relations * 2 < room {
            Transactions::One
        } else {
            Transactions::Each
        })
    }

    /// Takes back what a copy made before its first row.
    pub(super) fn undo_beginning(&self, control: &Session, recorded: &Recorded) -> Result<()> {
        let publisher = &self.pair.publisher;
        if let Some(holder) = &recorded.holder {
            holder::end(publisher.admin(), holder)?;
        }
        slot::drop(publisher, &recorded.slot_name)?;
        record::forget(control)
    }

    /// What the database is after a beginning that was cut off: where the tables were loaded in many transactions, some may be
    /// there. A database that the copy has made itself, and in which nobody has written, is dropped.
    pub(super) fn place_again(&self, recorded: &Recorded) -> Result<Place> {
        let place = self.halves.place()?;
        if place != Place::Taken || !recorded.created {
            return Ok(place);
        }
        let session = self.pair.subscriber.connect(ActAs::Tables, self.dbname())?;
        if tables::any_pages(&session)? {
            return Ok(place);
        }
        drop(session);
        self.run.progress.step(&format!(
            "dropping database {:?} of the subscriber, which an interrupted run has created: some tables are there, and no rows",
            self.dbname()
        ));
        self.halves.drop_half_made()?;
        self.halves.place()
    }

    /// The tables that beginning anew would empty; refused once nothing but indexes is missing.
    pub(super) fn check_anew(
        &self,
        control: &Session,
        recorded: &Recorded,
    ) -> Result<Vec<TableName>> {
        if !matches!(recorded.phase, Phase::Slot | Phase::Rows) {
            return Failure::new(format!(
                "start over: all {} rows are there and their indexes are being built",
                record::finished(control)?.rows
            ))
            .hint(format!(
                "go on without --restart; or DROP DATABASE {} on the subscriber and run flare drop_subscription {} and this command again",
                crate::value::Ident::from(self.dbname()),
                ShellWord(self.subname)
            ))
            .err();
        }
        let tables = record::tables(control)?;
        Ok(tables.into_iter().map(|(name, _)| name).collect())
    }

    /// Empties what an interrupted copy has brought, and takes a new slot and snapshot for all of it.
    pub(super) fn begin_anew(&mut self, control: &Session, recorded: &Recorded) -> Result<()> {
        let names = self.check_anew(control, recorded)?;
        let finished = record::finished(control)?;
        self.run.progress.step(&format!(
            "starting over: emptying {} of the subscriber, {}: {}",
            counted(names.len(), "table"),
            counted(finished.rows, "row"),
            tables::listed(&names)
        ));
        let publisher = &self.pair.publisher;
        if let Some(holder) = &recorded.holder {
            holder::end(publisher.admin(), holder)?;
        }
        slot::drop(publisher, &recorded.slot_name)?;
        let writer = rows::writer(&self.pair.subscriber, self.dbname())?;
        record::empty(&writer, &names)?;
        let holder = holder::new_name();
        record::expect_holder(control, &holder)?;
        let failover = self.fails_over();
        let held = self
            .holders()
            .take(&holder, &self.slot_name, Slot::Kept { failover })?;
        record::hold_first(control, &held)?;
        // What made it begin anew may have changed tables on both sides.
        keep(control, self.halves.rest_anew(Some(&held.snapshot))?)?;
        self.report.resumed = false;
        Ok(())
    }
}
