//! Who owns what and who may do what; comments and security labels; roles; the database itself.

use crate::catalog::settings::{is_list_of_names, without_needless_quotes};

/// As in `tables.rs`. `$1` are the roles that flare works as, `$2` the older server's major version:
/// MAINTAIN is known from 17 on.
pub(super) const ROWS: &[&str] = &[
    OWNERS,
    GRANTS,
    DEFAULT_PRIVILEGES,
    COMMENTS,
    LABELS,
    ROLES,
    MEMBERSHIPS,
    SETTINGS,
    DATABASE,
];

/// The owner of schema public is the database's from 15 on, before it is who made the cluster.
const OWNERS: &str = "
    SELECT 'owner', o.object, o.parent, quote_ident(pg_get_userbyid(o.owner)), format('ALTER %s OWNER TO %I', o.object, pg_get_userbyid(o.owner)),
           format('ALTER %s OWNER TO %I', o.object, pg_get_userbyid(o.owner)), NULL
      FROM (SELECT r.word || ' ' || r.name, r.name, r.relowner FROM rel r
             WHERE r.relkind <> 'S' OR NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i'))
            UNION ALL SELECT 'SCHEMA ' || n.q, n.q, n.nspowner FROM nsp n WHERE NOT n.of_extension AND n.q <> 'public'
            UNION ALL SELECT p.word || ' ' || p.name, p.name, p.proowner FROM fun p
            UNION ALL SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN ' ELSE 'TYPE ' END || t.name, t.name, t.typowner FROM typ t
            UNION ALL SELECT format('SERVER %I', s.srvname), quote_ident(s.srvname), s.srvowner FROM pg_foreign_server s
                       WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_foreign_server'::regclass AND ext.objid = s.oid)
            UNION ALL SELECT x.word || ' ' || x.name, x.parent, x.owner FROM (
              SELECT 'COLLATION', format('%s.%I', n.q, c.collname), format('%s.%I', n.q, c.collname), c.collowner, 'pg_collation'::regclass, c.oid FROM pg_collation c JOIN nsp n ON n.oid = c.collnamespace
              UNION ALL SELECT 'CONVERSION', format('%s.%I', n.q, c.conname), format('%s.%I', n.q, c.conname), c.conowner, 'pg_conversion'::regclass, c.oid FROM pg_conversion c JOIN nsp n ON n.oid = c.connamespace
              UNION ALL SELECT 'OPERATOR', g.name, g.name, o.oprowner, 'pg_operator'::regclass, o.oid FROM pg_operator o JOIN nsp n ON n.oid = o.oprnamespace
                         CROSS JOIN LATERAL (SELECT format('%s.%s (%s, %s)', n.q, o.oprname, CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END, CASE WHEN o.oprright = 0 THEN 'NONE' ELSE format_type(o.oprright, NULL) END)) g(name) WHERE o.oprcode::oid <> 0
              UNION ALL SELECT 'OPERATOR CLASS', format('%s.%I USING %I', n.q, o.opcname, m.amname), format('%s.%I using %I', n.q, o.opcname, m.amname), o.opcowner, 'pg_opclass'::regclass, o.oid FROM pg_opclass o JOIN nsp n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
              UNION ALL SELECT 'OPERATOR FAMILY', format('%s.%I USING %I', n.q, o.opfname, m.amname), format('%s.%I using %I', n.q, o.opfname, m.amname), o.opfowner, 'pg_opfamily'::regclass, o.oid FROM pg_opfamily o JOIN nsp n ON n.oid = o.opfnamespace JOIN pg_am m ON m.oid = o.opfmethod
              UNION ALL SELECT 'TEXT SEARCH CONFIGURATION', format('%s.%I', n.q, c.cfgname), format('configuration %s.%I', n.q, c.cfgname), c.cfgowner, 'pg_ts_config'::regclass, c.oid FROM pg_ts_config c JOIN nsp n ON n.oid = c.cfgnamespace
              UNION ALL SELECT 'TEXT SEARCH DICTIONARY', format('%s.%I', n.q, d.dictname), format('dictionary %s.%I', n.q, d.dictname), d.dictowner, 'pg_ts_dict'::regclass, d.oid FROM pg_ts_dict d JOIN nsp n ON n.oid = d.dictnamespace
              UNION ALL SELECT 'STATISTICS', format('%s.%I', n.q, s.stxname), format('%s.%I', n.q, s.stxname), s.stxowner, 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s JOIN nsp n ON n.oid = s.stxnamespace
              UNION ALL SELECT 'FOREIGN DATA WRAPPER', quote_ident(w.fdwname), quote_ident(w.fdwname), w.fdwowner, 'pg_foreign_data_wrapper'::regclass, w.oid FROM pg_foreign_data_wrapper w
              UNION ALL SELECT 'LANGUAGE', quote_ident(l.lanname), quote_ident(l.lanname), l.lanowner, 'pg_language'::regclass, l.oid FROM pg_language l WHERE l.oid >= 16384
              UNION ALL SELECT 'EVENT TRIGGER', quote_ident(e.evtname), quote_ident(e.evtname), e.evtowner, 'pg_event_trigger'::regclass, e.oid FROM pg_event_trigger e
                         WHERE e.evtfoid NOT IN (SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'flare')
              ) x(word, name, parent, owner, classid, objid) WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = x.classid AND ext.objid = x.objid)) o(object, parent, owner)";

/// As far as they differ from what an object comes with. CONNECT is given and taken by the cutover. Schema public comes
/// with CREATE for everybody before 15, which no dump carries: across that border it is
/// no difference. What is revoked on a table goes from its columns too, and is given back there.
const GRANTS: &str = "
    SELECT 'grants', format('%s to %s', o.object, CASE g.grantee WHEN 0 THEN 'PUBLIC' WHEN o.owner THEN 'its owner' ELSE quote_ident(pg_get_userbyid(g.grantee)) END), o.parent, coalesce(g.held, 'nothing'),
           CASE WHEN g.initial IS NULL AND g.plain IS NOT NULL THEN '' ELSE n.revoked || n.columns || '; ' END
             || concat_ws('; ', 'GRANT ' || g.plain || ' ON ' || o.target || ' TO ' || n.grantee, 'GRANT ' || g.grantable || ' ON ' || o.target || ' TO ' || n.grantee || ' WITH GRANT OPTION'),
           rtrim(n.revoked || n.columns || '; '
             || concat_ws('; ', 'GRANT ' || g.plain || ' ON ' || o.target || ' TO ' || n.grantee, 'GRANT ' || g.grantable || ' ON ' || o.target || ' TO ' || n.grantee || ' WITH GRANT OPTION'), '; '),
           concat_ws('; ', n.revoked || n.columns, 'GRANT ' || g.initial || ' ON ' || o.target || ' TO ' || n.grantee)
      FROM (SELECT r.name AS parent, CASE r.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || r.name AS object, CASE r.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || r.name AS target,
                   '' AS suffix, r.relowner AS owner, r.relacl AS acl, acldefault((CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\", r.relowner) AS initial FROM rel r WHERE r.relacl IS NOT NULL
            UNION ALL SELECT r.name || '.' || quote_ident(a.attname), format('column %s.%I', r.name, a.attname), 'TABLE ' || r.name, format(' (%I)', a.attname), r.relowner, a.attacl, NULL
              FROM pg_attribute a JOIN rel r ON r.oid = a.attrelid WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
            UNION ALL SELECT n.q, 'SCHEMA ' || n.q, 'SCHEMA ' || n.q, '', n.nspowner, n.nspacl, acldefault('n', n.nspowner) FROM nsp n WHERE n.nspacl IS NOT NULL AND n.q <> 'public'
            UNION ALL SELECT n.q, 'SCHEMA ' || n.q, 'SCHEMA ' || n.q, '', n.nspowner, n.nspacl, acldefault('n', n.nspowner) || makeaclitem(0, n.nspowner, 'USAGE', false) FROM nsp n
                       WHERE n.nspacl IS NOT NULL AND n.q = 'public' AND NOT EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = 'pg_namespace'::regclass AND i.objoid = n.oid AND i.initprivs @> n.nspacl AND n.nspacl @> i.initprivs)
            UNION ALL SELECT p.name, p.word || ' ' || p.name, p.word || ' ' || p.name, '', p.proowner, p.proacl, acldefault('f', p.proowner) FROM fun p WHERE p.proacl IS NOT NULL
            UNION ALL SELECT t.name, 'TYPE ' || t.name, 'TYPE ' || t.name, '', t.typowner, t.typacl, acldefault('T', t.typowner) FROM typ t WHERE t.typacl IS NOT NULL
            UNION ALL SELECT quote_ident(l.lanname), format('LANGUAGE %I', l.lanname), format('LANGUAGE %I', l.lanname), '', l.lanowner, l.lanacl, acldefault('l', l.lanowner) FROM pg_language l WHERE l.lanacl IS NOT NULL
            UNION ALL SELECT quote_ident(s.srvname), format('FOREIGN SERVER %I', s.srvname), format('FOREIGN SERVER %I', s.srvname), '', s.srvowner, s.srvacl, acldefault('S', s.srvowner) FROM pg_foreign_server s WHERE s.srvacl IS NOT NULL
            UNION ALL SELECT quote_ident(w.fdwname), format('FOREIGN DATA WRAPPER %I', w.fdwname), format('FOREIGN DATA WRAPPER %I', w.fdwname), '', w.fdwowner, w.fdwacl, acldefault('F', w.fdwowner) FROM pg_foreign_data_wrapper w WHERE w.fdwacl IS NOT NULL
            UNION ALL SELECT quote_ident(d.datname), format('DATABASE %I', d.datname), format('DATABASE %I', d.datname), '', d.datdba, d.datacl, acldefault('d', d.datdba) FROM pg_database d WHERE d.datname = current_database() AND d.datacl IS NOT NULL) o
      CROSS JOIN LATERAL (
        SELECT x.grantee, string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY x.privilege_type) FILTER (WHERE x.now) AS held,
               string_agg(x.privilege_type || o.suffix, ', ' ORDER BY x.privilege_type) FILTER (WHERE x.now AND NOT x.is_grantable) AS plain,
               string_agg(x.privilege_type || o.suffix, ', ' ORDER BY x.privilege_type) FILTER (WHERE x.now AND x.is_grantable) AS grantable,
               string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) FILTER (WHERE NOT x.now) AS initial
          FROM (SELECT DISTINCT grantee, privilege_type, is_grantable AND grantee <> o.owner AS is_grantable, true AS now FROM aclexplode(o.acl)
                UNION ALL SELECT grantee, privilege_type, false, false FROM aclexplode(o.initial)) x
         WHERE (x.privilege_type <> 'MAINTAIN' OR $2 >= 17) AND x.privilege_type <> 'CONNECT'
         GROUP BY x.grantee) g
      CROSS JOIN LATERAL (SELECT w.grantee, format('REVOKE ALL%s ON %s FROM %s', o.suffix, o.target, w.grantee) AS revoked,
               coalesce((SELECT string_agg(format('; GRANT %s (%I) ON %s TO %s%s', x.privilege_type, a.attname, o.target, w.grantee, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '' ORDER BY a.attnum, x.privilege_type)
                           FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) x
                          WHERE o.object LIKE 'TABLE %' AND a.attrelid = to_regclass(substr(o.target, 7)) AND NOT a.attisdropped AND x.grantee = g.grantee), '') AS columns
          FROM (SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END) w(grantee)) n
     WHERE g.held IS DISTINCT FROM g.initial AND (g.grantee = o.owner OR pg_get_userbyid(g.grantee) <> ALL ($1))
       AND NOT (o.object = 'SCHEMA public' AND (g.grantee = o.owner OR g.grantee = 10
                OR g.grantee = 0 AND g.held = 'CREATE, USAGE' AND $2 < 15))";

pub(super) const DEFAULT_PRIVILEGES: &str = "
    SELECT 'default_privileges', format('%s%s of %I to %s', o.words, ' in schema ' || o.schema, o.role, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END), NULL, coalesce(g.held, 'nothing'),
           CASE WHEN g.initial IS NULL AND g.held IS NOT NULL THEN s.granted ELSE concat_ws('; ', s.revoked, nullif(s.granted, '')) END, concat_ws('; ', s.revoked, nullif(s.granted, '')), concat_ws('; ', s.revoked, s.head || ' GRANT ' || g.initial || ' ON ' || o.words || ' TO ' || s.grantee)
      FROM (SELECT d.defaclrole, pg_get_userbyid(d.defaclrole) AS role, (SELECT quote_ident(n.nspname) FROM pg_namespace n WHERE n.oid = d.defaclnamespace) AS schema,
                   CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS words, d.defaclacl,
                   CASE WHEN d.defaclnamespace = 0 THEN acldefault((CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype::text END)::\"char\", d.defaclrole) END AS initial FROM pg_default_acl d) o
      CROSS JOIN LATERAL (
        SELECT x.grantee, string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY x.privilege_type) FILTER (WHERE x.now) AS held,
               string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) FILTER (WHERE x.now AND NOT x.is_grantable) AS plain,
               string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) FILTER (WHERE x.now AND x.is_grantable) AS grantable,
               string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) FILTER (WHERE NOT x.now) AS initial
          FROM (SELECT DISTINCT grantee, privilege_type, is_grantable AND grantee <> o.defaclrole AS is_grantable, true AS now FROM aclexplode(o.defaclacl)
                UNION ALL SELECT grantee, privilege_type, false, false FROM aclexplode(o.initial)) x
         WHERE x.privilege_type <> 'MAINTAIN' OR $2 >= 17 GROUP BY x.grantee) g
      CROSS JOIN LATERAL (SELECT h.head, n.grantee, format('%s REVOKE ALL ON %s FROM %s', h.head, o.words, n.grantee) AS revoked,
                   concat_ws('; ', h.head || ' GRANT ' || g.plain || ' ON ' || o.words || ' TO ' || n.grantee, h.head || ' GRANT ' || g.grantable || ' ON ' || o.words || ' TO ' || n.grantee || ' WITH GRANT OPTION') AS granted
            FROM (SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I', o.role) || coalesce(' IN SCHEMA ' || o.schema, '') AS head) h,
                 (SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS grantee) n) s
     WHERE g.held IS DISTINCT FROM g.initial AND (g.grantee = o.defaclrole OR pg_get_userbyid(g.grantee) <> ALL ($1))";

/// What a description or label `d` is of: whose part it is, and its name as COMMENT ON and SECURITY LABEL have it.
macro_rules! described {
    () => {
        "CROSS JOIN LATERAL (SELECT i.type, i.schema, i.identity,
               CASE d.classoid WHEN 'pg_proc'::regclass THEN coalesce((SELECT p.name FROM fun p WHERE p.oid = d.objoid), i.identity)
                 WHEN 'pg_operator'::regclass THEN (SELECT format('%I.%s (%s, %s)', n.nspname, o.oprname, CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END, CASE WHEN o.oprright = 0 THEN 'NONE' ELSE format_type(o.oprright, NULL) END) FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = d.objoid)
                 WHEN 'pg_cast'::regclass THEN (SELECT format('%s as %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)) FROM pg_cast c WHERE c.oid = d.objoid)
                 WHEN 'pg_ts_config'::regclass THEN 'configuration ' || i.identity WHEN 'pg_ts_dict'::regclass THEN 'dictionary ' || i.identity
                 WHEN 'pg_opclass'::regclass THEN replace(i.identity, ' USING ', ' using ') WHEN 'pg_opfamily'::regclass THEN replace(i.identity, ' USING ', ' using ')
                 WHEN 'pg_constraint'::regclass THEN CASE i.type WHEN 'domain constraint' THEN replace(i.identity, ' on ', ' on domain ') ELSE i.identity END
                 ELSE i.identity END AS parent,
               CASE WHEN i.type LIKE '% column' THEN 'COLUMN ' || i.identity WHEN i.type = 'domain constraint' THEN 'CONSTRAINT ' || replace(i.identity, ' on ', ' ON DOMAIN ')
                 WHEN i.type LIKE '% constraint' THEN 'CONSTRAINT ' || i.identity WHEN i.type = 'composite type' THEN 'TYPE ' || i.identity
                 WHEN i.type = 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER ' || i.identity WHEN i.type = 'statistics object' THEN 'STATISTICS ' || i.identity
                 WHEN i.type = 'aggregate' THEN 'AGGREGATE ' || coalesce((SELECT p.name FROM fun p WHERE p.oid = d.objoid), i.identity)
                 WHEN i.type = 'operator' THEN (SELECT format('OPERATOR %I.%s (%s, %s)', n.nspname, o.oprname, CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END, CASE WHEN o.oprright = 0 THEN 'NONE' ELSE format_type(o.oprright, NULL) END) FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = d.objoid)
                 WHEN i.type = 'transform' THEN 'TRANSFORM ' || replace(i.identity, ' on language ', ' LANGUAGE ')
                 ELSE upper(i.type) || ' ' || i.identity END AS target
          FROM pg_identify_object(d.classoid, d.objoid, d.objsubid) i) i"
    };
}

/// Of the objects that initdb made only the schema `public` may have a comment of one's own. They are left out before their
/// names are asked for: there are some five thousand.
const COMMENTS: &str = concat!(
    "
    SELECT 'comment', format('%s %s', i.type, i.identity), i.parent, d.description,
           format('COMMENT ON %s IS %L', i.target, d.description), format('COMMENT ON %s IS %L', i.target, d.description), format('COMMENT ON %s IS NULL', i.target)
      FROM (SELECT * FROM pg_description WHERE objoid >= 16384 OR classoid = 'pg_namespace'::regclass AND description <> 'standard public schema') d ",
    described!(),
    "
     WHERE (d.objoid >= 16384 OR i.identity = 'public')
       AND d.classoid NOT IN ('pg_extension'::regclass, 'pg_publication'::regclass, 'pg_subscription'::regclass)
       AND coalesce(i.schema, '') !~ '^(pg_|flare$)' AND i.identity !~ '^flare$|flare_fence|flare_truncate|flare_replication_status' AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = d.classoid AND ext.objid = d.objoid)",
);

pub(super) const LABELS: &str = concat!(
    "
    SELECT 'security_label', format('%s on %s %s', d.provider, i.type, i.identity), i.parent, d.label, format('SECURITY LABEL FOR %I ON %s IS %L', d.provider, i.target, d.label),
           format('SECURITY LABEL FOR %I ON %s IS %L', d.provider, i.target, d.label), format('SECURITY LABEL FOR %I ON %s IS NULL', d.provider, i.target)
      FROM pg_seclabel d ",
    described!(),
    "
     WHERE coalesce(i.schema, '') !~ '^(pg_|flare$)' AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = d.classoid AND ext.objid = d.objoid)",
);

/// The body says whether a role has to do with this database: it owns something, holds a privilege, has settings for it,
/// is connected, or is a member of such a role; or such a role is a member of it.
const ROLES: &str = "
    SELECT 'role', quote_ident(r.rolname), NULL,
           CASE WHEN r.oid IN (SELECT oid FROM concerned UNION SELECT m.roleid FROM concerned c JOIN pg_auth_members m ON m.member = c.oid) THEN 'concerned' ELSE '' END,
           format('CREATE ROLE %I%s', r.rolname, CASE WHEN r.rolcanlogin THEN ' LOGIN' ELSE '' END), NULL, NULL
      FROM pg_roles r WHERE r.rolname !~ '^(pg_|rds)' AND r.oid <> 10 AND r.rolname <> ALL ($1)";

/// There is no statement for roles that have nothing to do with this database, as in `ROLES`: then it is no difference.
const MEMBERSHIPS: &str = "
    SELECT DISTINCT 'membership', format('%I in %I', m.rolname, g.rolname), NULL, 'member',
           CASE WHEN m.oid IN (SELECT oid FROM concerned) THEN format('GRANT %I TO %I', g.rolname, m.rolname) END, NULL, NULL
      FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
     WHERE m.rolname !~ '^(pg_|rds)' AND g.rolname !~ '^rds' AND m.oid <> 10 AND m.rolname <> ALL ($1)";

/// Of the database, of roles, and of roles in it. A list of names is kept as SET takes it, with quotes where
/// quote_all_identifiers was on. The read-only default is what closes a side.
const SETTINGS: &str = concat!(
    "
    SELECT 'setting', format('%s of %s', s.name, s.whose), NULL, CASE WHEN l.is_list THEN ",
    without_needless_quotes!("s.value"),
    " ELSE s.value END,
           CASE WHEN s.setdatabase <> 0 OR s.setrole IN (SELECT oid FROM concerned)
                THEN format('ALTER %s SET %I TO %s', s.whose, s.name, CASE WHEN s.value <> '' AND l.is_list THEN s.value ELSE quote_literal(s.value) END) END, NULL, NULL
      FROM (SELECT d.setdatabase, d.setrole, split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value,
                   CASE WHEN d.setrole = 0 THEN format('DATABASE %I', current_database())
                        ELSE format('ROLE %I', r.rolname) || CASE WHEN d.setdatabase <> 0 THEN format(' IN DATABASE %I', current_database()) ELSE '' END END AS whose
              FROM pg_db_role_setting d LEFT JOIN pg_roles r ON r.oid = d.setrole CROSS JOIN LATERAL unnest(d.setconfig) c
             WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND (d.setdatabase <> 0 OR d.setrole <> 0)
               AND (d.setrole = 0 OR r.rolname !~ '^(pg_|rds)' AND r.oid <> 10 AND r.rolname <> ALL ($1))) s
      CROSS JOIN LATERAL (SELECT ",
    is_list_of_names!("s.name"),
    ") l(is_list)
     WHERE s.name <> 'default_transaction_read_only'"
);

const DATABASE: &str = "
    SELECT 'database', format('%I %s', d.datname, p.what), NULL, p.value, p.statement, NULL, NULL
      FROM pg_database d
      CROSS JOIN LATERAL (VALUES
        ('owner', quote_ident(pg_get_userbyid(d.datdba)), format('ALTER DATABASE %I OWNER TO %I', d.datname, pg_get_userbyid(d.datdba))),
        ('connection limit', d.datconnlimit::text, format('ALTER DATABASE %I CONNECTION LIMIT %s', d.datname, d.datconnlimit)),
        ('comment', coalesce(quote_literal(shobj_description(d.oid, 'pg_database')), 'none'), format('COMMENT ON DATABASE %I IS %L', d.datname, shobj_description(d.oid, 'pg_database')))) p(what, value, statement)
     WHERE d.datname = current_database()";
