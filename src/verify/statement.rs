//! The statements about one table on one side. Pure.

use super::hash::Hash;
use super::pinned::{Argument, Asked, Text};
use super::table::{Half, Table};
use crate::server::Side;
use crate::value::{Ident, TableName};

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
        match conditions.is_empty() {
            true => ("true".into(), arguments),
            false => (conditions.join(" AND "), arguments),
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

    /// The key of the `size`-th row of a range: where a chunk ends. An index answers it alone.
    pub(super) fn bound(&self, range: &Range, size: usize) -> Asked {
        let (condition, arguments) = self.within(range);
        let texts: Vec<String> = self.key_texts().into_iter().map(|(text, _)| text).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {} OFFSET {} LIMIT 1",
            texts.join(", "),
            self.half().from,
            self.key_columns().join(", "),
            size.saturating_sub(1)
        );
        (sql, arguments)
    }

    /// How many rows a range has, and the sum of their hashes.
    pub(super) fn sum(&self, range: &Range) -> Asked {
        let (condition, arguments) = self.within(range);
        let taken = Taken {
            row: true,
            ..Taken::default()
        };
        let source = self.source(&taken, &self.half().from, &condition);
        let sql = format!("SELECT count(*), coalesce(sum(r.h), 0)::text FROM {source} r");
        (sql, arguments)
    }

    /// The same for each bucket of the key's hash.
    pub(super) fn sums_by_key(&self, range: &Range, buckets: i64) -> Asked {
        let (condition, arguments) = self.within(range);
        let taken = Taken {
            row: true,
            key: true,
            ..Taken::default()
        };
        let source = self.source(&taken, &self.half().from, &condition);
        let sql = format!(
            "SELECT r.kh & {}, count(*), sum(r.h)::text FROM {source} r GROUP BY 1",
            buckets - 1
        );
        (sql, arguments)
    }

    /// Hash and key of the rows of a range that are in these buckets of the key's hash; of all, when none is named.
    pub(super) fn rows(&self, range: &Range, buckets: Option<(i64, &[i64])>) -> Asked {
        let (condition, mut arguments) = self.within(range);
        let taken = Taken {
            row: true,
            key: buckets.is_some(),
            more: self.key_texts(),
            once: false,
        };
        let source = self.source(&taken, &self.half().from, &condition);
        let names: Vec<String> = taken.more.iter().map(|(_, it)| format!("r.{it}")).collect();
        let mut sql = format!("SELECT r.h, {} FROM {source} r", names.join(", "));
        if let Some((count, buckets)) = buckets {
            sql.push_str(&format!(
                " WHERE r.kh & {} = ANY (${}::text[]::bigint[])",
                count - 1,
                arguments.len() + 1
            ));
            arguments.push(numbers(buckets));
        }
        (sql, arguments)
    }

    /// The keys of a range.
    pub(super) fn keys(&self, range: &Range) -> Asked {
        let (condition, arguments) = self.within(range);
        let texts: Vec<String> = self.key_texts().into_iter().map(|(text, _)| text).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition}",
            texts.join(", "),
            self.half().from
        );
        (sql, arguments)
    }

    /// The keys asked for, each with its number, `u.n`, joined with the table.
    fn joined(&self, keys: &[Key]) -> (String, String, Vec<Argument>) {
        let half = self.half();
        let (mut lists, mut names, mut conditions, mut arguments) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, (column, written)) in self.key_columns().iter().zip(&half.key_types).enumerate() {
            lists.push(format!("${}::text[]", at + 1));
            names.push(format!("k{at}"));
            conditions.push(format!(
                "{column} {} (u.k{at})::{written}",
                self.operator(at, "=")
            ));
            arguments.push(Argument::Many(
                keys.iter().map(|key| key[at].clone()).collect(),
            ));
        }
        let unnested = format!(
            "unnest({}) WITH ORDINALITY u({}, n)",
            lists.join(", "),
            names.join(", ")
        );
        (unnested, conditions.join(" AND "), arguments)
    }

    /// What there is of these keys, and the statement's snapshot: one row of it at least.
    pub(super) fn looks(&self, keys: &[Key]) -> Asked {
        let (unnested, condition, arguments) = self.joined(keys);
        let taken = Taken {
            row: true,
            more: vec![
                ("u.n".into(), "n"),
                (VERSION.into(), "v"),
                (UNTOUCHED.into(), "untouched"),
            ],
            ..Taken::default()
        };
        let from = format!("{unnested} JOIN {} ON {condition}", self.half().from);
        let source = self.source(&taken, &from, "true");
        let sql = format!(
            "SELECT s.lo, s.hi, r.n, r.h, r.v, r.untouched FROM {SNAPSHOT} LEFT JOIN {source} r ON true"
        );
        (sql, arguments)
    }

    /// Number and hash of those of these keys that are there.
    pub(super) fn hashes(&self, keys: &[Key]) -> Asked {
        let (unnested, condition, arguments) = self.joined(keys);
        let taken = Taken {
            row: true,
            more: vec![("u.n".into(), "n")],
            ..Taken::default()
        };
        let from = format!("{unnested} JOIN {} ON {condition}", self.half().from);
        let source = self.source(&taken, &from, "true");
        (format!("SELECT r.n, r.h FROM {source} r"), arguments)
    }

    /// The numbers of those of these keys that are not there.
    pub(super) fn missing(&self, keys: &[Key]) -> Asked {
        let (unnested, condition, arguments) = self.joined(keys);
        let sql = format!(
            "SELECT u.n FROM {unnested} WHERE NOT EXISTS (SELECT FROM {} WHERE {condition})",
            self.half().from
        );
        (sql, arguments)
    }

    /// Version and values of one row, each value as text or NULL.
    pub(super) fn values(&self, key: &Key) -> Asked {
        let (unnested, condition, arguments) = self.joined(std::slice::from_ref(key));
        let columns = self.table.columns.iter();
        let values: Vec<String> = columns.map(|it| value_of("t", &it.name)).collect();
        let sql = format!(
            "SELECT {VERSION}, ARRAY[{}]::text[] FROM {unnested} JOIN {} ON {condition}",
            values.join(", "),
            self.half().from
        );
        (sql, arguments)
    }

    /// The final arbiter, on the subscriber: which of the publisher's values are what is here, once they are read as
    /// replication reads them.
    pub(super) fn arbiter(&self, key: &Key, values: &[Option<Text>]) -> Asked {
        let (unnested, condition, mut arguments) = self.joined(std::slice::from_ref(key));
        let first = arguments.len() + 1;
        let columns = &self.table.columns;
        let same: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let name = Ident::new(&column.name);
                format!(
                    "ROW(${}::{})::text = ROW(t.{name})::text",
                    first + at,
                    column.declared
                )
            })
            .collect();
        let own: Vec<String> = columns.iter().map(|it| value_of("t", &it.name)).collect();
        arguments.extend(values.iter().cloned().map(Argument::One));
        let sql = format!(
            "SELECT {VERSION}, ARRAY[{}]::boolean[], ARRAY[{}]::text[] FROM {unnested} JOIN {} ON {condition}",
            same.join(", "),
            own.join(", "),
            self.half().from
        );
        (sql, arguments)
    }

    /// For each bucket of the row's hash, how many rows and the sum of their hashes.
    pub(super) fn sums_by_row(&self, buckets: i64) -> Asked {
        let source = self.bag_source(false);
        let sql = format!(
            "SELECT r.h & {}, count(*), sum(r.h)::text FROM {source} r GROUP BY 1",
            buckets - 1
        );
        (sql, Vec::new())
    }

    /// How often each hash of these buckets occurs.
    pub(super) fn counts(&self, buckets: i64, wanted: &[i64]) -> Asked {
        let source = self.bag_source(false);
        let sql = format!(
            "SELECT r.h, count(*) FROM {source} r WHERE r.h & {} = ANY ($1::text[]::bigint[]) GROUP BY 1",
            buckets - 1
        );
        (sql, vec![numbers(wanted)])
    }

    /// What there is of these hashes, and the statement's snapshot.
    pub(super) fn bags(&self, hashes: &[i64]) -> Asked {
        let source = self.bag_source(true);
        let version = self.hash.of("i.vb");
        let sql = format!(
            "SELECT s.lo, s.hi, r.h, r.n, r.v, r.untouched FROM {SNAPSHOT} LEFT JOIN (
               SELECT i.h, count(*) AS n, sum({version})::text AS v, bool_and(i.untouched) AS untouched
                 FROM {source} i WHERE i.h = ANY ($1::text[]::bigint[]) GROUP BY i.h) r ON true"
        );
        (sql, vec![numbers(hashes)])
    }

    fn bag_source(&self, versions: bool) -> String {
        let mut taken = Taken {
            row: true,
            once: true,
            ..Taken::default()
        };
        if versions {
            taken.more = vec![
                (format!("textsend({VERSION})"), "vb"),
                (UNTOUCHED.into(), "untouched"),
            ];
        }
        self.source(&taken, &self.half().from, "true")
    }

    /// The values of one row for each of these hashes.
    pub(super) fn examples(&self, hashes: &[i64]) -> Asked {
        let columns = self.table.columns.iter();
        let values: Vec<String> = columns.map(|it| value_of("(r.whole)", &it.name)).collect();
        // The whole row goes through the fence, so that values are spelled of the chosen rows alone.
        let taken = Taken {
            row: true,
            more: vec![("t".into(), "whole")],
            once: true,
            ..Taken::default()
        };
        let source = self.source(&taken, &self.half().from, "true");
        let sql = format!(
            "SELECT DISTINCT ON (r.h) r.h, ARRAY[{}]::text[] FROM {source} r WHERE r.h = ANY ($1::text[]::bigint[])",
            values.join(", ")
        );
        (sql, vec![numbers(hashes)])
    }
}

impl On<'_> {
    /// What the probe's row says, and the hash of one row, in one snapshot.
    pub(super) fn beside_probe(&self, key: &Key, probe: &TableName, probe_key: Argument) -> Asked {
        let (unnested, condition, mut arguments) = self.joined(std::slice::from_ref(key));
        let taken = Taken {
            row: true,
            ..Taken::default()
        };
        let from = format!("{unnested} JOIN {} ON {condition}", self.half().from);
        let source = self.source(&taken, &from, "true");
        arguments.push(probe_key);
        let sql = format!(
            "SELECT p.uuid, r.h FROM (SELECT (SELECT uuid FROM {probe} WHERE system_identifier = ${}) AS uuid) p
               LEFT JOIN {source} r ON true",
            arguments.len()
        );
        (sql, arguments)
    }

    /// The hash that a row of these values has here, once they are read as replication reads them.
    pub(super) fn rehash(&self, values: &[Option<Text>]) -> Asked {
        let columns = self.table.columns.iter().enumerate().map(|(at, column)| {
            format!(
                "${}::{} AS {}",
                at + 1,
                column.declared,
                Ident::new(&column.name)
            )
        });
        let columns: Vec<String> = columns.collect();
        let taken = Taken {
            row: true,
            once: true,
            ..Taken::default()
        };
        let from = format!("(SELECT {}) t", columns.join(", "));
        let sql = format!("SELECT r.h FROM {} r", self.source(&taken, &from, "true"));
        (sql, values.iter().cloned().map(Argument::One).collect())
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
            }],
            bytes: 0,
            reltuples: 0.0,
            correlation: None,
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
