//! Expressions that the copy and apply evaluate with an empty search_path: of indexes, generated columns and CHECK
//! constraints.

use serde::Deserialize;

/// An expression that fails without a search_path, with the server's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Failing {
    pub(crate) what: String,
    /// The functions in it that are no built-in ones, as statements name them.
    pub(crate) functions: String,
    pub(crate) why: String,
}

/// Each is planned, which looks into SQL functions, and evaluated on a few rows, or on one of nulls where there are none:
/// in the transaction that only reads, for two seconds at most. Only names that are not found count. Planning a table looks
/// into all its indexes, so rows are read only where that goes well.
pub(crate) const FAILING: &str = "DO LANGUAGE plpgsql $flare$
     DECLARE one record; filled boolean; failing jsonb := '[]'; began timestamptz := clock_timestamp();
     BEGIN
       FOR one IN
         SELECT e.what, e.relation, e.expression, string_agg(DISTINCT p.oid::regprocedure::text, ', ') AS functions
           FROM (SELECT 'pg_class'::regclass AS classid, i.indexrelid AS objid, format('index %s', i.indexrelid::regclass) AS what,
                        i.indrelid::regclass AS relation, concat_ws(', ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)) AS expression
                   FROM pg_index i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
                 UNION ALL
                 SELECT 'pg_constraint'::regclass, k.oid, format('constraint %I of %s', k.conname, k.conrelid::regclass), k.conrelid::regclass,
                        pg_get_expr(k.conbin, k.conrelid)
                   FROM pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0
                 UNION ALL
                 SELECT 'pg_attrdef'::regclass, d.oid, format('column %s.%I', d.adrelid::regclass, a.attname), d.adrelid::regclass,
                        pg_get_expr(d.adbin, d.adrelid)
                   FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                  WHERE to_jsonb(a) ->> 'attgenerated' <> '') e
           JOIN pg_depend w ON w.classid = e.classid AND w.objid = e.objid AND w.refclassid = 'pg_proc'::regclass
           JOIN pg_proc p ON p.oid = w.refobjid JOIN pg_language l ON l.oid = p.prolang
           JOIN pg_class c ON c.oid = e.relation
          WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal') AND c.relkind IN ('r', 'p', 'm') AND e.expression <> ''
          GROUP BY 1, 2, 3
       LOOP
         EXIT WHEN clock_timestamp() - began > interval '2 seconds';
         BEGIN
           EXECUTE format('EXPLAIN SELECT %s FROM (SELECT (r).* FROM (SELECT NULL::%s AS r OFFSET 0) x OFFSET 0) one', one.expression, one.relation);
           filled := false;
           BEGIN
             EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one.relation) INTO filled;
           EXCEPTION WHEN OTHERS THEN NULL;
           END;
           IF filled THEN
             EXECUTE format('SELECT %s FROM (SELECT * FROM %s LIMIT 3) one', one.expression, one.relation);
           ELSE
             EXECUTE format('SELECT %s FROM (SELECT (NULL::%s).*) one', one.expression, one.relation);
           END IF;
         EXCEPTION
           WHEN undefined_function OR undefined_table OR undefined_object OR undefined_column OR invalid_schema_name THEN
             failing := failing || jsonb_build_object('what', one.what, 'functions', one.functions, 'why', SQLERRM);
           WHEN OTHERS THEN NULL;
         END;
       END LOOP;
       PERFORM set_config('flare.failing', failing::text, true);
     END $flare$;
     SELECT jsonb_array_elements(current_setting('flare.failing')::jsonb)";
