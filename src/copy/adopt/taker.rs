//! Whether the server that is to be the subscriber is the clone, and what was written on it since.

use super::counts::{self, SESSIONS, UNCOUNTED};
use super::{Recorded, recorded};
use crate::catalog::tables;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Pair, Session, interrupt, params};
use crate::value::{ShellWord, TableName};

/// pg_upgrade begins the counts anew, and leaves none in a table. A script that updates an extension may write its tables.
const WRITTEN: &str = "
    SELECT jsonb_build_object('schema', schemaname, 'table', relname)
      FROM pg_stat_user_tables s
     WHERE current_setting('track_counts')::bool AND n_tup_ins + n_tup_upd + n_tup_del > 0
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = s.relid AND d.deptype = 'e')
     ORDER BY 1";

/// Fails where rows were written on the upgraded clone; what may be so is a note.
pub(super) fn check(
    pair: &Pair,
    session: &Session,
    subname: &str,
    known: &Recorded,
    published: &[TableName],
) -> Result<Option<String>> {
    let brought = recorded(pair.subscriber.admin(), subname)?;
    let is_clone = brought.is_some_and(|it| {
        it.slot_name == known.slot_name && (it.slot_lsn.is_none() || it.slot_lsn == known.slot_lsn)
    });
    if !is_clone {
        return Ok(Some(format!(
            "the subscriber is not the clone itself, which has this adoption on record in its database postgres: it is taken to hold exactly what the clone held; flare verify_data {} compares",
            ShellWord(subname)
        )));
    }
    let rows = session.rows(SESSIONS, params![])?;
    let sessions = rows.first().map(|row| (row.get(0), row.get(1)));
    let (clients, report_idle) = sessions.unwrap_or((false, true));
    std::thread::sleep(counts::wait(clients, report_idle));
    interrupt::check()?;
    let mut written: Vec<TableName> = session
        .list(WRITTEN, params![])
        .wrap_err("look whether rows were written on the clone")?;
    written.retain(|it| published.contains(it));
    if written.is_empty() {
        return Ok((clients && !report_idle).then(|| UNCOUNTED.to_owned()));
    }
    let what = format!(
        "rows were written on the clone itself, in {}",
        tables::listed(&written)
    );
    if pair.publisher.major() == pair.subscriber.major() {
        return Ok(Some(format!(
            "{what}: where it was a primary once, they may be of that time; where not, the publisher has none of it"
        )));
    }
    Failure::no(format!(
        "{what}, since it was upgraded: they would stay there, and the publisher has none of it"
    ))
    .hint("take another clone, and keep clients away from it; or undo what was written, and have the counts begin anew: SELECT pg_stat_reset() in that database")
    .err()
}
