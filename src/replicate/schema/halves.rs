//! The schema in two halves, with rows copied in between: tables without indexes, as of a snapshot, then what follows the rows.

use std::collections::BTreeSet;
use std::fs::File;

use super::Work;
use super::script::Script;
use crate::catalog::databases;
use crate::catalog::objects;
use crate::config::Tools;
use crate::error::{Failure, Result, WrapErr};
use crate::replicate::database;
use crate::replicate::load::{Transactions, load_in};
use crate::replicate::{Change, Run};
use crate::server::{Login, Pair};
use crate::tools::{Program, Toolbox};
use crate::value::ShellWord;

/// What the subscriber's database is before a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is not there.
    Missing,
    /// It holds no more than extensions and flare's own.
    Empty,
    /// It holds objects of a user.
    Taken,
}

/// What a copy of the schema works with.
pub(crate) struct Halves<'a> {
    work: Work<'a>,
    toolbox: Toolbox,
}

impl<'a> Halves<'a> {
    /// Reads what both sides are; `login` dumps the publisher.
    pub(crate) fn read(
        pair: &'a Pair,
        tools: &'a Tools,
        dbname: &'a str,
        login: Login,
    ) -> Result<Self> {
        let work = Work::read(pair, tools, dbname, login)?;
        let toolbox = work.toolbox(pair.publisher.release())?;
        Ok(Halves { work, toolbox })
    }

    /// The psql that goes with the dump.
    pub(crate) fn psql(&self) -> &Program {
        &self.toolbox.psql
    }

    /// What the subscriber's database is.
    pub(crate) fn place(&self) -> Result<Place> {
        let subscriber = &self.work.pair.subscriber;
        let session = database::alone_with(subscriber, self.work.dbname)?;
        if databases::database(&session, self.work.dbname)?.is_none() {
            return Ok(Place::Missing);
        }
        let session = subscriber.visit(self.work.dbname)?;
        Ok(match objects::first_object(&session)? {
            None => Place::Empty,
            Some(_) => Place::Taken,
        })
    }

    /// All that can be known beforehand to fail, for a subscription.
    pub(crate) fn check(&mut self, place: Place, subname: &str) -> Result<()> {
        let dbname = self.work.dbname;
        if place == Place::Taken {
            return Failure::new(format!(
                "the subscriber's database {dbname:?} holds a schema already, and initial_copy loads it itself, without indexes at first"
            ))
            .hint(format!(
                "where it holds nothing of worth, DROP DATABASE there and run the command again; or copy into it with flare create_subscription (flare prepare --copy native {})",
                ShellWord(subname)
            ))
            .err();
        }
        self.work.check()
    }

    /// Creates the database as the publisher has it.
    pub(crate) fn create_database(&self, run: &Run) -> Result<()> {
        database::create(&self.work.pair.subscriber, &self.work.source, run)
    }

    /// Drops the database that this run created, after a failure.
    pub(crate) fn drop_created(&self, cause: crate::error::Report) -> crate::error::Report {
        database::undone(&self.work.pair.subscriber, &self.work.source, cause)
    }

    /// Drops the database that a run created which was cut off before the first row.
    pub(crate) fn drop_half_made(&self) -> Result<()> {
        database::drop_created(&self.work.pair.subscriber, &self.work.source)
            .wrap_err_with(|| format!("drop database {:?} of the subscriber", self.work.dbname))
    }

    fn half(&self, section: &str, snapshot: Option<&str>, tail: &str) -> Result<Script> {
        let subscriber = &self.work.pair.subscriber;
        let session = subscriber.visit(self.work.dbname)?;
        let schemas: BTreeSet<String> = objects::schemas(&session)?.into_iter().collect();
        let has_status_table = objects::has_keyed_status_table(&session)?;
        drop(session);
        let mut more = vec![format!("--section={section}")];
        more.extend(snapshot.map(|snapshot| format!("--snapshot={snapshot}")));
        // The one that is there already, not the one that this copy's first half has made.
        if has_status_table {
            more.push("--exclude-table=*.flare_replication_status".to_owned());
        }
        self.work.script_of(&self.toolbox, &more, schemas, tail)
    }

    /// Loads tables, views, functions and privileges, with `tail` at the end of the transaction; how many statements.
    pub(crate) fn load_tables(
        &self,
        snapshot: &str,
        head: &str,
        tail: &str,
        transactions: Transactions,
    ) -> Result<u64> {
        let script = self.half("pre-data", Some(snapshot), tail)?;
        let subscriber = &self.work.pair.subscriber;
        load_in(
            &self.toolbox,
            subscriber,
            Login::Superuser,
            self.work.dbname,
            &script.file,
            (transactions, head),
        )
        .wrap_err_with(|| format!("load the tables of database {:?}", self.work.dbname))?;
        Ok(script.report.statements)
    }

    /// What follows the rows: indexes, constraints, triggers. The administrator's borrowed rights stand around it.
    pub(crate) fn rest(&self, snapshot: Option<&str>) -> Result<File> {
        Ok(self.half("post-data", snapshot, "")?.file)
    }

    /// Loads the second half as it is, in one transaction.
    pub(crate) fn load_rest(&self, script: &File, tail: &str) -> Result<()> {
        let subscriber = &self.work.pair.subscriber;
        load_in(
            &self.toolbox,
            subscriber,
            Login::Superuser,
            self.work.dbname,
            script,
            (Transactions::One, tail),
        )
        .wrap_err_with(|| {
            format!(
                "load what follows the rows of database {:?}",
                self.work.dbname
            )
        })
    }

    /// Owner, privileges, settings and comment of the database itself.
    pub(crate) fn equalise(&self, run: &Run) -> Result<Change> {
        self.work.equalise(run)
    }

    /// What else there is to know.
    pub(crate) fn notes(&self) -> &[String] {
        &self.work.notes
    }
}
