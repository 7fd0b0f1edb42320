//! Which tables are copied in which pieces: pure.

use serde::Deserialize;

use crate::value::{Ident, Lsn, TableName};

/// Ranges are about this large.
const RANGE_BYTES: i64 = 64 << 20;
/// Tables up to this size are copied several in one transaction.
pub(super) const SMALL_BYTES: i64 = 1 << 20;
/// As many as this.
pub(super) const BATCH: usize = 50;
/// From this version on a scan by ctid reads no more than its range.
const CTID_RANGES: i32 = 14;

/// How rows travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Binary,
    /// For types whose binary form holds numbers of one server's catalog.
    Text,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Format::Binary => "binary",
            Format::Text => "text",
        }
    }
}

/// A table as the publisher has it, in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Source {
    #[serde(flatten)]
    pub(super) name: TableName,
    /// Those that are stored and not generated, in their order.
    pub(super) columns: Vec<String>,
    pub(super) pages: i64,
    /// Toasted values included.
    pub(super) bytes: i64,
    /// Every type is built in on both sides.
    pub(super) binary: bool,
    /// An integer at the head of the primary key that rows are stored in the order of.
    pub(super) key: Option<Key>,
}

/// A column that ranges can be made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Key {
    pub(super) column: String,
    /// Bounds of the histogram, in order.
    pub(super) bounds: Vec<i64>,
}

/// A table, or a range of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Job {
    /// Its number on record.
    #[serde(default)]
    pub(super) job: i32,
    #[serde(flatten)]
    pub(super) table: TableName,
    /// A condition; none: the whole table.
    pub(super) range: Option<String>,
    pub(super) columns: Vec<String>,
    pub(super) format: Format,
    /// About how many bytes.
    pub(super) size: i64,
    /// Where its snapshot's slot begins, when that is not the subscription's own.
    pub(super) lsn: Option<Lsn>,
}

impl Job {
    fn columns(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| Ident::new(column).to_string())
            .collect();
        columns.join(", ")
    }

    /// What the publisher is told. A table's own rows, without its children's, are what both forms give; a query costs its
    /// planning, and more for each row.
    pub(super) fn copy_out(&self) -> String {
        let what = match &self.range {
            Some(range) => format!(
                "(SELECT {} FROM ONLY {} WHERE {range})",
                self.columns(),
                self.table
            ),
            None => self.table_with_columns(),
        };
        format!("COPY {what} TO STDOUT (FORMAT {})", self.format.as_str())
    }

    fn table_with_columns(&self) -> String {
        if self.columns.is_empty() {
            self.table.to_string()
        } else {
            format!("{} ({})", self.table, self.columns())
        }
    }

    /// What the subscriber is told.
    pub(super) fn copy_in(&self) -> String {
        format!(
            "COPY {} FROM STDIN (FORMAT {})",
            self.table_with_columns(),
            self.format.as_str()
        )
    }
}

/// From how many bytes on a table of a publisher of this version is copied in ranges of its key.
pub(super) fn needs_key(major: i32) -> i64 {
    if major < CTID_RANGES {
        RANGE_BYTES
    } else {
        i64::MAX
    }
}

/// The jobs for tables of a publisher of this version, largest first.
pub(super) fn jobs(sources: &[Source], major: i32, lsn: Option<Lsn>) -> Vec<Job> {
    let mut jobs: Vec<Job> = sources
        .iter()
        .flat_map(|source| {
            let ranges = ranges(source, major);
            let size = source.bytes / ranges.len().max(1) as i64;
            ranges.into_iter().map(move |range| Job {
                job: 0,
                table: source.name.clone(),
                range,
                columns: source.columns.clone(),
                format: if source.binary {
                    Format::Binary
                } else {
                    Format::Text
                },
                size,
                lsn,
            })
        })
        .collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.size));
    jobs
}

/// Conditions that hold for each row exactly once; a row that came after the plan is in the last one.
fn ranges(source: &Source, major: i32) -> Vec<Option<String>> {
    let wanted = source.bytes.div_euclid(RANGE_BYTES) + 1;
    if wanted < 2 {
        return vec![None];
    }
    let bounds: Vec<String> = match &source.key {
        _ if major >= CTID_RANGES => {
            let step = source.pages.div_euclid(wanted) + 1;
            (1..wanted)
                .map(|at| at * step)
                .filter(|page| *page < source.pages)
                .map(|page| format!("'({page},0)'::tid"))
                .collect()
        }
        Some(key) => {
            let inner = key.bounds.len().saturating_sub(2) as i64;
            let cuts = (wanted - 1).min(inner);
            let mut bounds: Vec<i64> = (1..=cuts)
                .filter_map(|at| key.bounds.get((at * (inner + 1) / (cuts + 1)) as usize))
                .copied()
                .collect();
            bounds.dedup();
            bounds.iter().map(i64::to_string).collect()
        }
        None => Vec::new(),
    };
    let column = match (&source.key, major >= CTID_RANGES) {
        (Some(key), false) => Ident::new(&key.column).to_string(),
        _ => "ctid".to_owned(),
    };
    let lower = std::iter::once(None).chain(bounds.iter().map(Some));
    let upper = bounds.iter().map(Some).chain(std::iter::once(None));
    lower
        .zip(upper)
        .map(|(lower, upper)| match (lower, upper) {
            (None, None) => None,
            (Some(lower), None) => Some(format!("{column} >= {lower}")),
            (None, Some(upper)) => Some(format!("{column} < {upper}")),
            (Some(lower), Some(upper)) => {
                Some(format!("{column} >= {lower} AND {column} < {upper}"))
            }
        })
        .collect()
}

/// Jobs that are done in one transaction: each large one alone, small ones together.
pub(super) fn batches(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let (large, small): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| job.size > SMALL_BYTES);
    let small = small.chunks(BATCH).map(<[Job]>::to_vec);
    large
        .into_iter()
        .map(|job| vec![job])
        .chain(small)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: i64, key: Option<Key>) -> Source {
        Source {
            name: TableName::new("public", "a\"b"),
            columns: vec!["id".into(), "we\"ird".into()],
            pages: bytes / 8192,
            bytes,
            binary: true,
            key,
        }
    }

    fn ranges_of(bytes: i64, key: Option<Key>, major: i32) -> Vec<Option<String>> {
        let jobs = jobs(&[source(bytes, key)], major, None);
        jobs.into_iter().map(|job| job.range).collect()
    }

    #[test]
    fn ranges_are_open_at_both_ends() {
        assert_eq!(ranges_of(1000, None, 14), [None]);
        let three = ranges_of(3 * RANGE_BYTES - 1, None, 14);
        let words: Vec<&str> = three.iter().flatten().map(String::as_str).collect();
        assert_eq!(
            words,
            [
                "ctid < '(8192,0)'::tid",
                "ctid >= '(8192,0)'::tid AND ctid < '(16384,0)'::tid",
                "ctid >= '(16384,0)'::tid"
            ]
        );
    }

    #[test]
    fn before_14_a_range_is_one_of_the_key_or_the_whole_table() {
        assert_eq!(ranges_of(10 * RANGE_BYTES, None, 13), [None]);
        let key = Key {
            column: "i d".into(),
            bounds: (0..=100).map(|at| at * 10).collect(),
        };
        let ranges = ranges_of(4 * RANGE_BYTES - 1, Some(key), 10);
        let words: Vec<&str> = ranges.iter().flatten().map(String::as_str).collect();
        assert_eq!(
            words,
            [
                "\"i d\" < 250",
                "\"i d\" >= 250 AND \"i d\" < 500",
                "\"i d\" >= 500 AND \"i d\" < 750",
                "\"i d\" >= 750"
            ]
        );
        let few = Key {
            column: "id".into(),
            bounds: vec![1, 9],
        };
        assert_eq!(ranges_of(4 * RANGE_BYTES, Some(few), 10), [None]);
    }

    #[test]
    fn names_are_quoted_and_a_table_without_columns_is_copied() {
        let mut job = jobs(&[source(5, None)], 18, None).remove(0);
        assert_eq!(
            job.copy_out(),
            r#"COPY "public"."a""b" ("id", "we""ird") TO STDOUT (FORMAT binary)"#
        );
        assert_eq!(
            job.copy_in(),
            r#"COPY "public"."a""b" ("id", "we""ird") FROM STDIN (FORMAT binary)"#
        );
        job.range = Some("id < 5".into());
        assert_eq!(
            job.copy_out(),
            r#"COPY (SELECT "id", "we""ird" FROM ONLY "public"."a""b" WHERE id < 5) TO STDOUT (FORMAT binary)"#
        );
        job.columns.clear();
        assert_eq!(
            job.copy_in(),
            r#"COPY "public"."a""b" FROM STDIN (FORMAT binary)"#
        );
    }

    #[test]
    fn small_tables_go_together() {
        let sources: Vec<Source> = (0..120).map(|_| source(10, None)).collect();
        let mut all = jobs(&sources, 18, None);
        all.extend(jobs(&[source(2 * RANGE_BYTES, None)], 18, None));
        let sizes: Vec<usize> = batches(all).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 1, 50, 50, 20]);
    }
}
