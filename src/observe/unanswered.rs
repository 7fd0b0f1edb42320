//! Why a server has no part in a sample: it was not heard, or it answered with a refusal, which something else mends.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::{Report, hint_of, message_of};
use crate::server::{Side, sqlstate_of};

/// Why a server could not be asked. In JSON it is the message alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unanswered {
    /// What was attempted, where, and what came of it.
    pub message: String,
    /// Whether the server answered, with an error: a wrong password, a database that is not there.
    pub refused: bool,
    /// What to do about a refusal.
    pub hint: Option<String>,
}

impl Unanswered {
    /// Nothing was heard.
    pub(crate) fn silent(message: impl Into<String>) -> Unanswered {
        Unanswered {
            message: message.into(),
            refused: false,
            hint: None,
        }
    }

    /// What is so, in front of the message.
    pub(crate) fn verb(&self) -> &'static str {
        if self.refused {
            "answers with a refusal"
        } else {
            "does not answer"
        }
    }

    /// The message, and what to do about a refusal.
    pub(super) fn advice(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message.clone(),
        }
    }

    /// A verdict on a side.
    pub(super) fn of(&self, side: Side) -> String {
        format!("the {side} {}: {}", self.verb(), self.advice())
    }
}

impl From<&Report> for Unanswered {
    fn from(report: &Report) -> Unanswered {
        if let Some(known) = report.downcast_ref::<Unanswered>() {
            return known.clone();
        }
        let refused = sqlstate_of(report).is_some();
        Unanswered {
            message: message_of(report),
            refused,
            hint: hint_of(report).filter(|_| refused).map(str::to_owned),
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unanswered {}

impl Serialize for Unanswered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.message)
    }
}
