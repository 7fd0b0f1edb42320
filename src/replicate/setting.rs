//! Settings of roles and databases, as the statements that make them.

use crate::catalog::settings::{Parameters, Settable, Setting};
use crate::value::{Ident, Literal};

/// Settings whose value is a list of names; each has to be a constant of its own (`GUC_LIST_QUOTE` in guc.h).
const LISTS: [&str; 7] = [
    "local_preload_libraries",
    "oauth_validator_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `ALTER ROLE ... IN DATABASE ... SET`, `ALTER DATABASE ... SET`, as the setting is of.
pub(crate) fn statement(setting: &Setting) -> String {
    let Setting {
        role,
        dbname,
        name,
        value,
    } = setting;
    let whose = match (role, dbname) {
        (Some(role), Some(dbname)) => format!(
            "ROLE {} IN DATABASE {}",
            Ident::new(role),
            Ident::new(dbname)
        ),
        (Some(role), None) => format!("ROLE {}", Ident::new(role)),
        (None, Some(dbname)) => format!("DATABASE {}", Ident::new(dbname)),
        (None, None) => "ROLE ALL".to_owned(),
    };
    format!(
        "ALTER {whose} SET {} TO {}",
        Ident::new(name),
        constants(name, value)
    )
}

/// Whose it is, for a person.
pub(crate) fn what(setting: &Setting) -> String {
    let name = &setting.name;
    match (&setting.role, &setting.dbname) {
        (Some(role), Some(dbname)) => {
            format!("{name} for role {role:?} in database {dbname:?}")
        }
        (Some(role), None) => format!("{name} for role {role:?}"),
        (None, Some(dbname)) => format!("{name} for database {dbname:?}"),
        (None, None) => format!("{name} for all roles"),
    }
}

/// Why a setting cannot be made, when it cannot.
pub(crate) fn obstacle(parameters: &Parameters, setting: &Setting) -> Option<String> {
    let why = match parameters.may_have(
        setting.role.as_deref(),
        setting.dbname.as_deref(),
        &setting.name,
    ) {
        Settable::Yes => return None,
        Settable::NotPermitted => "needs more rights than there are on the subscriber",
        Settable::Unknown => "does not exist on the subscriber",
        Settable::Refused => "has a value that the subscriber does not take",
    };
    Some(format!("the setting {} {why}", what(setting)))
}

fn constants(name: &str, value: &str) -> String {
    if !LISTS.contains(&name.to_lowercase().as_str()) {
        return Literal(value).to_string();
    }
    let names: Vec<String> = names_in(value)
        .iter()
        .map(|name| Literal(name).to_string())
        .collect();
    if names.is_empty() {
        "''".to_owned()
    } else {
        names.join(", ")
    }
}

/// The names of `"$user", public`, without their quotes.
fn names_in(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let (mut quoted, mut was_quoted) = (false, false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(last) = names.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                last.push('"');
            }
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => names.push(String::new()),
            c if c.is_whitespace() && !quoted => {}
            c => last.push(c),
        }
    }
    match names.as_slice() {
        [only] if only.is_empty() && !was_quoted => Vec::new(),
        _ => names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(role: Option<&str>, dbname: Option<&str>, name: &str, value: &str) -> String {
        statement(&Setting {
            role: role.map(str::to_owned),
            dbname: dbname.map(str::to_owned),
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    #[test]
    fn lists_of_names_become_one_constant_each() {
        assert_eq!(
            setting(
                Some("a\"b"),
                None,
                "search_path",
                "\"$user\", \"A,b\"\"c\", public"
            ),
            "ALTER ROLE \"a\"\"b\" SET \"search_path\" TO '$user', 'A,b\"c', 'public'"
        );
        assert_eq!(
            setting(None, Some("d"), "search_path", ""),
            "ALTER DATABASE \"d\" SET \"search_path\" TO ''"
        );
        assert_eq!(
            setting(None, Some("d"), "search_path", "\"\""),
            "ALTER DATABASE \"d\" SET \"search_path\" TO ''"
        );
        assert_eq!(
            setting(Some("r"), Some("d"), "app.tenant", "it's, x"),
            "ALTER ROLE \"r\" IN DATABASE \"d\" SET \"app.tenant\" TO 'it''s, x'"
        );
        assert_eq!(
            setting(None, None, "work_mem", "64MB"),
            "ALTER ROLE ALL SET \"work_mem\" TO '64MB'"
        );
    }
}
