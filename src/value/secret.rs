//! Passwords, kept out of every `Debug` and `Display`.

use std::fmt;

use serde::Deserialize;

/// A value that is shown to nobody: it has no `Display`, no `Serialize`, and its `Debug` says only that it is there.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of the secret replaced by stars.
    pub fn redact(&self, text: &str) -> String {
        match self.0.len() {
            0 => text.to_owned(),
            _ => text.replace(&self.0, "***"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_redaction_hide_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.redact("PASSWORD 'hunter2'"), "PASSWORD '***'");
        assert_eq!(Secret::new("").redact("text"), "text");
    }
}
