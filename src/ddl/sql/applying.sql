-- Runs a statement with the settings that it was given under; only what the sandbox has asked for.
CREATE OR REPLACE FUNCTION flare.ddl_run() RETURNS int LANGUAGE plpgsql AS $f$
DECLARE
    statement pg_catalog.text := pg_catalog.current_setting('flare.text');
    settings pg_catalog.jsonb := pg_catalog.current_setting('flare.settings');
    name pg_catalog.text;
    value pg_catalog.text;
BEGIN
    PERFORM pg_catalog.set_config('flare.text', '', true);
    FOR name, value IN SELECT * FROM pg_catalog.jsonb_each_text(settings) LOOP
        CONTINUE WHEN value IS NULL;
        BEGIN
            PERFORM pg_catalog.set_config(name, value, true);
        EXCEPTION WHEN undefined_object OR invalid_parameter_value OR cant_change_runtime_param OR insufficient_privilege THEN
            -- This version has no such setting, or no such value.
            NULL;
        END;
    END LOOP;
    EXECUTE statement;
    RETURN 1;
END $f$;

-- As the role, in the server's own security-restricted operation: no SET ROLE, no RESET ROLE, no session authorization, no
-- temporary tables, no triggers left for the end of the transaction. SECURITY DEFINER alone has none of this.
CREATE OR REPLACE FUNCTION flare.ddl_sandbox(role name, statement text, settings jsonb) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    -- Who is no superuser gives only to whom could have made it there.
    superuser CONSTANT boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
BEGIN
    PERFORM set_config('flare.text', statement, true), set_config('flare.settings', settings::text, true);
    CREATE MATERIALIZED VIEW flare.sandbox AS SELECT flare.ddl_run() AS done WITH NO DATA;
    IF NOT superuser AND role <> current_user THEN
        EXECUTE format('GRANT CREATE ON SCHEMA flare TO %I', role);
    END IF;
    EXECUTE format('ALTER MATERIALIZED VIEW flare.sandbox OWNER TO %I', role);
    IF NOT superuser AND role <> current_user THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA flare FROM %I', role);
    END IF;
    REFRESH MATERIALIZED VIEW flare.sandbox;
    DROP MATERIALIZED VIEW flare.sandbox;
END $f$;

-- Whether rows depend on the statement: then apply stops until it has been run, or a person has decided. Foreign tables have
-- none that replicate, and the server that they are imported from may not be reached from here.
CREATE OR REPLACE FUNCTION flare.ddl_shapes(tag text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT tag <> 'IMPORT FOREIGN SCHEMA' AND tag ~ '(TABLE|TABLE AS|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|COLLATION|LANGUAGE)$'
$f$;

-- Closes what the statement has made or attached, and what is above it, where flare keeps the database closed: a table
-- without partitions needed no fence before.
CREATE OR REPLACE FUNCTION flare.ddl_close() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    made regclass;
BEGIN
    IF to_regprocedure('flare.fence()') IS NULL THEN
        RETURN;
    END IF;
    FOR made IN
        WITH RECURSIVE made(oid) AS (
            SELECT oid FROM (SELECT attrelid, xmin FROM pg_attribute WHERE attname = 'ctid' AND attnum < 0
                             UNION ALL SELECT inhrelid, xmin FROM pg_inherits) written(oid, xmin)
             WHERE age(xmin) <= 0 AND flare.ddl_own(xmin)
            UNION
            SELECT i.inhparent FROM made m JOIN pg_inherits i ON i.inhrelid = m.oid)
        SELECT c.oid FROM made m JOIN pg_class c ON c.oid = m.oid
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'flare_fence')
    LOOP
        EXECUTE format('CREATE TRIGGER flare_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE PROCEDURE flare.fence()', made);
    END LOOP;
END $f$;

-- Whether the rows of some table are still to be copied here.
CREATE OR REPLACE FUNCTION flare.ddl_rows_to_come() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname NOT IN ('flare', 'information_schema')
                      AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = c.oid AND srsubstate = 'r'))
$f$;

-- An ALTER TABLE whose new foreign keys are NOT VALID; none where it has none that can be, or is not of a simple spelling.
-- That of a new column becomes one of the table: only those can be NOT VALID.
CREATE OR REPLACE FUNCTION flare.ddl_unvalidated(statement text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    whole text := rtrim(statement, E'; \n\t\r');
    name CONSTANT text := '(?:"(?:[^"]|"")*"|[[:alpha:]_\u0080-\uffff][[:alnum:]_\u0080-\uffff]*)';
    token text;
    piece text := '';
    words text := '';
    depth int := 0;
    changed boolean := false;
    result text := '';
    parts text[];
    named text;
BEGIN
    -- What the tokens below do not tell: comments in comments, and other constants.
    IF whole ~ '[\\$]|/\*([^*]|\*[^/])*/\*' THEN
        RETURN NULL;
    END IF;
    FOR token IN
        SELECT it[1] FROM regexp_matches(whole || ',', '--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/|''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[(),]|[^-/''"(),]+|[-/]', 'g') it
    LOOP
        depth := depth + CASE token WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        IF token = ',' AND depth = 0 THEN
            IF words ~* '\madd\M.*\mforeign\s+key\M' THEN
                IF words !~* '\mnot\s+valid\M' THEN
                    piece := piece || E'\nNOT VALID';
                    changed := true;
                END IF;
            ELSIF words ~* '\madd\M.*\mreferences\M' AND words !~* '\mexists\M' AND piece !~* '\mreferences\M.*\mreferences\M' THEN
                -- What is before its clause, the clause, and what is behind it.
                parts := (regexp_match(piece, '^(.*?)((?:\m[Cc][Oo][Nn][Ss][Tt][Rr][Aa][Ii][Nn][Tt]\s+' || name || '\s+)?\m[Rr][Ee][Ff][Ee][Rr][Ee][Nn][Cc][Ee][Ss]\s.*)$'));
                parts := parts[1] || regexp_match(parts[2], '(?i)^((?:constraint\s+' || name || '\s+)?references\s+' || name || '(?:\s*\.\s*' || name
                    || ')?(?:\s*\([^()]*\))?(?:\s+match\s+(?:full|partial|simple)|\s+on\s+(?:delete|update)\s+(?:no\s+action|restrict|cascade|set\s+(?:null|default)(?:\s*\([^()]*\))?)'
                    || '|\s+(?:not\s+)?(?:deferrable|enforced)|\s+initially\s+(?:deferred|immediate))*)(.*)$');
                named := (regexp_match(parts[1], '(?i)\madd\s+(?:column\s+)?(' || name || ')\s'))[1];
                IF named IS NOT NULL AND parts[2] IS NOT NULL THEN
                    piece := parts[1] || parts[3] || E',\nADD ' || overlay(parts[2] PLACING 'FOREIGN KEY (' || named || ') '
                        FROM length(substring(parts[2] FROM '(?i)^(?:constraint\s+' || name || '\s+)?')) + 1 FOR 0) || E'\nNOT VALID';
                    changed := true;
                END IF;
            END IF;
            result := result || piece || ',';
            piece := '';
            words := '';
        ELSE
            piece := piece || CASE WHEN token ~ '^(--|/\*)' THEN ' ' ELSE token END;
            words := words || CASE WHEN token ~ '^(--|/\*|''|")' THEN ' ' ELSE token END;
        END IF;
    END LOOP;
    RETURN CASE WHEN changed THEN rtrim(result, ',') END;
END $f$;

-- As the sandbox does; foreign keys to rows that are still to be copied are checked when they have come. What is left to do then.
CREATE OR REPLACE FUNCTION flare.ddl_shape(role name, tag text, statement text, settings jsonb) RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    without text;
BEGIN
    IF tag <> 'ALTER TABLE' OR statement !~* '\m(foreign\s+key|references)\M' THEN
        PERFORM flare.ddl_sandbox(role, statement, settings);
        RETURN '[]';
    END IF;
    BEGIN
        PERFORM flare.ddl_sandbox(role, statement, settings);
        RETURN '[]';
    EXCEPTION WHEN foreign_key_violation THEN
        without := flare.ddl_unvalidated(statement);
        IF without IS NULL OR NOT flare.ddl_rows_to_come() THEN
            RAISE;
        END IF;
    END;
    PERFORM flare.ddl_sandbox(role, without, settings);
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('later', format('ALTER TABLE %s VALIDATE CONSTRAINT %I', conrelid::regclass, conname))), '[]')
              FROM pg_constraint WHERE contype = 'f' AND NOT convalidated AND flare.ddl_own(xmin));
END $f$;

-- The same for what drops tables, whose rows may be about to be copied here. From 14 on PostgreSQL refuses that until they
-- are: for good, since the other side has no such table any more. So the subscription forgets it, and who copies it is
-- ended; the slot that it has left over there is taken away by flare.
CREATE OR REPLACE FUNCTION flare.ddl_drop(role name, tag text, statement text, settings jsonb) RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    superuser CONSTANT boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    left_to_do jsonb;
    words text;
    forgotten jsonb := '[]';
    removed jsonb;
BEGIN
    LOOP
        BEGIN
            left_to_do := flare.ddl_shape(role, tag, statement, settings);
            EXIT;
        EXCEPTION WHEN invalid_parameter_value OR object_not_in_prerequisite_state THEN
            -- In whatever language, the table's name is in it.
            GET STACKED DIAGNOSTICS words = PG_EXCEPTION_DETAIL;
            IF NOT superuser THEN
                RAISE;
            END IF;
            WITH gone AS (
                DELETE FROM pg_subscription_rel r USING pg_class c
                 WHERE c.oid = r.srrelid AND r.srsubstate <> 'r'
                   AND words ~ ('(^|[^[:alnum:]_])' || regexp_replace(c.relname, '(\W)', '\\\1', 'g') || '($|[^[:alnum:]_])')
                RETURNING r.*)
            SELECT jsonb_agg(to_jsonb(gone)) INTO removed FROM gone;
            IF removed IS NULL THEN
                RAISE;
            END IF;
            forgotten := forgotten || removed;
        END;
    END LOOP;
    IF forgotten <> '[]' THEN
        -- What has only a like name.
        INSERT INTO pg_subscription_rel SELECT r.* FROM jsonb_populate_recordset(NULL::pg_subscription_rel, forgotten) r JOIN pg_class c ON c.oid = r.srrelid;
    END IF;
    IF superuser THEN
        -- Before 14 one that waits for apply would wait for good.
        PERFORM pg_terminate_backend(pid) FROM pg_stat_subscription WHERE relid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class WHERE oid = relid);
    END IF;
    RETURN left_to_do;
END $f$;

-- What was left to do when the rows have come.
CREATE OR REPLACE FUNCTION flare.ddl_validate(statement_id bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    found flare.ddl;
    one jsonb;
BEGIN
    SELECT * INTO found FROM flare.ddl WHERE id = statement_id;
    FOR one IN SELECT jsonb_array_elements(found.fix) LOOP
        -- What has been dropped since, or is there again.
        CONTINUE WHEN one ->> 'later' IS NULL OR one ->> 'table' IS NOT NULL AND to_regclass(one ->> 'table') IS NULL
            OR one ->> 'later' ~ ' ADD CONSTRAINT ' AND EXISTS (SELECT FROM pg_constraint
                  WHERE conrelid = to_regclass(one ->> 'table') AND conname = one ->> 'constraint');
        PERFORM flare.ddl_sandbox(coalesce(one ->> 'role', found.role)::name, one ->> 'later', found.settings);
    END LOOP;
    UPDATE flare.ddl SET outcome = 'done', error = NULL WHERE id = statement_id;
END $f$;

-- Foreign keys that are set aside until the rows have come, see keys.rs: those that the statement may be about are given
-- back for it, unvalidated, since it may drop them, or rename what they are of. What was given back, by its oid.
CREATE OR REPLACE FUNCTION flare.ddl_keys_back(tag text, statement text) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    aside record;
    back jsonb := '[]';
    words CONSTANT text := lower(statement);
BEGIN
    FOR aside IN
        SELECT d.id, d.settings, e ->> 'later' AS later, e ->> 'role' AS role, e ->> 'table' AS name, e ->> 'constraint' AS conname
          FROM flare.ddl d, jsonb_array_elements(d.fix) e
         WHERE d.id > 0 AND d.outcome = 'unvalidated' AND jsonb_typeof(d.fix) = 'array' AND e ->> 'later' ~ ' ADD CONSTRAINT '
    LOOP
        CONTINUE WHEN to_regclass(aside.name) IS NULL
            OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(aside.name) AND conname = aside.conname)
            -- Names that need quotes, or are written in another way, may be any.
            OR tag LIKE '% TABLE' AND statement !~* 'u&"' AND aside.later !~ 'REFERENCES [^(]*"'
               AND strpos(words, lower(aside.conname)) = 0
               AND strpos(words, (SELECT lower(replace(relname, '"', '""')) FROM pg_class WHERE oid = to_regclass(aside.name))) = 0
               AND strpos(words, lower(substring(aside.later FROM 'REFERENCES (?:[^(.]*[.])?([^(.]*)'))) = 0;
        BEGIN
            PERFORM flare.ddl_sandbox(aside.role::name, aside.later, aside.settings);
            back := back || (SELECT jsonb_build_object('id', aside.id, 'name', aside.name, 'constraint', conname, 'role', aside.role, 'oid', oid)
                               FROM pg_constraint WHERE conrelid = to_regclass(aside.name) AND conname = aside.conname);
        EXCEPTION WHEN foreign_key_violation THEN
            -- Of a partitioned table it is never unvalidated.
            NULL;
        END;
    END LOOP;
    RETURN back;
END $f$;

-- Sets aside again what is still there of them, as it is now.
CREATE OR REPLACE FUNCTION flare.ddl_keys_aside(back jsonb) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    given record;
    key record;
    others jsonb;
    validated boolean;
BEGIN
    FOR given IN SELECT * FROM jsonb_to_recordset(back) AS g(id bigint, name text, "constraint" text, role text, oid oid) LOOP
        SELECT coalesce(jsonb_agg(e) FILTER (WHERE e ->> 'table' IS DISTINCT FROM given.name OR e ->> 'constraint' IS DISTINCT FROM given."constraint"), '[]'),
               coalesce(bool_or(e ->> 'later' ~ ' VALIDATE CONSTRAINT ' AND e ->> 'table' = given.name AND e ->> 'constraint' = given."constraint"), false)
          INTO others, validated
          FROM flare.ddl d, jsonb_array_elements(d.fix) e WHERE d.id = given.id;
        SELECT conname, conrelid::regclass AS name, pg_get_userbyid(relowner) AS owner,
               CASE WHEN validated THEN regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') ELSE pg_get_constraintdef(k.oid) END AS definition
          INTO key FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.oid = given.oid;
        IF FOUND THEN
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', key.name, key.conname);
            others := coalesce(others, '[]') || jsonb_build_object('role', key.owner, 'table', key.name::text, 'constraint', key.conname, 'later',
                format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', key.name, key.conname, key.definition, CASE WHEN validated THEN ' NOT VALID' ELSE '' END));
            IF validated THEN
                others := others || jsonb_build_object('role', key.owner, 'table', key.name::text, 'constraint', key.conname, 'later',
                    format('ALTER TABLE %s VALIDATE CONSTRAINT %I', key.name, key.conname));
            END IF;
        END IF;
        UPDATE flare.ddl SET fix = coalesce(others, '[]') WHERE id = given.id;
    END LOOP;
END $f$;

-- As it can be run in a transaction: without the word for one that cannot.
CREATE OR REPLACE FUNCTION flare.ddl_in_transaction(tag text, statement text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    plain text;
    before text;
BEGIN
    IF tag !~ '(INDEX|ALTER TABLE)$' OR statement !~* '\m(concurrently|finalize)\M' THEN
        RETURN statement;
    END IF;
    plain := flare.ddl_plain(statement);
    before := coalesce(substring(plain FROM '(?i)^(\s*(?:create(?:\s+unique)?|drop)\s+index\s+)concurrently\M'),
                       CASE WHEN tag = 'ALTER TABLE' AND plain ~* '\mdetach\s+partition\M' THEN
                           substring(plain FROM '(?i)^(.*[\s"])(?:concurrently|finalize)[\s;]*$') END);
    RETURN coalesce(left(statement, length(before))
        || regexp_replace(substr(statement, length(before) + 1), '^(concurrently|finalize)', '', 'i'), statement);
END $f$;

-- Runs one statement of the other side, in its place among the rows.
CREATE OR REPLACE FUNCTION flare.ddl_apply() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $f$
DECLARE
    decided flare.ddl;
    statement text := new.text;
    one jsonb;
    fixes jsonb := '[]';
    left_to_do jsonb;
    back jsonb := '[]';
BEGIN
    IF new.id < 0 THEN
        RETURN new;
    END IF;
    -- Its numbers go on from there when this side is the one that records.
    PERFORM setval('flare.ddl_id_seq', greatest(new.id, (SELECT last_value FROM flare.ddl_id_seq)));
    SELECT * INTO decided FROM flare.ddl d WHERE d.id = - new.id;
    IF decided.outcome = 'skip' THEN
        new.outcome := 'skipped';
        RETURN new;
    ELSIF decided.outcome = 'replace' THEN
        statement := decided.text;
    END IF;
    statement := flare.ddl_in_transaction(new.tag, statement);
    -- How many columns the table has before it: one that is there keeps its values.
    FOR one IN SELECT jsonb_array_elements(new.fix) LOOP
        fixes := fixes || (one || jsonb_build_object('before', (SELECT relnatts FROM pg_class WHERE oid = to_regclass(one ->> 'table'))));
    END LOOP;
    BEGIN
        IF new.tag ~ '^(ALTER|DROP) ' AND flare.ddl_shapes(new.tag) THEN
            back := flare.ddl_keys_back(new.tag, statement);
        END IF;
        IF new.tag = 'TRUNCATE TABLE' AND decided.outcome IS NULL THEN
            PERFORM flare.ddl_truncate(new.role, statement, new.settings);
            left_to_do := '[]';
        ELSIF new.tag LIKE 'DROP %' THEN
            left_to_do := flare.ddl_drop(new.role, new.tag, statement, new.settings);
        ELSE
            left_to_do := flare.ddl_shape(new.role, new.tag, statement, new.settings);
        END IF;
        FOR one IN SELECT jsonb_array_elements(fixes) LOOP
            CONTINUE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(one ->> 'table')
                                     AND attname = one ->> 'column' AND attnum <= (one ->> 'before')::int);
            PERFORM flare.ddl_sandbox(new.role, one ->> 'sql', new.settings);
        END LOOP;
        PERFORM flare.ddl_close();
        IF to_regprocedure('flare.truncated()') IS NOT NULL THEN
            PERFORM flare.ddl_watch_truncate(array(SELECT attrelid FROM pg_attribute WHERE attname = 'ctid' AND attnum < 0 AND age(xmin) <= 0 AND flare.ddl_own(xmin)));
        END IF;
        IF back <> '[]' THEN
            PERFORM flare.ddl_keys_aside(back);
        END IF;
        new.outcome := CASE WHEN decided.outcome = 'replace' THEN 'replaced' ELSE 'done' END;
        IF left_to_do <> '[]' THEN
            new.fix := coalesce(new.fix, '[]') || left_to_do;
            new.outcome := 'unvalidated';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF flare.ddl_shapes(new.tag) THEN
            RAISE EXCEPTION 'flare: statement % (%) fails here: %', new.id, new.tag, sqlerrm
                USING errcode = sqlstate, detail = left(statement, 2000), hint = 'flare status says what can be done.';
        END IF;
        new.outcome := 'failed';
        new.error := sqlerrm;
    END;
    RETURN new;
END $f$;
DROP TRIGGER IF EXISTS b_apply ON flare.ddl;
CREATE TRIGGER b_apply BEFORE INSERT ON flare.ddl FOR EACH ROW EXECUTE PROCEDURE flare.ddl_apply();
ALTER TABLE flare.ddl ENABLE REPLICA TRIGGER b_apply;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flare FROM public;
GRANT EXECUTE ON FUNCTION flare.ddl_run() TO public;
