//! The transaction that the slot hands over next, as the subscription's worker gets it (manual: "Logical Replication
//! Message Formats", protocol version 1).

use std::collections::BTreeMap;
use std::time::Duration;

use postgres::error::SqlState;

use super::briefly;
use super::roles::Subscription;
use crate::error::Result;
use crate::server::{Session, interrupt, params, sqlstate_of};
use crate::value::{Ident, Lsn, TableName};

/// While a worker is at it the slot is in use; between its attempts it is not.
const ATTEMPTS: u32 = 6;
const APART: Duration = Duration::from_millis(250);
/// No more of its messages is read.
const BYTES: i64 = 4 << 20;
/// No more of a transaction is kept.
const CHANGES: usize = 2000;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
}

/// A change, by the columns whose values are sent; `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) table: TableName,
    pub(super) operation: Operation,
    /// What identified the row before, where that is sent.
    pub(super) old: BTreeMap<String, Option<String>>,
    pub(super) new: BTreeMap<String, Option<String>>,
}

/// The first transaction that is not applied yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    pub(super) truncated: Vec<TableName>,
}

impl Pending {
    /// The tables that it changes, each once.
    pub(super) fn tables(&self) -> Vec<TableName> {
        let mut names: Vec<TableName> = Vec::new();
        let changed = self.changes.iter().map(|it| &it.table);
        for name in changed.chain(&self.truncated) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// Looks at the slot, where it is free for a moment; none where nothing waits in it. Nothing moves: neither position nor
/// what is kept. A worker that starts meanwhile finds the slot in use and tries again, which `disable_on_error` does not
/// count (it stands before the loop that applies).
pub(super) fn next(from: &Session, subscription: &Subscription) -> Result<Option<Pending>> {
    let Some(slot_name) = &subscription.subslotname else {
        return Ok(None);
    };
    let pubnames: Vec<String> = subscription
        .subpublications
        .iter()
        .map(|name| Ident::new(name.as_str()).to_string())
        .collect();
    let mut attempt = 1;
    loop {
        let peeked = briefly(from, |from| {
            from.rows(
                "SELECT c.data FROM (
                   SELECT data, sum(length(data)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
                     FROM pg_logical_slot_peek_binary_changes($1::name, NULL, 100, 'proto_version', '1', 'publication_names', $2)) c
                  WHERE c.bytes <= $3 LIMIT 5000",
                params![slot_name.as_str(), pubnames.join(","), BYTES],
            )
        });
        match peeked {
            Ok(rows) => {
                let messages: Vec<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
                return Ok(read(&messages, subscription.applied));
            }
            Err(report) if attempt == ATTEMPTS => return Err(report),
            Err(report) if sqlstate_of(&report) == Some(&SqlState::OBJECT_IN_USE) => {
                interrupt::sleep(APART)?;
            }
            Err(report) => return Err(report),
        }
        attempt += 1;
    }
}

/// A table as the stream describes it.
struct Relation {
    name: TableName,
    columns: Vec<String>,
}

/// The first transaction beyond `applied`: pure.
fn read(messages: &[Vec<u8>], applied: Option<Lsn>) -> Option<Pending> {
    let mut relations: BTreeMap<i32, Relation> = BTreeMap::new();
    let mut pending: Option<Pending> = None;
    for message in messages {
        let mut bytes = Bytes(message);
        match bytes.u8()? {
            b'B' => {
                if pending.is_some() {
                    break;
                }
                let commit = Lsn(bytes.u64()?);
                if applied.is_none_or(|applied| commit > applied) {
                    pending = Some(Pending::default());
                }
            }
            b'R' => {
                let oid = bytes.i32()?;
                let (schema, table) = (bytes.text()?, bytes.text()?);
                bytes.u8()?;
                let columns = (0..bytes.u16()?).map(|_| {
                    bytes.u8()?;
                    let name = bytes.text()?;
                    bytes.i32()?;
                    bytes.i32()?;
                    Some(name)
                });
                let columns = columns.collect::<Option<Vec<String>>>()?;
                let name = TableName::new(schema, table);
                relations.insert(oid, Relation { name, columns });
            }
            kind @ (b'I' | b'U' | b'D') => {
                let Some(pending) = &mut pending else {
                    continue;
                };
                let relation = relations.get(&bytes.i32()?)?;
                let mut change = Change {
                    table: relation.name.clone(),
                    operation: match kind {
                        b'I' => Operation::Insert,
                        b'U' => Operation::Update,
                        _ => Operation::Delete,
                    },
                    old: BTreeMap::new(),
                    new: BTreeMap::new(),
                };
                while let Some(which) = bytes.u8() {
                    let values = bytes.values(&relation.columns)?;
                    match which {
                        b'N' => change.new = values,
                        _ => change.old = values,
                    }
                }
                if pending.changes.len() < CHANGES {
                    pending.changes.push(change);
                }
            }
            b'T' => {
                let Some(pending) = &mut pending else {
                    continue;
                };
                let count = bytes.i32()?;
                bytes.u8()?;
                for _ in 0..count {
                    if let Some(relation) = relations.get(&bytes.i32()?) {
                        pending.truncated.push(relation.name.clone());
                    }
                }
            }
            _ => {}
        }
    }
    pending
}

/// A message, read from its beginning.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    /// The values of a row by their columns; one that has not changed and was left out is not among them.
    fn values(&mut self, columns: &[String]) -> Option<BTreeMap<String, Option<String>>> {
        let mut values = BTreeMap::new();
        for at in 0..usize::from(self.u16()?) {
            let name = columns.get(at)?.clone();
            match self.u8()? {
                b'n' => {
                    values.insert(name, None);
                }
                b't' => {
                    let length = usize::try_from(self.i32()?).ok()?;
                    let (value, rest) = self.0.split_at_checked(length)?;
                    values.insert(name, Some(String::from_utf8_lossy(value).into_owned()));
                    self.0 = rest;
                }
                _ => {}
            }
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![kind];
        parts.iter().for_each(|part| message.extend(*part));
        message
    }

    fn begin(commit: u64) -> Vec<u8> {
        message(b'B', &[&commit.to_be_bytes(), &[0; 12]])
    }

    fn relation() -> Vec<u8> {
        let oid = 7_i32.to_be_bytes();
        message(
            b'R',
            &[
                &oid,
                b"app\0t\0d\0\x02",
                b"\x01id\0",
                &[0; 8],
                b"\0w\0",
                &[0; 8],
            ],
        )
    }

    fn insert(id: &[u8]) -> Vec<u8> {
        let length = (id.len() as i32).to_be_bytes();
        message(
            b'I',
            &[&7_i32.to_be_bytes(), b"N\0\x02t", &length, id, b"n"],
        )
    }

    #[test]
    fn the_first_transaction_that_is_not_applied_is_read() {
        let messages = [
            begin(5),
            relation(),
            insert(b"1"),
            begin(9),
            insert(b"42"),
            begin(12),
            insert(b"3"),
        ];
        let pending = read(&messages, Some(Lsn(5))).unwrap();
        assert_eq!(pending.changes.len(), 1);
        let change = &pending.changes[0];
        assert_eq!(
            (change.table.plain(), change.operation),
            ("app.t".into(), Operation::Insert)
        );
        assert_eq!(change.new["id"].as_deref(), Some("42"));
        assert_eq!(change.new["w"], None);
        assert_eq!(
            read(&messages, None).unwrap().changes[0].new["id"].as_deref(),
            Some("1")
        );
        assert!(read(&messages, Some(Lsn(12))).is_none());
    }

    #[test]
    fn what_is_cut_short_is_no_transaction() {
        for length in 1..insert(b"1").len() {
            let cut = insert(b"1")[..length].to_vec();
            let read = read(&[begin(1), relation(), cut], None);
            assert!(read.is_none_or(|it| it.changes.iter().all(|it| it.new.len() < 2)));
        }
    }
}
