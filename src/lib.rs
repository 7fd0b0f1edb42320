//! Moves live PostgreSQL databases (10 to 18) to a newer server over native logical replication.
//!
//! The program `flare` is a thin command line over this crate: each command is one method of [`Flare`]. A
//! [configuration](config::Config) declares two servers by their `system_identifier`; every method opens its sessions,
//! checks who the servers are, and works only when they are the declared ones. Results are values; what long work has
//! to say on the way goes to a [`progress::Progress`]. An [`Error`] has its [kind](ErrorKind), the server's SQLSTATE, and
//! what to do next.
//!
//! The program is the default feature `cli`; without it no crate is compiled that only a terminal needs.
//!
//! The rooms, in order; each reaches only those above it:
//!
//! | room | what is in it |
//! |---|---|
//! | `error` | [`Error`]: message, hint, kind |
//! | [`value`] | identifiers, literals, LSNs, sizes: the only place that quotes |
//! | [`progress`] | what long work reports to |
//! | [`config`] | what the user declared, and where secrets come from |
//! | [`server`] | a session that has proven it is the declared server |
//! | `catalog` | what servers say about themselves |
//! | `tools` | pg_dump, pg_dumpall and psql: finding and running the right ones |
//! | `schema` | dumped SQL, rewritten and compared |
//! | `journal` | who may write, recorded on the server |
//! | [`observe`] | what both servers say at one moment |
//! | `preflight` | what would go wrong |
//! | `replicate` | what is put in place: roles, schema, extensions, grants, publication, subscription, sequences |
//! | `copy` | the fast initial copy |
//! | `verify` | proof that both sides agree |
//! | `ddl` | statements that change the schema while the data is replicated |
//! | `cutover` | the pause and the way out of it |
//! | [`attack`] | the load generator, its ledger and the replay of it |
//! | [`flare`] | the façade |
//! | `cli` | with `report` and `commands`: the program |
//!
//! A comparison under a pause, as one function. The test suite runs it.
//!
//! ```no_run
#![doc = include_str!("../tests/library/example.rs")]
//! ```

// What only commands call, such as the guard process, has no caller then.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

pub mod attack;
mod catalog;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "cli")]
mod commands;
pub mod config;
mod copy;
mod cutover;
mod ddl;
mod error;
pub mod flare;
mod journal;
pub mod observe;
mod preflight;
pub mod progress;
mod replicate;
#[cfg(feature = "cli")]
mod report;
mod schema;
pub mod server;
mod tools;
pub mod value;
mod verify;

pub use error::{Error, ErrorKind};
pub use flare::Flare;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// From top to bottom: each room reaches only those above it.
    const ROOMS: &str = "error value progress config server catalog tools schema journal observe preflight replicate
                         copy verify ddl cutover attack report flare commands cli main lib";

    #[test]
    fn each_room_reaches_only_those_above_it() {
        let rooms: Vec<&str> = ROOMS.split_whitespace().collect();
        let place = |room: &str| rooms.iter().position(|known| *known == room);
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for file in files_below(&sources) {
            let inside = file.strip_prefix(&sources).expect("a file of src");
            let first = inside.components().next().expect("a name").as_os_str();
            let room = first.to_str().expect("UTF-8").trim_end_matches(".rs");
            let own = place(room).unwrap_or_else(|| panic!("room {room:?} has no place"));
            let text = std::fs::read_to_string(&file).expect("a source file");
            for reached in text.split("crate::").skip(1) {
                let end = reached.find(|c: char| !c.is_alphanumeric() && c != '_');
                let reached = &reached[..end.unwrap_or(reached.len())];
                let above = place(reached).is_none_or(|there| there <= own);
                assert!(above, "{}: {room} reaches {reached}", inside.display());
            }
        }
    }

    fn files_below(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths
            .flat_map(|path| {
                if path.is_dir() {
                    files_below(&path)
                } else {
                    vec![path]
                }
            })
            .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
            .collect()
    }
}
