//! A large value of the publisher's, brought to the subscriber's session piece by piece: a setting of the session holds
//! it there, which needs no privilege and writes nothing.

use super::pinned::Text;
use super::settle::Work;
use super::statement::{CARRIED, On, RowAt, Value};
use crate::error::{Result, WrapErr};
use crate::server::Side;

/// A row's version and values on the publisher.
pub(super) fn values(work: &Work<'_>, row: &RowAt<'_>) -> Result<Option<(String, Vec<Value>)>> {
    let rows = work
        .rows(Side::Publisher, |on| on.values(row))
        .wrap_err("read the values of a row")?;
    Ok(rows
        .first()
        .map(|row| (row.get(0), Value::all(row.get(1), row.get(2)))))
}

/// Brings values of one version of a row there; false: the row is another by now.
pub(super) fn carry(
    work: &Work<'_>,
    row: &RowAt<'_>,
    version: &str,
    columns: &[usize],
) -> Result<bool> {
    for at in columns {
        let mut from = 1;
        loop {
            let rows = work
                .rows(Side::Publisher, |on| on.part(row, *at, from))
                .wrap_err("read a part of a large value")?;
            let found = rows.first().filter(|row| row.get::<_, &str>(0) == version);
            let Some(part) = found.and_then(|row| row.get::<_, Option<Text>>(1)) else {
                return Ok(false);
            };
            drop(rows);
            let is_end = part.0.is_empty();
            let (sql, arguments) = On::carried(*at, part, from == 1);
            work.both
                .subscriber
                .rows(&sql, arguments)
                .wrap_err("bring a part of a large value")?;
            if is_end {
                break;
            }
            from += CARRIED;
        }
    }
    Ok(true)
}

/// What was brought takes no room any more.
pub(super) fn forget(work: &Work<'_>, columns: &[usize]) -> Result<()> {
    for at in columns {
        let (sql, arguments) = On::carried(*at, "".into(), true);
        work.both.subscriber.rows(&sql, arguments)?;
    }
    Ok(())
}
