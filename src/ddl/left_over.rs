//! What the copy of a table leaves over when a carried statement drops the table meanwhile (14+): its slot on the open side,
//! which retains WAL, and its origin on the receiving one, of which there are few. See `flare.ddl_drop()`.

use crate::catalog::subscriptions;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// Of copies of one subscription, by the names that PostgreSQL gives them.
const SLOTS: &str =
    "SELECT to_jsonb(slot_name) FROM pg_replication_slots WHERE slot_name ~ $1 AND NOT active";

const ORIGINS: &str = "SELECT to_jsonb(roname) FROM pg_replication_origin WHERE roname ~ $1";

/// The oids of the tables that the subscription has.
const TABLES: &str = "SELECT coalesce(array_agg(srrelid::text), '{}') FROM pg_subscription_rel WHERE srsubid = $1::text::oid";

/// Takes away what belongs to no table of the subscription any more; `identifier` is the receiving side's.
pub(crate) fn sweep(
    open: &Session,
    receiving: &Session,
    subname: &str,
    identifier: u64,
) -> Result<()> {
    let Some(subscription) = subscriptions::find(receiving, subname)? else {
        return Ok(());
    };
    let oid = &subscription.oid;
    // Before the tables are read: whatever has a slot by now is among them.
    let slots: Vec<String> = open
        .list(
            SLOTS,
            params![format!("^pg_{oid}_sync_[0-9]+_{identifier}$")],
        )
        .wrap_err("look for slots that copies have left over")?;
    if slots.is_empty() {
        return Ok(());
    }
    let origins: Vec<String> = receiving
        .list(ORIGINS, params![format!("^pg_{oid}_[0-9]+$")])
        .wrap_err("look for origins that copies have left over")?;
    let tables: Vec<String> = receiving
        .value(TABLES, params![oid.as_str()])
        .wrap_err("read the tables of the subscription")?;
    let gone = |name: &str, place: usize| {
        let table = name.split('_').nth(place).unwrap_or_default();
        !tables.iter().any(|it| it == table)
    };
    for slot in slots.iter().filter(|name| gone(name, 3)) {
        open.execute(
            "SELECT pg_drop_replication_slot($1)",
            params![slot.as_str()],
        )
        .wrap_err_with(|| format!("drop slot {slot:?}, whose table is gone"))?;
    }
    for origin in origins.iter().filter(|name| gone(name, 2)) {
        receiving
            .execute(
                "SELECT pg_replication_origin_drop($1)",
                params![origin.as_str()],
            )
            .wrap_err_with(|| format!("drop origin {origin:?}, whose table is gone"))?;
    }
    Ok(())
}
