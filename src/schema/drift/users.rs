//! What rests on an object, so that it cannot be removed and made again.

use std::collections::BTreeMap;

use super::Kind;
use crate::error::Result;
use crate::schema::keywords::names_of_10;
use crate::server::SimpleRow;

/// How many are named.
const SHOWN: usize = 3;

/// Of each object, what rests on it, as the server describes that.
pub(super) type Users = BTreeMap<(Kind, String), Vec<String>>;

/// `kind, name, user`. An object's own parts go with it: the constraints of a domain, the constructors of a range, the members of an operator class.
/// Of a column only what keeps its type from being changed counts.
pub(super) const USERS: &str = "
    things(kind, name, classid, objid, subid) AS (
        SELECT t.kind, t.name, x.classid, x.objid, NULL::int
          FROM (SELECT CASE typ.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite_type' ELSE 'range_type' END AS kind, typ.name, typ.oid FROM typ WHERE typ.typtype IN ('e', 'd', 'c', 'r')
                UNION ALL SELECT CASE r.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized_view' ELSE 'table' END, r.name, c.reltype FROM rel r JOIN pg_class c ON c.oid = r.oid WHERE r.relkind IN ('v', 'm', 'r', 'p', 'f')) t
          JOIN pg_type y ON y.oid = t.oid
          CROSS JOIN LATERAL (VALUES ('pg_type'::regclass, y.oid), ('pg_type'::regclass, y.typarray), ('pg_class'::regclass, y.typrelid),
                              ('pg_type'::regclass, (SELECT (to_jsonb(g) ->> 'rngmultitypid')::oid FROM pg_range g WHERE g.rngtypid = y.oid))) x(classid, objid) WHERE x.objid <> 0
        UNION ALL SELECT 'sequence', r.name, 'pg_class'::regclass, r.oid, NULL FROM rel r WHERE r.relkind = 'S'
        UNION ALL SELECT 'index', format('%s.%I', r.schema_name, c.relname), 'pg_class'::regclass, c.oid, NULL FROM pg_index i JOIN rel r ON r.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid
        UNION ALL SELECT 'constraint', format('%I on %s', k.conname, r.name), x.classid, x.objid, NULL FROM pg_constraint k JOIN rel r ON r.oid = k.conrelid
          CROSS JOIN LATERAL (VALUES ('pg_constraint'::regclass, k.oid), ('pg_class'::regclass, k.conindid)) x(classid, objid) WHERE k.contype IN ('p', 'u', 'x') AND x.objid <> 0
        UNION ALL SELECT CASE f.kind WHEN 'a' THEN 'aggregate' ELSE 'function' END, f.name, 'pg_proc'::regclass, f.oid, NULL FROM fun f
        UNION ALL SELECT 'operator', format('%s.%s (%s, %s)', n.q, o.oprname, CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END, CASE WHEN o.oprright = 0 THEN 'NONE' ELSE format_type(o.oprright, NULL) END), 'pg_operator'::regclass, o.oid, NULL FROM pg_operator o JOIN nsp n ON n.oid = o.oprnamespace
        UNION ALL SELECT 'operator_class', format('%s.%I using %I', n.q, o.opcname, m.amname), 'pg_opclass'::regclass, o.oid, NULL FROM pg_opclass o JOIN nsp n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
        UNION ALL SELECT 'operator_family', format('%s.%I using %I', n.q, o.opfname, m.amname), 'pg_opfamily'::regclass, o.oid, NULL FROM pg_opfamily o JOIN nsp n ON n.oid = o.opfnamespace JOIN pg_am m ON m.oid = o.opfmethod
        UNION ALL SELECT 'collation', format('%s.%I', n.q, c.collname), 'pg_collation'::regclass, c.oid, NULL FROM pg_collation c JOIN nsp n ON n.oid = c.collnamespace
        UNION ALL SELECT 'text_search', format('configuration %s.%I', n.q, c.cfgname), 'pg_ts_config'::regclass, c.oid, NULL FROM pg_ts_config c JOIN nsp n ON n.oid = c.cfgnamespace
        UNION ALL SELECT 'text_search', format('dictionary %s.%I', n.q, d.dictname), 'pg_ts_dict'::regclass, d.oid, NULL FROM pg_ts_dict d JOIN nsp n ON n.oid = d.dictnamespace
        UNION ALL SELECT 'foreign_data_wrapper', quote_ident(w.fdwname), 'pg_foreign_data_wrapper'::regclass, w.oid, NULL FROM pg_foreign_data_wrapper w
        UNION ALL SELECT 'foreign_server', quote_ident(s.srvname), 'pg_foreign_server'::regclass, s.oid, NULL FROM pg_foreign_server s
        UNION ALL SELECT 'language', quote_ident(l.lanname), 'pg_language'::regclass, l.oid, NULL FROM pg_language l
        UNION ALL SELECT 'access_method', quote_ident(m.amname), 'pg_am'::regclass, m.oid, NULL FROM pg_am m
        UNION ALL SELECT 'column', c.name, 'pg_class'::regclass, c.attrelid, c.attnum FROM col c)
    SELECT DISTINCT t.kind, t.name, CASE WHEN w.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid) ELSE pg_describe_object('pg_class'::regclass, w.ev_class, 0) END
      FROM things t JOIN pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.objid
      LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
     WHERE (w.ev_class IS NULL OR t.classid <> 'pg_class'::regclass OR w.ev_class <> t.objid)
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contypid = t.objid)
       AND NOT (t.kind = 'range_type' AND EXISTS (SELECT FROM pg_depend i WHERE i.classid = d.classid AND i.objid = d.objid AND i.deptype = 'i'))
       AND NOT (d.classid IN ('pg_amop'::regclass, 'pg_amproc'::regclass) AND t.kind IN ('operator_class', 'operator_family'))
       AND CASE WHEN t.kind = 'column' THEN d.refobjsubid = t.subid AND (w.oid IS NOT NULL OR d.classid IN ('pg_policy'::regclass, 'pg_trigger'::regclass, 'pg_proc'::regclass)
                       OR d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef a WHERE a.oid = d.objid AND a.adnum <> t.subid))
                WHEN t.kind IN ('view', 'materialized_view', 'table', 'sequence', 'index', 'constraint') THEN d.deptype = 'n'
                ELSE d.deptype IN ('n', 'a') END
     ORDER BY 1, 2, 3";

pub(super) fn read(found: &[SimpleRow]) -> Result<Users> {
    let mut users = Users::new();
    for row in found {
        let text = |at: usize| row.get(at).unwrap_or_default();
        let kind = Kind::parse(text(0))?;
        let of = users.entry((kind, names_of_10(text(1)))).or_default();
        of.push(text(2).to_owned());
    }
    Ok(users)
}

/// `view app.v`, `view app.v, view app.w and 7 more`.
pub(super) fn in_words(users: &[String]) -> String {
    let shown = users.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match users.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
