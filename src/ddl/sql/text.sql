-- How long the comment is that begins at character `start`; comments nest. None where it does not end.
CREATE OR REPLACE FUNCTION flare.ddl_comment(string text, start int) RETURNS int
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    piece CONSTANT text := substr(string, start);
    depth int := 0;
    inside int := 1;
    opens int;
    closes int;
BEGIN
    LOOP
        opens := strpos(substr(piece, inside), '/*');
        closes := strpos(substr(piece, inside), '*/');
        IF closes = 0 THEN
            RETURN NULL;
        END IF;
        IF opens > 0 AND opens < closes THEN
            depth := depth + 1;
            inside := inside + opens + 1;
        ELSE
            depth := depth - 1;
            inside := inside + closes + 1;
        END IF;
        EXIT WHEN depth = 0;
    END LOOP;
    RETURN inside - 1;
END $f$;

-- The first word from a place on, behind blanks and comments.
CREATE OR REPLACE FUNCTION flare.ddl_word(string text, start int) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    at int := start;
    token text;
BEGIN
    LOOP
        token := substring(substr(string, at) FROM '^(?:\s+|--[^\n\r]*|/\*|\w+)');
        IF token IS NULL OR token ~ '^\w' THEN
            RETURN lower(token);
        END IF;
        at := at + CASE token WHEN '/*' THEN flare.ddl_comment(string, at) ELSE length(token) END;
    END LOOP;
END $f$;

-- The next statement of a string that begins at character `start`, and where the one after it begins; none where the
-- string ends inside of a token. `plain` is the statement with blanks for comments and for what is inside of constants,
-- character by character. A window moves over the string, so that a long one is not read again and again.
CREATE OR REPLACE FUNCTION flare.ddl_next(string text, start int, OUT statement text, OUT next int, OUT plain text)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    total CONSTANT int := length(string);
    at int := start;
    begins int := start;
    -- Up to where `plain` is.
    done int := start;
    piece text;
    mark text;
    token text;
    long int;
    parentheses int := 0;
    atomic int := 0;
BEGIN
    plain := '';
    LOOP
        EXIT WHEN at > total;
        piece := substr(string, at, 2000);
        mark := substring(piece FROM '(?i)(--|/\*|\m[eu]&?''|''|"|(?<![[:alnum:]_$\u0080-\uffff])\$(?:[[:alpha:]_\u0080-\uffff][[:alnum:]_\u0080-\uffff]*)?\$|;|\(|\)|\m(?:begin|case|end)\M)');
        IF mark IS NULL THEN
            at := at + CASE WHEN length(piece) < 2000 THEN 2000 ELSE 1900 END;
            CONTINUE;
        END IF;
        long := strpos(piece, mark) - 1;
        at := at + long;
        IF mark = ';' THEN
            at := at + 1;
            CONTINUE WHEN parentheses > 0 OR atomic > 0;
            plain := plain || substr(string, done, at - 1 - done);
            IF plain !~ '\S' THEN
                begins := at;
                done := at;
                plain := '';
                CONTINUE;
            END IF;
            statement := substr(string, begins, at - 1 - begins);
            next := at;
            RETURN;
        ELSIF mark IN ('(', ')') THEN
            parentheses := parentheses + CASE mark WHEN '(' THEN 1 ELSE -1 END;
            at := at + 1;
        ELSIF lower(mark) = 'begin' THEN
            at := at + 5;
            IF atomic = 0 AND flare.ddl_word(string, at) = 'atomic' THEN
                atomic := 1;
            END IF;
        ELSIF lower(mark) IN ('case', 'end') THEN
            IF atomic > 0 THEN
                atomic := atomic + CASE lower(mark) WHEN 'case' THEN 1 ELSE -1 END;
            END IF;
            at := at + length(mark);
        ELSE
            -- In the window, where it certainly ends there; else in all that is left.
            piece := substr(piece, long + 1);
            LOOP
                token := CASE
                    WHEN mark = '/*' THEN left(piece, flare.ddl_comment(piece, 1))
                    WHEN mark = '--' THEN substring(piece FROM '^[^\n\r]*')
                    WHEN mark ~* '^e''' THEN substring(piece FROM '^..(?:[^''\\]|\\.|'''')*''')
                    WHEN right(mark, 1) = '''' THEN mark || substring(substr(piece, length(mark) + 1) FROM '^(?:[^'']|'''')*''')
                    WHEN mark = '"' THEN substring(piece FROM '^"(?:[^"]|"")*"')
                    WHEN strpos(substr(piece, length(mark) + 1), mark) > 0
                        THEN left(piece, strpos(substr(piece, length(mark) + 1), mark) + 2 * length(mark) - 1)
                END;
                EXIT WHEN length(token) < length(piece) OR at + length(piece) > total;
                piece := substr(string, at);
            END LOOP;
            IF token IS NULL THEN
                statement := NULL;
                plain := NULL;
                RETURN;
            END IF;
            long := length(token);
            IF mark <> '"' THEN
                plain := plain || substr(string, done, at - done)
                    || CASE WHEN mark IN ('--', '/*') THEN repeat(' ', long) ELSE '''' || repeat(' ', long - 2) || '''' END;
                done := at + long;
            END IF;
            at := at + long;
        END IF;
    END LOOP;
    plain := plain || substr(string, done);
    next := total + 1;
    IF plain ~ '\S' THEN
        statement := substr(string, begins);
    END IF;
END $f$;

-- A statement as `ddl_next` has it in `plain`.
CREATE OR REPLACE FUNCTION flare.ddl_plain(statement text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF statement ~ '[''$]|--|/\*' THEN
        RETURN (flare.ddl_next(statement, 1)).plain;
    END IF;
    RETURN statement;
END $f$;

-- Whether a statement, as `ddl_next` has it in `plain`, is one of this tag, by its first words; of objects above databases
-- there are no events.
CREATE OR REPLACE FUNCTION flare.ddl_is(plain text, tag text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN CASE
        WHEN tag IN ('COMMENT', 'SECURITY LABEL') AND plain ~* '^\s*(comment|security\s+label(\s+for\s+\S+)?)\s+on\s+(database|role|tablespace|event\s+trigger)\s' THEN false
        WHEN tag IN ('GRANT', 'REVOKE')
             AND (plain !~* '\mon\M' OR plain ~* '\mon\s+(database|tablespace|parameter)\s+(?!(to|from)\M)[^\s,]') THEN false
        WHEN tag = 'SELECT INTO' THEN plain ~* '^\s*(select|with|\()'
        WHEN tag = 'CREATE TABLE AS' THEN plain ~* '^\s*create\s+((global|local|temp|temporary|unlogged)\s+)*table\M.*\mas\M'
        ELSE plain ~* ('^\s*' || regexp_replace(tag, ' ', '\\s+((or\\s+replace|global|local|temp|temporary|unlogged|unique|recursive|constraint|trusted|procedural|default)\\s+)*', 'g') || '\M')
    END;
END $f$;

-- Whether one of the statements of a string is ROLLBACK.
CREATE OR REPLACE FUNCTION flare.ddl_rolls_back(string text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    found record;
    place int := 1;
BEGIN
    IF string !~* '\mrollback\M' THEN
        RETURN false;
    END IF;
    LOOP
        SELECT * INTO found FROM flare.ddl_next(string, place);
        -- What is no statement may be anything.
        IF found.plain IS NULL OR found.plain ~* '^\s*rollback\M' THEN
            RETURN true;
        ELSIF found.statement IS NULL THEN
            RETURN false;
        END IF;
        place := found.next;
    END LOOP;
END $f$;

-- The text of the statement that has fired: from the stack when a function runs it, else from the client's string, in
-- which a place is remembered for each statement.
CREATE OR REPLACE FUNCTION flare.ddl_text(context text, tag text, remember boolean, OUT statement text, OUT plain text, OUT unseen text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    string text;
    ends int;
    place int;
    string_id text;
    found record;
    places text := coalesce(current_setting('flare.places', true), '');
BEGIN
    -- The first line is flare's own function.
    context := substr(context, coalesce(nullif(strpos(context, E'\n'), 0), length(context)) + 1);
    IF context = '' THEN
        string := current_query();
    ELSIF context LIKE 'SQL statement "%' THEN
        ends := strpos(context, E'"\nPL/pgSQL function ');
        string := CASE WHEN ends > 0 THEN substr(context, 16, ends - 16) END;
    END IF;
    IF string IS NULL THEN
        unseen := 'a function runs it whose text cannot be seen';
        RETURN;
    END IF;
    IF string !~ ';[; \n\t\r]*[^; \n\t\r]' THEN
        string := rtrim(string, E'; \n\t\r');
        plain := flare.ddl_plain(string);
        IF flare.ddl_is(plain, tag) THEN
            statement := string;
        ELSE
            unseen := 'its text does not begin with it: ' || left(string, 60);
        END IF;
        RETURN;
    END IF;
    string_id := statement_timestamp()::text || '/' || md5(string);
    IF strpos(places, statement_timestamp()::text) = 0 THEN
        places := '{}';
    END IF;
    place := (places::jsonb ->> string_id)::int;
    -- What has a place has been looked at before.
    IF place IS NULL AND (length(string) > 200000 OR flare.ddl_rolls_back(string)) THEN
        SELECT * INTO found FROM flare.ddl_next(string, 1);
        IF found.statement IS NOT NULL AND found.next >= length(rtrim(string, E'; \n\t\r')) AND flare.ddl_is(found.plain, tag) THEN
            statement := found.statement;
            plain := found.plain;
        ELSIF length(string) > 200000 THEN
            unseen := 'it is part of a very long string of statements';
        ELSE
            -- It would take the remembered place back, too.
            unseen := 'it is part of a string of statements with ROLLBACK';
        END IF;
        RETURN;
    END IF;
    IF strpos(string, '\') > 0 AND current_setting('flare.who')::jsonb -> 'settings' ->> 'standard_conforming_strings' = 'off' THEN
        unseen := 'it is part of a string of statements with standard_conforming_strings off';
        RETURN;
    END IF;
    place := coalesce(place, 1);
    LOOP
        SELECT * INTO found FROM flare.ddl_next(string, place);
        IF found.statement IS NULL THEN
            unseen := 'its place in a string of several statements cannot be found';
            RETURN;
        END IF;
        place := found.next;
        EXIT WHEN flare.ddl_is(found.plain, tag);
    END LOOP;
    IF remember THEN
        -- For the session, since the string may have a COMMIT in it.
        PERFORM set_config('flare.places', (places::jsonb || jsonb_build_object(string_id, place))::text, false);
    END IF;
    statement := found.statement;
    plain := found.plain;
END $f$;
