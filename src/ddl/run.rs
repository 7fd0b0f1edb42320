//! A script, statement by statement; one that was run before goes on where it stopped.

use std::collections::BTreeSet;
use std::time::Instant;

use uuid::Uuid;

use super::kind::{First, Kind, kind_of, makes_table_of_query, refers_to_rows, without_rows};
use super::outside::{self, Begun};
use super::record::{self, Record, Stage};
use super::report::{DdlOutcome, DdlReport, DdlStatement};
use super::script::{Item, Script, shortened, shown};
use super::settle;
use super::sides::Sides;
use super::transaction::{Carried, roll_back};
use super::{failpoint, tables, transaction};
use crate::error::{Failure, Result, WrapErr};
use crate::replicate::{Mode, Run};
use crate::server::{is_lost, params};
use crate::value::TableName;

/// Brings the statements of a script to both sides.
pub(crate) fn run(
    sides: &Sides<'_>,
    script: &Script,
    role: Option<&str>,
    run: &Run,
) -> Result<DdlReport> {
    let majors = (sides.pair.publisher.major(), sides.pair.subscriber.major());
    script.check(majors)?;
    sides.streaming()?;
    let mut report = empty(sides, run);
    if report.dry_run {
        let done = done_before(sides, script)?;
        for (place, item) in script.items.iter().enumerate() {
            let outcome = match kind_of(&item.text, majors) {
                _ if place < done => DdlOutcome::Already,
                Kind::Rows => DdlOutcome::Rows,
                Kind::Outside(_) => DdlOutcome::Outside,
                Kind::Setting => DdlOutcome::Setting,
                Kind::Both(_) | Kind::Refused(_) => DdlOutcome::Both,
            };
            report.statements.push(item.became(outcome, None));
        }
        return Ok(report);
    }
    record::create(&sides.pair.publisher)?;
    let settled = settle::settle(sides, run)?;
    report.notes = settled.notes;
    sides.act_as(role.unwrap_or(sides.owner()))?;
    let before = tables::ordinary(&sides.open)?;
    transaction::rehearse(sides)?;
    let ran = Runner {
        sides,
        script,
        role: role.unwrap_or(sides.owner()),
        majors,
        settings: Vec::new(),
        before: &before,
        finished: match script.file {
            Some(_) => Vec::new(),
            None => settled.done,
        },
        run,
    }
    .all(&mut report);
    // New tables of a file that has failed half-way follow, too: the application writes to them already.
    let taken = tables::take(sides, &before, run);
    ran?;
    let (tables, notes) = taken?;
    report.tables.extend(tables);
    report.notes.extend(notes);
    Ok(report)
}

pub(super) fn empty(sides: &Sides<'_>, run: &Run) -> DdlReport {
    DdlReport {
        dbname: sides.dbname().to_owned(),
        direction: sides.direction,
        dry_run: run.mode == Mode::DryRun,
        statements: Vec::new(),
        tables: Vec::new(),
        decided: false,
        notes: Vec::new(),
    }
}

impl Item {
    fn became(&self, outcome: DdlOutcome, ms: Option<f64>) -> DdlStatement {
        DdlStatement {
            statement: self.on_one_line(),
            outcome,
            ms,
        }
    }
}

/// How many statements of the file an earlier run has done.
fn done_before(sides: &Sides<'_>, script: &Script) -> Result<usize> {
    let Some(file) = &script.file else {
        return Ok(0);
    };
    let done = record::of_file(
        sides.pair.publisher.admin(),
        sides.config,
        sides.dbname(),
        file,
    )?;
    let mut count = 0;
    for (place, item) in script.items.iter().enumerate() {
        let at = |it: &&Record| it.place == i32::try_from(place).ok();
        let Some(record) = done.iter().rfind(at) else {
            break;
        };
        if record.statement != item.text {
            return Failure::new(format!(
                "{}: an earlier run of the file did {} there, and now it reads {}",
                script.place(place, item),
                shown(&record.statement),
                item.shown()
            ))
            .hint("statements that were run are not run again: put what is new at the end, or in a file of another name")
            .err();
        }
        count = place + 1;
    }
    Ok(count)
}

struct Runner<'a> {
    sides: &'a Sides<'a>,
    script: &'a Script,
    role: &'a str,
    majors: (i32, i32),
    settings: Vec<String>,
    /// The tables that were there before the script.
    before: &'a BTreeSet<TableName>,
    /// What an earlier run had begun and both sides have now: whoever gives it again has not seen its end. Files know by
    /// the place.
    finished: Vec<String>,
    run: &'a Run,
}

impl Runner<'_> {
    fn all(mut self, report: &mut DdlReport) -> Result<()> {
        let done = done_before(self.sides, self.script)?;
        for (place, item) in self.script.items.iter().enumerate() {
            let kind = kind_of(&item.text, self.majors);
            let outcome = match (&kind, place < done) {
                (Kind::Setting, _) => self.setting(place, item),
                (_, false) if self.finished.contains(&item.text) => {
                    Ok(item.became(DdlOutcome::Already, None))
                }
                (_, true) => Ok(item.became(DdlOutcome::Already, None)),
                (kind, false) => self.one(place, item, kind, report),
            };
            let outcome = outcome.wrap_err_with(|| {
                let place = self.script.place(place, item);
                match self.script.file {
                    Some(_) => format!("{place}: {}", item.shown()),
                    None => place,
                }
            })?;
            self.run.progress.step(&shortened(&outcome.statement));
            report.statements.push(outcome);
        }
        Ok(())
    }

    fn setting(&mut self, place: usize, item: &Item) -> Result<DdlStatement> {
        self.settings.push(item.text.clone());
        for session in [&self.sides.open, &self.sides.receiving] {
            self.sides
                .settle_in(session, std::slice::from_ref(&item.text))?;
        }
        let record = self.record(place, item, &Kind::Setting);
        let admin = self.sides.pair.publisher.admin();
        record::begin(admin, self.sides.config, &record)?;
        record::ended(admin, record.id, Stage::Done)?;
        Ok(item.became(DdlOutcome::Setting, None))
    }

    fn record(&self, place: usize, item: &Item, kind: &Kind) -> Record {
        let first = match kind {
            Kind::Both(first) | Kind::Outside(first) => *first,
            _ => First::Open,
        };
        Record {
            id: Uuid::new_v4(),
            dbname: self.sides.dbname().to_owned(),
            direction: self.sides.direction,
            role: self.role.to_owned(),
            statement: item.text.clone(),
            receiving: match kind {
                Kind::Rows | Kind::Setting => String::new(),
                _ if makes_table_of_query(&item.text) => without_rows(&item.text),
                _ => item.text.clone(),
            },
            settings: self.settings.clone(),
            place: match self.script.file {
                Some(_) => i32::try_from(place).ok(),
                None => None,
            },
            file: self.script.file.clone(),
            stage: Stage::Begun,
            open_xid: None,
            receiving_xid: None,
            outside: matches!(kind, Kind::Outside(_)),
            open_first: first == First::Open,
            at: String::new(),
        }
    }

    fn one(
        &self,
        place: usize,
        item: &Item,
        kind: &Kind,
        report: &mut DdlReport,
    ) -> Result<DdlStatement> {
        let admin = self.sides.pair.publisher.admin();
        let record = self.record(place, item, kind);
        if let Kind::Both(First::Open) | Kind::Outside(_) = kind {
            if refers_to_rows(&item.text) {
                // Those of a table that the file has made before are on the open side alone.
                let (tables, notes) = tables::take(self.sides, self.before, self.run)?;
                report.tables.extend(tables);
                report.notes.extend(notes);
            }
            self.sides.copied()?;
        }
        if *kind != Kind::Rows {
            self.sides.catch_up()?;
        }
        record::begin(admin, self.sides.config, &record)?;
        failpoint::before("begun")?;
        let carried = match kind {
            Kind::Outside(first) => {
                outside::carry_out(self.sides, &record, *first, Begun::Now, self.run)
            }
            Kind::Both(first) => transaction::carry_out(self.sides, &record, *first, self.run),
            _ => self.rows(&record),
        };
        match carried {
            Ok(Carried::Done(held)) => {
                let outcome = match kind {
                    Kind::Rows => DdlOutcome::Rows,
                    _ => DdlOutcome::Done,
                };
                Ok(item.became(outcome, Some(held.as_secs_f64() * 1000.0)))
            }
            Ok(Carried::Already) => {
                record::ended(admin, record.id, Stage::Done)?;
                Ok(item.became(DdlOutcome::Already, None))
            }
            Err(report) => {
                // What has failed by a server's answer before anything was committed is undone; the rest is settled later.
                let untouched = record::stage_of(admin, record.id)? == Stage::Begun;
                if untouched && !is_lost(&report) && !record.outside {
                    record::ended(admin, record.id, Stage::Undone)?;
                }
                Err(report)
            }
        }
    }

    /// On the open side alone, its transaction on record.
    fn rows(&self, record: &Record) -> Result<Carried> {
        let (open, admin) = (&self.sides.open, self.sides.pair.publisher.admin());
        let since = Instant::now();
        open.batch("BEGIN READ WRITE; SET LOCAL lock_timeout = '10s'")?;
        let ran = || -> Result<()> {
            open.batch(&record.statement)?;
            open.batch("SET CONSTRAINTS ALL IMMEDIATE")?;
            let xid: String = open.value("SELECT txid_current()::text", params![])?;
            record::committing(admin, record.id, &xid, "")
        };
        if let Err(report) = ran() {
            if !is_lost(&report) {
                roll_back(open)?;
            }
            return Err(report);
        }
        open.batch("COMMIT")?;
        record::ended(admin, record.id, Stage::Done)?;
        Ok(Carried::Done(since.elapsed()))
    }
}
