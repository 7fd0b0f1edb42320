//! Single rows by their key: what a round looks at, and the values of a row that is about to be named.

use super::{Key, On, SNAPSHOT, Taken, UNTOUCHED, VERSION, value_of};
use crate::value::{Ident, TableName};
use crate::verify::pinned::{Argument, Asked, Text};

impl On<'_> {
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
    pub(in crate::verify) fn looks(&self, keys: &[Key]) -> Asked {
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
    pub(in crate::verify) fn hashes(&self, keys: &[Key]) -> Asked {
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
    pub(in crate::verify) fn missing(&self, keys: &[Key]) -> Asked {
        let (unnested, condition, arguments) = self.joined(keys);
        let sql = format!(
            "SELECT u.n FROM {unnested} WHERE NOT EXISTS (SELECT FROM {} WHERE {condition})",
            self.half().from
        );
        (sql, arguments)
    }

    /// Version and values of one row, each value as text or NULL.
    pub(in crate::verify) fn values(&self, key: &Key) -> Asked {
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
    pub(in crate::verify) fn arbiter(&self, key: &Key, values: &[Option<Text>]) -> Asked {
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

    /// What the probe's row says, and the hash of one row, in one snapshot.
    pub(in crate::verify) fn beside_probe(
        &self,
        key: &Key,
        probe: &TableName,
        probe_key: Argument,
    ) -> Asked {
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
    pub(in crate::verify) fn rehash(&self, values: &[Option<Text>]) -> Asked {
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
