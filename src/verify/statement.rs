//! The statements about one table on one side. Pure.
//!
//! What they are made of is here; the statements are in `chunks` (ranges of the key), `looks` (single rows by their key)
//! and `bags` (rows of tables without a key).

mod bags;
mod chunks;
mod looks;

pub(super) use self::looks::{NEXT_PART, PIECE, RowAt, Value};
use super::hash::Hash;
use super::pinned::{Argument, Text};
use super::table::{Half, Table};
use crate::server::Side;
use crate::value::Ident;

/// The values of a key's columns, as their output functions write them.
pub(super) type Key = Vec<Text>;

/// Rows behind `after` and up to `to`; open where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) after: Option<Key>,
    pub(super) to: Option<Key>,
}

/// Who wrote a row and where it stands; a partition's rows stand in their own table.
const VERSION: &str = "t.tableoid::text || ' ' || t.xmin::text || ' ' || t.ctid::text";
/// Whether no transaction has locked, updated or deleted this version.
const UNTOUCHED: &str = "t.xmax::text = '0'";
/// What the statement's own snapshot shows: every transaction below `lo` has ended, none from `hi` on is seen.
const SNAPSHOT: &str = "(SELECT txid_snapshot_xmin(c) AS lo, txid_snapshot_xmax(c) AS hi
                           FROM (SELECT txid_current_snapshot() AS c) c) s";

/// What a statement takes of each row.
#[derive(Default)]
struct Taken<'a> {
    /// The row's hash, `h`.
    row: bool,
    /// The key's, `kh`.
    key: bool,
    /// Expressions and what they are called.
    more: Vec<(String, &'a str)>,
    /// Computed once, however often it is read.
    once: bool,
}

/// Statements about one table on one side.
#[derive(Clone, Copy)]
pub(super) struct On<'a> {
    pub(super) table: &'a Table,
    pub(super) side: Side,
    pub(super) hash: Hash,
}

impl On<'_> {
    fn half(&self) -> &Half {
        match self.side {
            Side::Publisher => &self.table.publisher,
            Side::Subscriber => &self.table.subscriber,
        }
    }

    fn key_columns(&self) -> Vec<String> {
        let key = self.table.key.as_ref();
        let columns = key.iter().flat_map(|key| &key.columns);
        columns.map(|column| format!("t.{column}")).collect()
    }

    fn operator(&self, at: usize, sign: &str) -> String {
        let found = self
            .table
            .key
            .as_ref()
            .and_then(|key| key.operators.get(at));
        match found {
            Some((ours, theirs)) => {
                let schema = match self.side {
                    Side::Publisher => ours,
                    Side::Subscriber => theirs,
                };
                format!("OPERATOR({schema}.{sign})")
            }
            None => sign.to_owned(),
        }
    }

    fn only_built_in_operators(&self) -> bool {
        let catalog = Ident::from("pg_catalog");
        let key = self.table.key.as_ref();
        key.is_some_and(|key| {
            let mut both = key.operators.iter().flat_map(|(one, other)| [one, other]);
            both.all(|schema| *schema == catalog)
        })
    }

    /// The key compared with parameters from `$first` on. With operators of an extension there is no row comparison of
    /// several columns, since it names one operator for all.
    fn compared(&self, sign: &str, first: usize) -> String {
        let columns = self.key_columns();
        let types = &self.half().key_types;
        let values: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(at, written)| format!("${}::{written}", first + at))
            .collect();
        if columns.len() == 1 {
            return format!("{} {} {}", columns[0], self.operator(0, sign), values[0]);
        }
        if self.only_built_in_operators() {
            return format!("({}) {sign} ({})", columns.join(", "), values.join(", "));
        }
        let strict = sign.trim_end_matches('=');
        let last = columns.len() - 1;
        let mut rest = format!(
            "{} {} {}",
            columns[last],
            self.operator(last, sign),
            values[last]
        );
        for at in (0..last).rev() {
            let (column, value) = (&columns[at], &values[at]);
            rest = format!(
                "{column} {} {value} AND ({column} {} {value} OR {rest})",
                self.operator(at, &format!("{strict}=")),
                self.operator(at, strict),
            );
        }
        rest
    }

    /// The condition of a range, with parameters from `$1` on.
    fn within(&self, range: &Range) -> (String, Vec<Argument>) {
        let mut conditions = Vec::new();
        let mut arguments: Vec<Argument> = Vec::new();
        for (sign, bound) in [(">", &range.after), ("<=", &range.to)] {
            if let Some(bound) = bound {
                conditions.push(self.compared(sign, arguments.len() + 1));
                arguments.extend(bound.iter().cloned().map(|it| Argument::One(Some(it))));
            }
        }
        if conditions.is_empty() {
            ("true".into(), arguments)
        } else {
            (conditions.join(" AND "), arguments)
        }
    }

    /// A subquery that takes this of each row of `from`.
    fn source(&self, taken: &Taken<'_>, from: &str, condition: &str) -> String {
        let half = self.half();
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for (wanted, of, record, named) in [
            (taken.row, &half.row, "b", "h"),
            (taken.key, &half.key_row, "kb", "kh"),
        ] {
            if wanted {
                inner.push(format!("record_send(ROW({of})) AS {record}"));
                outer.push(format!(
                    "{} AS {named}",
                    self.hash.of(&format!("i.{record}"))
                ));
            }
        }
        for (expression, named) in &taken.more {
            inner.push(format!("{expression} AS {named}"));
            outer.push(format!("i.{named}"));
        }
        let fence = |wanted: bool| if wanted { " OFFSET 0" } else { "" };
        format!(
            "(SELECT {} FROM (SELECT {} FROM {from} WHERE {condition}{}) i{})",
            outer.join(", "),
            inner.join(", "),
            fence(self.hash.reads_twice()),
            fence(taken.once)
        )
    }

    /// The key's columns as text, and what they are called.
    fn key_texts(&self) -> Vec<(String, &'static str)> {
        const NAMES: [&str; 32] = [
            "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "k10", "k11", "k12", "k13",
            "k14", "k15", "k16", "k17", "k18", "k19", "k20", "k21", "k22", "k23", "k24", "k25",
            "k26", "k27", "k28", "k29", "k30", "k31",
        ];
        let columns = self.key_columns().into_iter().zip(NAMES);
        columns
            .map(|(column, name)| (format!("format('%s', {column})"), name))
            .collect()
    }
}

fn numbers(values: &[i64]) -> Argument {
    let texts = values.iter().map(|it| Text(it.to_string().into_bytes()));
    Argument::Many(texts.collect())
}

/// A value by its output function; `IS NULL` would take a row of NULLs for none.
fn value_of(row: &str, name: &str) -> String {
    let column = Ident::from(name);
    format!("CASE WHEN num_nulls({row}.{column}) = 0 THEN format('%s', {row}.{column}) END")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::TableName;
    use crate::verify::table::{Compared, Key as KeyOf};

    fn table(columns: &[(&str, &str)]) -> Table {
        let half = Half {
            from: "ONLY \"app\".\"T\" t".into(),
            row: "t.\"a\"".into(),
            key_row: "t.\"a\"".into(),
            key_types: columns.iter().map(|_| "integer".to_owned()).collect(),
        };
        Table {
            name: TableName::new("app", "T"),
            publisher: half.clone(),
            subscriber: half,
            key: Some(KeyOf {
                columns: columns.iter().map(|(name, _)| Ident::from(*name)).collect(),
                operators: columns
                    .iter()
                    .map(|(_, schema)| (Ident::from(*schema), Ident::from(*schema)))
                    .collect(),
            }),
            columns: vec![Compared {
                name: "a".into(),
                declared: "integer".into(),
                plain: false,
            }],
            bytes: 0,
            reltuples: 0.0,
            correlation: None,
            chunk: 20_000,
            file: None,
            notes: Vec::new(),
        }
    }

    fn where_of(columns: &[(&str, &str)], range: &Range) -> String {
        let table = table(columns);
        let on = On {
            table: &table,
            side: Side::Publisher,
            hash: Hash::Seeded(1),
        };
        on.within(range).0
    }

    #[test]
    fn ranges_are_open_behind_and_closed_ahead() {
        let both = Range {
            after: Some(vec!["1".into(), "2".into()]),
            to: Some(vec!["3".into(), "4".into()]),
        };
        assert_eq!(where_of(&[("a", "pg_catalog")], &Range::default()), "true");
        assert_eq!(
            where_of(&[("a", "pg_catalog"), ("B", "pg_catalog")], &both),
            "(t.\"a\", t.\"B\") > ($1::integer, $2::integer) AND (t.\"a\", t.\"B\") <= ($3::integer, $4::integer)"
        );
    }

    #[test]
    fn operators_of_an_extension_are_named_column_by_column() {
        let range = Range {
            after: None,
            to: Some(vec!["3".into(), "4".into()]),
        };
        assert_eq!(
            where_of(&[("a", "ext"), ("b", "pg_catalog")], &range),
            "t.\"a\" OPERATOR(\"ext\".<=) $1::integer AND (t.\"a\" OPERATOR(\"ext\".<) $1::integer \
             OR t.\"b\" OPERATOR(\"pg_catalog\".<=) $2::integer)"
        );
    }
}
