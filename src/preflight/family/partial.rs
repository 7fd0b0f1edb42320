//! Whether the publication sends every row, column and operation of the tables that it has.

use serde::Deserialize;

use crate::journal;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{Ends, Moving};
use crate::value::{Ident, ShellWord, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "publication_journal",
        title: "the publication leaves flare's journal out",
        before: Before::Publication,
        place: Place::Database,
        asks: &[PUBLICATION.on_publisher()],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => {
                let found = publisher.first(&PUBLICATION)?;
                Ok(found
                    .and_then(|it| sends_journal(&it, moving.dbname))
                    .into_iter()
                    .collect())
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "publication_partial",
        title: "the publication sends all rows, columns and operations",
        before: Before::Publication,
        place: Place::Database,
        asks: &[PUBLICATION.on_publisher()],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) => Ok(publisher
                .first(&PUBLICATION)?
                .map(|it| partial(&it, moving, view.ends(), view.subscribed))
                .unwrap_or_default()),
            _ => Ok(Vec::new()),
        },
    },
];

/// A publication as `pg_publication` shows it; `None` where the version has no such column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Publication {
    pub(super) pubname: String,
    pub(super) puballtables: bool,
    pub(super) pubinsert: bool,
    pub(super) pubupdate: bool,
    pub(super) pubdelete: bool,
    pub(super) pubtruncate: Option<bool>,
    pub(super) partial: Vec<Partial>,
}

/// A table of which not everything is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Partial {
    #[serde(flatten)]
    table: TableName,
    rows: bool,
    columns: bool,
}

pub(super) const PUBLICATION: Question<Publication> = Question::database(
    "publication",
    "SELECT to_jsonb(p) || jsonb_build_object('partial', (
              SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname,
                       'rows', to_jsonb(r) ->> 'prqual' IS NOT NULL, 'columns', to_jsonb(r) ->> 'prattrs' IS NOT NULL)
                       ORDER BY n.nspname, c.relname), '[]')
                FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE r.prpubid = p.oid AND coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') IS NOT NULL))
       FROM pg_publication p WHERE p.pubname = {pubname}",
);

fn sends_journal(found: &Publication, dbname: &str) -> Option<Finding> {
    (found.puballtables && dbname == journal::DBNAME).then(|| {
        Finding::blocker(format!(
            "publication {:?} is FOR ALL TABLES, and would send flare's journal, which is kept in this database",
            found.pubname
        ))
        .fix(format!(
            "DROP PUBLICATION {}: flare create_publication {dbname} lists the tables",
            Ident::new(&found.pubname)
        ))
    })
}

fn partial(found: &Publication, moving: Moving<'_>, ends: Ends, subscribed: bool) -> Vec<Finding> {
    let Ends { from, to } = ends;
    let anew = format!(
        "what is missing already is not sent again: {}",
        ends.anew(moving.subname.unwrap_or_default())
    );
    let mut findings = Vec::new();
    let publication = Ident::new(&found.pubname);
    if let Some(first) = found.partial.first() {
        let what = |it: &Partial| match (it.rows, it.columns) {
            (true, true) => "row filter and column list",
            (true, false) => "row filter",
            _ => "column list",
        };
        let table = &first.table;
        findings.push(
            Finding::blocker(format!(
                "publication {:?} sends only some rows or columns: the others would be missing on the {to}",
                found.pubname
            ))
            .objects(
                found
                    .partial
                    .iter()
                    .map(|it| format!("{} ({})", it.table.plain(), what(it))),
            )
            .fix(format!(
                "ALTER PUBLICATION {publication} DROP TABLE {table}; ALTER PUBLICATION {publication} ADD TABLE {table} on the {from}{}",
                if subscribed {
                    format!("; {anew}")
                } else {
                    String::new()
                }
            )),
        );
    }
    let operations = [
        ("insert", found.pubinsert),
        ("update", found.pubupdate),
        ("delete", found.pubdelete),
        // A publication that leads back to a 10 leaves it out on purpose.
        (
            "truncate",
            found.pubtruncate.unwrap_or(true) || found.pubname.ends_with("_back"),
        ),
    ];
    let lacking: Vec<&str> = operations
        .iter()
        .filter(|(_, sent)| !sent)
        .map(|(name, _)| *name)
        .collect();
    if !lacking.is_empty() {
        let words = format!(
            "publication {:?} does not send {}",
            found.pubname,
            lacking.join(", ")
        );
        findings.push(if subscribed {
            let add = if ends.is_back() {
                let operations: Vec<&str> = operations.iter().map(|(name, _)| *name).collect();
                format!(
                    "ALTER PUBLICATION {publication} SET (publish = '{}') on the {from} adds them",
                    operations.join(", ")
                )
            } else {
                format!(
                    "flare create_publication {} adds them",
                    ShellWord(moving.dbname)
                )
            };
            Finding::blocker(format!("{words}: what was done so is missing on the {to}"))
                .fix(format!("{add}; {anew}"))
        } else {
            Finding::note(format!("{words}: flare create_publication adds them"))
        });
    }
    findings
}

#[cfg(test)]
impl Publication {
    /// One that publishes all operations of whole rows.
    pub(super) fn of_everything() -> Self {
        Self {
            pubname: "p\"b".into(),
            pubinsert: true,
            pubupdate: true,
            pubdelete: true,
            pubtruncate: Some(true),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    #[test]
    fn all_tables_of_the_journals_database_are_too_many() {
        let all = Publication {
            puballtables: true,
            ..Publication::of_everything()
        };
        assert!(sends_journal(&all, "app").is_none());
        let found = sends_journal(&all, journal::DBNAME).expect("a finding");
        assert_eq!(found.severity, Severity::Blocker);
        let listed = Publication {
            puballtables: false,
            ..all
        };
        assert!(sends_journal(&listed, journal::DBNAME).is_none());
    }

    #[test]
    fn filters_and_column_lists_block_with_the_statement() {
        assert!(
            partial(
                &Publication::of_everything(),
                super::super::moving(&super::super::wanted()),
                Ends::FORWARD,
                true
            )
            .is_empty()
        );
        let filtered = Publication {
            partial: vec![Partial {
                table: "app.t".parse().unwrap(),
                rows: true,
                columns: false,
            }],
            ..Publication::of_everything()
        };
        let found = &partial(
            &filtered,
            super::super::moving(&super::super::wanted()),
            Ends::FORWARD,
            false,
        )[0];
        assert_eq!(found.objects, ["app.t (row filter)"]);
        assert!(
            found
                .fix
                .as_deref()
                .unwrap()
                .starts_with(r#"ALTER PUBLICATION "p""b" DROP TABLE "app"."t""#)
        );
    }

    #[test]
    fn operations_that_are_not_sent_block_once_rows_were_lost() {
        let inserts = Publication {
            pubupdate: false,
            pubtruncate: Some(false),
            ..Publication::of_everything()
        };
        let severity = |subscribed| {
            partial(
                &inserts,
                super::super::moving(&super::super::wanted()),
                Ends::FORWARD,
                subscribed,
            )[0]
            .severity
        };
        assert_eq!(severity(false), Severity::Pass);
        assert_eq!(severity(true), Severity::Blocker);
        let of_10 = Publication {
            pubtruncate: None,
            ..Publication::of_everything()
        };
        assert!(
            partial(
                &of_10,
                super::super::moving(&super::super::wanted()),
                Ends::FORWARD,
                true
            )
            .is_empty()
        );
    }
}
