-- What a statement computes anew on the other side, where it may come to other values: refused, or corrected there.

-- Whether there is a word that stands for the time at which it is read.
CREATE OR REPLACE FUNCTION flare.ddl_reads_time(statement text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $f$
    SELECT statement OPERATOR(pg_catalog.~*) '''\s*(now|today|tomorrow|yesterday)\s*'''
$f$;

-- Functions that a statement calls, by their names, and that have another value there or may have: those of users that are
-- stable may read the time or a setting; those in C that are, as unaccent, read dictionaries.
CREATE OR REPLACE FUNCTION flare.ddl_calls_another(plain text) RETURNS SETOF oid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
           CROSS JOIN LATERAL (SELECT lower(replace(p.proname, '"', '""'))) it(name)
     WHERE (p.provolatile = 'v' OR p.provolatile = 's' AND p.oid >= '16384' AND l.lanname NOT IN ('c', 'internal'))
       AND strpos(plain, it.name) > 0
       AND plain ~ ('(^|[^[:alnum:]_$\u0080-\uffff])' || regexp_replace(it.name, '(\W)', '\\\1', 'g') || '"?\s*\(')
$f$;

-- Functions of users that a text calls by their names, and whose own text can be read.
CREATE OR REPLACE FUNCTION flare.ddl_calls_own(plain text) RETURNS SETOF oid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang CROSS JOIN LATERAL (SELECT lower(replace(p.proname, '"', '""'))) it(name)
     WHERE p.oid >= '16384' AND l.lanname IN ('sql', 'plpgsql') AND strpos(plain, it.name) > 0
       AND plain ~ ('(^|[^[:alnum:]_$\u0080-\uffff])' || regexp_replace(it.name, '(\W)', '\\\1', 'g') || '"?\s*\(')
$f$;

-- Whether there is a word, or a call of a function, that has another value on the other side or a moment later, and is not volatile.
CREATE OR REPLACE FUNCTION flare.ddl_differs_elsewhere(plain text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT plain ~* '\m((current_timestamp|current_date|current_time|localtime|localtimestamp|session_user|system_user|current_catalog)\M|(now|statement_timestamp|transaction_timestamp|txid_current|pg_current_xact_id|age|current_setting|current_database|version|pg_backend_pid|inet_(client|server)_(addr|port)|pg_postmaster_start_time|pg_conf_load_time)"?\s*\()'
$f$;

-- Whether a function is declared as what it is not, as far as its text tells, and that of what it calls.
CREATE OR REPLACE FUNCTION flare.ddl_pretends(function oid, depth int) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    -- What is written in SQL's own syntax, from 14 on, is a tree.
    tree text;
    body text;
BEGIN
    SELECT to_jsonb(p) ->> 'prosqlbody', lower(regexp_replace(p.prosrc, '''([^'']|'''')*''|--[^\n]*|/\*([^*]|\*+[^*/])*\*+/', ' ', 'g')) INTO tree, body
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = function AND l.lanname IN ('sql', 'plpgsql');
    IF tree IS NOT NULL THEN
        RETURN tree ~ 'SQLVALUEFUNCTION' OR flare.ddl_volatility(tree, depth) <> 'i';
    END IF;
    -- What is not declared at all is volatile: a function whose text can be read is judged by that.
    RETURN coalesce(flare.ddl_differs_elsewhere(body), false)
        OR EXISTS (SELECT flare.ddl_calls_another(body) EXCEPT SELECT flare.ddl_calls_own(body))
        OR depth > 0 AND EXISTS (SELECT FROM flare.ddl_calls_own(body) own WHERE own <> function AND flare.ddl_pretends(own, depth - 1));
END $f$;

-- Functions that a default calls and that are not immutable; the worst of them.
CREATE OR REPLACE FUNCTION flare.ddl_volatility(expression text, depth int) RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN (SELECT coalesce(max(CASE WHEN p.provolatile = 'i' AND p.oid >= '16384' AND depth > 0 AND flare.ddl_pretends(p.oid, depth - 1) THEN 'v' ELSE p.provolatile::text END), 'i')
              FROM pg_proc p WHERE p.oid = ANY (array(SELECT (regexp_matches(expression, ':(?:funcid|opfuncid) (\d+)', 'g'))[1]::oid)));
END $f$;

-- What a new column would get other values for on the other side: refused, or corrected there.
CREATE OR REPLACE FUNCTION flare.ddl_values(tables oid[], statement text, OUT fix jsonb, OUT refused text, OUT hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    c record;
    has_rows boolean;
    missing text;
    sequence text;
BEGIN
    fix := '[]';
    -- A column that was there before looks the same when its default is set, or when the table is rewritten: whether it is new
    -- is in the words, and on the other side in the table as it was before the statement.
    FOR c IN
        SELECT *, identity OR tree ~ 'SQLVALUEFUNCTION' OR flare.ddl_volatility(tree, 3) <> 'i'
                      -- The oid of an object.
                      OR kind = 'oid' AND tree ~ ':consttype (24|2202|2203|2204|2205|2206|3734|3769|4089|4096|4191) ' AS differs
          FROM (
            SELECT a.attrelid, a.attname, a.attidentity <> '' AS identity, format_type(a.atttypid, a.atttypmod) AS kind,
                   coalesce((to_jsonb(a) ->> 'atthasmissing')::boolean, false) AS stored,
                   coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '' AS generated,
                   coalesce(pg_get_expr(d.adbin, d.adrelid), pg_get_expr(t.typdefaultbin, 0)) AS expression,
                   coalesce(d.adbin, t.typdefaultbin)::text AS tree,
                   r.relkind = 'p' OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = a.attrelid) AS above,
                   statement ~* '\madd\M' AND (statement ~* 'u&"|--|/\*' OR statement ~*
                       ('\madd\s+(column\s+)?(if\s+not\s+exists\s+)?"?' || regexp_replace(replace(a.attname, '"', '""'), '(\W)', '\\\1', 'g') || '"?\s')) AS added,
                   flare.ddl_reads_time(statement) AND t.typcategory = 'D'
                       AND coalesce(coalesce(d.adbin, t.typdefaultbin)::text !~ 'FUNCEXPR|SQLVALUEFUNCTION', false) AS a_time
              FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
              LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = ANY (tables) AND a.attnum > 0 AND NOT a.attisdropped AND age(a.xmin) <= 0 AND flare.ddl_own(a.xmin)
               AND (strpos(lower(statement), lower(replace(a.attname, '"', '""'))) > 0 OR statement ~* 'u&"')
               AND (a.attidentity <> '' OR coalesce(d.adbin, t.typdefaultbin) IS NOT NULL)
            OFFSET 0) own
    LOOP
        IF c.a_time THEN
            refused := format('the default of column %I is a word for a time, which is read when the statement is run', c.attname);
            hint := 'now() and current_date are read when a row is written.';
        ELSIF c.generated THEN
            -- Each side computes it, for each row that is written.
            IF c.differs AND (c.added OR flare.ddl_plain(statement) ~* '^\s*create\M') THEN
                refused := format('column %I is computed by a function that is declared IMMUTABLE and is not: rows would get other values on the subscriber', c.attname);
                hint := 'A column that is none of these, written by a trigger, replicates.';
            END IF;
        -- The value of any function of a user's, too.
        ELSIF c.stored AND NOT c.above AND c.added AND (c.differs OR c.tree ~ ':(funcid|opfuncid) (1638[4-9]|1639\d|16[4-9]\d\d|1[7-9]\d{3}|[2-9]\d{4}|\d{6,}) ') THEN
            EXECUTE format('SELECT (attmissingval::text::text[])[1] FROM pg_attribute WHERE attrelid = %s AND attname = %L', c.attrelid, c.attname) INTO missing;
            fix := fix || jsonb_build_object('table', c.attrelid::regclass::text, 'column', c.attname,
                'sql', format('UPDATE ONLY %s SET %I = %L::%s', c.attrelid::regclass, c.attname, missing, c.kind));
        ELSIF c.differs AND c.added AND (c.above OR coalesce(current_setting('flare.rewritten', true), '') ~ (',' || c.attrelid || ':[2367]')) THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', c.attrelid::regclass) INTO has_rows;
            IF has_rows THEN
                refused := format('column %I would get other values on the subscriber', c.attname);
                sequence := pg_get_serial_sequence(c.attrelid::regclass::text, c.attname);
                hint := CASE
                    WHEN c.identity THEN format('In these statements: ALTER TABLE %1$s ADD COLUMN %2$I %3$s; UPDATE %1$s SET %2$I = numbered.n FROM (SELECT ctid AS at, row_number() OVER () AS n FROM %1$s) numbered WHERE ctid = numbered.at; ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL; ALTER TABLE %1$s ALTER COLUMN %2$I ADD GENERATED BY DEFAULT AS IDENTITY; SELECT setval(pg_get_serial_sequence(%4$L, %5$L), max(%2$I)) FROM %1$s.',
                        c.attrelid::regclass, c.attname, c.kind, c.attrelid::regclass, c.attname)
                    WHEN sequence IS NOT NULL THEN format('In these statements: CREATE SEQUENCE %4$s; ALTER TABLE %1$s ADD COLUMN %2$I %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I SET DEFAULT nextval(%4$L); UPDATE %1$s SET %2$I = nextval(%4$L); ALTER SEQUENCE %4$s OWNED BY %1$s.%2$I.',
                        c.attrelid::regclass, c.attname, c.kind, sequence)
                    ELSE format('In three statements: ALTER TABLE %1$s ADD COLUMN %2$I %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I SET DEFAULT %4$s; UPDATE %1$s SET %2$I = %4$s.',
                        c.attrelid::regclass, c.attname, c.kind, coalesce(c.expression, '...'))
                END;
            END IF;
        END IF;
    END LOOP;
    IF refused IS NULL AND statement ~* '\musing\M' AND coalesce(current_setting('flare.rewritten', true), '') ~ ':[4567]'
       AND (statement ~* '\musing\M.*''\s*(now|today|tomorrow|yesterday)\s*'''
            OR flare.ddl_differs_elsewhere(substring(lower(flare.ddl_plain(statement)) FROM '\musing\M.*'))
            -- Names that are written in another way may be any.
            OR statement ~* '\musing\M.*u&"'
            OR EXISTS (SELECT FROM flare.ddl_calls_another(lower(flare.ddl_plain(statement))))
            OR EXISTS (SELECT FROM flare.ddl_calls_own(lower(flare.ddl_plain(statement))) own WHERE flare.ddl_pretends(own, 2))) THEN
        refused := 'USING calls a function that has another value there: rows would get other values on the subscriber';
        hint := 'In three statements: ADD COLUMN of the new type; UPDATE; then DROP COLUMN and RENAME COLUMN.';
    END IF;
END $f$;

-- Foreign keys of several columns, which PostgreSQL before 12 names by the first column and later ones by all: renamed on
-- the other side to what they are called here.
CREATE OR REPLACE FUNCTION flare.ddl_names(tables oid[]) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT coalesce(jsonb_agg(jsonb_build_object('sql', format(
               'DO $flare$ DECLARE named name; BEGIN
                  SELECT conname INTO named FROM pg_catalog.pg_constraint
                   WHERE contype = ''f'' AND conrelid = %1$L::pg_catalog.regclass AND confrelid = %2$L::pg_catalog.regclass
                     AND array(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY k(n, o)
                                 JOIN pg_catalog.pg_attribute a ON a.attrelid = conrelid AND a.attnum = n ORDER BY o) = %3$L::text[]
                   ORDER BY conname <> %4$L, oid DESC LIMIT 1;
                  IF named <> %4$L THEN
                    EXECUTE format(''ALTER TABLE %%s RENAME CONSTRAINT %%I TO %%I'', %1$L::pg_catalog.regclass, named, %4$L);
                  END IF;
                END $flare$',
               k.conrelid::regclass, k.confrelid::regclass,
               array(SELECT attname::text FROM unnest(k.conkey) WITH ORDINALITY c(n, o)
                       JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n ORDER BY o),
               k.conname)) ORDER BY k.oid), '[]')
      FROM pg_constraint k
     WHERE k.contype = 'f' AND k.conrelid = ANY (tables) AND array_length(k.conkey, 1) > 1
       AND age(k.xmin) <= 0 AND flare.ddl_own(k.xmin) AND coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0'
$f$;

-- DETACH PARTITION ... CONCURRENTLY leaves a CHECK in place of the partition's bounds, made in its first transaction: made on
-- the other side, too, where it is run without the word.
CREATE OR REPLACE FUNCTION flare.ddl_detached() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT coalesce(jsonb_agg(jsonb_build_object('sql', format(
               'DO $flare$ BEGIN
                  IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = %1$L::pg_catalog.regclass AND conname = %2$L) THEN
                    EXECUTE %3$L;
                  END IF;
                END $flare$',
               k.conrelid::regclass, k.conname,
               format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)))) ORDER BY k.oid), '[]')
      FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c'
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND age(c.xmin) <= 0 AND flare.ddl_own(c.xmin)
$f$;
