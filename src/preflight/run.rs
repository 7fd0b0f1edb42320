//! All checks in one pass: both servers and all databases at once, then the judgements.

use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use postgres::error::SqlState;

use super::ask::{Names, ask};
use super::beyond;
use super::family::subscription;
use super::finding::{Checked, Finding, Preflight, Severity};
use super::question::{Answers, Ask, On, Place, Text};
use super::registry::{Before, Check, NOT_SEEN, checks};
use super::view::{Moving, SideView, View};
use crate::config::{Config, Host};
use crate::error::{Failure, Report, Result, message_of};
use crate::journal::{Direction, Stream};
use crate::progress::Progress;
use crate::server::{Login, Server, Session, is_denied, sqlstate_of};

/// Databases that are asked at the same time: one session each on both servers.
const AT_ONCE: usize = 4;

/// What is looked at, and for which command.
pub(crate) struct Scope<'a> {
    pub(crate) config: &'a Config,
    /// In the data's direction; none where it cannot be reached, and what asks it is not looked at.
    pub(crate) publisher: Option<&'a Server>,
    pub(crate) subscriber: Option<&'a Server>,
    pub(crate) direction: Direction,
    pub(crate) dbnames: &'a [&'a str],
    /// Checks for later commands are left out.
    pub(crate) before: Before,
    /// Whether a way back is to be made.
    pub(crate) reverse: bool,
    pub(crate) schemas: Schemas,
    pub(crate) later: Later,
}

/// What becomes of a blocker of the cutover before the subscription streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// There is time to mend it.
    Warns,
    /// The cutover is about to begin.
    Blocks,
}

/// Whether the schemas are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schemas {
    Compare,
    /// The command compares them itself.
    Leave,
}

/// Refuses what blocks a command, says what may go wrong, and returns that.
pub(crate) fn clear(scope: &Scope<'_>, progress: &dyn Progress) -> Result<Vec<String>> {
    let found = check(scope)?;
    let warnings = found.warnings();
    for warning in &warnings {
        progress.step(&format!("warning: {warning}"));
    }
    found.refuse()?;
    Ok(warnings)
}

/// Asks everything that the command is concerned with, and judges it. Reads only.
pub(crate) fn check(scope: &Scope<'_>) -> Result<Preflight> {
    let wanted: Vec<&Check> = checks()
        .filter(|check| check.before <= scope.before)
        .filter(|check| check.asks.iter().all(|it| scope.can_ask(it.on)))
        .collect();
    let [publisher, subscriber] = scope.servers_answer(&wanted)?;
    let mut checked = Vec::new();
    let (mut any_streams, mut unsubscribed) = (false, 0);
    for dbnames in scope.dbnames.chunks(AT_ONCE) {
        let moving: Vec<Names> = dbnames
            .iter()
            .map(|it| scope.names(it))
            .collect::<Result<_>>()?;
        for (names, entered) in moving.iter().zip(scope.databases_answer(&wanted, &moving)?) {
            let [on_publisher, on_subscriber] = entered;
            let (publisher, from) = within(publisher.as_ref(), on_publisher);
            let (subscriber, to) = within(subscriber.as_ref(), on_subscriber);
            let sessions = from.zip(to);
            let declared = scope.declared(&names.dbname)?;
            let mut view = View {
                config: scope.config,
                publisher: publisher.as_ref(),
                subscriber: subscriber.as_ref(),
                moving: Some(Moving {
                    dbname: &names.dbname,
                    publication: declared.publication,
                    pubname: &names.pubname,
                    subname: Some(names.subname.as_str()).filter(|it| !it.is_empty()),
                }),
                databases: scope.dbnames.len(),
                unsubscribed: 0,
                reverse: scope.reverse,
                later: scope.later,
                before: scope.before,
                streams: false,
                subscribed: false,
            };
            (view.subscribed, view.streams) = subscription::progress(&view)?;
            any_streams |= view.streams;
            unsubscribed += usize::from(!view.subscribed);
            checked.extend(judge(&wanted, Place::Database, &view)?);
            let compared = view.subscribed && scope.schemas == Schemas::Compare;
            if let (Some((from, to)), true, Before::Cutover) = (sessions, compared, scope.before) {
                // Somebody has locked a table; nobody is waited for here.
                let is_locked =
                    |report: &Report| sqlstate_of(report) == Some(&SqlState::LOCK_NOT_AVAILABLE);
                let found = beyond::schema_drift(&view, &from, &to);
                let (found, unseen) = found_or_unseen(beyond::SCHEMA_DRIFT, found, is_locked)?;
                checked.push(judged(
                    (beyond::SCHEMA_DRIFT, beyond::SAME),
                    Before::Cutover,
                    &view,
                    found,
                    unseen,
                ));
            }
        }
    }
    let view = View {
        config: scope.config,
        publisher: publisher.as_ref(),
        subscriber: subscriber.as_ref(),
        moving: None,
        databases: scope.dbnames.len(),
        unsubscribed,
        reverse: scope.reverse,
        later: scope.later,
        before: scope.before,
        streams: any_streams,
        subscribed: any_streams,
    };
    checked.extend(judge(&wanted, Place::Server, &view)?);
    let servers = [scope.publisher, scope.subscriber];
    let found = beyond::other_migrations(scope.config, servers, scope.dbnames);
    // The journal is another administrator's.
    let (found, unseen) = found_or_unseen(beyond::OTHER_MIGRATIONS, found, is_denied)?;
    checked.push(judged(
        (beyond::OTHER_MIGRATIONS, beyond::ALONE),
        Before::Setup,
        &view,
        found,
        unseen,
    ));
    if let (Some(_), Some(subscriber), false) = (scope.publisher, scope.subscriber, view.is_back())
    {
        let found = beyond::setting_values(&view, subscriber)?;
        checked.push(judged(
            (beyond::SETTING_VALUES, beyond::TAKEN),
            Before::Setup,
            &view,
            found,
            Vec::new(),
        ));
    }
    Ok(Preflight::of(with_unseen(checked)))
}

/// What was found, or why it could not be looked for, where the error is one that stops nothing else.
fn found_or_unseen(
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
struct Judged {
    checked: Vec<Checked>,
    unseen: Vec<String>,
}

fn judge(wanted: &[&'static Check], place: Place, view: &View<'_>) -> Result<Vec<Judged>> {
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
fn judged(
    (id, title): (&'static str, &'static str),
    before: Before,
    view: &View<'_>,
    mut found: Vec<Finding>,
    unseen: Vec<String>,
) -> Judged {
    if found.is_empty() {
        found.push(if unseen.is_empty() {
            Finding::note(title)
        } else {
            Finding::note("not looked at, or only in part")
        });
    }
    let checked = found.into_iter().map(|found| Checked {
        id,
        severity: match (before, found.severity) {
            (Before::Cutover, Severity::Blocker) if !view.streams && view.later == Later::Warns => {
                Severity::Warning
            }
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
fn with_unseen(judged: Vec<Judged>) -> Vec<Checked> {
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

/// What the configuration declares for a database.
struct Declared<'a> {
    publication: &'a crate::config::Publication,
    subname: Option<&'a str>,
}

impl<'a> Scope<'a> {
    fn can_ask(&self, on: On) -> bool {
        match on {
            On::Publisher => self.publisher.is_some(),
            On::Subscriber => self.subscriber.is_some(),
            On::Both => self.publisher.is_some() && self.subscriber.is_some(),
        }
    }

    fn declared(&self, dbname: &str) -> Result<Declared<'a>> {
        let publication = self.config.publication(dbname)?;
        let mut subscriptions = self.config.subscriptions.iter();
        let found =
            subscriptions.find(|(_, it)| it.dbname == dbname && it.pubname == publication.pubname);
        Ok(Declared {
            publication,
            subname: found.map(|(name, _)| name.as_str()),
        })
    }

    /// The names that questions about a database have in them.
    fn names(&self, dbname: &str) -> Result<Names> {
        let declared = self.declared(dbname)?;
        let subname = declared.subname.unwrap_or_default();
        let pubname = &declared.publication.pubname;
        let stream = Stream::of(dbname, subname, pubname, self.direction);
        let host = self.from();
        Ok(Names {
            dbname: dbname.to_owned(),
            pubname: stream.pubname,
            subname: match declared.subname {
                Some(_) => stream.subname,
                None => String::new(),
            },
            db_owner: host.db_owner.user.clone(),
            repl: host.repl.as_ref().unwrap_or(&host.superuser).user.clone(),
        })
    }

    /// The servers themselves, at once.
    fn servers_answer(&self, wanted: &[&Check]) -> Result<[Option<SideView>; 2]> {
        let host = self.from();
        let names = Names {
            repl: host.repl.as_ref().unwrap_or(&host.superuser).user.clone(),
            db_owner: host.db_owner.user.clone(),
            ..Names::default()
        };
        let answer = |server: Option<&Server>, on: On| -> Result<Option<SideView>> {
            let Some(server) = server else {
                return Ok(None);
            };
            let texts = texts(wanted, on, Place::Server);
            let answers = ask(
                server.admin(),
                server.major(),
                server.facts().superuser,
                &names,
                &texts,
            )?;
            Ok(Some(SideView {
                side: server.side(),
                major: server.major(),
                superuser: server.facts().superuser,
                user: server.declared().superuser.user.clone(),
                server: answers,
                database: None,
                refused: None,
            }))
        };
        std::thread::scope(|scope| {
            let subscriber = scope.spawn(|| answer(self.subscriber, On::Subscriber));
            let publisher = answer(self.publisher, On::Publisher)?;
            Ok([publisher, joined(subscriber)?])
        })
    }

    /// The host that the data comes from.
    fn from(&self) -> &'a Host {
        match self.direction {
            Direction::Forward => &self.config.publisher,
            Direction::Back => &self.config.subscriber,
        }
    }

    /// The databases of both servers, at once.
    fn databases_answer(&self, wanted: &[&Check], moving: &[Names]) -> Result<Vec<[Entered; 2]>> {
        let on_publisher = texts(wanted, On::Publisher, Place::Database);
        let on_subscriber = texts(wanted, On::Subscriber, Place::Database);
        std::thread::scope(|scope| {
            let started: Vec<_> = moving
                .iter()
                .map(|names| {
                    let (publisher, subscriber) = (self.publisher, self.subscriber);
                    let (of_publisher, of_subscriber) = (&on_publisher, &on_subscriber);
                    [
                        scope.spawn(move || enter(publisher, names, of_publisher)),
                        scope.spawn(move || enter(subscriber, names, of_subscriber)),
                    ]
                })
                .collect();
            started
                .into_iter()
                .map(|[publisher, subscriber]| Ok([joined(publisher)?, joined(subscriber)?]))
                .collect()
        })
    }
}

/// What a database said, or why it could not be entered.
pub(super) enum Entered {
    Missing,
    Refused(String),
    Said(Answers, Arc<Session>),
}

fn enter(server: Option<&Server>, names: &Names, texts: &[Text]) -> Result<Entered> {
    let Some(server) = server else {
        return Ok(Entered::Missing);
    };
    let session = match server.visit(&names.dbname) {
        Ok(session) => session,
        Err(report) => {
            return match sqlstate_of(&report) {
                Some(state) if *state == SqlState::INVALID_CATALOG_NAME => Ok(Entered::Missing),
                Some(_) => Ok(Entered::Refused(message_of(&report))),
                None => Err(report),
            };
        }
    };
    let (major, superuser) = (server.major(), server.facts().superuser);
    let (by_owner, by_admin): (Vec<Text>, Vec<Text>) =
        texts.iter().partition(|it| it.by_owner.is_some());
    let mut answers = ask(&session, major, superuser, names, &by_admin)?;
    let called_for = by_owner.into_iter().filter(|it| {
        let called_for = it.by_owner.as_ref();
        called_for.is_some_and(|it| it.is_met(&answers))
    });
    let called_for: Vec<Text> = called_for.collect();
    if !called_for.is_empty() {
        let said = server
            .connect(Login::DbOwner, &names.dbname)
            .and_then(|owner| ask(&owner, major, false, names, &called_for));
        match said {
            Ok(said) => answers.add(said),
            Err(report) => answers.leave(&called_for, &message_of(&report)),
        }
    }
    Ok(Entered::Said(answers, session))
}

/// A server with what one of its databases said, and the session there.
fn within(server: Option<&SideView>, entered: Entered) -> (Option<SideView>, Option<Arc<Session>>) {
    let (database, refused, session) = match entered {
        Entered::Missing => (None, None, None),
        Entered::Refused(why) => (None, Some(why), None),
        Entered::Said(answers, session) => (Some(answers), None, Some(session)),
    };
    let view = server.map(|server| SideView {
        database,
        refused,
        ..server.clone()
    });
    (view, session)
}

/// The questions that the checks put to a side in this place, each once.
fn texts(wanted: &[&Check], side: On, place: Place) -> Vec<Text> {
    let mut texts: Vec<Text> = Vec::new();
    let asks = wanted.iter().flat_map(|check| check.asks);
    let extra: &[Ask] = subscription::PROGRESS;
    for Ask { on, text } in asks.chain(extra) {
        let asked = *on == side || *on == On::Both;
        if asked && text.place == place && !texts.contains(text) {
            texts.push(*text);
        }
    }
    texts
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Failure::new("look at a server: its thread has ended").err())
}
