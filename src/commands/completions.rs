//! `completions`: what a shell needs to complete flare's commands.

use std::fmt;

use clap_complete::Shell;
use serde::Serialize;

use super::definition;
use crate::error::Result;
use crate::report::Outcome;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing.

Example:
  flare completions bash > /etc/bash_completion.d/flare")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.script)
    }
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition(), "flare", &mut script);
        Outcome::of(&Script {
            shell: self.shell.to_string(),
            script: String::from_utf8_lossy(&script).into_owned(),
        })
    }
}
