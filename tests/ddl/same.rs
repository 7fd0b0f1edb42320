//! Both sides of a database are the same: what their catalogs say, and the rows.

use std::time::Duration;

use crate::support::{Cluster, Pair, wait};

type Rows = Vec<Vec<Option<String>>>;

/// Tables, columns, constraints, indexes, types, views, functions, triggers, comments and privileges, in words that no
/// version spells differently.
const SCHEMA: &str = "
    WITH mine AS (SELECT oid, nspname FROM pg_namespace
                   WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare'))
    SELECT 'relation', nspname || '.' || relname,
           concat_ws(' ', relkind, relowner::regrole, relpersistence, relreplident, relrowsecurity, relispartition, reloptions::text)
      FROM pg_class c JOIN mine n ON n.oid = relnamespace WHERE relkind NOT IN ('t', 'i')
    UNION ALL
    SELECT 'column', nspname || '.' || relname || '.' || attname,
           concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, attidentity,
                     regexp_replace(pg_get_expr(adbin, adrelid), '^\\((.*)\\)$', '\\1'),
                     (SELECT count(*) FROM pg_attribute b WHERE b.attrelid = a.attrelid AND b.attnum BETWEEN 1 AND a.attnum AND NOT b.attisdropped))
      FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN mine n ON n.oid = relnamespace
      LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
     WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'constraint', conrelid::regclass || ' ' || conname, concat_ws(' ', contype, convalidated, pg_get_constraintdef(k.oid))
      FROM pg_constraint k JOIN mine n ON n.oid = connamespace WHERE contype <> 'n'
    UNION ALL
    SELECT 'index', nspname || '.' || c.relname, concat_ws(' ', indisunique, indisprimary, indisvalid, indrelid::regclass, indkey)
      FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN mine n ON n.oid = relnamespace
    UNION ALL
    SELECT 'enum', enumtypid::regtype::text, string_agg(enumlabel, ',' ORDER BY enumsortorder)
      FROM pg_enum GROUP BY enumtypid
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, md5(prosrc) FROM pg_proc p JOIN mine n ON n.oid = pronamespace
     WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
    UNION ALL
    SELECT 'trigger', tgrelid::regclass || ' ' || tgname, tgenabled::text FROM pg_trigger
     WHERE NOT tgisinternal AND tgname NOT IN ('flare_fence', 'flare_truncate')
    UNION ALL
    SELECT 'comment', (SELECT type || ' ' || identity FROM pg_identify_object(classoid, objoid, objsubid)), description FROM pg_description
     WHERE classoid = 'pg_class'::regclass AND objoid >= 16384
    UNION ALL
    SELECT 'policy', polrelid::regclass || ' ' || polname, pg_get_expr(polqual, polrelid) FROM pg_policy
    UNION ALL
    SELECT 'schema', nspname, NULL FROM mine
    UNION ALL
    SELECT 'grant', nspname || '.' || relname, (SELECT string_agg(x::text, ' ' ORDER BY x::text)
                                                  FROM unnest(coalesce(relacl, acldefault('r', relowner))) x WHERE x::text !~ '_repl=')
      FROM pg_class c JOIN mine n ON n.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'm')
     ORDER BY 1, 2, 3";

pub fn schema_of(server: &Cluster, db: &str) -> Rows {
    let rows = server.rows(db, SCHEMA);
    // 17 has one privilege more.
    let without = |row: Vec<Option<String>>| -> Vec<Option<String>> {
        row.into_iter()
            .map(|text| text.map(|text| text.replace("arwdDxtm", "arwdDxt")))
            .collect()
    };
    rows.into_iter().map(without).collect()
}

const TABLES: &str = "
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE relkind = 'r' AND relpersistence = 'p' AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare')
       AND relname <> 'flare_replication_status' ORDER BY 1";

fn rows_of(server: &Cluster, db: &str) -> Rows {
    let tables = server.rows(db, TABLES);
    let tables = tables.iter().filter_map(|row| row[0].as_deref());
    let each = tables.map(|table| {
        let sql = format!(
            "SELECT '{}', count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t",
            table.replace('\'', "''")
        );
        // Versions before 12 print more digits of a float than it takes.
        server
            .rows(db, &format!("SET extra_float_digits = 0; {sql}"))
            .remove(0)
    });
    each.collect()
}

/// Waits until nothing is under way, and compares everything; writers have to have stopped.
#[track_caller]
pub fn assert_same(pair: &Pair) {
    let db = pair.db();
    let [old, new] = [pair.publisher(), pair.subscriber()];
    let [one, other] = [old, new].map(|server| schema_of(server, db));
    let differ: Vec<_> = one
        .iter()
        .filter(|row| !other.contains(row))
        .chain(other.iter().filter(|row| !one.contains(row)))
        .collect();
    assert!(differ.is_empty(), "the schemas differ: {differ:#?}");
    let same = wait::until(Duration::from_secs(30), || {
        rows_of(old, db) == rows_of(new, db)
    });
    assert!(
        same,
        "the rows differ\n{:#?}\n{:#?}",
        rows_of(old, db),
        rows_of(new, db)
    );
}
