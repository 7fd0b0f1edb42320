//! What becomes of statements that change the schema during a migration.

use std::fmt;

use super::field::Field;

/// `ddl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DdlMode {
    /// Both sides are compared, and what differs is named.
    #[default]
    Watch,
    /// The open side refuses what would part the sides.
    Refuse,
    /// The open side records each, and the other side runs it in its place among the rows.
    Carry,
}

impl DdlMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            DdlMode::Watch => "watch",
            DdlMode::Refuse => "refuse",
            DdlMode::Carry => "carry",
        }
    }

    pub(super) fn read(field: &Field<'_>) -> Option<DdlMode> {
        let all = [DdlMode::Watch, DdlMode::Refuse, DdlMode::Carry];
        field.word(&all.map(|mode| (mode.as_str(), mode)))
    }
}

impl fmt::Display for DdlMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
