//! What UPDATE and DELETE are sent with (`pg_class.relreplident`), and that the other side can find the row by it.

use serde::Deserialize;

use crate::config::Publication;
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::View;
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "replica_identity",
        title: "every published table identifies its rows",
        before: Before::Publication,
        place: Place::Database,
        asks: &[
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
            INCOMPARABLE.on_publisher(),
            GENERATED.on_publisher(),
        ],
        judge: |view| {
            let tables = covered(view)?;
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let published = !publisher.rows(&PUBLISHED)?.is_empty();
            let columns = publisher.rows(&INCOMPARABLE)?.into_iter();
            let mut never_full: Vec<TableName> = columns.map(|it| it.table).collect();
            if publisher.major >= 18 || view.subscriber.is_some_and(|it| it.major >= 18) {
                never_full.extend(publisher.rows(&GENERATED)?.into_iter().map(|it| it.table));
            }
            Ok(without_identity(
                &tables,
                moving.publication,
                published,
                &never_full,
            ))
        },
    },
    Check {
        id: "identity_full",
        title: "no large table is searched row by row for each UPDATE",
        before: Before::Publication,
        place: Place::Database,
        asks: &[TABLES.on_publisher(), PUBLISHED.on_publisher()],
        judge: |view| match view.moving {
            Some(moving) => Ok(slow_identity(&covered(view)?, moving.publication)),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "identity_operators",
        title: "every column of an identity can be compared",
        before: Before::Publication,
        place: Place::Database,
        asks: &[
            TABLES.on_publisher(),
            PUBLISHED.on_publisher(),
            INCOMPARABLE.on_publisher(),
        ],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => Ok(incomparable(
                &covered(view)?,
                moving.publication,
                &publisher.rows(&INCOMPARABLE)?,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
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
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "identity_differs",
        title: "both sides identify rows alike",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[TABLES.on_both(), PUBLISHED.on_publisher()],
        judge: |view| match view.subscriber {
            Some(subscriber) if view.subscribed => {
                Ok(differs(&covered(view)?, &subscriber.rows(&TABLES)?))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// An ordinary or partitioned table of a user's schema, with what identifies its rows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    #[serde(flatten)]
    pub(crate) name: TableName,
    pub(crate) relkind: char,
    pub(crate) relpersistence: char,
    pub(crate) relreplident: char,
    /// Valid and not deferrable.
    pub(crate) has_primary_key: bool,
    pub(crate) identity_index: Option<String>,
    pub(crate) owner: String,
    pub(crate) bytes: i64,
    pub(crate) has_rows: bool,
    /// Rows updated and deleted since the statistics began.
    pub(crate) changes: i64,
    #[serde(default)]
    pub(crate) ancestors: Vec<TableName>,
}

/// Sizes from pg_class: they wait for no lock, but where neither it nor the statistics, which a crash empties, know of a
/// row. The status table is flare's own affair.
pub(crate) const TABLES: Question<Table> = Question::database(
    "tables",
    "WITH RECURSIVE up(relid, ancestor) AS (
         SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
         UNION
         SELECT up.relid, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.ancestor
           JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
     ancestors(relid, names) AS (
         SELECT up.relid, jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', a.relname))
           FROM up JOIN pg_class a ON a.oid = up.ancestor JOIN pg_namespace n ON n.oid = a.relnamespace GROUP BY 1),
     keys(relid, has_primary_key, identity_index) AS (
         SELECT i.indrelid, bool_or(i.indisprimary AND i.indisvalid AND i.indimmediate),
                max(c.relname) FILTER (WHERE i.indisreplident AND i.indisvalid)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisprimary OR i.indisreplident GROUP BY 1)
     SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relkind', c.relkind,
              'relpersistence', c.relpersistence, 'relreplident', c.relreplident,
              'has_primary_key', coalesce(k.has_primary_key, false), 'identity_index', k.identity_index,
              'owner', pg_get_userbyid(c.relowner), 'bytes', c.relpages::int8 * current_setting('block_size')::int8,
              'has_rows', CASE WHEN c.reltuples > 0 OR c.relpages > 0 OR pg_stat_get_live_tuples(c.oid) > 0 OR pg_stat_get_tuples_inserted(c.oid) > 0 THEN true
                           WHEN c.relkind = 'r' THEN coalesce(pg_relation_size(c.oid), 0) > 0 ELSE false END,
              'changes', pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid),
              'ancestors', coalesce(a.names, '[]'))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN keys k ON k.relid = c.oid LEFT JOIN ancestors a ON a.relid = c.oid
      WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
        AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> 'flare'
        AND c.relname <> 'flare_replication_status'
      ORDER BY n.nspname, c.relname",
);

/// The tables whose changes the publication sends.
pub(crate) const PUBLISHED: Question<TableName> = Question::database(
    "published",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
       FROM pg_publication p, pg_get_publication_tables(p.pubname) t
       JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE p.pubname = {pubname} AND c.relname <> 'flare_replication_status'",
);

/// Columns whose type no default operator class of btree or hash compares: what apply asks the type cache for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Column {
    #[serde(flatten)]
    table: TableName,
    column: String,
    kind: String,
}

const INCOMPARABLE: Question<Column> = Question::database(
    "incomparable",
    "WITH RECURSIVE used(atttypid) AS (
         SELECT DISTINCT a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND c.oid >= 16384),
     parts(whole, part) AS (
         SELECT atttypid, atttypid FROM used
         UNION
         SELECT p.whole, x.part FROM parts p JOIN pg_type t ON t.oid = p.part,
           LATERAL (SELECT t.typbasetype WHERE t.typtype = 'd'
                    UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1 AND t.typtype = 'b' AND t.typcategory = 'A'
                    UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
                    UNION ALL SELECT a.atttypid FROM pg_attribute a
                               WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) x(part)),
     bad(whole) AS (
         SELECT DISTINCT p.whole FROM parts p JOIN pg_type t ON t.oid = p.part
          WHERE t.typtype NOT IN ('d', 'c', 'e', 'r', 'm', 'p') AND NOT (t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0)
            AND NOT EXISTS (SELECT FROM pg_opclass o WHERE o.opcdefault AND o.opcmethod IN (403, 405)
                               AND (o.opcintype = t.oid OR EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid
                                    AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i'))))
     SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'column', a.attname, 'kind', format_type(a.atttypid, NULL))
       FROM bad JOIN pg_attribute a ON a.atttypid = bad.whole JOIN pg_class c ON c.oid = a.attrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND c.oid >= 16384 AND n.nspname !~ '^pg_'",
);

/// Generated columns, and whether a key holds them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Generated {
    #[serde(flatten)]
    table: TableName,
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

const GENERATED: Question<Generated> = Question::database(
    "generated",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'column', a.attname, 'attgenerated', a.attgenerated,
              'in_identity', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
                                        AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)),
              'sent', EXISTS (SELECT FROM pg_publication p WHERE p.pubname = {pubname} AND to_jsonb(p) ->> 'pubgencols' = 's'))
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE a.attgenerated <> '' AND NOT a.attisdropped AND c.relkind = 'r' AND c.oid >= 16384 AND n.nspname !~ '^pg_'",
)
.since(12);

impl Table {
    /// Whether UPDATE and DELETE could be sent.
    pub(crate) fn identifies_rows(&self) -> bool {
        match self.relreplident {
            'f' => true,
            'd' => self.has_primary_key,
            'i' => self.identity_index.is_some(),
            _ => false,
        }
    }

    /// Whether it is one of these, or a partition of one.
    pub(crate) fn is_of(&self, names: &[TableName]) -> bool {
        let named = |name: &TableName| self.name == *name || self.ancestors.contains(name);
        names.iter().any(named)
    }

    /// Whether whole rows are sent and searched for: a primary key on the other side would be used instead.
    fn is_searched(&self, wanted: &Publication) -> bool {
        let full = self.relreplident == 'f' || self.is_of(&wanted.replica_identity_full_tables);
        full && !self.has_primary_key
    }
}

/// The ordinary tables that are published, or will be as the configuration has it.
pub(crate) fn covered(view: &View<'_>) -> Result<Vec<Table>> {
    let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
        return Ok(Vec::new());
    };
    let mut tables = publisher.rows(&TABLES)?;
    let published = publisher.rows(&PUBLISHED)?;
    let wanted = moving.publication;
    // With `tables: listed`, what the application has made since is published by nobody but create_publication.
    let new_ones_too = !(wanted.listed && view.subscribed) || view.before == Before::Publication;
    tables.retain(|table| {
        let names = wanted.tables.as_deref();
        let meant = names.map_or(new_ones_too, |names| table.is_of(names));
        table.relkind == 'r' && table.relpersistence == 'p' && (meant || table.is_of(&published))
    });
    Ok(tables)
}

fn names<'t>(tables: impl IntoIterator<Item = &'t Table>) -> Vec<String> {
    tables.into_iter().map(|it| it.name.plain()).collect()
}

fn without_identity(
    tables: &[Table],
    wanted: &Publication,
    published: bool,
    never_full: &[TableName],
) -> Vec<Finding> {
    let bad: Vec<&Table> = tables
        .iter()
        .filter(|it| !it.identifies_rows())
        .filter(|it| !it.is_of(&wanted.replica_identity_full_tables))
        .filter(|it| !it.is_of(&wanted.allow_no_identity))
        .collect();
    let Some(first) = bad.first() else {
        return Vec::new();
    };
    let (when, besides) = match (published, &wanted.tables) {
        (true, None) if !wanted.listed => (
            "fail already",
            "; publications.tables: listed keeps new tables of the application out of the publication",
        ),
        (true, _) => ("fail already", ""),
        (false, _) => ("would fail from then on", ""),
    };
    let table = &first.name;
    let full = if never_full.contains(table) {
        "allow_no_identity where rows are only inserted (FULL does not do: a column is generated, or nothing compares its values)"
    } else {
        "replica_identity_full_tables (slow where it is large and often updated), or in allow_no_identity where rows are only inserted"
    };
    vec![
        Finding::blocker(format!(
            "publish {}{}: without a replica identity every UPDATE and DELETE there {when}",
            first.name.plain(),
            match bad.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            }
        ))
        .objects(names(bad.iter().copied()))
        .fix(format!(
            "ALTER TABLE {table} ADD PRIMARY KEY (...), or REPLICA IDENTITY USING INDEX an index that is unique, NOT NULL and not deferrable, or name the table in {full}{besides}"
        )),
    ]
}

/// From this size on a search for each changed row is slow.
const LARGE_BYTES: i64 = 64 << 20;
/// So many changes show that it is not only inserted into.
const MANY_CHANGES: i64 = 1000;

fn slow_identity(tables: &[Table], wanted: &Publication) -> Vec<Finding> {
    let slow: Vec<&Table> = tables
        .iter()
        .filter(|it| it.is_searched(wanted))
        .filter(|it| it.bytes >= LARGE_BYTES && it.changes >= MANY_CHANGES)
        .collect();
    match slow.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::warning("REPLICA IDENTITY FULL on large tables that are often updated: the subscriber reads the whole table for each changed row")
                .objects(names(slow.iter().copied()))
                .fix(format!("ALTER TABLE {} ADD PRIMARY KEY (...)", first.name)),
        ],
    }
}

fn incomparable(tables: &[Table], wanted: &Publication, columns: &[Column]) -> Vec<Finding> {
    let searched: Vec<&TableName> = tables
        .iter()
        .filter(|it| it.is_searched(wanted))
        .map(|it| &it.name)
        .collect();
    let bad: Vec<&Column> = columns
        .iter()
        .filter(|it| searched.contains(&&it.table))
        .collect();
    match bad.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker("REPLICA IDENTITY FULL with a column that has no equality operator: the first UPDATE or DELETE stops the subscription for good")
                .objects(bad.iter().map(|it| format!("{}.{} ({})", it.table.plain(), it.column, it.kind)))
                .fix(format!(
                    "ALTER TABLE {} ADD PRIMARY KEY (...), or ALTER COLUMN {} TYPE a type with one (jsonb instead of json), or allow_no_identity where rows are only inserted",
                    first.table,
                    Ident::new(&first.column)
                )),
        ],
    }
}

fn generated(
    tables: &[Table],
    wanted: &Publication,
    columns: &[Generated],
    publisher: i32,
    subscriber: Option<i32>,
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
            Finding::blocker("the publication sends generated columns that the subscriber generates itself: neither the copy nor apply passes (incompatible generated column)")
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
            Finding::blocker("columns are generated on the publisher and ordinary ones on the subscriber, which sends them on the way back: its first row stops there")
                .objects(plain.iter().map(described))
                .fix(format!(
                    "ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION on the publisher (13 and later), generate it on the subscriber as well, or do without a way back (--no-reverse, cutover: {{reverse: false}})",
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
        (18.., _) => Some("the publisher"),
        (_, Some(18..)) => Some("the subscriber, after the cutover,"),
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

fn differs(here: &[Table], there: &[Table]) -> Vec<Finding> {
    let identity = |it: &Table| {
        let index = it.identity_index.clone().filter(|_| it.relreplident == 'i');
        (it.relreplident, index)
    };
    let mut differing: Vec<(String, String)> = Vec::new();
    for table in here {
        let other = there.iter().find(|it| it.name == table.name);
        if other.is_none_or(|other| identity(other) == identity(table)) {
            continue;
        }
        let form = match identity(table) {
            ('f', _) => "FULL".to_owned(),
            ('n', _) => "NOTHING".to_owned(),
            ('i', Some(index)) => format!("USING INDEX {}", Ident::new(index)),
            _ => "DEFAULT".to_owned(),
        };
        differing.push((
            table.name.plain(),
            format!("ALTER TABLE {} REPLICA IDENTITY {form}", table.name),
        ));
    }
    match differing.first() {
        None => Vec::new(),
        Some((_, fix)) => vec![
            Finding::warning("the replica identity on the subscriber is another than on the publisher: the way back would send other rows")
                .fix(format!("{fix} on the subscriber, and so on; the cutover does it where it may"))
                .objects(differing.iter().map(|(name, _)| name.clone())),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn keyless(name: &str) -> Table {
        Table {
            has_primary_key: false,
            ..table(name)
        }
    }

    fn wanted() -> Publication {
        Publication {
            replica_identity_full_tables: vec!["full".parse().unwrap()],
            allow_no_identity: vec!["log".parse().unwrap()],
            ..super::super::wanted()
        }
    }

    #[test]
    fn tables_without_identity_block_unless_they_are_excused() {
        let tables = [
            table("keyed"),
            keyless("full"),
            keyless("log"),
            keyless("app.bad"),
            Table {
                relreplident: 'i',
                ..table("dropped index")
            },
            Table {
                relreplident: 'n',
                ..table("nothing")
            },
        ];
        let found = without_identity(&tables, &wanted(), false, &[]);
        assert_eq!(
            found[0].objects,
            ["app.bad", "public.dropped index", "public.nothing"]
        );
        let fix = found[0].fix.as_deref().unwrap();
        assert!(fix.starts_with(r#"ALTER TABLE "app"."bad" ADD"#), "{fix}");
        assert!(without_identity(&tables[..3], &wanted(), false, &[]).is_empty());
        let never_full = ["app.bad".parse().unwrap()];
        let published = &without_identity(&tables, &wanted(), true, &never_full)[0];
        let fix = published.fix.as_deref().unwrap();
        assert!(!fix.contains("replica_identity_full_tables"), "{fix}");
        assert!(published.message.ends_with("fail already"));
        assert!(published.fix.as_deref().unwrap().contains("listed"));
    }

    #[test]
    fn whole_rows_are_slow_only_in_large_tables_that_change() {
        let large = Table {
            bytes: LARGE_BYTES,
            changes: MANY_CHANGES,
            ..keyless("full")
        };
        assert_eq!(
            slow_identity(std::slice::from_ref(&large), &wanted()).len(),
            1
        );
        let keyed = Table {
            has_primary_key: true,
            ..large.clone()
        };
        let still = Table {
            changes: 3,
            ..large
        };
        assert!(slow_identity(&[keyed, still], &wanted()).is_empty());
    }

    #[test]
    fn columns_that_cannot_be_compared_matter_only_where_rows_are_searched() {
        let column = |table: &str| Column {
            table: table.parse().unwrap(),
            column: "doc".into(),
            kind: "json".into(),
        };
        let columns = [column("full"), column("keyed")];
        let tables = [keyless("full"), table("keyed")];
        let found = incomparable(&tables, &wanted(), &columns);
        assert_eq!(found[0].objects, ["public.full.doc (json)"]);
    }

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
            generated(&tables, &wanted(), &[column], publisher, subscriber).len()
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

    #[test]
    fn identities_are_compared_by_form_and_index() {
        let by = |index: &str| Table {
            relreplident: 'i',
            identity_index: Some(index.into()),
            ..table("a")
        };
        assert!(differs(&[by("x")], &[by("x")]).is_empty());
        assert_eq!(differs(&[by("x")], &[by("y")])[0].objects, ["public.a"]);
        let fix = differs(&[by("x\"y")], &[table("a")])[0]
            .fix
            .clone()
            .unwrap();
        assert!(
            fix.contains(r#"REPLICA IDENTITY USING INDEX "x""y""#),
            "{fix}"
        );
        assert!(differs(&[by("x")], &[]).is_empty());
    }
}
