-- What a statement computes anew on the other side, where it may come to other values: refused, or corrected there.

-- Whether there is a word that stands for the time at which it is read.
CREATE OR REPLACE FUNCTION flare.ddl_reads_time(statement text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $f$
    SELECT statement OPERATOR(pg_catalog.~*) '''\s*(now|today|tomorrow|yesterday)\s*'''
$f$;

-- Names that a text calls as functions, as they may be in the catalog: looked up there by its index, since all functions of a
-- database are thousands.
CREATE OR REPLACE FUNCTION flare.ddl_called(plain text) RETURNS name[] LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF plain ~ '[[:alnum:]_$"\u0080-\uffff]\s*\(' THEN
        RETURN (SELECT coalesce(array_agg(it.name::name), '{}')
                  FROM regexp_matches(plain, '(?:"((?:[^"]|"")+)"|([[:alpha:]_\u0080-\uffff][[:alnum:]_$\u0080-\uffff]*))\s*\(', 'g') called(names)
                 CROSS JOIN LATERAL (VALUES (replace(names[1], '""', '"')), (names[2]), (lower(names[2])),
                                            (translate(names[2], 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'))) it(name)
                 WHERE it.name IS NOT NULL);
    END IF;
    RETURN '{}';
END $f$;

-- Functions that a statement calls, by their names, and that have another value there or may have: those of users that are
-- stable may read the time or a setting; those in C that are, as unaccent, read dictionaries. 12 and 13 are internal and C.
CREATE OR REPLACE FUNCTION flare.ddl_calls_another(called name[]) RETURNS oid[] LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN array(SELECT oid FROM pg_proc WHERE proname = ANY (called) AND (provolatile = 'v' OR provolatile = 's' AND oid >= '16384' AND prolang NOT IN ('12', '13')));
END $f$;

-- Functions of users that a text calls by their names, and whose own text can be read.
CREATE OR REPLACE FUNCTION flare.ddl_calls_own(called name[]) RETURNS oid[] LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN array(SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                  WHERE p.proname = ANY (called) AND p.oid >= '16384' AND l.lanname IN ('sql', 'plpgsql'));
END $f$;

-- Whether there is a word, or a call of a function, that has another value on the other side or a moment later, and is not volatile.
CREATE OR REPLACE FUNCTION flare.ddl_differs_elsewhere(plain text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN plain ~* '\m((current_timestamp|current_date|current_time|localtime|localtimestamp|session_user|system_user|current_catalog)\M|(now|statement_timestamp|transaction_timestamp|txid_current|pg_current_xact_id|age|current_setting|current_database|version|pg_backend_pid|inet_(client|server)_(addr|port)|pg_postmaster_start_time|pg_conf_load_time)"?\s*\()';
END $f$;

-- Whether a function is declared as what it is not, as far as its text tells, and that of what it calls.
CREATE OR REPLACE FUNCTION flare.ddl_pretends(function oid, depth int) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    -- What is written in SQL's own syntax, from 14 on, is a tree.
    tree text;
    body text;
    called name[];
    own oid[];
BEGIN
    SELECT to_jsonb(p) ->> 'prosqlbody', regexp_replace(p.prosrc, '''([^'']|'''')*''|--[^\n]*|/\*([^*]|\*+[^*/])*\*+/', ' ', 'g') INTO tree, body
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = function AND l.lanname IN ('sql', 'plpgsql');
    IF tree IS NOT NULL THEN
        RETURN tree ~ 'SQLVALUEFUNCTION' OR flare.ddl_volatility(tree, depth) <> 'i';
    END IF;
    called := flare.ddl_called(body);
    own := flare.ddl_calls_own(called);
    -- What is not declared at all is volatile: a function whose text can be read is judged by that.
    RETURN coalesce(flare.ddl_differs_elsewhere(body), false)
        OR NOT flare.ddl_calls_another(called) <@ own
        OR depth > 0 AND EXISTS (SELECT FROM unnest(own) one WHERE one <> function AND flare.ddl_pretends(one, depth - 1));
END $f$;

-- Functions that a default calls and that are not immutable; the worst of them.
CREATE OR REPLACE FUNCTION flare.ddl_volatility(expression text, depth int) RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF strpos(expression, 'funcid ') = 0 THEN
        RETURN 'i';
    END IF;
    RETURN (SELECT coalesce(max(CASE WHEN p.provolatile = 'i' AND p.oid >= '16384' AND depth > 0 AND flare.ddl_pretends(p.oid, depth - 1) THEN 'v' ELSE p.provolatile::text END), 'i')
              FROM pg_proc p WHERE p.oid = ANY (array(SELECT (regexp_matches(expression, ':(?:funcid|opfuncid) (\d+)', 'g'))[1]::oid)));
END $f$;

-- Whether rows of other tables are its own, too.
CREATE OR REPLACE FUNCTION flare.ddl_above(made oid) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT EXISTS (SELECT FROM pg_class WHERE oid = made AND relkind = 'p') OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = made)
$f$;

-- What a new column would get other values for on the other side: refused, or corrected there.
CREATE OR REPLACE FUNCTION flare.ddl_values(tables oid[], statement text, OUT fix jsonb, OUT refused text, OUT hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    made oid;
    c record;
    differs boolean;
    added boolean;
    has_rows boolean;
    missing text;
    kind text;
    expression text;
    sequence text;
    plain text;
    called name[];
    words CONSTANT text := lower(statement);
    -- Names that are written in another way may be any.
    escaped CONSTANT boolean := strpos(words, 'u&"') > 0;
BEGIN
    fix := '[]';
    -- A column that was there before looks the same when its default is set, or when the table is rewritten: whether it is new
    -- is in the words, and on the other side in the table as it was before the statement.
    FOR made IN SELECT DISTINCT unnest(tables) LOOP
        FOR c IN
            SELECT a.xmin AS written, a.attname, a.attidentity <> '' AS identity, a.atttypid, a.atttypmod, t.typcategory,
                   coalesce((to_jsonb(a) ->> 'atthasmissing')::boolean, false) AS stored,
                   coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '' AS generated,
                   coalesce(d.adbin, t.typdefaultbin)::text AS tree
              FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
              LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = made AND a.attnum > 0 AND NOT a.attisdropped AND age(a.xmin) <= 0
               AND (a.attidentity <> '' OR coalesce(d.adbin, t.typdefaultbin) IS NOT NULL)
        LOOP
            CONTINUE WHEN strpos(words, lower(replace(c.attname, '"', '""'))) = 0 AND NOT escaped OR NOT flare.ddl_own(c.written);
            differs := c.identity OR c.tree ~ 'SQLVALUEFUNCTION' OR flare.ddl_volatility(c.tree, 3) <> 'i'
                -- The oid of an object.
                OR c.atttypid = '26' AND c.tree ~ ':consttype (24|2202|2203|2204|2205|2206|3734|3769|4089|4096|4191) ';
            added := statement ~* '\madd\M' AND (escaped OR statement ~ '--|/\*' OR statement ~*
                ('\madd\s+(column\s+)?(if\s+not\s+exists\s+)?"?' || regexp_replace(replace(c.attname, '"', '""'), '(\W)', '\\\1', 'g') || '"?\s'));
            IF c.typcategory = 'D' AND flare.ddl_reads_time(statement) AND c.tree !~ 'FUNCEXPR|SQLVALUEFUNCTION' THEN
                refused := format('the default of column %I is a word for a time, which is read when the statement is run', c.attname);
                hint := 'now() and current_date are read when a row is written.';
            ELSIF c.generated THEN
                -- Each side computes it, for each row that is written.
                IF differs AND (added OR flare.ddl_plain(statement) ~* '^\s*create\M') THEN
                    refused := format('column %I is computed by a function that is declared IMMUTABLE and is not: rows would get other values on the subscriber', c.attname);
                    hint := 'A column that is none of these, written by a trigger, replicates.';
                END IF;
            -- The value of any function of a user's, too.
            ELSIF c.stored AND added AND (differs OR c.tree ~ ':(funcid|opfuncid) (1638[4-9]|1639\d|16[4-9]\d\d|1[7-9]\d{3}|[2-9]\d{4}|\d{6,}) ')
                  AND NOT flare.ddl_above(made) THEN
                EXECUTE format('SELECT (attmissingval::text::text[])[1] FROM pg_attribute WHERE attrelid = %s AND attname = %L', made, c.attname) INTO missing;
                fix := fix || jsonb_build_object('table', made::regclass::text, 'column', c.attname,
                    'sql', format('UPDATE ONLY %s SET %I = %L::%s', made::regclass, c.attname, missing, format_type(c.atttypid, c.atttypmod)));
            ELSIF differs AND added AND (flare.ddl_above(made) OR coalesce(current_setting('flare.rewritten', true), '') ~ (',' || made || ':[2367]')) THEN
                EXECUTE format('SELECT EXISTS (SELECT FROM %s)', made::regclass) INTO has_rows;
                IF has_rows THEN
                    refused := format('column %I would get other values on the subscriber', c.attname);
                    kind := format_type(c.atttypid, c.atttypmod);
                    expression := (SELECT coalesce(pg_get_expr(d.adbin, d.adrelid), pg_get_expr(t.typdefaultbin, 0))
                                     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                                     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                                    WHERE a.attrelid = made AND a.attname = c.attname);
                    sequence := pg_get_serial_sequence(made::regclass::text, c.attname);
                    hint := CASE
                        WHEN c.identity THEN format('In these statements: ALTER TABLE %1$s ADD COLUMN %2$I %3$s; UPDATE %1$s SET %2$I = numbered.n FROM (SELECT ctid AS at, row_number() OVER () AS n FROM %1$s) numbered WHERE ctid = numbered.at; ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL; ALTER TABLE %1$s ALTER COLUMN %2$I ADD GENERATED BY DEFAULT AS IDENTITY; SELECT setval(pg_get_serial_sequence(%4$L, %5$L), max(%2$I)) FROM %1$s.',
                            made::regclass, c.attname, kind, made::regclass, c.attname)
                        WHEN sequence IS NOT NULL THEN format('In these statements: CREATE SEQUENCE %4$s; ALTER TABLE %1$s ADD COLUMN %2$I %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I SET DEFAULT nextval(%4$L); UPDATE %1$s SET %2$I = nextval(%4$L); ALTER SEQUENCE %4$s OWNED BY %1$s.%2$I.',
                            made::regclass, c.attname, kind, sequence)
                        ELSE format('In three statements: ALTER TABLE %1$s ADD COLUMN %2$I %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I SET DEFAULT %4$s; UPDATE %1$s SET %2$I = %4$s.',
                            made::regclass, c.attname, kind, coalesce(expression, '...'))
                    END;
                END IF;
            END IF;
        END LOOP;
    END LOOP;
    IF refused IS NULL AND coalesce(current_setting('flare.rewritten', true), '') ~ ':[4567]' AND statement ~* '\musing\M' THEN
        plain := flare.ddl_plain(statement);
        called := flare.ddl_called(plain);
        IF strpos(statement, '''') > 0 AND statement ~* '\musing\M.*''\s*(now|today|tomorrow|yesterday)\s*'''
           OR flare.ddl_differs_elsewhere(substring(lower(plain) FROM '\musing\M.*'))
           OR escaped AND statement ~* '\musing\M.*u&"'
           OR called <> '{}' AND (flare.ddl_calls_another(called) <> '{}'
                OR EXISTS (SELECT FROM unnest(flare.ddl_calls_own(called)) own WHERE flare.ddl_pretends(own, 2))) THEN
            refused := 'USING calls a function that has another value there: rows would get other values on the subscriber';
            hint := 'In three statements: ADD COLUMN of the new type; UPDATE; then DROP COLUMN and RENAME COLUMN.';
        END IF;
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
