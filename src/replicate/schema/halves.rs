//! The schema in two halves, with rows copied in between: tables without indexes, as of a snapshot, then what follows the rows.

use std::collections::BTreeSet;
use std::fs::File;

use super::script::Script;
use super::{QUOTED, WITHOUT_TABLESPACES, Work};
use crate::catalog::databases;
use crate::catalog::objects;
use crate::config::Tools;
use crate::error::{Failure, Result, WrapErr};
use crate::replicate::database;
use crate::replicate::load::{Transactions, load_in};
use crate::replicate::{Change, Run};
use crate::server::{Login, Pair};
use crate::tools::{Program, ProgramName, Toolbox, share};
use crate::value::ShellWord;

/// The publisher's is not loaded where the subscriber has one.
const WITHOUT_STATUS_TABLE: &str = "--exclude-table=*.flare_replication_status";

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

/// The schema as of a snapshot.
pub(crate) struct Dumped {
    /// All of it, with what takes it apart; none where each half has to be dumped by itself.
    archive: Option<(Program, File)>,
    snapshot: String,
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

    /// Describes the whole schema as of a snapshot. What reads the catalogs for one half reads them for the other, too.
    pub(crate) fn dump(&self, snapshot: &str) -> Result<Dumped> {
        let has_status_table = self.has_status_table()?;
        let archive = match self.restore() {
            None => None,
            Some(restore) => {
                let mut more = vec!["--format=custom", "--compress=0"];
                let snapshot = format!("--snapshot={snapshot}");
                more.push(&snapshot);
                more.extend(has_status_table.then_some(WITHOUT_STATUS_TABLE));
                let publisher = &self.work.pair.publisher;
                Some((restore, self.work.dump(&self.toolbox, publisher, &more)?))
            }
        };
        Ok(Dumped {
            archive,
            snapshot: snapshot.to_owned(),
        })
    }

    /// What takes an archive apart, where it prints names as the dump would have.
    fn restore(&self) -> Option<Program> {
        let quoted = self.work.args.iter().any(|it| it == QUOTED);
        if quoted {
            return None;
        }
        self.toolbox.dump.beside(ProgramName::PgRestore)
    }

    fn has_status_table(&self) -> Result<bool> {
        let session = self.work.pair.subscriber.visit(self.work.dbname)?;
        objects::has_keyed_status_table(&session)
    }

    fn part(&self, dumped: &Dumped, section: &str) -> Result<File> {
        match &dumped.archive {
            Some((restore, archive)) => self.taken_out(restore, archive, section),
            None => self.describe(section, Some(&dumped.snapshot)),
        }
    }

    fn taken_out(&self, restore: &Program, archive: &File, section: &str) -> Result<File> {
        // pg_dump writes tablespaces into an archive, whatever it was told.
        let kept = |arg: &&String| *arg == WITHOUT_TABLESPACES;
        let output: &[&str] = match restore.version.major {
            12.. => &["--file=-"],
            _ => &[],
        };
        restore
            .on(&self.work.pair.publisher, self.work.login, self.work.dbname)?
            .args(output)
            .args([format!("--section={section}")])
            .args(self.work.args.iter().filter(kept))
            .convert(share(archive)?)
            .wrap_err_with(|| format!("read the {section} of the dump"))
    }

    fn describe(&self, section: &str, snapshot: Option<&str>) -> Result<File> {
        let section = format!("--section={section}");
        let snapshot = snapshot.map(|snapshot| format!("--snapshot={snapshot}"));
        let mut more = vec![section.as_str()];
        more.extend(snapshot.as_deref());
        // The one that is there already, not the one that this copy's first half has made.
        more.extend(self.has_status_table()?.then_some(WITHOUT_STATUS_TABLE));
        self.work
            .dump(&self.toolbox, &self.work.pair.publisher, &more)
    }

    fn script(&self, part: File, tail: &str) -> Result<Script> {
        let session = self.work.pair.subscriber.visit(self.work.dbname)?;
        let schemas: BTreeSet<String> = objects::schemas(&session)?.into_iter().collect();
        drop(session);
        self.work.script_of(&self.toolbox, part, schemas, tail)
    }

    /// Tables, views, functions and privileges, with `tail` at the end of the transaction.
    pub(crate) fn tables(&self, dumped: &Dumped, tail: &str) -> Result<Script> {
        self.script(self.part(dumped, "pre-data")?, tail)
    }

    /// Loads them; how many statements.
    pub(crate) fn load_tables(
        &self,
        tables: &Script,
        head: &str,
        transactions: Transactions,
    ) -> Result<u64> {
        load_in(
            &self.toolbox,
            &self.work.pair.subscriber,
            Login::Superuser,
            self.work.dbname,
            &tables.file,
            (transactions, head),
        )
        .wrap_err_with(|| format!("load the tables of database {:?}", self.work.dbname))?;
        Ok(tables.report.statements)
    }

    /// What follows the rows: indexes, constraints, triggers. The administrator's borrowed rights stand around it.
    pub(crate) fn rest(&self, dumped: &Dumped) -> Result<File> {
        Ok(self.script(self.part(dumped, "post-data")?, "")?.file)
    }

    /// The same as the publisher has it by now, or in a snapshot.
    pub(crate) fn rest_anew(&self, snapshot: Option<&str>) -> Result<File> {
        Ok(self.script(self.describe("post-data", snapshot)?, "")?.file)
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
