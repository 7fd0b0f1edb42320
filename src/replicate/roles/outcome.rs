//! What `replicate_roles` says it did.

use std::fmt;

use serde::Serialize;

/// What `replicate_roles` did, or in a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RolesChange {
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Roles that the subscriber did not have.
    pub roles_created: Vec<String>,
    /// Roles that differed.
    pub roles_updated: Vec<String>,
    /// Bootstrap superusers, the platform's roles, and those that flare connects as on the subscriber.
    pub roles_left_alone: Vec<String>,
    /// Roles that may log in and have no password on the subscriber.
    pub passwords_needed: Vec<String>,
    /// What could not be carried over, and why.
    pub notes: Vec<String>,
}

impl fmt::Display for RolesChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = if self.dry_run { "would be " } else { "" };
        let lists = [
            (format!("{would}created"), &self.roles_created),
            (format!("{would}updated"), &self.roles_updated),
            ("left alone".to_owned(), &self.roles_left_alone),
            ("need a new password".to_owned(), &self.passwords_needed),
        ];
        for (what, roles) in lists {
            if !roles.is_empty() {
                writeln!(f, "{what}: {}", roles.join(", "))?;
            }
        }
        if self.roles_created.is_empty() && self.roles_updated.is_empty() && !self.changed {
            writeln!(
                f,
                "nothing to change: the subscriber has these roles already"
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
