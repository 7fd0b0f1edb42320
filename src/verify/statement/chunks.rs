//! Ranges of the key: where a chunk ends, the sum of its hashes, its rows.

use super::{On, Range, Taken, numbers};
use crate::verify::pinned::Asked;

impl On<'_> {
    /// The key of the `size`-th row of a range: where a chunk ends. An index answers it alone, and only that key is spelled.
    pub(in crate::verify) fn bound(&self, range: &Range, size: usize) -> Asked {
        let (condition, arguments) = self.within(range);
        let texts: Vec<String> = self.key_texts().into_iter().map(|(text, _)| text).collect();
        let columns = self.key_columns().join(", ");
        let sql = format!(
            "SELECT {} FROM (SELECT {columns} FROM {} WHERE {condition} ORDER BY {columns} OFFSET {} LIMIT 1) t",
            texts.join(", "),
            self.half().from,
            size.saturating_sub(1)
        );
        (sql, arguments)
    }

    /// How many rows a range has, and the sum of their hashes.
    pub(in crate::verify) fn sum(&self, range: &Range) -> Asked {
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
    pub(in crate::verify) fn sums_by_key(&self, range: &Range, buckets: i64) -> Asked {
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
    pub(in crate::verify) fn rows(&self, range: &Range, buckets: Option<(i64, &[i64])>) -> Asked {
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
    pub(in crate::verify) fn keys(&self, range: &Range) -> Asked {
        let (condition, arguments) = self.within(range);
        let texts: Vec<String> = self.key_texts().into_iter().map(|(text, _)| text).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition}",
            texts.join(", "),
            self.half().from
        );
        (sql, arguments)
    }
}
