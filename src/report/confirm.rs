//! Asking before something is changed that is more than one step.

use std::io::{IsTerminal, Write, stderr, stdin};

use crate::error::{Failure, Result, WrapErr};

/// Has a person type `answer`; where there is no terminal, nobody can say yes.
pub(crate) fn confirm(what: &str, answer: &str) -> Result<()> {
    confirm_list(|| Ok(String::new()), what, answer)
}

/// The same, after a list of what is meant.
pub(crate) fn confirm_list(
    list: impl FnOnce() -> Result<String>,
    what: &str,
    answer: &str,
) -> Result<()> {
    let refused = |why: &str| {
        Failure::usage(format!("{what}: {why}"))
            .hint("say --yes to go on without being asked, or --dry-run to see what would be done")
            .err()
    };
    if !stdin().is_terminal() {
        return refused("there is no terminal to ask on");
    }
    let mut err = stderr();
    let list = list()?;
    write!(err, "{list}{what}? Type {answer:?} to go on: ")
        .and_then(|()| err.flush())
        .wrap_err("ask for confirmation")?;
    let mut typed = String::new();
    stdin()
        .read_line(&mut typed)
        .wrap_err("read the confirmation")?;
    if typed.trim() == answer {
        Ok(())
    } else {
        refused("it was not confirmed")
    }
}
