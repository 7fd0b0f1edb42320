//! Schemas, types, sequences, views, functions and the rarer objects.

/// As in `tables.rs`.
pub(super) const ROWS: &[&str] = &[
    SCHEMAS,
    EXTENSIONS,
    ENUMS,
    COMPOSITES,
    RANGES,
    BASE_TYPES,
    SEQUENCES,
    OWNED_BY,
    CASTS,
    COLLATIONS,
    EVENT_TRIGGERS,
    LANGUAGES,
];

/// As in `tables.rs`.
pub(super) const FIXED_ROWS: &[&str] = &[
    DOMAINS,
    VIEWS,
    FUNCTIONS,
    AGGREGATES,
    OPERATORS,
    OPERATOR_CLASSES,
    TEXT_SEARCH,
    FOREIGN,
];

const SCHEMAS: &str = "
    SELECT 'schema', n.q, NULL::text, '', format('CREATE SCHEMA %s', n.q), NULL::text, format('DROP SCHEMA %s', n.q)
      FROM nsp n WHERE NOT n.of_extension";

const EXTENSIONS: &str = "
    SELECT 'extension', quote_ident(e.extname), NULL, quote_ident(n.nspname), format('CREATE EXTENSION %I SCHEMA %I', e.extname, n.nspname),
           format('ALTER EXTENSION %I SET SCHEMA %I', e.extname, n.nspname), NULL
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace";

pub(super) const ENUMS: &str = "
    SELECT 'enum', t.name, NULL, l.labels, format('CREATE TYPE %s AS ENUM (%s)', t.name, l.labels), NULL, format('DROP TYPE %s', t.name)
      FROM typ t CROSS JOIN LATERAL (SELECT coalesce(string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder), '') FROM pg_enum e WHERE e.enumtypid = t.oid) l(labels)
     WHERE t.typtype = 'e'";

pub(super) const DOMAINS: &str = "
    SELECT 'domain', t.name, NULL, d.definition, format('CREATE DOMAIN %s AS %s', t.name, d.definition),
           format('ALTER DOMAIN %s %s; ALTER DOMAIN %1$s %3$s', t.name, coalesce('SET DEFAULT ' || t.typdefault, 'DROP DEFAULT'), CASE WHEN t.typnotnull THEN 'SET NOT NULL' ELSE 'DROP NOT NULL' END),
           format('DROP DOMAIN %s', t.name), b.base || ';'
      FROM typ t CROSS JOIN LATERAL (SELECT concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
               (SELECT format('COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
                 WHERE c.oid = t.typcollation AND c.oid <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = t.typbasetype)))) b(base)
      CROSS JOIN LATERAL (SELECT concat_ws(' ', b.base, 'DEFAULT ' || t.typdefault, CASE WHEN t.typnotnull THEN 'NOT NULL' END)) d(definition)
     WHERE t.typtype = 'd'";

pub(super) const COMPOSITES: &str = "
    SELECT 'composite_type', t.name, NULL, a.attributes, format('CREATE TYPE %s AS (%s)', t.name, a.attributes), NULL, format('DROP TYPE %s', t.name)
      FROM typ t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c' CROSS JOIN LATERAL (
        SELECT coalesce(string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), (SELECT format('COLLATE %I.%I', n.nspname, o.collname)
                 FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace JOIN pg_type b ON b.oid = a.atttypid WHERE o.oid = a.attcollation AND o.oid <> b.typcollation)), ', ' ORDER BY a.attnum), '')
          FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) a(attributes)";

pub(super) const RANGES: &str = "
    SELECT 'range_type', t.name, NULL, d.definition, format('CREATE TYPE %s AS RANGE (%s)', t.name, d.definition), NULL, format('DROP TYPE %s', t.name)
      FROM typ t JOIN pg_range r ON r.rngtypid = t.oid CROSS JOIN LATERAL (SELECT concat_ws(', ', 'SUBTYPE = ' || format_type(r.rngsubtype, NULL),
               'SUBTYPE_DIFF = ' || CASE WHEN r.rngsubdiff <> 0 THEN r.rngsubdiff::text END, 'CANONICAL = ' || CASE WHEN r.rngcanonical <> 0 THEN r.rngcanonical::text END,
               (SELECT 'MULTIRANGE_TYPE_NAME = ' || format('%I.%I', n.nspname, m.typname) FROM pg_type m JOIN pg_namespace n ON n.oid = m.typnamespace JOIN pg_type own ON own.oid = t.oid
                 WHERE $2 >= 14 AND m.oid = (to_jsonb(r) ->> 'rngmultitypid')::oid AND m.typname <> left(CASE WHEN own.typname LIKE '%range%' THEN regexp_replace(own.typname, 'range', 'multirange') ELSE own.typname || '_multirange' END, 63)),
               (SELECT format('SUBTYPE_OPCLASS = %I.%I', n.nspname, o.opcname) FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid = r.rngsubopc AND NOT o.opcdefault),
               (SELECT format('COLLATION = %I.%I', n.nspname, o.collname) FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace
                 WHERE o.oid = r.rngcollation AND o.oid <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = r.rngsubtype)))) d(definition)
     WHERE t.typtype = 'r'";

const BASE_TYPES: &str = "
    SELECT 'base_type', t.name, NULL, concat_ws(' ', t.typinput::text, t.typoutput::text, t.typlen, t.typbyval, t.typalign, t.typstorage), NULL, NULL, NULL
      FROM typ t WHERE t.typtype IN ('b', 'p') AND NOT (t.typelem <> 0 AND t.typlen = -1 AND EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))";

const SEQUENCES: &str = "
    SELECT 'sequence', r.name, (SELECT n.q || '.' || quote_ident(k.relname) || '.' || quote_ident(a.attname) FROM pg_attribute a JOIN pg_class k ON k.oid = a.attrelid JOIN nsp n ON n.oid = k.relnamespace
                                 WHERE a.attrelid = o.refobjid AND a.attnum = o.refobjsubid AND o.deptype = 'i'),
           concat_ws(' ', CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' END, d.definition),
           CASE WHEN o.deptype IS DISTINCT FROM 'i' THEN format('CREATE %sSEQUENCE %s %s', CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, r.name, d.definition) END,
           format('ALTER SEQUENCE %s %s', r.name, d.definition), CASE WHEN o.deptype IS DISTINCT FROM 'i' THEN format('DROP SEQUENCE %s', r.name) END
      FROM rel r JOIN pg_sequence s ON s.seqrelid = r.oid LEFT JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = r.oid AND o.refclassid = 'pg_class'::regclass AND o.refobjsubid > 0 AND o.deptype IN ('a', 'i')
      CROSS JOIN LATERAL (SELECT format('AS %s START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s %s', format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
                                        CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)) d(definition)";

/// It goes with the column, whose default needs the sequence first.
const OWNED_BY: &str = "
    SELECT 'owned_by', r.name, c.name, c.name, format('ALTER SEQUENCE %s OWNED BY %s', r.name, c.name), format('ALTER SEQUENCE %s OWNED BY %s', r.name, c.name), format('ALTER SEQUENCE %s OWNED BY NONE', r.name)
      FROM rel r JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = r.oid AND o.refclassid = 'pg_class'::regclass AND o.refobjsubid > 0 AND o.deptype = 'a'
      CROSS JOIN LATERAL (SELECT n.q || '.' || quote_ident(k.relname) || '.' || quote_ident(a.attname) FROM pg_attribute a JOIN pg_class k ON k.oid = a.attrelid JOIN nsp n ON n.oid = k.relnamespace
                           WHERE a.attrelid = o.refobjid AND a.attnum = o.refobjsubid AND k.relkind IN ('r', 'p', 'f') AND k.relpersistence <> 't') c(name)
     WHERE r.relkind = 'S'";

/// OR REPLACE takes a view's options away where it does not name them.
const VIEWS: &str = "
    SELECT CASE r.relkind WHEN 'v' THEN 'view' ELSE 'materialized_view' END, r.name, NULL, d.definition,
           format(CASE r.relkind WHEN 'v' THEN 'CREATE VIEW %s AS %s' ELSE 'CREATE MATERIALIZED VIEW %s AS %s WITH NO DATA' END, r.name, d.definition),
           CASE r.relkind WHEN 'v' THEN format('CREATE OR REPLACE VIEW %s%s AS %s', r.name, d.options, d.definition) END,
           format('DROP %s %s', r.word, r.name),
           (SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), (SELECT o.collname FROM pg_collation o WHERE o.oid = a.attcollation)) || ', ', '' ORDER BY a.attnum)
              FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0)
      FROM rel r CROSS JOIN LATERAL (
        SELECT rtrim(btrim(pg_get_viewdef(r.oid)), ';'),
               (SELECT ' WITH (' || string_agg(quote_ident(option_name) || ' = ' || quote_literal(option_value), ', ') || ')' FROM pg_options_to_table(r.reloptions))) d(definition, options)
     WHERE r.relkind IN ('v', 'm')";

const FUNCTIONS: &str = "
    SELECT 'function', p.name, NULL, d.definition, d.definition, d.definition, format('DROP %s %s', p.word, p.signature),
           (SELECT concat_ws(' ', p.word, f.proretset, format_type(f.prorettype, NULL), f.proargnames::text, f.proargmodes::text, f.proallargtypes::regtype[]::text) || '; ' || repeat('default ', f.pronargdefaults) FROM pg_proc f WHERE f.oid = p.oid)
      FROM fun p CROSS JOIN LATERAL (SELECT btrim(pg_get_functiondef(p.oid), E' \\n')) d(definition) WHERE p.kind <> 'a'";

pub(super) const AGGREGATES: &str = "
    SELECT 'aggregate', p.name, NULL, d.definition, format('CREATE AGGREGATE %s (%s)', p.name, d.definition), format('CREATE OR REPLACE AGGREGATE %s (%s)', p.name, d.definition), format('DROP AGGREGATE %s', p.name),
           (SELECT format_type(f.prorettype, NULL) || ';' FROM pg_proc f WHERE f.oid = p.oid)
      FROM fun p JOIN pg_aggregate a ON a.aggfnoid = p.oid CROSS JOIN LATERAL (SELECT concat_ws(', ', 'SFUNC = ' || a.aggtransfn, 'STYPE = ' || format_type(a.aggtranstype, NULL),
               'SSPACE = ' || nullif(a.aggtransspace, 0), 'FINALFUNC = ' || CASE WHEN a.aggfinalfn::oid <> 0 THEN a.aggfinalfn::text END, CASE WHEN a.aggfinalextra THEN 'FINALFUNC_EXTRA' END,
               'FINALFUNC_MODIFY = ' || CASE to_jsonb(a) ->> 'aggfinalmodify' WHEN CASE a.aggkind WHEN 'n' THEN 'r' ELSE 'w' END THEN NULL WHEN 'r' THEN 'READ_ONLY' WHEN 's' THEN 'SHAREABLE' WHEN 'w' THEN 'READ_WRITE' END,
               'COMBINEFUNC = ' || CASE WHEN a.aggcombinefn::oid <> 0 THEN a.aggcombinefn::text END, 'SERIALFUNC = ' || CASE WHEN a.aggserialfn::oid <> 0 THEN a.aggserialfn::text END,
               'DESERIALFUNC = ' || CASE WHEN a.aggdeserialfn::oid <> 0 THEN a.aggdeserialfn::text END, 'INITCOND = ' || quote_literal(a.agginitval),
               'MSFUNC = ' || CASE WHEN a.aggmtransfn::oid <> 0 THEN a.aggmtransfn::text END, 'MINVFUNC = ' || CASE WHEN a.aggminvtransfn::oid <> 0 THEN a.aggminvtransfn::text END,
               'MSTYPE = ' || CASE WHEN a.aggmtranstype <> 0 THEN format_type(a.aggmtranstype, NULL) END, 'MSSPACE = ' || nullif(a.aggmtransspace, 0), CASE WHEN a.aggmfinalextra THEN 'MFINALFUNC_EXTRA' END, 'MFINALFUNC = ' || CASE WHEN a.aggmfinalfn::oid <> 0 THEN a.aggmfinalfn::text END,
               'MINITCOND = ' || quote_literal(a.aggminitval),
               'SORTOP = ' || CASE WHEN a.aggsortop <> 0 THEN a.aggsortop::regoper::text END, 'PARALLEL = ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' END,
               CASE a.aggkind WHEN 'h' THEN 'HYPOTHETICAL' END)) d(definition)";

/// Its estimators are all that every version can change.
pub(super) const OPERATORS: &str = "
    SELECT 'operator', format('%s.%s %s', n.q, o.oprname, g.arguments), NULL, concat_ws(', ', d.definition, e.restricted, e.joined),
           format('CREATE OPERATOR %s.%s (%s)', n.q, o.oprname, concat_ws(', ', d.definition, e.restricted, e.joined)),
           format('ALTER OPERATOR %s.%s %s SET (%s, %s)', n.q, o.oprname, g.arguments, coalesce(e.restricted, 'RESTRICT = NONE'), coalesce(e.joined, 'JOIN = NONE')),
           format('DROP OPERATOR %s.%s %s', n.q, o.oprname, g.arguments), d.definition || ';'
      FROM pg_operator o JOIN nsp n ON n.oid = o.oprnamespace
      CROSS JOIN LATERAL (SELECT format('(%s, %s)', CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END, CASE WHEN o.oprright = 0 THEN 'NONE' ELSE format_type(o.oprright, NULL) END)) g(arguments)
      CROSS JOIN LATERAL (SELECT 'RESTRICT = ' || CASE WHEN o.oprrest::oid <> 0 THEN o.oprrest::text END, 'JOIN = ' || CASE WHEN o.oprjoin::oid <> 0 THEN o.oprjoin::text END) e(restricted, joined)
      CROSS JOIN LATERAL (SELECT concat_ws(', ', 'PROCEDURE = ' || o.oprcode, 'LEFTARG = ' || CASE WHEN o.oprleft <> 0 THEN format_type(o.oprleft, NULL) END,
               'RIGHTARG = ' || CASE WHEN o.oprright <> 0 THEN format_type(o.oprright, NULL) END,
               (SELECT format('COMMUTATOR = OPERATOR(%I.%s)', m.nspname, x.oprname) FROM pg_operator x JOIN pg_namespace m ON m.oid = x.oprnamespace WHERE x.oid = o.oprcom),
               (SELECT format('NEGATOR = OPERATOR(%I.%s)', m.nspname, x.oprname) FROM pg_operator x JOIN pg_namespace m ON m.oid = x.oprnamespace WHERE x.oid = o.oprnegate),
               CASE WHEN o.oprcanhash THEN 'HASHES' END, CASE WHEN o.oprcanmerge THEN 'MERGES' END)) d(definition)
     WHERE o.oprcode::oid <> 0 AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_operator'::regclass AND ext.objid = o.oid)";

/// A family's own members are those that no class of it brings.
pub(super) const OPERATOR_CLASSES: &str = "
    SELECT 'operator_class', format('%s.%I using %I', n.q, o.opcname, m.amname), NULL, d.definition,
           format('CREATE OPERATOR CLASS %s.%I %s', n.q, o.opcname, d.definition), NULL, format('DROP OPERATOR CLASS %s.%I USING %I', n.q, o.opcname, m.amname), NULL
      FROM pg_opclass o JOIN nsp n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
      JOIN pg_opfamily f ON f.oid = o.opcfamily JOIN pg_namespace fn ON fn.oid = f.opfnamespace
      CROSS JOIN LATERAL (SELECT concat_ws(', ', concat_ws(', ',
               (SELECT string_agg(format('OPERATOR %s %s%s', x.amopstrategy, x.amopopr::regoperator, (SELECT format(' FOR ORDER BY %I.%I', sn.nspname, sf.opfname) FROM pg_opfamily sf JOIN pg_namespace sn ON sn.oid = sf.opfnamespace WHERE sf.oid = x.amopsortfamily)), ', ' ORDER BY x.amopstrategy, x.amopopr::regoperator::text COLLATE \"C\")
                  FROM pg_amop x JOIN pg_depend p ON p.classid = 'pg_amop'::regclass AND p.objid = x.oid WHERE p.refclassid = 'pg_opclass'::regclass AND p.refobjid = o.oid),
               (SELECT string_agg(format('FUNCTION %s (%s, %s) %s', x.amprocnum, format_type(x.amproclefttype, NULL), format_type(x.amprocrighttype, NULL), x.amproc::regprocedure), ', ' ORDER BY x.amprocnum, x.amproc::regprocedure::text COLLATE \"C\")
                  FROM pg_amproc x JOIN pg_depend p ON p.classid = 'pg_amproc'::regclass AND p.objid = x.oid WHERE p.refclassid = 'pg_opclass'::regclass AND p.refobjid = o.oid)), 'STORAGE ' || CASE WHEN o.opckeytype <> 0 THEN format_type(o.opckeytype, NULL) END)) i(items)
      CROSS JOIN LATERAL (SELECT format('%sFOR TYPE %s USING %I FAMILY %I.%I AS %s', CASE WHEN o.opcdefault THEN 'DEFAULT ' END, format_type(o.opcintype, NULL), m.amname, fn.nspname, f.opfname,
               coalesce(nullif(i.items, ''), 'STORAGE ' || format_type(o.opcintype, NULL)))) d(definition)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_opclass'::regclass AND ext.objid = o.oid)
    UNION ALL
    SELECT 'operator_family', format('%s.%I using %I', n.q, o.opfname, m.amname), NULL, i.items,
           format('CREATE OPERATOR FAMILY %s.%I USING %I', n.q, o.opfname, m.amname) || coalesce(format('; ALTER OPERATOR FAMILY %s.%I USING %I ADD ', n.q, o.opfname, m.amname) || i.items, ''),
           NULL, format('DROP OPERATOR FAMILY %s.%I USING %I', n.q, o.opfname, m.amname), NULL
      FROM pg_opfamily o JOIN nsp n ON n.oid = o.opfnamespace JOIN pg_am m ON m.oid = o.opfmethod CROSS JOIN LATERAL (SELECT nullif(concat_ws(', ',
               (SELECT string_agg(format('OPERATOR %s %s%s', x.amopstrategy, x.amopopr::regoperator, (SELECT format(' FOR ORDER BY %I.%I', sn.nspname, sf.opfname) FROM pg_opfamily sf JOIN pg_namespace sn ON sn.oid = sf.opfnamespace WHERE sf.oid = x.amopsortfamily)), ', ' ORDER BY x.amopstrategy, x.amopopr::regoperator::text COLLATE \"C\")
                  FROM pg_amop x JOIN pg_depend p ON p.classid = 'pg_amop'::regclass AND p.objid = x.oid WHERE p.refclassid = 'pg_opfamily'::regclass AND p.refobjid = o.oid),
               (SELECT string_agg(format('FUNCTION %s (%s, %s) %s', x.amprocnum, format_type(x.amproclefttype, NULL), format_type(x.amprocrighttype, NULL), x.amproc::regprocedure), ', ' ORDER BY x.amprocnum, x.amproc::regprocedure::text COLLATE \"C\")
                  FROM pg_amproc x JOIN pg_depend p ON p.classid = 'pg_amproc'::regclass AND p.objid = x.oid WHERE p.refclassid = 'pg_opfamily'::regclass AND p.refobjid = o.oid)), '')) i(items)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_opfamily'::regclass AND ext.objid = o.oid)";

pub(super) const CASTS: &str = "
    SELECT 'cast', format('%s as %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)), NULL, d.definition,
           format('CREATE CAST (%s AS %s) %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL), d.definition),
           NULL,
           format('DROP CAST (%s AS %s)', format_type(c.castsource, NULL), format_type(c.casttarget, NULL))
      FROM pg_cast c CROSS JOIN LATERAL (SELECT concat_ws(' ', CASE c.castmethod WHEN 'f' THEN 'WITH FUNCTION ' || c.castfunc::regprocedure WHEN 'i' THEN 'WITH INOUT' ELSE 'WITHOUT FUNCTION' END,
               CASE c.castcontext WHEN 'a' THEN 'AS ASSIGNMENT' WHEN 'i' THEN 'AS IMPLICIT' END)) d(definition)
     WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_cast'::regclass AND ext.objid = c.oid)
       AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = c.casttarget AND t.typtype = 'm')";

pub(super) const COLLATIONS: &str = "
    SELECT 'collation', format('%s.%I', n.q, c.collname), NULL, d.definition, format('CREATE COLLATION %s.%I (%s)', n.q, c.collname, d.definition), NULL, format('DROP COLLATION %s.%I', n.q, c.collname)
      FROM pg_collation c JOIN nsp n ON n.oid = c.collnamespace CROSS JOIN LATERAL (SELECT CASE c.collprovider WHEN 'c' THEN format('LC_COLLATE = %L, LC_CTYPE = %L', c.collcollate, c.collctype)
               ELSE concat_ws(', ', format('PROVIDER = %s, LOCALE = %L', CASE c.collprovider WHEN 'i' THEN 'icu' ELSE 'builtin' END, coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'collcollate')),
                              CASE WHEN to_jsonb(c) ->> 'collisdeterministic' = 'false' THEN 'DETERMINISTIC = false' END,
                              'RULES = ' || quote_literal(coalesce(to_jsonb(c) ->> 'collicurules', to_jsonb(c) ->> 'collrules'))) END) d(definition)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_collation'::regclass AND ext.objid = c.oid)
    UNION ALL
    SELECT 'conversion', format('%s.%I', n.q, c.conname), NULL, concat_ws(' ', CASE WHEN c.condefault THEN 'DEFAULT' END, d.definition), format('CREATE %sCONVERSION %s.%I %s', CASE WHEN c.condefault THEN 'DEFAULT ' ELSE '' END, n.q, c.conname, d.definition), NULL, format('DROP CONVERSION %s.%I', n.q, c.conname)
      FROM pg_conversion c JOIN nsp n ON n.oid = c.connamespace CROSS JOIN LATERAL (SELECT format('FOR %L TO %L FROM %s', pg_encoding_to_char(c.conforencoding), pg_encoding_to_char(c.contoencoding), c.conproc)) d(definition)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_conversion'::regclass AND ext.objid = c.oid)";

/// Token types by their names. DROP MAPPING IF EXISTS names them all: what the subscriber has need not be known.
pub(super) const TEXT_SEARCH: &str = "
    SELECT 'text_search', format('configuration %s.%I', n.q, c.cfgname), NULL, concat_ws(' ', p.name, (SELECT string_agg(m.token || ' ' || m.dictionaries, ', ' ORDER BY m.tokid) FROM (SELECT m.maptokentype AS tokid, (SELECT quote_ident(k.alias) FROM ts_token_type(c.cfgparser) k WHERE k.tokid = m.maptokentype) AS token, string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS dictionaries
                           FROM pg_ts_config_map m WHERE m.mapcfg = c.oid GROUP BY m.maptokentype) m)),
           format('CREATE TEXT SEARCH CONFIGURATION %s.%I (PARSER = %s)', n.q, c.cfgname, p.name) || coalesce('; ' || a.added, ''),
           concat_ws('; ', (SELECT format('ALTER TEXT SEARCH CONFIGURATION %s.%I DROP MAPPING IF EXISTS FOR %s', n.q, c.cfgname, string_agg(quote_ident(k.alias), ', ' ORDER BY k.tokid)) FROM ts_token_type(c.cfgparser) k), a.added),
           format('DROP TEXT SEARCH CONFIGURATION %s.%I', n.q, c.cfgname), p.name || ';'
      FROM pg_ts_config c JOIN nsp n ON n.oid = c.cfgnamespace JOIN (SELECT x.oid, format('%I.%I', m.nspname, x.prsname) FROM pg_ts_parser x JOIN pg_namespace m ON m.oid = x.prsnamespace) p(oid, name) ON p.oid = c.cfgparser
      CROSS JOIN LATERAL (SELECT string_agg(format('ALTER TEXT SEARCH CONFIGURATION %s.%I ADD MAPPING FOR %s WITH %s', n.q, c.cfgname, m.token, m.dictionaries), '; ' ORDER BY m.tokid) FROM (SELECT m.maptokentype AS tokid, (SELECT quote_ident(k.alias) FROM ts_token_type(c.cfgparser) k WHERE k.tokid = m.maptokentype) AS token, string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS dictionaries
                           FROM pg_ts_config_map m WHERE m.mapcfg = c.oid GROUP BY m.maptokentype) m) a(added)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_ts_config'::regclass AND ext.objid = c.oid)
    UNION ALL
    SELECT 'text_search', format('dictionary %s.%I', n.q, d.dictname), NULL, concat_ws(', ', t.name, d.dictinitoption), format('CREATE TEXT SEARCH DICTIONARY %s.%I (TEMPLATE = %s)', n.q, d.dictname, concat_ws(', ', t.name, d.dictinitoption)),
           format('ALTER TEXT SEARCH DICTIONARY %s.%I', n.q, d.dictname),
           format('DROP TEXT SEARCH DICTIONARY %s.%I', n.q, d.dictname), t.name || ';'
      FROM pg_ts_dict d JOIN nsp n ON n.oid = d.dictnamespace JOIN (SELECT x.oid, format('%I.%I', m.nspname, x.tmplname) AS name FROM pg_ts_template x JOIN pg_namespace m ON m.oid = x.tmplnamespace) t ON t.oid = d.dicttemplate
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_ts_dict'::regclass AND ext.objid = d.oid)
    UNION ALL
    SELECT 'text_search', format('parser %s.%I', n.q, p.prsname), NULL, f.functions, format('CREATE TEXT SEARCH PARSER %s.%I (%s)', n.q, p.prsname, f.functions), NULL, format('DROP TEXT SEARCH PARSER %s.%I', n.q, p.prsname), NULL
      FROM pg_ts_parser p JOIN nsp n ON n.oid = p.prsnamespace CROSS JOIN LATERAL (SELECT concat_ws(', ', 'START = ' || p.prsstart, 'GETTOKEN = ' || p.prstoken, 'END = ' || p.prsend, 'HEADLINE = ' || nullif(p.prsheadline, 0)::regproc, 'LEXTYPES = ' || p.prslextype)) f(functions)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_ts_parser'::regclass AND ext.objid = p.oid)
    UNION ALL
    SELECT 'text_search', format('template %s.%I', n.q, m.tmplname), NULL, f.functions, format('CREATE TEXT SEARCH TEMPLATE %s.%I (%s)', n.q, m.tmplname, f.functions), NULL, format('DROP TEXT SEARCH TEMPLATE %s.%I', n.q, m.tmplname), NULL
      FROM pg_ts_template m JOIN nsp n ON n.oid = m.tmplnamespace CROSS JOIN LATERAL (SELECT concat_ws(', ', 'INIT = ' || nullif(m.tmplinit, 0)::regproc, 'LEXIZE = ' || m.tmpllexize)) f(functions)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_ts_template'::regclass AND ext.objid = m.oid)";

/// Options of user mappings, which hold passwords, are not looked at.
pub(super) const FOREIGN: &str = "
    SELECT 'foreign_data_wrapper', quote_ident(w.fdwname), NULL, h.functions, format('CREATE FOREIGN DATA WRAPPER %I %s%s', w.fdwname, h.functions, (SELECT ' OPTIONS (' || string_agg(quote_ident(option_name) || ' ' || quote_literal(option_value), ', ') || ')' FROM pg_options_to_table(w.fdwoptions))),
           format('ALTER FOREIGN DATA WRAPPER %I %s', w.fdwname, h.functions), format('DROP FOREIGN DATA WRAPPER %I', w.fdwname), NULL
      FROM pg_foreign_data_wrapper w CROSS JOIN LATERAL (SELECT concat_ws(' ', coalesce('HANDLER ' || nullif(w.fdwhandler, 0)::regproc, 'NO HANDLER'), coalesce('VALIDATOR ' || nullif(w.fdwvalidator, 0)::regproc, 'NO VALIDATOR'))) h(functions)
     WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_foreign_data_wrapper'::regclass AND ext.objid = w.oid)
    UNION ALL
    SELECT 'foreign_server', quote_ident(s.srvname), NULL, concat_ws(' ', 'TYPE ' || quote_literal(s.srvtype), 'VERSION ' || quote_literal(s.srvversion), 'FOREIGN DATA WRAPPER ' || quote_ident(w.fdwname)),
           format('CREATE SERVER %I%s%s FOREIGN DATA WRAPPER %I%s', s.srvname, ' TYPE ' || quote_literal(s.srvtype), ' VERSION ' || quote_literal(s.srvversion), w.fdwname, (SELECT ' OPTIONS (' || string_agg(quote_ident(option_name) || ' ' || quote_literal(option_value), ', ') || ')' FROM pg_options_to_table(s.srvoptions))),
           format('ALTER SERVER %I VERSION %L', s.srvname, s.srvversion),
           format('DROP SERVER %I', s.srvname), concat_ws(' ', s.srvtype, w.fdwname || ';')
      FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_foreign_server'::regclass AND ext.objid = s.oid)
    UNION ALL
    SELECT 'user_mapping', format('for %s on %I', u.whose, u.srvname), quote_ident(u.srvname), '', NULL, NULL, format('DROP USER MAPPING FOR %s SERVER %I', u.whose, u.srvname), NULL
      FROM (SELECT srvname, CASE umuser WHEN 0 THEN 'PUBLIC' ELSE quote_ident(usename) END AS whose FROM pg_user_mappings) u
    UNION ALL
    SELECT 'foreign_options', o.object, o.parent, o.options, format('%s OPTIONS (%s)', o.changing, o.options), o.changing, format('%s OPTIONS (%s)', o.changing, o.dropped), NULL
      FROM (SELECT format('FOREIGN DATA WRAPPER %I', w.fdwname), quote_ident(w.fdwname), format('ALTER FOREIGN DATA WRAPPER %I', w.fdwname), w.fdwoptions
              FROM pg_foreign_data_wrapper w WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_foreign_data_wrapper'::regclass AND ext.objid = w.oid)
            UNION ALL SELECT format('SERVER %I', s.srvname), quote_ident(s.srvname), format('ALTER SERVER %I', s.srvname), s.srvoptions
              FROM pg_foreign_server s WHERE NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_foreign_server'::regclass AND ext.objid = s.oid)
            UNION ALL SELECT 'FOREIGN TABLE ' || r.name, r.name, 'ALTER FOREIGN TABLE ' || r.name, f.ftoptions FROM rel r JOIN pg_foreign_table f ON f.ftrelid = r.oid
            UNION ALL SELECT format('COLUMN %s.%I', r.name, a.attname), format('%s.%I', r.name, a.attname), format('ALTER FOREIGN TABLE %s ALTER COLUMN %I', r.name, a.attname), a.attfdwoptions
              FROM pg_attribute a JOIN rel r ON r.oid = a.attrelid WHERE NOT a.attisdropped AND a.attfdwoptions IS NOT NULL) x(object, parent, changing, list)
      CROSS JOIN LATERAL (SELECT x.object, x.parent, x.changing, (SELECT string_agg(quote_ident(option_name) || ' ' || quote_literal(option_value), ', ' ORDER BY option_name COLLATE \"C\") FROM pg_options_to_table(x.list)),
                                 (SELECT string_agg('DROP ' || quote_ident(option_name), ', ') FROM pg_options_to_table(x.list))) o(object, parent, changing, options, dropped)
     WHERE x.list <> '{}'";

/// Those that flare makes call functions of its own schema.
pub(super) const EVENT_TRIGGERS: &str = "
    SELECT 'event_trigger', quote_ident(e.evtname), NULL, d.definition, concat_ws('; ', format('CREATE EVENT TRIGGER %I %s', e.evtname, d.made), d.enabled),
           NULL, format('DROP EVENT TRIGGER %I', e.evtname)
      FROM pg_event_trigger e CROSS JOIN LATERAL (SELECT concat_ws(' ', 'ON', e.evtevent, 'WHEN TAG IN (' || (SELECT string_agg(quote_literal(t), ', ' ORDER BY t) FROM unnest(e.evttags) t) || ')',
               'EXECUTE PROCEDURE', e.evtfoid::regprocedure)) m(made)
      CROSS JOIN LATERAL (SELECT concat_ws(' ', m.made, CASE e.evtenabled WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always' WHEN 'R' THEN 'enabled replica' END), m.made,
               format('ALTER EVENT TRIGGER %I %s', e.evtname, CASE e.evtenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END)) d(definition, made, enabled)
     WHERE e.evtfoid NOT IN (SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'flare')
       AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_event_trigger'::regclass AND ext.objid = e.oid)";

pub(super) const LANGUAGES: &str = "
    SELECT 'language', quote_ident(l.lanname), NULL, d.definition, format('CREATE %sLANGUAGE %I%s', CASE WHEN l.lanpltrusted THEN 'TRUSTED ' END, l.lanname, ' ' || d.functions), NULL, format('DROP LANGUAGE %I', l.lanname)
      FROM pg_language l CROSS JOIN LATERAL (SELECT concat_ws(' ', 'HANDLER ' || nullif(l.lanplcallfoid, 0)::regproc, 'INLINE ' || nullif(l.laninline, 0)::regproc, 'VALIDATOR ' || nullif(l.lanvalidator, 0)::regproc)) f(functions)
      CROSS JOIN LATERAL (SELECT concat_ws(' ', CASE WHEN l.lanpltrusted THEN 'TRUSTED' END, f.functions), f.functions) d(definition, functions)
     WHERE l.oid >= 16384 AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_language'::regclass AND ext.objid = l.oid)
    UNION ALL
    SELECT 'transform', format('for %s language %I', format_type(f.trftype, NULL), l.lanname), NULL, d.definition, format('CREATE TRANSFORM FOR %s LANGUAGE %I (%s)', format_type(f.trftype, NULL), l.lanname, d.definition), NULL,
           format('DROP TRANSFORM FOR %s LANGUAGE %I', format_type(f.trftype, NULL), l.lanname)
      FROM pg_transform f JOIN pg_language l ON l.oid = f.trflang
      CROSS JOIN LATERAL (SELECT concat_ws(', ', 'FROM SQL WITH FUNCTION ' || nullif(f.trffromsql, 0)::regprocedure, 'TO SQL WITH FUNCTION ' || nullif(f.trftosql, 0)::regprocedure)) d(definition)
     WHERE f.oid >= 16384 AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_transform'::regclass AND ext.objid = f.oid)
    UNION ALL
    SELECT 'access_method', quote_ident(m.amname), NULL, d.definition, format('CREATE ACCESS METHOD %I %s', m.amname, d.definition), NULL, format('DROP ACCESS METHOD %I', m.amname)
      FROM pg_am m CROSS JOIN LATERAL (SELECT format('TYPE %s HANDLER %s', CASE m.amtype WHEN 't' THEN 'TABLE' ELSE 'INDEX' END, m.amhandler)) d(definition)
     WHERE m.oid >= 16384 AND NOT EXISTS (SELECT FROM ext WHERE ext.classid = 'pg_am'::regclass AND ext.objid = m.oid)";
