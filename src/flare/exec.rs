//! Another program, run with the verified servers in its environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use duct::unix::HandleExt;
use serde::Serialize;

use super::Flare;
use crate::error::{Error, Exit, Failure, Result, WrapErr};
use crate::server::interrupt::Relayed;
use crate::server::{Pair, Server};

/// How a program that was run for the user ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Executed {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Flare {
    /// Runs a command with `FLARE_CONNINFO_{PUBLISHER,SUBSCRIBER}_{HOST,PORT,USER}` in its environment, after both
    /// servers have proven who they are. Its streams are the caller's; signals are passed on to it.
    ///
    /// # Errors
    /// When a server is not the declared one, or the command cannot be started.
    pub fn exec(&self, command: &OsString, args: &[OsString]) -> Result<Executed, Error> {
        let Pair {
            publisher,
            subscriber,
        } = self.open().both()?;
        let variables: BTreeMap<String, String> = [&*publisher, &*subscriber]
            .into_iter()
            .flat_map(variables_of)
            .collect();
        // The sessions have done their work; a long command is not to hold them.
        drop((publisher, subscriber));
        Ok(run(command, args, &variables)?)
    }
}

/// The whereabouts of a server, never a password.
fn variables_of(server: &Server) -> [(String, String); 3] {
    let host = server.declared();
    let side = server.side().to_string().to_uppercase();
    [
        ("HOST", host.host.clone()),
        ("PORT", host.port.to_string()),
        ("USER", host.superuser.user.clone()),
    ]
    .map(|(name, value)| (format!("FLARE_CONNINFO_{side}_{name}"), value))
}

fn run(
    command: &OsString,
    args: &[OsString],
    variables: &BTreeMap<String, String>,
) -> Result<Executed> {
    let mut signals = Relayed::catch()?;
    let expression = variables
        .iter()
        .fold(duct::cmd(command, args), |expression, (name, value)| {
            expression.env(name, value)
        });
    let child = expression
        .unchecked()
        .start()
        .map_err(|error| not_started(command, &error))?;
    let handle = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            signals.each(|signal| {
                if let Err(error) = child.send_signal(signal) {
                    log::debug!("pass on signal {signal}: {error}");
                }
            });
        });
        let ended = child
            .wait()
            .map(|output| executed(output.status))
            .wrap_err("wait for the command");
        handle.close();
        ended
    })
}

fn executed(status: ExitStatus) -> Executed {
    let signal = status.signal();
    let code = status.code().or(signal.map(|signal| 128 + signal));
    Executed {
        exit_code: code.unwrap_or(1),
        signal,
    }
}

fn not_started(command: &OsString, error: &io::Error) -> Failure {
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (127, "give the command's path, or a name that PATH finds"),
        _ => (126, "check that it is a program, and may be executed"),
    };
    Failure::new(format!("run {command:?}: {error}"))
        .hint(hint)
        .exit(Exit::Code(code))
}

impl std::fmt::Display for Executed {
    /// Nothing: the command has spoken for itself.
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Executed> {
        let args = ["-c".into(), script.into()];
        let variables = BTreeMap::from([("FLARE_TEST_EXEC".to_owned(), "7".to_owned())]);
        run(&"sh".into(), &args, &variables)
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        assert_eq!(shell("exit $FLARE_TEST_EXEC").unwrap().exit_code, 7);
        let killed = shell("kill -9 $$").unwrap();
        assert_eq!((killed.exit_code, killed.signal), (137, Some(9)));
        let error = run(&"flare-no-such-program".into(), &[], &BTreeMap::new()).unwrap_err();
        assert_eq!(crate::error::exit_of(&error).code(), 127);
    }
}
