//! How the subscriber's database differs from the publisher's: by two dumps of one pg_dump, or by the catalogs of both where
//! no pg_dump here can read the subscriber.

use std::fs::File;
use std::io::BufReader;

use super::shadow::{Shadowed, compare_in_shadow};
use super::{Run, Work};
use crate::catalog::databases::Database;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::replicate::drift;
use crate::schema::{Difference, DumpReport, Spelling, compare, same_icu_locale};
use crate::server::{Server, interrupt, is_lost};
use crate::tools::Toolbox;
use crate::value::counted;

impl Work<'_> {
    /// How the subscriber's database differs; compared by the catalogs where no pg_dump can read the subscriber. While it
    /// `copies`, they leave out what is made once the rows are there.
    pub(super) fn differences(&mut self, copies: bool) -> Result<(u64, Vec<Difference>)> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        let newest = publisher.release().max(subscriber.release());
        let toolbox = match (self.toolbox(newest), self.toolbox(publisher.release())) {
            (Ok(toolbox), _) => toolbox,
            (Err(lacking), Ok(toolbox)) => {
                let statements = self.same_by_catalogs(&toolbox, &lacking, copies)?;
                return Ok((statements, Vec::new()));
            }
            (Err(_), Err(lacking)) => return Err(lacking),
        };
        let as_loaded = |server: &Server| -> Result<(File, DumpReport)> {
            self.canonical(self.dump(&toolbox, server, &[])?)
        };
        let (ours, report) = as_loaded(publisher)?;
        let (theirs, _) = as_loaded(subscriber)?;
        let found = compare(
            BufReader::new(ours),
            BufReader::new(theirs),
            self.spelling(),
        )
        .wrap_err("compare the schemas")?;
        Ok((report.statements, found))
    }

    pub(super) fn spelling(&self) -> Spelling {
        let (publisher, subscriber) = (self.pair.publisher.major(), self.pair.subscriber.major());
        if publisher == subscriber {
            Spelling::OneVersion
        } else if (publisher < 14) != (subscriber < 14) {
            Spelling::AcrossFourteen
        } else {
            Spelling::AcrossVersions
        }
    }

    /// Without what create_publication and grant_replication made on the publisher after the schema was copied.
    pub(super) fn not_of_flare(&self, mut differences: Vec<Difference>) -> Vec<Difference> {
        let servers: [&Server; 2] = [&self.pair.publisher, &self.pair.subscriber];
        let repl: Vec<&str> = servers
            .iter()
            .filter_map(|server| Some(server.declared().repl.as_ref()?.user.as_str()))
            .collect();
        differences.retain(|it| !it.is_of_identity() && !it.is_of_grants_to(&repl));
        differences
    }

    /// Without those that are gone once one version prints both: `ANY (ARRAY[...])` and what hangs on the order of children
    /// or on casts that a later version has are printed otherwise by the server that a dump was loaded into.
    pub(super) fn not_of_spelling(
        &mut self,
        printed: Vec<Difference>,
        run: &Run,
    ) -> Result<Vec<Difference>> {
        if printed.is_empty() {
            return Ok(printed);
        }
        match compare_in_shadow(self.pair, self.tools, self.dbname, run) {
            Ok(Shadowed {
                drift,
                printed: left,
            }) if drift.is_empty() && left.is_empty() => {
                self.notes.push(format!(
                    "the two servers print {} otherwise, and mean the same: compared in a throwaway database of the subscriber",
                    objects_in_words(&printed)
                ));
                Ok(left)
            }
            Ok(Shadowed { printed: left, .. }) if !left.is_empty() => Ok(left),
            Ok(_) => Ok(printed),
            Err(report) => {
                interrupt::check()?;
                if is_lost(&report) {
                    return Err(report);
                }
                log::info!(
                    "compare {:?} in a throwaway database: {report:#}",
                    self.dbname
                );
                Ok(printed)
            }
        }
    }

    /// How many statements the publisher's schema has, when the catalogs of both servers hold the same schema; else how they
    /// differ.
    fn same_by_catalogs(
        &mut self,
        toolbox: &Toolbox,
        lacking: &Report,
        copies: bool,
    ) -> Result<u64> {
        let mut found = drift::look(self.pair, self.dbname)?;
        found.retain(|it| !(copies && drift::is_made_after_copy(it)));
        let unread = self.pair.subscriber.major();
        if let Some(differs) = drift::obstacle(self.pair, self.dbname, &found, &[]) {
            log::info!("compare the dumps of both: {lacking:#}");
            return Err(Report::from(differs))
                .wrap_err_with(|| format!("replicate the schema of database {:?}", self.dbname));
        }
        self.notes.push(format!(
            "compared by the catalogs of both servers: no pg_dump here can read PostgreSQL {unread}"
        ));
        let (_, report) = self.canonical(self.dump(toolbox, &self.pair.publisher, &[])?)?;
        Ok(report.statements)
    }

    /// A database that was there keeps its own.
    pub(super) fn compare_locale(&mut self, target: &Database) {
        let locale = |database: &Database| {
            let of = [
                Some(database.encoding_name.clone()),
                Some(database.datcollate.clone()),
                Some(database.datctype.clone()),
                database.datlocale.clone().or(database.daticulocale.clone()),
            ];
            of.into_iter().flatten().collect::<Vec<_>>().join(", ")
        };
        let (ours, theirs) = (locale(&self.source), locale(target));
        let icu = |database: &Database| {
            let locale = database.datlocale.clone();
            locale.or(database.daticulocale.clone()).unwrap_or_default()
        };
        let without_locale = |database: &Database| {
            (
                database.encoding_name.clone(),
                database.datcollate.clone(),
                database.datctype.clone(),
            )
        };
        let same = without_locale(&self.source) == without_locale(target)
            && same_icu_locale(&icu(&self.source), &icu(target));
        if !same {
            self.notes.push(format!(
                "encoding and locale differ: {ours} on the publisher, {theirs} on the subscriber"
            ));
        }
    }

    pub(super) fn refusal(&self, object: &str, differences: &[Difference]) -> Failure {
        const SHOWN: usize = 20;
        let said = differences.iter().take(SHOWN).map(|difference| {
            let Difference {
                object,
                publisher,
                subscriber,
                ..
            } = difference;
            match (publisher, subscriber) {
                (Some(_), None) => format!("{object}: only on the publisher"),
                (None, Some(_)) => format!("{object}: only on the subscriber"),
                _ => format!(
                    "{object}: publisher {:?}, subscriber {:?}",
                    one_line(publisher),
                    one_line(subscriber)
                ),
            }
        });
        let said = said.collect::<Vec<_>>().join("; ");
        let more = match differences.len().checked_sub(SHOWN) {
            Some(more @ 1..) => format!("; and {more} more"),
            _ => String::new(),
        };
        Failure::new(format!(
            "replicate the schema of database {:?}: the subscriber's database holds another schema ({object} among others), {}: {said}{more}; nothing was changed",
            self.dbname,
            counted(differences.len(), "difference")
        ))
        .hint("make the subscriber's objects equal, or drop them or the database there yourself and run the command again: flare drops nothing that it did not create")
    }
}

fn objects_in_words(differences: &[Difference]) -> String {
    const SHOWN: usize = 3;
    let named = differences.iter().take(SHOWN);
    let named = named.map(|it| it.object.as_str()).collect::<Vec<_>>();
    match differences.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more objects", named.join(", ")),
        _ => named.join(", "),
    }
}

fn one_line(text: &Option<String>) -> String {
    let text = text.as_deref().unwrap_or_default();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((cut, _)) => format!("{} ...", &line[..cut]),
        None => line,
    }
}
