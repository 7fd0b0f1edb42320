//! The schema of one database: dumped, rewritten for the subscriber, loaded as one transaction into a database that
//! flare creates, or compared with what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};

use serde::Serialize;

use super::database::{self, Borrowed, Owner, Properties};
use super::extensions::Situation;
use super::load::load;
use super::loaded::{self, Loaded};
use super::{Change, Done, Mode, Run, identity};
use crate::catalog::databases::{self, Database};
use crate::catalog::objects::{self, NamedRoles};
use crate::catalog::roles::{foreign_roles, missing_roles};
use crate::catalog::settings;
use crate::catalog::tables::listed;
use crate::config::Tools;
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::schema::{
    Difference, DumpReport, DumpTarget, Loader, Restrict, Spelling, compare, fingerprint,
    rewrite_dump,
};
use crate::server::{Login, Pair, Server, Side};
use crate::tools::{DumpProgram, Job, Toolbox, unlinked};
use crate::value::Ident;

/// How `replicate_schema` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaOutcome {
    /// The database was created and filled.
    Created,
    /// The database was there, without objects, and was filled.
    Loaded,
    /// The database holds this schema already.
    Already,
}

/// How many statements of the dump were treated in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Treated {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// What `replicate_schema` did, or in a dry run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaChange {
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The database.
    pub dbname: String,
    /// How it ended, or would end.
    pub outcome: SchemaOutcome,
    /// Statements of the dump.
    pub statements: u64,
    /// Statements that were left out.
    pub removed: Vec<Treated>,
    /// Statements that were written differently for the subscriber's version.
    pub rewritten: Vec<Treated>,
    /// What was done to the database itself.
    pub database: Vec<Done>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl fmt::Display for SchemaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dbname, statements, ..
        } = self;
        let would = if self.dry_run { "would be " } else { "" };
        match self.outcome {
            SchemaOutcome::Created => writeln!(
                f,
                "database {dbname:?} {would}created and its schema {would}loaded ({statements} statements)"
            )?,
            SchemaOutcome::Loaded => writeln!(
                f,
                "schema of database {dbname:?} {would}loaded ({statements} statements)"
            )?,
            SchemaOutcome::Already => {
                writeln!(f, "database {dbname:?} holds the same schema already")?;
            }
        }
        for Done { what, .. } in &self.database {
            match self.dry_run {
                true => writeln!(f, "would {what}")?,
                false => writeln!(f, "done: {what}")?,
            }
        }
        for (done, list) in [("left out", &self.removed), ("rewritten", &self.rewritten)] {
            for Treated { reason, count } in list {
                writeln!(f, "{done}: {count} ({reason})")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

/// The error for roles that the subscriber lacks.
pub(super) fn refuse_missing(dbname: &str, missing: &[String]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    Failure::new(format!(
        "replicate database {dbname:?}: the subscriber lacks roles that own objects or hold privileges there: {}; nothing was created",
        missing.join(", ")
    ))
    .hint("run flare replicate_roles first; a role that it leaves alone has to be created by hand, or its objects given to another owner")
    .err()
}

/// What one run works with.
struct Work<'a> {
    pair: &'a Pair,
    tools: &'a Tools,
    dbname: &'a str,
    login: Login,
    source: Database,
    roles: NamedRoles,
    /// Arguments of pg_dump that hold for both sides.
    args: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Work<'a> {
    fn read(pair: &'a Pair, tools: &'a Tools, dbname: &'a str, login: Login) -> Result<Self> {
        let source = database::source(&pair.publisher, dbname)?;
        let session = pair.publisher.connect(login, dbname)?;
        let mut work = Work {
            pair,
            tools,
            dbname,
            login,
            source,
            roles: objects::named_roles(&session)?,
            args: [
                "--schema-only",
                "--no-password",
                "--no-publications",
                "--no-subscriptions",
                "--exclude-schema=flare",
                "--lock-wait-timeout=30000",
            ]
            .map(str::to_owned)
            .to_vec(),
            notes: Vec::new(),
        };
        let offered = objects::all_tablespaces(pair.subscriber.admin())?;
        let mut lacking = objects::tablespaces(&session)?;
        lacking.retain(|tablespace| !offered.contains(tablespace));
        if !lacking.is_empty() {
            work.args.push("--no-tablespaces".to_owned());
            work.notes.push(format!(
                "the subscriber has no tablespace {}: everything goes to the default one",
                lacking.join(", ")
            ));
        }
        Ok(work)
    }

    fn toolbox(&self, newest: i32) -> Result<Toolbox> {
        let job = Job {
            dump: DumpProgram::PgDump,
            publisher: newest,
            subscriber: self.pair.subscriber.major(),
        };
        Toolbox::find(self.tools, job)
    }

    fn dump(&self, toolbox: &Toolbox, server: &Server, more: &[&str]) -> Result<File> {
        toolbox
            .dump
            .on(server, self.login, self.dbname)?
            .args(self.args.iter())
            .args(more.iter().copied())
            .dump()
            .wrap_err_with(|| {
                format!(
                    "dump the schema of database {:?} of the {}",
                    self.dbname,
                    server.side()
                )
            })
            .map_err(
                |report| match message_of(&report).contains("permission denied") {
                    true => hinted(report, server, self.login),
                    false => report,
                },
            )
    }

    fn rewrite(
        &self,
        dumped: File,
        output: &mut impl Write,
        schemas: BTreeSet<String>,
    ) -> Result<DumpReport> {
        let subscriber = &self.pair.subscriber;
        let target = DumpTarget {
            major: subscriber.major().unsigned_abs(),
            loader: match subscriber.facts().superuser {
                true => Loader::Superuser,
                false => Loader::Ordinary,
            },
            restrict: Restrict::Keep,
            schemas,
        };
        rewrite_dump(BufReader::new(dumped), output, &target)
            .wrap_err("rewrite the schema for the subscriber")
    }

    /// All that can be known beforehand to fail.
    fn check(&mut self) -> Result<()> {
        let missing = missing_roles(self.pair.subscriber.admin(), &self.roles.all)?;
        refuse_missing(self.dbname, &missing)?;
        self.refuse_oids()?;
        let extensions = Situation::read(self.pair, self.dbname, self.login)?;
        extensions.check()?;
        self.notes.extend(extensions.notes());
        Ok(())
    }

    /// pg_dump leaves the oids of such tables out with no more than a warning.
    fn refuse_oids(&self) -> Result<()> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        if publisher.major() >= 12 || subscriber.major() < 12 {
            return Ok(());
        }
        let session = publisher.connect(self.login, self.dbname)?;
        let tables = objects::tables_with_oids(&session)?;
        let Some(first) = tables.first() else {
            return Ok(());
        };
        Failure::new(format!(
            "replicate the schema of database {:?}: PostgreSQL {} has no tables WITH OIDS, and the publisher has {}; nothing was created",
            self.dbname,
            subscriber.major(),
            listed(&tables)
        ))
        .hint(format!(
            "where nothing reads that column: ALTER TABLE {first} SET WITHOUT OIDS on the publisher; else move it to a column of its own first"
        ))
        .err()
    }

    /// The script that is loaded: the administrator acts for the owners while it runs.
    fn script(
        &self,
        schemas: BTreeSet<String>,
        has_status_table: bool,
    ) -> Result<(Toolbox, Script)> {
        let subscriber = &self.pair.subscriber;
        let toolbox = self.toolbox(self.pair.publisher.major())?;
        let ours: &[&str] = match has_status_table {
            true => &["--exclude-table=public.flare_replication_status"],
            false => &[],
        };
        let mut dumped = self.dump(&toolbox, &self.pair.publisher, ours)?;
        let again = dumped.try_clone().wrap_err("share the temporary file")?;
        let (canonical, _) = self.canonical(again)?;
        let fingerprint = fingerprint(BufReader::new(canonical))?;
        dumped
            .seek(SeekFrom::Start(0))
            .wrap_err("rewind the temporary file")?;
        let borrowed = Borrowed::of(subscriber, foreign_roles(subscriber, &self.roles.owners)?)?;
        let (mut head, mut tail) = borrowed.script();
        if !subscriber.facts().superuser {
            let owners = PublicSchema::read(self)?;
            head.push_str(&owners.opened());
            tail.insert_str(0, &owners.closed());
        }
        let mut file = unlinked()?;
        let mut output = BufWriter::new(file.try_clone().wrap_err("share the temporary file")?);
        write!(output, "SET TRANSACTION READ WRITE;\n{head}")
            .wrap_err("write the temporary file")?;
        let report = self.rewrite(dumped, &mut output, schemas)?;
        output
            .write_all(tail.as_bytes())
            .and_then(|()| output.flush())
            .wrap_err("write the temporary file")?;
        drop(output);
        file.seek(SeekFrom::Start(0))
            .wrap_err("rewind the temporary file")?;
        Ok((
            toolbox,
            Script {
                file,
                report,
                fingerprint,
            },
        ))
    }

    /// A dump as it is loaded into a new database, whatever the subscriber's already has.
    fn canonical(&self, dumped: File) -> Result<(File, DumpReport)> {
        let mut file = unlinked()?;
        let mut output = BufWriter::new(file.try_clone().wrap_err("share the temporary file")?);
        let public = BTreeSet::from(["public".to_owned()]);
        let report = self.rewrite(dumped, &mut output, public)?;
        output.flush().wrap_err("write the temporary file")?;
        drop(output);
        file.seek(SeekFrom::Start(0))
            .wrap_err("rewind the temporary file")?;
        Ok((file, report))
    }

    fn load(&self, toolbox: &Toolbox, script: &Script, run: &Run) -> Result<()> {
        run.progress.step(&format!(
            "loading the schema of database {:?} ({} statements)",
            self.dbname, script.report.statements
        ));
        load(
            toolbox,
            &self.pair.subscriber,
            Login::Superuser,
            self.dbname,
            &script.file,
        )
        .wrap_err_with(|| format!("load the schema of database {:?}", self.dbname))
    }

    /// How the subscriber's database differs; compared by what was loaded where no pg_dump can read the subscriber.
    fn differences(&mut self) -> Result<(u64, Vec<Difference>)> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        let newest = publisher.major().max(subscriber.major());
        let toolbox = match (self.toolbox(newest), self.toolbox(publisher.major())) {
            (Ok(toolbox), _) => toolbox,
            (Err(lacking), Ok(toolbox)) => {
                return Ok((self.same_as_loaded(&toolbox, lacking)?, Vec::new()));
            }
            (Err(_), Err(lacking)) => return Err(lacking),
        };
        let as_loaded = |server: &Server| -> Result<(File, DumpReport)> {
            self.canonical(self.dump(&toolbox, server, &[])?)
        };
        let (ours, report) = as_loaded(publisher)?;
        let (theirs, _) = as_loaded(subscriber)?;
        let spelling = match publisher.major() == subscriber.major() {
            true => Spelling::OneVersion,
            false => Spelling::AcrossVersions,
        };
        let found = compare(BufReader::new(ours), BufReader::new(theirs), spelling)
            .wrap_err("compare the schemas")?;
        Ok((report.statements, found))
    }

    /// How many statements the publisher's schema has, when it still is what was loaded; else why that is not known.
    fn same_as_loaded(&mut self, toolbox: &Toolbox, lacking: Report) -> Result<u64> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        let (canonical, report) = self.canonical(self.dump(toolbox, publisher, &[])?)?;
        let fingerprint = fingerprint(BufReader::new(canonical))?;
        let major = toolbox.dump.version.major;
        let found = loaded::find(subscriber, self.dbname, publisher.identifier())?;
        let why = match &found {
            None => "nothing is on record of how it came there".to_owned(),
            Some(found) if found.pg_dump_major != major => format!(
                "what is on record of {} was written by pg_dump {}, and here is {major}",
                found.loaded_at, found.pg_dump_major
            ),
            Some(found) if found.fingerprint != fingerprint => format!(
                "the publisher's schema is not the one any more that was loaded at {}",
                found.loaded_at
            ),
            Some(found) if found.shape != loaded::shape(subscriber, self.dbname)? => format!(
                "the subscriber's tables are not as they were any more when the schema was loaded at {}",
                found.loaded_at
            ),
            Some(found) => {
                self.notes.push(format!(
                    "compared with what was loaded at {} by a fingerprint, and the subscriber by its relations and columns: no pg_dump here can read PostgreSQL {}",
                    found.loaded_at,
                    subscriber.major()
                ));
                return Ok(report.statements);
            }
        };
        Err(lacking.wrap_err(format!(
            "compare the schema of database {:?} with what the subscriber holds: {why}; the differences take client programs of PostgreSQL {} or newer; nothing was changed",
            self.dbname,
            subscriber.major().max(publisher.major())
        )))
    }

    /// For the next run, which may find no pg_dump that reads the subscriber.
    fn remember(&self, toolbox: &Toolbox, script: &Script) {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        match loaded::shape(subscriber, self.dbname) {
            Ok(shape) => {
                let loaded = Loaded {
                    fingerprint: script.fingerprint.clone(),
                    pg_dump_major: toolbox.dump.version.major,
                    shape,
                    loaded_at: String::new(),
                };
                loaded::remember(subscriber, self.dbname, publisher.identifier(), &loaded);
            }
            Err(report) => log::info!("remember what was loaded: {report:#}"),
        }
    }

    fn change(&self, outcome: SchemaOutcome, report: &DumpReport, run: &Run) -> SchemaChange {
        let treated = |map: &BTreeMap<String, u64>| {
            map.iter()
                .map(|(reason, count)| Treated {
                    reason: reason.clone(),
                    count: *count,
                })
                .collect()
        };
        SchemaChange {
            changed: false,
            dry_run: run.mode == Mode::DryRun,
            dbname: self.dbname.to_owned(),
            outcome,
            statements: report.statements,
            removed: treated(&report.removed),
            rewritten: treated(&report.rewritten),
            database: Vec::new(),
            notes: self.notes.clone(),
        }
    }

    /// Owner, privileges, settings and comment of the database itself.
    fn equalise(&self, run: &Run) -> Result<Change> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        let properties = Properties::read(publisher, subscriber, &self.source)?;
        match run.mode {
            Mode::Apply => properties.equalise(subscriber, run),
            Mode::DryRun => properties
                .plan(&settings::parameters(subscriber)?)
                .carry_out(subscriber.admin(), run),
        }
        .wrap_err_with(|| format!("equalise database {:?} itself", self.dbname))
    }

    /// Into a database that is not there yet.
    fn create(&mut self, run: &Run) -> Result<SchemaChange> {
        self.check()?;
        let subscriber = &self.pair.subscriber;
        let creation = database::create_statement(&self.source, subscriber.major(), Owner::Source)?;
        let (toolbox, script) = self.script(BTreeSet::from(["public".to_owned()]), false)?;
        let mut change = self.change(SchemaOutcome::Created, &script.report, run);
        change.database.push(Done {
            side: Side::Subscriber,
            dbname: "postgres".to_owned(),
            what: format!("create database {:?}", self.dbname),
            sql: creation,
        });
        if run.mode == Mode::DryRun {
            change.follow(self.equalise(run)?);
            return Ok(change);
        }
        database::create(subscriber, &self.source, run)?;
        let filled = || -> Result<Change> {
            self.load(&toolbox, &script, run)?;
            self.remember(&toolbox, &script);
            self.equalise(run)
        };
        match filled() {
            Ok(equalised) => {
                change.changed = true;
                change.follow(equalised);
                Ok(change)
            }
            Err(report) => Err(database::undone(subscriber, &self.source, report)),
        }
    }

    /// Into a database that is there.
    fn fill(&mut self, target: &Database, run: &Run) -> Result<SchemaChange> {
        let subscriber = &self.pair.subscriber;
        let application = &subscriber.target().application_name;
        let session = subscriber.connect(Login::Superuser, self.dbname)?;
        let loaders = databases::loaders(&session, self.dbname, application)?;
        if let Some(pid) = loaders.first() {
            return Failure::new(format!(
                "replicate the schema of database {:?}: an earlier run is still loading it (process {pid} of the subscriber)",
                self.dbname
            ))
            .hint(format!("wait for it, or end it there: SELECT pg_terminate_backend({pid})"))
            .err();
        }
        self.compare_locale(target);
        let Some(object) = objects::first_object(&session)? else {
            if let Some(statements) = self.both_empty()? {
                return self.already(statements, run);
            }
            self.check()?;
            let schemas = objects::schemas(&session)?.into_iter().collect();
            let (toolbox, script) = self.script(schemas, objects::has_status_table(&session)?)?;
            drop(session);
            let mut change = self.change(SchemaOutcome::Loaded, &script.report, run);
            if run.mode == Mode::Apply {
                self.load(&toolbox, &script, run)?;
                self.remember(&toolbox, &script);
                change.changed = true;
            }
            change.follow(self.equalise(run)?);
            return Ok(change);
        };
        drop(session);
        let (statements, mut differences) = self.differences()?;
        // create_publication and grant_replication make these on the publisher after the schema was copied.
        let servers: [&Server; 2] = [&self.pair.publisher, subscriber];
        let hosts = servers.map(Server::declared);
        let repl = hosts
            .iter()
            .filter_map(|host| Some(host.repl.as_ref()?.user.as_str()));
        let repl: Vec<&str> = repl.collect();
        differences.retain(|it| !it.is_of_identity() && !it.is_of_grants_to(&repl));
        if !differences.is_empty() {
            return Err(self.refusal(&object, &differences).into());
        }
        self.already(statements, run)
    }

    fn already(&self, statements: u64, run: &Run) -> Result<SchemaChange> {
        let report = DumpReport {
            statements,
            ..DumpReport::default()
        };
        let mut change = self.change(SchemaOutcome::Already, &report, run);
        change.follow(identity::equalise(self.pair, self.dbname, None, run)?);
        change.follow(self.equalise(run)?);
        Ok(change)
    }

    /// The statements of a dump without objects, when the subscriber, which has none, has the same schemas and extensions.
    fn both_empty(&mut self) -> Result<Option<u64>> {
        let session = self.pair.publisher.connect(self.login, self.dbname)?;
        if objects::first_object(&session)?.is_some() {
            return Ok(None);
        }
        drop(session);
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        let cannot_read = self
            .toolbox(publisher.major().max(subscriber.major()))
            .is_err();
        match self.differences() {
            Ok((statements, differences)) => Ok(differences.is_empty().then_some(statements)),
            // What is missing is created, and what is there stays.
            Err(_) if cannot_read => Ok(None),
            Err(report) => Err(report),
        }
    }

    fn compare_locale(&mut self, target: &Database) {
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
        if ours != theirs {
            self.notes.push(format!(
                "encoding and locale differ: {ours} on the publisher, {theirs} on the subscriber"
            ));
        }
    }

    fn refusal(&self, object: &str, differences: &[Difference]) -> Failure {
        const SHOWN: usize = 20;
        let said = differences.iter().take(SHOWN).map(|difference| {
            let Difference {
                object,
                publisher,
                subscriber,
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
            "replicate the schema of database {:?}: the subscriber's database holds another schema ({object} among others), {} differences: {said}{more}; nothing was changed",
            self.dbname,
            differences.len()
        ))
        .hint("make the subscriber's objects equal, or drop them or the database there yourself and run the command again: flare drops nothing that it did not create")
    }
}

/// pg_dump locks every table it describes, which needs a privilege on it.
fn hinted(report: Report, server: &Server, login: Login) -> Report {
    let advice = match login {
        Login::Superuser => "dump as the owner with --use-db-owner, or grant",
        _ => "grant",
    };
    let advice = format!(
        "pg_dump needs SELECT on every table and USAGE on every schema of the {}: {advice} this role what it lacks there, or membership in the owners",
        server.side()
    );
    Err::<(), _>(report).hint(|| advice).unwrap_err()
}

fn one_line(text: &Option<String>) -> String {
    let text = text.as_deref().unwrap_or_default();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((cut, _)) => format!("{} ...", &line[..cut]),
        None => line,
    }
}

impl SchemaChange {
    fn follow(&mut self, equalised: Change) {
        self.changed |= equalised.changed;
        self.database.extend(equalised.statements);
        self.notes.extend(equalised.notes);
    }
}

/// Schema public while an ordinary role gives its new tables to their owners: each of them needs CREATE there, which
/// from 15 on not everybody has, and which pg_dump grants only at the end.
struct PublicSchema {
    owners: Vec<String>,
    /// Those who hold CREATE on the publisher by a grant of their own.
    granted: Vec<String>,
}

impl PublicSchema {
    fn read(work: &Work) -> Result<PublicSchema> {
        let session = work.pair.publisher.connect(work.login, work.dbname)?;
        let mut owners = work.roles.owners.clone();
        owners.retain(|owner| *owner != work.source.owner);
        Ok(PublicSchema {
            owners,
            granted: objects::creators_in_public(&session)?,
        })
    }

    fn opened(&self) -> String {
        let grant = |owner| format!("GRANT CREATE ON SCHEMA public TO {};\n", Ident::new(owner));
        self.owners.iter().map(grant).collect()
    }

    fn closed(&self) -> String {
        self.owners
            .iter()
            .filter(|owner| !self.granted.contains(owner))
            .map(|owner| {
                format!(
                    "REVOKE CREATE ON SCHEMA public FROM {};\n",
                    Ident::new(owner)
                )
            })
            .collect()
    }
}

/// What psql is given.
struct Script {
    file: File,
    report: DumpReport,
    fingerprint: String,
}

/// Creates the database on the subscriber with the publisher's schema, or finds that it is there.
pub(crate) fn replicate(
    pair: &Pair,
    tools: &Tools,
    dbname: &str,
    login: Login,
    run: &Run,
) -> Result<SchemaChange> {
    let mut work = Work::read(pair, tools, dbname, login)?;
    match databases::database(pair.subscriber.admin(), dbname)? {
        None => work.create(run),
        Some(target) => work.fill(&target, run),
    }
}

/// The SQL as it would be loaded into a new database, for psql.
pub(crate) fn print(pair: &Pair, tools: &Tools, dbname: &str, login: Login) -> Result<File> {
    let work = Work::read(pair, tools, dbname, login)?;
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let creation = database::create_statement(&work.source, subscriber.major(), Owner::Source)?;
    let mut properties = Properties::read(publisher, subscriber, &work.source)?;
    properties.target = None;
    properties.existing = Vec::new();
    properties.subscribed = false;
    let properties = properties
        .plan(&settings::parameters(subscriber)?)
        .into_change(Mode::DryRun, false);
    let toolbox = work.toolbox(publisher.major())?;
    let dumped = work.dump(&toolbox, publisher, &[])?;
    let mut file = unlinked()?;
    let mut output = BufWriter::new(file.try_clone().wrap_err("share the temporary file")?);
    let mut head = format!("{creation};\n");
    for done in &properties.statements {
        head.push_str(&format!("{};\n", done.sql));
    }
    head.push_str(&format!("\\connect {}\n\n", connection_to(dbname)));
    output
        .write_all(head.as_bytes())
        .wrap_err("write the temporary file")?;
    work.rewrite(dumped, &mut output, BTreeSet::from(["public".to_owned()]))?;
    output.flush().wrap_err("write the temporary file")?;
    drop(output);
    file.seek(SeekFrom::Start(0))
        .wrap_err("rewind the temporary file")?;
    Ok(file)
}

/// The argument of psql's `\connect`, as pg_dump writes it for names that are not plain.
fn connection_to(dbname: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match dbname.chars().all(plain) {
        true => dbname.to_owned(),
        false => {
            let conninfo = crate::value::Conninfo::new().with("dbname", dbname);
            format!(
                "-reuse-previous=on \"{}\"",
                conninfo.to_string().replace('"', "\"\"")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_is_open_to_owners_only_while_the_schema_is_loaded() {
        let public = PublicSchema {
            owners: vec!["a\"b".into(), "app".into()],
            granted: vec!["app".into()],
        };
        assert_eq!(
            public.opened(),
            "GRANT CREATE ON SCHEMA public TO \"a\"\"b\";\nGRANT CREATE ON SCHEMA public TO \"app\";\n"
        );
        assert_eq!(
            public.closed(),
            "REVOKE CREATE ON SCHEMA public FROM \"a\"\"b\";\n"
        );
    }

    #[test]
    fn names_that_are_not_plain_are_connected_to_by_a_connection_string() {
        assert_eq!(connection_to("shop_1"), "shop_1");
        assert_eq!(
            connection_to("it's \"A\""),
            r#"-reuse-previous=on "dbname='it\'s ""A""'""#
        );
    }
}
