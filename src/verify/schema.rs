//! `verify_schema`: every object on both sides, and what no dump of a schema holds.

mod printed;

use std::fmt;

use serde::Serialize;

use self::printed::of_shadow;
use super::beside::{self, Beside};
use crate::config::Tools;
use crate::error::{Error, Failure, Result, message_of};
use crate::journal::{Direction, Stream};
use crate::replicate::schema::compare_in_shadow;
use crate::replicate::{Run, drift};
use crate::schema::drift::{Drift, lost_by};
use crate::server::{Pair, Side, interrupt, is_lost};

/// How the schemas were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaMethod {
    /// The publisher's was loaded into a throwaway database of the subscriber.
    Throwaway,
    /// By the catalogs of both servers, without what is known to be spelled differently from one version to another.
    Catalogs,
}

/// An object that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaDifference {
    /// What it is: table, index, grants, setting, ...
    pub kind: String,
    /// Its name, quoted as in SQL.
    pub object: String,
    /// Its definition on the side that is written, in either direction; none where it is not there.
    pub publisher: Option<String>,
    /// Its definition on the side that follows; none where it is not there.
    pub subscriber: Option<String>,
    /// What makes the one that follows equal, where that is known.
    pub statement: Option<String>,
    /// What to do where there is no statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What both sides differ in, apart from their rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaVerification {
    /// The subscription whose database it is.
    pub subname: String,
    /// The database.
    pub dbname: String,
    /// Which way the rows flow.
    pub direction: Direction,
    /// Whether nothing differs.
    pub equal: bool,
    /// How the objects were compared.
    pub method: SchemaMethod,
    /// In the order in which they are mended.
    pub differences: Vec<SchemaDifference>,
    /// How many sequences there are.
    pub sequences: usize,
    /// How many of them stand behind on the side that follows: replication carries no sequence.
    pub sequences_behind: usize,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Compares the schemas of a stream's database; `pair` has the side that is written as its publisher.
pub(crate) fn verify_schema(
    pair: &Pair,
    tools: &Tools,
    stream: &Stream,
    direction: Direction,
    run: &Run,
) -> Result<SchemaVerification> {
    let dbname = &stream.dbname;
    let mut notes = Vec::new();
    let (method, mut differences) = match compare_in_shadow(pair, tools, dbname, run) {
        Ok(shadowed) => {
            let mut found = of_shadow(shadowed);
            let besides = drift::look(pair, dbname)?.into_iter();
            let unseen = |it: &Drift| it.is_in_no_dump() || it.is_changed_by_dumps();
            let besides = besides.filter(unseen).map(of_drift);
            let is_new = |it: &SchemaDifference| {
                let mut found = found.iter();
                !found.any(|other| (&other.kind, &other.object) == (&it.kind, &it.object))
            };
            let besides: Vec<SchemaDifference> = besides.filter(is_new).collect();
            found.extend(besides);
            (SchemaMethod::Throwaway, found)
        }
        Err(report) => {
            interrupt::check()?;
            if is_lost(&report) {
                return Err(report);
            }
            let mut found = drift::look(pair, dbname)?;
            found.retain(|it| !it.is_of_grants_on_database() && !it.kind.is_beside_schemas());
            notes.push(format!(
                "compared by the catalogs of both servers, which see less than a throwaway database on the {}: {}",
                pair.subscriber.side(),
                message_of(&report)
            ));
            (
                SchemaMethod::Catalogs,
                found.into_iter().map(of_drift).collect(),
            )
        }
    };
    let Beside {
        differences: beside,
        sequences,
        sequences_behind,
        notes: more,
    } = beside::compare(pair, stream)?;
    differences.extend(beside);
    notes.extend(more);
    Ok(SchemaVerification {
        subname: stream.subname.clone(),
        dbname: dbname.clone(),
        direction,
        equal: differences.is_empty(),
        method,
        differences,
        sequences,
        sequences_behind,
        notes,
    })
}

fn of_drift(drift: Drift) -> SchemaDifference {
    SchemaDifference {
        kind: drift.kind.in_words(),
        object: drift.object,
        publisher: drift.publisher,
        subscriber: drift.subscriber,
        statement: drift.statement,
        advice: drift.advice,
    }
}

impl SchemaVerification {
    /// Why the answer is no, if it is.
    pub fn verdict(&self) -> Option<Error> {
        let count = match self.differences.len() {
            0 => return None,
            1 => "1 object differs".to_owned(),
            count => format!("{count} objects differ"),
        };
        let statements = self.differences.iter().any(|it| it.statement.is_some());
        let hint = if statements {
            "run the statements that are shown, in their order, on the side that follows (one that another one is in the way of: after that); flare replicate_schema --missing makes what is only missing"
        } else {
            "make them equal on the side that follows"
        };
        Some(
            Failure::no(format!("{count} on the two sides"))
                .hint(hint)
                .into(),
        )
    }
}

impl fmt::Display for SchemaVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.differences {
            it.write(f, self.direction.sides())?;
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        match self.differences.len() {
            0 => writeln!(f, "{:?}: the schemas are equal", self.dbname),
            1 => writeln!(f, "{:?}: 1 object differs", self.dbname),
            count => writeln!(f, "{:?}: {count} objects differ", self.dbname),
        }
    }
}

impl SchemaDifference {
    /// For a person; the sides are the one that is written and the one that follows.
    fn write(&self, f: &mut fmt::Formatter<'_>, (from, to): (Side, Side)) -> fmt::Result {
        let indented = |text: &str| text.trim().replace('\n', "\n        ");
        write!(f, "{} {}", self.kind, self.object)?;
        match (&self.publisher, &self.subscriber) {
            (Some(_), None) => write!(f, ": only on the {from}")?,
            (None, Some(_)) => {
                let lost = lost_by(self.statement.as_deref());
                write!(f, ": only on the {to}{lost}")?;
            }
            _ => write!(f, ": differs")?,
        }
        for (side, definition) in [(from, &self.publisher), (to, &self.subscriber)] {
            if let Some(text) = definition.as_deref().filter(|it| !it.trim().is_empty()) {
                write!(f, "\n    {:<10}: {}", side.to_string(), indented(text))?;
            }
        }
        if let Some(statement) = &self.statement {
            write!(f, "\n    mend: {};", indented(statement))?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n    no statement mends it: {}", indented(advice))?;
        }
        Ok(())
    }
}
