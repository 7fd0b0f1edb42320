//! Generated columns, which are not sent, or arrive where they are made as well.

use serde::Deserialize;

use super::published::{PUBLISHED, TABLES, Table, covered};
use crate::config::Publication;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "identity_generated",
    title: "no identity holds a generated column",
    before: Before::Publication,
    place: Place::Database,
    asks: &[
        TABLES.on_publisher(),
        PUBLISHED.on_publisher(),
        GENERATED.on_both(),
        TABLES.on_subscriber(),
    ],
    judge: |view| match (view.moving, view.publisher) {
        (Some(moving), Some(publisher)) => {
            let mut columns = publisher.rows(&GENERATED)?;
            if let Some(subscriber) = view.subscriber {
                let made_there = subscriber.rows(&GENERATED)?;
                let there = subscriber.rows(&TABLES)?;
                for column in &mut columns {
                    let same = |it: &Generated| it.is(column);
                    column.is_plain_there = there.iter().any(|it| it.name == column.table)
                        && !made_there.iter().any(same);
                }
            }
            let back = view.subscriber.filter(|_| view.reverse);
            Ok(generated(
                &covered(view)?,
                moving.publication,
                &columns,
                publisher.major,
                back.map(|it| it.major),
                view.ends(),
            ))
        }
        _ => Ok(Vec::new()),
    },
}];

/// Generated columns, and whether a key holds them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Generated {
    #[serde(flatten)]
    pub(super) table: TableName,
    column: String,
    /// s or v: stored or virtual.
    attgenerated: char,
    in_identity: bool,
    /// Whether the publication sends stored ones (18 and later).
    sent: bool,
    /// Whether the subscriber has it as an ordinary column: nothing else takes what is sent.
    #[serde(default)]
    is_plain_there: bool,
}

impl Generated {
    fn is(&self, other: &Generated) -> bool {
        self.table == other.table && self.column == other.column
    }
}

pub(super) const GENERATED: Question<Generated> = Question::database(
    "generated",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'column', a.attname, 'attgenerated', a.attgenerated,
              'in_identity', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
                                        AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)),
              'sent', EXISTS (SELECT FROM pg_publication p WHERE p.pubname = {pubname} AND to_jsonb(p) ->> 'pubgencols' = 's'))
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE a.attgenerated <> '' AND NOT a.attisdropped AND c.relkind = 'r' AND c.oid >= 16384 AND n.nspname !~ '^pg_'",
)
.since(12);

fn generated(
    tables: &[Table],
    wanted: &Publication,
    columns: &[Generated],
    publisher: i32,
    subscriber: Option<i32>,
    Ends { from, to }: Ends,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let of = |table: &TableName| tables.iter().find(|it| it.name == *table);
    let sent = |it: &Generated| it.sent && it.attgenerated == 's';
    let unsent = |it: &&Generated| !sent(it);
    let described = |it: &&Generated| format!("{}.{}", it.table.plain(), it.column);
    let refused: Vec<&Generated> = columns
        .iter()
        .filter(|it| sent(it) && !it.is_plain_there && of(&it.table).is_some())
        .collect();
    if !refused.is_empty() {
        found.push(
            Finding::blocker(format!("the publication sends generated columns that the {to} generates itself: neither the copy nor apply passes (incompatible generated column)"))
                .objects(refused.iter().map(described))
                .fix("ALTER PUBLICATION ... SET (publish_generated_columns = none)"),
        );
    }
    let plain: Vec<&Generated> = columns
        .iter()
        .filter(|it| it.is_plain_there && of(&it.table).is_some())
        .collect();
    if let (Some(first), Some(_)) = (plain.first(), subscriber) {
        found.push(
            Finding::blocker(format!("columns are generated on the {from} and ordinary ones on the {to}, which sends them after the switch: its first row stops there"))
                .objects(plain.iter().map(described))
                .fix(format!(
                    "ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION on the {from} (13 and later), generate it on the {to} as well, or do without a way back (--no-reverse, cutover: {{reverse: false}})",
                    first.table,
                    Ident::new(&first.column)
                )),
        );
    }
    let keys: Vec<&Generated> = columns
        .iter()
        .filter(|it| it.in_identity && of(&it.table).is_some())
        .filter(unsent)
        .collect();
    if let Some(first) = keys.first() {
        found.push(
            Finding::blocker("the key that identifies rows holds a generated column, which is not sent: the first UPDATE or DELETE stops the subscription (publisher did not send replica identity column)")
                .objects(keys.iter().map(described))
                .fix(format!(
                    "ALTER TABLE {} REPLICA IDENTITY USING INDEX an index without that column",
                    first.table
                )),
        );
    }
    let full: Vec<&Generated> = columns
        .iter()
        .filter(|it| {
            of(&it.table).is_some_and(|table| {
                table.relreplident == 'f' || table.is_of(&wanted.replica_identity_full_tables)
            })
        })
        .filter(unsent)
        .collect();
    let Some(first) = full.first() else {
        return found;
    };
    let refusing = match (publisher, subscriber) {
        (18.., _) => Some(format!("the {from}")),
        (_, Some(18..)) => Some(format!("the {to}, after the switch,")),
        _ => None,
    };
    if let Some(server) = refusing {
        found.push(
            Finding::blocker(format!(
                "REPLICA IDENTITY FULL on a table with a generated column that is not sent: {server} refuses UPDATE and DELETE (Replica identity must not contain unpublished generated columns)"
            ))
            .objects(full.iter().map(described))
            .fix(format!(
                "ALTER TABLE {} ADD PRIMARY KEY (...) and REPLICA IDENTITY DEFAULT",
                first.table
            )),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{keyless, table, wanted_with_exceptions};
    use super::*;

    #[test]
    fn generated_columns_block_in_keys_and_in_whole_rows_from_18_on() {
        let column = |table: &str, attgenerated, in_identity, sent| Generated {
            table: table.parse().unwrap(),
            column: "g".into(),
            attgenerated,
            in_identity,
            sent,
            is_plain_there: false,
        };
        let tables = [keyless("full"), table("keyed")];
        let count = |column, publisher, subscriber| {
            generated(
                &tables,
                &wanted_with_exceptions(),
                &[column],
                publisher,
                subscriber,
                Ends::FORWARD,
            )
            .len()
        };
        let full = || column("full", 's', false, false);
        assert_eq!(count(full(), 14, Some(17)), 0);
        assert_eq!(count(full(), 14, Some(18)), 1);
        assert_eq!(count(full(), 18, None), 1);
        let sent = column("full", 's', false, true);
        let plain = Generated {
            is_plain_there: true,
            ..sent.clone()
        };
        assert_eq!(
            (count(sent, 18, None), count(plain.clone(), 18, None)),
            (1, 0)
        );
        assert_eq!(count(plain, 18, Some(18)), 1);
        assert_eq!(count(column("full", 'v', false, true), 18, None), 1);
        assert_eq!(count(column("keyed", 's', true, false), 14, Some(15)), 1);
        assert_eq!(count(column("keyed", 's', false, false), 18, Some(18)), 0);
    }
}
