//! Single rows by their key: what a round looks at, and the values of a row that is about to be named.

use super::{Key, On, SNAPSHOT, Taken, UNTOUCHED, VERSION, value_of};
use crate::value::{Ident, TableName};
use crate::verify::pinned::{Argument, Asked, Text};
use crate::verify::table::Compared;

/// A larger value does not come along.
const LARGE: usize = 256 << 10;
/// How many bytes of a large value are carried at once.
const PART: usize = 512 << 10;
/// Gives the next part of a value that is being carried.
pub(in crate::verify) const NEXT_PART: &str = "FETCH NEXT FROM flare_parts";
/// How much of a large value is looked at by one digest.
pub(in crate::verify) const PIECE: usize = 64 << 10;

/// Where one row is found.
pub(in crate::verify) enum RowAt<'a> {
    Key(&'a Key),
    /// By its version, which names its place: a row of a table without a key.
    Version(&'a str),
}

/// A value of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::verify) struct Value {
    /// None: it is NULL, or large.
    pub(in crate::verify) text: Option<Text>,
    /// None: it is NULL.
    pub(in crate::verify) bytes: Option<i64>,
}

impl Value {
    /// The values of a row, from their texts and what they take.
    pub(in crate::verify) fn all(texts: Vec<Option<Text>>, bytes: Vec<Option<i64>>) -> Vec<Value> {
        let both = texts.into_iter().zip(bytes);
        both.map(|(text, bytes)| Value { text, bytes }).collect()
    }

    /// One that came along, or NULL.
    pub(in crate::verify) fn of(text: Option<Text>) -> Value {
        let bytes = text.as_ref().map(|it| it.0.len() as i64);
        Value { text, bytes }
    }

    /// Whether it stayed on the server.
    pub(in crate::verify) fn is_large(&self) -> bool {
        self.text.is_none() && self.bytes.is_some()
    }
}

/// What numbers the parts of a value that was carried.
fn numbers_of_parts(at: usize) -> String {
    format!("generate_series(1, current_setting('flare.value{at}')::int) g(n)")
}

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

    /// The columns' texts, made once each: `v0` and so on.
    fn texts(&self) -> Vec<String> {
        let columns = self.table.columns.iter().enumerate();
        columns
            .map(|(at, it)| format!("{} AS v{at}", value_of("t", &it.name)))
            .collect()
    }

    /// Of the row `x` of such texts: two arrays, the texts, but none of large ones, which are compared where they are or
    /// carried piece by piece, and what they take.
    fn texts_and_bytes(&self) -> String {
        let each = |of: &dyn Fn(usize) -> String| -> String {
            let all: Vec<String> = (0..self.table.columns.len()).map(of).collect();
            all.join(", ")
        };
        format!(
            "ARRAY[{}]::text[], ARRAY[{}]::int8[]",
            each(&|at| format!("CASE WHEN octet_length(x.v{at}) <= {LARGE} THEN x.v{at} END")),
            each(&|at| format!("octet_length(x.v{at})")),
        )
    }

    /// What follows FROM to find one row.
    fn one_row(&self, row: &RowAt<'_>) -> (String, Vec<Argument>) {
        let from = &self.half().from;
        match row {
            RowAt::Key(key) => {
                let (unnested, condition, arguments) = self.joined(std::slice::from_ref(*key));
                (format!("{unnested} JOIN {from} ON {condition}"), arguments)
            }
            RowAt::Version(version) => {
                let place = version.rsplit(' ').next().unwrap_or_default();
                let arguments = [place, version].map(|it| Argument::One(Some(it.into())));
                (
                    format!("{from} WHERE t.ctid = $1::tid AND {VERSION} = $2"),
                    arguments.into(),
                )
            }
        }
    }

    /// Version of one row, its values, each as text or NULL, and what they take. Large ones stay on the server.
    pub(in crate::verify) fn values(&self, row: &RowAt<'_>) -> Asked {
        let (found, arguments) = self.one_row(row);
        let mut inner = vec![format!("{VERSION} AS version")];
        inner.extend(self.texts());
        let sql = format!(
            "SELECT x.version, {} FROM (SELECT {} FROM {found} OFFSET 0) x",
            self.texts_and_bytes(),
            inner.join(", "),
        );
        (sql, arguments)
    }

    /// Opens a cursor over the parts of a column's text, in the client's encoding, each with the row's version. The text is
    /// made once, when the first is asked for.
    pub(in crate::verify) fn parts(&self, row: &RowAt<'_>, at: usize) -> Asked {
        let (source, arguments) = self.sent(row, &self.table.columns[at]);
        let sql = format!(
            "DECLARE flare_parts NO SCROLL CURSOR FOR
             SELECT x.version, substring(x.b FROM 1 + g.n * {PART} FOR {PART})
               FROM {source} CROSS JOIN LATERAL generate_series(0, (octet_length(x.b) - 1) / {PART}) g(n)"
        );
        (sql, arguments)
    }

    /// Puts a part of a value into the session, numbered from 1.
    pub(in crate::verify) fn carried(at: usize, number: usize, part: Text) -> Asked {
        // The value itself is not asked for.
        let sql = format!("SELECT set_config('flare.value{at}_{number}', $1, false) IS NULL");
        (sql, vec![Argument::One(Some(part))])
    }

    /// So many parts are the whole value.
    pub(in crate::verify) fn all_carried(at: usize, parts: usize) -> Asked {
        let sql = format!("SELECT set_config('flare.value{at}', '{parts}', false)");
        (sql, Vec::new())
    }

    /// Empties the parts of a value that was carried.
    pub(in crate::verify) fn forgotten(at: usize) -> Asked {
        let sql = format!(
            "SELECT count(set_config('flare.value{at}_' || g.n, '', false)) FROM {}",
            numbers_of_parts(at)
        );
        (sql, Vec::new())
    }

    /// A value of a row as the subscriber reads it: a parameter, or what was carried there.
    fn read_here(&self, at: usize, value: &Value, arguments: &mut Vec<Argument>) -> String {
        let declared = &self.table.columns[at].declared;
        if value.is_large() {
            return format!(
                "(SELECT string_agg(current_setting('flare.value{at}_' || g.n), '' ORDER BY g.n) FROM {})::{declared}",
                numbers_of_parts(at)
            );
        }
        arguments.push(Argument::One(value.text.clone()));
        format!("${}::{declared}", arguments.len())
    }

    /// The final arbiter, on the subscriber: which of the publisher's values are what is here, once they are read as
    /// replication reads them. NULL of those that are large.
    pub(in crate::verify) fn arbiter(&self, key: &Key, values: &[Value]) -> Asked {
        let (unnested, condition, mut arguments) = self.joined(std::slice::from_ref(key));
        let columns = self.table.columns.iter().zip(values).enumerate();
        let same: Vec<String> = columns
            .map(|(at, (_, value))| {
                if value.is_large() {
                    "NULL".to_owned()
                } else {
                    self.same_as_here(at, value, &mut arguments)
                }
            })
            .collect();
        let mut inner = vec![
            format!("{VERSION} AS version"),
            format!("ARRAY[{}]::boolean[] AS same", same.join(", ")),
        ];
        inner.extend(self.texts());
        let sql = format!(
            "SELECT x.version, x.same, {} FROM (SELECT {} FROM {unnested} JOIN {} ON {condition} OFFSET 0) x",
            self.texts_and_bytes(),
            inner.join(", "),
            self.half().from
        );
        (sql, arguments)
    }

    /// The same of one value that was carried there, with the row's version.
    pub(in crate::verify) fn arbiter_of_large(&self, key: &Key, at: usize, value: &Value) -> Asked {
        let (unnested, condition, mut arguments) = self.joined(std::slice::from_ref(key));
        let same = self.same_as_here(at, value, &mut arguments);
        let sql = format!(
            "SELECT {VERSION}, {same} FROM {unnested} JOIN {} ON {condition}",
            self.half().from
        );
        (sql, arguments)
    }

    fn same_as_here(&self, at: usize, value: &Value, arguments: &mut Vec<Argument>) -> String {
        let name = Ident::new(&self.table.columns[at].name);
        let read = self.read_here(at, value, arguments);
        format!("ROW({read})::text = ROW(t.{name})::text")
    }

    /// A column's text as bytes in the client's encoding, of one row, with the row's version.
    fn sent(&self, row: &RowAt<'_>, column: &Compared) -> (String, Vec<Argument>) {
        let (found, arguments) = self.one_row(row);
        let source = format!(
            "(SELECT {VERSION} AS version, textsend({}) AS b FROM {found} OFFSET 0) x",
            value_of("t", &column.name),
        );
        (source, arguments)
    }

    /// The row's version, and of a large value the digest of each piece.
    pub(in crate::verify) fn pieces(&self, key: &Key, column: &Compared) -> Asked {
        let (source, arguments) = self.sent(&RowAt::Key(key), column);
        let sql = format!(
            "SELECT x.version, coalesce(octet_length(x.b), -1)::int8,
                    ARRAY(SELECT md5(substring(x.b FROM 1 + g.n * {PIECE} FOR {PIECE})) FROM generate_series(0, (octet_length(x.b) - 1) / {PIECE}) g(n) ORDER BY g.n)
               FROM {source}"
        );
        (sql, arguments)
    }

    /// One piece of it.
    pub(in crate::verify) fn piece(&self, key: &Key, column: &Compared, number: usize) -> Asked {
        let (source, arguments) = self.sent(&RowAt::Key(key), column);
        let from = 1 + number * PIECE;
        let sql = format!("SELECT substring(x.b FROM {from} FOR {PIECE}) FROM {source}");
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
    pub(in crate::verify) fn rehash(&self, values: &[Value]) -> Asked {
        let mut arguments = Vec::new();
        let columns = self.table.columns.iter().zip(values).enumerate();
        let columns: Vec<String> = columns
            .map(|(at, (column, value))| {
                let read = self.read_here(at, value, &mut arguments);
                format!("{read} AS {}", Ident::new(&column.name))
            })
            .collect();
        let taken = Taken {
            row: true,
            once: true,
            ..Taken::default()
        };
        let from = format!("(SELECT {}) t", columns.join(", "));
        let sql = format!("SELECT r.h FROM {} r", self.source(&taken, &from, "true"));
        (sql, arguments)
    }
}
