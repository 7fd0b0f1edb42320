//! How old the first change is that an unused slot still holds.

use crate::error::Result;
use crate::server::{Session, params};
use crate::value::Ident;

/// Decoding may have to read all the WAL that is kept; then nobody knows.
const AT_MOST: &str = "SET statement_timeout = '500ms'";

/// The slot's first message, and the publisher's clock. While it runs, the slot is in use.
const FIRST: &str = "
    SELECT data, extract(epoch FROM clock_timestamp())::float8
      FROM pg_logical_slot_peek_binary_changes($1::name, NULL, 1, 'proto_version', '1', 'publication_names', $2)
     LIMIT 1";

/// Seconds since the first transaction was committed that the slot has not handed over; 0 when there is none.
pub(super) fn age(session: &Session, slot_name: &str, pubnames: &[String]) -> Result<Option<f64>> {
    let pubnames: Vec<String> = pubnames
        .iter()
        .map(|name| Ident::new(name.as_str()).to_string())
        .collect();
    session.batch(AT_MOST)?;
    let rows = session.rows(FIRST, params![slot_name, pubnames.join(",")])?;
    let Some(row) = rows.first() else {
        return Ok(Some(0.0));
    };
    let (message, now): (Vec<u8>, f64) = (row.get(0), row.get(1));
    Ok(committed_at(&message).map(|committed| (now - committed).max(0.0)))
}

/// The commit's time in a Begin message, in seconds since 1970 (manual: "Logical Replication Message Formats").
fn committed_at(message: &[u8]) -> Option<f64> {
    const FROM_1970_TO_2000: f64 = 946_684_800.0;
    let micros = match message {
        [b'B', rest @ ..] => rest.get(8..16)?.try_into().ok()?,
        _ => return None,
    };
    Some(i64::from_be_bytes(micros) as f64 / 1e6 + FROM_1970_TO_2000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_carries_the_time_of_its_commit() {
        let mut begin = vec![b'B'];
        begin.extend(0x16B_3748_i64.to_be_bytes());
        begin.extend(86_400_500_000_i64.to_be_bytes());
        begin.extend(7_i32.to_be_bytes());
        assert_eq!(committed_at(&begin), Some(946_771_200.5));
        assert_eq!(committed_at(&begin[..12]), None);
        assert_eq!(committed_at(b"R123"), None);
        assert_eq!(committed_at(b""), None);
    }
}
