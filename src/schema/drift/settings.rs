//! Settings of roles and databases that one of the two versions does not have: no statement carries them, and preflight's
//! `unknown_settings` names them.

use super::{Drift, Kind};
use crate::catalog::settings::known;
use crate::error::Result;
use crate::server::Session;

/// All but those.
pub(super) fn of_both_versions(
    mut found: Vec<Drift>,
    from: &Session,
    to: &Session,
) -> Result<Vec<Drift>> {
    let settings = found.iter().filter(|it| it.kind == Kind::Setting);
    let names: Vec<String> = settings.map(|it| name(it).to_owned()).collect();
    if !names.is_empty() {
        let (ours, theirs) = (known(from, &names)?, known(to, &names)?);
        let is_of_both = |name: &str| ours.contains(name) && theirs.contains(name);
        found.retain(|it| it.kind != Kind::Setting || is_of_both(name(it)));
    }
    Ok(found)
}

/// `work_mem` of `work_mem of ROLE app`.
fn name(setting: &Drift) -> &str {
    let object = &setting.object;
    object
        .split_once(" of ")
        .map_or(object.as_str(), |(name, _)| name)
}
