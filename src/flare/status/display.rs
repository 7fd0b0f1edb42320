//! Where the migrations stand, for a person.

use std::fmt;

use super::StatusReport;
use crate::cutover::Writable;
use crate::flare::migration_status::statements_in_words;
use crate::value::ShellWord;

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<&str> = Vec::new();
        for standing in &self.subscriptions {
            let dbname = standing.dbname.as_str();
            if said.contains(&dbname) {
                continue;
            }
            said.push(dbname);
            match standing.writable {
                Some(Writable::None) if standing.cleaned_up => writeln!(
                    f,
                    "Nobody but superusers can connect to {dbname:?}, on either server."
                )?,
                Some(Writable::None) if let Some(side) = standing.unopened => writeln!(
                    f,
                    "Nobody can write to {dbname:?}, unless the {side} was opened unheard: it does not answer, and a cutover or fallback is past its point of no return since {}, by {}.",
                    standing.paused_since.as_deref().unwrap_or("?"),
                    standing.paused_by.as_deref().unwrap_or("?"),
                )?,
                Some(Writable::None) if standing.switching => writeln!(
                    f,
                    "Nobody but superusers can write to {dbname:?}: in the pause of a cutover or fallback since {}, by {}.",
                    standing.paused_since.as_deref().unwrap_or("?"),
                    standing.paused_by.as_deref().unwrap_or("?"),
                )?,
                Some(Writable::None) => writeln!(
                    f,
                    "Nobody but superusers can write to {dbname:?}: paused since {} by {}, until `flare resume_write {}`.",
                    standing.paused_since.as_deref().unwrap_or("?"),
                    standing.paused_by.as_deref().unwrap_or("?"),
                    ShellWord(dbname),
                )?,
                Some(Writable::Publisher)
                    if standing.abandoned && standing.schema == Some(true) =>
                {
                    writeln!(
                        f,
                        "The application can write to {dbname:?} on the publisher, AND STILL on the subscriber, which was abandoned: what is written there is lost."
                    )?;
                }
                Some(Writable::Publisher) => writeln!(
                    f,
                    "The application can write to {dbname:?} on the publisher."
                )?,
                Some(Writable::Subscriber) if standing.is_stranded() => writeln!(
                    f,
                    "The application can write to {dbname:?} on the subscriber alone, which could not be asked."
                )?,
                Some(Writable::Subscriber) => writeln!(
                    f,
                    "The application can write to {dbname:?} on the subscriber."
                )?,
                None => writeln!(
                    f,
                    "Who can write to {dbname:?} is unknown: the publisher could not be asked about it."
                )?,
            }
        }
        for standing in &self.subscriptions {
            writeln!(f, "{}: {}", standing.subname, standing.in_words())?;
            if let Some(obstacle) = &standing.obstacle {
                writeln!(f, "    in the way: {obstacle}")?;
            }
            for statement in statements_in_words(&standing.statements, &standing.dbname) {
                writeln!(f, "    {statement}")?;
            }
            for drift in standing.unsaid_drift() {
                writeln!(f, "    differs: {drift}")?;
            }
            if let Some(message) = &standing.message {
                writeln!(f, "    {message}")?;
            }
            if let (Some(publisher), Some(subscriber)) =
                (standing.sides.publisher, standing.sides.subscriber)
            {
                writeln!(
                    f,
                    "    sides: publisher {}, subscriber {}",
                    publisher.in_words(),
                    subscriber.in_words()
                )?;
            }
            for warning in &standing.sides.warnings {
                writeln!(f, "    WARNING: {warning}")?;
            }
            writeln!(f, "    next: {}", standing.next)?;
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}
