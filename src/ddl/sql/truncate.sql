-- PostgreSQL before 11 neither sends a TRUNCATE nor takes one. Where one of the servers is of these, a trigger on each table
-- sees it.
CREATE OR REPLACE FUNCTION flare.truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $f$
BEGIN
    IF flare.ddl_bypass() OR flare.ddl_receiving() THEN
        RETURN NULL;
    ELSIF flare.ddl_mode() = 'refuse' THEN
        RAISE EXCEPTION 'TRUNCATE of % is refused: flare is moving this database, and PostgreSQL 10 does not replicate it', tg_relid::regclass
            USING errcode = 'object_not_in_prerequisite_state', hint = 'Use DELETE; or have it carried: ddl: carry in flare.yml.';
    ELSIF EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND slot_name ~ '_sync_[0-9]+(_[0-9]+)?$') THEN
        -- Whether the copy is of before or after it would be anybody's guess.
        RAISE EXCEPTION 'TRUNCATE is refused for now: flare is copying tables to the other server'
            USING errcode = 'object_not_in_prerequisite_state', hint = 'Try again when flare status says that every table replicates.';
    END IF;
    INSERT INTO flare.ddl (id, role, tag, text, settings, objects)
    SELECT nextval('flare.ddl_id_seq'), pg_get_userbyid(relowner), 'TRUNCATE TABLE', format('TRUNCATE ONLY %s', oid::regclass),
           -- Where it stands among the rows, see ddl_truncate.
           jsonb_build_object('flare.truncated_at', pg_current_wal_insert_lsn()), ARRAY['table ' || oid::regclass]
      FROM pg_class WHERE oid = tg_relid;
    RETURN NULL;
END $f$;
REVOKE ALL ON FUNCTION flare.truncated() FROM public;

-- Puts the trigger on these tables.
CREATE OR REPLACE FUNCTION flare.ddl_watch_truncate(tables oid[]) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    made regclass;
BEGIN
    FOR made IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid = ANY (tables) AND c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'flare'
                   AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'flare_truncate') LOOP
        EXECUTE format('CREATE TRIGGER flare_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE PROCEDURE flare.truncated()', made);
    END LOOP;
END $f$;

-- Empties a table here, unless its rows are copied at a later time than that: as apply would, see should_apply_changes_for_rel.
CREATE OR REPLACE FUNCTION flare.ddl_truncate(role name, statement text, settings jsonb) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    named CONSTANT text := substr(statement, length('TRUNCATE ONLY ') + 1);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
                    WHERE r.srrelid = to_regclass(named) AND s.subname = ANY (flare.ddl_subscriptions())
                      AND (r.srsubstate = 'r' OR r.srsubstate = 's' AND r.srsublsn <= (settings ->> 'flare.truncated_at')::pg_lsn)) THEN
        RETURN;
    END IF;
    BEGIN
        PERFORM flare.ddl_sandbox(role, statement, settings);
    EXCEPTION WHEN feature_not_supported THEN
        -- A table refers to it, whose rows have gone before or go next. Policies hide no row from it: they make it fail.
        PERFORM flare.ddl_sandbox(role, 'DELETE FROM ONLY ' || named, settings || '{"row_security": "off"}');
    END;
END $f$;
