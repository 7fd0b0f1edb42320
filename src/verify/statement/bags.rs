//! Tables without a key: how often each row occurs.

use super::{On, SNAPSHOT, Taken, UNTOUCHED, VERSION, numbers, value_of};
use crate::value::Ident;
use crate::verify::findings::SHOWN;
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

    /// One row for each of these hashes, in their order, with its version and its values, as long as they take no more
    /// than `bytes` in all: then none. One that takes more by itself has none either, and says so.
    pub(in crate::verify) fn whole(&self, hashes: &[i64], bytes: i64) -> Asked {
        let lengths: Vec<String> = (1..=self.table.columns.len())
            .map(|at| format!("coalesce(octet_length(e.v[{at}]), 0)"))
            .collect();
        let length = match lengths.len() {
            0 => "0".to_owned(),
            _ => lengths.join(" + "),
        };
        let sql = format!(
            "SELECT w.h, w.version, w.own > {bytes}, CASE WHEN w.own <= {bytes} AND w.bytes <= {bytes} THEN w.v END
               FROM (SELECT l.*, sum(CASE WHEN l.own <= {bytes} THEN l.own ELSE 0 END) OVER (ORDER BY l.h) AS bytes
                       FROM (SELECT e.h, e.version, CASE WHEN e.own <= {bytes} THEN e.v END AS v, e.own
                               FROM (SELECT e.*, {length} AS own FROM {} e) e) l) w
              ORDER BY w.h",
            self.one_of_each(|value| value)
        );
        (sql, vec![numbers(hashes)])
    }

    /// The same for people, cut where they are long: with a digest, since rows may differ behind that.
    pub(in crate::verify) fn shown(&self, hashes: &[i64]) -> Asked {
        let cut = |value: String| {
            format!(
                "(SELECT CASE WHEN char_length(x) > {SHOWN} THEN left(x, {SHOWN}) || '... (' || octet_length(x) || ' bytes, md5 ' || left(md5(x), 8) || ')' ELSE x END
                    FROM (SELECT {value} OFFSET 0) s(x))"
            )
        };
        let sql = format!("SELECT e.h, e.v FROM {} e", self.one_of_each(cut));
        (sql, vec![numbers(hashes)])
    }

    /// The hash `h`, the version and the values `v` of one row of each hash in `$1`.
    fn one_of_each(&self, spelled: impl Fn(String) -> String) -> String {
        // The columns go through the fence, so that values are spelled of the chosen rows alone. Not as a whole row, `t`,
        // which would be a column of that name.
        let names: Vec<String> = (0..self.table.columns.len())
            .map(|at| format!("v{at}"))
            .collect();
        let columns = self.table.columns.iter().zip(&names);
        let more = columns
            .map(|(column, name)| (format!("t.{}", Ident::new(&column.name)), name.as_str()))
            .chain([(VERSION.to_owned(), "version")]);
        let values: Vec<String> = names
            .iter()
            .map(|name| spelled(value_of("r", name)))
            .collect();
        let taken = Taken {
            row: true,
            more: more.collect(),
            once: true,
            ..Taken::default()
        };
        let source = self.source(&taken, &self.half().from, "true");
        format!(
            "(SELECT DISTINCT ON (r.h) r.h, r.version, ARRAY[{}]::text[] AS v FROM {source} r
               WHERE r.h = ANY ($1::text[]::bigint[]) ORDER BY r.h)",
            values.join(", ")
        )
    }
}
