//! One file per command: its arguments and one short function.

mod count;
mod grant_create;
mod install_extensions;
mod replicate_roles;
mod replicate_schema;
mod verify_connectivity;

use clap::Subcommand;

use crate::cli::Globals;
use crate::error::Result;
use crate::report::Outcome;

/// What flare can be told to do.
#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(crate) enum Command {
    VerifyConnectivity(verify_connectivity::VerifyConnectivity),
    ReplicateRoles(replicate_roles::ReplicateRoles),
    ReplicateSchema(replicate_schema::ReplicateSchema),
    InstallExtensions(install_extensions::InstallExtensions),
    GrantCreate(grant_create::GrantCreate),
    Count(count::Count),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(&self, globals: &Globals) -> Result<Outcome> {
        let flare = || globals.flare(&self.name());
        match self {
            Command::VerifyConnectivity(args) => args.run(&flare()?),
            Command::ReplicateRoles(args) => args.run(&flare()?),
            Command::ReplicateSchema(args) => args.run(&flare()?),
            Command::InstallExtensions(args) => args.run(&flare()?),
            Command::GrantCreate(args) => args.run(&flare()?),
            Command::Count(args) => args.run(&flare()?),
        }
    }

    /// Its name as users write it.
    pub(crate) fn name(&self) -> String {
        match self {
            Command::VerifyConnectivity(_) => "verify_connectivity",
            Command::ReplicateRoles(_) => "replicate_roles",
            Command::ReplicateSchema(_) => "replicate_schema",
            Command::InstallExtensions(_) => "install_extensions",
            Command::GrantCreate(_) => "grant_create",
            Command::Count(_) => "count",
        }
        .to_owned()
    }

    /// `lag` answers as Nagios expects, also when it could not look.
    pub(crate) fn exit_code_of_error(&self, code: i32) -> i32 {
        code
    }
}
