//! Tables without a key: how often each row occurs.

use super::{On, SNAPSHOT, Taken, UNTOUCHED, VERSION, numbers, value_of};
use crate::value::Ident;
use crate::verify::pinned::Asked;

impl On<'_> {
    /// For each bucket of the row's hash, how many rows and the sum of their hashes.
    pub(in crate::verify) fn sums_by_row(&self, buckets: i64) -> Asked {
        let source = self.bag_source(false);
        let sql = format!(
            "SELECT r.h & {}, count(*), sum(r.h)::text FROM {source} r GROUP BY 1",
            buckets - 1
        );
        (sql, Vec::new())
    }

    /// How often each hash of these buckets occurs.
    pub(in crate::verify) fn counts(&self, buckets: i64, wanted: &[i64]) -> Asked {
        let source = self.bag_source(false);
        let sql = format!(
            "SELECT r.h, count(*) FROM {source} r WHERE r.h & {} = ANY ($1::text[]::bigint[]) GROUP BY 1",
            buckets - 1
        );
        (sql, vec![numbers(wanted)])
    }

    /// What there is of these hashes, and the statement's snapshot.
    pub(in crate::verify) fn bags(&self, hashes: &[i64]) -> Asked {
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
    pub(in crate::verify) fn examples(&self, hashes: &[i64]) -> Asked {
        // The columns go through the fence, so that values are spelled of the chosen rows alone. Not as a whole row, `t`,
        // which would be a column of that name.
        let names: Vec<String> = (0..self.table.columns.len())
            .map(|at| format!("v{at}"))
            .collect();
        let columns = self.table.columns.iter().zip(&names);
        let more = columns
            .map(|(column, name)| (format!("t.{}", Ident::new(&column.name)), name.as_str()));
        let values: Vec<String> = names.iter().map(|name| value_of("r", name)).collect();
        let taken = Taken {
            row: true,
            more: more.collect(),
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
