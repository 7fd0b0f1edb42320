//! What a database's replication is called in each direction.

use super::Direction;
use crate::value::MAX_IDENT_BYTES;

/// A database's replication in one direction: a subscription there, a publication here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) dbname: String,
    pub(crate) subname: String,
    pub(crate) pubname: String,
}

impl Stream {
    /// Forward it has the names of the configuration, back `<subscription>_back` and `<publication>_back`.
    pub(crate) fn of(dbname: &str, subname: &str, pubname: &str, direction: Direction) -> Stream {
        let name = |forward: &str| match direction {
            Direction::Forward => forward.to_owned(),
            Direction::Back => back_of(forward),
        };
        Stream {
            dbname: dbname.to_owned(),
            subname: name(subname),
            pubname: name(pubname),
        }
    }

    /// Whether a publication is this stream's, or that of the other direction.
    pub(crate) fn publishes_as(&self, pubname: &str) -> bool {
        self.pubname == pubname
            || self.pubname == back_of(pubname)
            || back_of(&self.pubname) == pubname
    }
}

const BACK: &str = "_back";

/// The same name with `_back`; one that would be too long gives up its end for a hash.
fn back_of(name: &str) -> String {
    if name.len() + BACK.len() <= MAX_IDENT_BYTES {
        return format!("{name}{BACK}");
    }
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let room = MAX_IDENT_BYTES - BACK.len() - 9;
    let mut kept = name.to_owned();
    while kept.len() > room {
        kept.pop();
    }
    format!("{kept}_{hash:08x}{BACK}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_named_after_the_way_there() {
        let stream = Stream::of("d", "bench1", "Bench-pub", Direction::Back);
        assert_eq!(
            (stream.subname.as_str(), stream.pubname.as_str()),
            ("bench1_back", "Bench-pub_back")
        );
        let long = "ü".repeat(31);
        let back = back_of(&long);
        assert!(
            back.len() <= MAX_IDENT_BYTES && back.ends_with(BACK),
            "{back}"
        );
        assert_ne!(back, back_of(&format!("{long}x")));
        for direction in [Direction::Forward, Direction::Back] {
            let stream = Stream::of("d", "s", &long, direction);
            let known = [&long, &back, "other"].map(|it| stream.publishes_as(it));
            assert_eq!(known, [true, true, false], "{direction:?}");
        }
    }
}
