//! Where flare keeps its records: the journal of a pause, and what it has made for cleanup to take back.

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "records",
    title: "flare can keep its records in database postgres of both servers",
    before: Before::Cutover,
    place: Place::Server,
    asks: &[RECORDS.on_both()],
    judge: |view| {
        let mut found = Vec::new();
        for side in [view.publisher, view.subscriber].into_iter().flatten() {
            found.extend(without_place(side.first(&RECORDS)?, &side.user, side.side));
        }
        Ok(found)
    },
}];

/// What becomes of `CREATE SCHEMA IF NOT EXISTS flare`, which takes CREATE on the database even where the schema is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Records {
    /// The journal is there.
    kept: bool,
    /// The administrator or db_owner may make it.
    may: bool,
}

const RECORDS: Question<Records> = Question::server(
    "records",
    "SELECT jsonb_build_object(
              'kept', EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'flare' AND c.relname = 'shut'),
              'may', coalesce(bool_or(has_database_privilege(r.oid, current_database(), 'CREATE') AND (n.oid IS NULL OR has_schema_privilege(r.oid, n.oid, 'CREATE'))), false))
       FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = 'flare' WHERE r.rolname IN (current_user, {db_owner})",
);

fn without_place(records: Option<Records>, admin: &str, side: Side) -> Option<Finding> {
    let lacks = records.is_some_and(|it| !it.kept && !it.may);
    lacks.then(|| {
        Finding::blocker(format!(
            "neither {admin:?} nor db_owner may make schema flare in database postgres of the {side}: no pause begins without its journal, and what flare grants is not on record for cleanup"
        ))
        .fix(format!(
            "GRANT CREATE ON DATABASE postgres TO {} on the {side}, as the owner of that database",
            Ident::new(admin)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_need_a_place_that_is_there_or_can_be_made() {
        let found = |kept, may| {
            let records = Some(Records { kept, may });
            without_place(records, "adm", Side::Publisher).is_some()
        };
        assert!(found(false, false));
        assert!(!found(true, false) && !found(false, true));
    }
}
