//! The whole command line: what all commands share, and which command.

use std::path::{Path, PathBuf};

use clap::{ArgAction, CommandFactory, Parser};

use super::Command;
use crate::config::Config;
use crate::error::Result;
use crate::flare::Flare;
use crate::report::{Format, Terminal};
use crate::tools::this_program;

/// Moves live PostgreSQL databases (10 to 18) to a newer server over native logical replication
#[derive(Debug, Parser)]
#[command(
    name = "flare",
    version,
    max_term_width = 110,
    after_help = "Hosts, users and databases come from the configuration alone. Start with `flare init_config`, then `flare verify_connectivity`."
)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What all commands share.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Globals {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "./flare.yml"
    )]
    config: PathBuf,
    /// How the result is printed: for a person, or as one JSON object
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Say more on standard error: -v what is done, -vv every detail (or RUST_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Globals {
    /// The library's façade, with the configuration that was asked for.
    pub(crate) fn flare(&self, command: &str) -> Result<Flare> {
        self.flare_of(&self.config, command)
    }

    /// The same with another configuration.
    pub(crate) fn flare_of(&self, file: &Path, command: &str) -> Result<Flare> {
        let config = Config::load(file)?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        Ok(Flare::new(config)
            .for_command(command)
            .guarded_by(this_program()?)
            .reporting_to(Terminal::default()))
    }
}

/// The command line's definition, each command also under its kebab-case name.
pub(crate) fn definition() -> clap::Command {
    Line::command().mut_subcommands(|command| {
        let kebab = command.get_name().replace('_', "-");
        if kebab == command.get_name() {
            command
        } else {
            command.alias(clap::builder::Str::from(kebab))
        }
    })
}
