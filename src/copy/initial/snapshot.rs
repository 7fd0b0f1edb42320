//! The snapshot that rows are copied in, and the jobs that are planned in it.

use uuid::Uuid;

use super::Copy;
use crate::catalog::{publications, tables};
use crate::copy::holder::{self, Held, Holders, Slot};
use crate::copy::record::{self, Recorded};
use crate::copy::{plan, rows, sources};
use crate::error::{Failure, Result};
use crate::server::Session;
use crate::value::{Literal, Lsn, ShellWord, TableName};

impl Copy<'_> {
    pub(super) fn holders(&self) -> Holders<'_> {
        Holders {
            publisher: &self.pair.publisher,
            dbname: self.dbname(),
            psql: self.halves.psql(),
            launcher: &self.launcher,
            max_hold: self.options.max_hold,
            progress: &*self.run.progress,
        }
    }

    /// The snapshot on record while it lives, else a new one for what is not finished.
    pub(super) fn snapshot(&mut self, control: &Session, recorded: &Recorded) -> Result<Held> {
        let session = self.look()?;
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
        if let Some(holder) = &recorded.holder {
            let admin = self.pair.publisher.admin();
            holder::end(admin, holder)?;
        }
        let name = format!("flare_{}", &Uuid::new_v4().simple().to_string()[..16]);
        let holder = holder::new_name();
        record::expect_holder(control, &holder)?;
        let held = self.holders().take(&holder, &name, Slot::Temporary)?;
        record::hold_later(control, &held)?;
        Ok(held)
    }

    /// Puts the tables on record that are published and not on record yet.
    pub(super) fn plan(&mut self, control: &Session, held: &Held) -> Result<()> {
        let known: Vec<TableName> = record::tables(control)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let session = self.look()?;
        session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        session.batch(&format!(
            "SET TRANSACTION SNAPSHOT {}",
            Literal(&held.snapshot)
        ))?;
        let published = publications::tables(&session, &self.declared.pubname)?;
        let major = self.pair.publisher.major();
        let mut sources = sources::sources(&session, major, &published)?;
        session.batch("COMMIT")?;
        sources.retain(|source| !known.contains(&source.name));
        let names: Vec<TableName> = sources.iter().map(|it| it.name.clone()).collect();
        let on_subscriber = self.pair.subscriber.visit(self.dbname())?;
        let missing = tables::missing(&on_subscriber, &names)?;
        sources.retain(|source| !missing.contains(&source.name));
        let slot_lsn = self.report.slot_lsn;
        let lsn: Option<Lsn> = Some(held.lsn).filter(|lsn| Some(*lsn) != slot_lsn);
        record::plan(control, &plan::jobs(&sources, major, lsn))
    }
}
