//! Materialized views, which replication does not fill: refreshed in the order of their dependencies, as their owners.

use serde::Deserialize;

use super::Run;
use crate::config::names_object;
use crate::error::{Report, Result, WrapErr, message_of};
use crate::server::{Session, is_lost, params};
use crate::value::{Ident, TableName};

/// Which of those that can be read on the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// What could not be read on the subscriber.
    Unfilled,
    /// What was filled before, too: its rows have changed since.
    All,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Refreshed {
    pub(crate) refreshed: usize,
    pub(crate) failed: Vec<Failed>,
}

/// A view that could not be refreshed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) name: TableName,
    /// Whether it can be read all the same, with older rows.
    pub(crate) filled: bool,
    pub(crate) why: Report,
}

impl Failed {
    /// For a person.
    pub(crate) fn in_words(&self) -> String {
        format!(
            "materialized view {} could not be refreshed: {}",
            self.name.plain(),
            message_of(&self.why)
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct View {
    #[serde(flatten)]
    name: TableName,
    relispopulated: bool,
    owner: String,
    /// Whether the session has the owner's rights.
    mine: bool,
}

/// A function hides what it reads: views with one come after those without.
const VIEWS: &str = "
    WITH RECURSIVE uses(oid, used) AS (
        SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r
          JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
         WHERE d.refobjid <> r.ev_class),
    depth(oid, level) AS (
        SELECT c.oid, CASE WHEN EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass
                 AND d.objid = r.oid AND d.refclassid = 'pg_proc'::regclass WHERE r.ev_class = c.oid AND d.refobjid >= 16384)
               THEN 50 ELSE 1 END FROM pg_class c WHERE c.relkind IN ('m', 'v') AND c.oid >= 16384
        UNION
        SELECT u.oid, p.level + CASE c.relkind WHEN 'm' THEN 1 ELSE 0 END
          FROM depth p JOIN uses u ON u.used = p.oid JOIN pg_class c ON c.oid = u.oid
         WHERE c.relkind IN ('m', 'v') AND p.level < 100)
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relispopulated', c.relispopulated,
              'owner', pg_get_userbyid(c.relowner), 'mine', pg_has_role(c.relowner, 'USAGE'))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN depth d ON d.oid = c.oid
     WHERE c.relkind = 'm'
     GROUP BY n.nspname, c.relname, c.relispopulated, c.relowner ORDER BY max(d.level), n.nspname, c.relname";

/// Refreshes those that the configuration does not leave behind. What fails is tried again after the others, since a
/// function between two of them hides which comes first.
pub(crate) fn refresh(
    (from, to): (&Session, &Session),
    which: Which,
    left_behind: &[String],
    run: &Run,
) -> Result<Refreshed> {
    let here: Vec<View> = from.list(VIEWS, params![]).wrap_err(LISTING)?;
    let there: Vec<View> = to.list(VIEWS, params![]).wrap_err(LISTING)?;
    let readable = |name: &TableName| here.iter().any(|it| it.name == *name && it.relispopulated);
    let mut waiting: Vec<View> = there
        .into_iter()
        .filter(|it| which == Which::All || !it.relispopulated)
        .filter(|it| readable(&it.name) && !names_object(left_behind, &it.name.plain()))
        .collect();
    let mut refreshed = 0;
    loop {
        let mut failed = Vec::new();
        let tried = waiting.len();
        for view in waiting {
            run.progress
                .step(&format!("refreshing {}", view.name.plain()));
            match view.refresh(to, run) {
                Ok(()) => refreshed += 1,
                Err(report) if is_lost(&report) => return Err(report),
                Err(report) => failed.push((view, report)),
            }
        }
        if failed.is_empty() || failed.len() == tried {
            let failed = failed.into_iter().map(|(view, why)| Failed {
                name: view.name,
                filled: view.relispopulated,
                why,
            });
            return Ok(Refreshed {
                refreshed,
                failed: failed.collect(),
            });
        }
        waiting = failed.into_iter().map(|(view, _)| view).collect();
    }
}

const LISTING: &str = "list the materialized views";

impl View {
    /// The server runs its query as its owner, whoever asks for it.
    fn refresh(&self, to: &Session, run: &Run) -> Result<()> {
        let role = if self.mine {
            String::new()
        } else {
            format!("SET LOCAL ROLE {}; ", Ident::new(&self.owner))
        };
        run.ddl.retry(to, || {
            to.batch(&format!(
                "BEGIN; SET LOCAL lock_timeout = {}; {role}REFRESH MATERIALIZED VIEW {}; COMMIT",
                run.ddl.lock_timeout.as_millis(),
                self.name
            ))
        })
    }
}
