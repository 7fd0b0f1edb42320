//! Settings of roles and databases (`pg_db_role_setting`), and what may be set (`pg_settings`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Server, Session, is_lost, params};
use crate::value::Literal;

/// One setting of a role, a database, or a role in a database; both `None`: of every role (`ALTER ROLE ALL`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Setting {
    pub(crate) role: Option<String>,
    pub(crate) dbname: Option<String>,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// SQL: whether the value of the setting `$name` is a list of names (`GUC_LIST_QUOTE` in guc.h), as every version has it.
macro_rules! is_list_of_names {
    ($name:literal) => {
        concat!(
            $name,
            " ~ '^(search_path|temp_tablespaces|unix_socket_directories|.*_preload_libraries|oauth_validator_libraries)$'"
        )
    };
}
pub(crate) use is_list_of_names;

/// SQL: the list of names `$value` without the quotes that no name needs: quote_all_identifiers makes them.
macro_rules! without_needless_quotes {
    ($value:literal) => {
        concat!(
            "regexp_replace(",
            $value,
            ", '\"([a-z_][a-z0-9_]*)\"', '\\1', 'g')"
        )
    };
}
pub(crate) use without_needless_quotes;

const SETTINGS: &str = concat!(
    "
    SELECT jsonb_build_object(
             'role', CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END,
             'dbname', d.datname,
             'name', v.name,
             'value', CASE WHEN ",
    is_list_of_names!("v.name"),
    " THEN ",
    without_needless_quotes!("v.value"),
    " ELSE v.value END)
      FROM pg_db_role_setting s
      LEFT JOIN pg_database d ON d.oid = s.setdatabase
     CROSS JOIN unnest(s.setconfig) WITH ORDINALITY u(c, position)
     CROSS JOIN LATERAL (SELECT split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)) v(name, value)
     WHERE s.setdatabase = 0 OR d.oid IS NOT NULL
     ORDER BY s.setdatabase, s.setrole, position"
);

/// Every setting of roles and databases.
pub(crate) fn settings(session: &Session) -> Result<Vec<Setting>> {
    session.list(SETTINGS, params![])
}

/// Whether a parameter may be set for a role or a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settable {
    Yes,
    NotPermitted,
    /// This version has no such parameter.
    Unknown,
    /// It does not take the value, or a library that the value names is not there.
    Refused,
}

/// What every version takes and `pg_settings` does not list. (`default_with_oids` is another, which 12 and newer refuse to set.)
pub(crate) const UNLISTED: [&str; 3] = ["role", "session_authorization", "seed"];

/// Those of some parameters that a server's version has. One with a dot in its name is an extension's or nobody's: it is taken.
pub(crate) fn known(session: &Session, names: &Vec<String>) -> Result<BTreeSet<String>> {
    let unlisted: Vec<String> = UNLISTED.map(str::to_owned).to_vec();
    let known: Vec<String> = session.list(
        "SELECT to_jsonb(n) FROM unnest($1::text[]) n
          WHERE strpos(n, '.') > 0 OR lower(n) = ANY ($2) OR EXISTS (SELECT FROM pg_settings s WHERE lower(s.name) = lower(n))",
        params![names, unlisted],
    )?;
    Ok(known.into_iter().collect())
}

/// What the role of a session may set for roles and databases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    superuser: bool,
    settable: BTreeMap<String, bool>,
    refused: Vec<Setting>,
}

/// Reads what the role of the administrator's session may set, and tries the values of those that are wanted.
pub(crate) fn parameters(server: &Server, wanted: &[Setting]) -> Result<Parameters> {
    #[derive(Deserialize)]
    struct Parameter {
        name: String,
        settable: bool,
    }
    let granted = match server.major() {
        15.. => "OR has_parameter_privilege(s.name, 'SET')",
        _ => "",
    };
    let sql = format!(
        "SELECT jsonb_build_object('name', lower(s.name), 'settable',
                  current_setting('is_superuser') = 'on' OR s.context IN ('user', 'backend') {granted})
           FROM pg_settings s"
    );
    let found: Vec<Parameter> = server.admin().list(&sql, params![])?;
    Ok(Parameters {
        superuser: server.facts().superuser,
        settable: found
            .into_iter()
            .map(|parameter| (parameter.name, parameter.settable))
            .chain(UNLISTED.map(|name| (name.to_owned(), true)))
            .collect(),
        refused: refused(server, wanted)?
            .into_iter()
            .map(|it| it.0)
            .collect(),
    })
}

/// Sets each value in a transaction that only reads, one by one, and takes it back: what a server refuses it says itself.
/// Values that only count when a session begins, name what need not exist, or would end this session are not tried so.
const TRY: &str = "
    DO LANGUAGE plpgsql $flare$
    DECLARE one record; refused jsonb := '[]';
    BEGIN
      FOR one IN SELECT t.at, t.setting ->> 'name' AS name, t.setting ->> 'value' AS value
                   FROM jsonb_array_elements(current_setting('flare.wanted')::jsonb) WITH ORDINALITY t(setting, at)
                   JOIN pg_settings s ON lower(s.name) = lower(t.setting ->> 'name')
                  WHERE s.context NOT IN ('backend', 'superuser-backend', 'internal', 'postmaster', 'sighup')
                    AND lower(s.name) NOT IN ('role', 'session_authorization', 'default_tablespace', 'temp_tablespaces',
                        'default_text_search_config', 'search_path', 'session_preload_libraries', 'local_preload_libraries',
                        'exit_on_error', 'transaction_timeout')
      LOOP
        BEGIN
          PERFORM set_config(one.name, one.value, true);
          RAISE SQLSTATE 'FLARE';
        EXCEPTION
          WHEN SQLSTATE 'FLARE' THEN NULL;
          WHEN data_exception THEN refused := refused || jsonb_build_object('at', one.at - 1, 'why', SQLERRM);
          WHEN OTHERS THEN NULL;
        END;
      END LOOP;
      PERFORM set_config('flare.wanted', refused::text, true);
    END $flare$";

/// Those of the settings whose value the server does not take, and why.
pub(crate) fn refused(server: &Server, wanted: &[Setting]) -> Result<Vec<(Setting, String)>> {
    #[derive(Deserialize)]
    struct Refused {
        at: usize,
        why: String,
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let admin = server.admin();
    let values: Vec<serde_json::Value> = wanted
        .iter()
        .map(|it| serde_json::json!({"name": it.name, "value": it.value}))
        .collect();
    let values = Literal(serde_json::Value::from(values).to_string());
    let tried = admin
        .batch(&format!(
            "BEGIN READ ONLY; SELECT set_config('flare.wanted', {values}, true); {TRY}"
        ))
        .and_then(|()| {
            admin.list::<Refused>(
                "SELECT jsonb_array_elements(current_setting('flare.wanted')::jsonb)",
                params![],
            )
        });
    if !tried.as_ref().is_err_and(is_lost) {
        admin.batch("ROLLBACK")?;
    }
    let tried = tried.wrap_err("try the settings of roles and databases")?;
    let mut refused: Vec<(Setting, String)> = tried
        .into_iter()
        .filter_map(|it| Some((wanted.get(it.at)?.clone(), it.why)))
        .collect();
    let loading = |it: &&Setting| LOADING.contains(&it.name.to_lowercase().as_str());
    let loading: Vec<&Setting> = wanted.iter().filter(loading).collect();
    if !loading.is_empty()
        && let Some(there) = libraries(server)?
    {
        for setting in loading {
            if let Some(name) = missing_library(&setting.name, &setting.value, &there) {
                refused.push((setting.clone(), format!("library {name:?} is not there")));
            }
        }
    }
    Ok(refused)
}

/// Settings that load libraries when a session begins: one that is missing ends the session.
pub(crate) const LOADING: [&str; 2] = ["session_preload_libraries", "local_preload_libraries"];

/// The files among which a server finds what these settings name, those in its directory `plugins` as `plugins/x`.
pub(crate) const LIBRARY_FILES: &str = "
    SELECT to_jsonb(f) FROM pg_config c, regexp_split_to_table(current_setting('dynamic_library_path') || ':$libdir', ':') d,
           pg_ls_dir(replace(d, '$libdir', c.setting), true, false) f
     WHERE c.name = 'PKGLIBDIR'
    UNION SELECT to_jsonb('plugins/' || f) FROM pg_config c, pg_ls_dir(c.setting || '/plugins', true, false) f
     WHERE c.name = 'PKGLIBDIR'";

/// They, where this role may look (a superuser, from 11 on).
fn libraries(server: &Server) -> Result<Option<Vec<String>>> {
    if server.major() < 11 || !server.facts().superuser {
        return Ok(None);
    }
    server.admin().list(LIBRARY_FILES, params![]).map(Some)
}

/// The first library that a setting names and that is not there. What local_preload_libraries names without a directory is
/// in `plugins`. A path may lead anywhere: it is not judged.
pub(crate) fn missing_library<'v>(
    setting: &str,
    value: &'v str,
    there: &[String],
) -> Option<&'v str> {
    let in_plugins = setting.eq_ignore_ascii_case("local_preload_libraries");
    libraries_in(value).find(|name| {
        let file = name.strip_suffix(".so").unwrap_or(name);
        let file = match file.strip_prefix("$libdir/") {
            Some(file) => file.to_owned(),
            None if in_plugins && !file.contains('/') => format!("plugins/{file}"),
            None if file.contains('/') => return false,
            None => file.to_owned(),
        };
        let is_elsewhere = file.strip_prefix("plugins/").unwrap_or(&file).contains('/');
        !is_elsewhere && !there.contains(&format!("{file}.so"))
    })
}

/// The libraries that a value names.
pub(crate) fn libraries_in(value: &str) -> impl Iterator<Item = &str> {
    let names = value.split(',').map(|it| it.trim().trim_matches('"'));
    names.filter(|it| !it.is_empty())
}

impl Parameters {
    /// Whether a role or a database may have this setting, by its name and the value that was tried.
    pub(crate) fn may_have(
        &self,
        role: Option<&str>,
        dbname: Option<&str>,
        name: &str,
    ) -> Settable {
        let same = |it: &Setting| {
            it.role.as_deref() == role
                && it.dbname.as_deref() == dbname
                && it.name.eq_ignore_ascii_case(name)
        };
        match self.may_set(name) {
            Settable::Yes if self.refused.iter().any(same) => Settable::Refused,
            settable => settable,
        }
    }

    /// Whether a parameter may be set. Names with a dot that no loaded library knows are placeholders, a superuser's to set.
    pub(crate) fn may_set(&self, name: &str) -> Settable {
        match self.settable.get(&name.to_lowercase()) {
            Some(true) => Settable::Yes,
            Some(false) => Settable::NotPermitted,
            None if !name.contains('.') => Settable::Unknown,
            None if self.superuser => Settable::Yes,
            None => Settable::NotPermitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_is_found_by_any_of_its_spellings() {
        let there = ["auto_explain.so".to_owned(), "plugins/x.so".to_owned()];
        let of = |value| missing_library("session_preload_libraries", value, &there);
        assert_eq!(of("auto_explain, \"$libdir/auto_explain\""), None);
        assert_eq!(of("/opt/x.so, sub/x, $libdir/sub/x"), None);
        assert_eq!(of("auto_explain, nix"), Some("nix"));
        assert_eq!(of("$libdir/plugins/x, x"), Some("x"));
        let of = |value| missing_library("local_preload_libraries", value, &there);
        assert_eq!(of("x, $libdir/plugins/x.so"), None);
        assert_eq!(of("auto_explain"), Some("auto_explain"));
    }

    #[test]
    fn placeholders_need_superuser_and_old_names_are_unknown() {
        let of = |superuser| Parameters {
            superuser,
            settable: [
                ("datestyle".to_owned(), true),
                ("log_statement".to_owned(), superuser),
            ]
            .into(),
            refused: vec![],
        };
        assert_eq!(of(false).may_set("DateStyle"), Settable::Yes);
        assert_eq!(of(false).may_set("log_statement"), Settable::NotPermitted);
        assert_eq!(of(false).may_set("app.tenant"), Settable::NotPermitted);
        assert_eq!(of(true).may_set("app.tenant"), Settable::Yes);
        assert_eq!(of(true).may_set("default_with_oids"), Settable::Unknown);
    }
}
