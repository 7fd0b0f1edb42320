//! Settings of the database, and of roles that have to do with it.

use std::collections::{BTreeMap, BTreeSet};

use super::Beside;
use crate::catalog::settings::{Parameters, Setting, parameters, settings};
use crate::error::Result;
use crate::replicate::setting;
use crate::server::{Pair, Server};
use crate::value::Ident;
use crate::verify::SchemaDifference;

impl Beside {
    pub(super) fn settings(
        &mut self,
        pair: &Pair,
        dbname: &str,
        concerned: &BTreeSet<String>,
        flares: &BTreeSet<String>,
    ) -> Result<()> {
        // The fence of the side that follows.
        const READ_ONLY: &str = "default_transaction_read_only";
        let counts = |it: &&Setting| {
            let of_role = it
                .role
                .as_ref()
                .is_none_or(|role| concerned.contains(role) && !flares.contains(role));
            let of_database = it.dbname.as_deref().is_none_or(|it| it == dbname);
            of_role && of_database && it.name != READ_ONLY
        };
        type Whose<'a> = (&'a Option<String>, &'a Option<String>, &'a String);
        let of = |server: &Server| -> Result<Vec<Setting>> {
            let mut settings = settings(server.admin())?;
            settings.retain(|it| counts(&it));
            Ok(settings)
        };
        let (ours, theirs) = (of(&pair.publisher)?, of(&pair.subscriber)?);
        let lacking: Vec<Setting> = ours
            .iter()
            .filter(|it| !theirs.contains(it))
            .cloned()
            .collect();
        // What the server that follows does not know, or does not take, cannot be made equal there.
        let parameters = if lacking.is_empty() {
            Parameters::default()
        } else {
            parameters(&pair.subscriber, &lacking)?
        };
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
            let value = |it: Option<&&Setting>| it.map(|it| it.value.clone());
            let (wanted, there) = (value(one), value(other));
            if wanted == there {
                continue;
            }
            let obstacle = one.and_then(|it| setting::obstacle(&parameters, it));
            let obstacle = obstacle.map(|why| {
                format!(
                    "{why}; where nothing needs it, {} on the side that is written",
                    reset(any)
                )
            });
            let statement = one.map_or_else(|| reset(any), |it| setting::statement(it));
            self.differences.push(SchemaDifference {
                kind: "setting".to_owned(),
                object: setting::what(any),
                publisher: wanted,
                subscriber: there,
                statement: obstacle.is_none().then_some(statement),
                advice: obstacle,
            });
        }
        Ok(())
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
