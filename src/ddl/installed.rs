//! What is installed on a side for `refuse` and `carry`, and whether it is as this program makes it.

use postgres::error::SqlState;

use super::arm::needs;
use super::truncates;
use crate::config::DdlMode;
use crate::error::{Advise, Result, WrapErr};
use crate::server::{Ddl, Server, Session, Statement, params, sqlstate_of};
use crate::value::{Ident, Literal};

const OBJECTS: &str = include_str!("sql/objects.sql");
const TEXT: &str = include_str!("sql/text.sql");
const NOTICING: &str = include_str!("sql/noticing.sql");
const VALUES: &str = include_str!("sql/values.sql");
const APPLYING: &str = include_str!("sql/applying.sql");
const TRUNCATE: &str = include_str!("sql/truncate.sql");

/// Those that are there in either mode.
pub(super) const EVENT_TRIGGERS: [&str; 8] = [
    "flare_ddl_1",
    "flare_ddl_2",
    "flare_drop_1",
    "flare_drop_2",
    "flare_rewrite",
    "flare_start_1",
    "flare_start_2",
    "flare_start_3",
];

/// The event triggers and the functions go.
pub(super) const TAKE_FUNCTIONS_AWAY: &str = "
    DROP EVENT TRIGGER IF EXISTS flare_ddl_1;
    DROP EVENT TRIGGER IF EXISTS flare_ddl_2;
    DROP EVENT TRIGGER IF EXISTS flare_drop_1;
    DROP EVENT TRIGGER IF EXISTS flare_drop_2;
    DROP EVENT TRIGGER IF EXISTS flare_rewrite;
    DROP EVENT TRIGGER IF EXISTS flare_start_1;
    DROP EVENT TRIGGER IF EXISTS flare_start_2;
    DROP EVENT TRIGGER IF EXISTS flare_start_3;
    DO $$
    DECLARE
        own regprocedure;
    BEGIN
        IF to_regclass('flare.ddl') IS NOT NULL THEN
            DROP TRIGGER IF EXISTS a_guard ON flare.ddl;
            DROP TRIGGER IF EXISTS b_apply ON flare.ddl;
        END IF;
        FOR own IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = 'flare' AND p.proname LIKE 'ddl\\_%' LOOP
            EXECUTE 'DROP FUNCTION ' || own;
        END LOOP;
    END $$;";

/// The table goes after the functions; the schema where nothing else is in it.
pub(super) const TAKE_TABLE_AWAY: &str = "
    DROP TABLE IF EXISTS flare.ddl;
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'flare')
           AND NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'flare') THEN
            DROP SCHEMA IF EXISTS flare;
        END IF;
    END $$";

/// What the catalog has of the functions, the event triggers and the triggers of `flare.ddl`, but for the mode.
pub(super) const AS_IT_IS: &str = r#"
    (SELECT pg_catalog.md5(pg_catalog.string_agg(line, E'\n' ORDER BY line COLLATE pg_catalog."C"))
       FROM (SELECT pg_catalog.concat_ws('|', p.proname, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
                        l.lanname, p.prosrc, p.proconfig, p.prosecdef, p.provolatile, p.proowner, p.proacl) AS line
               FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
              WHERE p.pronamespace = pg_catalog.to_regnamespace('flare') AND p.proname LIKE 'ddl\_%' AND p.proname NOT IN ('ddl_mode', 'ddl_installed')
             UNION ALL
             SELECT pg_catalog.concat_ws('|', evtname, evtevent, evtenabled, evttags, evtowner, proname)
               FROM pg_catalog.pg_event_trigger JOIN pg_catalog.pg_proc p ON p.oid = evtfoid
              WHERE p.pronamespace = pg_catalog.to_regnamespace('flare')
             UNION ALL
             SELECT pg_catalog.concat_ws('|', tgname, tgenabled, tgtype, tgqual, proname)
               FROM pg_catalog.pg_trigger JOIN pg_catalog.pg_proc p ON p.oid = tgfoid
              WHERE tgrelid = pg_catalog.to_regclass('flare.ddl') AND NOT tgisinternal) it)"#;

/// What a side of a database is armed with: what the function `flare.ddl_mode()` returns.
pub(super) fn armed(session: &Session) -> Result<Option<String>> {
    let source: Option<String> = session
        .first(
            "SELECT to_jsonb(p.prosrc) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname = 'flare' AND p.proname = 'ddl_mode'",
            params![],
        )
        .wrap_err("look whether statements are refused or carried")?;
    let words = source.as_deref().and_then(|it| it.split('\'').nth(1));
    Ok(words.map(str::to_owned))
}

/// What makes it the mode.
pub(super) fn mode_is(mode: &str) -> String {
    format!(
        "{}; REVOKE ALL ON FUNCTION flare.ddl_mode() FROM public",
        constant(
            "ddl_mode",
            "text",
            &format!("{}::pg_catalog.text", Literal(mode))
        )
    )
}

/// A function that returns what flare knows and the server does not.
fn constant(name: &str, returns: &str, value: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION flare.{name}() RETURNS {returns} LANGUAGE sql IMMUTABLE AS {}",
        Literal(&format!("SELECT {value}"))
    )
}

fn array_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let literals: Vec<String> = texts
        .into_iter()
        .map(|it| Literal(it).to_string())
        .collect();
    format!("ARRAY[{}]::pg_catalog.text[]", literals.join(", "))
}

/// What of a side is made in one transaction, beside schema and mode.
pub(super) fn installation(
    mode: DdlMode,
    subnames: &[String; 2],
    server: &Server,
    (other, as_owner): (&Server, bool),
) -> String {
    let host = server.declared();
    let accounts = [host.superuser.user.as_str(), host.db_owner.user.as_str()];
    let constants = [
        constant(
            "ddl_subscriptions",
            "text[]",
            &array_of(subnames.iter().map(String::as_str)),
        ),
        constant("ddl_accounts", "text[]", &array_of(accounts)),
        constant("ddl_other_major", "int", &other.major().to_string()),
        // Rows are written by the owner of their table from 16 on.
        constant(
            "ddl_owners_write",
            "boolean",
            &(other.major() >= 16 && !as_owner).to_string(),
        ),
    ]
    .join(";\n");
    // Which only superusers set; `check_rights` has seen that messages are English.
    let noticing = if server.facts().superuser {
        NOTICING.to_owned()
    } else {
        NOTICING.replace(" SET lc_messages = 'C'", "")
    };
    let truncate = if truncates::are_lost(server, other) {
        TRUNCATE
    } else {
        ""
    };
    match mode {
        // The cutover's sessions are the owner's where the administrator is no superuser. Texts may hold secrets.
        DdlMode::Carry => format!(
            "{constants};\n{OBJECTS}{TEXT}{noticing}{VALUES}{truncate}{APPLYING}
             GRANT USAGE ON SCHEMA flare TO {owner}; GRANT SELECT (id, tag, outcome) ON flare.ddl TO {owner}",
            owner = Ident::new(&host.db_owner.user)
        ),
        DdlMode::Refuse | DdlMode::Watch => format!(
            "{constants};\n{TEXT}{noticing}{VALUES}{truncate}REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flare FROM public"
        ),
    }
}

/// A side on which it is to be in place.
pub(super) struct Installing<'a> {
    pub(super) server: &'a Server,
    pub(super) session: &'a Session,
    sql: String,
    /// The mode that it has.
    pub(super) armed: Option<String>,
    /// Whether all but the mode is there as this program makes it.
    pub(super) as_wanted: bool,
}

impl<'a> Installing<'a> {
    pub(super) fn of(server: &'a Server, session: &'a Session, sql: String) -> Result<Self> {
        let armed = armed(session)?;
        let noted =
            "SELECT to_jsonb(p.prosrc) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                      WHERE n.nspname = 'flare' AND p.proname = 'ddl_installed'";
        let noted: Option<String> = session
            .first(noted, params![])
            .wrap_err("look what of flare's is in schema flare")?;
        let as_wanted = match noted {
            None => false,
            Some(noted) => {
                let is: String = session
                    .value(
                        &format!("SELECT md5($1) || {AS_IT_IS}"),
                        params![sql.as_str()],
                    )
                    .wrap_err("look what of flare's is in schema flare")?;
                noted.contains(&is)
            }
        };
        Ok(Self {
            server,
            session,
            sql,
            armed,
            as_wanted,
        })
    }

    /// In one transaction, so that a statement meets the old or the new.
    pub(super) fn install(&self, mode: DdlMode, meanwhile: &str) -> Result<()> {
        let table = match mode {
            DdlMode::Refuse => "DROP TABLE IF EXISTS flare.ddl;",
            DdlMode::Carry | DdlMode::Watch => "",
        };
        let installed = constant("ddl_installed", "text", "'%s'::pg_catalog.text");
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS flare; {table}{mode_is}; {sql};
             DO $installed$ BEGIN EXECUTE pg_catalog.format({installed}, pg_catalog.md5({program}) || {AS_IT_IS}); END $installed$;
             REVOKE ALL ON FUNCTION flare.ddl_installed() FROM public",
            mode_is = mode_is(meanwhile),
            sql = self.sql,
            installed = Literal(&installed),
            program = Literal(&self.sql),
        );
        let run = |sql: String| {
            let statements = [Statement::new("make the event triggers", sql)];
            Ddl::default().run(self.session, &statements)
        };
        let made = match run(sql.clone()) {
            // Those of another program have other arguments.
            Err(report) if sqlstate_of(&report) == Some(&SqlState::INVALID_FUNCTION_DEFINITION) => {
                run(format!("{TAKE_FUNCTIONS_AWAY}{sql}"))
            }
            made => made,
        };
        made.hint(|| needs(self.server))
    }
}
