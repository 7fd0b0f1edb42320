//! Tables with their columns, and what hangs on them.

/// `kind, name, parent, body, make, mend, away`, one row an object. The statements are as the publisher's server writes
/// them: `make` where it is missing, `mend` where it differs; `away` removes what the subscriber alone has. Where there is
/// no `mend`, an object that differs is removed and made again.
pub(super) const ROWS: &[&str] = &[
    INHERITANCE,
    FACETS,
    COLUMN_ORDER,
    DEFAULTS,
    NOT_NULL,
    COLUMN_OPTIONS,
    CONSTRAINTS,
    INDEXES,
    RULES,
    TRIGGERS,
    POLICIES,
    STATISTICS,
];

/// With an eighth column: what `mend` cannot change.
pub(super) const FIXED_ROWS: &[&str] = &[TABLES, COLUMNS, PARTITION_INDEXES];

/// Only whether it is logged, and where the version has that its access method, is changed by a statement. A partition is made
/// with the CHECKs that it has from its parent, and then attached; a child is made as one.
const TABLES: &str = "
    SELECT 'table', r.name, NULL::text,
           concat_ws(' ', CASE r.relpersistence WHEN 'u' THEN 'unlogged' END,
                     CASE r.relkind WHEN 'f' THEN 'foreign table of server ' || quote_ident(s.srvname) WHEN 'p' THEN 'partitioned table by ' || pg_get_partkeydef(r.oid) ELSE 'table' END,
                     CASE WHEN r.reloftype <> 0 THEN 'of ' || format_type(r.reloftype, NULL) END, 'using ' || m.method),
           format('CREATE %s%s %s (%s%s)%s%s%s%s', CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END,
                  CASE r.relkind WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, r.name,
                  CASE WHEN h.parents IS NULL THEN k.columns ELSE k.own END, h.checks, ' INHERITS (' || h.parents || ')',
                  CASE r.relkind WHEN 'p' THEN ' PARTITION BY ' || pg_get_partkeydef(r.oid) WHEN 'f' THEN ' SERVER ' || quote_ident(s.srvname) ELSE '' END, ' USING ' || m.method,
                  (SELECT ' OPTIONS (' || string_agg(quote_ident(option_name) || ' ' || quote_literal(option_value), ', ') || ')' FROM pg_options_to_table(f.ftoptions))),
           CASE WHEN r.relkind = 'r' THEN format('ALTER TABLE %s SET %s%s', r.name, CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END,
                                                 CASE WHEN current_setting('server_version_num')::int >= 150000 THEN ', SET ACCESS METHOD ' || coalesce(m.method, 'heap') END) END,
           format('DROP %s %s', CASE r.relkind WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, r.name),
           concat_ws(' ', r.relkind, s.srvname, CASE r.relkind WHEN 'p' THEN pg_get_partkeydef(r.oid) END, CASE WHEN r.reloftype <> 0 THEN format_type(r.reloftype, NULL) END, CASE WHEN current_setting('server_version_num')::int < 150000 THEN m.method END) || ';'
      FROM rel r LEFT JOIN pg_foreign_table f ON f.ftrelid = r.oid LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
      LEFT JOIN (SELECT c.attrelid, string_agg(c.definition, ', ' ORDER BY c.attnum), string_agg(c.definition, ', ' ORDER BY c.attnum) FILTER (WHERE c.attislocal) FROM col c GROUP BY c.attrelid) k(attrelid, columns, own) ON k.attrelid = r.oid
      CROSS JOIN LATERAL (SELECT (SELECT quote_ident(a.amname) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = r.oid AND r.relkind = 'r' AND a.amname NOT IN ('heap'))) m(method)
      CROSS JOIN LATERAL (SELECT
               (SELECT string_agg(format(', CONSTRAINT %I %s', o.conname, pg_get_constraintdef(o.oid)), '' ORDER BY o.conname) FROM pg_constraint o WHERE r.relispartition AND o.conrelid = r.oid AND o.contype = 'c' AND NOT o.conislocal),
               (SELECT string_agg(format('%I.%I', bn.nspname, b.relname), ', ' ORDER BY i.inhseqno) FROM pg_inherits i JOIN pg_class b ON b.oid = i.inhparent JOIN pg_namespace bn ON bn.oid = b.relnamespace WHERE i.inhrelid = r.oid AND NOT r.relispartition)) h(checks, parents)
     WHERE r.relkind IN ('r', 'p', 'f')";

/// Of several parents the order counts, and not the numbers, which have gaps.
pub(super) const INHERITANCE: &str = "
    SELECT 'inheritance', format('%s from %s', r.name, p.name), r.name, coalesce(pg_get_expr(r.relpartbound, r.oid), (SELECT count(*)::text FROM pg_inherits b WHERE b.inhrelid = i.inhrelid AND b.inhseqno <= i.inhseqno)),
           CASE WHEN r.relispartition THEN format('ALTER TABLE %s ATTACH PARTITION %s %s', p.name, r.name, pg_get_expr(r.relpartbound, r.oid))
                ELSE format('ALTER TABLE %s INHERIT %s', r.name, p.name) END,
           CASE WHEN r.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s; ALTER TABLE %1$s ATTACH PARTITION %2$s %3$s', p.name, r.name, pg_get_expr(r.relpartbound, r.oid))
                ELSE (SELECT string_agg(format('ALTER TABLE %s NO INHERIT %s', r.name, b.name), '; ' ORDER BY b.inhseqno) || '; ' || string_agg(format('ALTER TABLE %s INHERIT %s', r.name, b.name), '; ' ORDER BY b.inhseqno)
                        FROM (SELECT bi.inhseqno, format('%I.%I', bn.nspname, bc.relname) AS name FROM pg_inherits bi JOIN pg_class bc ON bc.oid = bi.inhparent JOIN pg_namespace bn ON bn.oid = bc.relnamespace WHERE bi.inhrelid = i.inhrelid) b) END,
           CASE WHEN r.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s', p.name, r.name)
                ELSE format('ALTER TABLE %s NO INHERIT %s', r.name, p.name) END
      FROM pg_inherits i JOIN rel r ON r.oid = i.inhrelid JOIN rel p ON p.oid = i.inhparent WHERE r.relkind IN ('r', 'p', 'f')";

/// What a relation has beside its columns. A replica identity that is the default is none.
const FACETS: &str = "
    SELECT f.* FROM rel r CROSS JOIN LATERAL (
        SELECT 'options', r.name, r.name, o.body, format('ALTER %s %s SET (%s)', r.word, r.name, o.given), format('ALTER %s %s SET (%s)', r.word, r.name, o.given), format('ALTER %s %s RESET (%s)', r.word, r.name, o.names)
          FROM (SELECT string_agg(l.option, ', ' ORDER BY l.option), string_agg(l.name || ' = ' || quote_literal(l.value), ', ' ORDER BY l.name), string_agg(l.name, ', ' ORDER BY l.name)
                  FROM (SELECT option_name || '=' || option_value, quote_ident(option_name), option_value FROM pg_options_to_table(r.reloptions)
                        UNION ALL SELECT 'toast.' || option_name || '=' || option_value, 'toast.' || quote_ident(option_name), option_value
                          FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid CROSS JOIN LATERAL pg_options_to_table(t.reloptions) WHERE c.oid = r.oid) l(option, name, value)) o(body, given, names)
         WHERE o.body IS NOT NULL AND r.relkind IN ('r', 'p', 'm', 'v')
        UNION ALL
        SELECT 'options', i.name, i.parent, o.body, format('ALTER INDEX %s SET (%s)', i.name, o.given), format('ALTER INDEX %s SET (%s)', i.name, o.given), format('ALTER INDEX %s RESET (%s)', i.name, o.names)
          FROM (SELECT format('%s.%I', r.schema_name, c.relname), format('%I on %s', k.conname, r.name), c.reloptions
                  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conindid WHERE k.conrelid = r.oid AND k.contype IN ('p', 'u', 'x') AND c.reloptions IS NOT NULL AND NOT c.relispartition) i(name, parent, options)
          CROSS JOIN LATERAL (SELECT string_agg(option_name || '=' || option_value, ', ' ORDER BY option_name), string_agg(quote_ident(option_name) || ' = ' || quote_literal(option_value), ', ' ORDER BY option_name), string_agg(quote_ident(option_name), ', ' ORDER BY option_name)
                                FROM pg_options_to_table(i.options)) o(body, given, names)
        UNION ALL
        SELECT 'column_options', v.name, r.name, 'default ' || v.definition, format('ALTER VIEW %s ALTER COLUMN %s SET DEFAULT %s', r.name, v.column_name, v.definition),
               format('ALTER VIEW %s ALTER COLUMN %s SET DEFAULT %s', r.name, v.column_name, v.definition), format('ALTER VIEW %s ALTER COLUMN %s DROP DEFAULT', r.name, v.column_name)
          FROM (SELECT format('%s.%I', r.name, a.attname), quote_ident(a.attname), pg_get_expr(d.adbin, 0)
                  FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = r.oid AND r.relkind = 'v') v(name, column_name, definition)
        UNION ALL
        SELECT 'column_options', m.name, r.name, m.body, m.alter || m.given, m.alter || m.given, m.alter || m.reset
          FROM (SELECT format('%s.%I', r.name, a.attname), format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I ', r.name, a.attname), 'statistics ' || a.attstattarget, 'SET STATISTICS ' || a.attstattarget, 'SET STATISTICS -1'
                  FROM pg_attribute a WHERE a.attrelid = r.oid AND r.relkind = 'm' AND a.attnum > 0 AND a.attstattarget >= 0) m(name, alter, body, given, reset)
        UNION ALL
        SELECT 'row_security', r.name, r.name, concat_ws(', ', CASE WHEN r.relrowsecurity THEN 'enabled' END, CASE WHEN r.relforcerowsecurity THEN 'forced' END),
               concat_ws('; ', CASE WHEN r.relrowsecurity THEN format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', r.name) END,
                         CASE WHEN r.relforcerowsecurity THEN format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', r.name) END),
               format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', r.name, CASE WHEN r.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
                      CASE WHEN r.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END),
               format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', r.name)
         WHERE r.relrowsecurity OR r.relforcerowsecurity
        UNION ALL
        SELECT 'replica_identity', r.name, coalesce(i.parent, r.name), i.identity, format('ALTER TABLE %s REPLICA IDENTITY %s', r.name, i.identity),
               format('ALTER TABLE %s REPLICA IDENTITY %s', r.name, i.identity), format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', r.name)
          FROM (SELECT CASE r.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE 'USING INDEX ' || quote_ident(x.name) END, CASE r.relreplident WHEN 'i' THEN x.parent END
                  FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT c.relname AS name, coalesce((SELECT format('%I on %s', k.conname, r.name) FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')), format('%s.%I', r.schema_name, c.relname)) AS parent
                                                          FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = r.oid AND x.indisreplident) x ON true) i(identity, parent)
         WHERE r.relkind IN ('r', 'p') AND r.relreplident <> 'd' AND i.identity IS NOT NULL
        UNION ALL
        SELECT 'cluster', r.name, i.parent, 'ON ' || i.name, format('ALTER %s %s CLUSTER ON %s', r.word, r.name, i.name), format('ALTER %s %s CLUSTER ON %s', r.word, r.name, i.name), format('ALTER %s %s SET WITHOUT CLUSTER', r.word, r.name)
          FROM (SELECT quote_ident(c.relname), coalesce((SELECT format('%I on %s', k.conname, r.name) FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')), format('%s.%I', r.schema_name, c.relname))
                  FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = r.oid AND x.indisclustered) i(name, parent)
         WHERE r.relkind IN ('r', 'm')) f";

/// What it is beside its type is no matter of `ALTER COLUMN .. TYPE`.
const COLUMNS: &str = "
    SELECT 'column', c.name, c.table_name, c.body, format('ALTER TABLE %s ADD COLUMN %s', c.table_name, c.definition),
           format('ALTER TABLE %s', c.table_name) || CASE WHEN c.generated <> '' THEN format(' ALTER COLUMN %s TYPE %s%s', c.column_name, c.type_name, c.collated)
             WHEN c.attidentity <> '' THEN format(' ALTER COLUMN %s TYPE %s%s USING %1$s::%2$s', c.column_name, c.type_name, c.collated)
             ELSE format(' ALTER COLUMN %s DROP DEFAULT, ALTER COLUMN %1$s TYPE %s%s USING %1$s::%2$s', c.column_name, c.type_name, c.collated) || coalesce(', ALTER COLUMN ' || c.column_name || ' SET DEFAULT ' || c.default_expression, '') END,
           format('ALTER TABLE %s DROP COLUMN %s', c.table_name, c.column_name), c.made_as
      FROM col c WHERE (c.attinhcount = 0 OR c.attislocal) AND NOT EXISTS (SELECT FROM pg_class t WHERE t.oid = c.attrelid AND t.reloftype <> 0)";

const COLUMN_ORDER: &str = "
    SELECT 'column_order', c.table_name, c.table_name, string_agg(c.column_name, ', ' ORDER BY c.attnum), NULL, NULL, NULL
      FROM col c GROUP BY c.table_name";

const DEFAULTS: &str = "
    SELECT 'default', c.name, CASE WHEN c.attinhcount = 0 OR c.attislocal THEN c.name ELSE c.table_name END, c.default_expression, format('ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s', c.table_name, c.column_name, c.default_expression),
           format('ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s', c.table_name, c.column_name, c.default_expression),
           format('ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT', c.table_name, c.column_name)
      FROM col c WHERE c.generated = '' AND c.default_expression IS NOT NULL";

const NOT_NULL: &str = "
    SELECT 'not_null', c.name, CASE WHEN c.attinhcount = 0 OR c.attislocal THEN c.name ELSE c.table_name END, 'NOT NULL', format('ALTER TABLE %s ALTER COLUMN %s SET NOT NULL', c.table_name, c.column_name), NULL,
           format('ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL', c.table_name, c.column_name)
      FROM col c WHERE c.attnotnull";

const COLUMN_OPTIONS: &str = "
    SELECT 'column_options', c.name, CASE WHEN c.attinhcount = 0 OR c.attislocal THEN c.name ELSE c.table_name END, o.body, o.make, o.change, o.unmake
      FROM col c CROSS JOIN LATERAL (
        SELECT concat_ws(', ', 'storage ' || c.storage, 'compression ' || c.compression, 'statistics ' || c.target,
                         (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.attoptions) o)),
               format('ALTER TABLE %s ', c.table_name) || concat_ws(', ',
                   'ALTER COLUMN ' || c.column_name || ' SET STORAGE ' || c.storage, 'ALTER COLUMN ' || c.column_name || ' SET COMPRESSION ' || c.compression,
                   'ALTER COLUMN ' || c.column_name || ' SET STATISTICS ' || c.target,
                   'ALTER COLUMN ' || c.column_name || ' SET (' || (SELECT string_agg(quote_ident(option_name) || ' = ' || quote_literal(option_value), ', ') FROM pg_options_to_table(c.attoptions)) || ')'),
               format('ALTER TABLE ONLY %s ', c.table_name) || concat_ws(', ',
                   'ALTER COLUMN ' || c.column_name || ' SET STORAGE ' || coalesce(c.storage, c.own_storage), 'ALTER COLUMN ' || c.column_name || ' SET COMPRESSION ' || c.compression,
                   'ALTER COLUMN ' || c.column_name || ' SET STATISTICS ' || coalesce(c.target, -1), 'ALTER COLUMN ' || c.column_name || ' RESET (n_distinct, n_distinct_inherited)',
                   'ALTER COLUMN ' || c.column_name || ' SET (' || (SELECT string_agg(quote_ident(option_name) || ' = ' || quote_literal(option_value), ', ') FROM pg_options_to_table(c.attoptions)) || ')'),
               format('ALTER TABLE ONLY %s ', c.table_name) || concat_ws(', ',
                   CASE WHEN c.storage IS NOT NULL THEN 'ALTER COLUMN ' || c.column_name || ' SET STORAGE ' || c.own_storage END,
                   CASE WHEN c.compression IS NOT NULL THEN 'ALTER COLUMN ' || c.column_name || ' SET COMPRESSION default' END,
                   CASE WHEN c.target IS NOT NULL THEN 'ALTER COLUMN ' || c.column_name || ' SET STATISTICS -1' END,
                   'ALTER COLUMN ' || c.column_name || ' RESET (' || (SELECT string_agg(quote_ident(option_name), ', ') FROM pg_options_to_table(c.attoptions)) || ')')
           ) o(body, make, change, unmake)
     WHERE coalesce(c.storage, c.compression, c.target::text, c.attoptions::text) IS NOT NULL";

/// NOT NULL is the column's, whatever 18 names it. What a partition or a child has from its parent is the parent's.
const CONSTRAINTS: &str = "
    SELECT 'constraint', format('%I on %s', k.conname, r.name), r.name, d.definition,
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', r.name, k.conname, d.definition),
           NULL,
           format('ALTER TABLE %s DROP CONSTRAINT %I', r.name, k.conname)
      FROM pg_constraint k JOIN rel r ON r.oid = k.conrelid CROSS JOIN LATERAL (SELECT pg_get_constraintdef(k.oid)) d(definition)
     WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0' AND (k.conislocal OR k.coninhcount = 0)
    UNION ALL
    SELECT 'constraint', format('%I on domain %s', k.conname, t.name), t.name, d.definition,
           format('ALTER DOMAIN %s ADD CONSTRAINT %I %s', t.name, k.conname, d.definition),
           NULL,
           format('ALTER DOMAIN %s DROP CONSTRAINT %I', t.name, k.conname)
      FROM pg_constraint k JOIN typ t ON t.oid = k.contypid CROSS JOIN LATERAL (SELECT pg_get_constraintdef(k.oid)) d(definition) WHERE k.contype = 'c'";

/// That of a partitioned table is made with those of its partitions.
/// One that is not valid counts as little as none: whose name it takes is seen by its row. Those of constraints are theirs,
/// those of partitions the parent's.
const INDEXES: &str = "
    SELECT 'index', format('%s.%I', r.schema_name, c.relname), r.name, concat_ws(' ', d.definition, t.targets, CASE WHEN NOT i.indisvalid AND c.relkind = 'i' THEN '(not valid)' END), concat_ws('; ', CASE c.relkind WHEN 'I' THEN regexp_replace(d.definition, ' ON ONLY ', ' ON ') ELSE d.definition END, t.altered),
           NULL, format('DROP INDEX %s.%I', r.schema_name, c.relname)
      FROM pg_index i JOIN rel r ON r.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid CROSS JOIN LATERAL (SELECT pg_get_indexdef(i.indexrelid)) d(definition)
      CROSS JOIN LATERAL (SELECT string_agg(format('statistics %s of %s', a.attstattarget, a.attnum), ', ' ORDER BY a.attnum), string_agg(format('ALTER INDEX %s.%I ALTER COLUMN %s SET STATISTICS %s', r.schema_name, c.relname, a.attnum, a.attstattarget), '; ' ORDER BY a.attnum)
                            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attstattarget >= 0) t(targets, altered)
     WHERE NOT c.relispartition
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))";

/// Called by the index that it is a part of in the end and the partition: its own name, and those of indexes between, are
/// made up where nobody gives them one. `mend` makes the whole index again with no part. Its eighth column is its schema.
pub(super) const PARTITION_INDEXES: &str = "
    SELECT 'partition_index', format('%s on %s', x.parent, r.name), x.parent, concat_ws(' ', quote_ident(c.relname), 'WITH (' || o.given || ')'),
           CASE WHEN NOT x.is_constraint THEN format('%s; ALTER INDEX %s ATTACH PARTITION %s.%I', pg_get_indexdef(c.oid), i.inhparent::regclass, r.schema_name, c.relname) END,
           CASE WHEN NOT x.is_constraint THEN format('DROP INDEX %s; %s', x.index, x.definition) END,
           format('ALTER INDEX %s.%I', r.schema_name, c.relname) || ' RESET (' || o.names || ')', r.schema_name
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('i', 'I') JOIN pg_index n ON n.indexrelid = c.oid JOIN rel r ON r.oid = n.indrelid
      CROSS JOIN LATERAL (WITH RECURSIVE up(oid) AS (SELECT i.inhparent UNION ALL SELECT h.inhparent FROM up JOIN pg_inherits h ON h.inhrelid = up.oid)
                          SELECT up.oid FROM up JOIN pg_class p ON p.oid = up.oid WHERE NOT p.relispartition) root
      CROSS JOIN LATERAL (SELECT format('%I.%I', pn.nspname, p.relname), pg_get_indexdef(p.oid), k.name IS NOT NULL, coalesce(k.name, format('%I.%I', pn.nspname, p.relname))
                            FROM pg_class p JOIN pg_namespace pn ON pn.oid = p.relnamespace
                            LEFT JOIN LATERAL (SELECT format('%I on %s', k.conname, pr.name) FROM pg_constraint k JOIN rel pr ON pr.oid = k.conrelid WHERE k.conindid = p.oid AND k.contype IN ('p', 'u', 'x')) k(name) ON true
                           WHERE p.oid = root.oid) x(index, definition, is_constraint, parent)
      CROSS JOIN LATERAL (SELECT string_agg(quote_ident(option_name) || ' = ' || quote_literal(option_value), ', ' ORDER BY option_name), string_agg(quote_ident(option_name), ', ' ORDER BY option_name) FROM pg_options_to_table(c.reloptions)) o(given, names)";

pub(super) const RULES: &str = "
    SELECT 'rule', format('%I on %s', u.rulename, r.name), r.name, concat_ws(' ', d.definition, CASE WHEN u.ev_enabled <> 'O' THEN 'enabled ' || u.ev_enabled::text END), concat_ws(' ', d.definition, CASE WHEN u.ev_enabled <> 'O' THEN d.state END),
           concat_ws(' ', regexp_replace(d.definition, '^CREATE RULE', 'CREATE OR REPLACE RULE'), d.state), format('DROP RULE %I ON %s', u.rulename, r.name)
      FROM pg_rewrite u JOIN rel r ON r.oid = u.ev_class CROSS JOIN LATERAL (
        SELECT pg_get_ruledef(u.oid), CASE WHEN r.relkind IN ('r', 'p') THEN
                 format('ALTER TABLE %s %s RULE %I', r.name, CASE u.ev_enabled WHEN 'O' THEN 'ENABLE' WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, u.rulename) END) d(definition, state)
     WHERE u.rulename <> '_RETURN'";

/// flare's fence is not the user's, nor are the clones of a parent's trigger, but for a state of their own. Before 15 a clone
/// is called internal, before 13 only its dependency names the parent's.
const TRIGGERS: &str = "
    SELECT 'trigger', format('%I on %s', t.tgname, r.name), r.name, concat_ws(' ', d.definition, CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always' WHEN 'R' THEN 'enabled replica' END),
           concat_ws('; ', d.definition, e.enabled),
           NULL,
           format('DROP TRIGGER %I ON %s', t.tgname, r.name)
      FROM pg_trigger t JOIN rel r ON r.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
      CROSS JOIN LATERAL (SELECT pg_get_triggerdef(t.oid)) d(definition)
      CROSS JOIN LATERAL (SELECT format('ALTER TABLE %s %s TRIGGER %I', r.name, CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' END, t.tgname)
                           WHERE t.tgenabled <> 'O' UNION ALL SELECT NULL LIMIT 1) e(enabled)
     WHERE NOT t.tgisinternal AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0' AND t.tgname <> 'flare_fence'
       AND p.pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = 'flare')
    UNION ALL
    SELECT 'trigger', format('%I on %s', t.tgname, r.name), r.name, s.state, s.alter, s.alter, s.back
      FROM pg_trigger t JOIN rel r ON r.oid = t.tgrelid
      JOIN pg_trigger p ON p.oid = coalesce((to_jsonb(t) ->> 'tgparentid')::oid, (SELECT d.refobjid FROM pg_depend d
                 WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_trigger'::regclass LIMIT 1))
      CROSS JOIN LATERAL (SELECT w.words, format('ALTER TABLE ONLY %s %s TRIGGER %I', r.name, w.words, t.tgname), format('ALTER TABLE ONLY %s %s TRIGGER %I', r.name, w.parents, t.tgname)
            FROM (SELECT CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END, CASE p.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END) w(words, parents)) s(state, alter, back)
     WHERE t.tgenabled <> p.tgenabled AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.oid = t.tgconstraint AND k.contype <> 't')
    UNION ALL
    SELECT 'trigger', format('of foreign key %I on %s', k.conname, r.name), r.name, s.state, format(s.done, s.state), format(s.done, s.state), format(s.done, 'ENABLE')
      FROM pg_constraint k JOIN (SELECT t.tgconstraint, t.tgrelid, min(t.tgenabled::text) AS enabled FROM pg_trigger t WHERE t.tgisinternal AND t.tgenabled <> 'O' GROUP BY t.tgconstraint, t.tgrelid) t ON t.tgconstraint = k.oid
      JOIN rel r ON r.oid = t.tgrelid JOIN rel f ON f.oid = k.conrelid
      CROSS JOIN LATERAL (SELECT CASE t.enabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END,
            replace(format('DO $flare$ DECLARE n text; BEGIN FOR n IN SELECT t.tgname FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint WHERE t.tgisinternal AND t.tgrelid = %L::regclass AND k.conrelid = %L::regclass AND k.conname = %L LOOP EXECUTE format(%L, n); END LOOP; END $flare$',
                           r.name, f.name, k.conname, format('ALTER TABLE %s STATE TRIGGER %%I', r.name)), '%', '%%')) q(state, text)
      CROSS JOIN LATERAL (SELECT q.state, replace(q.text, ' STATE TRIGGER ', ' %s TRIGGER ')) s(state, done)
     WHERE k.contype = 'f'";

pub(super) const POLICIES: &str = "
    SELECT 'policy', format('%I on %s', o.polname, r.name), r.name, d.definition,
           format('CREATE POLICY %I ON %s %s', o.polname, r.name, d.definition),
           NULL, format('DROP POLICY %I ON %s', o.polname, r.name)
      FROM pg_policy o JOIN rel r ON r.oid = o.polrelid CROSS JOIN LATERAL (SELECT concat_ws(' ', CASE WHEN NOT o.polpermissive THEN 'AS RESTRICTIVE' END,
           'FOR ' || CASE o.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           'TO ' || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ' ORDER BY CASE role WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(role)::text END) FROM unnest(o.polroles) role),
           'USING (' || pg_get_expr(o.polqual, o.polrelid) || ')', 'WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')')) d(definition)";

pub(super) const STATISTICS: &str = "
    SELECT 'statistics', format('%s.%I', n.q, s.stxname), r.name, concat_ws(' ', d.definition, 'statistics ' || d.target), d.definition || coalesce(format('; ALTER STATISTICS %s.%I SET STATISTICS ', n.q, s.stxname) || d.target, ''),
           NULL, format('DROP STATISTICS %s.%I', n.q, s.stxname)
      FROM pg_statistic_ext s JOIN rel r ON r.oid = s.stxrelid JOIN nsp n ON n.oid = s.stxnamespace CROSS JOIN LATERAL (SELECT pg_get_statisticsobjdef(s.oid), nullif(to_jsonb(s) ->> 'stxstattarget', '-1')) d(definition, target)";
