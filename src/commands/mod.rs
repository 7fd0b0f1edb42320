//! One file per command: its arguments and one short function.

mod adopt;
mod attack;
mod cleanup;
mod completions;
mod count;
mod create_attack_db;
mod create_publication;
mod create_replication_status_table;
mod create_subscription;
mod cutover;
mod ddl;
mod drop_publication;
mod drop_subscription;
mod exec;
mod fallback;
mod grant_create;
mod grant_replication;
mod init_config;
mod initial_copy;
mod install_extensions;
mod lag;
mod line;
mod man;
mod monitor;
mod pause_write;
mod preflight;
mod prepare;
mod replicate_roles;
mod replicate_schema;
mod replicate_sequences;
mod reset_replication_status;
mod resume_write;
mod status;
mod switch;
mod vacuum_analyze;
mod verify_attack;
mod verify_connectivity;
mod verify_data;
mod verify_schema;

use clap::Subcommand;

pub(crate) use line::{Globals, Line, definition};

use crate::copy::holder;
use crate::cutover::guard_process;
use crate::error::{Failure, Result};
use crate::flare::LagStatus;
use crate::report::{self, Format, Outcome};

/// What flare can be told to do.
#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(crate) enum Command {
    VerifyConnectivity(verify_connectivity::VerifyConnectivity),
    Preflight(preflight::Preflight),
    ReplicateRoles(replicate_roles::ReplicateRoles),
    ReplicateSchema(replicate_schema::ReplicateSchema),
    InstallExtensions(install_extensions::InstallExtensions),
    GrantCreate(grant_create::GrantCreate),
    GrantReplication(grant_replication::GrantReplication),
    CreatePublication(create_publication::CreatePublication),
    DropPublication(drop_publication::DropPublication),
    CreateSubscription(create_subscription::CreateSubscription),
    DropSubscription(drop_subscription::DropSubscription),
    InitialCopy(initial_copy::InitialCopy),
    Adopt(adopt::Adopt),
    CreateReplicationStatusTable(create_replication_status_table::CreateReplicationStatusTable),
    ResetReplicationStatus(reset_replication_status::ResetReplicationStatus),
    ReplicateSequences(replicate_sequences::ReplicateSequences),
    PauseWrite(pause_write::PauseWrite),
    ResumeWrite(resume_write::ResumeWrite),
    Cutover(cutover::Cutover),
    Fallback(fallback::Fallback),
    Cleanup(cleanup::Cleanup),
    Ddl(ddl::Ddl),
    Count(count::Count),
    Prepare(prepare::Prepare),
    Status(status::Status),
    Lag(lag::Lag),
    Monitor(monitor::Monitor),
    VacuumAnalyze(vacuum_analyze::VacuumAnalyze),
    VerifyData(verify_data::VerifyData),
    VerifySchema(verify_schema::VerifySchema),
    Exec(exec::Exec),
    CreateAttackDb(create_attack_db::CreateAttackDb),
    Attack(attack::Attack),
    VerifyAttack(verify_attack::VerifyAttack),
    InitConfig(init_config::InitConfig),
    Completions(completions::Completions),
    Man(man::Man),
    /// Started by flare itself: undoes the pause, or finishes it, when the flare that began it dies
    #[command(hide = true)]
    Guard,
    /// Started by flare itself: keeps a snapshot when the flare that copies dies
    #[command(hide = true)]
    HoldSnapshot {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<std::ffi::OsString>,
    },
}

impl Command {
    /// Runs it.
    pub(crate) fn run(&self, globals: &Globals) -> Result<Outcome> {
        if globals.format == Format::Nagios && !matches!(self, Command::Lag(_)) {
            return Failure::usage(format!("{}: --format nagios is of lag alone", self.name()))
                .err();
        }
        let flare = || globals.flare(&self.name());
        match self {
            Command::VerifyConnectivity(args) => args.run(&flare()?),
            Command::Preflight(args) => args.run(&flare()?),
            Command::ReplicateRoles(args) => args.run(&flare()?),
            Command::ReplicateSchema(args) => args.run(&flare()?),
            Command::InstallExtensions(args) => args.run(&flare()?),
            Command::GrantCreate(args) => args.run(&flare()?),
            Command::GrantReplication(args) => args.run(&flare()?),
            Command::CreatePublication(args) => args.run(&flare()?),
            Command::DropPublication(args) => args.run(&flare()?),
            Command::CreateSubscription(args) => args.run(&flare()?),
            Command::DropSubscription(args) => args.run(&flare()?),
            Command::InitialCopy(args) => args.run(&flare()?),
            Command::Adopt(args) => args.run(&flare()?),
            Command::CreateReplicationStatusTable(args) => args.run(&flare()?),
            Command::ResetReplicationStatus(args) => args.run(&flare()?),
            Command::ReplicateSequences(args) => args.run(&flare()?),
            Command::PauseWrite(args) => args.run(&flare()?),
            Command::ResumeWrite(args) => args.run(&flare()?),
            Command::Cutover(args) => args.run(&flare()?),
            Command::Fallback(args) => args.run(&flare()?),
            Command::Cleanup(args) => args.run(&flare()?),
            Command::Ddl(args) => args.run(&flare()?),
            Command::Count(args) => args.run(&flare()?),
            Command::Prepare(args) => args.run(&flare()?),
            Command::Status(args) => args.run(globals),
            Command::Lag(args) => args.run(&flare()?, globals.format),
            Command::Monitor(args) => args.run(&flare()?, globals.format),
            Command::VacuumAnalyze(args) => args.run(&flare()?),
            Command::VerifyData(args) => args.run(&flare()?),
            Command::VerifySchema(args) => args.run(&flare()?),
            Command::Exec(args) => args.run(&flare()?, globals.format),
            Command::CreateAttackDb(args) => args.run(),
            Command::Attack(args) => args.run(),
            Command::VerifyAttack(args) => args.run(),
            Command::InitConfig(args) => args.run(),
            Command::Completions(args) => args.run(),
            Command::Man(args) => args.run(),
            Command::Guard => guard_process::run(report::line).map(|()| Outcome::silent()),
            Command::HoldSnapshot { program } => holder::run(program).map(|()| Outcome::silent()),
        }
    }

    /// Its name as users write it.
    pub(crate) fn name(&self) -> String {
        match self {
            Command::VerifyConnectivity(_) => "verify_connectivity",
            Command::Preflight(_) => "preflight",
            Command::ReplicateRoles(_) => "replicate_roles",
            Command::ReplicateSchema(_) => "replicate_schema",
            Command::InstallExtensions(_) => "install_extensions",
            Command::GrantCreate(_) => "grant_create",
            Command::GrantReplication(_) => "grant_replication",
            Command::CreatePublication(_) => "create_publication",
            Command::DropPublication(_) => "drop_publication",
            Command::CreateSubscription(_) => "create_subscription",
            Command::DropSubscription(_) => "drop_subscription",
            Command::InitialCopy(_) => "initial_copy",
            Command::Adopt(_) => "adopt",
            Command::CreateReplicationStatusTable(_) => "create_replication_status_table",
            Command::ResetReplicationStatus(_) => "reset_replication_status",
            Command::ReplicateSequences(_) => "replicate_sequences",
            Command::PauseWrite(_) => "pause_write",
            Command::ResumeWrite(_) => "resume_write",
            Command::Cutover(_) => "cutover",
            Command::Fallback(_) => "fallback",
            Command::Cleanup(_) => "cleanup",
            Command::Ddl(_) => "ddl",
            Command::Count(_) => "count",
            Command::Prepare(_) => "prepare",
            Command::Status(_) => "status",
            Command::Lag(_) => "lag",
            Command::Monitor(_) => "monitor",
            Command::VacuumAnalyze(_) => "vacuum_analyze",
            Command::VerifyData(_) => "verify_data",
            Command::VerifySchema(_) => "verify_schema",
            Command::Exec(_) => "exec",
            Command::CreateAttackDb(_) => "create_attack_db",
            Command::Attack(_) => "attack",
            Command::VerifyAttack(_) => "verify_attack",
            Command::InitConfig(_) => "init_config",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
            Command::Guard => guard_process::COMMAND,
            Command::HoldSnapshot { .. } => holder::COMMAND,
        }
        .to_owned()
    }

    /// `lag` answers as Nagios expects, also when it could not look.
    pub(crate) fn exit_code_of_error(&self, code: i32) -> i32 {
        const SIGNALS: i32 = 128;
        match self {
            Command::Lag(_) if code < SIGNALS => lag::exit_code(LagStatus::Unknown),
            _ => code,
        }
    }
}
