//! A database with something of everything, on every pair of versions.

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::{Pair, clients, matrix};

const ROLES: &str = include_str!("../fixtures/rich-roles.sql");

/// By the version that brought what is in them.
const FIXTURES: [(u32, &str); 8] = [
    (10, include_str!("../fixtures/rich-10.sql")),
    (11, include_str!("../fixtures/rich-11.sql")),
    (12, include_str!("../fixtures/rich-12.sql")),
    (14, include_str!("../fixtures/rich-14.sql")),
    (15, include_str!("../fixtures/rich-15.sql")),
    (16, include_str!("../fixtures/rich-16.sql")),
    (17, include_str!("../fixtures/rich-17.sql")),
    (18, include_str!("../fixtures/rich-18.sql")),
];

/// What is asked on both sides, in words that do not depend on the version. `own(n)` leaves system schemas out.
const SUBJECTS: [(&str, &str); 20] = [
    (
        "roles",
        "SELECT rolname, rolcanlogin, rolsuper, rolinherit, rolcreatedb, rolcreaterole, rolbypassrls, rolconnlimit,
                rolvaliduntil AT TIME ZONE 'UTC', shobj_description(oid, 'pg_authid'),
                (SELECT rolpassword FROM pg_authid a WHERE a.oid = r.oid),
                (SELECT array_agg(c ORDER BY c) FROM unnest(rolconfig) c)
           FROM pg_roles r WHERE rolname !~ '^pg_' AND oid <> 10",
    ),
    (
        "memberships",
        "SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), bool_or(admin_option) FROM pg_auth_members
          WHERE pg_get_userbyid(member) !~ '^pg_' AND member <> 10 GROUP BY 1, 2",
    ),
    (
        "database",
        "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
                (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), shobj_description(d.oid, 'pg_database'),
                coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'), coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
                (SELECT array_agg(coalesce(NULLIF(setrole, 0)::regrole::text, '-') || ' ' || setconfig::text ORDER BY setrole <> 0, setrole::regrole::text)
                   FROM pg_db_role_setting WHERE setdatabase = d.oid)
           FROM pg_database d WHERE datname = current_database()",
    ),
    (
        "schemas",
        "SELECT nspname, pg_get_userbyid(nspowner), obj_description(oid, 'pg_namespace') FROM pg_namespace n WHERE own(n.nspname) AND nspname <> 'public'",
    ),
    (
        "extensions",
        "SELECT extname, (SELECT nspname FROM pg_namespace WHERE oid = extnamespace), obj_description(oid, 'pg_extension') FROM pg_extension",
    ),
    (
        "relations",
        "SELECT n.nspname, relname, relkind, relpersistence, relreplident, relrowsecurity, relforcerowsecurity, relispartition,
                pg_get_userbyid(relowner), array_to_string(reloptions, ','), pg_get_expr(relpartbound, c.oid),
                CASE WHEN relkind = 'p' THEN pg_get_partkeydef(c.oid) END, obj_description(c.oid, 'pg_class'),
                (SELECT array_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid), reloftype::regtype
           FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE own(n.nspname) AND relkind <> 't'",
    ),
    (
        "columns",
        "SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attstorage, attislocal, attinhcount,
                NULLIF(coalesce(attstattarget, -1), -1), CASE WHEN atttypid <> 'name'::regtype THEN collname END, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum), array_to_string(attfdwoptions, ','),
                coalesce(to_jsonb(a) ->> 'attgenerated', ''), coalesce(to_jsonb(a) ->> 'attcompression', '')
           FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
           LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum LEFT JOIN pg_collation o ON o.oid = attcollation
          WHERE own(n.nspname) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND attnum > 0 AND NOT attisdropped",
    ),
    (
        "constraints",
        "SELECT coalesce(NULLIF(conrelid, 0)::regclass::text, contypid::regtype::text), conname, contype, pg_get_constraintdef(k.oid), convalidated, condeferrable
           FROM pg_constraint k JOIN pg_namespace n ON n.oid = connamespace WHERE own(n.nspname) AND contype NOT IN ('n', 't')",
    ),
    (
        "indexes",
        "SELECT pg_get_indexdef(indexrelid), indisclustered, indisreplident, indisvalid
           FROM pg_index i JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE own(n.nspname) AND relkind <> 't'",
    ),
    (
        "views",
        "SELECT c.oid::regclass, spelled(pg_get_viewdef(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
          WHERE own(n.nspname) AND relkind IN ('v', 'm')",
    ),
    (
        "rules",
        "SELECT ev_class::regclass, rulename, ev_enabled, spelled(pg_get_ruledef(r.oid)) FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class
           JOIN pg_namespace n ON n.oid = relnamespace WHERE own(n.nspname) AND rulename <> '_RETURN'",
    ),
    (
        "triggers",
        "SELECT tgrelid::regclass, tgname, tgenabled, replace(pg_get_triggerdef(t.oid), ' PROCEDURE ', ' FUNCTION ')
           FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE own(n.nspname) AND NOT tgisinternal AND NOT relispartition",
    ),
    (
        "policies",
        "SELECT polrelid::regclass, polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy",
    ),
    (
        "functions",
        "SELECT p.oid::regprocedure, lanname, pg_get_userbyid(proowner), prosrc, probin, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
                provolatile, proisstrict, proparallel, procost, prosecdef, proleakproof, array_to_string(proconfig, ';'), obj_description(p.oid, 'pg_proc'),
                to_jsonb(p) ->> 'prosqlbody' IS NULL
           FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
          WHERE own(n.nspname) AND NOT (prolang = 12 AND p.oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND deptype IN ('i', 'e')))
            AND p.oid NOT IN (SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND deptype IN ('i', 'e'))",
    ),
    (
        "types",
        "SELECT t.oid::regtype, typtype, pg_get_userbyid(typowner), typnotnull, typdefault, format_type(typbasetype, typtypmod),
                (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid), rngsubtype::regtype, rngsubdiff
           FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace LEFT JOIN pg_range ON rngtypid = t.oid
          WHERE own(n.nspname) AND typtype <> 'm' AND typrelid NOT IN (SELECT oid FROM pg_class WHERE relkind = 'S') AND typcategory <> 'A' AND t.oid NOT IN (SELECT objid FROM pg_depend WHERE classid = 'pg_type'::regclass AND deptype = 'e')",
    ),
    (
        "sequences",
        "SELECT schemaname, sequencename, sequenceowner, data_type, start_value, min_value, max_value, increment_by, cycle, cache_size,
                (SELECT refobjid::regclass || '.' || refobjsubid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                    AND d.objid = format('%I.%I', schemaname, sequencename)::regclass AND deptype IN ('a', 'i') AND refobjsubid > 0)
           FROM pg_sequences",
    ),
    (
        "acls of relations and columns",
        "SELECT c.oid::regclass::text, a.grantor::regrole, coalesce(NULLIF(a.grantee, 0)::regrole::text, 'PUBLIC'), a.privilege_type, a.is_grantable
           FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(relacl) a WHERE own(n.nspname) AND a.grantee <> relowner
         UNION ALL
         SELECT attrelid::regclass || '.' || attname, a.grantor::regrole, coalesce(NULLIF(a.grantee, 0)::regrole::text, 'PUBLIC'), a.privilege_type, a.is_grantable
           FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(attacl) a WHERE own(n.nspname)",
    ),
    (
        "other acls",
        "SELECT 'schema', nspname::text, array(SELECT unnest(nspacl)::text ORDER BY 1) FROM pg_namespace n WHERE own(n.nspname) AND nspname <> 'public'
         UNION ALL SELECT 'function', p.oid::regprocedure::text, array(SELECT unnest(proacl)::text ORDER BY 1) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE own(n.nspname) AND proacl IS NOT NULL
                     AND p.oid NOT IN (SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND deptype = 'i')
         UNION ALL SELECT 'type', t.oid::regtype::text, array(SELECT unnest(typacl)::text ORDER BY 1) FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE own(n.nspname) AND typacl IS NOT NULL
         UNION ALL SELECT 'default', concat_ws(' ', pg_get_userbyid(defaclrole), defaclobjtype, defaclnamespace::regnamespace), array(SELECT unnest(defaclacl)::text ORDER BY 1) FROM pg_default_acl
         UNION ALL SELECT 'server', srvname::text, array(SELECT unnest(srvacl)::text ORDER BY 1) FROM pg_foreign_server",
    ),
    (
        "statistics",
        "SELECT stxname, stxrelid::regclass, array(SELECT k::text FROM unnest(stxkind) k WHERE k <> 'm' ORDER BY 1), pg_get_userbyid(stxowner), stxkeys FROM pg_statistic_ext",
    ),
    (
        "the rest",
        "SELECT 'cast', castsource::regtype || ' ' || casttarget::regtype, castfunc::regprocedure::text, castcontext::text FROM pg_cast c WHERE c.oid >= 16384 AND c.oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e') AND casttarget NOT IN (SELECT oid FROM pg_type WHERE typtype = 'm')
         UNION ALL SELECT 'operator', o.oid::regoperator::text, oprcode::text, oprcom::regoperator::text FROM pg_operator o JOIN pg_namespace n ON n.oid = oprnamespace WHERE own(n.nspname) AND o.oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')
         UNION ALL SELECT 'class', opcname::text, opcintype::regtype::text, pg_get_userbyid(opcowner) FROM pg_opclass c JOIN pg_namespace n ON n.oid = opcnamespace WHERE own(n.nspname) AND c.oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')
         UNION ALL SELECT 'family', opfname::text, NULL, pg_get_userbyid(opfowner) FROM pg_opfamily f JOIN pg_namespace n ON n.oid = opfnamespace WHERE own(n.nspname) AND f.oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')
         UNION ALL SELECT 'collation', collname::text, pg_get_userbyid(collowner), coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', collcollate::text) FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace WHERE own(n.nspname)
         UNION ALL SELECT 'conversion', conname::text, conproc::text, pg_get_userbyid(conowner) FROM pg_conversion JOIN pg_namespace n ON n.oid = connamespace WHERE own(n.nspname)
         UNION ALL SELECT 'dictionary', dictname::text, dictinitoption, pg_get_userbyid(dictowner) FROM pg_ts_dict JOIN pg_namespace n ON n.oid = dictnamespace WHERE own(n.nspname)
         UNION ALL SELECT 'configuration', cfgname::text, (SELECT count(*)::text FROM pg_ts_config_map WHERE mapcfg = c.oid AND maptokentype < 20), pg_get_userbyid(cfgowner) FROM pg_ts_config c JOIN pg_namespace n ON n.oid = cfgnamespace WHERE own(n.nspname)
         UNION ALL SELECT 'wrapper', fdwname::text, fdwoptions::text, pg_get_userbyid(fdwowner) FROM pg_foreign_data_wrapper
         UNION ALL SELECT 'server', srvname::text, srvoptions::text, srvversion FROM pg_foreign_server
         UNION ALL SELECT 'mapping', usename::text, array(SELECT unnest(umoptions) ORDER BY 1)::text, srvname::text FROM pg_user_mappings
         UNION ALL SELECT 'event trigger', evtname::text, evtenabled::text, evtfoid::regprocedure::text FROM pg_event_trigger",
    ),
];

/// Made in the session alone: which schemas count, and a view's text without what only the version decides.
const HELPERS: &str = r#"
    SET search_path = pg_catalog;
    CREATE FUNCTION pg_temp.own(name) RETURNS bool LANGUAGE sql AS $$ SELECT $1 !~ '^pg_' AND $1 NOT IN ('information_schema', 'flare') $$;
    CREATE FUNCTION pg_temp.spelled(text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(regexp_replace($1, '\m[a-z_0-9]+\.', '', 'g'), '[\s()]+', '', 'g') $$;
"#;

fn answers(server: &Cluster, db: &str, sql: &str) -> Vec<String> {
    let sql = sql
        .replace("own(n.", "pg_temp.own(n.")
        .replace("spelled(", "pg_temp.spelled(");
    let rows = server.rows(
        db,
        &format!("{HELPERS} SELECT q::text FROM ({sql}) q ORDER BY 1"),
    );
    rows.into_iter()
        .filter_map(|mut row| row.pop().flatten())
        .collect()
}

fn assert_equal(pair: &Pair) {
    let mut objects = 0;
    for (subject, sql) in SUBJECTS {
        let ours = answers(pair.publisher(), pair.db(), sql);
        let theirs = answers(pair.subscriber(), pair.db(), sql);
        let lacking: Vec<&String> = ours.iter().filter(|row| !theirs.contains(row)).collect();
        let strange: Vec<&String> = theirs.iter().filter(|row| !ours.contains(row)).collect();
        assert!(
            lacking.is_empty() && strange.is_empty(),
            "{subject} of {:?} to {:?}\n  lack {lacking:#?}\n  have {strange:#?}",
            pair.publisher(),
            pair.subscriber()
        );
        objects += ours.len();
    }
    assert!(objects > 400, "only {objects} rows were compared");
}

pub fn rich(old: u32, new: u32) -> Pair {
    let pair = Pair::alone(old, new);
    let (publisher, db) = (pair.publisher(), pair.db());
    let locale = match old {
        17.. => "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'",
        15.. => "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C' LC_CTYPE 'C'",
        _ => "LC_COLLATE 'C' LC_CTYPE 'C'",
    };
    publisher.sql("postgres", ROLES);
    publisher.sql("postgres", &format!("DROP DATABASE {db}"));
    publisher.sql(
        "postgres",
        &format!(
            "CREATE DATABASE {db} OWNER \"app-owner\" TEMPLATE template0 ENCODING 'UTF8' {locale}"
        ),
    );
    for (since, sql) in FIXTURES {
        if since <= old {
            publisher.sql(db, sql);
        }
    }
    publisher.sql(
        "postgres",
        &format!(
            "REVOKE ALL ON DATABASE {db} FROM PUBLIC; GRANT CONNECT ON DATABASE {db} TO app WITH GRANT OPTION;
             ALTER DATABASE {db} SET search_path = app, public; ALTER DATABASE {db} SET work_mem = '7MB';
             ALTER ROLE app IN DATABASE {db} SET lock_timeout = '9s'; ALTER DATABASE {db} CONNECTION LIMIT 55;
             COMMENT ON DATABASE {db} IS 'rich; ''x'''"
        ),
    );
    pair
}

fn json_of(pair: &Pair, args: &[&str]) -> serde_json::Value {
    let args = [args, &["--format", "json"]].concat();
    pair.flare(&args).ok().json()
}

#[test]
fn everything_arrives_on_every_pair() {
    matrix::for_some_pairs(|old, new| {
        let pair = rich(old, new);
        let db = pair.db();
        json_of(&pair, &["replicate_roles"]);
        let second = json_of(&pair, &["replicate_roles"]);
        assert_eq!(second["changed"], false, "{second}");
        let first = json_of(&pair, &["replicate_schema", db]);
        assert_eq!(first["outcome"], "created", "{first}");
        let second = json_of(&pair, &["replicate_schema", db]);
        assert_eq!(
            (&second["outcome"], &second["changed"]),
            (&json!("already"), &json!(false)),
            "{second}"
        );
        let extensions = json_of(&pair, &["install_extensions", db]);
        assert_eq!(extensions["changed"], false, "{extensions}");
        assert_equal(&pair);
        let verified = json_of(&pair, &["verify_schema", pair.subname()]);
        assert_eq!(
            (&verified["differences"], &verified["method"]),
            (&json!([]), &json!("throwaway")),
            "{old}-{new}: {verified:#}"
        );
        let drift = json_of(&pair, &["replicate_schema", "--missing", "--dry-run", db]);
        assert_eq!(
            (&drift["statements"], &drift["differences"]),
            (&json!([]), &json!([])),
            "{drift}"
        );
        pair.subscriber()
            .connect(db, "app", "apppw")
            .expect("the application with its old password")
            .batch_execute("SELECT count(*) FROM app.customers")
            .expect("and its old privileges");
    });
}

#[test]
#[ignore = "make soak"]
fn older_clients_carry_it_too_and_compare_by_the_catalogs() {
    for &(old, new, client) in matrix::sample(
        &[(10, 18, 15), (14, 16, 15), (17, 18, 17), (10, 13, 15)],
        &[(10, 18, 15)],
    ) {
        if clients::bin(client).is_none() {
            continue;
        }
        let pair = rich(old, new).clients(client);
        let db = pair.db();
        json_of(&pair, &["replicate_roles"]);
        json_of(&pair, &["replicate_schema", db]);
        assert_equal(&pair);
        let second = json_of(&pair, &["replicate_schema", db]);
        assert_eq!(second["outcome"], "already", "{second}");
        let readable = new <= client;
        let by_catalogs = second["notes"].to_string().contains("by the catalogs");
        assert_eq!(
            by_catalogs, !readable,
            "{old}-{new} with {client}: {second}"
        );
        if readable {
            continue;
        }
        // An identity that flare sets is made equal and is no difference.
        let table = "ALTER TABLE app.many_1 REPLICA IDENTITY FULL";
        pair.publisher().sql(db, table);
        let third = json_of(&pair, &["replicate_schema", db]);
        assert_eq!(
            (&third["outcome"], &third["changed"]),
            (&json!("already"), &json!(true))
        );
        let refused = |object: &str| {
            pair.flare(&["replicate_schema", db]).code(1).says(object);
        };
        pair.subscriber()
            .sql(db, "ALTER TABLE app.many_2 ADD extra int");
        refused("column app.many_2.extra");
        pair.subscriber()
            .sql(db, "ALTER TABLE app.many_2 DROP extra");
        json_of(&pair, &["replicate_schema", db]);
        pair.publisher()
            .sql(db, "ALTER TABLE app.many_3 ALTER code SET DEFAULT 'x'");
        refused("app.many_3.code");
        // Newer programs name the difference.
        let pair = pair.clients(18);
        pair.flare(&["replicate_schema", pair.db()])
            .code(1)
            .says("TABLE many_3 in schema app");
    }
}

/// What versions refuse, with the first words of the object and of the server.
const REFUSED: [(u32, u32, &str, &str, &str); 7] = [
    (
        10,
        11,
        "CREATE VIEW w AS SELECT proisagg FROM pg_proc",
        "public.w (reads pg_proc.proisagg)",
        "gone_columns",
    ),
    (
        11,
        12,
        "CREATE TABLE old (a int) WITH OIDS",
        "no table has oids any more",
        "public.old",
    ),
    (
        10,
        18,
        "CREATE TABLE old (a reltime)",
        "column public.old.a",
        "type reltime is gone",
    ),
    (
        11,
        12,
        "CREATE TABLE old (a tinterval)",
        "column public.old.a",
        "type tinterval is gone",
    ),
    (
        11,
        12,
        "CREATE VIEW w AS SELECT relhasoids FROM pg_class",
        "public.w (reads pg_class.relhasoids)",
        "gone_columns",
    ),
    (
        13,
        14,
        "CREATE OPERATOR !!! (leftarg = bigint, procedure = numeric_fac)",
        "operator public.!!!",
        "postfix operators are gone",
    ),
    (
        13,
        14,
        "CREATE AGGREGATE gather (anyelement) (sfunc = array_append, stype = anyarray, initcond = '{}')",
        "aggregate public.gather(anyelement)",
        "its function takes anycompatible now",
    ),
];

#[test]
fn what_a_newer_version_refuses_is_named_and_leaves_nothing() {
    for (old, new, sql, object, words) in REFUSED {
        let pair = Pair::new(old, new);
        let db = pair.db();
        pair.create_roles_on(pair.subscriber());
        pair.publisher().sql(
            db,
            &format!("SET search_path = public; CREATE TABLE fine (a int); {sql}"),
        );
        pair.flare(&["replicate_schema", db])
            .code(1)
            .says(object)
            .says(words);
        let databases = format!("SELECT count(*) FROM pg_database WHERE datname = '{db}'");
        assert_eq!(pair.subscriber().value("postgres", &databases), "0");
    }
}
