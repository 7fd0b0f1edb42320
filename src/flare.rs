//! The library's façade. Each method is one command: it opens verified sessions and hands them to a room.

mod beginning;
mod copying;
mod ddl;
mod direction;
mod divergence;
mod exec;
mod fleet;
mod headline;
mod migration_status;
mod monitor;
mod observation;
mod pause;
mod preflight;
mod prepare;
mod replication;
mod schema;
mod sides;
mod stage;
mod statistics;
mod status;
mod switch;
mod verification;

use std::path::PathBuf;
use std::sync::Arc;

pub use beginning::{FirstConfig, init_config};
pub use ddl::Repaired;
pub use exec::Executed;
pub use fleet::{Fleet, Migration};
pub use migration_status::MigrationStatus;
pub use observation::{CountOn, RowCount};
pub use pause::PauseOptions;
pub use prepare::{PrepareCopy, PrepareReport, PrepareStep, PreparedStep};
pub use sides::Sides;
pub use stage::Stage;
pub use status::StatusReport;
pub use switch::{Proven, SwitchOptions};

pub use crate::catalog::side::SideState;
use crate::config::Config;
pub use crate::copy::{
    AdoptBegun, AdoptMeasured, CopiedTable, CopyOptions, CopySeconds, CopyUnderWay, InitialCopy,
    Restart, UnderWay,
};
pub use crate::cutover::{
    PauseOutcome, PauseReport, ResumeReport, StepName, StepTime, SwitchOutcome, SwitchReport,
    SwitchedDatabase, Writable,
};
pub use crate::ddl::{DdlOutcome, DdlReport, DdlStatement, Decision, Script, StuckStatement};
use crate::error::Result;
pub use crate::journal::Direction;
pub use crate::observe::{LagReport, LagStatus, Sample, Sampler, SubscriptionLag};
pub use crate::preflight::connectivity::Connectivity;
pub use crate::preflight::{Checked, OnWarning, Preflight, Severity, ids as check_ids};
use crate::progress::Progress;
pub use crate::replicate::vacuum::Vacuumed;
pub use crate::replicate::{
    Change, Done, ExtensionList, ExtensionStatus, ExtensionsChange, InUse, MissingLoaded, OldSlot,
    PasswordPolicy, RoleAttributes, RolesChange, RolesOptions, SchemaChange, SchemaOutcome,
    Sequence, Sequences, Target, Treated, Unreachable, Wait,
};
use crate::replicate::{Mode, Run};
pub use crate::schema::drift::{Drift, Kind as DriftKind};
use crate::server::{
    Opened, Pair, Publisher, Server, Subscriber, application_name, open_both, open_both_visiting,
};
use crate::value::HostPort;
pub use crate::verify::{
    ColumnDifference, DataOptions, DataVerification, KeyValue, Kind, LastVerification, Resume,
    RowDifference, SchemaDifference, SchemaMethod, SchemaVerification, Shown, TableStatus, Values,
    VerifiedTable, Walk,
};
use direction::Journals;

/// One configuration's migrations.
#[derive(Clone)]
pub struct Flare {
    config: Arc<Config>,
    command: String,
    run: Run,
    /// Whether the command that this one is a step of has said the warnings of the checks.
    warned: bool,
    /// Both servers, by the sessions of that command.
    lent: Option<Pair>,
}

impl Flare {
    /// Works with this configuration; nothing is connected yet.
    pub fn new(config: Config) -> Flare {
        Flare {
            config: Arc::new(config),
            command: "library".into(),
            run: Run::quiet(),
            warned: false,
            lent: None,
        }
    }

    /// For the steps of a command that has run all checks, by its sessions where both servers were reached.
    fn as_steps(&self, lent: Option<Pair>) -> Flare {
        Flare {
            warned: true,
            lent,
            ..self.clone()
        }
    }

    /// The name that sessions carry in `pg_stat_activity`: `flare/<command>`.
    pub fn for_command(mut self, command: &str) -> Flare {
        self.command = command.to_owned();
        self
    }

    /// Where long work reports to.
    pub fn reporting_to(mut self, progress: impl Progress + 'static) -> Flare {
        self.run.progress = Arc::new(progress);
        self
    }

    /// The flare program that guards a pause, for programs that use the library; else the one on PATH.
    pub fn guarded_by(mut self, program: impl Into<PathBuf>) -> Flare {
        self.run.guard_program = Some(program.into());
        self
    }

    /// Only shows what would be changed, when asked to.
    pub fn dry_run_if(&self, dry_run: bool) -> Flare {
        let mut flare = self.clone();
        if dry_run {
            flare.run.mode = Mode::DryRun;
        }
        flare
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens both servers at once and checks their identities.
    fn open(&self) -> Opened {
        if let Some(pair) = self.lent.as_ref().filter(|pair| pair.answers()) {
            return Opened::from(pair.clone());
        }
        open_both(&self.config, &application_name(&self.command))
    }

    /// The same, with sessions for looking into these databases.
    fn open_visiting<'d>(&self, dbnames: impl IntoIterator<Item = &'d str>) -> Opened {
        let dbnames = dbnames.into_iter().collect();
        open_both_visiting(&self.config, &application_name(&self.command), &dbnames)
    }

    /// Both servers, for a command that sets up the way forward: says first what it is about to touch.
    fn pair(&self, dbnames: &[&str]) -> Result<Pair> {
        let pair = self.open().both()?;
        let journals = self.settle(&pair, dbnames)?;
        self.forward_only(&journals, dbnames)?;
        self.begin(&[&pair.publisher, &pair.subscriber], dbnames)?;
        Ok(pair)
    }

    /// The publisher alone, for a command that changes something there.
    fn publisher(&self, dbnames: &[&str]) -> Result<Publisher> {
        let opened = self.open().any()?;
        self.check_forward(&opened, dbnames)?;
        let publisher = opened.publisher()?;
        self.begin(&[&publisher], dbnames)?;
        Ok(publisher)
    }

    /// The subscriber alone, for a command that changes something there.
    fn subscriber(&self, dbnames: &[&str]) -> Result<Subscriber> {
        let opened = self.open().any()?;
        let journals = self.journals(&opened)?;
        let back = |it: &&str| journals.flow(it).direction == Direction::Back;
        let direction = if dbnames.iter().any(back) {
            Direction::Back
        } else {
            Direction::Forward
        };
        let subscriber = opened.subscriber()?;
        self.begin_in(direction, &[&subscriber], dbnames)?;
        Ok(subscriber)
    }

    /// Refuses a server that cannot be written, and says what is about to be touched.
    fn begin(&self, servers: &[&Server], dbnames: &[&str]) -> Result<()> {
        self.begin_in(Direction::Forward, servers, dbnames)
    }

    /// The same for data that flows in this direction.
    fn begin_in(&self, direction: Direction, servers: &[&Server], dbnames: &[&str]) -> Result<()> {
        for server in servers {
            server.refuse_standby()?;
        }
        self.announce(direction, servers, dbnames);
        Ok(())
    }

    fn announce(&self, direction: Direction, servers: &[&Server], dbnames: &[&str]) {
        let verb = match self.run.mode {
            Mode::Apply => "will touch",
            Mode::DryRun => "would touch",
        };
        let servers: Vec<String> = servers
            .iter()
            .map(|server| {
                let host = server.declared();
                format!("{} {}", server.side(), HostPort(&host.host, host.port))
            })
            .collect();
        let dbnames: Vec<String> = dbnames.iter().map(|dbname| format!("{dbname:?}")).collect();
        self.run.progress.announce(&format!(
            "{} {verb} {}, database {}; direction {}; configuration {}",
            self.command,
            servers.join(" and "),
            dbnames.join(", "),
            direction.as_str(),
            self.config.path.display()
        ));
    }
}
