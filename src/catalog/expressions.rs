//! Expressions that the copy and apply evaluate with an empty search_path: of indexes, generated columns, partition keys and
//! CHECK constraints of tables and domains.
//!
//! Their functions are code of whoever owns the table: no administrator runs it. The administrator has bodies of SQL read,
//! which runs nothing. The databases' owner evaluates what roles own that could act as it anyway.

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Session, params};

/// An expression over functions that are no built-in ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Expression {
    pub(crate) what: String,
    /// The functions in it, as statements name them.
    pub(crate) functions: String,
    /// Whose table it belongs to.
    pub(crate) owner: String,
    /// Whether the databases' owner may evaluate it: the table's owner could act as that one.
    pub(crate) own: bool,
    /// Whether there are only functions of SQL in it.
    pub(crate) sql: bool,
    /// The server's words where it does not find a name without a search_path.
    pub(crate) why: Option<String>,
}

/// The expressions, each with a row: `what`, `relation`, `expression`, `relowner`, `functions`, `oids`, `sql`. A row that goes
/// to a partition is held against the partition's bounds, and a value of a domain is read anew; one column that has the domain
/// stands for all. The expression of a partition key is printed later: until 13 opening its table plans it.
macro_rules! expressions {
    () => {
        "SELECT e.what, e.relation, e.expression, coalesce(e.owner, c.relowner) AS relowner,
                string_agg(DISTINCT p.oid::regprocedure::text, ', ') AS functions, array_agg(DISTINCT p.oid) AS oids,
                bool_and(l.lanname = 'sql') AS sql
           FROM (SELECT 'pg_class'::regclass AS classid, i.indexrelid AS objid, format('index %s', i.indexrelid::regclass) AS what,
                        i.indrelid::regclass AS relation, concat_ws(', ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)) AS expression,
                        NULL::oid AS owner
                   FROM pg_index i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
                 UNION ALL
                 SELECT 'pg_constraint'::regclass, k.oid, format('constraint %I of %s', k.conname, k.conrelid::regclass), k.conrelid::regclass,
                        pg_get_expr(k.conbin, k.conrelid), NULL
                   FROM pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0
                 UNION ALL
                 SELECT 'pg_attrdef'::regclass, d.oid, format('column %s.%I', d.adrelid::regclass, a.attname), d.adrelid::regclass,
                        pg_get_expr(d.adbin, d.adrelid), NULL
                   FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                  WHERE to_jsonb(a) ->> 'attgenerated' <> ''
                 UNION ALL
                 SELECT 'pg_class'::regclass, t.partrelid, format('partition key of %s', t.partrelid::regclass), t.partrelid::regclass,
                        'partition key', NULL
                   FROM pg_partitioned_table t WHERE t.partexprs IS NOT NULL
                 UNION ALL
                 SELECT 'pg_constraint'::regclass, k.oid, format('constraint %I of domain %s', k.conname, k.contypid::regtype), u.relation,
                        u.expression, d.typowner
                   FROM pg_constraint k JOIN pg_type d ON d.oid = k.contypid,
                        LATERAL (WITH RECURSIVE made(oid) AS (
                                     SELECT d.oid UNION SELECT t.oid FROM made m JOIN pg_type t ON m.oid IN (t.typbasetype, t.typelem) WHERE t.oid >= 16384)
                                 SELECT a.attrelid::regclass AS relation, format('%I::text::%s', a.attname, format_type(a.atttypid, a.atttypmod)) AS expression
                                   FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
                                  WHERE a.atttypid IN (SELECT oid FROM made) AND r.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
                                  ORDER BY r.relpages DESC, a.attrelid, a.attnum LIMIT 1) u
                  WHERE k.contype = 'c' AND k.contypid <> 0) e
           JOIN pg_depend w ON w.classid = e.classid AND w.objid = e.objid AND w.refclassid = 'pg_proc'::regclass
           JOIN pg_proc p ON p.oid = w.refobjid JOIN pg_language l ON l.oid = p.prolang
           JOIN pg_class c ON c.oid = e.relation
          WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal') AND c.relkind IN ('r', 'p', 'm') AND e.expression <> ''
          GROUP BY 1, 2, 3, 4"
    };
}

/// Names that are not found.
macro_rules! unfound {
    () => {
        "undefined_function OR undefined_table OR undefined_object OR undefined_column OR invalid_schema_name"
    };
}

/// Every expression. The validator of SQL reads a body, and finds the names in it, as when the function is made; it runs
/// nothing. `{db_owner}` stands for the literal.
pub(crate) const EXPRESSIONS: &str = concat!(
    "DO LANGUAGE plpgsql $flare$
     DECLARE one record; body oid; reason text; found jsonb := '[]';
     BEGIN
       FOR one IN ",
    expressions!(),
    " LOOP
         reason := NULL;
         FOR body IN SELECT p.oid FROM unnest(one.oids) u(oid) JOIN pg_proc p ON p.oid = u.oid JOIN pg_language l ON l.oid = p.prolang
                      WHERE l.lanname = 'sql' AND NOT coalesce(EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%'), false) LOOP
           BEGIN
             PERFORM pg_catalog.fmgr_sql_validator(body);
           EXCEPTION
             WHEN ",
    unfound!(),
    " THEN reason := SQLERRM;
             WHEN OTHERS THEN NULL;
           END;
         END LOOP;
         found := found || jsonb_build_object('what', one.what, 'functions', one.functions, 'sql', one.sql, 'why', reason,
           'owner', (SELECT rolname FROM pg_roles WHERE oid = one.relowner),
           'own', coalesce((SELECT pg_has_role(one.relowner, o.oid, 'MEMBER') FROM pg_roles o WHERE o.rolname = {db_owner}), false));
       END LOOP;
       PERFORM set_config('flare.expressions', found::text, true);
     END $flare$;
     SELECT jsonb_array_elements(current_setting('flare.expressions')::jsonb)"
);

/// An expression that fails without a search_path, with the server's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Failing {
    pub(crate) what: String,
    /// The functions in it that are no built-in ones, as statements name them.
    pub(crate) functions: String,
    pub(crate) why: String,
    /// There was no time left to evaluate it.
    #[serde(default)]
    pub(crate) late: bool,
}

/// Asked by the databases' owner, in a session of its own: a role that was only set can be reset by what it runs. Each
/// expression on tables of roles that could act as it is planned, which looks into SQL functions, and evaluated on a few
/// rows, or on one of nulls where there are none: in the transaction that only reads, for four seconds at most, and what is left
/// is named. Only names
/// that are not found count. Planning a table looks into all its indexes, so rows are read only where that goes well.
pub(crate) const FAILING: &str = concat!(
    "DO LANGUAGE plpgsql $flare$
     DECLARE one record; filled boolean; failing jsonb := '[]'; began timestamptz := clock_timestamp();
     BEGIN
       SET LOCAL row_security = off;
       FOR one IN SELECT * FROM (",
    expressions!(),
    ") e WHERE pg_has_role(e.relowner, session_user, 'MEMBER') LOOP
         IF clock_timestamp() - began > interval '4 seconds' THEN
           failing := failing || jsonb_build_object('what', one.what, 'functions', one.functions, 'why', 'there was no time left', 'late', true);
           CONTINUE;
         END IF;
         -- A whole row is the table's, which the rows that are read here are of.
         one.expression := replace(one.expression, (SELECT quote_ident(relname) FROM pg_class WHERE oid = one.relation) || '.*', format('(one.*)::%s', one.relation));
         BEGIN
           IF one.expression = 'partition key' THEN
             one.expression := (SELECT pg_get_expr(t.partexprs, t.partrelid) FROM pg_partitioned_table t WHERE t.partrelid = one.relation);
           END IF;
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
           WHEN ",
    unfound!(),
    " THEN
             failing := failing || jsonb_build_object('what', one.what, 'functions', one.functions, 'why', SQLERRM);
           WHEN OTHERS THEN NULL;
         END;
       END LOOP;
       PERFORM set_config('flare.failing', failing::text, true);
     END $flare$;
     SELECT jsonb_array_elements(current_setting('flare.failing')::jsonb)"
);

/// Those that fail, by what the administrator's session and the owner's own can tell; asked within their transactions.
pub(crate) fn failing(
    admin: &Session,
    db_owner: &str,
    as_owner: impl FnOnce() -> Result<Vec<Failing>>,
) -> Result<Vec<Failing>> {
    let sql = EXPRESSIONS.replace("{db_owner}", &crate::value::Literal(db_owner).to_string());
    let known: Vec<Expression> = answers(admin, &sql)?;
    let evaluated = if known.iter().any(|it| it.own) {
        as_owner().unwrap_or_else(|report| {
            log::debug!("evaluate expressions as the owner: {report:#}");
            Vec::new()
        })
    } else {
        Vec::new()
    };
    let known_to_fail = together(&known, evaluated).into_iter();
    Ok(known_to_fail.filter(|it| !it.late).collect())
}

/// The rows of a look that takes two statements.
pub(crate) fn answers<T: serde::de::DeserializeOwned>(
    session: &Session,
    sql: &str,
) -> Result<Vec<T>> {
    let (look, found) = sql.rsplit_once(';').unwrap_or(("", sql));
    session.batch(look)?;
    session.list(found, params![])
}

/// What was evaluated and what was only read, each expression once: pure.
pub(crate) fn together(read: &[Expression], evaluated: Vec<Failing>) -> Vec<Failing> {
    let is_known_to_fail = |what: &str| read.iter().any(|it| it.what == what && it.why.is_some());
    let mut failing = evaluated;
    failing.retain(|it| !it.late || !is_known_to_fail(&it.what));
    for one in read {
        let known = failing.iter().any(|it| it.what == one.what);
        if let (Some(why), false) = (&one.why, known) {
            failing.push(Failing {
                what: one.what.clone(),
                functions: one.functions.clone(),
                why: why.clone(),
                late: false,
            });
        }
    }
    failing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(what: &str, late: bool) -> Failing {
        Failing {
            what: what.into(),
            functions: "f(text)".into(),
            why: "evaluated".into(),
            late,
        }
    }

    #[test]
    fn what_was_read_is_known_though_there_was_no_time_to_evaluate_it() {
        let read = |what: &str, why: Option<&str>| Expression {
            what: what.into(),
            functions: "f(text)".into(),
            owner: "o".into(),
            own: true,
            sql: true,
            why: why.map(str::to_owned),
        };
        let known = [
            read("a", Some("read")),
            read("b", None),
            read("c", Some("read")),
        ];
        let found = together(
            &known,
            vec![
                evaluated("a", true),
                evaluated("b", true),
                evaluated("c", false),
            ],
        );
        let mut found: Vec<(&str, &str, bool)> = found
            .iter()
            .map(|it| (it.what.as_str(), it.why.as_str(), it.late))
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("a", "read", false),
                ("b", "evaluated", true),
                ("c", "evaluated", false)
            ]
        );
    }
}
