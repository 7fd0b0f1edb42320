//! A table whose rows are copied, and whose slot is gone: from 14 on a table's worker drops its slot once the copy has ended,
//! and then commits that end, without waiting for the disk. Where the subscriber crashes before that, or the publisher before
//! it has answered, the worker looks for that slot for ever.

use std::time::Duration;

use serde::Deserialize;

use super::{Stopped, Suspect, SuspectKind, briefly, suspect};
use crate::error::Result;
use crate::server::{interrupt, params};
use crate::value::{Ident, Literal, TableName};

/// A worker that has dropped its slot commits its end before this is over.
const COMMITS_WITHIN: Duration = Duration::from_millis(500);

/// A table in that state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Copied {
    #[serde(flatten)]
    name: TableName,
    subid: String,
    relid: String,
    slot_name: String,
}

fn copied(stopped: &Stopped<'_>) -> Result<Vec<Copied>> {
    briefly(stopped.to, |to| {
        to.list(
            "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'subid', r.srsubid::text, 'relid', r.srrelid::text,
                      'slot_name', format('pg_%s_sync_%s_%s', r.srsubid, r.srrelid, (SELECT system_identifier FROM pg_control_system())))
               FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1) AND r.srsubstate = 'f' ORDER BY 1",
            params![stopped.subname],
        )
    })
}

/// Tables that look for a slot that the publisher has no more.
pub(super) fn gone(stopped: &Stopped<'_>) -> Result<Vec<Suspect>> {
    let before = copied(stopped)?;
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let slots: Vec<String> = briefly(stopped.from, |from| {
        from.list(
            "SELECT to_jsonb(slot_name) FROM pg_replication_slots",
            params![],
        )
    })?;
    let mut gone = before;
    gone.retain(|it| !slots.contains(&it.slot_name));
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    interrupt::sleep(COMMITS_WITHIN)?;
    let after = copied(stopped)?;
    gone.retain(|it| after.contains(it));
    Ok(gone.iter().map(|it| it.suspect(stopped)).collect())
}

impl Copied {
    fn suspect(&self, stopped: &Stopped<'_>) -> Suspect {
        let (from, to) = stopped.sides;
        let (name, subid, relid) = (&self.name, &self.subid, &self.relid);
        let subname = Ident::new(stopped.subname);
        suspect(
            SuspectKind::CopySlot,
            format!(
                "the copy of {} has ended, and the slot that its worker looks for, {:?}, is gone from the {from}: one of the servers stopped before that end was committed on the {to}",
                name.plain(),
                self.slot_name
            ),
            format!(
                "SET default_transaction_read_only = off; SET session_replication_role = replica; ALTER SUBSCRIPTION {subname} DISABLE; BEGIN; TRUNCATE ONLY {name}; SELECT pg_replication_origin_drop('pg_{subid}_{relid}'); UPDATE pg_subscription_rel SET srsubstate = 'i', srsublsn = NULL WHERE srsubid = {subid} AND srrelid = {}::regclass; COMMIT; ALTER SUBSCRIPTION {subname} ENABLE on the {to}, in psql as a superuser: the table is copied anew",
                Literal(name.to_string())
            ),
        )
    }
}
