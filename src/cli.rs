//! The way from arguments to an exit code.

use std::ffi::OsString;

use clap::FromArgMatches;

use crate::commands::{Line, definition};
use crate::error::Failure;
use crate::report::{self, Format};
use crate::server::interrupt;

/// Runs the program; the exit code of the process.
pub fn run(args: Vec<OsString>) -> i32 {
    let parsed = definition()
        .try_get_matches_from(&args)
        .and_then(|matches| Line::from_arg_matches(&matches));
    let line = match parsed {
        Ok(line) => line,
        Err(error) => return usage(&args, &error),
    };
    let Line { globals, command } = line;
    start_logging(globals.verbose);
    open_many_files();
    let name = command.name();
    let outcome = interrupt::listen().and_then(|()| command.run(&globals));
    match outcome {
        Ok(outcome) => report::success(globals.format, &name, outcome),
        Err(error) => {
            let code = report::failure(globals.format, &name, error);
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

/// A session takes a handful of files, and several databases at once many sessions: as many as the system allows, within
/// reason, instead of the 1,024 that a shell begins with.
fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const ENOUGH: u64 = 65_536;
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if now.current.is_some_and(|current| current < wanted) {
        let more = Rlimit {
            current: Some(wanted),
            ..now
        };
        if let Err(error) = setrlimit(Resource::Nofile, more) {
            log::debug!("raise the limit of open files to {wanted}: {error}");
        }
    }
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
    let wants_nagios = words.contains(&"--format=nagios")
        || words.windows(2).any(|pair| pair == ["--format", "nagios"]);
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
    let format = if wants_nagios {
        Format::Nagios
    } else {
        Format::Json
    };
    if wants_json || wants_nagios {
        let message = what_is_wrong(&error.to_string());
        let failure = Failure::usage(message).hint("run flare help, or flare help COMMAND");
        report::failure(format, &command, failure.into());
    } else {
        error.print().unwrap_or_default()
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
