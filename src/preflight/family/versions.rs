//! What two versions do not share: client programs, TRUNCATE, the last bits of a float.

use serde::Deserialize;

use crate::config::DdlMode;
use crate::error::{Result, hint_of, message_of};
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{Ends, SideView};
use crate::server::{KNOWN_MAJORS, Side};
use crate::tools::{DumpProgram, Job, Toolbox};
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "client_programs",
        title: "pg_dump, pg_dumpall and psql fit both servers",
        before: Before::Setup,
        place: Place::Server,
        asks: &[VERSION.on_both()],
        judge: |view| {
            let (Some(publisher), Some(subscriber)) = (view.publisher, view.subscriber) else {
                return Ok(Vec::new());
            };
            // Once it streams, or flows back, no dump is made any more.
            if view.unsubscribed == 0 || view.is_back() {
                return Ok(Vec::new());
            }
            let (reads, writes) = (release(publisher)?, release(subscriber)?);
            let lacking = [DumpProgram::PgDump, DumpProgram::PgDumpall].map(|dump| {
                let job = Job {
                    dump,
                    publisher: reads,
                    subscriber: writes,
                };
                Toolbox::find(&view.config.tools, job).err()
            });
            let finding = lacking.into_iter().flatten().next().map(|report| {
                let found = Finding::blocker(message_of(&report));
                match hint_of(&report) {
                    Some(hint) => found.fix(hint),
                    None => found,
                }
            });
            Ok(finding.into_iter().collect())
        },
    },
    Check {
        id: "untested_version",
        title: "flare was tested with both versions",
        before: Before::Setup,
        place: Place::Server,
        asks: &[VERSION.on_both()],
        judge: |view| {
            let mut untested = Vec::new();
            for side in [view.publisher, view.subscriber].into_iter().flatten() {
                let version = side.first(&VERSION)?.unwrap_or_default();
                untested
                    .extend(is_untested(&version).then(|| format!("{version} ({})", side.side)));
            }
            Ok(never_tested(untested))
        },
    },
    Check {
        id: "truncate",
        title: "TRUNCATE is carried both ways",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[VERSION.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) => Ok(truncates(
                (publisher.side, publisher.major),
                (subscriber.side, subscriber.major),
                view.reverse,
                view.config.ddl,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "float_digits",
        title: "floats arrive to the last bit",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[FLOATS.on_publisher(), DIGITS.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if view.subscribed => Ok(rounded(
                (publisher.major, subscriber.major),
                &publisher.rows(&FLOATS)?,
                subscriber.first(&DIGITS)?,
                view.moving.and_then(|it| it.subname).unwrap_or_default(),
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
];

const VERSION: Question<String> = Question::server(
    "version",
    "SELECT to_jsonb(current_setting('server_version'))",
);

/// Columns of float4 and float8, and arrays of them.
const FLOATS: Question<String> = Question::database(
    "floats",
    "SELECT to_jsonb(format('%s.%s.%s', n.nspname, c.relname, a.attname))
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_type t ON t.oid = a.atttypid
      WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND c.oid >= 16384 AND n.nspname !~ '^pg_'
        AND (a.atttypid IN (700, 701, 1021, 1022) OR t.typbasetype IN (700, 701, 1021, 1022))
        AND current_setting('server_version_num')::int < 120000
      ORDER BY 1",
);

/// Whether the subscription asks for all digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Digits(bool);

const DIGITS: Question<Digits> = Question::database(
    "digits",
    "SELECT to_jsonb(subconninfo ~ 'extra_float_digits') FROM pg_subscription WHERE subname = {subname}
        AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
)
.privileged();

/// The major version as it is: what is newer than the newest known is treated as that one otherwise.
fn release(side: &SideView) -> Result<i32> {
    let version = side.first(&VERSION)?;
    let major = version.and_then(|version| major_of(&version));
    Ok(major.unwrap_or(side.major).max(side.major))
}

/// Its first number, which may have a word behind it: `19beta1`.
fn major_of(version: &str) -> Option<i32> {
    let digits = version.find(|c: char| !c.is_ascii_digit());
    let major = version.get(..digits.unwrap_or(version.len()))?;
    major.parse().ok()
}

fn is_untested(version: &str) -> bool {
    major_of(version).is_some_and(|major| major > *KNOWN_MAJORS.end())
}

fn never_tested(untested: Vec<String>) -> Vec<Finding> {
    if untested.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::warning(format!(
            "servers are newer than flare knows, and treated as {}, since allow_untested says so: try the whole way with a copy first",
            KNOWN_MAJORS.end()
        ))
        .objects(untested)
        .fix("use a flare that knows this version as soon as there is one"),
    ]
    }
}

/// Known from the versions alone, and nothing to mend: it is said, and no warning. Where statements are watched alone:
/// else triggers carry or refuse it.
fn truncates(from: (Side, i32), to: (Side, i32), reverse: bool, ddl: DdlMode) -> Vec<Finding> {
    let mut found = Vec::new();
    if ddl != DdlMode::Watch {
        return found;
    }
    if from.1 < 11 {
        found.push(
            Finding::note(format!(
                "a {} of {} does not send TRUNCATE: rows of a table that is emptied so stay on the {}, and collide when they come again",
                from.0, from.1, to.0
            ))
            .objects([from.0.to_string()])
            .fix("DELETE instead of TRUNCATE while the migration runs; or ddl: carry, which carries it, or ddl: refuse"),
        );
    }
    if reverse && from.1 < 11 && to.1 >= 11 {
        found.push(
            Finding::note(format!(
                "the way back to a {} leaves TRUNCATE out: its apply worker would die of one",
                from.1
            ))
            .objects([to.0.to_string()])
            .fix("DELETE instead of TRUNCATE until cleanup; or ddl: carry, which carries it"),
        );
    }
    found
}

/// 10 and 11 send floats with 15 digits, and a walsender for a subscriber of 15 or later is told otherwise.
fn rounded(
    (from, to): (i32, i32),
    columns: &[String],
    digits: Option<Digits>,
    subname: &str,
    ends: Ends,
) -> Vec<Finding> {
    let exact = from >= 12 || to >= 15 || digits.is_none_or(|it| it.0);
    if exact || columns.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::blocker(format!(
            "a {} of {from} sends floats with 15 digits to a {} of {to}: their last bits are lost", ends.from, ends.to
        ))
        .objects(columns.iter().cloned())
        .fix(format!(
            "ALTER SUBSCRIPTION {} CONNECTION '... options=''-c extra_float_digits=3''' on the {} mends what comes from now on; what came before: {}",
            Ident::from(subname),
            ends.to,
            ends.anew(subname)
        )),
    ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_than_the_newest_known_is_said() {
        for (version, untested) in [
            ("18.4", false),
            ("10.23", false),
            ("19beta1", true),
            ("20.1", true),
        ] {
            assert_eq!(is_untested(version), untested, "{version}");
        }
        assert!(never_tested(Vec::new()).is_empty());
        assert_eq!(never_tested(vec!["19.0 (subscriber)".into()]).len(), 1);
    }

    #[test]
    fn truncate_is_lost_from_10_and_left_out_back_to_it() {
        let of = |from, to, reverse, ddl| {
            truncates(
                (Side::Publisher, from),
                (Side::Subscriber, to),
                reverse,
                ddl,
            )
            .len()
        };
        assert_eq!(of(10, 18, true, DdlMode::Watch), 2);
        assert_eq!(of(10, 18, false, DdlMode::Watch), 1);
        assert_eq!(of(11, 18, true, DdlMode::Watch), 0);
        assert_eq!(of(10, 18, true, DdlMode::Carry), 0);
    }

    #[test]
    fn floats_are_rounded_between_old_versions_unless_asked_otherwise() {
        let columns = ["public.t.f".to_owned()];
        let of = |versions, digits: Option<bool>| {
            rounded(versions, &columns, digits.map(Digits), "s", Ends::FORWARD).len()
        };
        assert_eq!(of((10, 14), Some(false)), 1);
        assert_eq!(of((10, 14), Some(true)), 0);
        assert_eq!(of((10, 14), None), 0);
        assert_eq!(of((10, 15), Some(false)), 0);
        assert_eq!(of((12, 13), Some(false)), 0);
        assert!(rounded((10, 14), &[], Some(Digits(false)), "s", Ends::FORWARD).is_empty());
    }
}
