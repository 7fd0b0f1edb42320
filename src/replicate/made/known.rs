//! Finds what speaks of the same thing, whatever it was before and whatever it is called by now.

use std::collections::BTreeMap;

use super::state::Made;

/// Things that flare has made, to be found again.
pub(super) struct Known<'a> {
    by_oid: BTreeMap<(u32, Vec<&'a str>), &'a Made>,
    by_name: BTreeMap<Vec<&'a str>, &'a Made>,
}

impl<'a> Known<'a> {
    pub(super) fn of(made: impl IntoIterator<Item = &'a Made>) -> Self {
        let mut known = Known {
            by_oid: BTreeMap::new(),
            by_name: BTreeMap::new(),
        };
        for it in made {
            if let Some(oid) = oid_of(it) {
                known.by_oid.insert((oid, kind_of(it)), it);
            }
            known.by_name.insert(name_of(it), it);
        }
        known
    }

    /// Where the oid of either is not known, as in what an earlier flare has recorded, the names say so.
    pub(super) fn find(&self, it: &Made) -> Option<&'a Made> {
        let by_name = || self.by_name.get(name_of(it).as_slice()).copied();
        match oid_of(it) {
            Some(oid) => {
                let same = self.by_oid.get(&(oid, kind_of(it))).copied();
                same.or_else(|| by_name().filter(|known| oid_of(known).is_none()))
            }
            None => by_name(),
        }
    }
}

fn oid_of(it: &Made) -> Option<u32> {
    match it {
        Made::Privilege { oid, .. } | Made::ReplicaIdentity { oid, .. } => *oid,
        _ => None,
    }
}

/// What it is, but for the object's name.
fn kind_of(it: &Made) -> Vec<&str> {
    match it {
        Made::Privilege {
            on, privilege, to, ..
        } => {
            let kind = on.split_once(' ').map_or(on.as_str(), |(kind, _)| kind);
            vec!["privilege", kind, privilege, to]
        }
        Made::ReplicaIdentity { .. } => vec!["identity"],
        other => name_of(other),
    }
}

fn name_of(it: &Made) -> Vec<&str> {
    match it {
        Made::Privilege {
            on, privilege, to, ..
        } => vec!["privilege", on, privilege, to],
        Made::DefaultPrivilege {
            role,
            schema,
            on,
            privilege,
            to,
        } => {
            let place = schema
                .as_deref()
                .map_or(["everywhere", ""], |it| ["in", it]);
            vec!["default", role, place[0], place[1], on, privilege, to]
        }
        Made::BypassRls { role } => vec!["bypassrls", role],
        Made::ReplicaIdentity { table, .. } => vec!["identity", table],
        Made::Setting { role, name, .. } => vec!["setting", role, name],
        Made::NotValid { on, conname, .. } => vec!["constraint", on, conname],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(on: &str, oid: Option<u32>) -> Made {
        Made::Privilege {
            on: on.into(),
            oid,
            privilege: "SELECT".into(),
            to: "repl".into(),
        }
    }

    #[test]
    fn what_was_renamed_is_found_by_its_oid_and_what_an_earlier_flare_recorded_by_its_name() {
        let now = [
            select("TABLE a.new", Some(1)),
            select("TABLE a.b", Some(2)),
            select("SEQUENCE a.s", Some(3)),
        ];
        let known = Known::of(&now);
        assert_eq!(known.find(&select("TABLE a.old", Some(1))), Some(&now[0]));
        assert_eq!(known.find(&select("TABLE a.b", None)), Some(&now[1]));
        // Another table has its name by now.
        assert_eq!(known.find(&select("TABLE a.b", Some(9))), None);
        assert_eq!(known.find(&select("TABLE a.s", Some(3))), None);
        let earlier = [select("TABLE a.b", None)];
        assert_eq!(
            Known::of(&earlier).find(&select("TABLE a.b", Some(2))),
            Some(&earlier[0])
        );
    }
}
