//! Settings of roles and databases (`pg_db_role_setting`), and what may be set (`pg_settings`).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Server, Session, params};

/// One setting of a role, a database, or a role in a database; both `None`: of every role (`ALTER ROLE ALL`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Setting {
    pub(crate) role: Option<String>,
    pub(crate) dbname: Option<String>,
    pub(crate) name: String,
    pub(crate) value: String,
}

const SETTINGS: &str = "
    SELECT jsonb_build_object(
             'role', CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END,
             'dbname', d.datname,
             'name', split_part(c, '=', 1),
             'value', substr(c, strpos(c, '=') + 1))
      FROM pg_db_role_setting s
      LEFT JOIN pg_database d ON d.oid = s.setdatabase
     CROSS JOIN unnest(s.setconfig) WITH ORDINALITY u(c, position)
     WHERE s.setdatabase = 0 OR d.oid IS NOT NULL
     ORDER BY s.setdatabase, s.setrole, position";

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
}

/// What the role of a session may set for roles and databases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    superuser: bool,
    settable: BTreeMap<String, bool>,
}

/// Reads what the role of the administrator's session may set.
pub(crate) fn parameters(server: &Server) -> Result<Parameters> {
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
            .collect(),
    })
}

impl Parameters {
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
    fn placeholders_need_superuser_and_old_names_are_unknown() {
        let of = |superuser| Parameters {
            superuser,
            settable: [
                ("datestyle".to_owned(), true),
                ("log_statement".to_owned(), superuser),
            ]
            .into(),
        };
        assert_eq!(of(false).may_set("DateStyle"), Settable::Yes);
        assert_eq!(of(false).may_set("log_statement"), Settable::NotPermitted);
        assert_eq!(of(false).may_set("app.tenant"), Settable::NotPermitted);
        assert_eq!(of(true).may_set("app.tenant"), Settable::Yes);
        assert_eq!(of(true).may_set("default_with_oids"), Settable::Unknown);
    }
}
