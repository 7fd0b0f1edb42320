//! What a check has found, and what all of them together come to.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Failure, Result};
use crate::value::counted;

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// Nothing is wrong; the message may have something to know.
    Pass,
    /// It may go wrong.
    Warning,
    /// It will go wrong.
    Blocker,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Pass => "pass",
            Severity::Warning => "warning",
            Severity::Blocker => "blocker",
        })
    }
}

/// What one judgement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) objects: Vec<String>,
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn blocker(message: impl Into<String>) -> Finding {
        Finding::of(Severity::Blocker, message)
    }

    pub(super) fn warning(message: impl Into<String>) -> Finding {
        Finding::of(Severity::Warning, message)
    }

    /// Nothing is wrong, but there is something to know.
    pub(super) fn note(message: impl Into<String>) -> Finding {
        Finding::of(Severity::Pass, message)
    }

    pub(super) fn of(severity: Severity, message: impl Into<String>) -> Finding {
        Finding {
            severity,
            message: message.into(),
            objects: Vec::new(),
            fix: None,
        }
    }

    /// What it is about, by name.
    pub(super) fn objects(mut self, objects: impl IntoIterator<Item = String>) -> Finding {
        self.objects = objects.into_iter().collect();
        self
    }

    /// The statement or command that mends it.
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = Some(fix.into());
        self
    }
}

/// A check with what it has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// Which check; stable.
    pub id: &'static str,
    /// What it means.
    pub severity: Severity,
    /// The database, none for what concerns a server.
    pub dbname: Option<String>,
    /// What was found, in words.
    pub message: String,
    /// What it is about, by name.
    pub objects: Vec<String>,
    /// The statement or command that mends it.
    pub fix: Option<String>,
    /// The paragraph of the README.
    pub readme: String,
}

/// What all checks have found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Preflight {
    /// How many blockers.
    pub blockers: usize,
    /// How many warnings.
    pub warnings: usize,
    /// Every check, the worst first.
    pub checks: Vec<Checked>,
}

/// Whether a warning is a reason to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnWarning {
    /// It is only said.
    #[default]
    Pass,
    /// The answer is no.
    Deny,
}

impl Preflight {
    pub(super) fn of(mut checks: Vec<Checked>) -> Preflight {
        checks.sort_by_key(|it| std::cmp::Reverse(it.severity));
        let count = |severity| checks.iter().filter(|it| it.severity == severity).count();
        Preflight {
            blockers: count(Severity::Blocker),
            warnings: count(Severity::Warning),
            checks,
        }
    }

    /// Both, as one.
    pub(crate) fn and(self, other: Preflight) -> Preflight {
        Preflight::of(self.checks.into_iter().chain(other.checks).collect())
    }

    /// What of it concerns a switch: its preparation mends some of it itself, and what fails on both sides alike is no
    /// reason to stay.
    pub(crate) fn for_switch(self) -> Preflight {
        const MENDED: [&str; 3] = ["identity_differs", "materialized_views", "statistics"];
        const ALIKE: [&str; 1] = ["replica_identity"];
        let others = self.checks.into_iter();
        let others = others.filter(|it| !MENDED.contains(&it.id)).map(|mut it| {
            if ALIKE.contains(&it.id) {
                it.severity = it.severity.min(Severity::Warning);
            }
            it
        });
        Preflight::of(others.collect())
    }

    /// Whether it speaks of a copy under way, whose end makes it untrue.
    pub(crate) fn is_of_a_copy(&self) -> bool {
        const UNTIL_COPIED: [&str; 2] = ["schema_drift", "subscription_tables"];
        let mut said = self.checks.iter();
        said.any(|it| it.severity > Severity::Pass && UNTIL_COPIED.contains(&it.id))
    }

    /// What of it is left once `prepare` has done its steps.
    pub(crate) fn after_prepare(self) -> Preflight {
        const GATHERED: &str = "statistics";
        let others = self.checks.into_iter();
        Preflight::of(others.filter(|it| it.id != GATHERED).collect())
    }

    /// What is worth a word: blockers and warnings.
    pub(crate) fn worth_a_word(&self) -> Vec<Checked> {
        let mut checks = self.checks.clone();
        checks.retain(|it| it.severity > Severity::Pass);
        checks
    }

    /// The answer no, with blockers, or with warnings where they count.
    pub fn verdict(&self, on_warning: OnWarning) -> Option<Error> {
        let denied = on_warning == OnWarning::Deny && self.warnings > 0;
        if self.blockers == 0 && !denied {
            return None;
        }
        let words = format!(
            "{} and {} were found",
            counted(self.blockers, "blocker"),
            counted(self.warnings, "warning")
        );
        let failure = Failure::no(words).hint(
            "each finding has the statement that mends it; run flare preflight again afterwards",
        );
        Some(failure.into())
    }

    /// What is found of this severity.
    pub(crate) fn found(&self, severity: Severity) -> impl Iterator<Item = &Checked> {
        self.checks.iter().filter(move |it| it.severity == severity)
    }

    /// What these checks let pass although they have something to say of it.
    pub(crate) fn notes_of(&self, ids: &[&str]) -> Vec<String> {
        let passed = self.found(Severity::Pass);
        passed
            .filter(|it| ids.contains(&it.id) && !it.objects.is_empty())
            .map(Checked::in_words)
            .collect()
    }

    /// Warnings, each with the check that has it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let warnings = self.found(Severity::Warning);
        warnings
            .map(|it| format!("{} ({})", it.in_words(), it.id))
            .collect()
    }

    /// Refuses to go on where there are blockers: the first one in full, the others by name.
    pub(crate) fn refuse(&self) -> Result<()> {
        match self.refusal() {
            Some(refusal) => refusal.err(),
            None => Ok(()),
        }
    }

    /// The same, as what it would refuse with.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        let mut blockers = self.found(Severity::Blocker);
        let first = blockers.next()?;
        let others: Vec<String> = blockers
            .map(|it| format!("{} ({})", it.message, it.id))
            .collect();
        let place = match &first.dbname {
            Some(dbname) => format!("database {dbname:?}: "),
            None => String::new(),
        };
        let mut message = format!("{place}{} ({})", first.in_words(), first.id);
        if !others.is_empty() {
            message = format!("{message}; and {}", others.join("; and "));
        }
        let fix = first.fix.as_deref();
        Some(Failure::new(message).hint(fix.unwrap_or("flare preflight says more")))
    }
}

impl Checked {
    /// The message with the first objects.
    pub(crate) fn in_words(&self) -> String {
        if self.objects.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.message, first_of(&self.objects))
        }
    }
}

/// The first ten, and how many there are beside them.
fn first_of(objects: &[String]) -> String {
    const SHOWN: usize = 10;
    match objects.len() {
        n if n > SHOWN => format!("{} and {} more", objects[..SHOWN].join(", "), n - SHOWN),
        _ => objects.join(", "),
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.found(Severity::Pass).count();
        for found in self.checks.iter().filter(|it| {
            // A pass is worth a line where it has something to say about objects.
            it.severity > Severity::Pass || !it.objects.is_empty()
        }) {
            write!(f, "{found}")?;
        }
        writeln!(
            f,
            "{}, {}, {passed} passed; the README has a paragraph on each, by its name",
            counted(self.blockers, "blocker"),
            counted(self.warnings, "warning"),
        )
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.dbname {
            Some(dbname) => format!("{dbname:?}: "),
            None => String::new(),
        };
        let (severity, id, message) = (self.severity, self.id, &self.message);
        writeln!(f, "{severity:<8} {id}: {place}{message}")?;
        if !self.objects.is_empty() {
            writeln!(f, "         {}", first_of(&self.objects))?;
        }
        if let Some(fix) = &self.fix {
            writeln!(f, "         fix: {fix}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(id: &'static str, severity: Severity) -> Checked {
        Checked {
            id,
            severity,
            dbname: None,
            message: format!("{id} is wrong"),
            objects: (0..12).map(|n| format!("o{n}")).collect(),
            fix: Some("mend it".into()),
            readme: format!("README.md#{id}"),
        }
    }

    #[test]
    fn a_person_sees_the_worst_first_and_ten_objects() {
        let preflight = Preflight::of(vec![
            checked("fine", Severity::Pass),
            checked("odd", Severity::Warning),
            checked("bad", Severity::Blocker),
        ]);
        insta::assert_snapshot!(preflight);
    }

    #[test]
    fn only_blockers_refuse_unless_warnings_are_denied() {
        let warned = Preflight::of(vec![checked("odd", Severity::Warning)]);
        assert!(warned.verdict(OnWarning::Pass).is_none());
        assert!(warned.refuse().is_ok());
        let denied = warned.verdict(OnWarning::Deny).unwrap();
        assert_eq!(denied.exit().code(), 3);
        let blocked = Preflight::of(vec![checked("bad", Severity::Blocker)]);
        assert_eq!(blocked.verdict(OnWarning::Pass).unwrap().exit().code(), 3);
        let refused = blocked.refuse().unwrap_err();
        assert!(
            refused.to_string().contains("o9 and 2 more (bad)"),
            "{refused}"
        );
        assert_eq!(crate::error::hint_of(&refused), Some("mend it"));
    }
}
