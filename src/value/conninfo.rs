//! libpq connection strings: `host=... dbname='it''s'` (manual: "Connection Strings", keyword/value).

use std::fmt;

use super::Secret;

/// A keyword/value connection string. `Display` hides the password; [`Conninfo::reveal`] is for the statement that needs it.
#[derive(Clone, Default)]
pub struct Conninfo {
    settings: Vec<(String, String)>,
    password: Option<Secret>,
}

impl Conninfo {
    /// An empty connection string.
    pub fn new() -> Self {
        Conninfo::default()
    }

    /// Adds a keyword with its value.
    pub fn with(mut self, keyword: &str, value: impl ToString) -> Self {
        self.settings.push((keyword.to_owned(), value.to_string()));
        self
    }

    /// Adds the password.
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    /// The connection string with its password in clear.
    pub fn reveal(&self) -> Secret {
        let password = self
            .password
            .as_ref()
            .map(|password| format!(" password={}", quoted(password.reveal())));
        Secret::new(format!("{self}{}", password.unwrap_or_default()))
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(keyword, value)| format!("{keyword}={}", quoted(value)))
            .collect();
        f.write_str(&settings.join(" "))
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conninfo({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_libpq_reads_them() {
        let conninfo = Conninfo::new()
            .with("host", "a b")
            .with("dbname", r"it's\")
            .with_password(Secret::new("p'w"));
        assert_eq!(conninfo.to_string(), r"host='a b' dbname='it\'s\\'");
        assert_eq!(
            conninfo.reveal().reveal(),
            r"host='a b' dbname='it\'s\\' password='p\'w'"
        );
        assert!(!format!("{conninfo:?}").contains("p'w"));
    }
}
