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

-- Who runs it, with the settings that its text depends on: before the function that notes it, whose rights are flare's. It
-- works in the search_path of whoever runs it, who may have operators of their own there.
CREATE OR REPLACE FUNCTION flare.ddl_who() RETURNS event_trigger LANGUAGE plpgsql AS $f$
BEGIN
    IF tg_event OPERATOR(pg_catalog.=) 'sql_drop' AND tg_tag OPERATOR(pg_catalog.!~~) 'DROP %' THEN
        RETURN;
    END IF;
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
CREATE OR REPLACE FUNCTION flare.ddl_own(written xid) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    now_at CONSTANT bigint := txid_current();
    whole bigint := (now_at & ~4294967295::bigint) | written::text::bigint;
BEGIN
    IF whole > now_at + 2147483648 THEN
        whole := whole - 4294967296;
    ELSIF whole < now_at - 2147483648 THEN
        whole := whole + 4294967296;
    END IF;
    RETURN whole = now_at OR whole > now_at AND coalesce(txid_status(whole) = 'in progress', false);
END $f$;

-- Whether the script of an extension is at work. The setting alone could be anybody's.
CREATE OR REPLACE FUNCTION flare.ddl_in_extension() RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF coalesce(current_setting('flare.extension', true), '') = 'on' THEN
        RETURN EXISTS (SELECT FROM pg_extension WHERE flare.ddl_own(xmin));
    END IF;
    RETURN false;
END $f$;

-- Whether the text names a temporary table of the session, which the other side does not have.
CREATE OR REPLACE FUNCTION flare.ddl_names_temporary(statement text) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF pg_my_temp_schema() = '0' THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'v', 'p')
                      AND strpos(lower(statement), lower(replace(relname, '"', '""'))) > 0);
END $f$;

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

-- A row says the label of an enum, the attributes of a composite type (which each table has one of) and the name of its
-- schema as they were when it was written, whenever it is committed: one that is written already must not come after the
-- statement that changes them, so its writer is waited for. Columns of a type are found by pg_depend, which has an index.
CREATE OR REPLACE FUNCTION flare.ddl_hold_writers(relations oid[], types oid[], schemas oid[]) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    held text;
BEGIN
    WITH RECURSIVE changed(oid) AS (
        SELECT unnest(relations)
        UNION SELECT i.inhrelid FROM changed JOIN pg_inherits i ON i.inhparent = changed.oid),
    shapes(oid) AS (
        SELECT oid FROM (SELECT unnest(types) UNION ALL SELECT c.reltype FROM changed JOIN pg_class c ON c.oid = changed.oid) t(oid) WHERE oid <> '0'
        UNION
        SELECT CASE WHEN d.classid = '1259' THEN (SELECT reltype FROM pg_class c WHERE c.oid = d.objid) ELSE d.objid END
          FROM shapes s JOIN pg_depend d ON d.refclassid = '1247' AND d.refobjid = s.oid AND d.classid IN ('1247', '1259'))
    SELECT string_agg('ONLY ' || c.oid::regclass, ', ' ORDER BY c.oid) INTO held
      FROM pg_class c
     WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= '16384'
       AND (c.relnamespace = ANY (schemas)
            OR c.oid IN (SELECT d.objid FROM shapes s JOIN pg_depend d ON d.refclassid = '1247' AND d.refobjid = s.oid AND d.classid = '1259'));
    IF held IS NOT NULL THEN
        EXECUTE 'LOCK TABLE ' || held || ' IN SHARE MODE';
    END IF;
END $f$;

-- Whether the type of one of these relations' rows, or of those below them, may be that of a column.
CREATE OR REPLACE FUNCTION flare.ddl_row_type_used(relations oid[]) RETURNS boolean LANGUAGE sql STABLE AS $f$
    SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) c.reltype
                    WHERE c.oid OPERATOR(pg_catalog.=) ANY (relations)
                      AND (c.relhassubclass OR EXISTS (
                        SELECT FROM pg_catalog.pg_depend d
                         WHERE d.refclassid OPERATOR(pg_catalog.=) '1247' AND d.refobjid OPERATOR(pg_catalog.=) ANY (ARRAY[t.oid, t.typarray])
                           AND d.classid OPERATOR(pg_catalog.=) ANY ('{1247, 1259}'::pg_catalog.oid[]) AND d.deptype OPERATOR(pg_catalog.=) 'n')))
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
    kind text;
    cascades boolean;
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
    string := current_query();
    -- The client's string is this one statement. What runs inside of another has a line of its own in the context. A long
    -- string is trimmed only then, which goes through all of it, character by character.
    alone := strpos(context, E'\n') = 0 AND string !~ ';[; \n\t\r]*[^; \n\t\r]';
    IF alone THEN
        string := rtrim(string, E'; \n\t\r');
        alone := upper(split_part(string, ' ', 1)) = split_part(tg_tag, ' ', 1);
    END IF;
    IF tg_event = 'ddl_command_end' AND tg_tag LIKE 'DROP %' THEN
        -- Noted by sql_drop, which does not come for IF EXISTS without a hit: so the place in a string moves on here.
        IF tg_tag LIKE '%EXTENSION' THEN
            PERFORM set_config('flare.extension', '', true);
        END IF;
        IF NOT alone AND NOT flare.ddl_in_extension() THEN
            PERFORM flare.ddl_text(context, tg_tag, true);
        END IF;
        -- sql_drop does not come for privileges that it takes away.
        IF tg_tag = 'DROP OWNED' AND flare.ddl_mode() = 'carry' AND NOT flare.ddl_receiving() THEN
            RAISE EXCEPTION 'flare cannot carry this DROP OWNED to the other server: the role may own something else there'
                USING errcode = 'feature_not_supported', hint = 'Drop each object by its name, and REVOKE each privilege.';
        END IF;
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        -- What an extension's script does is done there by the extension.
        IF flare.ddl_in_extension() THEN
            RETURN;
        END IF;
        SELECT array_agg(object_type || ' ' || object_identity) FILTER (WHERE original), bool_or(is_temporary) FILTER (WHERE original),
               bool_or(NOT is_temporary AND NOT flares) FILTER (WHERE original),
               bool_or(NOT original AND NOT is_temporary AND object_type IN ('table', 'table column')),
               array_agg(objid) FILTER (WHERE object_type LIKE '% column')
          INTO named, temporary, keeps, cascades, tables
          FROM (SELECT *, coalesce(schema_name = 'flare' OR object_identity || '.' LIKE 'flare.%' OR object_identity || '.' LIKE '% on flare.%', false) AS flares
                  FROM pg_event_trigger_dropped_objects()) d;
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
    -- ALTER INDEX ... RENAME takes any relation, and a column goes with a function that computes it.
    kind := CASE WHEN tg_tag = 'ALTER INDEX' AND named[1] ~ '^(table|sequence) ' THEN 'ALTER TABLE'
                 WHEN tg_tag = 'ALTER TABLE' AND mode = 'refuse' AND named[1] ~ '^(view|materialized view|index) ' THEN 'ALTER VIEW'
                 WHEN cascades AND tg_tag !~ '(TABLE|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|OWNED)$' THEN 'DROP TABLE' ELSE tg_tag END;
    -- Before the first cutover the open side has neither. Subscriptions that are gone leave the file its size.
    IF pg_relation_size('pg_subscription') > 0 OR to_regprocedure('flare.fence()') IS NOT NULL THEN
        IF to_regprocedure('flare.fence()') IS NOT NULL OR EXISTS (SELECT FROM pg_subscription) THEN
            receiving := flare.ddl_receiving();
        END IF;
    END IF;
    IF receiving THEN
        IF kind ~ '(TABLE|TABLE AS|SELECT INTO|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|OWNED)$' THEN
            RAISE EXCEPTION '% on % is refused: this database receives from the other server, where the application writes', tg_tag, array_to_string(named, ', ')
                USING errcode = 'object_not_in_prerequisite_state', hint = 'Run it on the other server: flare status says which. To mend what differs here: SET flare.carry = off, as the administrator of flare.yml.';
        END IF;
        RETURN;
    ELSIF mode = 'refuse' THEN
        IF kind ~ '(TABLE|TABLE AS|SELECT INTO|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|OWNED)$' THEN
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
            hint := 'Name the columns instead.';
        ELSIF temporary AND seen.unseen IS NULL THEN
            seen.unseen := 'it names temporary objects too';
        ELSIF tg_tag = 'SELECT INTO' THEN
            seen.unseen := 'its rows would arrive before the table';
            hint := 'CREATE TABLE ... AS SELECT can be carried.';
        ELSIF tg_tag = 'DROP OWNED' THEN
            seen.unseen := 'the role may own something else there';
            hint := 'Drop each object by its name, and REVOKE each privilege.';
        ELSIF tg_tag = 'ALTER TYPE' AND flare.ddl_other_major() < 12 AND flare.ddl_plain(seen.statement) ~* '\madd\s+value\M' THEN
            seen.unseen := 'PostgreSQL before 12 adds a value outside of transactions only';
            hint := 'flare ddl brings it to both sides.';
        END IF;
    END IF;
    IF tg_tag = 'ALTER TABLE' AND lower(seen.statement) ~ '(security|owner)' AND flare.ddl_owners_write() THEN
        IF EXISTS (SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner WHERE c.oid = ANY (tables)
                      AND c.relrowsecurity AND c.relforcerowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls) THEN
            seen.unseen := 'it holds for the owner of the table, who writes the rows there: the first one would stop replication';
            hint := 'BYPASSRLS for that role on both sides, or run_as_owner: true in the options of the subscription in flare.yml and for the subscription itself; then flare create_subscription. Or after the migration.';
        END IF;
    END IF;
    IF tg_tag LIKE '% DOMAIN' THEN
        IF flare.ddl_reads_time(seen.statement) THEN
            seen.unseen := coalesce(seen.unseen, 'it has a word for a time, which is read when the statement is run');
            hint := coalesce(hint, 'now() and current_date are read when a row is written.');
        END IF;
    ELSIF tg_tag = 'CREATE TABLE' THEN
        computes := flare.ddl_reads_time(seen.statement) OR seen.statement ~* '\mgenerated\s+always\s+as\s*\(';
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
    IF tg_tag IN ('ALTER TYPE', 'ALTER SCHEMA') AND tg_event = 'ddl_command_end' THEN
        IF lower(seen.statement) ~ '\m(attribute|rename)\M' THEN
            PERFORM flare.ddl_hold_writers(array_agg(objid) FILTER (WHERE classid = '1259'), array_agg(objid) FILTER (WHERE classid = '1247'),
                array_agg(objid) FILTER (WHERE classid = '2615')) FROM pg_event_trigger_ddl_commands();
        END IF;
    ELSIF tg_event = 'sql_drop' AND tables IS NOT NULL
          OR tg_tag IN ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'CREATE VIEW') AND lower(seen.statement) ~ '\m(add|drop|replace)\M' THEN
        IF flare.ddl_row_type_used(tables) THEN
            PERFORM flare.ddl_hold_writers(tables, '{}', '{}');
        END IF;
    END IF;
    INSERT INTO flare.ddl (id, role, tag, text, settings, objects, fix)
    VALUES (nextval('flare.ddl_id_seq'), current_setting('flare.who')::jsonb ->> 'role', kind, seen.statement, current_setting('flare.who')::jsonb -> 'settings', named,
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
