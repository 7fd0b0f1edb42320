//! Other programs: finding the right `pg_dump`, `pg_restore`, `pg_dumpall` and `psql`, and running them.
//!
//! They are sent to the address that a session of flare has verified, with an environment of their own: nothing of the
//! caller's (`PGSERVICE`, `~/.pgpass`, `~/.psqlrc`) can lead them elsewhere, and the password is in no argument.

mod choice;
mod hook_process;
mod installation;
mod own;
mod run;
mod scratch;

pub(crate) use choice::{DumpProgram, Job, Toolbox};
pub(crate) use hook_process::{End, HookProcess};
pub(crate) use installation::{Program, ProgramName};
pub(crate) use own::flare_program;
#[cfg(feature = "cli")]
pub(crate) use own::this_program;
pub(crate) use run::Invocation;
pub(crate) use scratch::{WRITING, rewind, share, unlinked, written};
