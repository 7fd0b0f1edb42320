//! One side's catalogs as rows: first one fingerprint for each kind of object, then the rows of the kinds that differ.

use std::collections::BTreeMap;

use super::users::{self, Users};
use super::{Kind, Roles, parts};
use crate::error::{Result, WrapErr};
use crate::server::{Session, SimpleRow};
use crate::value::Literal;

/// One object of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    /// What it goes with: the table of a column, the column of a default.
    pub(super) parent: Option<String>,
    pub(super) body: String,
    pub(super) make: Option<String>,
    pub(super) mend: Option<String>,
    pub(super) away: Option<String>,
    /// What `mend` cannot change.
    pub(super) fixed: Option<String>,
}

/// The server's own words for what the rows speak of. What names a column of another object finds it by the catalogs' own
/// indexes: a join with `rel` or `col` takes the square of the tables.
/// A default names no column, so it is printed without its table: else the server first makes the names of all its
/// columns unique, for each of them anew (before 18: a thousand columns took 40 s).
///
/// From 17 on a partition has its root's identity, and can be attached only without one of its own.
///
/// What an extension made belongs to it, directly or through what
/// belongs to it: the composite type of its function, the row type of that, and that one's array.
const PRELUDE: &str = "
    WITH RECURSIVE ext(classid, objid) AS (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
        UNION SELECT d.classid, d.objid FROM ext JOIN pg_depend d ON d.refclassid = ext.classid AND d.refobjid = ext.objid AND d.deptype IN ('i', 'a')),
    nsp AS (SELECT n.oid, quote_ident(n.nspname) AS q, n.nspowner, n.nspacl, EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_namespace'::regclass AND ext.objid = n.oid) AS of_extension
              FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare')),
    rel AS (SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, c.relispartition, c.relpartbound, c.reloptions, c.reloftype, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity,
                   n.q AS schema_name, n.q || '.' || quote_ident(c.relname) AS name,
                   CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS word
              FROM pg_class c JOIN nsp n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND c.relname !~ '^flare_replication_status'
               AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_class'::regclass AND ext.objid = c.oid)),
    col AS (SELECT x.*, concat_ws(' ', x.column_name, x.type_name || x.foreign_options || x.collated, x.made, 'DEFAULT ' || CASE WHEN x.generated = '' THEN x.default_expression END, CASE WHEN x.attnotnull THEN 'NOT NULL' END) AS definition,
                   concat_ws(' ', x.type_name || x.collated, x.made_as) AS body
              FROM (SELECT a.attrelid, a.attnum, a.attnotnull, a.attidentity, a.attinhcount, a.attislocal, nullif(ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o !~ '^pg_attver='), '{}') AS attoptions,
                           coalesce((SELECT ' OPTIONS (' || string_agg(quote_ident(option_name) || ' ' || quote_literal(option_value), ', ') || ')' FROM pg_options_to_table(a.attfdwoptions)), '') AS foreign_options, g.generated, r.name || '.' || quote_ident(a.attname) AS name, r.name AS table_name,
                           quote_ident(a.attname) AS column_name, format_type(a.atttypid, a.atttypmod) AS type_name, e.default_expression,
                           coalesce((SELECT format(' COLLATE %I.%I', n.nspname, o.collname) FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE o.oid = a.attcollation AND o.oid <> t.typcollation), '') AS collated,
                           CASE g.generated WHEN 's' THEN 'GENERATED ALWAYS AS (' || e.default_expression || ') STORED' WHEN 'v' THEN 'GENERATED ALWAYS AS (' || e.default_expression || ')' ELSE CASE WHEN NOT (r.relispartition AND current_setting('server_version_num')::int >= 170000) THEN i.made_as || i.sequence END END AS made,
                           CASE g.generated WHEN 's' THEN 'GENERATED ALWAYS AS (' || e.default_expression || ') STORED' WHEN 'v' THEN 'GENERATED ALWAYS AS (' || e.default_expression || ')' ELSE i.made_as END AS made_as,
                           CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END AS storage,
                           CASE t.typstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END AS own_storage,
                           CASE g.compression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression, nullif(a.attstattarget, -1) AS target
                      FROM pg_attribute a JOIN rel r ON r.oid = a.attrelid AND r.relkind IN ('r', 'p', 'f') JOIN pg_type t ON t.oid = a.atttypid
                      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                      CROSS JOIN LATERAL (SELECT coalesce(j.a ->> 'attgenerated', ''), j.a ->> 'attcompression' FROM (SELECT to_jsonb(a) OFFSET 0) j(a)) g(generated, compression)
                      CROSS JOIN LATERAL (SELECT pg_get_expr(d.adbin, CASE WHEN g.generated = '' THEN 0 ELSE d.adrelid END)) e(default_expression)
                      CROSS JOIN LATERAL (SELECT CASE a.attidentity WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY' END,
                                CASE WHEN a.attidentity <> '' THEN coalesce((SELECT format(' (SEQUENCE NAME %s START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s %s)', qn.q || '.' || quote_ident(q.relname), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
                                   FROM pg_depend p JOIN pg_sequence s ON s.seqrelid = p.objid JOIN pg_class q ON q.oid = p.objid JOIN nsp qn ON qn.oid = q.relnamespace WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype = 'i'), '') END) i(made_as, sequence)
                     WHERE a.attnum > 0 AND NOT a.attisdropped) x),
    typ AS (SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, t.typcollation, t.typdefault, t.typnotnull, t.typrelid, t.typinput, t.typoutput, t.typlen, t.typbyval, t.typalign, t.typstorage, t.typelem, t.typowner, t.typacl,
                   n.q || '.' || quote_ident(t.typname) AS name
              FROM pg_type t JOIN nsp n ON n.oid = t.typnamespace
             WHERE t.typtype <> 'm' AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c') AND NOT EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid)
               AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_type'::regclass AND ext.objid = t.oid)),
    fun AS (SELECT p.oid, p.proowner, p.proacl, p.proparallel, k.kind, CASE k.kind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END AS word,
                   format('%s.%I(%s)', n.q, p.proname, coalesce(nullif(CASE k.kind WHEN 'p' THEN regexp_replace(pg_get_function_identity_arguments(p.oid), '(^|, )IN ', '\\1', 'g') ELSE pg_get_function_identity_arguments(p.oid) END, ''), CASE k.kind WHEN 'a' THEN '*' ELSE '' END)) AS name,
                   format('%s.%I(%s)', n.q, p.proname, (SELECT string_agg(format_type(a.t, NULL), ', ' ORDER BY a.at) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a(t, at))) AS signature
              FROM pg_proc p JOIN nsp n ON n.oid = p.pronamespace
              CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (SELECT FROM pg_aggregate a WHERE a.aggfnoid = p.oid) THEN 'a' ELSE coalesce(to_jsonb(p) ->> 'prokind', 'f') END) k(kind)
             WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_proc'::regclass AND ext.objid = p.oid)
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')),
    concerned(oid) AS (
        SELECT s.refobjid FROM pg_shdepend s, pg_database d WHERE s.refclassid = 'pg_authid'::regclass AND d.datname = current_database() AND (s.dbid = d.oid OR s.classid = 'pg_database'::regclass AND s.objid = d.oid)
        UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()
        UNION SELECT usesysid FROM pg_stat_activity WHERE datname = current_database()
        UNION SELECT oid FROM pg_roles WHERE rolname = ANY ($3)
        UNION SELECT m.member FROM concerned c JOIN pg_auth_members m ON m.roleid = c.oid)";

/// How the server prints definitions: names qualified, constants in words that no setting changes. Floats with 15 digits,
/// as every version prints them.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL search_path = pg_catalog; SET LOCAL DateStyle = ISO; SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC';
    SET LOCAL extra_float_digits = 0; SET LOCAL bytea_output = hex; SET LOCAL quote_all_identifiers = off";

/// The columns' names and types come from the first row.
const ROWS: &str = "rows(kind, name, parent, body, make, mend, away, fixed) AS";

const FINGERPRINTS: &str = "
    SELECT coalesce(jsonb_object_agg(kind, print), '{}')
      FROM (SELECT kind, coalesce(md5(string_agg(name || E'\\1' || coalesce(body, ''), E'\\2' ORDER BY name COLLATE \"C\", body COLLATE \"C\")), '') FROM rows GROUP BY kind) f(kind, print)";

fn array<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let literals: Vec<String> = texts
        .into_iter()
        .map(|it| Literal(it).to_string())
        .collect();
    format!("ARRAY[{}]::text[]", literals.join(", "))
}

/// One side, as one of a certain age sees it: its definitions are printed in one way.
pub(super) struct Printing<'s> {
    session: &'s Session,
    older: i32,
    roles: &'s Roles,
}

impl<'s> Printing<'s> {
    pub(super) fn of(session: &'s Session, older: i32, roles: &'s Roles) -> Self {
        Printing {
            session,
            older,
            roles,
        }
    }

    /// Parameters are written out, names last: a transaction with its settings is one round trip.
    fn filled_in(&self, select: &str) -> String {
        select
            .replace("$2", &self.older.to_string())
            .replace("$1", &array(&self.roles.names))
    }

    fn prelude(&self) -> String {
        PRELUDE.replace("$3", &array(&self.roles.applications))
    }

    /// In a transaction of its own, which a failure does not leave open for the next question.
    fn asked(&self, select: &str) -> Result<Vec<SimpleRow>> {
        let found = self
            .session
            .simple(&format!("{BEGIN}; {select}; COMMIT"))
            .wrap_err("read the catalogs");
        if found.is_err() && self.session.batch("ROLLBACK").is_err() {
            log::debug!("the session that read the catalogs is gone");
        }
        found
    }

    /// Of each kind, what tells two sides apart. The server itself leaves out what it need not look for.
    pub(super) fn fingerprints(&self) -> Result<BTreeMap<String, String>> {
        let body = format!(
            "DECLARE found jsonb;
             BEGIN
               EXECUTE {} || {} || {} INTO found;
               PERFORM set_config('flare.answer', found::text, true);
             END",
            Literal(format!("{}, {ROWS} (", self.prelude())),
            parts::of_what_there_is(|select| self.filled_in(select)),
            Literal(format!(") {FINGERPRINTS}"))
        );
        let found = self.asked(&format!(
            "DO LANGUAGE plpgsql {}; SELECT current_setting('flare.answer')",
            Literal(body)
        ))?;
        let found = found.first().and_then(|row| row.get(0));
        serde_json::from_str(found.unwrap_or_default()).wrap_err("read the catalogs' fingerprints")
    }

    /// The objects of some kinds; of all where none is named.
    pub(super) fn objects(&self, kinds: &[String]) -> Result<Vec<(Kind, Row)>> {
        let rows = self.filled_in(&parts::of(kinds));
        let kinds = array(kinds);
        let found = self.asked(&format!(
            "{prelude}, {ROWS} ({rows})
             SELECT kind, name, parent, coalesce(body, ''), make, mend, away, fixed FROM rows WHERE kind = ANY ({kinds}) OR cardinality({kinds}) = 0",
            prelude = self.prelude()
        ))?;
        let row = |row: &SimpleRow| {
            let text = |at: usize| row.get(at).map(str::to_owned);
            Ok((
                Kind::parse(row.get(0).unwrap_or_default())?,
                Row {
                    name: text(1).unwrap_or_default(),
                    parent: text(2),
                    body: text(3).unwrap_or_default(),
                    make: text(4),
                    mend: text(5),
                    away: text(6),
                    fixed: text(7),
                },
            ))
        };
        found.iter().map(row).collect()
    }

    /// What rests on objects of this side, by the objects' kinds and names.
    pub(super) fn users(&self) -> Result<Users> {
        let found = self
            .asked(&format!("{}, {}", self.prelude(), users::USERS))
            .wrap_err("read what rests on the objects that differ")?;
        users::read(&found)
    }
}
