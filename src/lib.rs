//! Moves live PostgreSQL databases to a newer server over native logical replication.

pub mod attack;
mod catalog;
pub mod cli;
mod commands;
pub mod config;
mod cutover;
pub mod error;
pub mod flare;
mod journal;
pub mod observe;
mod preflight;
pub mod progress;
mod replicate;
mod report;

mod schema;
pub mod server;
mod tools;
pub mod value;

pub use flare::Flare;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// From top to bottom: each room reaches only those above it.
    const ROOMS: &str = "error value progress config server catalog tools schema journal observe preflight replicate
                         copy cutover attack verify report flare commands cli main lib";

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
