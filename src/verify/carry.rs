//! A large value of the publisher's, brought to the subscriber's session piece by piece: settings of the session hold the
//! pieces there, which needs no privilege and writes nothing.

use super::pinned::Text;
use super::settle::Work;
use super::statement::{NEXT_PART, On, RowAt, Value};
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
    let publisher = &work.both.publisher;
    for at in columns {
        publisher.rows("BEGIN READ ONLY", Vec::new())?;
        let carried = carry_one(work, row, version, *at);
        let ended = publisher.rows("ROLLBACK", Vec::new());
        if !carried? {
            return Ok(false);
        }
        ended?;
    }
    Ok(true)
}

/// Within a transaction of the publisher's: its cursor spells the value once, and gives the parts one after the other.
fn carry_one(work: &Work<'_>, row: &RowAt<'_>, version: &str, at: usize) -> Result<bool> {
    work.rows(Side::Publisher, |on| on.parts(row, at))
        .wrap_err("read a large value")?;
    let (mut number, mut rest) = (0, Vec::new());
    loop {
        let rows = work
            .both
            .publisher
            .rows(NEXT_PART, Vec::new())
            .wrap_err("read a part of a large value")?;
        let Some(next) = rows.first() else {
            break;
        };
        if next.get::<_, &str>(0) != version {
            return Ok(false);
        }
        rest.extend_from_slice(next.get(1));
        drop(rows);
        let whole = whole_characters(&rest);
        let tail = rest.split_off(whole);
        number += 1;
        bring(work, at, number, std::mem::replace(&mut rest, tail))?;
    }
    if !rest.is_empty() {
        number += 1;
        bring(work, at, number, rest)?;
    }
    let (sql, arguments) = On::all_carried(at, number);
    work.both.subscriber.rows(&sql, arguments)?;
    Ok(number > 0)
}

fn bring(work: &Work<'_>, at: usize, number: usize, part: Vec<u8>) -> Result<()> {
    let (sql, arguments) = On::carried(at, number, Text(part));
    work.both
        .subscriber
        .rows(&sql, arguments)
        .map(drop)
        .wrap_err("bring a part of a large value")
}

/// How many of these bytes come before a character of UTF-8 that is cut at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let cut = last.map_or(0, |it| it.invalid().len());
    let could_go_on = matches!(std::str::from_utf8(&bytes[bytes.len() - cut..]),
        Err(error) if error.error_len().is_none());
    if could_go_on {
        bytes.len() - cut
    } else {
        bytes.len()
    }
}

/// What was brought takes no room any more.
pub(super) fn forget(work: &Work<'_>, columns: &[usize]) -> Result<()> {
    for at in columns {
        let (sql, arguments) = On::forgotten(*at);
        work.both.subscriber.rows(&sql, arguments)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    #[test]
    fn a_part_ends_with_a_whole_character() {
        let euro = "x\u{20ac}".as_bytes();
        assert_eq!(whole_characters(euro), 4);
        assert_eq!(whole_characters(&euro[..3]), 1);
        assert_eq!(whole_characters(&euro[..2]), 1);
        assert_eq!(whole_characters(b""), 0);
        // Bytes without an encoding are cut anywhere.
        assert_eq!(whole_characters(b"caf\xff"), 4);
    }
}
