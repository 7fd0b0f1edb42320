//! Settings of the database, and of roles that have to do with it.

use std::collections::{BTreeMap, BTreeSet};

use super::Beside;
use crate::catalog::settings::Setting;
use crate::replicate::setting;
use crate::value::Ident;

impl Beside {
    pub(super) fn settings(
        &mut self,
        ours: &[Setting],
        theirs: &[Setting],
        dbname: &str,
        concerned: &BTreeSet<String>,
        flares: &BTreeSet<String>,
    ) {
        // The fence of the side that follows.
        const READ_ONLY: &str = "default_transaction_read_only";
        let counts = |it: &&Setting| {
            let of_role = it
                .role
                .as_ref()
                .is_none_or(|role| concerned.contains(role) && !flares.contains(role));
            let of_database = it
                .dbname
                .as_deref()
                .map_or(it.role.is_some(), |it| it == dbname);
            of_role && of_database && it.name != READ_ONLY
        };
        type Whose<'a> = (&'a Option<String>, &'a Option<String>, &'a String);
        let by =
            |all: &'_ [Setting]| -> Vec<Setting> { all.iter().filter(counts).cloned().collect() };
        let (ours, theirs) = (by(ours), by(theirs));
        fn whose(it: &Setting) -> Whose<'_> {
            (&it.role, &it.dbname, &it.name)
        }
        let theirs: BTreeMap<Whose<'_>, &Setting> =
            theirs.iter().map(|it| (whose(it), it)).collect();
        let ours: BTreeMap<Whose<'_>, &Setting> = ours.iter().map(|it| (whose(it), it)).collect();
        let all: BTreeSet<&Whose<'_>> = ours.keys().chain(theirs.keys()).collect();
        for key in all {
            let (one, other) = (ours.get(key), theirs.get(key));
            let Some(any) = one.or(other) else {
                continue;
            };
            let statement = one.map_or_else(|| reset(any), |it| setting::statement(it));
            self.differs(
                "setting",
                setting::what(any),
                one.map(|it| it.value.clone()),
                other.map(|it| it.value.clone()),
                Some(statement),
            );
        }
    }
}

/// `ALTER ... RESET` of a setting that the publisher does not have.
fn reset(it: &Setting) -> String {
    let name = Ident::new(&it.name);
    match (&it.role, &it.dbname) {
        (Some(role), Some(dbname)) => format!(
            "ALTER ROLE {} IN DATABASE {} RESET {name}",
            Ident::new(role),
            Ident::new(dbname)
        ),
        (Some(role), None) => format!("ALTER ROLE {} RESET {name}", Ident::new(role)),
        (None, Some(dbname)) => format!("ALTER DATABASE {} RESET {name}", Ident::new(dbname)),
        (None, None) => format!("ALTER ROLE ALL RESET {name}"),
    }
}
