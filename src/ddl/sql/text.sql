-- Whether there is nothing but blanks and comments.
CREATE OR REPLACE FUNCTION flare.ddl_blank(piece text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT CASE WHEN piece ~ '^\s*[[:alpha:]]' THEN false
                ELSE regexp_replace(regexp_replace(piece, '/\*([^*]|\*+[^*/])*\*+/', ' ', 'g'), '--[^\n]*', ' ', 'g') !~ '\S' END
$f$;

-- The next statement of a string that begins at character `start`, and where the one after it begins; none where the
-- string ends inside of a token. A window moves over the string, so that a long one is not read again and again.
CREATE OR REPLACE FUNCTION flare.ddl_next(string text, start int, OUT statement text, OUT next int)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    total int := length(string);
    at int := start;
    begins int := start;
    piece text;
    mark text;
    token text;
    parentheses int := 0;
    atomic int := 0;
    comments int;
    inside int;
    opens int;
    closes int;
BEGIN
    LOOP
        EXIT WHEN at > total;
        piece := substr(string, at, 2000);
        mark := substring(piece FROM '(?i)(--|/\*|\m[eu]&?''|''|"|\$(?:[[:alpha:]_\u0080-\uffff][[:alnum:]_\u0080-\uffff]*)?\$|;|\(|\)|\m(?:begin\s+atomic|case|end)\M)');
        IF mark IS NULL THEN
            at := at + CASE WHEN length(piece) < 2000 THEN 2000 ELSE 1900 END;
            CONTINUE;
        END IF;
        at := at + strpos(piece, mark) - 1;
        IF mark = ';' THEN
            at := at + 1;
            CONTINUE WHEN parentheses > 0 OR atomic > 0;
            statement := substr(string, begins, at - 1 - begins);
            IF flare.ddl_blank(statement) THEN
                begins := at;
                CONTINUE;
            END IF;
            next := at;
            RETURN;
        ELSIF mark IN ('(', ')') THEN
            parentheses := parentheses + CASE mark WHEN '(' THEN 1 ELSE -1 END;
            at := at + 1;
        ELSIF mark ~* '^begin' THEN
            atomic := atomic + 1;
            at := at + length(mark);
        ELSIF lower(mark) IN ('case', 'end') THEN
            IF atomic > 0 THEN
                atomic := atomic + CASE lower(mark) WHEN 'case' THEN 1 ELSE -1 END;
            END IF;
            at := at + length(mark);
        ELSIF mark = '/*' THEN
            piece := substr(string, at);
            comments := 0;
            inside := 1;
            LOOP
                opens := strpos(substr(piece, inside), '/*');
                closes := strpos(substr(piece, inside), '*/');
                IF closes = 0 THEN
                    statement := NULL;
                    next := NULL;
                    RETURN;
                END IF;
                IF opens > 0 AND opens < closes THEN
                    comments := comments + 1;
                    inside := inside + opens + 1;
                ELSE
                    comments := comments - 1;
                    inside := inside + closes + 1;
                END IF;
                EXIT WHEN comments = 0;
            END LOOP;
            at := at + inside - 1;
        ELSE
            piece := substr(string, at);
            token := CASE
                WHEN mark = '--' THEN substring(piece FROM '^[^\n]*\n?')
                WHEN mark ~* '^e''' THEN substring(piece FROM '^..(?:[^''\\]|\\.|'''')*''')
                WHEN right(mark, 1) = '''' THEN mark || substring(substr(piece, length(mark) + 1) FROM '^(?:[^'']|'''')*''')
                WHEN mark = '"' THEN substring(piece FROM '^"(?:[^"]|"")*"')
                WHEN strpos(substr(piece, length(mark) + 1), mark) > 0
                    THEN left(piece, strpos(substr(piece, length(mark) + 1), mark) + 2 * length(mark) - 1)
            END;
            IF token IS NULL THEN
                RETURN;
            END IF;
            at := at + length(token);
        END IF;
    END LOOP;
    statement := substr(string, begins);
    next := total + 1;
    IF flare.ddl_blank(statement) THEN
        statement := NULL;
    END IF;
END $f$;

-- Whether a statement is one of this tag, by its first words.
CREATE OR REPLACE FUNCTION flare.ddl_is(statement text, tag text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
    SELECT CASE
        WHEN tag IN ('COMMENT', 'SECURITY LABEL', 'GRANT', 'REVOKE')
             AND head ~* '^(comment|security\s+label|grant|revoke)\M.*?\mon\s+(database|role|tablespace|parameter)\M' THEN false
        WHEN tag IN ('GRANT', 'REVOKE') AND head !~* '\mon\M' THEN false
        WHEN tag = 'SELECT INTO' THEN head ~* '^(select|with|\()'
        WHEN tag = 'CREATE TABLE AS' THEN head ~* '^create\s+((global|local|temp|temporary|unlogged)\s+)*table\M.*\mas\M'
        ELSE head ~* ('^' || regexp_replace(tag, ' ', '(\\s|--[^\\n]*\\n|/\\*([^*]|\\*+[^*/])*\\*+/)+((or\\s+replace|global|local|temp|temporary|unlogged|unique|recursive|constraint|trusted|procedural|default)\\s+)*', 'g') || '\M')
    END
      FROM (SELECT regexp_replace(statement, '^(\s+|--[^\n]*(\n|$)|/\*([^*]|\*+[^*/])*\*+/)*', '') AS head) first
$f$;

-- The text of the statement that has fired: from the stack when a function runs it, else from the client's string, in
-- which a place is remembered for each statement.
CREATE OR REPLACE FUNCTION flare.ddl_text(context text, tag text, remember boolean, OUT statement text, OUT unseen text)
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
    IF strpos(rtrim(string, E'; \n\t\r'), ';') = 0 THEN
        IF flare.ddl_is(string, tag) THEN
            statement := rtrim(string, E'; \n\t\r');
        ELSE
            unseen := 'its text does not begin with it: ' || left(string, 60);
        END IF;
        RETURN;
    END IF;
    IF length(string) > 200000 OR string ~* '\mrollback\M' THEN
        SELECT * INTO found FROM flare.ddl_next(string, 1);
        IF found.statement IS NOT NULL AND found.next >= length(rtrim(string, E'; \n\t\r')) AND flare.ddl_is(found.statement, tag) THEN
            statement := found.statement;
        ELSIF length(string) > 200000 THEN
            unseen := 'it is part of a very long string of statements';
        ELSE
            -- It would take the remembered place back, too.
            unseen := 'it is part of a string of statements with ROLLBACK';
        END IF;
        RETURN;
    END IF;
    string_id := statement_timestamp()::text || '/' || md5(string);
    IF strpos(places, statement_timestamp()::text) = 0 THEN
        places := '{}';
    END IF;
    place := coalesce((places::jsonb ->> string_id)::int, 1);
    LOOP
        SELECT * INTO found FROM flare.ddl_next(string, place);
        IF found.statement IS NULL THEN
            unseen := 'its place in a string of several statements cannot be found';
            RETURN;
        END IF;
        place := found.next;
        EXIT WHEN flare.ddl_is(found.statement, tag);
    END LOOP;
    IF remember THEN
        -- For the session, since the string may have a COMMIT in it.
        PERFORM set_config('flare.places', (places::jsonb || jsonb_build_object(string_id, place))::text, false);
    END IF;
    statement := found.statement;
END $f$;
