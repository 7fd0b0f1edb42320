//! What the checks say to the answers, and what could not be seen.

use super::finding::{Checked, Finding, Severity};
use super::question::{On, Place, Text};
use super::registry::{Before, Check, NOT_SEEN};
use super::run::Later;
use super::view::{SideView, View};
use crate::error::{Report, Result, message_of};

/// What was found, or why it could not be looked for, where the error is one that stops nothing else.
pub(super) fn found_or_unseen(
    id: &str,
    found: Result<Vec<Finding>>,
    stops_nothing: impl Fn(&Report) -> bool,
) -> Result<(Vec<Finding>, Vec<String>)> {
    match found {
        Err(report) if stops_nothing(&report) => {
            Ok((Vec::new(), vec![format!("{id}: {}", message_of(&report))]))
        }
        found => Ok((found?, Vec::new())),
    }
}

/// What one check has found, and what it could not see.
pub(super) struct Judged {
    checked: Vec<Checked>,
    unseen: Vec<String>,
}

/// What the checks of this place say to the answers.
pub(super) fn judge(
    wanted: &[&'static Check],
    place: Place,
    view: &View<'_>,
) -> Result<Vec<Judged>> {
    let here = wanted.iter().filter(|check| check.place == place);
    here.map(|check| {
        // Without an answer that everybody gets, such as for a table that is locked, nothing can be said.
        let found = if blind(check, view) {
            Vec::new()
        } else {
            (check.judge)(view)?
        };
        let named = (check.id, check.title);
        Ok(judged(
            named,
            check.before,
            view,
            found,
            unseen(check, view),
        ))
    })
    .collect()
}

/// The findings of a check as they are reported; what passes says so.
pub(super) fn judged(
    (id, title): (&'static str, &'static str),
    before: Before,
    view: &View<'_>,
    mut found: Vec<Finding>,
    unseen: Vec<String>,
) -> Judged {
    if found.is_empty() {
        found.push(if unseen.is_empty() {
            Finding::note(view.ends().of_title(title))
        } else {
            Finding::note("not looked at, or only in part")
        });
    }
    let checked = found.into_iter().map(|found| Checked {
        id,
        severity: match (before, found.severity) {
            (Before::Cutover, Severity::Blocker) if warns(view) => Severity::Warning,
            (_, severity) => severity,
        },
        dbname: view.moving.map(|moving| moving.dbname.to_owned()),
        message: found.message,
        objects: found.objects,
        fix: found.fix,
        readme: format!("README.md#{id}"),
    });
    Judged {
        checked: checked.collect(),
        unseen,
    }
}

/// Whether what would stop the cutover is only said.
fn warns(view: &View<'_>) -> bool {
    match view.later {
        Later::Warns => true,
        Later::WarnsAtFirst => !view.streams,
        Later::Blocks => false,
    }
}

/// Whether a question of a check that the administrator gets an answer to has none.
fn blind(check: &'static Check, view: &View<'_>) -> bool {
    unanswered(check, view).any(|(text, ..)| !text.privileged && text.by_owner.is_none())
}

/// Questions of a check without an answer, in words.
fn unseen(check: &'static Check, view: &View<'_>) -> Vec<String> {
    let words = unanswered(check, view).map(|(text, side, why)| {
        let user = match text.by_owner {
            Some(_) => &side.side.host(view.config).db_owner.user,
            None => &side.user,
        };
        format!("{}: as {user:?} on the {}: {why}", check.id, side.side)
    });
    words.collect()
}

/// Questions of a check without an answer, whom they were put to, and why.
fn unanswered<'v>(
    check: &'static Check,
    view: &'v View<'_>,
) -> impl Iterator<Item = (Text, &'v SideView, &'v str)> {
    check.asks.iter().flat_map(move |ask| {
        let asked = match ask.on {
            On::Publisher => [view.publisher, None],
            On::Subscriber => [view.subscriber, None],
            On::Both => [view.publisher, view.subscriber],
        };
        asked.into_iter().flatten().filter_map(move |side| {
            let answers = match ask.text.place {
                Place::Server => Some(&side.server),
                Place::Database => side.database.as_ref(),
            };
            let why = answers?.unseen.get(ask.text.name)?;
            Some((ask.text, side, why.as_str()))
        })
    })
}

/// All findings, and one more that names what could not be seen.
pub(super) fn with_unseen(judged: Vec<Judged>) -> Vec<Checked> {
    let mut checked = Vec::new();
    let mut unseen: Vec<String> = Vec::new();
    for one in judged {
        checked.extend(one.checked);
        unseen.extend(one.unseen);
    }
    unseen.sort();
    unseen.dedup();
    checked.push(Checked {
        id: NOT_SEEN,
        severity: Severity::Pass,
        dbname: None,
        message: if unseen.is_empty() {
            "everything could be looked at".into()
        } else {
            "not everything could be looked at".into()
        },
        fix: (!unseen.is_empty())
            .then(|| "look at these yourself, or run flare preflight as a superuser".into()),
        objects: unseen,
        readme: format!("README.md#{NOT_SEEN}"),
    });
    checked
}
