-- Whether nothing is to be noticed, or flare itself is at work as one of its accounts.
CREATE OR REPLACE FUNCTION flare.ddl_bypass() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT flare.ddl_mode() = 'off'
        OR current_setting('flare.carry', true) = 'off' AND pg_has_role(session_user, current_user, 'MEMBER')
        OR current_setting('application_name') LIKE 'flare/%' AND session_user::text = ANY (flare.ddl_accounts())
$f$;

-- Whether this side receives: closed by the fence, whose function refuses then, or subscribed.
CREATE OR REPLACE FUNCTION flare.ddl_receiving() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = 'flare' AND p.proname = 'fence' AND p.prosrc LIKE '%RAISE%')
        OR EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
                    WHERE d.datname = current_database() AND s.subenabled AND s.subname = ANY (flare.ddl_subscriptions()))
$f$;

-- Who runs it, with the settings that its text depends on: before the function that notes it, whose rights are flare's.
CREATE OR REPLACE FUNCTION flare.ddl_who() RETURNS event_trigger LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM pg_catalog.set_config('flare.who', current_user::pg_catalog.text, true);
    PERFORM pg_catalog.set_config('flare.settings', pg_catalog.json_build_object(
        'search_path', pg_catalog.current_setting('search_path', true),
        'TimeZone', pg_catalog.current_setting('TimeZone', true),
        'DateStyle', pg_catalog.current_setting('DateStyle', true),
        'IntervalStyle', pg_catalog.current_setting('IntervalStyle', true),
        'extra_float_digits', pg_catalog.current_setting('extra_float_digits', true),
        'bytea_output', pg_catalog.current_setting('bytea_output', true),
        'standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings', true),
        'check_function_bodies', pg_catalog.current_setting('check_function_bodies', true),
        'default_tablespace', pg_catalog.current_setting('default_tablespace', true),
        'default_table_access_method', pg_catalog.current_setting('default_table_access_method', true),
        'default_toast_compression', pg_catalog.current_setting('default_toast_compression', true),
        'xmlbinary', pg_catalog.current_setting('xmlbinary', true),
        'xmloption', pg_catalog.current_setting('xmloption', true),
        'lc_monetary', pg_catalog.current_setting('lc_monetary', true),
        'lc_numeric', pg_catalog.current_setting('lc_numeric', true),
        'lc_time', pg_catalog.current_setting('lc_time', true),
        'array_nulls', pg_catalog.current_setting('array_nulls', true))::pg_catalog.text, true);
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

-- The next number. Those that came from the other side did not move the sequence.
CREATE OR REPLACE FUNCTION flare.ddl_id() RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    number bigint := nextval('flare.ddl_id_seq');
    last bigint := (SELECT max(id) FROM flare.ddl);
BEGIN
    IF last >= number THEN
        number := setval('flare.ddl_id_seq', last + 1);
    END IF;
    RETURN number;
END $f$;

-- Before the statement: what must be refused or noted before it has done anything.
CREATE OR REPLACE FUNCTION flare.ddl_start() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lc_messages = 'C' AS $f$
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
    IF tg_tag = 'ALTER TABLE' THEN
        IF EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND slot_name ~ '_sync_[0-9]+(_[0-9]+)?$') THEN
            RAISE EXCEPTION 'ALTER TABLE is refused for now: flare is copying tables to the other server, and the statement would wait for that with everybody behind it'
                USING errcode = 'object_not_in_prerequisite_state', hint = 'Try again when flare status says that every table replicates.';
        END IF;
        RETURN;
    END IF;
    -- CREATE TABLE AS: its rows must come by a copy, so the table has to be there before them.
    GET DIAGNOSTICS context = PG_CONTEXT;
    SELECT * INTO seen FROM flare.ddl_text(context, tg_tag, false);
    IF seen.statement ~* '^(\s|--[^\n]*\n|/\*([^*]|\*+[^*/])*\*+/)*create\s+((global|local)\s+)?temp' THEN
        RETURN;
    END IF;
    IF seen.unseen IS NULL AND context ~ '^[^\n]*\nSQL statement '
       AND (context ~ '^.*?"\nPL/pgSQL function [^\n]* at SQL statement(\n|$)' OR seen.statement ~ '\$[0-9]') THEN
        seen.unseen := 'it may use variables of a function';
    END IF;
    IF seen.unseen IS NOT NULL THEN
        RAISE EXCEPTION 'flare cannot carry this % to the other server: %', tg_tag, seen.unseen
            USING errcode = 'feature_not_supported', hint = 'CREATE TABLE, then INSERT ... SELECT.';
    END IF;
    INSERT INTO flare.ddl (id, role, tag, text, settings)
    VALUES (flare.ddl_id(), current_setting('flare.who'), tg_tag,
            regexp_replace(seen.statement, '\s+with\s+(no\s+)?data\s*$', '', 'i') || E'\nWITH NO DATA',
            current_setting('flare.settings')::jsonb);
END $f$;

-- What a new column would get other values for on the other side: refused, or corrected there.
CREATE OR REPLACE FUNCTION flare.ddl_values(tables oid[], statement text, OUT fix text[], OUT refused text, OUT hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    c record;
    has_rows boolean;
    missing text;
BEGIN
    fix := '{}';
    FOR c IN
        SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod) AS kind,
               coalesce((to_jsonb(a) ->> 'atthasmissing')::boolean, false) AS stored,
               pg_get_expr(d.adbin, d.adrelid) AS expression,
               r.relkind = 'p' OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = a.attrelid) AS above
          FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = ANY (tables) AND a.attnum > 0 AND NOT a.attisdropped AND flare.ddl_own(a.xmin)
           AND strpos(lower(statement), lower(a.attname)) > 0 AND to_jsonb(a) ->> 'attgenerated' IS DISTINCT FROM 's'
           AND (a.attidentity <> '' OR d.adbin::text ~ 'SQLVALUEFUNCTION' OR flare.ddl_volatility(d.adbin) <> 'i')
    LOOP
        IF c.stored AND NOT c.above THEN
            EXECUTE format('SELECT attmissingval::text FROM pg_attribute WHERE attrelid = %s AND attname = %L', c.attrelid, c.attname) INTO missing;
            fix := fix || format('UPDATE ONLY %s SET %I = (%L::%s[])[1]', c.attrelid::regclass, c.attname, missing, c.kind);
        ELSIF c.stored OR c.above OR coalesce(current_setting('flare.rewritten', true), '') ~ (',' || c.attrelid || ':[2367]') THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', c.attrelid::regclass) INTO has_rows;
            IF has_rows THEN
                refused := format('column %I would get other values on the subscriber', c.attname);
                hint := format('In three statements: ALTER TABLE %1$s ADD COLUMN %2$I %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I SET DEFAULT %4$s; UPDATE %1$s SET %2$I = %4$s.',
                    c.attrelid::regclass, c.attname, c.kind, coalesce(c.expression, '...'));
            END IF;
        END IF;
    END LOOP;
    IF refused IS NULL AND statement ~* '\musing\M' AND coalesce(current_setting('flare.rewritten', true), '') ~ ':[4567]'
       AND EXISTS (SELECT FROM pg_proc WHERE provolatile = 'v' AND proname::text IN (
                     SELECT lower((regexp_matches(statement, '([[:alnum:]_]+)"?\s*\(', 'g'))[1]))) THEN
        refused := 'USING calls a volatile function: rows would get other values on the subscriber';
        hint := 'In three statements: ADD COLUMN of the new type; UPDATE; then DROP COLUMN and RENAME COLUMN.';
    END IF;
END $f$;

-- After the statement: it is refused, or noted for the other side.
CREATE OR REPLACE FUNCTION flare.ddl_note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lc_messages = 'C' AS $f$
DECLARE
    context text;
    mode text := flare.ddl_mode();
    seen record;
    it record;
    computed record;
    corrections text[];
    named text[] := '{}';
    tables oid[] := '{}';
    keeps boolean := false;
    temporary boolean := false;
    hint text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF flare.ddl_bypass() THEN
        RETURN;
    END IF;
    IF tg_tag ~ 'EXTENSION$' AND tg_event = 'ddl_command_end' THEN
        PERFORM set_config('flare.extension', '', true);
    ELSIF flare.ddl_in_extension() AND tg_event = 'sql_drop' THEN
        -- What an extension's script does is done there by the extension.
        RETURN;
    END IF;
    IF (tg_event = 'sql_drop') <> (tg_tag ~ '^DROP ') THEN
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        FOR it IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE original LOOP
            named := named || (it.object_type || ' ' || it.object_identity);
            IF it.is_temporary THEN
                temporary := true;
            ELSIF coalesce(it.schema_name, '') <> 'flare' AND coalesce(it.object_identity, '') !~ '(^| on )flare([.]|$)' THEN
                keeps := true;
            END IF;
        END LOOP;
    ELSE
        FOR it IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
            CONTINUE WHEN it.in_extension AND it.object_type <> 'extension';
            named := named || (it.object_type || coalesce(' ' || it.object_identity, ''));
            IF it.schema_name = 'pg_temp' OR it.object_identity ~ '^pg_temp' THEN
                temporary := true;
            ELSIF coalesce(it.schema_name, '') <> 'flare' AND coalesce(it.object_identity, '') !~ '(^| on )flare([.]|$)' THEN
                keeps := true;
                IF it.classid = 'pg_class'::regclass THEN
                    tables := tables || it.objid;
                END IF;
            END IF;
        END LOOP;
    END IF;
    -- Also of what is not carried: the place in a string of several statements moves on.
    SELECT * INTO seen FROM flare.ddl_text(context, tg_tag, true);
    IF NOT keeps OR tg_tag IN ('REFRESH MATERIALIZED VIEW', 'REINDEX', 'CREATE PUBLICATION', 'ALTER PUBLICATION',
            'DROP PUBLICATION', 'CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION', 'DROP SUBSCRIPTION') THEN
        RETURN;
    END IF;
    IF flare.ddl_receiving() THEN
        IF tg_tag ~ '(TABLE|TABLE AS|SELECT INTO|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|OWNED)$' THEN
            RAISE EXCEPTION '% on % is refused: this database receives from the other server, where the application writes', tg_tag, array_to_string(named, ', ')
                USING errcode = 'object_not_in_prerequisite_state', hint = 'Run it on the other server: flare status says which.';
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
        RETURN;
    END IF;
    IF temporary AND seen.unseen IS NULL THEN
        seen.unseen := 'it names temporary objects too';
    ELSIF tg_tag = 'SELECT INTO' THEN
        seen.unseen := 'its rows would arrive before the table';
        hint := 'CREATE TABLE ... AS SELECT can be carried.';
    ELSIF tg_tag = 'DROP OWNED' THEN
        seen.unseen := 'the role may own something else there';
        hint := 'Drop each object by its name.';
    ELSIF tg_tag = 'ALTER TYPE' AND flare.ddl_other_major() < 12 AND seen.statement ~* '\madd\s+value\M' THEN
        seen.unseen := 'PostgreSQL before 12 adds a value outside of transactions only';
        hint := 'flare ddl brings it to both sides.';
    END IF;
    IF tg_tag = 'ALTER TABLE' AND seen.statement ~* '\m(add|using)\M' THEN
        SELECT * INTO computed FROM flare.ddl_values(tables, seen.statement);
        seen.unseen := coalesce(seen.unseen, computed.refused);
        hint := coalesce(hint, computed.hint);
        corrections := computed.fix;
    END IF;
    PERFORM set_config('flare.rewritten', '', true);
    IF seen.unseen IS NOT NULL THEN
        RAISE EXCEPTION 'flare cannot carry this % to the other server: %', tg_tag, seen.unseen
            USING errcode = 'feature_not_supported', hint = coalesce(hint, 'Send it as a statement of its own.');
    END IF;
    INSERT INTO flare.ddl (id, role, tag, text, settings, objects, fix)
    VALUES (flare.ddl_id(), current_setting('flare.who'), tg_tag, seen.statement, current_setting('flare.settings')::jsonb, named,
            corrections);
END $f$;

DROP EVENT TRIGGER IF EXISTS flare_ddl_1;
DROP EVENT TRIGGER IF EXISTS flare_ddl_2;
DROP EVENT TRIGGER IF EXISTS flare_drop_1;
DROP EVENT TRIGGER IF EXISTS flare_drop_2;
DROP EVENT TRIGGER IF EXISTS flare_rewrite;
DROP EVENT TRIGGER IF EXISTS flare_start_1;
DROP EVENT TRIGGER IF EXISTS flare_start_2;
-- They fire in the order of their names.
CREATE EVENT TRIGGER flare_ddl_1 ON ddl_command_end EXECUTE PROCEDURE flare.ddl_who();
CREATE EVENT TRIGGER flare_ddl_2 ON ddl_command_end EXECUTE PROCEDURE flare.ddl_note();
CREATE EVENT TRIGGER flare_drop_1 ON sql_drop EXECUTE PROCEDURE flare.ddl_who();
CREATE EVENT TRIGGER flare_drop_2 ON sql_drop EXECUTE PROCEDURE flare.ddl_note();
CREATE EVENT TRIGGER flare_rewrite ON table_rewrite EXECUTE PROCEDURE flare.ddl_rewrite();
CREATE EVENT TRIGGER flare_start_1 ON ddl_command_start WHEN tag IN ('CREATE TABLE AS', 'ALTER TABLE', 'CREATE EXTENSION', 'ALTER EXTENSION') EXECUTE PROCEDURE flare.ddl_who();
CREATE EVENT TRIGGER flare_start_2 ON ddl_command_start WHEN tag IN ('CREATE TABLE AS', 'ALTER TABLE', 'CREATE EXTENSION', 'ALTER EXTENSION') EXECUTE PROCEDURE flare.ddl_start();
