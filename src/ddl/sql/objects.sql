-- Statements as they were run on the open side, in the order of their numbers within a session. Row -N is what a person
-- has decided about statement N, on the side that receives it.
CREATE TABLE IF NOT EXISTS flare.ddl (
    id       bigserial PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    role     name NOT NULL,
    tag      text NOT NULL,
    text     text NOT NULL,
    settings jsonb NOT NULL,
    objects  text[],
    -- Statements that give rows the values that the open side has computed: {sql}, and {table, column} where it holds of a
    -- column that is new with the statement.
    fix      jsonb,
    outcome  text,
    error    text
);
REVOKE ALL ON flare.ddl FROM public;

-- pg_write_all_data passes privileges that nobody was given.
CREATE OR REPLACE FUNCTION flare.ddl_guard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RAISE EXCEPTION 'flare.ddl is written by flare''s event triggers alone' USING errcode = 'insufficient_privilege';
END $f$;
DROP TRIGGER IF EXISTS a_guard ON flare.ddl;
-- The condition costs less than a function.
DO $do$ BEGIN
    EXECUTE pg_catalog.format('CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON flare.ddl FOR EACH ROW
                                 WHEN (NOT pg_catalog.pg_has_role(current_user, %s::pg_catalog.oid, ''USAGE'')) EXECUTE PROCEDURE flare.ddl_guard()',
        (SELECT relowner FROM pg_catalog.pg_class WHERE oid = 'flare.ddl'::pg_catalog.regclass));
END $do$;
ALTER TABLE flare.ddl ENABLE ALWAYS TRIGGER a_guard;
