//! The order of rooms: each reaches only those above it.

use std::path::{Path, PathBuf};

const ROOMS: &str = "error value progress config server catalog tools schema journal observe preflight replicate copy \
                     cutover attack verify flare report commands cli";

#[test]
fn each_room_reaches_only_those_above_it() {
    let place = |room: &str| ROOMS.split_whitespace().position(|known| known == room);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in files(&source) {
        let inside = file.strip_prefix(&source).expect("a file of the source");
        let room = inside
            .iter()
            .next()
            .and_then(|first| first.to_str())
            .unwrap_or_default();
        let room = room.trim_end_matches(".rs");
        if ["lib", "main", "rooms"].contains(&room) {
            continue;
        }
        let here = place(room).unwrap_or_else(|| panic!("{room} has no place among the rooms"));
        let text = std::fs::read_to_string(&file).expect("read the source");
        for (_, rest) in text
            .match_indices("crate::")
            .map(|(at, path)| text.split_at(at + path.len()))
        {
            let reached: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if place(&reached).is_none_or(|there| there > here) {
                wrong.push(format!("{}: crate::{reached}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("list the source");
    let paths = entries.map(|entry| entry.expect("list the source").path());
    let (directories, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let within = directories
        .iter()
        .flat_map(|directory| self::files(directory));
    files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .chain(within)
        .collect()
}
