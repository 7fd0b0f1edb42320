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
BEGIN
    PERFORM set_config('flare.text', statement, true), set_config('flare.settings', settings::text, true);
    CREATE MATERIALIZED VIEW flare.sandbox AS SELECT flare.ddl_run() AS done WITH NO DATA;
    EXECUTE format('ALTER MATERIALIZED VIEW flare.sandbox OWNER TO %I', role);
    REFRESH MATERIALIZED VIEW flare.sandbox;
    DROP MATERIALIZED VIEW flare.sandbox;
END $f$;

-- Whether rows depend on the statement: then apply stops until it has been run, or a person has decided.
CREATE OR REPLACE FUNCTION flare.ddl_shapes(tag text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT tag ~ '(TABLE|TABLE AS|TYPE|DOMAIN|SCHEMA|SEQUENCE|EXTENSION|COLLATION|LANGUAGE)$'
$f$;

-- Closes what the statement has made, where flare keeps the database closed.
CREATE OR REPLACE FUNCTION flare.ddl_close() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    made regclass;
BEGIN
    IF to_regprocedure('flare.fence()') IS NULL THEN
        RETURN;
    END IF;
    FOR made IN
        SELECT c.oid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE a.attname = 'ctid' AND a.attnum < 0 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND flare.ddl_own(a.xmin)
           AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'flare_fence')
    LOOP
        EXECUTE format('CREATE TRIGGER flare_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE PROCEDURE flare.fence()', made);
    END LOOP;
END $f$;

-- Runs one statement of the other side, in its place among the rows.
CREATE OR REPLACE FUNCTION flare.ddl_apply() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    decided flare.ddl;
    statement text := new.text;
    one text;
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
    IF new.tag ~ 'INDEX|TABLE' THEN
        statement := regexp_replace(statement, '\mconcurrently\M', '', 'i');
    END IF;
    BEGIN
        PERFORM flare.ddl_sandbox(new.role, statement, new.settings);
        FOREACH one IN ARRAY coalesce(new.fix, '{}') LOOP
            PERFORM flare.ddl_sandbox(new.role, one, new.settings);
        END LOOP;
        PERFORM flare.ddl_close();
        new.outcome := CASE WHEN decided.outcome = 'replace' THEN 'replaced' ELSE 'done' END;
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
