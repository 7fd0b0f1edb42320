//! What a database holds: its schemas, its first object of a user, and the roles and tablespaces it names.

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Session, params};
use crate::value::TableName;

/// Objects below this were made by initdb (`FirstNormalObjectId`).
const FIRST_USER_OID: &str = "16384";

/// Every catalog of objects that pg_dump writes, with its schema's column; those that belong to an extension are
/// found by `pg_depend`.
const CATALOGS: &[(&str, Option<&str>)] = &[
    ("pg_class", Some("relnamespace")),
    ("pg_proc", Some("pronamespace")),
    ("pg_type", Some("typnamespace")),
    ("pg_operator", Some("oprnamespace")),
    ("pg_opclass", Some("opcnamespace")),
    ("pg_opfamily", Some("opfnamespace")),
    ("pg_collation", Some("collnamespace")),
    ("pg_conversion", Some("connamespace")),
    ("pg_ts_config", Some("cfgnamespace")),
    ("pg_ts_dict", Some("dictnamespace")),
    ("pg_ts_parser", Some("prsnamespace")),
    ("pg_ts_template", Some("tmplnamespace")),
    ("pg_statistic_ext", Some("stxnamespace")),
    ("pg_cast", None),
    ("pg_transform", None),
    ("pg_language", None),
    ("pg_am", None),
    ("pg_event_trigger", None),
    ("pg_foreign_data_wrapper", None),
    ("pg_foreign_server", None),
];

/// The first object that is neither an extension's, through any chain of parts, nor flare's own, as the server describes
/// it. Schemas do not count.
pub(crate) fn first_object(session: &Session) -> Result<Option<String>> {
    let selects: Vec<String> = CATALOGS
        .iter()
        .map(|(catalog, namespace)| {
            let not_ours = match namespace {
                Some(namespace) => format!(
                    "AND o.{namespace} NOT IN (SELECT oid FROM pg_namespace
                         WHERE nspname = 'flare' OR nspname LIKE 'pg\\_toast%' OR nspname LIKE 'pg\\_temp%')"
                ),
                None => String::new(),
            };
            format!(
                "SELECT '{catalog}'::regclass AS classid, o.oid FROM {catalog} o WHERE o.oid >= {FIRST_USER_OID} {not_ours}"
            )
        })
        .collect();
    let sql = format!(
        "WITH RECURSIVE extensions(classid, objid) AS (
             SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
             UNION
             SELECT d.classid, d.objid FROM extensions e JOIN pg_depend d ON d.refclassid = e.classid AND d.refobjid = e.objid
              WHERE d.deptype IN ('i', 'a'))
         SELECT pg_describe_object(o.classid, o.oid, 0) FROM ({}) o
          WHERE NOT EXISTS (SELECT FROM extensions e WHERE e.classid = o.classid AND e.objid = o.oid)
            AND NOT EXISTS (SELECT FROM pg_depend d
                             WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'i' AND o.classid <> 'pg_class'::regclass)
            AND pg_describe_object(o.classid, o.oid, 0) !~ '\\mflare_replication_status'
          ORDER BY o.oid LIMIT 1",
        selects.join(" UNION ALL ")
    );
    let rows = session.rows(&sql, params![])?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// The schemas of a database, those of the server itself left out.
pub(crate) fn schemas(session: &Session) -> Result<Vec<String>> {
    session.value(
        "SELECT array(SELECT nspname::text FROM pg_namespace
                       WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY nspname)",
        params![],
    )
}

/// Whether a schema is there.
pub(crate) fn has_schema(session: &Session, nspname: &str) -> Result<bool> {
    session.value(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)",
        params![nspname],
    )
}

/// A schema, and who makes things in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct SchemaOwners {
    pub(crate) nspname: String,
    /// Who owns something in it and is not its owner.
    pub(crate) owners: Vec<String>,
    /// Who holds CREATE by a grant of their own.
    pub(crate) creators: Vec<String>,
}

/// The schemas of the database, the system's and flare's own left out.
pub(crate) fn schema_owners(session: &Session) -> Result<Vec<SchemaOwners>> {
    session.list(
        "SELECT jsonb_build_object('nspname', n.nspname,
                  'owners', (SELECT coalesce(jsonb_agg(DISTINCT pg_get_userbyid(o.owner)), '[]') FROM (
                       SELECT relnamespace, relowner FROM pg_class UNION SELECT pronamespace, proowner FROM pg_proc UNION SELECT typnamespace, typowner FROM pg_type
                       UNION SELECT oprnamespace, oprowner FROM pg_operator UNION SELECT opfnamespace, opfowner FROM pg_opfamily
                       UNION SELECT opcnamespace, opcowner FROM pg_opclass UNION SELECT connamespace, conowner FROM pg_conversion
                       UNION SELECT collnamespace, collowner FROM pg_collation UNION SELECT cfgnamespace, cfgowner FROM pg_ts_config
                       UNION SELECT dictnamespace, dictowner FROM pg_ts_dict UNION SELECT stxnamespace, stxowner FROM pg_statistic_ext) o(nspoid, owner)
                     WHERE o.nspoid = n.oid AND o.owner <> n.nspowner),
                  'creators', (SELECT coalesce(jsonb_agg(r.rolname ORDER BY r.rolname), '[]') FROM aclexplode(n.nspacl) a JOIN pg_roles r ON r.oid = a.grantee
                                WHERE a.privilege_type = 'CREATE'))
           FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare') ORDER BY n.nspname",
        params![],
    )
}

/// Whether flare's own table is there already.
pub(crate) fn has_status_table(session: &Session) -> Result<bool> {
    session.value(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'flare_replication_status' AND relkind = 'r')",
        params![],
    )
}

/// Whether flare's own table is there with its primary key: a schema that is loaded in halves has it without at first.
pub(crate) fn has_keyed_status_table(session: &Session) -> Result<bool> {
    session.value(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = 'flare_replication_status' AND i.indisprimary)",
        params![],
    )
}

/// The roles that own something in the database, or hold or gave a privilege there, the database itself included.
///
/// `pg_shdepend` names them all but the bootstrap superuser, whose objects are looked for. What belongs to an extension
/// is made by CREATE EXTENSION, and publications and subscriptions are not carried over.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedRoles {
    pub(crate) owners: Vec<String>,
    pub(crate) all: Vec<String>,
}

/// The roles that a database names.
pub(crate) fn named_roles(session: &Session) -> Result<NamedRoles> {
    let dependent = "
        SELECT d.refobjid, d.deptype FROM pg_shdepend d
         WHERE d.refclassid = 'pg_authid'::regclass
           AND (d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND d.classid <> ALL (ARRAY['pg_extension', 'pg_publication', 'pg_largeobject']::regclass[])
                OR d.classid = 'pg_database'::regclass
                AND d.objid = (SELECT oid FROM pg_database WHERE datname = current_database()))
           AND NOT EXISTS (SELECT FROM pg_depend e
                            WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
           AND NOT EXISTS (SELECT FROM pg_namespace n
                            WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND n.nspname = 'flare')";
    let pinned = format!(
        "SELECT 10::oid, 'o'::\"char\" WHERE EXISTS (
             SELECT FROM (SELECT oid, 'pg_class'::regclass AS classid FROM pg_class
                           WHERE relowner = 10 AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                             AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = 'flare')
                          UNION ALL SELECT oid, 'pg_proc'::regclass FROM pg_proc WHERE proowner = 10
                          UNION ALL SELECT oid, 'pg_namespace'::regclass FROM pg_namespace WHERE nspowner = 10 AND nspname !~ '^(pg_|flare$)') o
              WHERE o.oid >= {FIRST_USER_OID}
                AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = o.classid AND e.objid = o.oid AND e.deptype = 'e'))
            OR (SELECT datdba FROM pg_database WHERE datname = current_database()) = 10"
    );
    let select = |only: &str| {
        format!(
            "SELECT array(SELECT DISTINCT r.rolname::text FROM ({dependent} UNION ALL {pinned}) d(role, deptype)
                            JOIN pg_roles r ON r.oid = d.role {only} ORDER BY 1)"
        )
    };
    Ok(NamedRoles {
        owners: session.value(&select("WHERE d.deptype = 'o'"), params![])?,
        all: session.value(&select(""), params![])?,
    })
}

/// Whether something in the database has one of these names.
pub(crate) fn is_named(session: &Session, names: &[&str]) -> Result<bool> {
    session.value(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0 AND attname = ANY ($1))
             OR EXISTS (SELECT FROM pg_class WHERE oid >= 16384 AND relname = ANY ($1))
             OR EXISTS (SELECT FROM pg_proc WHERE oid >= 16384 AND (proname = ANY ($1) OR proargnames && $1::text[]))
             OR EXISTS (SELECT FROM pg_type WHERE oid >= 16384 AND typname = ANY ($1))
             OR EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384 AND nspname = ANY ($1))",
        params![names.iter().map(|it| (*it).to_owned()).collect::<Vec<String>>()],
    )
}

/// Tables WITH OIDS, which only servers before 12 have.
pub(crate) fn tables_with_oids(session: &Session) -> Result<Vec<TableName>> {
    session.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relhasoids AND c.oid >= 16384 AND n.nspname NOT IN ('information_schema', 'flare') AND n.nspname !~ '^pg_'
          ORDER BY n.nspname, c.relname",
        params![],
    )
}

/// The tablespaces that objects of the database lie in.
pub(crate) fn tablespaces(session: &Session) -> Result<Vec<String>> {
    session.value(
        "SELECT array(SELECT DISTINCT t.spcname::text FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
                       WHERE t.spcname !~ '^pg_' ORDER BY 1)",
        params![],
    )
}

/// All tablespaces of the server.
pub(crate) fn all_tablespaces(session: &Session) -> Result<Vec<String>> {
    session.value(
        "SELECT array(SELECT spcname::text FROM pg_tablespace)",
        params![],
    )
}
