//! The command line: what all commands share, and the way from arguments to an exit code.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::flare::Flare;
use crate::report::{self, Format, Terminal};
use crate::server::interrupt;

/// Moves live PostgreSQL databases (10 to 18) to a newer server over native logical replication
#[derive(Debug, Parser)]
#[command(
    name = "flare",
    version,
    max_term_width = 110,
    after_help = "Hosts, users and databases come from the configuration alone. Start with `flare init_config`, then `flare verify_connectivity`."
)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
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
    verbose: u8,
}

impl Globals {
    /// The library's door, with the configuration that was asked for.
    pub(crate) fn flare(&self, command: &str) -> Result<Flare> {
        let config = Config::load(&self.config)?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        Ok(Flare::new(config)
            .for_command(command)
            .reporting_to(Terminal::default()))
    }
}

/// The command line's definition, each command also under its kebab-case name.
pub fn definition() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let kebab = command.get_name().replace('_', "-");
        match kebab == command.get_name() {
            true => command,
            false => command.alias(clap::builder::Str::from(kebab)),
        }
    })
}

/// Runs the program; the exit code of the process.
pub fn run(args: Vec<OsString>) -> i32 {
    let parsed = definition()
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&args, &error),
    };
    let Cli { globals, command } = cli;
    start_logging(globals.verbose);
    let name = command.name();
    let outcome = interrupt::listen().and_then(|()| command.run(&globals));
    match outcome {
        Ok(outcome) => report::success(globals.format, &name, outcome),
        Err(error) => {
            let code = report::failure(globals.format, &name, &error);
            command.exit_code_of_error(code)
        }
    }
}

fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "pg_flare=info,warn",
        2 => "pg_flare=debug,info",
        _ => "pg_flare=trace,debug",
    };
    let env = env_logger::Env::default().default_filter_or(default);
    env_logger::Builder::from_env(env)
        .format_target(false)
        .init();
}

/// Help and version are answers; anything else is a usage error, in JSON too when that was asked for.
fn usage(args: &[OsString], error: &clap::Error) -> i32 {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => 0,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Err(_) => 1,
        };
    }
    let words: Vec<&str> = args.iter().skip(1).filter_map(|arg| arg.to_str()).collect();
    let wants_json = words.contains(&"--format=json")
        || words.windows(2).any(|pair| pair == ["--format", "json"]);
    let is_known = |word: &&&str| {
        let definition = definition();
        definition
            .get_subcommands()
            .any(|known| known.get_name() == word.replace('-', "_"))
    };
    let command = words
        .iter()
        .find(is_known)
        .map_or(String::new(), |word| word.replace('-', "_"));
    let code = match command.as_str() {
        "lag" => 3,
        _ => 2,
    };
    match wants_json {
        true => {
            let message = what_is_wrong(&error.to_string());
            let failure = Failure::usage(message).hint("run flare help, or flare help COMMAND");
            report::failure(Format::Json, &command, &failure.into());
        }
        // A closed standard error leaves nobody to tell.
        false => error.print().unwrap_or_default(),
    }
    code
}

/// The first paragraph of clap's message, in one line.
fn what_is_wrong(message: &str) -> String {
    let paragraph = message
        .trim_start_matches("error: ")
        .lines()
        .take_while(|line| !line.is_empty());
    paragraph.map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_sound_and_knows_kebab_case() {
        definition().debug_assert();
        let matches = definition().try_get_matches_from(["flare", "verify-connectivity"]);
        assert_eq!(
            matches.expect("a command").subcommand_name(),
            Some("verify_connectivity")
        );
    }

    #[test]
    fn every_command_says_what_it_changes_and_gives_an_example() {
        for command in definition()
            .get_subcommands()
            .filter(|it| !it.is_hide_set())
        {
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            assert!(
                after.starts_with("Changes:") && after.contains("\nExample:\n  flare "),
                "{}: {after}",
                command.get_name()
            );
        }
    }

    #[test]
    fn usage_errors_name_what_is_missing() {
        let message = "error: the following required arguments were not provided:\n  <CMD>...\n\nUsage: flare exec";
        assert_eq!(
            what_is_wrong(message),
            "the following required arguments were not provided: <CMD>..."
        );
    }
}
