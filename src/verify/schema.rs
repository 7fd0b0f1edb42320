//! `verify_schema`: every object on both sides, and what no dump of a schema holds.

use std::fmt;

use serde::Serialize;

use super::beside::{self, Beside};
use crate::config::Tools;
use crate::error::{Error, Failure, Result, message_of};
use crate::journal::{Direction, Stream};
use crate::replicate::schema::{Shadowed, compare_in_shadow};
use crate::replicate::{Run, drift};
use crate::schema::Difference;
use crate::schema::drift::{Drift, lost_by};
use crate::server::{Pair, interrupt, is_lost};

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
    /// Its definition on the publisher; none where it is not there.
    pub publisher: Option<String>,
    /// Its definition on the subscriber; none where it is not there.
    pub subscriber: Option<String>,
    /// What makes the subscriber's equal, where that is known.
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
    /// How many of them stand behind on the subscriber: replication carries no sequence.
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
        Ok(shadowed) => (SchemaMethod::Throwaway, of_shadow(shadowed)),
        Err(report) => {
            interrupt::check()?;
            if is_lost(&report) {
                return Err(report);
            }
            let mut found = drift::look(pair, dbname)?;
            found.retain(|it| !it.is_of_grants_on_database());
            notes.push(format!(
                "compared by the catalogs of both servers, which see less than a throwaway database on the subscriber: {}",
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

/// Both comparisons see most differences; what the catalogs have named has its statement, and is named once.
fn of_shadow(shadowed: Shadowed) -> Vec<SchemaDifference> {
    let Shadowed { drift, printed } = shadowed;
    let mut differences: Vec<SchemaDifference> = drift.into_iter().map(of_drift).collect();
    let known = differences.clone();
    for Difference {
        kind,
        object,
        publisher,
        subscriber,
    } in printed
    {
        let texts: Vec<&String> = [&publisher, &subscriber].into_iter().flatten().collect();
        let flares_own = texts
            .iter()
            .all(|text| text.contains("FUNCTION flare.") || text.contains("PROCEDURE flare."));
        if flares_own || known.iter().any(|it| is_about(it, &object, &texts)) {
            continue;
        }
        let name = object.strip_prefix(&kind).unwrap_or(&object).trim();
        let statement = match (&publisher, &subscriber) {
            (Some(printed), None) => runnable(printed),
            _ => None,
        };
        differences.push(SchemaDifference {
            object: name.to_owned(),
            kind: kind.to_lowercase(),
            advice: statement.is_none().then(|| PRINTED.to_owned()),
            publisher,
            subscriber,
            statement,
        });
    }
    differences
}

/// What to do about what pg_dump alone prints.
const PRINTED: &str = "no statement is known for it: take away what the subscriber has and run what the publisher's says";

/// What pg_dump prints of what the subscriber only lacks is what makes it. Who grants goes back to who runs it.
fn runnable(printed: &str) -> Option<String> {
    let printed = printed.trim().trim_end_matches(';');
    let reset = if printed.starts_with("SET SESSION AUTHORIZATION") {
        ";\nRESET SESSION AUTHORIZATION"
    } else {
        ""
    };
    (!printed.is_empty()).then(|| format!("{printed}{reset}"))
}

/// Whether a difference of the catalogs is about an object as pg_dump names it.
fn is_about(known: &SchemaDifference, object: &str, texts: &[&String]) -> bool {
    let bare = |text: &str| text.replace('"', "");
    let last = |name: &str| {
        let name = name.split('(').next().unwrap_or_default().trim();
        let end = bare(name);
        end.rsplit(['.', ' ']).next().unwrap_or_default().to_owned()
    };
    if is_about_privileges(known, &bare(object)) {
        return true;
    }
    // `x on app.t` and `app.t.column` are about the table, too.
    let object_of = known.object.split(" using ").next().unwrap_or_default();
    let between = |text: &str| text.split(" on ").map(str::to_owned).collect::<Vec<_>>();
    let mut names: Vec<String> = object_of
        .split(" from ")
        .flat_map(between)
        .map(|it| last(&it))
        .collect();
    if known.kind == "cluster" {
        let indexes = [&known.publisher, &known.subscriber].into_iter().flatten();
        names.extend(indexes.map(|it| last(it)));
    }
    let parts: Vec<String> = bare(object_of).split('.').map(str::to_owned).collect();
    names.extend(parts.get(1).cloned());
    // Names may have blanks in them.
    let words = format!(" {} ", bare(object).replace('(', " "));
    let is_named = |name: &&String| !name.is_empty() && words.contains(&format!(" {name} "));
    if names.iter().any(|it| is_named(&it)) {
        return true;
    }
    // The sequence of an identity is printed as what makes the column one.
    let column = known
        .object
        .rsplit_once('.')
        .filter(|_| known.kind == "column");
    let altered = column
        .map(|(table, column)| bare(&format!("ALTER TABLE {table} ALTER COLUMN {column} ADD ")));
    let statement = known.statement.as_deref().map(bare);
    texts.iter().any(|text| {
        let text = bare(text);
        let text = text.trim_end_matches(';').trim();
        let said = |statement: &String| !text.is_empty() && statement.contains(text);
        altered.as_ref().is_some_and(|it| text.starts_with(it)) || statement.iter().any(said)
    })
}

/// The same for what pg_dump calls `ACL COLUMN t.c in schema s` and `DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES in schema s`.
fn is_about_privileges(known: &SchemaDifference, object: &str) -> bool {
    let named = known.object.replace('"', "");
    if let Some(what) = object.strip_prefix("DEFAULT ACL DEFAULT PRIVILEGES FOR ") {
        return known.kind == "default privileges" && named.starts_with(what);
    }
    let granted = || {
        let (what, schema) = object.strip_prefix("ACL ")?.split_once(" in schema ")?;
        let (_, name) = what.split_once(' ')?;
        Some(format!("{schema}.{name} to "))
    };
    known.kind == "grants" && granted().is_some_and(|granted| named.contains(&granted))
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
            writeln!(f, "{it}")?;
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

impl fmt::Display for SchemaDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indented = |text: &str| text.trim().replace('\n', "\n        ");
        write!(f, "{} {}", self.kind, self.object)?;
        match (&self.publisher, &self.subscriber) {
            (Some(_), None) => write!(f, ": only on the publisher")?,
            (None, Some(_)) => {
                let lost = lost_by(self.statement.as_deref());
                write!(f, ": only on the subscriber{lost}")?;
            }
            _ => write!(f, ": differs")?,
        }
        for (side, definition) in [
            ("publisher ", &self.publisher),
            ("subscriber", &self.subscriber),
        ] {
            if let Some(text) = definition.as_deref().filter(|it| !it.trim().is_empty()) {
                write!(f, "\n    {side}: {}", indented(text))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known(object: &str, statement: Option<&str>) -> SchemaDifference {
        SchemaDifference {
            kind: "column".into(),
            object: object.into(),
            publisher: None,
            subscriber: None,
            statement: statement.map(str::to_owned),
            advice: None,
        }
    }

    #[test]
    fn what_the_catalogs_named_is_named_once() {
        let none: [&String; 0] = [];
        assert!(is_about(
            &known("app.t.\"Col\"", None),
            "TABLE t in schema app",
            &none
        ));
        assert!(is_about(
            &known("chk on app.t", None),
            "CONSTRAINT t chk in schema app",
            &none
        ));
        assert!(is_about(
            &known("app.f(integer)", None),
            "FUNCTION f(integer) in schema app",
            &none
        ));
        let grant = SchemaDifference {
            kind: "grants".into(),
            ..known("column app.t.\"Col\" to PUBLIC", None)
        };
        assert!(is_about(&grant, "ACL COLUMN t.Col in schema app", &none));
        assert!(!is_about(&grant, "ACL COLUMN u.Col in schema app", &none));
        let default = SchemaDifference {
            kind: "default privileges".into(),
            ..known("TABLES in schema app of o to PUBLIC", None)
        };
        let object = "DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES in schema app";
        assert!(is_about(&default, object, &none));
        assert!(!is_about(
            &known("app.other", None),
            "TABLE t in schema app",
            &none
        ));
    }
}
