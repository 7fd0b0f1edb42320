//! `exec`: another program, told where the verified servers are.

use std::ffi::OsString;

use crate::error::{Exit, Failure, Result};
use crate::flare::Flare;
use crate::report::{Format, Outcome};

/// Run a command with both servers' whereabouts in its environment, after checking their identities
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing itself; what the command does is its own.

The command finds FLARE_CONNINFO_PUBLISHER_HOST, _PORT and _USER, and FLARE_CONNINFO_SUBSCRIBER_HOST, _PORT and _USER \
(the configuration's superuser) in its environment, and no password. Standard input, output and signals are passed on; \
the exit code is the command's, 128+n when signal n ended it, 127 when it is not found.

Example:
  flare exec -- sh -c 'psql -h \"$FLARE_CONNINFO_SUBSCRIBER_HOST\" -p \"$FLARE_CONNINFO_SUBSCRIBER_PORT\" -U \"$FLARE_CONNINFO_SUBSCRIBER_USER\" -l'")]
pub(crate) struct Exec {
    /// The command and its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) fn run(&self, flare: &Flare, format: Format) -> Result<Outcome> {
        let Some((command, args)) = self.command.split_first() else {
            return Failure::usage("run a command: none is given").err();
        };
        let executed = flare.exec(command, args)?;
        let code = executed.exit_code;
        let outcome = Outcome::of(&executed)?.exit_code(code);
        // A person has seen what the command said; a program is told.
        let failed = format == Format::Json && code != 0;
        Ok(outcome.verdict(failed.then(|| {
            Failure::new(format!("the command ended with exit code {code}")).exit(Exit::Code(code))
        })))
    }
}
