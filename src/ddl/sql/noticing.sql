-- A new session pays for each function that it meets and for each query that it plans: so a statement of the usual kind
-- meets few of them. Functions without SET are inlined; only those that pin search_path call them. What a session calls
-- directly pins standard_conforming_strings, too: the backslashes in it would be read otherwise where that is off.

-- Whether nothing is to be noticed, or flare itself is at work as one of its accounts.
CREATE OR REPLACE FUNCTION flare.ddl_bypass() RETURNS boolean LANGUAGE sql STABLE AS $f$
    SELECT flare.ddl_mode() OPERATOR(pg_catalog.=) 'off'
        OR pg_catalog.current_setting('flare.carry', true) OPERATOR(pg_catalog.=) 'off' AND pg_catalog.pg_has_role(session_user, current_user, 'MEMBER')
        OR pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.~~) 'flare/%' AND session_user::pg_catalog.text OPERATOR(pg_catalog.=) ANY (flare.ddl_accounts())
$f$;

-- Whether this side receives: closed by the fence, whose function refuses then, or subscribed.
CREATE OR REPLACE FUNCTION flare.ddl_receiving() RETURNS boolean LANGUAGE sql STABLE AS $f$
    SELECT coalesce(pg_catalog.pg_get_functiondef(pg_catalog.to_regprocedure('flare.fence()')) OPERATOR(pg_catalog.~~) '%RAISE%', false)
        OR EXISTS (SELECT FROM pg_catalog.pg_subscription
                    WHERE subenabled AND subname OPERATOR(pg_catalog.=) ANY (flare.ddl_subscriptions())
                      AND (pg_catalog.pg_identify_object(1262, subdbid, 0)).identity OPERATOR(pg_catalog.=) pg_catalog.quote_ident(pg_catalog.current_database()))
$f$;

-- Who runs it, with the settings that its text depends on: before the function that notes it, whose rights are flare's.
CREATE OR REPLACE FUNCTION flare.ddl_who() RETURNS event_trigger LANGUAGE plpgsql AS $f$
BEGIN
    -- One setting, since each that a session has not had before costs it as much as a query.
    PERFORM pg_catalog.set_config('flare.who', pg_catalog.json_build_object('role', current_user, 'settings',
        (SELECT pg_catalog.json_object_agg(name, pg_catalog.current_setting(name, true)) FROM pg_catalog.unnest(
            '{search_path, TimeZone, DateStyle, IntervalStyle, extra_float_digits, bytea_output, standard_conforming_strings, check_function_bodies,
              default_tablespace, default_table_access_method, default_toast_compression, xmlbinary, xmloption, lc_monetary, lc_numeric, lc_time, array_nulls,
              default_text_search_config, timezone_abbreviations, quote_all_identifiers, transform_null_equals}'::pg_catalog.text[]) name))::pg_catalog.text, true);
END $f$;

-- Which tables the statement rewrites, and why: pg_event_trigger_table_rewrite_reason().
CREATE OR REPLACE FUNCTION flare.ddl_rewrite() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    PERFORM set_config('flare.rewritten', coalesce(current_setting('flare.rewritten', true), '') || ','
        || pg_event_trigger_table_rewrite_oid()::text || ':' || pg_event_trigger_table_rewrite_reason(), true);
END $f$;

-- Whether this transaction or one of its savepoints has written a row of the catalog.
CREATE OR REPLACE FUNCTION flare.ddl_own(written xid) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT CASE WHEN whole < now_at THEN false WHEN whole = now_at THEN true
                ELSE coalesce(txid_status(whole) = 'in progress', false) END
      FROM (SELECT now_at, CASE WHEN near > now_at + 2147483648 THEN near - 4294967296
                                WHEN near < now_at - 2147483648 THEN near + 4294967296 ELSE near END AS whole
              FROM (SELECT now_at, (now_at & ~4294967295::bigint) | written::text::bigint AS near
                      FROM (SELECT txid_current() AS now_at) here) there) it
$f$;

-- Functions that a default calls and that are not immutable; the worst of them.
CREATE OR REPLACE FUNCTION flare.ddl_volatility(expression pg_node_tree) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT coalesce((SELECT max(provolatile::text) FROM pg_proc
                      WHERE oid::text IN (SELECT (regexp_matches(expression::text, ':(?:funcid|opfuncid) (\d+)', 'g'))[1])), 'i')
$f$;

-- Whether the script of an extension is at work. The setting alone could be anybody's.
CREATE OR REPLACE FUNCTION flare.ddl_in_extension() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT coalesce(current_setting('flare.extension', true), '') = 'on'
       AND EXISTS (SELECT FROM pg_extension WHERE flare.ddl_own(xmin))
$f$;

-- Whether the text names a temporary table of the session, which the other side does not have.
CREATE OR REPLACE FUNCTION flare.ddl_names_temporary(statement text) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'v', 'p')
                      AND strpos(lower(statement), lower(replace(relname, '"', '""'))) > 0)
$f$;

-- Before an ALTER TABLE, while tables are copied.
CREATE OR REPLACE FUNCTION flare.ddl_copying() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $f$
BEGIN
    IF EXISTS (SELECT FROM pg_get_replication_slots() WHERE slot_name LIKE '%\_sync\_%') THEN
        IF EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND slot_name ~ '_sync_[0-9]+(_[0-9]+)?$')
           AND NOT flare.ddl_bypass() AND flare.ddl_mode() = 'carry' AND NOT flare.ddl_in_extension() AND NOT flare.ddl_receiving() THEN
            RAISE EXCEPTION 'ALTER TABLE is refused for now: flare is copying tables to the other server, and the statement would wait for that with everybody behind it'
                USING errcode = 'object_not_in_prerequisite_state', hint = 'Try again when flare status says that every table replicates.';
        END IF;
    END IF;
END $f$;

-- Before the statement: what must be refused or noted before it has done anything.
CREATE OR REPLACE FUNCTION flare.ddl_start() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lc_messages = 'C' SET standard_conforming_strings = on AS $f$
DECLARE
    context text;
    seen record;
BEGIN
    IF flare.ddl_bypass() THEN
        RETURN;
    END IF;
    IF tg_tag ~ 'EXTENSION$' THEN
        PERFORM set_config('flare.extension', 'on', true);
        RETURN;
    END IF;
    IF flare.ddl_mode() <> 'carry' OR flare.ddl_in_extension() OR flare.ddl_receiving() THEN
        RETURN;
    END IF;
    -- CREATE TABLE AS: its rows must come by a copy, so the table has to be there before them.
    GET DIAGNOSTICS context = PG_CONTEXT;
    SELECT * INTO seen FROM flare.ddl_text(context, tg_tag, false);
    -- REFRESH MATERIALIZED VIEW CONCURRENTLY has one of its own in minor versions before 2024.
    IF seen.plain ~* '^\s*create\s+((global|local)\s+)?temp' OR context ~* '^[^\n]*\nSQL statement "create\s+temp' THEN
        RETURN;
    END IF;
    IF seen.unseen IS NULL AND context ~ '^[^\n]*\nSQL statement '
       AND (context ~ '^.*?"\nPL/pgSQL function [^\n]* at SQL statement(\n|$)' OR seen.statement ~ '\$[0-9]') THEN
        seen.unseen := 'it may use variables of a function';
    END IF;
    IF seen.plain ~* '\mas\s+execute\M' THEN
        seen.unseen := 'the other server has no such prepared statement';
    ELSIF flare.ddl_names_temporary(seen.statement) THEN
        seen.unseen := 'it names a temporary table';
    END IF;
    IF seen.unseen IS NOT NULL THEN
        RAISE EXCEPTION 'flare cannot carry this % to the other server: %', tg_tag, seen.unseen
            USING errcode = 'feature_not_supported', hint = 'CREATE TABLE, then INSERT ... SELECT.';
    END IF;
    INSERT INTO flare.ddl (id, role, tag, text, settings)
    VALUES (nextval('flare.ddl_id_seq'), current_setting('flare.who')::jsonb ->> 'role', tg_tag,
            left(seen.statement, length(regexp_replace(seen.plain, '\s+with\s+(no\s+)?data\s*$', '', 'i'))) || E'\nWITH NO DATA',
            current_setting('flare.who')::jsonb -> 'settings');
END $f$;

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
    -- A column that was there before looks the same when its default is set: whether it is new is in the words, and on the
    -- other side in the table as it was before the statement.
    FOR c IN
        SELECT a.attrelid, a.attname, a.attidentity, format_type(a.atttypid, a.atttypmod) AS kind,
               coalesce((to_jsonb(a) ->> 'atthasmissing')::boolean, false) AS stored,
               coalesce(pg_get_expr(d.adbin, d.adrelid), pg_get_expr(t.typdefaultbin, 0)) AS expression,
               (r.relkind = 'p' OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = a.attrelid))
                   AND statement ~* '\madd\M' AND (statement ~* 'u&"|--|/\*' OR statement ~*
                       ('\madd\s+(column\s+)?(if\s+not\s+exists\s+)?"?' || regexp_replace(replace(a.attname, '"', '""'), '(\W)', '\\\1', 'g'))) AS above,
               flare.ddl_reads_time(statement) AND t.typcategory = 'D'
                   AND coalesce(coalesce(d.adbin, t.typdefaultbin)::text !~ 'FUNCEXPR|SQLVALUEFUNCTION', false) AS a_time
          FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = ANY (tables) AND a.attnum > 0 AND NOT a.attisdropped AND age(a.xmin) <= 0 AND flare.ddl_own(a.xmin)
           AND (strpos(lower(statement), lower(replace(a.attname, '"', '""'))) > 0 OR statement ~* 'u&"')
           AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
           AND (a.attidentity <> '' OR coalesce(d.adbin, t.typdefaultbin)::text ~ 'SQLVALUEFUNCTION'
                OR flare.ddl_volatility(coalesce(d.adbin, t.typdefaultbin)) <> 'i'
                OR flare.ddl_reads_time(statement) AND t.typcategory = 'D')
    LOOP
        IF c.a_time THEN
            refused := format('the default of column %I is a word for a time, which is read when the statement is run', c.attname);
            hint := 'now() and current_date are read when a row is written.';
        ELSIF c.stored AND NOT c.above AND statement ~* '\madd\M' THEN
            EXECUTE format('SELECT (attmissingval::text::text[])[1] FROM pg_attribute WHERE attrelid = %s AND attname = %L', c.attrelid, c.attname) INTO missing;
            fix := fix || jsonb_build_object('table', c.attrelid::regclass::text, 'column', c.attname,
                'sql', format('UPDATE ONLY %s SET %I = %L::%s', c.attrelid::regclass, c.attname, missing, c.kind));
        ELSIF c.above OR coalesce(current_setting('flare.rewritten', true), '') ~ (',' || c.attrelid || ':[2367]') THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', c.attrelid::regclass) INTO has_rows;
            IF has_rows THEN
                refused := format('column %I would get other values on the subscriber', c.attname);
                sequence := pg_get_serial_sequence(c.attrelid::regclass::text, c.attname);
                hint := CASE
                    WHEN c.attidentity <> '' THEN format('In these statements: ALTER TABLE %1$s ADD COLUMN %2$I %3$s; UPDATE %1$s SET %2$I = numbered.n FROM (SELECT ctid AS at, row_number() OVER () AS n FROM %1$s) numbered WHERE ctid = numbered.at; ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL; ALTER TABLE %1$s ALTER COLUMN %2$I ADD GENERATED BY DEFAULT AS IDENTITY; SELECT setval(pg_get_serial_sequence(%4$L, %5$L), max(%2$I)) FROM %1$s.',
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
            OR flare.ddl_plain(statement) ~* '\musing\M.*\m((current_timestamp|current_date|current_time|localtime|localtimestamp|session_user|system_user|current_catalog)\M|(now|statement_timestamp|transaction_timestamp|txid_current|pg_current_xact_id|age|current_setting|current_database|version|pg_backend_pid|inet_(client|server)_(addr|port)|pg_postmaster_start_time|pg_conf_load_time)"?\s*\()'
            -- Names that are written in another way may be any.
            OR statement ~* '\musing\M.*u&"'
            OR EXISTS (SELECT FROM flare.ddl_calls_another(lower(flare.ddl_plain(statement))))) THEN
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

-- After the statement: it is refused, or noted for the other side.
CREATE OR REPLACE FUNCTION flare.ddl_note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lc_messages = 'C' SET standard_conforming_strings = on AS $f$
DECLARE
    context text;
    string text;
    alone boolean;
    seen record;
    named text[];
    tables oid[];
    keeps boolean;
    temporary boolean;
    computed record;
    corrections jsonb;
    hint text;
    mode text;
    receiving boolean := false;
    computes boolean := false;
BEGIN
    IF tg_event = 'sql_drop' AND tg_tag NOT LIKE 'DROP %' THEN
        RETURN;
    END IF;
    -- What may be flare's own, before the functions that tell.
    IF current_setting('flare.carry', true) = 'off' OR current_setting('application_name') LIKE 'flare/%' THEN
        IF flare.ddl_bypass() THEN
            RETURN;
        END IF;
    END IF;
    GET DIAGNOSTICS context = PG_CONTEXT;
    string := rtrim(current_query(), E'; \n\t\r');
    -- The client's string is this one statement. What runs inside of another has a line of its own in the context.
    alone := strpos(context, E'\n') = 0 AND strpos(string, ';') = 0 AND upper(split_part(string, ' ', 1)) = split_part(tg_tag, ' ', 1);
    IF tg_event = 'ddl_command_end' AND tg_tag LIKE 'DROP %' THEN
        -- Noted by sql_drop, which does not come for IF EXISTS without a hit: so the place in a string moves on here.
        IF tg_tag LIKE '%EXTENSION' THEN
            PERFORM set_config('flare.extension', '', true);
        END IF;
        IF NOT alone AND NOT flare.ddl_in_extension() THEN
            PERFORM flare.ddl_text(context, tg_tag, true);
        END IF;
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        -- What an extension's script does is done there by the extension.
        IF flare.ddl_in_extension() THEN
            RETURN;
        END IF;
        SELECT array_agg(object_type || ' ' || object_identity), bool_or(is_temporary), bool_or(NOT is_temporary AND NOT flares)
          INTO named, temporary, keeps
          FROM (SELECT *, coalesce(schema_name = 'flare' OR object_identity || '.' LIKE 'flare.%' OR object_identity || '.' LIKE '% on flare.%', false) AS flares
                  FROM pg_event_trigger_dropped_objects() WHERE original) d;
    ELSE
        IF tg_tag LIKE '%EXTENSION' THEN
            PERFORM set_config('flare.extension', '', true);
        END IF;
        -- 1259 is pg_class. Operators of exactly these types: for others a new session reads all that have the name.
        SELECT array_agg(object_type || coalesce(' ' || object_identity, '')), bool_or(its_own), bool_or(NOT its_own AND NOT flares),
               array_agg(objid) FILTER (WHERE NOT its_own AND NOT flares AND classid = '1259')
          INTO named, temporary, keeps, tables
          FROM (SELECT *, -- Large objects are not there, since replication does not carry them.
                       coalesce(schema_name = 'pg_temp' OR object_identity LIKE 'pg\_temp%' OR lower(object_type) = 'large object', false) AS its_own,
                       coalesce(schema_name = 'flare' OR object_identity || '.' LIKE 'flare.%' OR object_identity || '.' LIKE '% on flare.%' OR object_identity LIKE 'flare\_truncate on %', false) AS flares
                  FROM pg_event_trigger_ddl_commands() WHERE NOT in_extension OR object_type = 'extension') c;
        IF named IS NULL AND current_setting('flare.extension', true) = 'on' AND flare.ddl_in_extension() THEN
            -- Its script's own statements are not the string's.
            RETURN;
        END IF;
    END IF;
    IF alone THEN
        SELECT string AS statement, NULL::text AS unseen INTO seen;
    ELSIF keeps IS NOT TRUE AND strpos(context || string, ';') = 0 THEN
        RETURN;
    ELSE
        -- Also of what is not carried: the place in a string of several statements moves on.
        SELECT * INTO seen FROM flare.ddl_text(context, tg_tag, tg_event <> 'sql_drop');
    END IF;
    IF keeps IS NOT TRUE OR tg_tag IN ('REFRESH MATERIALIZED VIEW', 'REINDEX', 'CREATE PUBLICATION', 'ALTER PUBLICATION',
            'DROP PUBLICATION', 'CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION', 'DROP SUBSCRIPTION') THEN
        RETURN;
    END IF;
    mode := flare.ddl_mode();
    IF mode = 'off' THEN
        RETURN;
    END IF;
    -- Before the first cutover the open side has neither. Subscriptions that are gone leave the file its size.
    IF pg_relation_size('pg_subscription') > 0 OR to_regprocedure('flare.fence()') IS NOT NULL THEN
        IF to_regprocedure('flare.fence()') IS NOT NULL OR EXISTS (SELECT FROM pg_subscription) THEN
            receiving := flare.ddl_receiving();
        END IF;
    END IF;
    IF receiving THEN
        IF tg_tag ~ '(TABLE|TABLE AS|SELECT INTO|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|OWNED)$' THEN
            RAISE EXCEPTION '% on % is refused: this database receives from the other server, where the application writes', tg_tag, array_to_string(named, ', ')
                USING errcode = 'object_not_in_prerequisite_state', hint = 'Run it on the other server: flare status says which. To mend what differs here: SET flare.carry = off, as the administrator of flare.yml.';
        END IF;
        RETURN;
    ELSIF mode = 'refuse' THEN
        IF tg_tag ~ '(TABLE|TABLE AS|SELECT INTO|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|OWNED)$' THEN
            RAISE EXCEPTION '% on % is refused: flare is moving this database, and its subscriber would not get it', tg_tag, array_to_string(named, ', ')
                USING errcode = 'object_not_in_prerequisite_state',
                      hint = 'flare ddl brings it to both sides; or wait until the migration has ended (flare cleanup), or have it carried: ddl: carry in flare.yml.';
        END IF;
        RETURN;
    ELSIF tg_tag = 'CREATE TABLE AS' THEN
        IF to_regprocedure('flare.truncated()') IS NOT NULL THEN
            PERFORM flare.ddl_watch_truncate(tables);
        END IF;
        RETURN;
    END IF;
    IF tg_tag = 'CREATE EXTENSION' THEN
        IF flare.ddl_other_major() < 13 AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_setting('flare.who')::jsonb ->> 'role') THEN
            seen.unseen := 'before PostgreSQL 13 only superusers make extensions there';
            hint := 'Have a superuser make it on this side.';
        END IF;
    END IF;
    IF temporary OR tg_tag IN ('SELECT INTO', 'DROP OWNED', 'ALTER TYPE') OR tg_tag LIKE '% TABLE' AND (lower(seen.statement) LIKE '%like%' OR lower(seen.statement) LIKE '%unlogged%') THEN
        IF tg_tag = 'ALTER TABLE' AND flare.ddl_plain(seen.statement) ~* '\mset\s+unlogged\M' THEN
            seen.unseen := 'rows that are written then would never come to the other server';
            hint := 'After the migration.';
        ELSIF tg_tag = 'CREATE TABLE' AND seen.statement ~* '\mlike\M' AND flare.ddl_names_temporary(seen.statement) THEN
            seen.unseen := 'it names a temporary table';
        ELSIF temporary AND seen.unseen IS NULL THEN
            seen.unseen := 'it names temporary objects too';
        ELSIF tg_tag = 'SELECT INTO' THEN
            seen.unseen := 'its rows would arrive before the table';
            hint := 'CREATE TABLE ... AS SELECT can be carried.';
        ELSIF tg_tag = 'DROP OWNED' THEN
            seen.unseen := 'the role may own something else there';
            hint := 'Drop each object by its name.';
        ELSIF tg_tag = 'ALTER TYPE' AND flare.ddl_other_major() < 12 AND flare.ddl_plain(seen.statement) ~* '\madd\s+value\M' THEN
            seen.unseen := 'PostgreSQL before 12 adds a value outside of transactions only';
            hint := 'flare ddl brings it to both sides.';
        END IF;
    END IF;
    IF tg_tag LIKE '% DOMAIN' THEN
        IF flare.ddl_reads_time(seen.statement) THEN
            seen.unseen := coalesce(seen.unseen, 'it has a word for a time, which is read when the statement is run');
            hint := coalesce(hint, 'now() and current_date are read when a row is written.');
        END IF;
    ELSIF tg_tag = 'CREATE TABLE' THEN
        computes := flare.ddl_reads_time(seen.statement);
    ELSIF tg_tag = 'ALTER TABLE' THEN
        computes := lower(seen.statement) LIKE '%using%' OR EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = ANY (tables) AND attnum > 0 AND age(xmin) <= 0
               AND (atthasdef OR attidentity <> '' OR atttypid >= '16384'));
    END IF;
    IF computes THEN
        IF strpos(seen.statement, '\') > 0 AND current_setting('flare.who')::jsonb -> 'settings' ->> 'standard_conforming_strings' = 'off' THEN
            seen.unseen := coalesce(seen.unseen, 'it has a backslash, with standard_conforming_strings off');
            hint := coalesce(hint, 'SET standard_conforming_strings = on, and write its strings as E''...''.');
        END IF;
        SELECT * INTO computed FROM flare.ddl_values(tables, seen.statement);
        seen.unseen := coalesce(seen.unseen, computed.refused);
        hint := coalesce(hint, computed.hint);
        corrections := computed.fix;
    END IF;
    IF tg_tag IN ('CREATE TABLE', 'ALTER TABLE') AND lower(seen.statement) LIKE '%foreign%' THEN
      IF (flare.ddl_other_major() < 12) <> (current_setting('server_version_num')::int < 120000) THEN
        corrections := coalesce(corrections, '[]') || flare.ddl_names(tables);
      END IF;
    END IF;
    IF tg_tag = 'ALTER TABLE' AND lower(seen.statement) LIKE '%detach%' THEN
        IF flare.ddl_plain(seen.statement) ~* '\mdetach\s+partition\M.*\m(concurrently|finalize)\M' THEN
            corrections := coalesce(corrections, '[]') || flare.ddl_detached();
        END IF;
    END IF;
    IF current_setting('flare.rewritten', true) <> '' THEN
        PERFORM set_config('flare.rewritten', '', true);
    END IF;
    IF seen.unseen IS NOT NULL THEN
        RAISE EXCEPTION 'flare cannot carry this % to the other server: %', tg_tag, seen.unseen
            USING errcode = 'feature_not_supported', hint = coalesce(hint, 'Send it as a statement of its own.');
    END IF;
    INSERT INTO flare.ddl (id, role, tag, text, settings, objects, fix)
    VALUES (nextval('flare.ddl_id_seq'), current_setting('flare.who')::jsonb ->> 'role', tg_tag, seen.statement, current_setting('flare.who')::jsonb -> 'settings', named,
            corrections);
    -- Last, since it is a statement of its own, and has been run by flare.
    IF (tg_tag IN ('CREATE TABLE', 'CREATE SCHEMA') OR tg_tag = 'ALTER TABLE' AND lower(seen.statement) LIKE '%logged%') AND to_regprocedure('flare.truncated()') IS NOT NULL THEN
        PERFORM flare.ddl_watch_truncate(tables);
    END IF;
END $f$;

DROP EVENT TRIGGER IF EXISTS flare_ddl_1;
DROP EVENT TRIGGER IF EXISTS flare_ddl_2;
DROP EVENT TRIGGER IF EXISTS flare_drop_1;
DROP EVENT TRIGGER IF EXISTS flare_drop_2;
DROP EVENT TRIGGER IF EXISTS flare_rewrite;
DROP EVENT TRIGGER IF EXISTS flare_start_1;
DROP EVENT TRIGGER IF EXISTS flare_start_2;
DROP EVENT TRIGGER IF EXISTS flare_start_3;
-- They fire in the order of their names.
CREATE EVENT TRIGGER flare_ddl_1 ON ddl_command_end EXECUTE PROCEDURE flare.ddl_who();
CREATE EVENT TRIGGER flare_ddl_2 ON ddl_command_end EXECUTE PROCEDURE flare.ddl_note();
CREATE EVENT TRIGGER flare_drop_1 ON sql_drop EXECUTE PROCEDURE flare.ddl_who();
CREATE EVENT TRIGGER flare_drop_2 ON sql_drop EXECUTE PROCEDURE flare.ddl_note();
CREATE EVENT TRIGGER flare_rewrite ON table_rewrite EXECUTE PROCEDURE flare.ddl_rewrite();
CREATE EVENT TRIGGER flare_start_1 ON ddl_command_start WHEN tag IN ('CREATE TABLE AS') EXECUTE PROCEDURE flare.ddl_who();
CREATE EVENT TRIGGER flare_start_2 ON ddl_command_start WHEN tag IN ('CREATE TABLE AS', 'CREATE EXTENSION', 'ALTER EXTENSION') EXECUTE PROCEDURE flare.ddl_start();
CREATE EVENT TRIGGER flare_start_3 ON ddl_command_start WHEN tag IN ('ALTER TABLE') EXECUTE PROCEDURE flare.ddl_copying();
